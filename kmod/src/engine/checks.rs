// SPDX-License-Identifier: GPL-2.0-only

//! What blocks that were read from the cache device are checked against, without the engine's lock and in any context.
//!
//! Nobody waits for a reader: how long the bio of a user takes is up to others, and the head of the log may need the segment
//! that it reads from. So a read does not hold its segment. It remembers under which generation a lookup has found it, and
//! when the data are there it turns out whether they are still what the lookup was about. If not, it is looked up again.
//!
//! # Invariants
//! 1. A lookup answers with the generation that the segment has at that moment, under the engine's lock.
//! 2. The generation changes when the segment is opened again: under the lock, when the index has nothing in the segment any
//!    more, and before a checksum of it is changed or something is written there. Where entries are removed from the index
//!    ahead of that, it still changes when the last of them is gone: a lookup that finds one has the old generation.
//! 3. Who has read compares the checksums first and then the generation. A checksum is stored with release and loaded with
//!    acquire, so who has seen one from after the opening sees the new generation.
//!
//! So data that match, in a segment of the same generation, are those that the lookup has found: had both the data and the
//! checksum been from after the opening, then so would be the generation.
//!
//! The generation has 32 bits. To come round, the log would have to do so 4 billion times during one read.

use super::index::Checksums;
use crate::format::{Segment, Slot};
use crate::host::atomic::{AtomicU32, Ordering};
use crate::host::{OutOfMemory, Table};

/// How often a segment has been opened when a lookup found something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation(u32);

/// What has become of blocks that were read from the cache device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are what the lookup has found.
    Intact,
    /// They are not what was once written there.
    Wrong,
    /// Their segment was opened again meanwhile. Where the blocks are now, another lookup says.
    Gone,
}

/// The checksum of each slot, and the generation of each segment.
#[derive(Debug)]
pub struct Checks {
    checksums: Checksums,
    generations: Table<AtomicU32>,
    segment_blocks: u32,
}

impl Checks {
    pub(super) fn new(nr_segments: u32, segment_blocks: u32) -> Result<Self, OutOfMemory> {
        let nr_slots = nr_segments as usize * segment_blocks as usize;
        Ok(Self {
            checksums: Table::new(nr_slots, |_| AtomicU32::new(0))?,
            generations: Table::new(nr_segments as usize, |_| AtomicU32::new(0))?,
            segment_blocks,
        })
    }

    /// CRC-32C of the block in a slot: of the one that a lookup has found there only under the engine's lock, or for who
    /// finds out behind it that the segment was not opened again.
    pub fn checksum(&self, slot: Slot) -> u32 {
        // Acquire: pairs with `set_checksum`.
        self.checksums[slot.index()].load(Ordering::Acquire)
    }

    pub(super) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    /// Under the engine's lock.
    pub(super) fn set_checksum(&self, slot: Slot, crc: u32) {
        // Release: who sees it sees that the segment was opened.
        self.checksums[slot.index()].store(crc, Ordering::Release);
    }

    /// The generation of the segment of `slot`. Under the engine's lock.
    pub(super) fn generation(&self, slot: Slot) -> Generation {
        Generation(self.generations[slot.segment(self.segment_blocks).index()].load(Ordering::Relaxed))
    }

    /// The segment, in which the index has nothing any more, is opened again. Under the engine's lock.
    pub(super) fn open(&self, segment: Segment) {
        let generation = &self.generations[segment.index()];
        generation.store(generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Judges blocks with the checksums `crcs` that were read from `slot` on, all in one segment, which a lookup has found
    /// there under `generation`.
    pub fn judge(&self, slot: Slot, generation: Generation, crcs: impl IntoIterator<Item = u32>) -> Verdict {
        let match_all = slot.onward().zip(crcs).all(|(slot, crc)| self.checksum(slot) == crc);
        // Behind the checksums: see the invariants.
        if self.generation(slot) != generation {
            Verdict::Gone
        } else if match_all {
            Verdict::Intact
        } else {
            Verdict::Wrong
        }
    }
}
