// SPDX-License-Identifier: GPL-2.0-only

//! What the segments are, for people to look at: in cells of a map that may be much smaller than the cache.

use super::Engine;
use crate::format::Segment;
use crate::interface::report;

/// What a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kind {
    /// Not in the log: it can be written at once.
    #[default]
    Free,
    /// In the log, but nothing in it is missing on the backing device.
    Clean,
    /// Some of it is only here.
    Dirty,
    /// The same, and it is being written back.
    Writing,
    /// The head is in it, or some of it is not durable yet.
    Open,
}

/// Segments that lie one behind the other in the log: the first, and how many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// The oldest one.
    pub first: Segment,
    /// How many.
    pub count: u32,
}

impl Span {
    /// Whether the segment is among them, on a cache device of so many segments.
    fn has(self, segment: Segment, nr_segments: u32) -> bool {
        segment.since(self.first, nr_segments) < self.count
    }
}

/// A cell of the map.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cell {
    kind: Kind,
    dirty: u64,
    blocks: u64,
}

impl Cell {
    /// Adds a segment to it.
    pub fn add(&mut self, kind: Kind, dirty: u32, blocks: u32) {
        self.kind = self.kind.max(kind);
        self.dirty += u64::from(dirty);
        self.blocks += u64::from(blocks);
    }

    /// What of it is shown: the kind of the segment that matters most, and how much of a dirty cell is dirty,
    /// in ninths.
    pub fn shown(&self) -> report::Cell {
        match self.kind {
            Kind::Free => report::Cell::Free,
            Kind::Clean => report::Cell::Clean,
            Kind::Dirty => {
                report::Cell::Dirty((self.dirty * 9).div_ceil(self.blocks.max(1)).clamp(1, 9) as u8)
            }
            Kind::Writing => report::Cell::Writing,
            Kind::Open => report::Cell::Open,
        }
    }
}

impl Engine {
    /// What `segment` is, and how many of its blocks are dirty, when those of `writing` are being written back.
    pub fn kind(&self, segment: Segment, writing: Span) -> (Kind, u32) {
        let n = self.sb.nr_segments;
        let dirty = u32::from(self.segments[segment.index()].dirty);
        let freeing = self.freeing.unwrap_or(0);
        // From the oldest one that cannot be written yet.
        let behind = (segment.since(self.tail, n) + freeing) % n;
        let kind = if behind >= self.used {
            Kind::Free
        } else if behind < freeing {
            Kind::Clean
        } else if segment == self.head || self.last_seq(segment) > self.durable {
            Kind::Open
        } else if dirty == 0 {
            Kind::Clean
        } else if writing.has(segment, n) {
            Kind::Writing
        } else {
            Kind::Dirty
        };
        (kind, if kind == Kind::Free { 0 } else { dirty })
    }
}
