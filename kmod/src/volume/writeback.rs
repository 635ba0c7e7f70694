// SPDX-License-Identifier: GPL-2.0-only

//! The writeback thread, which writes back to the backing device.
//!
//! Unless an option says otherwise it works when five eighths of the cache are in use or the volume was idle
//! for a second. To gather first makes for longer runs; blocks that are overwritten meanwhile need not be
//! written back at all; and an idle volume has no users that writeback would disturb. For the same reasons it
//! takes many segments together when there is time. It takes few when only writeback makes room, because room
//! comes by whole segments. A limit of the rate holds for background writeback, and not when room is needed,
//! for a drain, or for a log that has failed.
//!
//! A block whose write fails stays dirty and is tried again, later and later. It does not keep others from
//! being written back: the blocks of a write that failed are written in halves until those are found that
//! cannot be written. A device that writes nothing at all is left alone for a while.
//!
//! Several parts are under way at a time as long as nothing fails and there is no limit: `stream`. Otherwise
//! one part is read, written and flushed after the other: that is here.
//!
//! # Invariants
//! - A block is called clean only when its own write has succeeded, after the last failure before the flush
//!   that made it durable: see [`crate::policy::writeback`].

mod stream;

pub(super) use stream::Pantry;

use super::faults::{trouble, Kind};
use super::{bytes, Transfer, Volume};
use crate::engine::checks::Verdict;
use crate::engine::map::Span;
use crate::engine::reclaim::{Batch, Item, Planned};
use crate::engine::runs::{for_each_row, for_each_run, Run};
use crate::engine::Engine;
use crate::format::{Block, Seq, Slot, BLOCK, BLOCK_SECTORS, SECTOR};
use crate::host::{crc32c, hurry, now_ms, should_stop, Arc, Box, MutexGuard, Result, Sleep, Table};
use crate::interface::table::MAX_BATCHED;
use crate::policy::bad_blocks::{Halves, Pass, Step};
use crate::policy::failures::Failures;
use crate::policy::pace::segments_at_once;
use crate::policy::rate::Rate;
use crate::policy::room::{Ended, Purpose, Room, Wake};
use crate::policy::writeback::{next_part, part_end, whole_units, Next, Round, FIRST_PART, LEAST_PART, PART};
use core::sync::atomic::Ordering;
use stream::{Aim, End, Stream};

/// Blocks that are handled under one hold of the lock.
const AT_ONCE: usize = 32;
/// Segments that are written back together unless an option says otherwise: for a drain, for background
/// writeback, and when only writeback makes room though something has failed. (When nothing has failed, see
/// [`segments_at_once`].)
const DRAIN: u32 = MAX_BATCHED;
const BACKGROUND: u32 = 256;
const URGENT: u32 = 32;
/// How often the thread looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;

/// What the thread remembers from tick to tick.
struct Tick {
    mapped: u64,
    busy_ms: u32,
    at_ms: u64,
    synced_ms: u64,
    idle: bool,
    hurries: bool,
    /// Percent of the last tick in which the backing device had something to do.
    utilisation: u32,
}

/// What the thread works with; allocated before the thread starts, so that it never has to wait for memory.
pub(super) struct Tools {
    batch: Batch,
    /// Its memory also serves the parts that are written one after the other.
    stream: Box<Stream>,
    /// Live mask of each item of the chunk; 0 for one that is not to be written.
    live: Table<u8>,
    /// Sectors that are written for each item: with the rest of a block of the backing device, if need be; 0
    /// if another item is written with that.
    whole: Table<u8>,
    /// The item that each item is written with.
    with: Table<u16>,
    /// As `whole`, of what is to be written in this pass of its round.
    todo: Table<u8>,
    /// What has become of the items of the chunk.
    fates: Table<Fate>,
    round: Round,
    /// Blocks of the next chunk.
    chunk: usize,
    /// The rate under a limit, and what the limit was the last time.
    rate: Rate,
    limit: Option<u32>,
    failures: Failures,
}

/// What has become of an item that is live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The item is written, or about to be.
    Written,
    /// A write that was for several items has failed.
    Unclear,
    /// The item cannot be written.
    Lost,
}

impl Tools {
    /// In how many milliseconds the next chunk may be written under this limit, and how many blocks it has at
    /// most.
    fn limit_to(&mut self, limit: Option<u32>) -> (u64, usize) {
        if self.limit != limit {
            self.limit = limit;
            self.rate.changed(now_ms());
        }
        match limit {
            Some(limit) => (self.rate.wait_ms(now_ms()), Rate::chunk(limit, self.chunk)),
            None => (0, self.chunk),
        }
    }
}

impl Volume {
    /// What the writeback thread works with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn writeback_tools(&self) -> Result<Tools> {
        let state = self.state();
        // The batch has room for all of a small cache: what can be written back must not have to wait for
        // what cannot.
        let segments = state.nr_segments.min(MAX_BATCHED) as usize;
        Ok(Tools {
            batch: Batch::new((self.segment_blocks as usize).saturating_mul(segments))?,
            stream: Stream::new(self)?,
            live: Table::new(PART, |_| 0)?,
            whole: Table::new(PART, |_| 0)?,
            with: Table::new(PART, |_| 0)?,
            todo: Table::new(PART, |_| 0)?,
            fates: Table::new(PART, |_| Fate::Written)?,
            round: Round::new(self.disks.backing_doubts.clone()),
            chunk: FIRST_PART,
            rate: Rate::default(),
            limit: None,
            failures: Failures::new()?,
        })
    }

    pub(super) fn run_writeback(&self, tools: &mut Tools) {
        let mut tick = Tick {
            mapped: 0,
            busy_ms: 0,
            at_ms: 0,
            synced_ms: 0,
            idle: false,
            hurries: false,
            utilisation: 100,
        };
        while !should_stop() {
            let seen = self.writeback.count();
            self.tick(&mut tick);
            let worked = {
                let busy = self.writeback_busy.lock();
                !self.rests() && {
                    self.commit_before_writeback(&tick);
                    self.wants_writeback(&tick) && self.write_back(tools, &mut tick, busy)
                }
            };
            if worked {
                self.wake(Wake::RECLAIM | Wake::PROGRESS);
            } else {
                tools.stream.shrink();
                let _ = self.writeback.wait(seen, TICK_MS, Sleep::Idle);
            }
        }
    }

    fn tick(&self, tick: &mut Tick) {
        let must = self.has_to_write_back();
        if tick.hurries != must {
            // A device that takes one request at a time takes it from the first task that asks, and so from
            // the one that runs first.
            tick.hurries = must;
            hurry(must);
            self.disks.set_hurry(must);
        }
        let now = now_ms();
        let past = now.saturating_sub(tick.at_ms);
        if past < u64::from(TICK_MS) {
            return;
        }
        let (mapped, busy_ms) = (self.mapped(), self.disks.backing.busy_ms());
        tick.idle = mapped == tick.mapped;
        tick.utilisation = percent(busy_ms.wrapping_sub(tick.busy_ms).into(), past);
        (tick.mapped, tick.busy_ms, tick.at_ms) = (mapped, busy_ms, now);
        self.note_silence();
        let interval = u64::from(self.options().sync_data_interval()).saturating_mul(1000);
        if interval != 0 && now.saturating_sub(tick.synced_ms) >= interval && !self.glance().is_suspended() {
            tick.synced_ms = now;
            self.core.lock().engine.flush();
            self.wake(Wake::COMMIT);
        }
    }

    /// For a drain, or when the volume is idle, asks that what is still in RAM become durable: only then can
    /// it be written back. Waits for that if there is a drain.
    fn commit_before_writeback(&self, tick: &Tick) {
        let draining = self.glance().is_draining();
        if draining || tick.idle {
            let mut core = self.core.lock();
            let (seq, work) = core.adds_work(Engine::flush);
            let waits = core.engine.durable() < seq;
            drop(core);
            if work {
                self.wake(Wake::COMMIT);
            }
            if waits && draining {
                let _ = self.wait_durable(seq, Sleep::Busy);
            }
        }
    }

    /// Whether there is a reason to write back now.
    fn wants_writeback(&self, tick: &Tick) -> bool {
        if self.has_to_write_back() {
            return true;
        }
        if self.flags.depth.is_drowsy() {
            return false;
        }
        match self.policy().threshold {
            // Its own writes may keep the device busy all the time.
            Some(100) => true,
            Some(threshold) => tick.utilisation < threshold,
            None => self.is_time_for_writeback(tick),
        }
    }

    /// Whether writeback has to run, whatever the options say.
    fn has_to_write_back(&self) -> bool {
        // A cache device that fails may be gone for good soon.
        self.glance().must_write_back() || self.state().failed
    }

    /// Whether the built-in policy wants writeback now.
    fn is_time_for_writeback(&self, tick: &Tick) -> bool {
        let state = self.state();
        tick.idle || state.free_segments < (state.nr_segments / 8).saturating_mul(3)
    }

    /// Whether a pass of background writeback should go on. A threshold other than 0 and 100 is for the
    /// beginning of a pass: the pass's own writes would make the device too busy for the threshold at once.
    fn still_has_time(&self, tick: &Tick) -> bool {
        if self.flags.depth.is_drowsy() {
            return false;
        }
        match self.policy().threshold {
            Some(threshold) => threshold != 0,
            None => self.is_time_for_writeback(tick),
        }
    }

    /// Whether a pass is to end though there is more to write back. `early` is `true` for background
    /// writeback, and `false` for a pass that has to run.
    fn ends_pass(&self, tick: &Tick, early: bool) -> bool {
        let ends =
            if self.has_to_write_back() { early && !self.state().failed } else { !self.still_has_time(tick) };
        ends || should_stop() || self.rests()
    }

    /// Adds the next segments to a batch that has begun, up to `most` of them and up to record `last`, and
    /// sorts the batch.
    fn plan_segments(&self, batch: &mut Batch, most: u32, last: Seq) {
        // Segments without dirty slots do not count: they may lie behind one that cannot be written back.
        let mut segments: u32 = 0;
        while segments < most {
            let before = batch.items().len();
            if !self.core.lock().engine.plan_writeback(batch, last) {
                break;
            }
            segments = segments.saturating_add((batch.items().len() != before).into());
        }
        batch.sort();
    }

    /// Writes back one batch of the oldest segments. Returns whether there is perhaps more to do at once.
    fn write_back<'a>(&'a self, tools: &mut Tools, tick: &mut Tick, busy: MutexGuard<'a, ()>) -> bool {
        let failures = &mut tools.failures;
        let purpose = self.core.lock().room.pass_begins();
        if !failures.begin(&purpose, now_ms()) {
            return false;
        }
        // Blocks that fail must not fill the batch.
        let fails = failures.any();
        let (most, is_small) = self.segments_of_batch(&purpose, fails);
        // A drain is not for what is written meanwhile. Otherwise a pass that has cleaned only later writes
        // would say nothing about what cannot be written back, and the drain would wait for that without end.
        let last = purpose.drain.unwrap_or(Seq::MAX);
        // Background writeback: it neither has to run, nor is it for a drain.
        let early = !purpose.urgent && purpose.drain.is_none();
        if !(fails || early && self.policy().limit.is_some()) {
            // A threshold other than 0 and 100 is for the beginning of a batch.
            let once = early && matches!(self.policy().threshold, Some(1..=99));
            let aim = Aim { early, last, once, most: (!is_small).then_some(most) };
            if let Some(more) = self.write_back_at_once(tools, tick, &aim) {
                return more;
            }
        }
        let batch = &mut tools.batch;
        self.core.lock().engine.begin_batch(batch);
        self.plan_segments(batch, most, last);
        if purpose.urgent && batch.items().is_empty() {
            // Only durable data can be written back, and a small cache may be full before anything else makes
            // them durable.
            let state = self.state();
            if state.durable < state.newest && self.sync(Sleep::Busy).is_ok() {
                return true;
            }
        }
        self.set_writing(tools.batch.span());
        let mut pass = Pass::default();
        let (from, over, _busy) = self.write_parts(tools, tick, early, &mut pass, busy);
        self.set_writing(Span::default());
        // If the pass has written a part, it is known what fails.
        tools.failures.unclear &= from == 0;
        tools.failures.widen = is_small && pass.cleaned == 0 && pass.has_trouble();
        tools.failures.widen || self.conclude(&mut tools.failures, &pass, from == 0, over)
    }

    /// How many segments a pass for this purpose plans together, and whether they are few because room is
    /// short.
    fn segments_of_batch(&self, purpose: &Purpose, fails: bool) -> (u32, bool) {
        let option = self.policy().batched;
        let is_small = purpose.urgent && !fails && option.is_none();
        let own = match (purpose.drain.is_some(), purpose.urgent) {
            _ if is_small => segments_at_once(self.state().nr_segments),
            (true, _) => DRAIN,
            (false, true) => URGENT,
            (false, false) => BACKGROUND,
        };
        let most = match option {
            Some(option) if fails => option.max(own),
            Some(option) => option,
            None => own,
        };
        (most, is_small)
    }

    /// Writes back the batch, one part after the other. Returns how far it has come, and whether it was not
    /// broken off; and `busy`, which it releases while it waits for a limit.
    fn write_parts<'a>(
        &'a self,
        tools: &mut Tools,
        tick: &mut Tick,
        early: bool,
        pass: &mut Pass,
        mut busy: MutexGuard<'a, ()>,
    ) -> (usize, bool, MutexGuard<'a, ()>) {
        let mut from = 0;
        let mut over = true;
        while from < tools.batch.items().len() && !pass.dead {
            let seen = self.writeback.count();
            self.tick(tick);
            if self.ends_pass(tick, early) {
                // What is written back so far counts. A new batch, for what is wanted now, makes room sooner.
                over = false;
                break;
            }
            let must = self.has_to_write_back();
            let limit = self.policy().limit.filter(|_| !must);
            let (wait_ms, most) = tools.limit_to(limit);
            if wait_ms != 0 {
                // A suspend does not wait for this pause.
                drop(busy);
                let _ = self.writeback.wait(seen, wait_ms.min(TICK_MS.into()) as u32, Sleep::Idle);
                busy = self.writeback_busy.lock();
                continue;
            }
            let to = part_end(tools.batch.items(), from, most, tools.stream.unit());
            let (begin, written) = (now_ms(), self.blocks_written_back());
            self.write_chunk(tools, from, to, pass);
            let longest = tools.stream.longest();
            tools.chunk =
                next_part(tools.chunk, longest, to.saturating_sub(from), now_ms().saturating_sub(begin));
            if let Some(limit) = limit {
                tools.rate.took(self.blocks_written_back().saturating_sub(written) as usize, limit, begin);
            }
            if core::mem::take(&mut pass.hopeless) && pass.written == 0 {
                self.look_elsewhere(tools, to, pass);
                // The part is written once more, block by block.
                continue;
            }
            from = to;
            self.wake(Wake::RECLAIM);
        }
        (from, over, busy)
    }

    /// So many writes have failed, before item number `to`, that a stretch of bad blocks would be as long as
    /// a chunk. If the device writes nothing elsewhere either, the fault is the device's.
    fn look_elsewhere(&self, tools: &mut Tools, to: usize, pass: &mut Pass) {
        let len = tools.batch.items().len();
        for at in [to.midpoint(len), len.saturating_sub(LEAST_PART)] {
            let at = at.max(to);
            let end = at.saturating_add(LEAST_PART).min(len);
            if pass.written == 0 && at < end {
                self.write_chunk(tools, at, end, pass);
            }
        }
        pass.dead |= pass.written == 0;
        tools.failures.alive = !pass.dead;
    }

    /// Writes back several parts at a time, as long as nothing fails. Returns whether there is perhaps more
    /// to do at once, or `None` if there was nothing to write back.
    fn write_back_at_once(&self, tools: &mut Tools, tick: &mut Tick, aim: &Aim) -> Option<bool> {
        let mut pass = Pass::default();
        let end = self.stream(tools, tick, aim, &mut pass);
        self.set_writing(Span::default());
        match end {
            End::Nothing => None,
            End::Over(over) if !pass.has_trouble() && !pass.parts => {
                Some(self.conclude(&mut tools.failures, &pass, false, over))
            }
            End::Over(_) | End::Failed => {
                tools.failures.unclear = true;
                // The device works, whatever has failed.
                tools.failures.alive |= pass.written != 0;
                Some(true)
            }
        }
    }

    /// Notes what a pass means for the volume. Returns whether there is perhaps more to do at once.
    fn conclude(&self, failures: &mut Failures, pass: &Pass, nothing: bool, over: bool) -> bool {
        failures.conclude(pass, now_ms());
        self.note_trouble(trouble::BACKING_WRITE, failures.any_unwritten());
        if failures.any_unreadable() {
            self.note_trouble(trouble::CACHE_READ, true);
        } else if self.state().dirty == 0 {
            self.note_trouble(trouble::CACHE_READ, false);
        }
        let is_stuck = pass.is_stuck();
        let ended = Ended {
            purpose: failures.purpose,
            over,
            found_nothing: nothing,
            is_stuck,
            has_written: pass.written != 0,
            has_failed: pass.failed != 0,
            device_failed: failures.device.has_failed(),
        };
        let wake = {
            let mut core = self.core.lock();
            if is_stuck {
                core.pace.end();
            }
            self.tell(&mut core, |room| room.pass_ends(&ended, now_ms()))
        };
        self.wake(wake);
        !nothing && !is_stuck
    }

    /// Writes back the items `from..to` of the batch, at most [`PART`] of them.
    fn write_chunk(&self, tools: &mut Tools, from: usize, to: usize, pass: &mut Pass) {
        let Tools { batch, stream, live, failures, .. } = tools;
        let t = &stream.lanes[0].transfer;
        let items = &batch.items()[from..to];
        let now = now_ms();
        pass.hopeless = false;
        for (items, lives) in items.chunks(AT_ONCE).zip(live.chunks_mut(AT_ONCE)) {
            let core = self.core.lock();
            for (item, live) in items.iter().zip(lives) {
                let early = failures.is_early(item.addr(), now);
                pass.early = pass.early.saturating_add(early.into());
                *live = if early { 0 } else { core.engine.begin_item(&*batch, item).unwrap_or(0) };
            }
        }
        self.read_items(t, items.iter().enumerate().filter(|&(i, _)| live[i] != 0));
        for (i, item) in items.iter().enumerate() {
            if live[i] != 0 {
                match self.judge_item(t, i, (&*batch).into(), item) {
                    Verdict::Intact => (),
                    // The item is clean or superseded: otherwise the log could not have come round.
                    Verdict::Gone => live[i] = 0,
                    Verdict::Wrong => {
                        live[i] = 0;
                        add_one(&mut pass.unreadable);
                        failures.add(item.addr(), true, now);
                    }
                }
            }
        }
        let clean = self.write_round(tools, from, to, pass);
        let Tools { batch, stream, live, with, fates, failures, .. } = tools;
        let t = &stream.lanes[0].transfer;
        let items = &batch.items()[from..to];
        let fate = |i: usize| fates[usize::from(with[i])];
        let is_clean = |i: usize| clean && live[i] != 0 && fate(i) == Fate::Written;
        let cleaned = pass.cleaned;
        let mut clean =
            items.iter().enumerate().filter(|&(i, _)| is_clean(i)).map(|(_, item)| item).peekable();
        while clean.peek().is_some() {
            let mut core = self.core.lock();
            for item in clean.by_ref().take(AT_ONCE) {
                core.engine.written_back(&*batch, item);
                add_one(&mut pass.cleaned);
            }
        }
        if pass.cleaned != cleaned {
            // A write that waits for room may have to wait for many chunks, but not in vain.
            self.happens(Room::cleaned);
        }
        for (i, item) in items.iter().enumerate() {
            if is_clean(i) {
                failures.remove(item.addr());
            } else if live[i] != 0 && fate(i) == Fate::Lost && !pass.dead && !pass.hopeless {
                // Otherwise one pause for all is enough, or not each of the blocks was looked at.
                failures.add(item.addr(), false, now);
            }
        }
        t.reset();
    }

    /// Writes the live sectors of the items `from..to`, which are in memory, as often as it takes, and
    /// flushes the device. Returns whether the items with [`Fate::Written`] are clean.
    fn write_round(&self, tools: &mut Tools, from: usize, to: usize, pass: &mut Pass) -> bool {
        tools.fates.fill(Fate::Written);
        self.complete_blocks(tools, from, to, pass);
        let Tools { batch, stream, whole, todo, fates, failures, round, .. } = tools;
        let t = &stream.lanes[0].transfer;
        let items = &batch.items()[from..to];
        round.begin();
        loop {
            for (i, todo) in todo.iter_mut().enumerate() {
                *todo = if fates[i] == Fate::Written { whole[i] } else { 0 };
            }
            self.write_items(t, items, todo, fates, pass, failures.alive);
            if !(0..items.len()).any(|i| whole[i] != 0 && fates[i] == Fate::Written) {
                return false;
            }
            match round.written() {
                // Including what this pass has written: the device may have forgotten it.
                Next::Write if should_stop() || self.rests() => return false,
                Next::Write => (),
                Next::Leave => return false,
                Next::Flush => break,
            }
        }
        t.reset();
        t.flush(&self.disks, &self.disks.backing);
        t.wait();
        let ok = t.is_ok(t.flush_tag());
        // A write around the cache may tell, by its error, that the flush was too late.
        self.wait_for_bypasses();
        if !ok {
            // It does not matter which of the blocks are durable: all stay dirty and are written again.
            self.writeback_failed(items[0].addr());
            add_one(&mut pass.failed);
            pass.dead = true;
        }
        round.flushed(ok)
    }

    /// Completes parts of blocks that the backing device can only write as a whole, with the rest read from
    /// there, and puts together the items of one block. An item is lost if the rest cannot be read. (The
    /// device had smaller blocks when that data was written.)
    fn complete_blocks(&self, tools: &mut Tools, from: usize, to: usize, pass: &mut Pass) {
        let Tools { batch, stream, live, whole, with, fates, .. } = tools;
        let items = &batch.items()[from..to];
        let [first, second, ..] = &stream.lanes[..] else { return };
        let (t, rest) = (&first.transfer, &second.transfer);
        let unit = self.disks.backing.block_sectors();
        whole.copy_from_slice(live);
        (0..).zip(with.iter_mut()).for_each(|(i, with)| *with = i);
        if unit <= 1 {
            return;
        }
        // The first item of each block that is to be completed gets all of the block.
        for (i, item) in items.iter().enumerate().filter(|&(i, _)| live[i] != 0) {
            let first =
                (0..i).rev().take_while(|&k| items[k].addr() == item.addr()).filter(|&k| live[k] != 0).last();
            if let Some(first) = first {
                with[i] = first as u16;
                let own = core::mem::take(&mut whole[i]);
                whole[first] |= own;
                copy_sectors(t, i, (t, first), live[i]);
            }
        }
        rest.reset();
        for (i, item) in items.iter().enumerate() {
            let mask = whole_units(whole[i], unit);
            if mask != whole[i] {
                let run = Run::of(i, item.addr(), mask);
                rest.read(&self.disks, &self.disks.backing, run.sector, (run.offset, run.len), i);
            }
        }
        rest.wait();
        for (i, item) in items.iter().enumerate() {
            let mask = whole_units(whole[i], unit);
            if mask == whole[i] {
                continue;
            }
            if rest.is_ok(i) {
                copy_sectors(rest, i, (t, i), mask & !whole[i]);
                whole[i] = mask;
            } else {
                self.count_fault(Kind::BackingRead);
                self.writeback_failed(item.addr());
                add_one(&mut pass.failed);
                fates[i] = Fate::Lost;
            }
        }
    }

    pub(super) fn writeback_failed(&self, addr: Block) {
        self.count_fault(Kind::BackingWrite);
        if self.faults.may_log(Kind::BackingWrite) {
            log_err!("{}: cannot write to the backing device near block {}", &*self.disks, addr);
        }
    }

    /// Writes the sectors `todo` of `items` to the backing device, and finds out which of them are lost. The
    /// items of a failed write are written again in halves, then in quarters, and so on. When too many writes
    /// have failed on a device that is not known to be alive, this ends, and `pass` notes it.
    fn write_items(
        &self,
        t: &Arc<Transfer>,
        items: &[Item],
        todo: &[u8],
        fates: &mut [Fate],
        pass: &mut Pass,
        alive: bool,
    ) {
        self.write_range(t, items, todo, 0);
        for_each_run(items, todo, |run| {
            if t.is_ok(run.first) {
                add_one(&mut pass.written);
            } else {
                add_one(&mut pass.failed);
                fates[run.items()].fill(Fate::Unclear);
            }
        });
        let mut from = 0;
        while let Some(first) = (from..items.len()).find(|&i| fates[i] == Fate::Unclear) {
            from = (first..items.len()).find(|&i| fates[i] != Fate::Unclear).unwrap_or(items.len());
            let mut halves = Halves::of(first..from);
            while let Some(step) = halves.next(|| pass.gives_up(alive)) {
                match step {
                    Step::Bad(range) => {
                        self.writeback_failed(items[range.start].addr());
                        fates[range].fill(Fate::Lost);
                    }
                    Step::Write(range) => {
                        self.write_range(t, &items[range.clone()], &todo[range.clone()], range.start);
                        if range.clone().all(|i| t.is_ok(i)) {
                            add_one(&mut pass.written);
                            fates[range].fill(Fate::Written);
                        } else {
                            add_one(&mut pass.failed);
                            halves.failed(range);
                        }
                    }
                }
            }
        }
    }

    /// Writes the sectors `todo` of `items`, the first of which has number `first` in the chunk. The tag of
    /// each run is the number of its first item.
    fn write_range(&self, t: &Arc<Transfer>, items: &[Item], todo: &[u8], first: usize) {
        self.send_writes(t, items, todo, first);
        t.wait();
    }

    /// As [`Volume::write_range`], without waiting for the writes.
    fn send_writes(&self, t: &Arc<Transfer>, items: &[Item], todo: &[u8], first: usize) {
        t.reset();
        for_each_run(items, todo, |run| {
            let run = run.behind(first);
            t.write(&self.disks, &self.disks.backing, run.sector, (run.offset, run.len), false, run.first);
        });
    }

    /// Reads each item into the block of the transfer's memory that has the item's number, with that number
    /// as the tag.
    pub(super) fn read_items<'a>(
        &self,
        t: &Arc<Transfer>,
        items: impl Iterator<Item = (usize, &'a Item)> + Clone,
    ) {
        self.send_reads(t, items.clone());
        t.wait();
        self.read_rows_again(t, items);
    }

    /// Reads again, one by one, the items that were read together in vain: an error is of one of them, and
    /// says nothing about the others.
    fn read_rows_again<'a>(&self, t: &Arc<Transfer>, items: impl Iterator<Item = (usize, &'a Item)>) {
        for_each_row(items.map(|(i, item)| (i, item.slot)), PART, |first, slot, blocks| {
            if blocks == 1 || t.is_ok(first) {
                return;
            }
            (first..first.saturating_add(blocks))
                .zip(slot.onward())
                .for_each(|(i, slot)| self.read_again(t, i, slot));
        });
        t.wait();
    }

    /// Reads item number `i`, which is in this slot, once more, by itself.
    fn read_again(&self, t: &Arc<Transfer>, i: usize, slot: Slot) {
        t.forgive(i);
        t.read(&self.disks, &self.disks.cache, self.slot_sector(slot), (bytes(i as u32), BLOCK), i);
    }

    /// As [`Volume::read_items`], without waiting for the reads. Slots that follow each other are read
    /// together.
    fn send_reads<'a>(&self, t: &Arc<Transfer>, items: impl Iterator<Item = (usize, &'a Item)>) {
        t.reset();
        for_each_row(items.map(|(i, item)| (i, item.slot)), PART, |first, slot, blocks| {
            let part = (bytes(first as u32), blocks);
            t.read_blocks(&self.disks, &self.disks.cache, self.slot_sector(slot), part, first);
        });
    }

    /// The verdict on item number `i`, planned at `planned` and read by [`Volume::read_items`]. If it is not
    /// what was once written, it is read once more.
    pub(super) fn judge_item(&self, t: &Arc<Transfer>, i: usize, planned: Planned, item: &Item) -> Verdict {
        let right = || {
            let crc = t.pages.with(bytes(i as u32), BLOCK, |b| crc32c(0, b));
            t.is_ok(i) && crc == Some(self.checks.checksum(item.slot))
        };
        // Asked after the checksum was compared.
        let is_held = || self.core.lock().engine.holds_item(planned, item);
        match (right(), is_held()) {
            (_, false) => return Verdict::Gone,
            (true, true) => return Verdict::Intact,
            (false, true) => (),
        }
        self.read_again(t, i, item.slot);
        t.wait();
        match (right(), is_held()) {
            (_, false) => Verdict::Gone,
            (true, true) => {
                self.faults.read_again.fetch_add(1, Ordering::Relaxed);
                Verdict::Intact
            }
            (false, true) => {
                self.cache_read_failed(item.slot);
                Verdict::Wrong
            }
        }
    }
}

/// Copies the sectors `mask` of a block of one transfer's memory to a block of the same or another
/// transfer's.
fn copy_sectors(from: &Transfer, block: usize, (to, to_block): (&Transfer, usize), mask: u8) {
    // Not more than a sector: it is on the stack of a task that sends I/O.
    let mut sector = [0; SECTOR];
    for at in (0..BLOCK_SECTORS as usize).filter(|&at| mask & 1u8.wrapping_shl(at as u32) != 0) {
        let at = at.saturating_mul(SECTOR);
        from.pages.with(bytes(block as u32).saturating_add(at), SECTOR, |from| sector.copy_from_slice(from));
        to.pages
            .with_mut(bytes(to_block as u32).saturating_add(at), SECTOR, |to| to.copy_from_slice(&sector));
    }
}

/// Counts one more.
fn add_one(count: &mut u32) {
    *count = count.saturating_add(1);
}

/// Percentage of `part` in a time of `all` milliseconds.
fn percent(part: u64, all: u64) -> u32 {
    part.saturating_mul(100).checked_div(all).unwrap_or(0).min(100) as u32
}
