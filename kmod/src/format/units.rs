// SPDX-License-Identifier: GPL-2.0-only

//! The numbers of records, segments, slots and blocks. Each kind has a type of its own, so that a number of
//! one kind cannot be used as a number of another kind.
//!
//! On the cache device these numbers are little-endian integers: `encode` and `decode` of the structures that
//! hold them convert. Sums and differences saturate. A number that is read from a device is compared with its
//! range before anything is added to it, so no sum gets to the end of its type.

use super::{BLOCK_SECTORS, WINDOW};
use core::fmt;
use core::ops::Range;

/// The sequence number of a record. The records of one format are counted from 1, without gaps; 0 is
/// [`Seq::NONE`]. A checkpoint holds at most 2^62, and a replay refuses numbers above 2^61, which no counting
/// reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// No record: before the first one.
    pub const NONE: Self = Self(0);
    /// The first record of a format.
    pub const FIRST: Self = Self(1);
    /// Behind every record.
    pub const MAX: Self = Self(u64::MAX);

    /// The record behind this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The record before this one; [`Seq::NONE`] before the first.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many records there are from `other` to this one; 0 if this one is not behind it.
    pub const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// Its place in a ring of [`WINDOW`] records.
    pub const fn in_window(self) -> usize {
        (self.0 % WINDOW) as usize
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A segment of the cache device, counted from 0 to below the superblock's `nr_segments`. Behind the last
/// segment the log goes on with segment 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Segment(pub u32);

impl Segment {
    /// Its place in a table of all segments.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The segment that follows it in the log, on a cache device of so many segments.
    pub const fn next(self, nr_segments: u32) -> Self {
        let next = self.0.saturating_add(1);
        Self(if next < nr_segments { next } else { 0 })
    }

    /// The segment that it follows in the log, on a cache device of so many segments.
    pub const fn before(self, nr_segments: u32) -> Self {
        Self(if self.0 == 0 { nr_segments } else { self.0 }.saturating_sub(1))
    }

    /// How many segments the log goes on from `other` to this one, on a cache device of so many segments.
    pub const fn since(self, other: Self, nr_segments: u32) -> u32 {
        let end = if self.0 < other.0 { self.0.saturating_add(nr_segments) } else { self.0 };
        end.saturating_sub(other.0)
    }

    /// Its first block, in segments of so many blocks.
    pub const fn first_slot(self, segment_blocks: u32) -> Slot {
        Slot(self.0.saturating_mul(segment_blocks))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A block of a segment. Slots are counted from 0, the first block of segment 0, through all segments. A
/// superblock allows at most `u32::MAX` of them, so `u32::MAX` is no slot of any cache device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Slot(pub u32);

impl Slot {
    /// Its place in a table of all slots.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The segment that it lies in, of segments of so many blocks, which are not 0.
    pub const fn segment(self, segment_blocks: u32) -> Segment {
        Segment(match self.0.checked_div(segment_blocks) {
            Some(segment) => segment,
            None => 0,
        })
    }

    /// Which block of its segment it is, in segments of so many blocks, which are not 0.
    pub const fn offset(self, segment_blocks: u32) -> u32 {
        match self.0.checked_rem(segment_blocks) {
            Some(offset) => offset,
            None => 0,
        }
    }

    /// The slot that lies so many blocks behind it.
    pub const fn plus(self, blocks: u32) -> Self {
        Self(self.0.saturating_add(blocks))
    }

    /// The slot that lies so many blocks before it, or the first one.
    pub const fn minus(self, blocks: u32) -> Self {
        Self(self.0.saturating_sub(blocks))
    }

    /// How many blocks behind `other` it lies; 0 if it does not.
    pub const fn since(self, other: Self) -> u32 {
        self.0.saturating_sub(other.0)
    }

    /// It and the slots behind it.
    pub fn onward(self) -> impl Iterator<Item = Self> + Clone {
        (self.0..).map(Self)
    }

    /// The slots of a range.
    pub fn each(range: Range<Self>) -> impl Iterator<Item = Self> + Clone {
        (range.start.0..range.end.0).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A block of the backing device, counted from 0: [`BLOCK_SECTORS`] sectors, of which the last block may lack
/// some. The number is below [`MAX_BACKING_BLOCKS`](super::MAX_BACKING_BLOCKS): it has 40 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Block(pub u64);

impl Block {
    /// Behind every block.
    pub const MAX: Self = Self(u64::MAX);

    /// The block that a sector of the backing device lies in.
    pub const fn of_sector(sector: u64) -> Self {
        Self(sector / BLOCK_SECTORS)
    }

    /// Its first sector on the backing device.
    pub const fn first_sector(self) -> u64 {
        self.0.saturating_mul(BLOCK_SECTORS)
    }

    /// The block behind this one.
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The block before this one, or the first one.
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The block that lies so many blocks behind it.
    pub const fn plus(self, blocks: u64) -> Self {
        Self(self.0.saturating_add(blocks))
    }

    /// How many blocks behind `other` it lies; 0 if it does not.
    pub const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
