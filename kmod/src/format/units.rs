// SPDX-License-Identifier: GPL-2.0-only

//! What is counted in the log, each with a type of its own: so that no number of one kind passes for one of another.
//!
//! On the cache device they are little-endian integers: `encode` and `decode` of what holds them convert. Sums saturate: what is read
//! from a device is compared with its range before anything is added to it, so that no sum of a sound volume gets there.

use super::WINDOW;
use core::fmt;

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
