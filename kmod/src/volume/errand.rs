// SPDX-License-Identifier: GPL-2.0-only

//! What a bio is under way for: kept beside it, in memory that device-mapper allocates with each bio.
//!
//! # Invariants
//! - A bio that is sent to a device has the errand that says to which. The errand is taken from the bio when
//!   the bio returns, so that the end of the bio, which comes later, is not taken for another return.
//! - A bio in a queue or a list has the errand that is looked for there: [`Errand::Write`] or
//!   [`Errand::Idle`] among the deferred writes, [`Errand::Flush`] among those that wait for a commit,
//!   [`Errand::Check`] in `checking`, [`Errand::Assemble`] in `near` and `far`.

use crate::engine::bypass::Tag;
use crate::engine::checks::Generation;
use crate::format::{Seq, Slot};
use crate::host::Cursor;

/// What a bio is under way for.
#[derive(Clone, Copy, Default)]
pub enum Errand {
    /// It has just come, or is about to end.
    #[default]
    Idle,
    /// Its data go into the log.
    Write(Write),
    /// A flush, or a write with FUA whose data are in the log: it ends when the log is durable up to this
    /// record.
    Flush(Seq),
    /// A read that was sent to the cache device.
    CacheRead(CacheRead),
    /// A read that has come back from the cache device well, and has to be compared with its checksums.
    Check(CacheRead),
    /// A read that was sent to the backing device.
    BackingRead,
    /// A read that workers put together.
    Assemble(Assemble),
    /// A write that was sent around the cache, to the backing device.
    Bypass(Bypassing),
}

// Each bio of the volume has one, also while it is on its way to a device: a line of memory.
const _: () = assert!(core::mem::size_of::<Errand>() <= 64);

/// How far a write is that goes into the log.
#[derive(Clone, Copy)]
pub struct Write {
    /// Where the data begin that are not copied.
    pub(super) at: Cursor,
    /// Sectors that are copied.
    pub(super) done: u32,
    /// The newest record that has some of it.
    pub(super) seq: Seq,
}

/// What was read from the cache device.
#[derive(Clone, Copy)]
pub struct CacheRead {
    /// Where its data begin.
    pub(super) at: Cursor,
    /// First slot.
    pub(super) slot: Slot,
    /// Number of blocks.
    pub(super) blocks: u32,
    /// The generation of their segment when they were looked up.
    pub(super) generation: Generation,
    /// First sector of the volume: the bio has forgotten it when it returns.
    pub(super) sector: u64,
}

/// What is left of a read that workers put together.
#[derive(Clone, Copy)]
pub struct Assemble {
    /// Where the data of the next sector go.
    pub(super) at: Cursor,
    /// The next sector of the volume.
    pub(super) sector: u64,
    /// Sectors that are left.
    pub(super) left: u32,
    /// The bio has been to the cache device, and what came back was wrong.
    pub(super) again: bool,
}

/// A write that was sent around the cache.
#[derive(Clone, Copy)]
pub struct Bypassing {
    /// Which one it is of those that are under way.
    pub(super) tag: Tag,
    /// Where its data begin.
    pub(super) at: Cursor,
    /// First sector of the volume: the bio has forgotten it when it returns.
    pub(super) sector: u64,
    /// Number of blocks.
    pub(super) blocks: u32,
    /// Whether it was one with FUA before.
    pub(super) fua: bool,
    /// What had failed on the backing device before it was sent.
    pub(super) doubts: u32,
}
