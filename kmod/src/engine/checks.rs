// SPDX-License-Identifier: GPL-2.0-only

//! What blocks that were read from the cache device are checked against, without the engine's lock and in any
//! context.
//!
//! Nothing waits for a read: how long the bio of a user takes is up to others, and the head of the log may
//! need the segment that it reads from. So a read does not hold its segment. It remembers the generation
//! under which a lookup has found the segment. When the data are there, the generation tells whether they are
//! still those that the lookup has found. If not, they are looked up again.
//!
//! # Invariants
//! 1. A lookup answers with the generation that the segment has at that moment, under the engine's lock.
//! 2. The generation changes when the segment is opened again: under the lock, when the index has nothing in
//!    the segment any more, and before a checksum of it is changed or something is written there. Where
//!    entries are removed from the index before that, the generation still changes when the last of them is
//!    gone: a lookup that finds one has the old generation.
//! 3. A reader compares the checksums first and then the generation. A checksum is stored with release and
//!    loaded with acquire, so a reader that has seen a checksum from after the opening sees the new
//!    generation.
//!
//! So data that match, in a segment of the same generation, are those that the lookup has found. If both the
//! data and the checksum were from after the opening, the generation would be, too.
//!
//! The generation has 32 bits. To come round, the log would have to come round 4 billion times during one
//! read.

use super::index::Checksums;
use crate::format::{Segment, Slot};
use crate::host::atomic::{AtomicU32, Ordering};
use crate::host::{OutOfMemory, Table};

/// How often a segment had been opened when a lookup found something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation(u32);

/// What has become of blocks that were read from the cache device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are what the lookup has found.
    Intact,
    /// They are not what was once written there.
    Wrong,
    /// Their segment was opened again meanwhile. Another lookup tells where the blocks are now.
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

    /// CRC-32C of the block in a slot. It is that of the block which a lookup has found there only under the
    /// engine's lock, or if the caller finds out afterwards that the segment was not opened again.
    pub fn checksum(&self, slot: Slot) -> u32 {
        // Acquire: pairs with `set_checksum`.
        self.checksums[slot.index()].load(Ordering::Acquire)
    }

    pub(super) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    /// Under the engine's lock.
    pub(super) fn set_checksum(&self, slot: Slot, crc: u32) {
        // Release: code that sees the checksum sees that the segment was opened.
        self.checksums[slot.index()].store(crc, Ordering::Release);
    }

    /// The generation of the segment of `slot`. Under the engine's lock.
    pub(super) fn generation(&self, slot: Slot) -> Generation {
        Generation(self.generations[slot.segment(self.segment_blocks).index()].load(Ordering::Relaxed))
    }

    /// The segment is opened again; the index has nothing in it any more. Under the engine's lock.
    pub(super) fn open(&self, segment: Segment) {
        let generation = &self.generations[segment.index()];
        generation.store(generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Judges blocks with the checksums `crcs` that were read from `slot` on, all in one segment. A lookup
    /// has found them there under `generation`.
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
