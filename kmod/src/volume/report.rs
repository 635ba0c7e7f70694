// SPDX-License-Identifier: GPL-2.0-only

//! The answer to the message `report`: `VERSION SEGMENTS FIRST COUNT FREE OPEN WRITING DIRTY CLEAN MAP`.
//!
//! It is as long as the map has cells, whatever the size of the cache. It is taken a few segments at a time, so that no
//! I/O waits for it: what changes meanwhile may be in it or not.

use super::Volume;
use crate::arguments::{Query, REPORT_VERSION};
use crate::engine::map::{Cell, Kind};
use core::fmt::{self, Write};

/// Segments that the lock is held for at a time.
const AT_ONCE: u32 = 256;

impl Volume {
    /// Writes the answer to `query`.
    pub fn report(&self, query: Query, out: &mut impl Write) {
        // A writer cuts off instead of failing.
        let _ = self.write_report(query, out);
    }

    fn write_report(&self, query: Query, out: &mut impl Write) -> fmt::Result {
        let nr_segments = self.state().nr_segments;
        let (first, count) = query.segments(nr_segments).map_err(|_| fmt::Error)?;
        // Twice, because nothing may be allocated: a message keeps a suspend waiting, and memory may wait for that.
        let mut counts = [0u32; 5];
        self.for_each_segment(first, count, |kind, _, _| {
            let n = &mut counts[kind as usize];
            *n = n.saturating_add(1);
        });
        write!(out, "{REPORT_VERSION} {nr_segments} {first} {count}")?;
        for kind in [Kind::Free, Kind::Open, Kind::Writing, Kind::Dirty, Kind::Clean] {
            write!(out, " {}", counts[kind as usize])?;
        }
        out.write_char(' ')?;
        let size = count.div_ceil(query.cells);
        let mut done = 0;
        while done < count {
            let n = size.min(count.saturating_sub(done));
            let mut cell = Cell::default();
            self.for_each_segment(first.saturating_add(done), n, |kind, dirty, blocks| {
                cell.add(kind, dirty, blocks)
            });
            out.write_char(cell.char().into())?;
            done = done.saturating_add(n);
        }
        Ok(())
    }

    /// Calls `f` with what each of `count` segments from number `first` on is, its dirty blocks, and all of its blocks.
    fn for_each_segment(&self, first: u32, count: u32, mut f: impl FnMut(Kind, u32, u32)) {
        let end = first.saturating_add(count);
        let mut next = first;
        while next < end {
            let core = self.core.lock();
            let (blocks, writing) = (core.engine.superblock().segment_blocks, self.writing());
            let to = end.min(next.saturating_add(AT_ONCE));
            for segment in next..to {
                let (kind, dirty) = core.engine.kind(segment, writing);
                f(kind, dirty, blocks);
            }
            next = to;
        }
    }
}
