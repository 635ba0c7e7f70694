// SPDX-License-Identifier: GPL-2.0-only

//! Writeback while nothing fails: several parts are under way at a time.
//!
//! While some parts are written the next ones are read. How long they are, and how many are written at a
//! time, depends on what the backing device makes of that ([`Flow`]). The device is flushed now and then,
//! while writeback goes on, and not for each part.
//!
//! When anything fails this ends, and nothing is called clean that was not clean by then. The same items are
//! then written back one part after the other until it is known what fails.
//!
//! # Invariants
//! - A block is called clean only if all of its part had been written when the flush was sent, and nothing
//!   has failed since before it was written, of all that was sent before that flush returned. A device that
//!   is reset may flush well after that, and the error of another write may be all that tells of the reset.
//! - No two writes to the same sectors are under way. Items that were planned together have different
//!   sectors. An item that was planned later may be newer, and waits until all of the earlier plan is
//!   written.
//! - When the stream ends, nothing is under way.

use super::{add_one, Pass, Tick, Tools, AT_ONCE};
use crate::engine::checks::Verdict;
use crate::engine::flight::Trust;
use crate::engine::reclaim::{Batch, Item, Planned};
use crate::format::Seq;
use crate::host::{boxed, mutex, now_ms, Arc, Box, Event, List, Mutex, Result, Sleep, Table};
use crate::policy::pace::segments_for;
use crate::policy::room::{Room, Wake};
use crate::policy::writeback::{
    is_flush_due, part_end, parts_of, unit_of, whole_units, Flow, Lanes, Stage, UnderWay, MOST_PARTS, PART,
};
use crate::volume::{OwnTransfer, Transfer, Volume};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Blocks that a flush can be for, at most: so many times the blocks of the parts that there always is memory
/// for, and 16 MiB at least.
const UNFLUSHED: usize = 8;
const LEAST_UNFLUSHED: usize = 1 << 12;
/// When nothing was written back for so long, in milliseconds, memory for parts is given back, but for what
/// is always kept.
const KEPT_MS: u64 = 10_000;
/// Plans that a flush can be for, at most.
const PLANS: usize = 8;
/// How often the stream looks whether it is to stop, in milliseconds.
const LOOK_MS: u32 = 100;

/// A part, and the memory for it.
pub(in crate::volume) struct Lane {
    pub(super) transfer: OwnTransfer,
    items: Table<Item>,
    /// The sectors of each item that are written.
    live: Table<u8>,
    len: usize,
    planned: Planned,
    sent_ms: u64,
    /// Parts that were being written when this one was sent.
    others: usize,
}

impl Lane {
    fn new(blocks: usize, transfer: OwnTransfer) -> Result<Self> {
        Ok(Self {
            transfer,
            items: Table::new(blocks, |_| Item::default())?,
            live: Table::new(blocks, |_| 0)?,
            len: 0,
            planned: Planned::default(),
            sent_ms: 0,
            others: 0,
        })
    }
}

/// Memory for one part more, allocated by a thread that may wait for memory. The writeback thread must not,
/// for memory may wait for writeback.
pub(in crate::volume) struct Pantry {
    wanted: AtomicBool,
    /// There was no memory, and the writeback thread does not ask again before this time.
    until_ms: AtomicU64,
    lane: Mutex<Option<Lane>>,
    /// The event that all parts of the volume share.
    landed: Arc<Event>,
}

impl Pantry {
    pub(in crate::volume) fn new() -> Result<Self> {
        Ok(Self {
            wanted: AtomicBool::new(false),
            until_ms: AtomicU64::new(0),
            lane: mutex!(None, "writeboost_pantry")?,
            landed: Transfer::event()?,
        })
    }

    /// An event that writeback may wait for has happened.
    pub(in crate::volume) fn notify(&self) {
        self.landed.notify();
    }
}

/// Items that are written, and clean as soon as the device is flushed.
struct Unflushed {
    items: Table<Item>,
    len: usize,
    /// When the items were planned, and where those of the next plan begin.
    plans: Table<(Planned, usize)>,
    nr_plans: usize,
    since_ms: u64,
}

impl Unflushed {
    /// Has room for so many blocks.
    fn new(blocks: usize) -> Result<Self> {
        let items = Table::new(blocks, |_| Item::default())?;
        let plans = Table::new(PLANS, |_| Default::default())?;
        Ok(Self { items, len: 0, plans, nr_plans: 0, since_ms: 0 })
    }

    fn clear(&mut self) {
        (self.len, self.nr_plans) = (0, 0);
    }

    fn is_full(&self) -> bool {
        self.room() < PART || self.nr_plans == PLANS
    }

    fn room(&self) -> usize {
        self.items.len().saturating_sub(self.len)
    }

    /// Adds what the lane has written, if there is room. Returns whether there was.
    fn add(&mut self, lane: &Lane) -> bool {
        let newest = self.plans[..self.nr_plans].last();
        let is_new = newest.is_none_or(|&(planned, _)| planned != lane.planned);
        if self.room() < lane.len || (is_new && self.nr_plans == PLANS) {
            return false;
        }
        self.nr_plans = self.nr_plans.saturating_add(is_new.into());
        if self.len == 0 {
            self.since_ms = now_ms();
        }
        for k in (0..lane.len).filter(|&k| lane.live[k] != 0) {
            self.items[self.len] = lane.items[k];
            self.len = self.len.saturating_add(1);
        }
        if let Some(newest) = self.plans[..self.nr_plans].last_mut() {
            *newest = (lane.planned, self.len);
        }
        true
    }
}

/// What the stream needs; allocated once.
pub(super) struct Stream {
    pub(super) lanes: List<Lane>,
    /// The stage of each lane.
    stages: Lanes,
    landed: Arc<Event>,
    flush: OwnTransfer,
    trust: Trust,
    under_way: UnderWay,
    unflushed: Unflushed,
    /// The items of the flush that is under way.
    flushing: Unflushed,
    /// The flush has returned, and the stream awaits the parts that were under way then: bits by number.
    flushed: bool,
    awaited: u64,
    /// Number of writes around the cache that had begun by then.
    bypasses: u64,
    flush_sent_ms: u64,
    flush_ms: u64,
    flow: Flow,
    /// Parts that there always is memory for, and when the memory for others was last of use.
    kept: usize,
    used_ms: u64,
    /// Blocks of the unit that the backing device likes to be written as a whole.
    unit: u64,
    plan: u32,
    first_plan: u32,
    /// The next item of the batch.
    at: usize,
    /// There is nothing more to plan.
    planned_all: bool,
    failed: bool,
}

/// How the stream has ended.
pub(super) enum End {
    /// There was nothing to write back.
    Nothing,
    /// All of it is written back, or, with `false`, it was time to stop.
    Over(bool),
    /// Something has failed.
    Failed,
}

/// What is to be written back.
pub(super) struct Aim {
    /// Background writeback: it neither has to run, nor is it for a drain.
    pub(super) early: bool,
    /// The newest record to be written back.
    pub(super) last: Seq,
    /// Only one plan is to be written back now.
    pub(super) once: bool,
    /// Segments that are planned together; without a number, as many as can be written within a bounded time.
    pub(super) most: Option<u32>,
}

impl Stream {
    // Boxed and not inlined: it is large for the stack.
    #[inline(never)]
    pub(super) fn new(volume: &Volume) -> Result<Box<Self>> {
        let (nr, part) = parts_of(volume.state().nr_slots);
        let unit = unit_of(&volume.disks.backing.limits(), part);
        let mut lanes = List::with_capacity(nr.max(MOST_PARTS))?;
        for _ in 0..nr {
            lanes.push(Lane::new(part, volume.transfer_for_writeback(part)?)?)?;
        }
        let unflushed = nr.saturating_mul(part).saturating_mul(UNFLUSHED).max(LEAST_UNFLUSHED);
        let stream = Self {
            kept: nr,
            lanes,
            stages: Lanes::new(nr, MOST_PARTS)?,
            landed: volume.pantry.landed.clone(),
            flush: volume.transfer_for_writeback(1)?,
            trust: Trust::new(volume.disks.backing_doubts.clone()),
            under_way: UnderWay::new(volume.state().nr_slots)?,
            unflushed: Unflushed::new(unflushed)?,
            flushing: Unflushed::new(unflushed)?,
            flushed: false,
            awaited: 0,
            bypasses: 0,
            flush_sent_ms: 0,
            flush_ms: 0,
            flow: Flow::new((nr, part)),
            used_ms: 0,
            unit,
            plan: 0,
            first_plan: 0,
            at: 0,
            planned_all: false,
            failed: false,
        };
        boxed(stream)
    }

    /// Gives back some of the memory that was not of use lately. Nothing may be under way.
    pub(super) fn shrink(&mut self) {
        if self.lanes.len() > self.kept && now_ms().saturating_sub(self.used_ms) >= KEPT_MS {
            drop(self.lanes.pop());
            self.stages.remove();
            self.flow.set_most(self.lanes.len());
        }
    }

    /// Blocks that a part can have.
    pub(super) fn longest(&self) -> usize {
        self.lanes[0].items.len()
    }

    /// Blocks of the unit that the backing device likes to be written as a whole.
    pub(super) fn unit(&self) -> u64 {
        self.unit
    }

    /// Parts that are yet to be written: bits by number.
    fn busy(&self) -> u64 {
        [Stage::Reading, Stage::Ready, Stage::Writing]
            .iter()
            .fold(0, |busy, &stage| busy | self.stages.mask(stage))
    }

    /// Whether one of the parts `busy` writes the item's block once more, for a later plan. Then the earlier
    /// item is clean when the later one is, for a write that fails may leave nothing of the block.
    fn is_under_way_again(&self, busy: u64, planned: Planned, item: &Item) -> bool {
        let later = (0..)
            .zip(self.lanes.iter())
            .filter(|(i, lane)| busy & 1u64.wrapping_shl(*i) != 0 && lane.planned != planned);
        later.into_iter().any(|(_, lane)| {
            let items = &lane.items[..lane.len];
            items.binary_search_by_key(&item.addr(), Item::addr).is_ok()
        })
    }

    /// Lanes in this stage become free: their items stay dirty.
    fn leave(&mut self, stage: Stage) {
        for i in 0..self.stages.len() {
            if self.stages.stage(i) == stage {
                self.stages.set(i, Stage::Free);
            }
        }
    }

    /// Begins when nothing is under way: items that are not clean count as not written.
    fn begin(&mut self) {
        self.trust.renew();
        self.under_way.end_all();
        self.unflushed.clear();
        self.flushing.clear();
        self.flow.begin(now_ms());
        (self.at, self.planned_all, self.failed) = (0, false, false);
        (self.flushed, self.first_plan) = (false, self.plan);
    }
}

impl Volume {
    /// A transfer of so many blocks.
    fn transfer_for_writeback(&self, blocks: usize) -> Result<OwnTransfer> {
        let (written, landed) = (self.written_back.clone(), self.pantry.landed.clone());
        Transfer::counting(&self.disks, blocks, written, landed)
    }

    /// Waits until all writes that go around the cache now have returned.
    pub(super) fn wait_for_bypasses(&self) {
        let begun = self.bypass.begun();
        loop {
            let seen = self.pantry.landed.count();
            if self.bypass.have_ended(begun) {
                return;
            }
            let _ = self.pantry.landed.wait(seen, LOOK_MS, Sleep::Busy);
        }
    }

    /// Allocates the memory for one part more, if that is wanted. For a thread that nothing waits for: memory
    /// may wait for writeback.
    pub(in crate::volume) fn stock_up(&self) {
        if !self.pantry.wanted.swap(false, Ordering::Acquire) {
            return;
        }
        let (_, part) = parts_of(self.state().nr_slots);
        match self.transfer_for_writeback(part).and_then(|transfer| Lane::new(part, transfer)) {
            Ok(lane) => {
                *self.pantry.lane.lock() = Some(lane);
                self.pantry.landed.notify();
            }
            // Without that memory, writeback goes on as before.
            Err(_) => self.pantry.until_ms.store(now_ms().saturating_add(KEPT_MS), Ordering::Relaxed),
        }
    }

    /// Takes the memory for one part more, if there is some. If there is none, asks for it.
    fn grow(&self, s: &mut Stream) {
        if !s.flow.wants_more() || s.lanes.len() >= MOST_PARTS {
            return;
        }
        // The thread that allocates does not sleep with the mutex. If that thread holds it now, the lane is
        // taken next time.
        let Some(lane) = self.pantry.lane.try_lock().and_then(|mut lane| lane.take()) else {
            let may_ask = now_ms() >= self.pantry.until_ms.load(Ordering::Relaxed);
            if may_ask && !self.pantry.wanted.swap(true, Ordering::Release) {
                self.wake(Wake::ALARM);
            }
            return;
        };
        // There is room for `MOST_PARTS` lanes.
        if s.lanes.push_within_capacity(lane).is_ok() && s.stages.add() {
            s.flow.set_most(s.lanes.len());
        }
    }

    /// Writes back what is dirty until there is nothing more, it is time to stop, or something fails.
    pub(super) fn stream(&self, tools: &mut Tools, tick: &mut Tick, aim: &Aim, pass: &mut Pass) -> End {
        let Tools { batch, stream: s, .. } = tools;
        s.begin();
        self.core.lock().engine.begin_batch(batch);
        let mut any = false;
        let mut stops = false;
        loop {
            let seen = s.landed.count();
            self.tick(tick);
            self.reap(s, pass);
            self.grow(s);
            stops |= s.failed || pass.unreadable != 0 || pass.parts || self.stops_stream(tick, aim.early);
            if !stops {
                any |= self.feed(s, batch, aim);
            } else {
                s.leave(Stage::Ready);
            }
            let is_end = s.stages.is_idle() && (stops || s.planned_all);
            if self.flush_stream(s, is_end) {
                // With the flush sent, the list has room for other parts.
                continue;
            }
            if is_end && s.flushing.len == 0 && (s.failed || s.unflushed.len == 0) {
                break;
            }
            let _ = s.landed.wait(seen, LOOK_MS, Sleep::Busy);
        }
        s.leave(Stage::Written);
        s.used_ms = now_ms();
        match (any, s.failed) {
            (false, _) => End::Nothing,
            (_, true) => End::Failed,
            _ => End::Over(!stops),
        }
    }

    fn stops_stream(&self, tick: &Tick, early: bool) -> bool {
        // Under a limit, writeback goes part by part.
        self.ends_pass(tick, early) || (self.policy().limit.is_some() && !self.has_to_write_back())
    }

    /// Takes note of all I/O that has returned.
    fn reap(&self, s: &mut Stream, pass: &mut Pass) {
        let now = now_ms();
        for (i, lane) in s.lanes.iter_mut().enumerate() {
            let stage = s.stages.stage(i);
            if stage == Stage::Reading && lane.transfer.is_over() {
                let any = self.is_read(lane, &mut s.under_way, pass);
                s.stages.set(i, if any { Stage::Ready } else { Stage::Free });
            }
            if stage == Stage::Writing && lane.transfer.is_over() {
                s.flow.returned(lane.len, lane.others, now.saturating_sub(lane.sent_ms), now);
                // A bypass writes from the user's memory, which may change meanwhile, for the volume says
                // that it copies data at once. A device with `stable_writes` does not allow that.
                let bypass = s.flow.is_wide() && !self.disks.backing.limits().stable_writes;
                self.flags.wide.store(bypass, Ordering::Relaxed);
                s.stages.set(i, Stage::Written);
                if let Some(k) = (0..lane.len).find(|&k| !lane.transfer.is_ok(k)) {
                    self.writeback_failed(lane.items[k].addr());
                    add_one(&mut pass.failed);
                    s.failed = true;
                } else {
                    add_one(&mut pass.written);
                }
            }
            if s.stages.stage(i) == Stage::Written && (s.failed || s.unflushed.add(lane)) {
                s.stages.set(i, Stage::Free);
            }
        }
        let writing = s.stages.mask(Stage::Writing);
        if s.flushing.len != 0 && !s.flushed && s.flush.is_over() {
            (s.flushed, s.awaited, s.bypasses) = (true, writing, self.bypass.begun());
            s.flush_ms = now.saturating_sub(s.flush_sent_ms);
            let ok = s.flush.is_ok(s.flush.flush_tag());
            if !ok {
                self.writeback_failed(s.flushing.items[0].addr());
                add_one(&mut pass.failed);
            }
            s.failed |= !ok;
        }
        // The only sign of a reset may be the error of a part that was under way beside the flush.
        s.awaited &= writing;
        if s.flushed && (s.failed || (s.awaited == 0 && self.bypass.have_ended(s.bypasses))) {
            s.failed |= s.trust.is_suspect();
            if !s.failed {
                self.clean(s, pass);
            }
            s.flushing.clear();
            s.flushed = false;
        }
    }

    /// The lane's items are in memory: those that are not what they were are left out. Returns whether any is
    /// left.
    fn is_read(&self, lane: &mut Lane, under_way: &mut UnderWay, pass: &mut Pass) -> bool {
        let (items, live) = (&lane.items[..lane.len], &lane.live);
        self.read_rows_again(&lane.transfer, items.iter().enumerate().filter(|&(k, _)| live[k] != 0));
        let mut any = false;
        let unit = self.disks.backing.block_sectors();
        for k in 0..lane.len {
            if lane.live[k] == 0 {
                continue;
            }
            if whole_units(lane.live[k], unit) != lane.live[k] {
                // The rest of the block has to be read first.
                lane.live[k] = 0;
                pass.parts = true;
            } else {
                match self.judge_item(&lane.transfer, k, lane.planned, &lane.items[k]) {
                    Verdict::Intact => (),
                    Verdict::Gone => {
                        lane.live[k] = 0;
                        under_way.end(lane.items[k].slot);
                    }
                    Verdict::Wrong => {
                        lane.live[k] = 0;
                        add_one(&mut pass.unreadable);
                    }
                }
            }
            any |= lane.live[k] != 0;
        }
        any
    }

    /// The items of `flushing` are durable on the backing device.
    fn clean(&self, s: &mut Stream, pass: &mut Pass) {
        let busy = s.busy();
        let mut from = 0;
        for &(planned, to) in &s.flushing.plans[..s.flushing.nr_plans] {
            for items in s.flushing.items[from..to].chunks(AT_ONCE) {
                let mut core = self.core.lock();
                for item in items.iter().filter(|item| !s.is_under_way_again(busy, planned, item)) {
                    core.engine.written_back(planned, item);
                }
            }
            from = to;
        }
        s.flushing.items[..s.flushing.len].iter().for_each(|item| s.under_way.end(item.slot));
        let len = s.flushing.len;
        pass.cleaned = pass.cleaned.saturating_add(len as u32);
        // A write that waits for room may have to wait for many parts, but not in vain.
        self.happens(Room::cleaned);
    }

    /// Sends what can be sent. Returns whether anything was planned.
    fn feed(&self, s: &mut Stream, batch: &mut Batch, aim: &Aim) -> bool {
        let mut any = false;
        loop {
            while let Some(i) = s.stages.to_write() {
                let others = s.stages.count(Stage::Writing);
                if others >= s.flow.depth() {
                    s.flow.held_back();
                    break;
                }
                s.stages.set(i, Stage::Writing);
                let lane = &mut s.lanes[i];
                (lane.sent_ms, lane.others) = (now_ms(), others);
                self.send_writes(&lane.transfer, &lane.items[..lane.len], &lane.live, 0);
            }
            let Some(i) = s.stages.to_read() else { return any };
            if s.at == batch.items().len() && !self.plan_more(s, batch, aim) {
                return any;
            }
            any = true;
            let to = part_end(batch.items(), s.at, s.flow.part(), s.unit);
            let lane = &mut s.lanes[i];
            lane.planned = (&*batch).into();
            let is_read = self.read_lane(lane, &mut s.under_way, &batch.items()[s.at..to]);
            s.stages.begin(s.plan, is_read);
            s.at = to;
        }
    }

    /// Plans the next segments, behind those that were planned. Returns whether there is anything dirty in
    /// them.
    fn plan_more(&self, s: &mut Stream, batch: &mut Batch, aim: &Aim) -> bool {
        if s.planned_all || (aim.once && s.plan != s.first_plan) {
            s.planned_all = true;
            return false;
        }
        let state = {
            let core = self.core.lock();
            core.engine.continue_batch(batch);
            core.engine.state()
        };
        let most =
            aim.most.unwrap_or_else(|| segments_for(state.nr_segments, self.segment_blocks, s.flow.rate()));
        self.plan_segments(batch, most, aim.last);
        let planned = batch.items().len();
        while self.core.lock().engine.plan_neighbours(batch, aim.last) {}
        if batch.items().len() != planned {
            batch.sort();
        }
        s.at = 0;
        s.plan = s.plan.wrapping_add(1);
        s.planned_all = batch.items().is_empty();
        self.set_writing(batch.span());
        !s.planned_all
    }

    /// Begins to read the items that are still dirty. Returns whether there are any.
    fn read_lane(&self, lane: &mut Lane, under_way: &mut UnderWay, items: &[Item]) -> bool {
        lane.len = items.len();
        lane.items[..items.len()].copy_from_slice(items);
        let mut any = false;
        for (items, lives) in items.chunks(AT_ONCE).zip(lane.live.chunks_mut(AT_ONCE)) {
            let core = self.core.lock();
            for (item, live) in items.iter().zip(lives) {
                *live = core
                    .engine
                    .begin_item(lane.planned, item)
                    .filter(|_| under_way.begin(item.slot))
                    .unwrap_or(0);
                any |= *live != 0;
            }
        }
        let live = &lane.live;
        self.send_reads(&lane.transfer, items.iter().enumerate().filter(|&(k, _)| live[k] != 0));
        any
    }

    /// Sends a flush if it is time, and none is under way. Returns whether it did.
    fn flush_stream(&self, s: &mut Stream, is_end: bool) -> bool {
        if s.failed || s.flushing.len != 0 || s.unflushed.len == 0 {
            return false;
        }
        let age = now_ms().saturating_sub(s.unflushed.since_ms);
        let is_due = is_end || s.unflushed.is_full() || is_flush_due(age, s.flush_ms);
        if is_due {
            core::mem::swap(&mut s.unflushed, &mut s.flushing);
            s.flush_sent_ms = now_ms();
            s.flush.reset();
            s.flush.flush(&self.disks, &self.disks.backing);
        }
        is_due
    }
}
