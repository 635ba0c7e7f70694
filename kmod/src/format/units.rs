// SPDX-License-Identifier: GPL-2.0-only

//! What is counted in the log, each with a type of its own: so that no number of one kind passes for one of another.
//!
//! On the cache device they are little-endian integers: `encode` and `decode` of what holds them convert. Sums saturate: what is read
//! from a device is compared with its range before anything is added to it, so that no sum of a sound volume gets there.

use super::WINDOW;
use core::fmt;
use core::ops::Range;

/// The sequence number of a record: the records of one format are counted from 1, without gaps. [`Seq::NONE`] is before the first. A
/// replay refuses numbers that are higher than any counting gets.
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

/// A segment of the cache device, counted from 0. Behind the last one the log goes on with the first.
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

/// A block of the segments, counted from 0, the first block of segment 0, to the last block of the last segment. `u32::MAX` is no slot
/// of any cache device.
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
