// SPDX-License-Identifier: GPL-2.0-only

//! Making room: writeback to the backing device in order of address, relocation of dirty slots to the head
//! when few slots of the oldest segments are dirty, and moving the tail.
//!
//! Writeback: [`Engine::begin_batch`], [`Engine::plan_writeback`], [`Batch::sort`], then by chunks:
//! [`Engine::begin_item`], read the items, [`Engine::holds_item`], write them to the backing device, flush
//! it, [`Engine::written_back`]. Relocation: [`Engine::plan_relocation`], [`Engine::begin_item`], read the
//! items, [`Engine::holds_item`], [`Engine::claim_relocation`], copy them, [`Engine::relocated`],
//! [`Engine::copied`]. Both end in [`Engine::advance_tail`]. One of a kind at a time; one writeback may run
//! beside one relocation.
//!
//! # Invariant: reclaim always gets on
//! Writes take free room, counted in blocks from the head to the tail, only down to [`RESERVED_SEGMENTS`].
//! The room below that is for relocation, in the head segment too. Relocation that is worth it leaves more
//! room than it found, and so ends. Where relocation is not worth it, writeback makes the room, and needs
//! none for that.

use super::log::{Claim, Wait};
use super::map::Span;
#[cfg(doc)]
use super::RESERVED_SEGMENTS;
use super::{Engine, Entry};
use crate::format::{Block, Checkpoint, Segment, Seq, Slot};
use crate::host::{OutOfMemory, Table};

/// Relocation is worth it when it costs at most this percentage of the room that it makes.
const WORTH_PERCENT: u64 = 90;

/// Segments without dirty slots that planning passes in one call, and segments that the tail passes for one
/// checkpoint. The lock is held meanwhile. Planning costs a few nanoseconds for each, so either takes some
/// microseconds, whatever the size of the cache.
const CLEAN_AT_ONCE: u32 = 256;
/// Neighbours of a run, on either side, that are written back along with it, at most; and items whose
/// neighbours are looked for in one call, with the lock held: some tens of microseconds if all of them are
/// found.
const NEIGHBOURS: u64 = 16;
const NEIGHBOURS_AT_ONCE: usize = 4;
const PASSED_AT_ONCE: u32 = 4096;

/// The verdict of [`Engine::judge_relocation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relocation {
    /// Relocation leaves more room than it found.
    MakesRoom,
    /// Nearly all is dirty, or there is no room to begin with: only writeback makes room.
    Useless,
    /// The tail does not wait for relocation but for a checkpoint or for something to become durable.
    Waits,
}

/// One dirty slot of a batch.
// Packed because there are many: 10 bytes each, 1.3 MB for a volume.
#[derive(Debug, Clone, Copy, Default)]
#[repr(Rust, packed(2))]
pub struct Item {
    /// Address, 40 bits, and mask.
    key_high: u16,
    key_low: u32,
    /// The slot.
    pub slot: Slot,
}

impl Item {
    fn new(addr: Block, mask: u8, slot: Slot) -> Self {
        let key = addr.0 << 8 | u64::from(mask);
        Self { key_high: (key >> 32) as u16, key_low: key as u32, slot }
    }

    /// A whole dirty block.
    #[cfg(test)]
    pub fn at(addr: u64, slot: Slot) -> Self {
        Self::new(Block(addr), 0xff, slot)
    }

    /// Address and mask, in this order so that sorting by it sorts by address.
    fn key(&self) -> u64 {
        u64::from(self.key_high) << 32 | u64::from(self.key_low)
    }

    /// Block number on the backing device.
    pub fn addr(&self) -> Block {
        Block(self.key() >> 8)
    }

    /// The sectors of the block that were live in the slot.
    #[allow(dead_code)] // For tests.
    pub fn mask(&self) -> u8 {
        self.key_low as u8
    }
}

/// When items were planned, as the sequence number of the next record then. The slots of the items may have
/// been used again since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned(Seq);

impl From<&Batch> for Planned {
    fn from(batch: &Batch) -> Self {
        batch.planned
    }
}

/// Dirty slots of the oldest segments.
#[derive(Debug)]
pub struct Batch {
    items: Table<Item>,
    len: usize,
    first: Segment,
    next: Segment,
    segments: u32,
    /// Segments from the tail to the first.
    skipped: u32,
    planned: Planned,
    /// Items that are sorted, and those of them whose neighbours were looked for.
    sorted: usize,
    looked: usize,
}

impl Batch {
    /// A batch with room for `slots` items.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(slots: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            items: Table::new(slots, |_| Item::default())?,
            len: 0,
            first: Segment(0),
            next: Segment(0),
            segments: 0,
            skipped: 0,
            planned: Planned::default(),
            sorted: 0,
            looked: 0,
        })
    }

    /// The items.
    pub fn items(&self) -> &[Item] {
        &self.items[..self.len]
    }

    /// Keeps the items for which `f` returns true, in their order. `f` is also given the batch.
    pub fn retain(&mut self, mut f: impl FnMut(&Batch, &Item) -> bool) {
        let mut kept = 0;
        for i in 0..self.len {
            let item = self.items[i];
            if f(self, &item) {
                self.items[kept] = item;
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Number of segments all of whose dirty slots are in the batch; when the log has failed, all of whose
    /// durable ones are.
    #[allow(dead_code)] // For tests.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// The segments that planning has passed.
    pub fn span(&self) -> Span {
        Span { first: self.first, count: self.segments }
    }

    /// Sorts by address on the backing device.
    pub fn sort(&mut self) {
        sort(&mut self.items[..self.len]);
        (self.sorted, self.looked) = (self.len, 0);
    }
}

/// Sorts by address: a heapsort. The sort of the standard library takes half a kilobyte of stack for each
/// level that it descends, and there may be more levels than a kernel's stack holds, above all when most of
/// the items are sorted already.
fn sort(items: &mut [Item]) {
    /// Lets the item at the root of a heap, which may be misplaced, sink to where it belongs.
    fn sink(heap: &mut [Item], mut root: usize) {
        loop {
            let left = 2 * root + 1;
            if left >= heap.len() {
                return;
            }
            let right_is_more = left + 1 < heap.len() && heap[left + 1].key() > heap[left].key();
            let child = left + usize::from(right_is_more);
            if heap[root].key() >= heap[child].key() {
                return;
            }
            heap.swap(root, child);
            root = child;
        }
    }
    (0..items.len() / 2).rev().for_each(|root| sink(items, root));
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sink(&mut items[..end], 0);
    }
}

impl Engine {
    /// How many segments the tail has to pass to get to this one.
    pub(super) fn behind_tail(&self, segment: Segment) -> u32 {
        segment.since(self.tail, self.sb.nr_segments)
    }

    /// Empties the batch; planning begins at the tail.
    pub fn begin_batch(&self, batch: &mut Batch) {
        batch.len = 0;
        batch.segments = 0;
        batch.first = self.tail;
        batch.next = self.tail;
        batch.skipped = 0;
        (batch.sorted, batch.looked) = (0, 0);
        batch.planned = Planned(self.next_seq);
    }

    /// Empties the batch; planning goes on behind the segments that were planned last, for which writeback is
    /// under way. If the tail has passed these segments, planning begins at the tail.
    pub fn continue_batch(&self, batch: &mut Batch) {
        let next = batch.next;
        self.begin_batch(batch);
        let skipped = self.behind_tail(next);
        if skipped <= self.in_log() {
            (batch.first, batch.next, batch.skipped) = (next, next, skipped);
        }
    }

    /// Passes up to [`CLEAN_AT_ONCE`] segments without dirty slots, and adds all dirty slots of the segment
    /// behind them to the batch. Returns whether it passed any segment.
    fn plan_segments(&self, batch: &mut Batch, last: Seq, with_head: bool) -> bool {
        let planned = batch.len;
        // In a failed log each slot is looked at.
        let most = if self.failed { CLEAN_AT_ONCE / 8 } else { CLEAN_AT_ONCE };
        for i in 0..most {
            if !self.plan_segment(batch, last, with_head) {
                return i != 0;
            }
            if batch.len != planned {
                break;
            }
        }
        true
    }

    /// Adds all dirty slots of the next segment to the batch, if the segment is durable and begins with
    /// record `last` at the latest, and the batch has room for them. Returns whether it did.
    ///
    /// When the log has failed, some record will never be durable. Of the segment of that record, the slots
    /// before it are added.
    fn plan_segment(&self, batch: &mut Batch, last: Seq, with_head: bool) -> bool {
        let segment = batch.next;
        if batch.skipped + batch.segments >= self.in_log()
            || (segment == self.head && !with_head)
            || self.segments[segment.index()].first_seq > last
            // Opened since the batch was begun: its new content would be taken for what the segment held
            // then.
            || self.segments[segment.index()].first_seq >= batch.planned.0
        {
            return false;
        }
        let (first, end) = (self.first_slot(segment), self.durable_end(segment));
        let blocks = end.since(first);
        let dirty = self.segments[segment.index()].dirty;
        let most = if self.failed { blocks } else { dirty.into() };
        if (blocks != self.sb.segment_blocks && !self.failed)
            || blocks == 0
            || most as usize > batch.items.len() - batch.len
        {
            return false;
        }
        // When the log has failed, a block that relocation has moved out of a segment may still be dirty
        // there.
        if dirty != 0 || self.failed {
            for slot in Slot::each(first..end) {
                let (addr, mask) = self.unwritten(slot);
                if mask != 0 {
                    batch.items[batch.len] = Item::new(addr, mask, slot);
                    batch.len += 1;
                }
            }
        }
        batch.segments += 1;
        batch.next = self.next_segment(segment);
        true
    }

    /// The slot behind the last durable record of a segment that is in use: the end of the segment, if all
    /// its records are durable.
    fn durable_end(&self, segment: Segment) -> Slot {
        if self.last_seq(segment) <= self.durable {
            self.first_slot(segment).plus(self.sb.segment_blocks)
        } else if self.segments[segment.index()].first_seq > self.durable {
            self.first_slot(segment)
        } else {
            self.records[self.durable.next().in_window()].first
        }
    }

    /// Block number and sectors of what the durable slot holds and only the cache device has.
    ///
    /// When the log has failed, a block that relocation has moved may never be durable in its new place. Then
    /// it counts as still being here.
    fn unwritten(&self, slot: Slot) -> (Block, u8) {
        let (addr, live, dirty) = self.index.get(slot);
        if live != 0 && dirty {
            return (addr, live);
        }
        let left = self.index.moved_to(slot).filter(|&to| {
            self.failed && to >= self.durable_end(self.segment_of(to)) && !self.index.is_lost(to)
        });
        match left.map(|to| self.index.get(to)) {
            Some((to_addr, live, true)) if to_addr == addr => (addr, live),
            _ => (addr, 0),
        }
    }

    /// Adds the dirty slots of the next segment that has some to a batch for writeback, if the segment begins
    /// with record `last` at the latest. Returns whether there may be more: call until not. The lock may be
    /// released in between.
    pub fn plan_writeback(&self, batch: &mut Batch, last: Seq) -> bool {
        self.plan_segments(batch, last, true)
    }

    /// Adds to a sorted batch for writeback the dirty and durable slots of younger segments whose blocks lie
    /// beside its items on the backing device. A device that seeks writes these along at next to no cost, and
    /// they need not be written later. Leaves out segments that begin with a record behind `last`. Returns
    /// whether there may be more: call until not, then sort again. The lock may be released in between.
    pub fn plan_neighbours(&self, batch: &mut Batch, last: Seq) -> bool {
        if self.failed {
            return false;
        }
        let end = batch.sorted.min(batch.looked + NEIGHBOURS_AT_ONCE);
        for i in batch.looked..end {
            let addr = batch.items[i].addr();
            let before = if i == 0 { None } else { Some(batch.items[i - 1].addr()) };
            let behind = if i + 1 == batch.sorted { None } else { Some(batch.items[i + 1].addr()) };
            if before != Some(addr) {
                // Behind the neighbours of the item before.
                let first = before.map_or(Block(0), |before| before.plus(NEIGHBOURS + 1));
                let mut at = addr;
                while at > first
                    && addr.since(at) < NEIGHBOURS
                    && self.plan_neighbour(batch, at.before(), last)
                {
                    at = at.before();
                }
            }
            let most = behind.unwrap_or(Block::MAX).min(addr.plus(NEIGHBOURS + 1));
            let mut at = addr.next();
            while at < most && self.plan_neighbour(batch, at, last) {
                at = at.next();
            }
        }
        batch.looked = end;
        end < batch.sorted
    }

    /// Adds the dirty and durable slots of a block, as [`Engine::plan_neighbours`] says. Returns whether
    /// there were any.
    fn plan_neighbour(&self, batch: &mut Batch, addr: Block, last: Seq) -> bool {
        let planned = batch.len;
        self.index.find(addr, |slot, live| {
            let segment = self.segment_of(slot);
            let s = &self.segments[segment.index()];
            let (_, _, dirty) = self.index.get(slot);
            // The slots of segments that planning has passed are in the batch, or in an earlier one that is
            // under way.
            let is_young = self.behind_tail(segment) >= batch.skipped + batch.segments;
            let is_left = live != 0 && dirty && is_young && !self.index.is_lost(slot);
            let is_wanted = is_left && s.first_seq <= last && slot < self.durable_end(segment);
            if is_wanted && batch.len < batch.items.len() {
                batch.items[batch.len] = Item::new(addr, live, slot);
                batch.len += 1;
            }
        });
        batch.len != planned
    }

    /// Adds the dirty slots of the next segment that has some to a batch for relocation. Returns whether
    /// there may be more: call until not, then ask [`Engine::judge_relocation`]. The lock may be released in
    /// between.
    pub fn plan_relocation(&self, batch: &mut Batch) -> bool {
        self.plan_segments(batch, Seq::MAX, false)
    }

    /// Whether relocating the batch makes room.
    pub fn judge_relocation(&self, batch: &Batch) -> Relocation {
        if self.failed || batch.len == 0 || self.segments[self.tail.index()].dirty == 0 {
            return Relocation::Waits;
        }
        // Judged for the batch, and for the log as a whole. The whole log counts because a stretch in which
        // all is dirty costs as much room as it makes, and other stretches lie behind it.
        if !self.is_worth(batch.len as u64, batch.segments) && !self.is_worth(self.dirty, self.in_log()) {
            return Relocation::Useless;
        }
        // The first record uses the room of the head; each segment that is opened has room for all but a
        // header.
        let room = self.sb.segment_blocks.saturating_sub(self.head_next + 1) as usize;
        let opened = batch.len.saturating_sub(room).div_ceil(self.sb.segment_blocks as usize - 1);
        if opened as u32 >= self.free_segments() {
            return Relocation::Useless;
        }
        Relocation::MakesRoom
    }

    /// Whether moving `dirty` slots out of `segments` segments makes enough room. Headers are included: each
    /// segment's worth of blocks may need two, because it rarely begins where a segment does.
    fn is_worth(&self, dirty: u64, segments: u32) -> bool {
        let segment = u64::from(self.sb.segment_blocks);
        let cost = dirty + 2 * dirty.div_ceil(segment - 1);
        cost * 100 <= u64::from(segments) * segment * WORTH_PERCENT
    }

    /// Whether the item's slot still holds what it held when the item was planned: its segment may have been
    /// reclaimed and opened again since. To be asked after the item was read and compared with its checksum,
    /// which is that of other data if the segment was opened again.
    pub fn holds_item(&self, planned: impl Into<Planned>, item: &Item) -> bool {
        self.segments[self.segment_of(item.slot).index()].first_seq < planned.into().0
    }

    /// Begins work on an item: the sectors that are still live and dirty in its slot. `None` when there is
    /// nothing left to do for it. Nothing keeps the slot as it is until it is read: see
    /// [`Engine::holds_item`].
    pub fn begin_item(&self, planned: impl Into<Planned>, item: &Item) -> Option<u8> {
        if !self.holds_item(planned, item) {
            return None;
        }
        let (_, mask) = self.unwritten(item.slot);
        (mask != 0).then_some(mask)
    }

    /// The sectors that [`Engine::begin_item`] returned are on the backing device, which was flushed since.
    pub fn written_back(&mut self, planned: impl Into<Planned>, item: &Item) {
        let planned = planned.into();
        let first = item.slot;
        let mut slot = first;
        loop {
            let segment = self.segment_of(slot);
            // The slots that follow in the chain of moves were opened later, and so will be opened again
            // later.
            if slot == first && !self.holds_item(planned, item) {
                return;
            }
            // The live mask can only have shrunk since, so all live sectors were written.
            if self.index.mark_clean(slot) {
                self.segments[segment.index()].dirty -= 1;
                self.dirty -= 1;
                return;
            }
            match self.index.moved_to(slot) {
                Some(to) => slot = to,
                None => return,
            }
        }
    }

    /// Claims room for relocating up to `blocks` (at least 1) blocks, in a record of their own. Copy their
    /// data into the buffer, then call [`Engine::relocated`] for each and [`Engine::copied`].
    ///
    /// The record must come after all writes that are claimed, for it holds older data than they do. So it
    /// needs a moment without writers. If there are writers, this stops further claims, and the caller tries
    /// again.
    ///
    /// # Errors
    /// [`Wait::Progress`]: try again after progress, or call [`Engine::cancel_relocation`]. [`Wait::Space`]:
    /// cancel, for the wait may never end.
    pub fn claim_relocation(&mut self, blocks: u32) -> Result<Claim, Wait> {
        self.close();
        self.paused = true;
        if self.failed || self.has_writers() || self.is_window_full() {
            return Err(Wait::Progress);
        }
        if self.head_is_full() {
            let buffer = self.free_buffer().ok_or(Wait::Progress)?;
            self.open_segment(buffer)?;
        }
        self.paused = false;
        Ok(self.start_relocation(blocks))
    }

    /// Lets claims go on that [`Engine::claim_relocation`] has stopped.
    pub fn cancel_relocation(&mut self) {
        self.paused = false;
    }

    /// Block `slot` of the claim now holds a copy of the item's block: the sectors that are still live and
    /// dirty move there. None do when the item's segment was opened again meanwhile, perhaps by this very
    /// claim. Returns whether any do.
    ///
    /// With `lost`, the item cannot be read any more, and the copy is something else that has this checksum,
    /// made by [`Entry::lost`]: its sectors stay dirty and unreadable until they are written again, but the
    /// tail can pass.
    pub fn relocated(
        &mut self,
        claim: &Claim,
        slot: Slot,
        batch: &Batch,
        item: &Item,
        lost: Option<u32>,
    ) -> bool {
        let (addr, live, dirty) = self.index.get(item.slot);
        if live == 0 || !dirty || !self.holds_item(batch, item) {
            self.index.insert_nothing(slot);
            return false;
        }
        let crc = lost.unwrap_or_else(|| self.checks.checksum(item.slot));
        self.store(slot, Entry { addr, mask: live, crc }, claim.seq);
        if lost.is_some() {
            self.index.set_lost(slot);
        }
        self.index.set_moved(item.slot, slot);
        true
    }

    /// The number of the record that begins a segment of the log, if it is known durable: its header is
    /// there, unless the cache device has lost it. For other segments it is not known what they begin with.
    pub fn record_at(&self, segment: Segment) -> Option<Seq> {
        let first_seq = self.segments.get(segment.index())?.first_seq;
        (self.behind_tail(segment) < self.in_log() && first_seq <= self.durable).then_some(first_seq)
    }

    /// Moves the tail over all segments that hold nothing dirty. Returns the checkpoint that says so: write
    /// it with FUA, then call [`Engine::checkpointed`]. `None` when the tail does not move or a checkpoint is
    /// under way. If the newest checkpoint is lost, there is one also when the tail does not move.
    ///
    /// With `whole`, an idle head segment is passed too: a drained log is empty. There may be more segments
    /// to pass than one checkpoint covers: call again when it is durable.
    pub fn advance_tail(&mut self, whole: bool) -> Option<Checkpoint> {
        if self.freeing.is_some() || self.failed {
            return None;
        }
        let mut freeing = 0;
        while freeing < self.used.min(PASSED_AT_ONCE) {
            let s = self.segments[self.tail.index()];
            let is_head = self.tail == self.head;
            // A head that is not idle has a record that is not durable.
            if s.dirty != 0 || self.last_seq(self.tail) > self.durable || (is_head && !whole) {
                break;
            }
            if s.superseded_by > self.durable {
                self.want(s.superseded_by);
                break;
            }
            if is_head {
                self.head_next = self.sb.segment_blocks;
            }
            freeing += 1;
            self.tail_seq = self.last_seq(self.tail).next();
            self.tail = self.next_segment(self.tail);
        }
        if freeing == 0 && !self.places.is_lost {
            return None;
        }
        self.freeing = Some(freeing);
        Some(self.next_checkpoint())
    }

    /// A checkpoint that frees nothing but says how far the log is durable, so that a replay knows where the
    /// log must not end; and another one, if only one slot says so. Write it with FUA, then call
    /// [`Engine::checkpointed`]. `None` when two slots say so already, which are those of
    /// [`Engine::forgive_slots`] if possible, or a checkpoint is under way.
    pub fn note_durable(&mut self) -> Option<Checkpoint> {
        // Two slots must say so, for the newest checkpoint may rot. By an older checkpoint, blocks that were
        // written back would be dirty again, though the backing device may have been used by itself since; or
        // the log would begin where it does not any more.
        let is_told = self.told == [(self.tail_seq, self.durable); 2] && !self.places.leads_home();
        if self.freeing.is_some() || self.failed || is_told {
            return None;
        }
        self.freeing = Some(0);
        Some(self.next_checkpoint())
    }

    /// The checkpoint of this moment. The previous one is durable, or there is none.
    pub(super) fn next_checkpoint(&mut self) -> Checkpoint {
        self.generation += 1;
        self.noted = self.durable;
        self.older_tail = self.told[1].0;
        self.told = [(self.tail_seq, self.durable), self.told[0]];
        self.places.begin(self.generation);
        self.newest_checkpoint()
    }

    /// The checkpoint is durable (`ok`), or writing it failed. Then nothing is freed and the log has failed.
    pub fn checkpointed(&mut self, ok: bool) {
        if !ok {
            // Segments that it would have freed stay in use and behind the tail, as while it was under way.
            self.failed = true;
        } else if let Some(n) = self.freeing.take() {
            self.used -= n;
            // The tail has not moved since: there is one checkpoint at a time.
            self.durable_tail = self.tail_seq;
        }
    }

    /// Whether all records up to `goal` have left the log: they will not be replayed, even after a power cut.
    /// The tail alone does not say this, for the checkpoint with this tail may still be under way, and fail.
    pub fn has_left_log(&self, goal: Seq) -> bool {
        self.durable_tail > goal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Secret;
    use crate::format::Superblock;

    #[test]
    fn a_batch_is_sorted() {
        let mut lot = 1u64;
        for len in [0, 1, 2, 3, 10, 1000] {
            let mut items: std::vec::Vec<_> = (0..len)
                .map(|slot| {
                    lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    Item::new(Block(lot >> 33 & 0x1ff), (lot >> 24) as u8, Slot(slot))
                })
                .collect();
            // In any order, and once more, with some that are behind the others.
            for _ in 0..2 {
                let mut wanted = items.clone();
                wanted.sort_by_key(|item| (item.key(), item.slot));
                sort(&mut items);
                let keys = |items: &[Item]| items.iter().map(Item::key).collect::<std::vec::Vec<_>>();
                assert_eq!(keys(&items), keys(&wanted));
                let mut slots: std::vec::Vec<_> = items.iter().map(|item| item.slot).collect();
                slots.sort();
                assert!(slots.iter().zip(0..).all(|(&slot, i)| slot == Slot(i)), "each is still there");
                let some = items.len() / 10;
                items.rotate_left(some);
            }
        }
    }

    #[test]
    fn relocation_is_worth_a_tenth_of_the_room_that_it_reads() {
        // Blocks of a segment, segments, and how many dirty slots in them may be.
        for (blocks, segments, most) in
            [(16, 1, 12), (16, 5, 62), (16, 8, 101), (128, 8, 905), (128, 100, 11_340)]
        {
            let sb = Superblock::new(1 << 30, 1 << 30, blocks, [0; 16], 1).unwrap();
            let sb = Superblock { nr_segments: 100, ..sb };
            let e = Engine::empty(&sb, 1, Secret::new([1, 2])).unwrap();
            let found = (0..).take_while(|&dirty| e.is_worth(dirty, segments)).count() as u64 - 1;
            assert_eq!(found, most, "{segments} segments of {blocks} blocks");
        }
    }
}
