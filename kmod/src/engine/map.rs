// SPDX-License-Identifier: GPL-2.0-only

//! The state of the segments, for display: in cells of a map that may be much smaller than the cache.

use super::Engine;
use crate::format::Segment;
use crate::interface::report;

/// The state of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kind {
    /// Not in the log: it can be written at once.
    #[default]
    Free,
    /// In the log, but nothing in it is missing on the backing device.
    Clean,
    /// Some of it is on the cache device only.
    Dirty,
    /// It is dirty, and is being written back.
    Writing,
    /// The head is in it, or some of it is not durable yet.
    Open,
}

/// Segments that follow each other in the log: the first, and how many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// The oldest one.
    pub first: Segment,
    /// How many.
    pub count: u32,
}

impl Span {
    /// Whether the segment is in the span, on a cache device of so many segments.
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
    /// Adds a segment to the cell.
    pub fn add(&mut self, kind: Kind, dirty: u32, blocks: u32) {
        self.kind = self.kind.max(kind);
        self.dirty += u64::from(dirty);
        self.blocks += u64::from(blocks);
    }

    /// The cell as it is shown: the kind of the segment that matters most, and how much of a dirty cell is
    /// dirty, in ninths.
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
    /// The state of `segment`, and how many of its blocks are dirty, when the segments of `writing` are being
    /// written back.
    pub fn kind(&self, segment: Segment, writing: Span) -> (Kind, u32) {
        let n = self.sb.nr_segments;
        let dirty = u32::from(self.segments[segment.index()].dirty);
        let freeing = self.freeing.unwrap_or(0);
        // Distance from the oldest segment that cannot be written yet.
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
