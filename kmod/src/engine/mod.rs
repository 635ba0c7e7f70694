// SPDX-License-Identifier: GPL-2.0-only

//! The log-structured cache itself. It decides and never does I/O: it is told what happened (a write wants
//! room, a record reached the disk, a flush returned) and answers what to do. Its host keeps it behind one
//! lock, holds that lock for a call at a time, and does all I/O and all copying of data outside of it.
//!
//! - [`log`](mod@log): the head of the log: claims, records, group commit.
//! - [`bypass`]: writes that go around the log.
//! - [`read`]: where the sectors of a read are.
//! - [`checks`]: what a block from the cache device is checked against, without the lock.
//! - [`reclaim`]: writeback, relocation, the tail.
//! - [`runs`]: which items are read or written as one piece.
//! - [`map`]: the state of the segments, for display.
//! - [`flight`]: what the end of an I/O leaves for the thread that waits for it, without the lock.
//! - [`replay`]: from the bytes on the cache device to an engine.
//! - [`ahead`]: reading ahead of a replay.
//! - [`places`]: which of its four slots a checkpoint goes to.
//! - [`sleep`]: whether the cache device is as it was left when the machine went to sleep.
//! - [`audit`]: whether all invariants hold.
//! - `index`: which slot holds which sectors.
//!
//! # Invariants that keep data
//! 1. `durable <= written < next_seq`. Every record up to `written` is on the cache device, every record up
//!    to `durable` is on stable storage, and so a crash leaves the log whole at least up to `durable`.
//! 2. Only slots of records up to `durable` are written back: the backing device is never ahead of the log.
//! 3. A segment is freed only by a checkpoint that is itself durable, and only when it holds no dirty slot
//!    and all records that superseded one of its slots are durable.
//! 4. A segment is opened again only when it is free, and then has a new generation. A reader of the old
//!    segment finds that out, and is not waited for. A buffer gets another segment only when all its records
//!    are written and nothing copies from it.
//! 5. What a segment held is forgotten when the segment is free and not before, whether it is opened again at
//!    once or later. Its generation changes when all of that is forgotten, and its checksums change after
//!    that.
//! 6. Log order is the order of claims. A write that is claimed after another one was completed is later in
//!    the log.

pub mod ahead;
pub mod audit;
pub mod bypass;
pub mod checks;
pub mod flight;
mod index;
pub mod log;
pub mod map;
pub mod places;
pub mod read;
pub mod reclaim;
pub mod replay;
pub mod runs;
pub mod sleep;

use crate::format::{Block, Segment, Seq, Slot, Superblock, BLOCK_SECTORS, WINDOW};
use crate::host::{OutOfMemory, Shared, Table};
use bypass::Bypass;
use checks::Checks;
use index::Index;
use log::Record;
use places::Places;

pub use crate::format::Entry;
pub use index::{Chains, Secret};

/// Segments that only relocation may use, so that reclaim can always make room, even in a full log.
pub const RESERVED_SEGMENTS: u32 = 4;

/// What the engine knows of one segment.
#[derive(Debug, Clone, Copy)]
struct SegmentState {
    /// Sequence number of its first record.
    first_seq: Seq,
    /// Highest sequence number of a record that superseded sectors of this segment.
    superseded_by: Seq,
    /// Slots that are live and dirty.
    dirty: u16,
    /// Records that were opened here and are not yet on the cache device.
    pending: u16,
    /// The RAM buffer that holds the whole segment, if it is still there.
    buffer: Option<u8>,
}

/// What the engine knows of one RAM buffer, which has the size and layout of a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Buffer {
    /// The segment whose image it holds.
    segment: Option<Segment>,
    /// Reads that copy from it.
    pins: u32,
}

/// One volume's cache.
#[derive(Debug)]
pub struct Engine {
    sb: Shared<Superblock>,
    index: Index,
    checks: Shared<Checks>,
    segments: Table<SegmentState>,
    buffers: Table<Buffer>,
    /// Records from `durable + 1` to `next_seq - 1`, each at `seq % WINDOW`.
    records: Table<Record>,
    epoch: u64,
    epoch_start: Seq,
    generation: u64,
    /// How far the log is durable, as the newest checkpoint says.
    noted: Seq,
    /// Where the log begins, and how far it is durable, as the newest checkpoint says, and as the one before
    /// it says, which is in another slot. [`Seq::NONE`] if there is no such checkpoint.
    told: [(Seq, Seq); 2],
    /// Where checkpoints go.
    places: Places,
    /// Where the log begins as the third newest checkpoint says. A checkpoint that is under way takes its
    /// place.
    older_tail: Seq,
    /// The newest record of which the index has forgotten something, or a later number: for a segment that a
    /// replay has left out, the number of the record that was found there.
    forgot: Seq,
    bypass: Shared<Bypass>,
    /// The segment that new records go to, and its first block that no record has.
    head: Segment,
    head_next: u32,
    /// So many slots of the segment behind the head, from its first on, hold nothing any more: see
    /// [`Engine::prepare`].
    prepared: u32,
    /// Sequence number of the next record to open.
    next_seq: Seq,
    /// Whether a record accepts claims: it is always `next_seq - 1`.
    open: bool,
    /// All records up to here were handed out for writing.
    sent: Seq,
    written: Seq,
    durable: Seq,
    /// A flush or FUA write waits until the log is durable up to here.
    wanted: Seq,
    /// The commit in flight makes the log durable up to here. The log is not yet durable so far.
    commit: Option<Seq>,
    flushing: bool,
    /// Claims wait because a relocation waits for the writers to finish.
    paused: bool,
    failed: bool,
    /// The oldest segment that is not reclaimed, and its first sequence number.
    tail: Segment,
    tail_seq: Seq,
    /// The first sequence number of the log by the newest durable checkpoint.
    durable_tail: Seq,
    /// Segments from the durable tail to the head.
    used: u32,
    /// A checkpoint was handed out and is not yet durable: segments that it frees.
    freeing: Option<u32>,
    dirty: u64,
    partial_records: u64,
}

/// The log has failed: a record or a flush could not be written. No write is acknowledged any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // For tests.
pub struct Failed;

/// The part of a bio that lies in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Block number on the backing device.
    pub addr: Block,
    /// First sector within the block.
    pub first: u32,
    /// Number of sectors.
    pub sectors: u32,
}

impl Part {
    /// The part of `sector..sector + sectors` that lies in the block of `sector`; `sectors` is not 0.
    pub fn first_of(sector: u64, sectors: u64) -> Self {
        let first = sector % BLOCK_SECTORS;
        Self {
            addr: Block::of_sector(sector),
            first: first as u32,
            sectors: sectors.min(BLOCK_SECTORS - first) as u32,
        }
    }

    /// Bit `i` is set for each sector `i` of the block that is in the part.
    pub fn mask(&self) -> u8 {
        (((1u32 << self.sectors) - 1) << self.first) as u8
    }
}

/// Where a block was in the cache before it was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// Nowhere.
    Absent,
    /// On the cache device only.
    OnDevice,
    /// In a segment that a RAM buffer still holds.
    InRam,
}

/// How the cache is doing, in numbers; see [`Engine::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Slots that hold data not yet on the backing device.
    pub dirty: u64,
    /// Slots of all segments.
    pub nr_slots: u64,
    /// Segments.
    pub nr_segments: u32,
    /// Segments that can be written.
    pub free_segments: u32,
    /// Blocks of the head segment that records have taken.
    pub cursor: u32,
    /// Sequence number of the newest record.
    pub newest: Seq,
    /// Highest sequence number on stable storage.
    pub durable: Seq,
    /// Oldest sequence number not yet reclaimed.
    pub tail: Seq,
    /// Records that were written before they were as large as their segment allowed.
    pub partial_records: u64,
    /// The log has failed.
    pub failed: bool,
}

impl Engine {
    /// An engine for the volume `sb` in which nothing is cached, with `nr_buffers` RAM buffers of a segment
    /// each. The replay sets where its log begins.
    fn empty(sb: &Superblock, nr_buffers: u8, secret: Secret) -> Result<Self, OutOfMemory> {
        let nr_slots = sb.nr_segments as usize * sb.segment_blocks as usize;
        let checks = Shared::new(Checks::new(sb.nr_segments, sb.segment_blocks)?)?;
        let (first_seq, superseded_by) = (Seq::NONE, Seq::NONE);
        let segment = SegmentState { first_seq, superseded_by, dirty: 0, pending: 0, buffer: None };
        Ok(Self {
            index: Index::new(nr_slots, secret)?,
            checks,
            segments: Table::new(sb.nr_segments as usize, |_| segment)?,
            buffers: Table::new(nr_buffers.into(), |_| Buffer::default())?,
            records: Table::new(WINDOW as usize, |_| Record::default())?,
            epoch: 0,
            epoch_start: Seq::NONE,
            generation: 0,
            noted: Seq::NONE,
            told: [(Seq::NONE, Seq::NONE); 2],
            places: Places::default(),
            older_tail: Seq::NONE,
            forgot: Seq::NONE,
            bypass: Shared::new(Bypass::new()?)?,
            head: Segment(0),
            head_next: sb.segment_blocks,
            prepared: 0,
            next_seq: Seq::FIRST,
            open: false,
            sent: Seq::NONE,
            written: Seq::NONE,
            durable: Seq::NONE,
            wanted: Seq::NONE,
            commit: None,
            flushing: false,
            paused: false,
            failed: false,
            tail: Segment(0),
            tail_seq: Seq::FIRST,
            durable_tail: Seq::FIRST,
            used: 0,
            freeing: None,
            dirty: 0,
            partial_records: 0,
            sb: Shared::new(sb.clone())?,
        })
    }

    /// The writes that are under way around the cache, for code that does not have the lock.
    pub fn bypass(&self) -> Shared<Bypass> {
        self.bypass.clone()
    }

    /// What readers need without the lock.
    pub fn checks(&self) -> Shared<Checks> {
        self.checks.clone()
    }

    /// The parts of the index that may be touched before the lock is taken.
    pub fn chains(&self) -> Shared<Chains> {
        self.index.chains()
    }

    /// The volume's superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.sb
    }

    /// First sector on the cache device of the block in `slot`.
    pub fn slot_sector(&self, slot: Slot) -> u64 {
        self.sb.slot_sector(slot)
    }

    /// How the cache is doing.
    pub fn state(&self) -> State {
        State {
            dirty: self.dirty,
            nr_slots: u64::from(self.sb.nr_segments) * u64::from(self.sb.segment_blocks),
            nr_segments: self.sb.nr_segments,
            free_segments: self.free_segments(),
            cursor: self.head_next,
            newest: self.newest(),
            durable: self.durable,
            tail: self.tail_seq,
            partial_records: self.partial_records,
            failed: self.failed,
        }
    }

    fn free_segments(&self) -> u32 {
        self.sb.nr_segments - self.used
    }

    /// Segments from the tail to the head. `used` also counts the segments behind the tail that wait for
    /// their checkpoint.
    fn in_log(&self) -> u32 {
        self.used - self.freeing.unwrap_or(0)
    }

    fn next_segment(&self, segment: Segment) -> Segment {
        segment.next(self.sb.nr_segments)
    }

    fn segment_of(&self, slot: Slot) -> Segment {
        slot.segment(self.sb.segment_blocks)
    }

    fn first_slot(&self, segment: Segment) -> Slot {
        segment.first_slot(self.sb.segment_blocks)
    }

    /// The first slot that no record has, if the head is not full.
    fn next_slot(&self) -> Slot {
        self.first_slot(self.head).plus(self.head_next)
    }

    /// The newest record.
    fn newest(&self) -> Seq {
        self.next_seq.before()
    }

    /// Highest sequence number of a record in a segment that is in use.
    fn last_seq(&self, segment: Segment) -> Seq {
        if segment == self.head {
            self.newest()
        } else {
            self.segments[self.next_segment(segment).index()].first_seq.before()
        }
    }

    /// Puts `entry`, which record `seq` holds in `slot`, into the index and the counts. Returns where the
    /// block was before.
    fn store(&mut self, slot: Slot, entry: Entry, seq: Seq) -> Was {
        let (head, segment_blocks) = (self.head, self.sb.segment_blocks);
        // The order of the log: it goes on after the last segment with the first one, and the segment behind
        // its head is its oldest.
        let place = |slot: Slot| (slot.segment(segment_blocks) <= head, slot);
        let own = place(slot);
        let newest = self.newest();
        let (segments, dirty) = (&mut self.segments, &mut self.dirty);
        self.checks.set_checksum(slot, entry.crc);
        segments[slot.segment(segment_blocks).index()].dirty += 1;
        *dirty += 1;
        let was = self.index.insert(
            slot,
            entry.addr,
            entry.mask,
            |other| place(other) > own,
            |o| {
                let s = &mut segments[o.slot.segment(segment_blocks).index()];
                // A slot of this record that was stored late may have been superseded by any record up to the
                // newest.
                s.superseded_by = s.superseded_by.max(if o.slot == slot { newest } else { seq });
                if o.dead && o.dirty {
                    s.dirty -= 1;
                    *dirty -= 1;
                }
            },
        );
        match was.map(|slot| &self.segments[self.segment_of(slot).index()]) {
            None => Was::Absent,
            Some(segment) if segment.buffer.is_some() => Was::InRam,
            Some(_) => Was::OnDevice,
        }
    }
}
