// SPDX-License-Identifier: GPL-2.0-only

//! Whether the engine's own books are right: each invariant that the heads of these files name, as far as
//! it can be told from one moment.
//!
//! [`Engine::audit`] changes nothing. It walks the whole index, so it takes time in proportion to the size
//! of the cache: simulations ask after their steps, and a volume asks on a suspend when its host looks for
//! bugs ([`crate::host::LOOKS_FOR_BUGS`]).
//!
//! Invariants that tell of the past are not looked at: that a segment was freed by a durable checkpoint
//! only, that the backing device was flushed before a slot became clean, that a slot of a record that is
//! not durable is clean only as the copy of one that was written back. The oracles of the simulations see
//! to these.

use super::index::Index;
use super::log::Stage;
use super::Engine;
use crate::format::{Segment, Seq, Slot, WINDOW};
use core::fmt;

/// An invariant that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// The invariant.
    pub rule: &'static str,
    /// The record, segment, slot or buffer that breaks it, or 0.
    pub place: u64,
    /// The number that was found.
    pub found: u64,
    /// The number that it is compared with.
    pub bound: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at {}, {} against {}", self.rule, self.place, self.found, self.bound)
    }
}

/// A number that a report can show, whatever it counts.
trait Number {
    fn number(self) -> u64;
}

macro_rules! numbers {
    ($($type:ty => $number:expr),* $(,)?) => {
        $(impl Number for $type {
            fn number(self) -> u64 {
                let number: fn(Self) -> u64 = $number;
                number(self)
            }
        })*
    };
}

numbers! {
    u8 => u64::from,
    u16 => u64::from,
    u32 => u64::from,
    u64 => |n| n,
    usize => |n| n as u64,
    Seq => |seq| seq.0,
    Segment => |segment| segment.0.into(),
    Slot => |slot| slot.0.into(),
}

/// An error unless it `holds`.
fn rule(
    holds: bool,
    rule: &'static str,
    place: impl Number,
    found: impl Number,
    bound: impl Number,
) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken { rule, place: place.number(), found: found.number(), bound: bound.number() })
}

/// An error unless `small` is at most `large`.
fn ordered<T: Number + PartialOrd + Copy>(small: T, large: T, name: &'static str) -> Result<(), Broken> {
    rule(small <= large, name, 0_u32, small, large)
}

impl Engine {
    /// Checks all invariants that can be told from this moment, in whatever state the engine is between two
    /// calls.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn audit(&self) -> Result<(), Broken> {
        self.audit_numbers()?;
        self.audit_records()?;
        self.audit_log()?;
        self.audit_segments()?;
        self.audit_room_ahead()?;
        self.audit_buffers()?;
        self.index.audit()
    }

    /// The records that are not durable.
    fn volatile(&self) -> impl Iterator<Item = Seq> {
        (self.durable.next().0..self.next_seq.0).map(Seq)
    }

    /// The order of sequence numbers.
    fn audit_numbers(&self) -> Result<(), Broken> {
        let newest = self.next_seq.before();
        ordered(self.noted, self.durable, "noted <= durable")?;
        ordered(self.durable, self.written, "durable <= written")?;
        ordered(self.written, self.sent, "written <= sent")?;
        ordered(self.sent, newest, "sent <= newest")?;
        ordered(self.wanted, newest, "wanted <= newest")?;
        ordered(newest.since(self.durable), WINDOW, "newest <= durable + WINDOW")?;
        let Some(commit) = self.commit else { return Ok(()) };
        ordered(commit, newest, "commit <= newest")?;
        ordered(self.durable.next(), commit, "a commit in flight is not durable")
    }

    /// The records that are not durable: their stages are in the order of the log, and each lies in one
    /// segment.
    fn audit_records(&self) -> Result<(), Broken> {
        let segment_blocks = self.sb.segment_blocks;
        for seq in self.volatile() {
            let r = &self.records[seq.in_window()];
            let is_sent = seq <= self.sent;
            let is_filling = r.stage == Stage::Filling;
            rule(is_filling != is_sent, "a record fills until it is sent", seq, r.first, self.sent)?;
            rule(r.writers == 0 || !is_sent, "a record that is sent has no writers", seq, r.writers, 0_u32)?;
            let is_written = r.stage == Stage::Written;
            rule(
                is_written || seq > self.written,
                "each record up to `written` is written",
                seq,
                r.first,
                self.written,
            )?;
            let end = r.first.offset(segment_blocks) + 1 + u32::from(r.blocks);
            rule(end <= segment_blocks, "a record lies in one segment", seq, end, segment_blocks)?;
        }
        let next = self.written.next();
        let is_late = next > self.durable
            && next < self.next_seq
            && self.records[next.in_window()].stage == Stage::Written;
        rule(!is_late, "`written` is as far as it can be", next, self.written, self.next_seq)
    }

    /// The segments of the log, from the tail to the head.
    fn audit_log(&self) -> Result<(), Broken> {
        ordered(self.used, self.sb.nr_segments, "used <= nr_segments")?;
        ordered(self.freeing.unwrap_or(0), self.used, "freeing <= used")?;
        ordered(self.durable_tail, self.tail_seq, "durable tail <= tail")?;
        ordered(self.tail_seq, self.durable.next(), "tail <= durable + 1")?;
        ordered(self.head_next, self.sb.segment_blocks, "the head ends with its segment")?;
        let mut segment = self.tail;
        let mut before = self.tail_seq;
        for i in 0..self.in_log() {
            let first = self.segments[segment.index()].first_seq;
            let is_next = if i == 0 { first == before } else { first > before };
            rule(is_next, "segments of the log begin one behind the other", segment, first, before)?;
            rule(first < self.next_seq, "a segment of the log has a record", segment, first, self.next_seq)?;
            before = first;
            segment = self.next_segment(segment);
        }
        let behind_head = self.next_segment(self.head);
        rule(segment == behind_head, "the head is the log's last segment", self.head, segment, behind_head)
    }

    /// The counts of each segment.
    fn audit_segments(&self) -> Result<(), Broken> {
        let newest = self.next_seq.before();
        let mut all = 0_u64;
        for segment in (0..self.sb.nr_segments).map(Segment) {
            let s = &self.segments[segment.index()];
            let first = self.first_slot(segment);
            let dirty = Slot::each(first..first.plus(self.sb.segment_blocks)).filter(|&slot| {
                let (_, live, dirty) = self.index.get(slot);
                live != 0 && dirty
            });
            let dirty = dirty.count();
            let is_counted = usize::from(s.dirty) == dirty;
            rule(is_counted, "dirty slots of a segment are counted", segment, s.dirty, dirty)?;
            all += dirty as u64;
            let is_in_log = self.behind_tail(segment) < self.in_log();
            rule(dirty == 0 || is_in_log, "dirty slots are in the log", segment, dirty, self.tail)?;
            let pending = self.volatile().map(|seq| &self.records[seq.in_window()]);
            let pending =
                pending.filter(|r| self.segment_of(r.first) == segment && r.stage != Stage::Written);
            let pending = pending.count();
            let is_counted = usize::from(s.pending) == pending;
            rule(is_counted, "pending records are counted", segment, s.pending, pending)?;
            let is_in_ram = s.buffer.is_some();
            rule(pending == 0 || is_in_ram, "pending records are in RAM", segment, pending, 0_u32)?;
            let is_known = s.superseded_by <= newest;
            rule(is_known, "superseded_by <= newest", segment, s.superseded_by, newest)?;
        }
        rule(self.dirty == all, "dirty slots are counted", 0_u32, self.dirty, all)
    }

    /// The slots that are written next hold nothing: those of the head that no record has taken, and those
    /// behind the head that were prepared.
    fn audit_room_ahead(&self) -> Result<(), Broken> {
        let segment_blocks = self.sb.segment_blocks;
        let head = self.first_slot(self.head);
        let accepts = self.segments[self.head.index()].buffer.is_some() && self.used != 0;
        let taken = if accepts { self.head_next } else { segment_blocks };
        let behind = self.first_slot(self.next_segment(self.head));
        let in_head = Slot::each(head.plus(taken)..head.plus(segment_blocks));
        for slot in in_head.chain(Slot::each(behind..behind.plus(self.prepared))) {
            let (_, live, _) = self.index.get(slot);
            rule(live == 0, "the room ahead holds nothing", slot, live, 0_u32)?;
        }
        Ok(())
    }

    /// A buffer and the segment that it holds know each other.
    fn audit_buffers(&self) -> Result<(), Broken> {
        for (i, buffer) in (0_u8..).zip(self.buffers.iter()) {
            // A buffer whose segment was opened again with another one has none, and may still be read.
            let Some(segment) = buffer.segment else { continue };
            let is_known = self.segments[segment.index()].buffer == Some(i);
            rule(is_known, "a segment knows its buffer", segment, i, 0_u32)?;
        }
        for (segment, s) in (0_u32..).map(Segment).zip(self.segments.iter()) {
            let Some(buffer) = s.buffer else { continue };
            let is_known = self.buffers[usize::from(buffer)].segment == Some(segment);
            rule(is_known, "a buffer knows its segment", segment, buffer, 0_u32)?;
        }
        Ok(())
    }
}

impl Index {
    /// The chains hold each live slot once, under its address, and no other slot. The live masks of the
    /// slots of one address are disjoint.
    fn audit(&self) -> Result<(), Broken> {
        let live = (0..self.nr_slots()).filter(|&slot| self.get(Slot(slot)).1 != 0).count();
        let mut chained = 0_usize;
        for bucket in 0..self.nr_buckets() {
            for slot in self.chain(bucket) {
                chained += 1;
                rule(chained <= live, "a chain has an end", slot, chained, live)?;
                let (addr, mask, _) = self.get(slot);
                rule(mask != 0, "a chained slot is live", slot, mask, 1_u32)?;
                let own = self.bucket_of(addr);
                rule(own == bucket, "a chain holds its addresses", slot, own, bucket)?;
                let written = self.written(slot);
                rule(mask & !written == 0, "live sectors were written", slot, mask, written)?;
                for other in self.chain(bucket).take_while(|&other| other != slot) {
                    let (other_addr, other_mask, _) = self.get(other);
                    let both = if other_addr == addr { mask & other_mask } else { 0 };
                    rule(both == 0, "each sector is live in one slot", slot, both, other)?;
                }
            }
        }
        rule(chained == live, "each live slot is chained", 0_u32, chained, live)
    }
}
