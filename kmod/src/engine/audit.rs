// SPDX-License-Identifier: GPL-2.0-only

//! Whether the engine's own books are right: each invariant that the heads of these files name, as far as it can be told
//! from one moment.
//!
//! [`Engine::audit`] changes nothing. It walks the whole index, so it takes time in proportion to the size of the cache:
//! simulations ask after their steps, and a volume asks on a suspend when its host looks for bugs
//! ([`crate::host::LOOKS_FOR_BUGS`]).
//!
//! Invariants that tell of the past are not looked at: that a segment was freed by a durable checkpoint only, that the
//! backing device was flushed before a slot became clean, that a slot of a record that is not durable is clean only as
//! the copy of one that was written back. The oracles of the simulations see to these.

use super::index::Index;
use super::log::Stage;
use super::Engine;
use crate::format::WINDOW;
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

/// `Ok` if `holds`.
pub(super) fn rule(
    holds: bool,
    rule: &'static str,
    place: impl Into<u64>,
    found: impl Into<u64>,
    bound: impl Into<u64>,
) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken { rule, place: place.into(), found: found.into(), bound: bound.into() })
}

impl Engine {
    /// Checks all invariants that can be told from this moment, in whatever state the engine is between two calls.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn audit(&self) -> Result<(), Broken> {
        self.audit_numbers()?;
        self.audit_records()?;
        self.audit_log()?;
        self.audit_segments()?;
        self.audit_buffers()?;
        self.index.audit()
    }

    /// The order of sequence numbers.
    fn audit_numbers(&self) -> Result<(), Broken> {
        let newest = self.next_seq - 1;
        rule(self.noted <= self.durable, "noted <= durable", 0u32, self.noted, self.durable)?;
        rule(self.durable <= self.written, "durable <= written", 0u32, self.durable, self.written)?;
        rule(self.written <= self.sent, "written <= sent", 0u32, self.written, self.sent)?;
        rule(self.sent <= newest, "sent <= newest", 0u32, self.sent, newest)?;
        rule(self.wanted <= newest, "wanted <= newest", 0u32, self.wanted, newest)?;
        rule(
            newest <= self.durable + WINDOW,
            "newest <= durable + WINDOW",
            0u32,
            newest,
            self.durable + WINDOW,
        )?;
        let commit = self.commit.unwrap_or(newest);
        rule(commit <= newest, "commit <= newest", 0u32, commit, newest)?;
        let is_ahead = self.commit.is_none_or(|commit| commit > self.durable);
        rule(is_ahead, "a commit in flight is not durable", 0u32, commit, self.durable)
    }

    /// The records that are not durable: their stages are in the order of the log, and each lies in a segment.
    fn audit_records(&self) -> Result<(), Broken> {
        for seq in self.durable + 1..self.next_seq {
            let r = &self.records[(seq % WINDOW) as usize];
            let is_sent = seq <= self.sent;
            rule(
                (r.stage != Stage::Filling) == is_sent,
                "a record fills until it is sent",
                seq,
                r.first,
                self.sent,
            )?;
            let writers = u32::from(r.writers);
            rule(writers == 0 || !is_sent, "a record that is sent has no writers", seq, writers, 0u32)?;
            let is_written = r.stage == Stage::Written;
            rule(
                seq > self.written || is_written,
                "each record up to `written` is written",
                seq,
                r.first,
                self.written,
            )?;
            let segment_blocks = self.sb.segment_blocks;
            let end = r.first % segment_blocks + 1 + u32::from(r.blocks);
            rule(end <= segment_blocks, "a record lies in one segment", seq, end, segment_blocks)?;
        }
        let next = self.written + 1;
        let is_next_written = next < self.next_seq
            && next > self.durable
            && self.records[(next % WINDOW) as usize].stage == Stage::Written;
        rule(!is_next_written, "`written` is as far as it can be", next, self.written, self.next_seq)
    }

    /// The segments of the log, from the tail to the head.
    fn audit_log(&self) -> Result<(), Broken> {
        let nr_segments = self.sb.nr_segments;
        rule(self.used <= nr_segments, "used <= nr_segments", 0u32, self.used, nr_segments)?;
        let freeing = self.freeing.unwrap_or(0);
        rule(freeing <= self.used, "freeing <= used", 0u32, freeing, self.used)?;
        rule(
            self.durable_tail <= self.tail_seq,
            "durable tail <= tail",
            0u32,
            self.durable_tail,
            self.tail_seq,
        )?;
        rule(
            self.tail_seq <= self.durable + 1,
            "tail <= durable + 1",
            0u32,
            self.tail_seq,
            self.durable + 1,
        )?;
        rule(
            self.head_next <= self.sb.segment_blocks,
            "the head ends with its segment",
            self.head,
            self.head_next,
            self.sb.segment_blocks,
        )?;
        let mut segment = self.tail;
        let mut before = self.tail_seq;
        for i in 0..self.in_log() {
            let first = self.segments[segment as usize].first_seq;
            let is_next = if i == 0 { first == before } else { first > before };
            rule(is_next, "segments of the log begin one behind the other", segment, first, before)?;
            rule(first < self.next_seq, "a segment of the log has a record", segment, first, self.next_seq)?;
            before = first;
            segment = self.next_segment(segment);
        }
        let behind_head = self.next_segment(self.head);
        rule(segment == behind_head, "the head is the log's last segment", self.head, segment, behind_head)
    }

    /// What is counted of each segment.
    fn audit_segments(&self) -> Result<(), Broken> {
        let segment_blocks = self.sb.segment_blocks;
        let mut all = 0u64;
        for segment in 0..self.sb.nr_segments {
            let s = &self.segments[segment as usize];
            let first = segment * segment_blocks;
            let dirty = (first..first + segment_blocks).filter(|&slot| {
                let (_, live, dirty) = self.index.get(slot);
                live != 0 && dirty
            });
            let dirty = dirty.count() as u64;
            rule(
                u64::from(s.dirty) == dirty,
                "dirty slots of a segment are counted",
                segment,
                s.dirty,
                dirty,
            )?;
            all += dirty;
            let is_in_log = self.behind_tail(segment) < self.in_log();
            rule(dirty == 0 || is_in_log, "what is dirty is in the log", segment, dirty, self.tail)?;
            let pending = (self.durable + 1..self.next_seq)
                .map(|seq| &self.records[(seq % WINDOW) as usize])
                .filter(|r| r.first / segment_blocks == segment && r.stage != Stage::Written);
            let pending = pending.count() as u64;
            rule(
                u64::from(s.pending) == pending,
                "pending records are counted",
                segment,
                s.pending,
                pending,
            )?;
            rule(
                pending == 0 || s.buffer.is_some(),
                "what is not written is in RAM",
                segment,
                pending,
                0u32,
            )?;
            let newest = self.next_seq - 1;
            rule(s.superseded_by <= newest, "superseded by what there is", segment, s.superseded_by, newest)?;
        }
        rule(self.dirty == all, "dirty slots are counted", 0u32, self.dirty, all)?;
        // What no record has taken of the head, and what was prepared behind it.
        let head = self.head * segment_blocks;
        let behind = self.next_segment(self.head) * segment_blocks;
        let unused = if self.segments[self.head as usize].buffer.is_some() && self.used != 0 {
            head + self.head_next..head + segment_blocks
        } else {
            0..0
        };
        for slot in unused.chain(behind..behind + self.prepared) {
            let (_, live, _) = self.index.get(slot);
            rule(live == 0, "what is to be written next holds nothing", slot, live, 0u32)?;
        }
        Ok(())
    }

    /// Which buffer holds which segment is known to both.
    fn audit_buffers(&self) -> Result<(), Broken> {
        for (i, buffer) in (0u32..).zip(self.buffers.iter()) {
            let Some(segment) = buffer.segment else {
                rule(buffer.pins == 0, "a buffer that holds nothing is not read", i, buffer.pins, 0u32)?;
                continue;
            };
            let own = self.segments[segment as usize].buffer.map_or(u32::MAX, u32::from);
            rule(own == i, "a segment knows its buffer", segment, own, i)?;
        }
        for (segment, s) in (0u32..).zip(self.segments.iter()) {
            let Some(buffer) = s.buffer else { continue };
            let held = self.buffers[usize::from(buffer)].segment.unwrap_or(u32::MAX);
            rule(held == segment, "a buffer knows its segment", buffer, held, segment)?;
        }
        Ok(())
    }
}

impl Index {
    /// The chains hold each slot in which something is live once, under its address, and no other; the live masks of the
    /// slots of one address are disjoint.
    fn audit(&self) -> Result<(), Broken> {
        let nr_slots = self.nr_slots();
        let live = (0..nr_slots).filter(|&slot| self.get(slot).1 != 0).count() as u64;
        let mut chained = 0u64;
        for bucket in 0..self.nr_buckets() {
            for slot in self.chain(bucket) {
                chained += 1;
                rule(chained <= live, "a chain has an end", slot, chained, live)?;
                let (addr, mask, _) = self.get(slot);
                rule(mask != 0, "what is chained is live", slot, mask, 1u32)?;
                let own = self.bucket_of(addr) as u64;
                rule(own == bucket as u64, "a chain holds its addresses", slot, own, bucket as u64)?;
                let written = self.written(slot);
                rule(mask & !written == 0, "what is live was written", slot, mask, written)?;
                for other in self.chain(bucket).take_while(|&other| other != slot) {
                    let (other_addr, other_mask, _) = self.get(other);
                    let both = if other_addr == addr { mask & other_mask } else { 0 };
                    rule(both == 0, "each sector is live in one slot", slot, both, other)?;
                }
            }
        }
        rule(chained == live, "what is live is chained", 0u32, chained, live)
    }
}
