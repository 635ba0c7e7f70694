// SPDX-License-Identifier: GPL-2.0-only

//! The thread that writes back to the backing device.
//!
//! Unless an option says otherwise it works when five eighths of the cache are in use or the volume was idle for a
//! second: gathering first makes for longer runs, what is overwritten meanwhile need not be written back at all, and nobody is
//! disturbed when nobody is there. For the same sake it takes
//! many segments together when there is time, and few when only writeback makes room, which whole segments do. A limit of
//! the rate is kept to when there is time, and not when room is needed, for a drain, or for a log that has failed.
//!
//! What fails stays dirty and is tried again, later and later. A block that fails does not keep others from being written
//! back: the blocks of a write that failed are written in halves until those are found that cannot be written. A device
//! that writes nothing at all is left alone for a while.
//!
//! # Invariants
//! - A block is called clean only when its own write went well, after the last failure before the flush that made it durable:
//!   see [`crate::engine::writeback`].

use super::faults::{trouble, Kind};
use super::{OwnTransfer, Transfer, Volume};
use crate::arguments::MAX_BATCHED;
use crate::engine::checks::Verdict;
use crate::engine::flight::Doubts;
use crate::engine::format::{BLOCK, BLOCK_SECTORS, SECTOR};
use crate::engine::map::Span;
use crate::engine::pace::segments_at_once;
use crate::engine::rate::Rate;
use crate::engine::reclaim::{Batch, Item};
use crate::engine::writeback::{Next, Round};
use crate::os::{crc32c, now_ms, should_stop, Sleep, Table};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::Guard;
use kernel::sync::Arc;

/// Blocks that are read from the cache device, written back and flushed together, at most: 1 MiB, what one bio can carry.
const CHUNK: usize = 256;
/// At first, before it is known how long that takes, and at least.
const FIRST_CHUNK: usize = 32;
const LEAST_CHUNK: usize = 16;
/// How long that may take, in milliseconds: so long a suspend waits, and who needs room for what makes room.
const CHUNK_MS: u64 = 700;
/// Blocks that the lock is held for at a time.
const AT_ONCE: usize = 32;
/// Segments that are written back together unless an option says so: when all is to be written back, when there is time,
/// when only that makes room though something has failed. (When nothing has, see [`segments_at_once`].)
const DRAIN: u32 = MAX_BATCHED;
const BACKGROUND: u32 = 256;
const URGENT: u32 = 32;
/// How often it looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;
/// What has failed is tried again after so many milliseconds at first and at last.
const FIRST_PAUSE_MS: u64 = 1000;
const LAST_PAUSE_MS: u64 = 60_000;
/// The same of a device as a whole: when it is back, somebody may be waiting for room.
const LAST_DEVICE_PAUSE_MS: u64 = 10_000;
/// When so many writes have failed in a row, all of them, it is the device and not the blocks.
const DEAD: u32 = 16;
/// Blocks that it is remembered of that they have failed.
const MAX_BAD: usize = 256;

/// What the thread remembers from tick to tick.
struct Tick {
    mapped: u64,
    busy_ms: u32,
    at_ms: u64,
    synced_ms: u64,
    idle: bool,
    /// Percent of the last tick in which the backing device had something to do.
    utilisation: u32,
}

/// What the thread works with; made before there is a thread, so that it never has to wait for memory.
pub(super) struct Tools {
    batch: Batch,
    transfer: OwnTransfer,
    /// Live mask of each item of the chunk; 0 for one that is not to be written.
    live: Table<u8>,
    /// The same of what is to be written in this pass of its round.
    todo: Table<u8>,
    /// What has become of the items of the chunk.
    fates: Table<Fate>,
    round: Round,
    /// Blocks of the next chunk, from [`LEAST_CHUNK`] to [`CHUNK`].
    chunk: usize,
    /// For when there is a limit, and what that was the last time.
    rate: Rate,
    limit: Option<u32>,
    failures: Failures,
}

/// What has become of an item that is live.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is written, or about to be.
    Written,
    /// A write that was for several has failed.
    Unclear,
    /// It cannot be written.
    Lost,
}

/// What has failed lately and when it is tried again.
struct Failures {
    bad: Table<Bad>,
    len: usize,
    /// Of the backing device as a whole.
    device: Pause,
    /// It has written something in the last pass: what fails are blocks.
    alive: bool,
    /// Of all blocks, when more cannot be read from the cache device than are remembered.
    all: Pause,
    /// Whether only writeback made room the last time.
    urgent: bool,
    /// Nothing of a small batch could be written back: a large one has to show whether that is so of all.
    widen: bool,
    /// The hope that it was all forgotten for.
    hopes: u64,
}

/// A block that could not be written back.
#[derive(Clone, Copy, Default)]
struct Bad {
    addr: u64,
    pause: Pause,
    /// It could not be read from the cache device.
    unreadable: bool,
}

#[derive(Clone, Copy, Default)]
struct Pause {
    /// In milliseconds since boot.
    until: u64,
    length: u64,
}

impl Pause {
    fn begin(&mut self, now: u64, most: u64) {
        self.length = (self.length * 2).clamp(FIRST_PAUSE_MS, most);
        self.until = now + self.length;
    }
}

impl Failures {
    fn find(&self, addr: u64) -> Option<usize> {
        self.bad[..self.len].iter().position(|b| b.addr == addr)
    }

    /// Whether it is too early to try the block again.
    fn is_early(&self, addr: u64, now: u64) -> bool {
        self.len != 0 && self.find(addr).is_some_and(|i| now < self.bad[i].pause.until)
    }

    /// The block has failed. When there are too many to remember, it is tried again sooner than it should be.
    fn add(&mut self, addr: u64, unreadable: bool, now: u64) {
        let i = match self.find(addr) {
            Some(i) => i,
            None if self.len < MAX_BAD => {
                self.len += 1;
                self.bad[self.len - 1] = Bad { addr, ..Bad::default() };
                self.len - 1
            }
            None => return,
        };
        self.bad[i].unreadable = unreadable;
        self.bad[i].pause.begin(now, LAST_PAUSE_MS);
    }

    /// The block is written back.
    fn remove(&mut self, addr: u64) {
        if let Some(i) = self.find(addr) {
            self.len -= 1;
            self.bad[i] = self.bad[self.len];
        }
    }
}

/// How writing back one batch went.
#[derive(Default)]
struct Pass {
    /// Writes that went well, whatever became of the flush.
    written: u32,
    /// Writes and flushes that failed.
    failed: u32,
    /// Blocks that could not be read, and those that were left out because they have failed lately.
    unreadable: u32,
    early: u32,
    /// Blocks that are clean now.
    cleaned: u32,
    /// So many writes have failed, and none went well, that it may be the device. Only one in a pass is looked at closer.
    hopeless: bool,
    /// The device fails, and not this block or that one.
    dead: bool,
}

impl Tools {
    /// In how many milliseconds the next chunk may be written with such a limit, and how many blocks it has at most.
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
    /// What writeback works with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn writeback_tools(&self) -> Result<Tools> {
        let state = self.state();
        // All of a small cache: what can be written back must not have to wait for what cannot.
        let segments = state.nr_segments.min(MAX_BATCHED) as usize;
        let doubts = Doubts::new()?;
        Ok(Tools {
            batch: Batch::new(state.nr_slots as usize / state.nr_segments as usize * segments)?,
            transfer: Transfer::counting(CHUNK, self.written_back.clone(), doubts.clone())?,
            live: Table::new(CHUNK, |_| 0)?,
            todo: Table::new(CHUNK, |_| 0)?,
            fates: Table::new(CHUNK, |_| Fate::Written)?,
            round: Round::new(doubts),
            chunk: FIRST_CHUNK,
            rate: Rate::default(),
            limit: None,
            failures: Failures {
                bad: Table::new(MAX_BAD, |_| Bad::default())?,
                len: 0,
                device: Pause::default(),
                alive: false,
                all: Pause::default(),
                urgent: false,
                widen: false,
                hopes: 0,
            },
        })
    }

    pub(super) fn run_writeback(&self, tools: &mut Tools) {
        let mut tick = Tick { mapped: 0, busy_ms: 0, at_ms: 0, synced_ms: 0, idle: false, utilisation: 100 };
        while !should_stop() {
            let seen = self.writeback.count();
            self.tick(&mut tick);
            let worked = {
                let busy = self.writeback_busy.lock();
                !self.rests() && self.wants_writeback(&tick) && self.write_back(tools, &mut tick, busy)
            };
            if worked {
                self.reclaim.notify();
                self.progress.notify();
            } else {
                let _ = self.writeback.wait(seen, TICK_MS, Sleep::Idle);
            }
        }
    }

    fn tick(&self, tick: &mut Tick) {
        let now = now_ms();
        let past = now.saturating_sub(tick.at_ms);
        if past < u64::from(TICK_MS) {
            return;
        }
        let (mapped, busy_ms) = (self.mapped(), self.disks.backing.busy_ms());
        tick.idle = mapped == tick.mapped;
        tick.utilisation = (u64::from(busy_ms.wrapping_sub(tick.busy_ms)) * 100 / past).min(100) as u32;
        (tick.mapped, tick.busy_ms, tick.at_ms) = (mapped, busy_ms, now);
        self.note_silence();
        let interval = u64::from(self.options().sync_data_interval()) * 1000;
        if interval != 0
            && now.saturating_sub(tick.synced_ms) >= interval
            && !self.flags.suspended.load(Ordering::Relaxed)
        {
            tick.synced_ms = now;
            self.core.lock().engine.flush();
            self.commit.notify();
        }
    }

    fn wants_writeback(&self, tick: &Tick) -> bool {
        let draining = self.draining.load(Ordering::Relaxed) != 0;
        if draining || tick.idle {
            // What is still in RAM has to be in the log first.
            let mut core = self.core.lock();
            let seq = core.engine.flush();
            let waits = core.engine.durable() < seq;
            drop(core);
            if waits {
                self.commit.notify();
                if draining {
                    let _ = self.wait_durable(seq, Sleep::Busy);
                }
            }
        }
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

    /// Whatever the options say.
    fn has_to_write_back(&self) -> bool {
        // A cache device that fails may be gone for good soon.
        self.draining.load(Ordering::Relaxed) != 0
            || self.flags.full.load(Ordering::Relaxed)
            || self.state().failed
    }

    /// What the built-in policy says.
    fn is_time_for_writeback(&self, tick: &Tick) -> bool {
        let state = self.state();
        tick.idle || state.free_segments < state.nr_segments / 8 * 3
    }

    /// Whether a pass that has begun because there was time for it should go on. A threshold between the ends is for the
    /// beginning of a pass: its own writes would make the device too busy for it at once.
    fn still_has_time(&self, tick: &Tick) -> bool {
        if self.flags.depth.is_drowsy() {
            return false;
        }
        match self.policy().threshold {
            Some(threshold) => threshold != 0,
            None => self.is_time_for_writeback(tick),
        }
    }

    /// Writes back one batch of the oldest segments. Says whether there is perhaps more to do at once.
    fn write_back<'a>(
        &'a self,
        tools: &mut Tools,
        tick: &mut Tick,
        mut busy: Guard<'a, (), MutexBackend>,
    ) -> bool {
        let failures = &mut tools.failures;
        let hopes = self.hopes.load(Ordering::Relaxed);
        if core::mem::replace(&mut failures.hopes, hopes) != hopes {
            // Somebody has asked for it: all is tried at once.
            failures.bad.iter_mut().for_each(|bad| bad.pause = Pause::default());
            failures.device = Pause::default();
            failures.all = Pause::default();
        }
        let urgent = self.flags.full.load(Ordering::Relaxed) || self.flags.resting.load(Ordering::Relaxed);
        if urgent && !failures.urgent {
            // Much may have become dirty since then.
            failures.all = Pause::default();
        }
        failures.urgent = urgent;
        if now_ms() < failures.device.until.max(failures.all.until) {
            return false;
        }
        let batch = &mut tools.batch;
        self.core.lock().engine.begin_batch(batch);
        // Acquire: with its goal.
        let draining = self.draining.load(Ordering::Acquire) != 0;
        // What fails must not fill the batch.
        let fails = failures.len != 0 || failures.device.length != 0 || failures.widen;
        let option = self.policy().batched;
        let is_small = urgent && !fails && option.is_none();
        let own = match (draining, urgent) {
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
        // A drain is not for what is written meanwhile. Or a pass that has cleaned only that would say nothing about what
        // cannot be written back, and the drain would wait for it without end.
        let last = if draining { self.drain_goal.load(Ordering::Relaxed) } else { u64::MAX };
        // Segments without anything dirty do not count: they may lie behind one that cannot be written back.
        let mut segments = 0;
        while segments < most {
            let before = batch.items().len();
            if !self.core.lock().engine.plan_writeback(batch, last) {
                break;
            }
            segments += u32::from(batch.items().len() != before);
        }
        batch.sort();
        if urgent && batch.items().is_empty() {
            // Only what is durable can be written back, and a small cache may be full before anything else asks for that.
            let state = self.state();
            if state.durable < state.newest && self.sync(Sleep::Busy).is_ok() {
                return true;
            }
        }
        self.set_writing(tools.batch.span());
        // In good time: neither because it must nor for a drain.
        let early = !urgent && !draining;
        let mut pass = Pass::default();
        let mut from = 0;
        let mut over = true;
        while from < tools.batch.items().len() && !pass.dead {
            let seen = self.writeback.count();
            self.tick(tick);
            let must = self.has_to_write_back();
            let leaves = if must { early && !self.state().failed } else { !self.still_has_time(tick) };
            if should_stop() || self.rests() || leaves {
                // What is written back so far counts; a batch for what is wanted now makes room sooner.
                over = false;
                break;
            }
            let limit = self.policy().limit.filter(|_| !must);
            let (wait_ms, most) = tools.limit_to(limit);
            if wait_ms != 0 {
                // A suspend does not wait for this.
                drop(busy);
                let _ = self.writeback.wait(seen, wait_ms.min(TICK_MS.into()) as u32, Sleep::Idle);
                busy = self.writeback_busy.lock();
                continue;
            }
            let to = (from + most).min(tools.batch.items().len());
            let (begin, written) = (now_ms(), self.blocks_written_back());
            self.write_chunk(tools, from, to, &mut pass);
            tools.chunk = next_chunk(tools.chunk, to - from, now_ms().saturating_sub(begin));
            if let Some(limit) = limit {
                tools.rate.took((self.blocks_written_back() - written) as usize, limit, begin);
            }
            if core::mem::take(&mut pass.hopeless) && pass.written == 0 {
                // A stretch of bad blocks may be as long as a chunk. It is the device, if it writes nothing elsewhere either.
                let len = tools.batch.items().len();
                for at in [to.midpoint(len), len.saturating_sub(LEAST_CHUNK)] {
                    let at = at.max(to);
                    let end = (at + LEAST_CHUNK).min(len);
                    if pass.written == 0 && at < end {
                        self.write_chunk(tools, at, end, &mut pass);
                    }
                }
                pass.dead |= pass.written == 0;
                tools.failures.alive = !pass.dead;
                // Once more, block by block.
                continue;
            }
            from = to;
            self.reclaim.notify();
        }
        self.set_writing(Span::default());
        tools.failures.widen = is_small && pass.cleaned == 0 && (pass.failed | pass.unreadable) != 0;
        tools.failures.widen || self.conclude(&mut tools.failures, &pass, from == 0, over)
    }

    /// Notes what a pass means for the volume. Says whether there is perhaps more to do at once.
    fn conclude(&self, failures: &mut Failures, pass: &Pass, nothing: bool, over: bool) -> bool {
        if pass.dead {
            failures.device.begin(now_ms(), LAST_DEVICE_PAUSE_MS);
        } else if pass.written != 0 {
            failures.device = Pause::default();
        }
        failures.alive = pass.written != 0 && !pass.dead;
        let bad = &failures.bad[..failures.len];
        let unwritten = bad.iter().any(|b| !b.unreadable) || failures.device.length != 0;
        self.trouble(trouble::BACKING_WRITE, unwritten);
        if bad.iter().any(|b| b.unreadable) {
            self.trouble(trouble::CACHE_READ, true);
        } else if self.state().dirty == 0 {
            self.trouble(trouble::CACHE_READ, false);
        }
        let is_stuck = pass.cleaned == 0 && (pass.failed | pass.unreadable | pass.early) != 0;
        if is_stuck && (pass.unreadable + pass.early) as usize > MAX_BAD {
            // Else each pass would read them all in vain, and the next one would begin at once.
            failures.all.begin(now_ms(), LAST_DEVICE_PAUSE_MS);
        } else if pass.cleaned != 0 {
            failures.all = Pause::default();
        }
        if over {
            self.faults.note_helpless(is_stuck);
        }
        {
            // The lock, so that no drain begins meanwhile. What was begun before says nothing about it.
            let _core = self.core.lock();
            if self.hopes.load(Ordering::Relaxed) == failures.hopes {
                if over {
                    self.exhausted.store(nothing || is_stuck, Ordering::Relaxed);
                    self.faults.stuck.store(is_stuck, Ordering::Relaxed);
                }
                // Where only the flush has failed, who waits for room still has his patience.
                self.faults.dead.store(failures.device.length != 0 && pass.written == 0, Ordering::Relaxed);
            }
        }
        if is_stuck {
            // Who waits for room may have to give up.
            self.core.lock().pace.end();
            self.commit.notify();
        }
        self.progress.notify();
        !nothing && !is_stuck
    }

    /// Writes back the items `from..to` of the batch, at most [`CHUNK`] of them.
    fn write_chunk(&self, tools: &mut Tools, from: usize, to: usize, pass: &mut Pass) {
        let Tools { batch, transfer: t, live, failures, .. } = tools;
        let items = &batch.items()[from..to];
        let now = now_ms();
        pass.hopeless = false;
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let core = self.core.lock();
            for (k, item) in items.iter().enumerate() {
                let early = failures.is_early(item.addr(), now);
                pass.early += u32::from(early);
                live[i * AT_ONCE + k] =
                    if early { 0 } else { core.engine.begin_item(batch, item).unwrap_or(0) };
            }
        }
        self.read_items(t, items.iter().enumerate().filter(|&(i, _)| live[i] != 0));
        for (i, item) in items.iter().enumerate() {
            if live[i] != 0 {
                match self.judge_item(t, i, batch, item) {
                    Verdict::Intact => (),
                    // It is clean or superseded, or the log could not have come round.
                    Verdict::Gone => live[i] = 0,
                    Verdict::Wrong => {
                        live[i] = 0;
                        pass.unreadable += 1;
                        failures.add(item.addr(), true, now);
                    }
                }
            }
        }
        let clean = self.write_round(tools, from, to, pass);
        let Tools { batch, transfer: t, live, fates, failures, .. } = tools;
        let items = &batch.items()[from..to];
        let is_clean = |i: usize| clean && live[i] != 0 && fates[i] == Fate::Written;
        let cleaned = pass.cleaned;
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let mut core = self.core.lock();
            for (k, item) in items.iter().enumerate() {
                if is_clean(i * AT_ONCE + k) {
                    core.engine.written_back(batch, item);
                    pass.cleaned += 1;
                }
            }
        }
        if pass.cleaned != cleaned {
            // Who waits for room may have to wait for many chunks, but not in vain.
            self.faults.note_hope();
        }
        for (i, item) in items.iter().enumerate() {
            if is_clean(i) {
                failures.remove(item.addr());
            } else if live[i] != 0 && fates[i] == Fate::Lost && !pass.dead && !pass.hopeless {
                // One pause for all is enough otherwise, or it was not looked at each of them.
                failures.add(item.addr(), false, now);
            }
        }
        t.reset();
    }

    /// Writes what is live of the items `from..to`, which are in memory, as often as it takes, and flushes that. Says
    /// whether those with [`Fate::Written`] are clean.
    fn write_round(&self, tools: &mut Tools, from: usize, to: usize, pass: &mut Pass) -> bool {
        let Tools { batch, transfer: t, live, todo, fates, failures, round, .. } = tools;
        let items = &batch.items()[from..to];
        fates.fill(Fate::Written);
        round.begin();
        loop {
            for (i, todo) in todo.iter_mut().enumerate() {
                *todo = if fates[i] == Fate::Written { live[i] } else { 0 };
            }
            self.write_items(t, items, todo, fates, pass, failures.alive);
            if !(0..items.len()).any(|i| live[i] != 0 && fates[i] == Fate::Written) {
                return false;
            }
            match round.written() {
                // What went well in this pass, too: the device may have forgotten it.
                Next::Write => (),
                Next::Leave => return false,
                Next::Flush => break,
            }
        }
        t.reset();
        t.flush(&self.disks, &self.disks.backing);
        t.wait();
        let ok = t.is_ok(t.flush_tag());
        if !ok {
            // Which of them are there does not matter: they stay dirty and are written again.
            self.writeback_failed(items[0].addr());
            pass.failed += 1;
            pass.dead = true;
        }
        round.flushed(ok)
    }

    fn writeback_failed(&self, addr: u64) {
        self.fault(Kind::BackingWrite);
        if self.faults.may_log(Kind::BackingWrite) {
            log_err!("{}: cannot write to the backing device near block {}", &*self.disks, addr);
        }
    }

    /// Writes the sectors `todo` of `items` to the backing device, and finds out which of them are lost. Those that a failed write
    /// was for are written again in halves, then in quarters, and so on; not on a device that is not known to be alive,
    /// when too many have failed: that is noted.
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
                pass.written += 1;
            } else {
                pass.failed += 1;
                fates[run.first..=(run.offset + run.len - 1) / BLOCK].fill(Fate::Unclear);
            }
        });
        let mut from = 0;
        while let Some(first) = (from..items.len()).find(|&i| fates[i] == Fate::Unclear) {
            from = (first..items.len()).find(|&i| fates[i] != Fate::Unclear).unwrap_or(items.len());
            // Ranges that a write has failed for: at each depth one waits while the other is looked at.
            let mut failed = [(first, from); CHUNK.ilog2() as usize + 2];
            let mut n = 1;
            while n > 0 {
                n -= 1;
                let (from, to) = failed[n];
                pass.hopeless |= pass.failed >= DEAD && pass.written == 0 && !alive;
                if pass.hopeless || to - from == 1 {
                    self.writeback_failed(items[from].addr());
                    fates[from..to].fill(Fate::Lost);
                    continue;
                }
                let middle = from + (to - from) / 2;
                for (from, to) in [(from, middle), (middle, to)] {
                    self.write_range(t, &items[from..to], &todo[from..to], from);
                    if (from..to).all(|i| t.is_ok(i)) {
                        pass.written += 1;
                        fates[from..to].fill(Fate::Written);
                    } else {
                        pass.failed += 1;
                        failed[n] = (from, to);
                        n += 1;
                    }
                }
            }
        }
    }

    /// Writes the sectors `todo` of `items`, the first of which has number `first` in the chunk. Each run is tagged with the
    /// number of the item that it begins with.
    fn write_range(&self, t: &Arc<Transfer>, items: &[Item], todo: &[u8], first: usize) {
        t.reset();
        for_each_run(items, todo, |run| {
            let (tag, offset) = (first + run.first, first * BLOCK + run.offset);
            t.write(&self.disks, &self.disks.backing, run.sector, (offset, run.len), false, tag);
        });
        t.wait();
    }

    /// Reads items into the blocks of the transfer's memory that have their numbers, tagged with these.
    pub(super) fn read_items<'a>(&self, t: &Arc<Transfer>, items: impl Iterator<Item = (usize, &'a Item)>) {
        t.reset();
        for (i, item) in items {
            t.read(&self.disks, &self.disks.cache, self.slot_sector(item.slot), (i * BLOCK, BLOCK), i);
        }
        t.wait();
    }

    /// What item number `i` of the batch, read by [`Volume::read_items`], is. If it is not what was once written, it is read
    /// once more.
    pub(super) fn judge_item(&self, t: &Arc<Transfer>, i: usize, batch: &Batch, item: &Item) -> Verdict {
        let right = || {
            let crc = t.pages.with(i * BLOCK, BLOCK, |b| crc32c(0, b));
            t.is_ok(i) && crc == Some(self.checks.checksum(item.slot))
        };
        // Asked behind that.
        let is_held = || self.core.lock().engine.holds_item(batch, item);
        match (right(), is_held()) {
            (_, false) => return Verdict::Gone,
            (true, true) => return Verdict::Intact,
            (false, true) => (),
        }
        t.forgive(i);
        t.read(&self.disks, &self.disks.cache, self.slot_sector(item.slot), (i * BLOCK, BLOCK), i);
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

/// How many blocks the next chunk has, if one of `written` blocks, of at most `chunk`, has taken so many milliseconds.
fn next_chunk(chunk: usize, written: usize, ms: u64) -> usize {
    if ms > CHUNK_MS {
        (written / 2).max(LEAST_CHUNK)
    } else if written == chunk && ms * 2 <= CHUNK_MS {
        (chunk * 2).min(CHUNK)
    } else {
        chunk
    }
}

/// Sectors that lie one behind the other both on the backing device and in the chunk's memory.
struct Run {
    /// Number of the item that it begins with.
    first: usize,
    /// First sector on the backing device.
    sector: u64,
    /// Where in memory it begins, and how long it is, in bytes.
    offset: usize,
    len: usize,
}

/// The runs of the sectors `todo` of `items`, which are sorted by address.
fn for_each_run(items: &[Item], todo: &[u8], mut f: impl FnMut(&Run)) {
    let mut run: Option<Run> = None;
    for (i, item) in items.iter().enumerate() {
        for s in (0..BLOCK_SECTORS as usize).filter(|s| todo[i] & 1 << s != 0) {
            let sector = item.addr() * BLOCK_SECTORS + s as u64;
            let offset = i * BLOCK + s * SECTOR;
            match &mut run {
                Some(r) if r.sector + (r.len / SECTOR) as u64 == sector && r.offset + r.len == offset => {
                    r.len += SECTOR;
                }
                _ => {
                    if let Some(r) = run.replace(Run { first: i, sector, offset, len: SECTOR }) {
                        f(&r);
                    }
                }
            }
        }
    }
    if let Some(r) = run {
        f(&r);
    }
}
