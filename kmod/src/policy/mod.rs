// SPDX-License-Identifier: GPL-2.0-only

//! What is decided beside the log: how fast, how much at a time, when again, and when something is over. It is told what happened and
//! answers what to do, as the engine does; it calls nothing, never waits, and does no I/O.
//!
//! - [`room`]: whether there is room, who makes it, who gives up, when a drain is over, and whom that wakes.
//! - [`pace`]: how fast writes are let in when only writeback makes room.
//! - [`writeback`]: what may be called clean, and how much of it is under way at a time.
//! - [`retry`]: when what has failed is tried again, and when it is over.
//! - [`bad_blocks`]: which blocks of a write that failed are bad, and what a pass of writeback has shown.
//! - [`failures`]: what could not be written back, and when it is tried again.
//! - [`lost`]: what an error says about the data, and when a block that cannot be read is lost.
//! - [`rate`]: how fast writeback goes when it has a limit.
//! - [`limits`]: what the two devices must be like, and what the volume is like then.
//! - [`silence`]: whether a device answers at all.
//! - [`seldom`]: what may happen once in a while only.

pub mod bad_blocks;
pub mod failures;
pub mod limits;
pub mod lost;
pub mod pace;
pub mod rate;
pub mod retry;
pub mod room;
pub mod seldom;
pub mod silence;
pub mod writeback;
