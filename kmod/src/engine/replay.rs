// SPDX-License-Identifier: GPL-2.0-only

//! From the bytes on the cache device to an engine: walks the records from the tail to the end of the log.
//!
//! [`Replay::run`] reads what [`Replay::want`] asks for and feeds it, until the answer is [`Want::Flush`].
//! Then the host flushes the cache device, and writes the checkpoint of [`Replay::finish`] and what else
//! [`super::places::Opening`] wants, with FUA. Only then it accepts writes.
//!
//! # Invariants
//! - The log ends at the first record that is not acceptable. What lies behind it never becomes reachable,
//!   because all records from `epoch_start` on must carry the epoch of the checkpoint, and of two earlier
//!   records with the same number the one of the later epoch counts.
//! - A record that is not known durable is accepted only when all its data match their checksums, or their
//!   complements where they stand for lost blocks.
//! - A log that ends before what the checkpoint knows durable is damaged, and refused.
//! - A block that the medium cannot give back ([`Replay::feed_unreadable`]) is treated as one that is not
//!   acceptable. A power cut leaves such blocks behind the end of the log. If such a block should hold a
//!   record that is known durable, the log is damaged. A path that is down is another matter, and must not
//!   get here: it would shorten the log.
//! - The record of a header that cannot be read may have been acknowledged in the last life of the volume, so
//!   that the checkpoint does not know it durable. So before a log ends at such a header, all that may lie
//!   behind it is looked through for a record that knows it durable (each record does that lies [`WINDOW`]
//!   records behind it). The search ends at the tail: from there on lie earlier records.
//! - A block that cannot be read in this search may be the record that is looked for. A power cut leaves a
//!   few such blocks ([`FEW`]), of what was in flight. If there are more, it is not known whether the log
//!   ends there, and it is damaged. So the search ends, too, however long each of these blocks takes.
//! - A block that only does not match ([`Loss::Mismatch`]) is not counted, for there may be any number of
//!   such blocks on a sound device: the [`WINDOW`] records that may be in flight, each as long as a segment,
//!   are as much as is looked through, and blocks that were never written are as much again. To know this of
//!   a block takes no longer than to read it.
//! - Of two records with the same number the one of the later epoch counts. When the block that would tell
//!   whether there is another one cannot be read, the first one counts only with its data: a record that a
//!   crash has spoilt does not have all of them.
//! - Every checkpoint that is written from here on can be read: one that cannot be read would give way to an
//!   older one.
//! - No epoch has the number of an earlier one, also when the newest checkpoint is gone: see
//!   [`super::places`].

use super::places::Places;
use super::{Engine, Entry, Secret};
use crate::format::{Checkpoint, Chosen, RecordHeader, Seq, Slot, Superblock, BLOCK, WINDOW};
use crate::host::{OutOfMemory, Table};
use crate::policy::lost::Loss;
use core::fmt;

/// Number of blocks behind the end of the log that a power cut may leave unreadable: 128 KiB, a few pages of
/// flash memory. A disk may take half a minute to report each of them.
pub const FEW: u32 = 32;

/// What is to be read next from the cache device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// `blocks` blocks from `slot` on: feed them to [`Replay::feed`].
    Read {
        /// Slot of the first block.
        slot: Slot,
        /// Number of blocks.
        blocks: u32,
    },
    /// Nothing: the log's end is known.
    Flush,
}

/// Where a replay reads the log from.
pub trait Source {
    /// An error of the device, or of the way to it, other than that the medium cannot give blocks back.
    type Error;

    /// Reads `blocks` blocks from `slot` on and lends them to `f`, unless the medium cannot give them back.
    ///
    /// # Errors
    /// Any other error: the device, or the way to it, does not answer, and may have all of it.
    fn read<R>(
        &mut self,
        slot: Slot,
        blocks: u32,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Result<R, Loss>, Self::Error>;

    /// Reports that the medium has lost something from `slot` on.
    fn lost(&mut self, _slot: Slot) {}

    /// Reports that so many records are applied, for showing progress.
    fn applied(&mut self, _records: u64) {}
}

/// Why a replay did not come to the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped<E> {
    /// The device cannot be read.
    Error(E),
    /// The log must not be resumed.
    Damage(Damage),
}

/// Why a log cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A block cannot be read, as the medium itself says, and record `end`, which it should hold, is known
    /// durable.
    Unreadable {
        /// The record that is missing.
        end: Seq,
        /// The record up to which the log is known durable.
        durable: Seq,
        /// The slot that cannot be read, where the record's header should be.
        slot: Slot,
    },
    /// Behind what is known of the log so many blocks cannot be read, as the medium itself says, that record
    /// `end` may have been durable.
    Area {
        /// The record that may be missing.
        end: Seq,
        /// The slot where its header should be.
        slot: Slot,
    },
    /// The log is known to be durable up to `durable`, but ends before record `end`.
    Short {
        /// The first record that is missing.
        end: Seq,
        /// The record up to which the log is known durable.
        durable: Seq,
    },
    /// Where record `expected` should be, the later record `found` of the same epoch lies.
    Overwritten {
        /// The record that should be there.
        expected: Seq,
        /// The record that is there.
        found: Seq,
    },
    /// Where record `expected` should be lies a record of a later epoch than the checkpoint's: the newest
    /// checkpoint is lost.
    Outdated {
        /// The record that should be there.
        expected: Seq,
    },
    /// The log fills more segments than there are.
    Endless,
    /// A count is higher than counting ever gets.
    Exhausted,
}

/// Counts above this are [`Damage::Exhausted`]: half of what a checkpoint may hold, so that no count that
/// follows exceeds that.
const MOST: u64 = 1 << 61;

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Unreadable { end, durable, slot } => {
                write!(
                    f,
                    "the log is damaged: record {end} cannot be read from slot {slot}, but records up to \
                     {durable} were durable"
                )
            }
            Damage::Area { end, slot } => {
                write!(
                    f,
                    "the log may be damaged: record {end} and more than {FEW} blocks cannot be read from \
                     slot {slot} on"
                )
            }
            Damage::Short { end, durable } => {
                write!(
                    f,
                    "the log is damaged: record {end} is missing, but records up to {durable} were durable"
                )
            }
            Damage::Overwritten { expected, found } => {
                write!(f, "the log is damaged: found record {found} where record {expected} should be")
            }
            Damage::Outdated { expected } => {
                write!(
                    f,
                    "the newest checkpoint is damaged: record {expected} has been written again after the \
                     other one"
                )
            }
            Damage::Endless => f.write_str("the log is damaged: it has no end"),
            Damage::Exhausted => f.write_str("the log is damaged: it counts higher than any log can get"),
        }
    }
}

/// Whether the log of volume `sb` has nothing in it. Looks only at `block`, the first block of the
/// checkpoint's tail segment, and needs no index. In doubt the answer is no, and a replay decides.
#[allow(dead_code)] // For the tools and tests.
pub fn is_empty(sb: &Superblock, checkpoint: &Checkpoint, block: &[u8; BLOCK]) -> bool {
    let cp = checkpoint;
    cp.durable < cp.tail
        && !is_exhausted(cp, cp.tail)
        && RecordHeader::decode(block, sb, 0).map_or(true, |h| h.seq < cp.tail && h.epoch <= cp.epoch)
}

/// Whether a count is too high to go on with; `next` is the number of the next record.
fn is_exhausted(checkpoint: &Checkpoint, next: Seq) -> bool {
    next.0.max(checkpoint.generation).max(checkpoint.epoch) > MOST
}

/// Where a header was found: its block, decoded header and slot.
#[derive(Debug, Clone, Copy)]
struct Seen {
    header: RecordHeader,
    slot: Slot,
}

/// What the replay is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The header at the start of the next segment, only to know what it is; then `Next`.
    Ahead,
    /// The header right behind the last record.
    Next,
    /// The header at the start of the next segment.
    NextSegment,
    /// The data of the oldest record that is seen and not known durable.
    Data,
    /// The data of a record that is known durable, because it may be a record that a crash has spoilt; then
    /// `Next` or `NextSegment`.
    Doubt(Resumed),
    /// A block behind a header that cannot be read, with `left` more to come: a later record there may know
    /// more durable. `lost` blocks are lost so far.
    Seek {
        slot: Slot,
        left: u32,
        lost: u32,
    },
    Done,
}

/// Where the replay goes on behind a record that was in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resumed {
    Next,
    NextSegment,
}

/// What is known of the header at the start of the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// Nothing that matters.
    Nothing,
    /// Its sequence number and epoch.
    Record(Seq, u64),
    /// It cannot be read.
    Unreadable,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
    checkpoint: Checkpoint,
    /// How many slots may hold a newer checkpoint.
    doubtful: u32,
    /// Headers of records that are seen and not yet applied: a ring of [`WINDOW`] by sequence number.
    headers: Table<u8>,
    seen: Table<Option<Seen>>,
    /// Next sequence number to apply, and to see.
    apply: Seq,
    see: Seq,
    durable: Seq,
    epoch: u64,
    /// The slot where the next header is looked for first, and the number of segments so far.
    at: Slot,
    segments: u32,
    ahead: Beyond,
    /// The slot that could not be read and may have held the next record: behind the last record, or at the
    /// start of a segment.
    unreadable: Option<Slot>,
    /// Whether the blocks behind that slot were looked through.
    sought: bool,
    step: Step,
}

impl Replay {
    /// Begins the replay of volume `sb` from the checkpoint that was chosen, for a host with `nr_buffers` RAM
    /// buffers.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(sb: &Superblock, chosen: impl Into<Chosen>, nr_buffers: u8) -> Result<Self, OutOfMemory> {
        Self::with_secret(sb, chosen, nr_buffers, Secret::random())
    }

    /// As [`Replay::new`], with a known secret for the index: for a test that does the same each time.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn with_secret(
        sb: &Superblock,
        chosen: impl Into<Chosen>,
        nr_buffers: u8,
        secret: Secret,
    ) -> Result<Self, OutOfMemory> {
        let chosen = chosen.into();
        let Chosen { checkpoint, doubtful, .. } = chosen;
        let mut engine = Engine::empty(sb, nr_buffers, secret)?;
        let tail = checkpoint.tail_segment;
        engine.tail = tail;
        engine.tail_seq = checkpoint.tail;
        engine.head = tail.before(sb.nr_segments);
        engine.generation = checkpoint.generation;
        engine.places = Places::of(&chosen);
        Ok(Self {
            at: tail.first_slot(sb.segment_blocks),
            engine,
            checkpoint,
            doubtful,
            headers: Table::new(WINDOW as usize * BLOCK, |_| 0)?,
            seen: Table::new(WINDOW as usize, |_| None)?,
            apply: checkpoint.tail,
            see: checkpoint.tail,
            durable: checkpoint.durable,
            epoch: 0,
            segments: 0,
            ahead: Beyond::Nothing,
            unreadable: None,
            sought: false,
            // The tail's record begins its segment.
            step: Step::NextSegment,
        })
    }

    /// Entry `k` of the kept header `i`.
    fn entry(&self, i: usize, k: usize) -> Entry {
        self.headers[i * BLOCK..].first_chunk().map_or(Entry::default(), |h| RecordHeader::entry(h, k))
    }

    fn segment_blocks(&self) -> u32 {
        self.engine.sb.segment_blocks
    }

    /// Reads the log to its end.
    ///
    /// # Errors
    /// [`Stopped`], when its end cannot be reached.
    pub fn run<S: Source>(&mut self, source: &mut S) -> Result<(), Stopped<S::Error>> {
        while let Want::Read { slot, blocks } = self.want() {
            let read = source.read(slot, blocks, |b| self.feed(b)).map_err(Stopped::Error)?;
            let fed = read.unwrap_or_else(|loss| {
                source.lost(slot);
                self.feed_unreadable(loss)
            });
            fed.map_err(Stopped::Damage)?;
            source.applied(self.progress().0);
        }
        Ok(())
    }

    /// What to read next.
    pub fn want(&self) -> Want {
        match self.step {
            Step::Done => Want::Flush,
            Step::Next => Want::Read { slot: self.at, blocks: 1 },
            Step::Seek { slot, .. } => Want::Read { slot, blocks: 1 },
            Step::Ahead | Step::NextSegment => Want::Read { slot: self.next_start(), blocks: 1 },
            Step::Data | Step::Doubt(_) => match self.seen[self.apply.in_window()] {
                Some(s) => Want::Read { slot: s.slot.plus(1), blocks: s.header.blocks.into() },
                None => Want::Flush,
            },
        }
    }

    fn next_start(&self) -> Slot {
        if self.segments == 0 {
            return self.at;
        }
        let segment = self.engine.segment_of(self.at.minus(1));
        self.engine.first_slot(self.engine.next_segment(segment))
    }

    /// Records applied so far, and the number of the next: for showing progress.
    pub fn progress(&self) -> (u64, Seq) {
        (self.apply.since(self.checkpoint.tail), self.apply)
    }

    /// Takes the blocks that [`Replay::want`] asked for.
    ///
    /// # Errors
    /// [`Damage`], when the log must not be resumed.
    pub fn feed(&mut self, blocks: &[u8]) -> Result<(), Damage> {
        match self.step {
            Step::Done => Ok(()),
            Step::Data => self.feed_data(blocks),
            Step::Doubt(then) => self.settle_doubt(then, self.is_intact(blocks)),
            Step::Seek { slot, left, lost } => {
                let Some(block) = blocks.first_chunk::<BLOCK>() else { return Ok(()) };
                self.note_later(block, slot)?;
                self.seek(slot, left, lost)
            }
            Step::Ahead | Step::Next | Step::NextSegment => {
                let Some(block) = blocks.first_chunk::<BLOCK>() else { return Ok(()) };
                self.feed_header(block)
            }
        }
    }

    /// Instead of [`Replay::feed`], when the medium cannot give back what [`Replay::want`] asked for: it has
    /// said so itself, each time that it was asked, and `loss` is its answer. Of several blocks one is
    /// enough.
    ///
    /// # Errors
    /// [`Damage`], when the log must not be resumed.
    pub fn feed_unreadable(&mut self, loss: Loss) -> Result<(), Damage> {
        match self.step {
            Step::Done => Ok(()),
            Step::Data => self.end_before_data(),
            Step::Doubt(then) => self.settle_doubt(then, false),
            Step::Seek { slot, left, lost } => self.seek(slot, left, lost + u32::from(loss == Loss::Lost)),
            Step::Ahead => {
                self.ahead = Beyond::Unreadable;
                self.step = Step::Next;
                Ok(())
            }
            Step::Next => {
                self.unreadable = Some(self.at);
                self.step = Step::NextSegment;
                Ok(())
            }
            Step::NextSegment => {
                self.unreadable = self.unreadable.or(Some(self.next_start()));
                self.settle(true)
            }
        }
    }

    /// Goes on with the block behind `slot`, `left` of them, unless enough is known, or the medium has lost
    /// `lost` of them.
    fn seek(&mut self, slot: Slot, left: u32, lost: u32) -> Result<(), Damage> {
        if left == 0 || self.durable >= self.see {
            return self.settle(true);
        }
        if let (true, Some(slot)) = (lost > FEW, self.unreadable) {
            return Err(Damage::Area { end: self.see, slot });
        }
        let end = Slot(self.engine.sb.nr_segments * self.segment_blocks());
        let slot = if slot.plus(1) < end { slot.plus(1) } else { Slot(0) };
        if slot == self.engine.first_slot(self.checkpoint.tail_segment) {
            return self.settle(true);
        }
        self.step = Step::Seek { slot, left: left - 1, lost };
        Ok(())
    }

    /// Looks at a block behind a header that cannot be read: if it is the header of a later record, takes
    /// over what that knows durable.
    fn note_later(&mut self, block: &[u8; BLOCK], slot: Slot) -> Result<(), Damage> {
        let offset = slot.offset(self.segment_blocks());
        let Ok(h) = RecordHeader::decode(block, &self.engine.sb, offset) else { return Ok(()) };
        if h.epoch > self.checkpoint.epoch {
            return Err(Damage::Outdated { expected: self.see });
        }
        // What earlier epochs knew durable is known to the checkpoint.
        if h.epoch == self.checkpoint.epoch && h.seq >= self.checkpoint.epoch_start && h.seq > self.see {
            self.durable = self.durable.max(h.durable);
        }
        Ok(())
    }

    fn feed_header(&mut self, block: &[u8; BLOCK]) -> Result<(), Damage> {
        if self.step == Step::Ahead {
            let header = RecordHeader::decode(block, &self.engine.sb, 0);
            self.ahead = header.map_or(Beyond::Nothing, |h| Beyond::Record(h.seq, h.epoch));
            self.step = Step::Next;
            return Ok(());
        }
        let slot = if self.step == Step::Next { self.at } else { self.next_start() };
        match self.acceptable(block, slot)? {
            Some(header) => self.accept(block, header, slot),
            None if self.step == Step::Next => {
                self.step = Step::NextSegment;
                Ok(())
            }
            // There is no record here nor there: this is the end. Records that were seen and are not known
            // durable need their data checked.
            None => self.settle(true),
        }
    }

    fn acceptable(&self, block: &[u8; BLOCK], slot: Slot) -> Result<Option<RecordHeader>, Damage> {
        let offset = slot.offset(self.segment_blocks());
        let Ok(h) = RecordHeader::decode(block, &self.engine.sb, offset) else { return Ok(None) };
        let cp = &self.checkpoint;
        // No record is written before the checkpoint of its epoch is durable. A replay that went on from an
        // older checkpoint would take the end of that epoch for the end of the log.
        if h.epoch > cp.epoch {
            return Err(Damage::Outdated { expected: self.see });
        }
        // A later record may well be there after a crash that lost this one, but not if the later one knew
        // this one durable.
        if h.epoch == cp.epoch && h.seq >= cp.epoch_start && h.durable >= self.see {
            return Err(Damage::Overwritten { expected: self.see, found: h.seq });
        }
        let right_epoch = if h.seq >= cp.epoch_start {
            h.epoch == cp.epoch
        } else {
            (self.epoch..cp.epoch).contains(&h.epoch)
        };
        // Each resume begins a segment, and leaves behind the end of the log what a crash has spoilt there:
        // perhaps a record whose header is whole and whose data are not. Its number was given again, to the
        // first record of the new epoch, and once that record is known durable no data are checked any more.
        // So the later epoch decides.
        let left_over = self.step == Step::Next
            && matches!(
                self.ahead,
                Beyond::Record(seq, epoch) if seq == h.seq && h.epoch < epoch && epoch < cp.epoch
            );
        Ok((h.seq == self.see && right_epoch && !left_over).then_some(h))
    }

    /// Whether a record that was found behind the last one may be spoilt by a crash, and the record that has
    /// its number now may lie where it cannot be read: a record of an epoch between its own and the
    /// checkpoint's.
    fn is_in_doubt(&self, header: &RecordHeader) -> bool {
        self.step == Step::Next
            && self.ahead == Beyond::Unreadable
            && header.epoch + 1 < self.checkpoint.epoch
    }

    fn accept(&mut self, block: &[u8; BLOCK], header: RecordHeader, slot: Slot) -> Result<(), Damage> {
        let doubt = self.is_in_doubt(&header);
        self.unreadable = None;
        if self.step == Step::NextSegment {
            self.segments += 1;
            self.ahead = Beyond::Nothing;
            // One segment must stay free, or there would be no place where the log ends.
            if self.segments >= self.engine.sb.nr_segments {
                return Err(Damage::Endless);
            }
            let segment = self.engine.segment_of(slot);
            self.engine.head = segment;
            self.engine.used += 1;
            self.engine.segments[segment.index()].first_seq = header.seq;
        }
        // Records that this header knows durable are applied first: the new record may take the place of one
        // of them in the ring.
        self.durable = self.durable.max(header.durable);
        self.settle(false)?;
        let i = header.seq.in_window();
        // One array of bytes, not one of blocks: a block would be made on the kernel's small stack.
        self.headers[i * BLOCK..(i + 1) * BLOCK].copy_from_slice(block);
        self.seen[i] = Some(Seen { header, slot });
        self.epoch = header.epoch;
        self.see = self.see.next();
        let last = slot.plus(header.blocks.into());
        self.at = last.plus(1);
        let room = self.segment_blocks() - last.offset(self.segment_blocks()) - 1;
        // In this epoch no two records have the same number.
        let ahead = self.step == Step::NextSegment && self.see < self.checkpoint.epoch_start;
        self.step = match room {
            0 | 1 => Step::NextSegment,
            _ if ahead => Step::Ahead,
            _ => Step::Next,
        };
        if doubt && self.apply.next() == self.see {
            let then = if self.step == Step::NextSegment { Resumed::NextSegment } else { Resumed::Next };
            self.step = Step::Doubt(then);
            return Ok(());
        }
        self.settle(false)
    }

    /// The record that was seen last was in doubt. Its data are all there (`intact`), or not.
    fn settle_doubt(&mut self, then: Resumed, intact: bool) -> Result<(), Damage> {
        if intact {
            self.step = match then {
                Resumed::Next => Step::Next,
                Resumed::NextSegment => Step::NextSegment,
            };
            return self.settle(false);
        }
        // A crash has left this record. The record that counts lies in the next segment.
        if let Some(Seen { slot, .. }) = self.seen[self.apply.in_window()].take() {
            self.at = slot;
        }
        self.see = self.apply;
        self.step = Step::NextSegment;
        Ok(())
    }

    /// Applies the records that are known durable. At the end of the log, goes on to check the data of the
    /// others.
    fn settle(&mut self, at_end: bool) -> Result<(), Damage> {
        while self.apply < self.see && self.apply <= self.durable {
            self.apply_next();
        }
        if let (true, Some(slot), false) = (at_end, self.unreadable, self.sought) {
            self.sought = true;
            // The first record of each segment behind knows more than the one before.
            let segments = self.engine.sb.nr_segments.min(WINDOW as u32 + 1);
            return self.seek(slot, segments * self.segment_blocks(), 1);
        }
        if at_end {
            self.step = if self.apply < self.see { Step::Data } else { Step::Done };
            if self.step == Step::Done {
                return self.check_end();
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), Damage> {
        if let (true, Some(slot)) = (self.apply <= self.durable, self.unreadable) {
            return Err(Damage::Unreadable { end: self.apply, durable: self.durable, slot });
        }
        if self.apply <= self.durable {
            return Err(Damage::Short { end: self.apply, durable: self.durable });
        }
        if is_exhausted(&self.checkpoint, self.apply) {
            return Err(Damage::Exhausted);
        }
        Ok(())
    }

    fn apply_next(&mut self) {
        let seq = self.apply;
        let i = seq.in_window();
        self.apply = seq.next();
        let Some(Seen { header, slot }) = self.seen[i].take() else { return };
        for k in 0..usize::from(header.blocks) {
            let entry = self.entry(i, k);
            let slot = slot.plus(1 + k as u32);
            if entry.mask != 0 {
                self.engine.store(slot, entry, seq);
            }
        }
    }

    /// Whether these are the data of the next record to apply.
    fn is_intact(&self, blocks: &[u8]) -> bool {
        let i = self.apply.in_window();
        let n = self.seen[i].map_or(0, |s| usize::from(s.header.blocks));
        blocks.len() == n * BLOCK
            && blocks.chunks_exact(BLOCK).enumerate().all(|(k, block)| self.entry(i, k).is_stored_as(block))
    }

    fn feed_data(&mut self, blocks: &[u8]) -> Result<(), Damage> {
        if self.is_intact(blocks) {
            self.apply_next();
            return self.settle(true);
        }
        self.end_before_data()
    }

    /// The log ends before the record whose data were asked for.
    fn end_before_data(&mut self) -> Result<(), Damage> {
        self.step = Step::Done;
        self.see = self.apply;
        self.check_end()
    }

    /// Ends the replay: the engine, and the checkpoint that must be durable before the engine is used.
    ///
    /// The cache device must have been flushed before: what replay has read counts as durable from now on.
    pub fn finish(mut self) -> (Engine, Checkpoint) {
        let end = self.apply;
        let segment_blocks = self.segment_blocks();
        let e = &mut self.engine;
        // A segment in which only records behind the end were seen is not in use.
        while e.used > 0 && e.segments[e.head.index()].first_seq >= end {
            e.used -= 1;
            e.head = e.head.before(e.sb.nr_segments);
        }
        // New records begin in a fresh segment: the old head has no RAM buffer.
        e.head_next = segment_blocks;
        e.next_seq = end;
        e.sent = end.before();
        e.written = end.before();
        e.durable = end.before();
        e.wanted = Seq::NONE;
        // A checkpoint that cannot be read now may have these numbers, and records of its epoch may be behind
        // the end.
        e.generation += 2 * u64::from(self.doubtful);
        e.epoch = self.checkpoint.epoch + 1 + u64::from(self.doubtful);
        e.epoch_start = end;
        // The host does not use the engine before this checkpoint is durable.
        e.durable_tail = e.tail_seq;
        let checkpoint = e.next_checkpoint();
        (self.engine, checkpoint)
    }
}
