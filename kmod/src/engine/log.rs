// SPDX-License-Identifier: GPL-2.0-only

//! The head of the log: writes claim room in the open record, records are sealed and written, commits make
//! them durable.
//!
//! A write calls [`Engine::claim`], copies its data into the buffer without the lock, and calls
//! [`Engine::stored`] for each block and [`Engine::copied`] once. After anything that may have made progress
//! the host calls [`Engine::poll`] until it has nothing more to do.
//!
//! Group commit without a timer: while a commit is in flight, the writes that want the next one wait, and
//! their data gather in the open record.

use super::{Buffer, Engine, Entry, Failed, SegmentState, Was, RESERVED_SEGMENTS};
use crate::format::{RecordHeader, Segment, Seq, Slot, BLOCK, WINDOW};
use core::ops::Range;

/// The stage of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// Accepts claims, or waits for its writers to finish copying.
    #[default]
    Filling,
    /// Being written to the cache device.
    Writing,
    /// On the cache device.
    Written,
}

/// A record between its opening and its becoming durable.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    /// Slot of the header block; the data follow.
    pub(super) first: Slot,
    /// Data blocks claimed.
    pub(super) blocks: u16,
    /// Claims whose data are not all copied.
    pub(super) writers: u16,
    pub(super) stage: Stage,
}

/// Room in the log for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The record.
    pub seq: Seq,
    /// First of the claimed slots.
    pub slot: Slot,
    /// Number of slots, at least 1 and at most what was asked for.
    pub blocks: u32,
    /// The RAM buffer to copy to.
    pub buffer: u8,
    /// First block in that buffer.
    pub offset: u32,
}

/// Why a claim cannot be granted now. The host is told anyway of the event that ends each of these waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// All segments are in use: wait until reclaim has freed one.
    Space,
    /// Wait until a record is written, a copy from a buffer ends, or a commit is done.
    Progress,
}

/// What [`Engine::claim`] answers when it grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not now.
    Wait(Wait),
    /// Never again.
    Failed,
}

/// What [`Engine::poll`] wants to be done on the cache device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// Write a record: `blocks` blocks from `offset` in `buffer` to the sector of `slot`, the header among
    /// them, as one bio. Answer with [`Engine::record_done`].
    Record {
        /// The record.
        seq: Seq,
        /// Slot of the header.
        slot: Slot,
        /// Blocks, header included.
        blocks: u32,
        /// The RAM buffer.
        buffer: u8,
        /// First block in that buffer.
        offset: u32,
        /// Write it with FUA: all records before it are durable, and a flush or FUA write waits.
        fua: bool,
    },
    /// Flush the device's write cache. Answer with [`Engine::flush_done`].
    Flush {
        /// What will be durable then.
        upto: Seq,
    },
}

impl Engine {
    fn record(&mut self, seq: Seq) -> &mut Record {
        &mut self.records[seq.in_window()]
    }

    /// Claims up to `blocks` (at least 1) slots for a write.
    ///
    /// # Errors
    /// [`Refused`]: when to try again, or that it is no use.
    pub fn claim(&mut self, blocks: u32) -> Result<Claim, Refused> {
        if self.failed {
            return Err(Refused::Failed);
        }
        if self.paused {
            return Err(Refused::Wait(Wait::Progress));
        }
        if !self.open {
            self.open_record()?;
        }
        Ok(self.grant(blocks))
    }

    fn head_buffer(&self) -> u8 {
        // A head segment that accepts records always has its buffer: `open_segment` gives it one.
        self.segments[self.head.index()].buffer.unwrap_or(0)
    }

    /// Whether one more record would be more than replay can hold.
    pub(super) fn is_window_full(&self) -> bool {
        self.next_seq.since(self.durable) > WINDOW
    }

    fn open_record(&mut self) -> Result<(), Refused> {
        if self.is_window_full() {
            return Err(Refused::Wait(Wait::Progress));
        }
        if self.is_full() {
            self.want_tail();
            return Err(Refused::Wait(Wait::Space));
        }
        if self.head_is_full() {
            let buffer = self.free_buffer().ok_or(Refused::Wait(Wait::Progress))?;
            self.open_segment(buffer).map_err(Refused::Wait)?;
        }
        self.start_record();
        Ok(())
    }

    /// Whether the head has no room for a record.
    pub(super) fn head_is_full(&self) -> bool {
        self.head_next + 2 > self.sb.segment_blocks
    }

    /// Whether a write that wants to begin a record has to wait for reclaim.
    pub fn is_full(&self) -> bool {
        // This also holds in a head that relocation has opened. Writes that followed relocation there would
        // use up the reserved segments, one each time, until neither writes nor relocation can go on.
        self.free_segments() < RESERVED_SEGMENTS + u32::from(self.head_is_full())
    }

    /// Asks for the oldest segment to become durable. Only durable segments can be reclaimed, and a small
    /// cache may be full before anything else asks for that.
    fn want_tail(&mut self) {
        if self.in_log() > 0 {
            self.want(self.last_seq(self.tail));
        }
    }

    /// Starts record `next_seq` at the head, where there is room for it.
    fn start_record(&mut self) {
        let first = self.next_slot();
        let seq = self.next_seq;
        *self.record(seq) = Record { first, blocks: 0, writers: 0, stage: Stage::Filling };
        self.segments[self.head.index()].pending += 1;
        self.head_next += 1;
        self.next_seq = self.next_seq.next();
        self.open = true;
    }

    /// Starts a record at the head, where there is room for it, that accepts no other claim than the one
    /// returned.
    pub(super) fn start_relocation(&mut self, blocks: u32) -> Claim {
        self.start_record();
        let claim = self.grant(blocks);
        self.open = false;
        claim
    }

    /// Grants room in the open record, which has some.
    fn grant(&mut self, blocks: u32) -> Claim {
        let (segment_blocks, offset, slot) = (self.sb.segment_blocks, self.head_next, self.next_slot());
        let (seq, blocks) = (self.newest(), blocks.min(segment_blocks - offset));
        let r = self.record(seq);
        r.blocks += blocks as u16;
        r.writers += 1;
        self.head_next += blocks;
        if self.head_next == segment_blocks {
            self.open = false;
        }
        Claim { seq, slot, blocks, buffer: self.head_buffer(), offset }
    }

    /// The slots that [`Engine::prepare`] would begin with, at most so many; none when there is nothing to
    /// prepare. Before the host takes the lock for that, it may warm their chains:
    /// [`super::Chains::warm_slot`].
    pub fn to_prepare(&self, most: u32) -> Range<Slot> {
        // As in `open_segment`.
        let is_free = self.free_segments() > 1;
        let first = self.first_slot(self.next_segment(self.head)).plus(self.prepared);
        let left = if is_free { self.sb.segment_blocks - self.prepared } else { 0 };
        first..first.plus(left.min(most))
    }

    /// Forgets what slots of the next segment hold, at most so many of them. The segment is free, so all of
    /// that is on the backing device, and would be forgotten anyway when the segment is opened; but to forget
    /// a whole segment in one hold of the lock makes others wait. Returns whether there were any such slots.
    pub fn prepare(&mut self, most: u32) -> bool {
        let slots = self.to_prepare(most);
        self.prepared += slots.end.since(slots.start);
        let any = !slots.is_empty();
        if any {
            self.note_forgotten(self.next_segment(self.head));
        }
        Slot::each(slots).for_each(|slot| self.index.remove(slot));
        any
    }

    /// Makes the segment behind the head the new head, with `buffer` as its image.
    pub(super) fn open_segment(&mut self, buffer: u8) -> Result<(), Wait> {
        let next = self.next_segment(self.head);
        // One segment stays free, or the log would have no end.
        if self.free_segments() <= 1 {
            return Err(Wait::Space);
        }
        // All slots that were not prepared in time.
        self.prepare(self.sb.segment_blocks);
        self.prepared = 0;
        // After the last of them is forgotten, and before anything is stored: a read of the old segment is
        // not waited for.
        self.checks.open(next);
        if let Some(s) = self.buffers[usize::from(buffer)].segment.take() {
            self.segments[s.index()].buffer = None;
        }
        if let Some(old) = self.segments[next.index()].buffer.take() {
            self.buffers[usize::from(old)].segment = None;
        }
        let s = &mut self.segments[next.index()];
        s.first_seq = self.next_seq;
        s.superseded_by = Seq::NONE;
        s.dirty = 0;
        s.pending = 0;
        s.buffer = Some(buffer);
        self.buffers[usize::from(buffer)].segment = Some(next);
        self.head = next;
        self.head_next = 0;
        self.used += 1;
        Ok(())
    }

    /// A buffer that holds nothing that is needed, or none.
    pub(super) fn free_buffer(&self) -> Option<u8> {
        let idle = |b: &Buffer, segments: &[SegmentState], head: Option<Segment>| {
            b.pins == 0 && b.segment.is_none_or(|s| Some(s) != head && segments[s.index()].pending == 0)
        };
        // The head's buffer is only busy while the head accepts records.
        let head = (!self.head_is_full()).then_some(self.head);
        // The buffer of the newest segment first, unused ones last: that buffer is most likely still in the
        // processor's cache. Copying into memory that is not costs more than is saved by the few reads that
        // would find older segments in RAM.
        let age =
            |&i: &usize| self.buffers[i].segment.map_or(Seq::NONE, |s| self.segments[s.index()].first_seq);
        let i = (0..self.buffers.len())
            .filter(|&i| idle(&self.buffers[i], &self.segments, head))
            .max_by_key(age)?;
        Some(i as u8)
    }

    /// Records that `slot` of a claim now holds `entry`. Returns where the block was in the cache before.
    pub fn stored(&mut self, claim: &Claim, slot: Slot, entry: Entry) -> Was {
        self.store(slot, entry, claim.seq)
    }

    /// Records that all data of the claim are in the buffer and [`Engine::stored`].
    pub fn copied(&mut self, claim: &Claim) {
        self.record(claim.seq).writers -= 1;
    }

    /// Closes the open record, so that it is sealed as soon as its writers are done and the next claim opens
    /// another one.
    pub(super) fn close(&mut self) {
        if self.open {
            self.open = false;
            self.partial_records += 1;
        }
    }

    /// Whether a claim is not yet copied.
    pub(super) fn has_writers(&self) -> bool {
        // Only records that are not yet sent can have writers.
        self.records.iter().any(|r| r.writers != 0)
    }

    /// Asks that everything written so far become durable. Returns the sequence number that
    /// [`Engine::durable`] must reach; it may have done so already.
    pub fn flush(&mut self) -> Seq {
        let newest = self.newest();
        self.want(newest);
        newest
    }

    /// Asks that record `seq` become durable, or the newest one if there is no such record yet.
    pub fn want(&mut self, seq: Seq) {
        self.wanted = self.wanted.max(seq.min(self.newest()));
    }

    /// All records up to here are on stable storage.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// Whether the log has failed.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The next thing to do on the cache device, if there is one.
    pub fn poll(&mut self) -> Option<Io> {
        if self.failed {
            return None;
        }
        if self.commit.is_none() && self.wanted > self.durable {
            // The last record of the commit may still be open.
            if self.newest() <= self.wanted {
                self.close();
            }
            self.commit = Some(self.wanted);
        }
        if let Some(io) = self.next_record() {
            return Some(io);
        }
        let commit = self.commit?;
        if self.written >= commit && !self.flushing {
            self.flushing = true;
            return Some(Io::Flush { upto: self.written });
        }
        None
    }

    /// Whether [`Engine::poll`] would answer something new: cheap enough to ask after each write.
    pub fn has_work(&self) -> bool {
        if self.failed {
            return false;
        }
        match self.commit {
            None => self.wanted > self.durable || self.sealed().is_some(),
            Some(c) => (self.written >= c && !self.flushing) || self.sealed().is_some(),
        }
    }

    /// Whether a relocation waits for the writers to finish.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The oldest record that is sealed and not yet sent.
    fn sealed(&self) -> Option<Seq> {
        let seq = self.sent.next();
        let accepting = self.open && seq == self.newest();
        let writers = self.records[seq.in_window()].writers;
        (seq < self.next_seq && !accepting && writers == 0).then_some(seq)
    }

    /// Takes the next sealed record. Records are sent in order.
    fn next_record(&mut self) -> Option<Io> {
        let seq = self.sealed()?;
        let fua = self.durable == seq.before() && self.commit == Some(seq);
        self.sent = seq;
        let r = self.record(seq);
        r.stage = Stage::Writing;
        let (slot, blocks) = (r.first, u32::from(r.blocks) + 1);
        let segment = self.segment_of(slot);
        Some(Io::Record {
            seq,
            slot,
            blocks,
            // Its segment keeps its buffer while a record is pending.
            buffer: self.segments[segment.index()].buffer.unwrap_or(0),
            offset: slot.offset(self.sb.segment_blocks),
            fua,
        })
    }

    /// Writes the header of a record that [`Engine::poll`] handed out into its first block.
    pub fn encode_header(&mut self, seq: Seq, block: &mut [u8; BLOCK]) {
        let r = *self.record(seq);
        let h = RecordHeader {
            nonce: self.sb.nonce,
            seq,
            epoch: self.epoch,
            durable: self.durable,
            tail: self.tail_seq,
            blocks: r.blocks,
        };
        h.encode(block, |i| self.index.entry(r.first.plus(1 + i as u32), self.checks.checksums()));
    }

    /// Slot of the header and number of blocks, header included, of record `seq` if it is on the cache device
    /// and not known durable: such a record may be lost by a failed flush.
    pub fn volatile_record(&self, seq: Seq) -> Option<(Slot, u32)> {
        let r = &self.records[seq.in_window()];
        (self.durable < seq && seq <= self.written).then_some((r.first, u32::from(r.blocks) + 1))
    }

    /// The epoch of the records written since the volume was resumed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The record's bio has returned. `ok` tells whether it succeeded; `fua` is that of [`Io::Record`].
    pub fn record_done(&mut self, seq: Seq, fua: bool, ok: bool) {
        if !ok {
            self.failed = true;
            return;
        }
        let r = self.record(seq);
        r.stage = Stage::Written;
        let segment = r.first.segment(self.sb.segment_blocks);
        self.segments[segment.index()].pending -= 1;
        while self.written < self.sent && self.record(self.written.next()).stage == Stage::Written {
            self.written = self.written.next();
        }
        // Sent with FUA only when all before it was durable.
        if fua {
            self.set_durable(seq);
        }
        // At most half of the window gathers undurable records before a flush makes room.
        if self.written.since(self.durable) > WINDOW / 2 {
            self.want(self.written);
        }
    }

    /// The flush has returned. `ok` tells whether it succeeded; `upto` is that of [`Io::Flush`].
    pub fn flush_done(&mut self, upto: Seq, ok: bool) {
        self.flushing = false;
        if ok {
            self.set_durable(upto);
        } else {
            self.failed = true;
        }
    }

    fn set_durable(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
        if self.commit.is_some_and(|c| c <= self.durable) {
            self.commit = None;
        }
    }

    /// # Errors
    /// [`Failed`] once the log has failed.
    #[allow(dead_code)] // For tests.
    pub fn check(&self) -> Result<(), Failed> {
        if self.failed {
            Err(Failed)
        } else {
            Ok(())
        }
    }
}
