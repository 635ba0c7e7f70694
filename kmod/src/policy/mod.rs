// SPDX-License-Identifier: GPL-2.0-only

//! The decisions beside the log: how fast, how much at a time, when to try again, and when something is over.
//! Each part is told what happened and answers what to do, as the engine does. It calls nothing, never waits,
//! and does no I/O.
//!
//! - [`room`]: whether there is room, which thread makes it, when a write is refused, when a drain is over,
//!   and which threads wake then.
//! - [`pace`]: how fast writes are let in when only writeback makes room.
//! - [`writeback`]: which blocks may be called clean, and how much is under way at a time.
//! - [`retry`]: when a failed attempt is repeated, and when it is the last one.
//! - [`bad_blocks`]: which blocks of a failed write are bad, and the results of a pass of writeback.
//! - [`failures`]: the blocks that could not be written back, and when each is tried again.
//! - [`lost`]: what an error says about the data, and when a block that cannot be read is lost.
//! - [`rate`]: how fast writeback goes when it has a limit.
//! - [`limits`]: the requirements for the two devices, and the volume's limits that follow from them.
//! - [`silence`]: whether a device answers at all.
//! - [`seldom`]: limits how often a line is logged.

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
