// SPDX-License-Identifier: GPL-2.0-only

//! Writes that go around a full cache, straight to the backing device.
//!
//! Before a device that does much at a time a full cache is only in the way of large writes: each of them
//! would wait until as much is written back. So they go to the backing device themselves, with FUA, and do
//! not enter the log.
//!
//! # Invariants
//! - No replay finds anything of a block that was written around the cache. Otherwise older data would come
//!   back after a crash, and supersede what is on the backing device. So the index holds nothing of the
//!   block, and nothing that the index has forgotten lies in the log as any checkpoint that can be found sees
//!   it: [`Engine::lets_bypass`].
//! - While such a write is under way to the backing device, no other write of its blocks gets into the log,
//!   from where it could be written back before: [`Engine::claim_at`]. And it begins only when no claim is
//!   being copied: those are not in the index yet.
//! - It ends when it is durable, so that neither a flush nor a drain has to know of it. FUA may be a write
//!   and a flush of the block layer: when anything has failed meanwhile that may have made the device forget
//!   the write, the log takes it.
//! - What was written back is not called clean before all such writes have returned that were under way
//!   beside its flush: the error of one may be all that tells of a reset.
//! - A device that needs memory to stay as it is while it is written gets no such writes: other writes are
//!   copied at once, and so users are not told to leave the memory alone.
//!
//! [`Engine::lets_bypass`] and [`Bypass::begin`] are for one hold of the lock. Then [`Engine::count_absent`],
//! as often as it takes: nothing new comes, so the lock may be released in between. When the write has
//! returned, [`Bypass::end`].

use super::log::{Claim, Refused, Wait};
use super::Engine;
use crate::format::{Block, Segment};
use crate::host::{OutOfMemory, Table};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Blocks of a write that goes around, at least: smaller writes gain more by being put in order.
pub const LEAST: u64 = 16;
/// Blocks that are looked up with one hold of the lock.
pub const AT_ONCE: u64 = 16;
/// Writes that are under way around the cache, at most.
const MOST: usize = 128;
/// A range is one word: its first block, and in the lowest bits its number of blocks; 0 for no range.
const LEN_BITS: u32 = 24;

/// The writes under way around the cache. They begin under the lock and end in any context.
#[derive(Debug)]
pub struct Bypass {
    ranges: Table<AtomicU64>,
    /// The number of each, counted over all that have ever begun.
    numbers: Table<AtomicU64>,
    begun: AtomicU64,
    under_way: AtomicU32,
    /// A task waits for one of them.
    awaited: AtomicBool,
}

/// Names one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tag(u32);

impl Bypass {
    /// Nothing is under way.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self {
            ranges: Table::new(MOST, |_| AtomicU64::new(0))?,
            numbers: Table::new(MOST, |_| AtomicU64::new(0))?,
            begun: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            awaited: AtomicBool::new(false),
        })
    }

    /// A write of `blocks` blocks from block `first` on is about to be under way. `None` if too many are
    /// under way, or one of the same blocks is. With the lock.
    pub fn begin(&self, first: Block, blocks: u64) -> Option<Tag> {
        if self.overlaps(first, blocks) {
            return None;
        }
        let range = Self::range(first, blocks)?;
        let i = self.ranges.iter().position(|r| r.load(Ordering::Relaxed) == 0)?;
        let number = self.begun.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.numbers[i].store(number, Ordering::SeqCst);
        self.ranges[i].store(range, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Some(Tag(i as u32))
    }

    fn range(first: Block, blocks: u64) -> Option<u64> {
        let fits = blocks != 0 && blocks >> LEN_BITS == 0 && first.0.leading_zeros() >= LEN_BITS;
        fits.then_some(first.0 << LEN_BITS | blocks)
    }

    /// The write has only its first `blocks` blocks, which are fewer.
    pub fn shorten(&self, tag: Tag, blocks: u64) {
        let Some(range) = self.ranges.get(tag.0 as usize) else { return };
        let first = Block(range.load(Ordering::Relaxed) >> LEN_BITS);
        if let Some(shorter) = Self::range(first, blocks) {
            range.store(shorter, Ordering::SeqCst);
        }
    }

    /// The write has returned, or is not sent. Returns whether a task waits for that. In any context.
    pub fn end(&self, tag: Tag) -> bool {
        if let Some(range) = self.ranges.get(tag.0 as usize) {
            range.store(0, Ordering::SeqCst);
            self.under_way.fetch_sub(1, Ordering::SeqCst);
        }
        self.awaited.swap(false, Ordering::SeqCst)
    }

    /// Whether none is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }

    /// How many have ever begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether the first `begun` of them have all returned; if not, [`Bypass::end`] tells its caller that a
    /// task waits.
    pub fn have_ended(&self, begun: u64) -> bool {
        if self.is_idle() {
            return true;
        }
        self.awaited.store(true, Ordering::SeqCst);
        let mut all = self.ranges.iter().zip(self.numbers.iter());
        // A write that takes the place of an ended one between the two loads only makes the wait longer.
        all.all(|(range, number)| number.load(Ordering::SeqCst) > begun || range.load(Ordering::SeqCst) == 0)
    }

    /// Whether a write of these blocks has to wait for one that is under way; then [`Bypass::end`] tells its
    /// caller so. With the lock.
    pub fn is_in_the_way(&self, first: Block, blocks: u64) -> bool {
        if self.under_way.load(Ordering::SeqCst) == 0 {
            return false;
        }
        // Stored before the look: an end that comes after the look sees it.
        self.awaited.store(true, Ordering::SeqCst);
        self.overlaps(first, blocks)
    }

    fn overlaps(&self, first: Block, blocks: u64) -> bool {
        let end = first.plus(blocks);
        self.ranges.iter().any(|range| {
            let range = range.load(Ordering::SeqCst);
            let (from, len) = (Block(range >> LEN_BITS), range & ((1 << LEN_BITS) - 1));
            len != 0 && from < end && first < from.plus(len)
        })
    }
}

impl Engine {
    /// Whether no replay finds anything of a block that the index has nothing of, from either of the newest
    /// two checkpoints.
    fn knows_all(&self) -> bool {
        // A checkpoint that is under way takes the place of the older one.
        let oldest = if self.freeing.is_some() { self.older_tail } else { self.told[1].0 };
        self.forgot < oldest
    }

    /// Whether a write may go around the cache, with those of its blocks that [`Engine::count_absent`]
    /// counts. Not while a claim is being copied.
    pub fn lets_bypass(&self) -> bool {
        !self.failed && self.knows_all() && !self.has_writers()
    }

    /// How many of the blocks `first..first + blocks`, counted from the first on, have nothing that a replay
    /// finds.
    pub fn count_absent(&self, first: Block, blocks: u64) -> u64 {
        // Asked in the same hold of the lock: the index may have forgotten something since the last one.
        if !self.knows_all() {
            return 0;
        }
        let is_absent = |&n: &u64| {
            let mut absent = true;
            self.index.find(first.plus(n), |_, _| absent = false);
            absent
        };
        (0..blocks).take_while(is_absent).count() as u64
    }

    /// The index forgets something of a segment that a replay may still find there.
    pub(super) fn note_forgotten(&mut self, segment: Segment) {
        self.forgot = self.forgot.max(self.last_seq(segment));
    }

    /// As [`Engine::claim`], for the blocks from `first` on.
    ///
    /// # Errors
    /// As there; also while one of the blocks is on its way around the cache.
    pub fn claim_at(&mut self, first: Block, blocks: u32) -> Result<Claim, Refused> {
        if self.bypass.is_in_the_way(first, blocks.into()) {
            return Err(Refused::Wait(Wait::Progress));
        }
        self.claim(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_the_same_waits() {
        let bypass = Bypass::new().unwrap();
        assert!(bypass.is_idle() && !bypass.is_in_the_way(Block(0), u64::MAX));
        let tag = bypass.begin(Block(100), 16).unwrap();
        for (first, blocks, waits) in [
            (100, 1, true),
            (115, 1, true),
            (116, 1, false),
            (90, 10, false),
            (90, 11, true),
            (0, 1000, true),
        ] {
            assert_eq!(bypass.is_in_the_way(Block(first), blocks), waits, "{first}+{blocks}");
        }
        assert_eq!([bypass.begin(Block(115), 20), bypass.begin(Block(0), 101)], [None; 2]);
        let other = bypass.begin(Block(0), 1).unwrap();
        assert!(bypass.is_in_the_way(Block(0), 1) && !bypass.is_in_the_way(Block(1), 99));
        bypass.shorten(tag, 4);
        assert!(!bypass.is_in_the_way(Block(104), 12) && bypass.is_in_the_way(Block(103), 12));
        // The end of one write is told once that a task waits.
        assert_eq!([bypass.end(tag), bypass.end(other)], [true, false]);
        assert!(bypass.is_idle() && !bypass.is_in_the_way(Block(0), 1000));
    }

    #[test]
    fn those_before_a_moment_are_awaited() {
        let bypass = Bypass::new().unwrap();
        assert!(bypass.have_ended(0));
        let [a, b] = [0, 100].map(|first| bypass.begin(Block(first), 10).unwrap());
        let moment = bypass.begun();
        assert!(!bypass.have_ended(moment) && bypass.have_ended(0));
        // A later write in the place of the first does not matter; the second does.
        assert!(bypass.end(a));
        let c = bypass.begin(Block(0), 10).unwrap();
        assert_eq!(c, a);
        assert!(!bypass.have_ended(moment));
        assert!(bypass.end(b));
        assert!(bypass.have_ended(moment) && !bypass.have_ended(bypass.begun()));
        bypass.end(c);
        assert!(bypass.have_ended(bypass.begun()));
    }

    #[test]
    fn there_is_an_end_of_places_and_of_numbers() {
        let bypass = Bypass::new().unwrap();
        let tags: std::vec::Vec<_> = (0..MOST as u64).map(|i| bypass.begin(Block(i), 1).unwrap()).collect();
        assert_eq!(bypass.begin(Block(1000), 1), None);
        bypass.end(tags[7]);
        assert_eq!(bypass.begin(Block(1000), 1), Some(tags[7]));
        tags.iter().for_each(|&tag| _ = bypass.end(tag));
        assert_eq!(
            [bypass.begin(Block(0), 0), bypass.begin(Block(0), 1 << 24), bypass.begin(Block(1 << 40), 1)],
            [None; 3]
        );
        assert!(bypass.begin(Block((1 << 40) - 1), (1 << 24) - 1).is_some());
        assert!(bypass.is_in_the_way(Block((1 << 40) + 5), 1));
    }
}
