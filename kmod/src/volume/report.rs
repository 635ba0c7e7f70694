// SPDX-License-Identifier: GPL-2.0-only

//! The answer to the message `report`: see [`crate::interface::report`].
//!
//! The answer is as long as the map has cells, whatever the size of the cache. It is taken a few segments at
//! a time, so that no I/O waits for it: a change meanwhile may be in it or not.

use super::Volume;
use crate::engine::map::{Cell, Kind};
use crate::format::Segment;
use crate::interface::report::{Query, Report};
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
        let segments = self.state().nr_segments;
        let (first, count) = query.segments(segments).map_err(|_| fmt::Error)?;
        // Twice, because nothing may be allocated: a message keeps a suspend waiting, and memory may wait for
        // that.
        let mut report = Report { segments, first, count, ..Report::default() };
        self.for_each_segment(first, count, |kind, _, _| {
            let n = match kind {
                Kind::Free => &mut report.free,
                Kind::Clean => &mut report.clean,
                Kind::Dirty => &mut report.dirty,
                Kind::Writing => &mut report.writing,
                Kind::Open => &mut report.open,
            };
            *n = n.saturating_add(1);
        });
        report.write(out)?;
        let size = count.div_ceil(query.cells);
        let mut done = 0;
        while done < count {
            let n = size.min(count.saturating_sub(done));
            let mut cell = Cell::default();
            self.for_each_segment(first.saturating_add(done), n, |kind, dirty, blocks| {
                cell.add(kind, dirty, blocks)
            });
            out.write_char(cell.shown().char())?;
            done = done.saturating_add(n);
        }
        Ok(())
    }

    /// Calls `f` with what each of `count` segments from number `first` on is, its dirty blocks, and all of
    /// its blocks.
    fn for_each_segment(&self, first: u32, count: u32, mut f: impl FnMut(Kind, u32, u32)) {
        let end = first.saturating_add(count);
        let mut next = first;
        while next < end {
            let core = self.core.lock();
            let (blocks, writing) = (core.engine.superblock().segment_blocks, self.writing());
            let to = end.min(next.saturating_add(AT_ONCE));
            for segment in next..to {
                let (kind, dirty) = core.engine.kind(Segment(segment), writing);
                f(kind, dirty, blocks);
            }
            next = to;
        }
    }
}
