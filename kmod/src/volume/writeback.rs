// SPDX-License-Identifier: GPL-2.0-only

//! The thread that writes back to the backing device.
//!
//! Unless an option says otherwise it works when the cache is more than a quarter full or the volume was idle for a
//! second: gathering first makes for longer runs, and nobody is disturbed when nobody is there. For the same sake it takes
//! many segments together when there is time, and few when only writeback makes room, which whole segments do.

use super::{until_made, OwnTransfer, Transfer, Volume};
use crate::arguments::MAX_BATCHED;
use crate::engine::format::{BLOCK, BLOCK_SECTORS, SECTOR};
use crate::engine::reclaim::{Batch, Item};
use crate::os::{crc32c, should_stop, Sleep, Table};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Blocks that are read from the cache device, written back and flushed together: 1 MiB, what one bio can carry.
const CHUNK: usize = 256;
/// Blocks that the lock is held for at a time.
const AT_ONCE: usize = 32;
/// Segments that are written back together unless an option says so: when all is to be written back, when there is time,
/// when only that makes room.
const DRAIN: u32 = MAX_BATCHED;
const BACKGROUND: u32 = 256;
const URGENT: u32 = 32;
/// How often it looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;

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

/// What the thread works with; allocated once, so that it never has to wait for memory.
struct Tools {
    batch: Batch,
    transfer: OwnTransfer,
    /// Live mask of each item of the chunk; 0 for one that is not to be written.
    live: Table<u8>,
}

impl Volume {
    fn tools(&self) -> Result<Tools> {
        let state = self.state();
        let segments = state.nr_segments.min(MAX_BATCHED) as usize;
        Ok(Tools {
            batch: Batch::new(state.nr_slots as usize / state.nr_segments as usize * segments)?,
            transfer: Transfer::new(CHUNK)?,
            live: Table::new(CHUNK, |_| 0)?,
        })
    }

    pub(super) fn run_writeback(&self) {
        let Some(mut tools) = until_made(&self.writeback, || self.tools()) else { return };
        let mut tick = Tick { mapped: 0, busy_ms: 0, at_ms: 0, synced_ms: 0, idle: false, utilisation: 100 };
        while !should_stop() {
            let seen = self.writeback.count();
            self.tick(&mut tick);
            let worked = {
                let _busy = self.writeback_busy.lock();
                !self.suspended.load(Ordering::SeqCst)
                    && self.wants_writeback(&tick)
                    && self.write_back(&mut tools)
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
        let now = crate::os::now_ms();
        let past = now - tick.at_ms;
        if past < u64::from(TICK_MS) {
            return;
        }
        let (mapped, busy_ms) = (self.mapped.load(Ordering::Relaxed), self.disks.backing.busy_ms());
        tick.idle = mapped == tick.mapped;
        tick.utilisation = (u64::from(busy_ms.wrapping_sub(tick.busy_ms)) * 100 / past).min(100) as u32;
        (tick.mapped, tick.busy_ms, tick.at_ms) = (mapped, busy_ms, now);
        let interval = u64::from(self.options.sync_data_interval()) * 1000;
        if interval != 0 && now - tick.synced_ms >= interval && !self.suspended.load(Ordering::Relaxed) {
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
        if draining || self.full.load(Ordering::Relaxed) {
            return true;
        }
        let state = self.state();
        match self.options.writeback_threshold() {
            Some(threshold) => tick.utilisation < threshold,
            None => tick.idle || state.free_segments < state.nr_segments / 4 * 3,
        }
    }

    /// Writes back one batch of the oldest segments. Says whether there was one and it went well.
    fn write_back(&self, tools: &mut Tools) -> bool {
        let batch = &mut tools.batch;
        self.core.lock().engine.begin_batch(batch);
        let urgent = self.full.load(Ordering::Relaxed);
        let draining = self.draining.load(Ordering::Relaxed) != 0;
        let most = self.options.nr_max_batched_writeback().unwrap_or(match (draining, urgent) {
            (true, _) => DRAIN,
            (false, false) => BACKGROUND,
            (false, true) => URGENT,
        });
        while batch.segments() < most && self.core.lock().engine.plan_writeback(batch) {}
        if batch.items().is_empty() {
            return false;
        }
        batch.sort();
        let mut ok = true;
        let mut from = 0;
        while from < tools.batch.items().len() && !should_stop() && !self.suspended.load(Ordering::SeqCst) {
            if !urgent && !draining && self.full.load(Ordering::Relaxed) {
                // What is written back so far counts; a smaller batch makes room sooner.
                break;
            }
            let to = (from + CHUNK).min(tools.batch.items().len());
            ok &= self.write_chunk(tools, from, to);
            from = to;
            self.reclaim.notify();
        }
        if self.faults.stuck.swap(!ok, Ordering::Relaxed) == ok {
            if ok {
                log_info!("{}: writeback works again", &*self.disks);
            } else {
                log_err!(
                    "{}: writeback has failed; what is dirty stays in the cache, trying again",
                    &*self.disks
                );
            }
            self.commit.notify();
        }
        self.progress.notify();
        ok
    }

    /// Writes back the items `from..to` of the batch, at most [`CHUNK`]. Says whether all went well.
    fn write_chunk(&self, tools: &mut Tools, from: usize, to: usize) -> bool {
        let (batch, t, live) = (&tools.batch, &tools.transfer, &mut tools.live);
        let items = &batch.items()[from..to];
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let mut core = self.core.lock();
            for (k, item) in items.iter().enumerate() {
                live[i * AT_ONCE + k] = core.engine.begin_item(batch, item).unwrap_or(0);
            }
        }
        let mut ok = true;
        self.read_items(t, items.iter().enumerate().filter(|&(i, _)| live[i] != 0));
        for (i, item) in items.iter().enumerate() {
            if live[i] != 0 {
                if !self.is_intact(t, i, item) {
                    live[i] = 0;
                    ok = false;
                }
                self.unpin_slot(item.slot);
            }
        }
        t.reset();
        for_each_run(items, live, |run| {
            t.write(&self.disks, &self.disks.backing, run.sector, (run.offset, run.len), false, run.first);
        });
        t.wait();
        let mut lost = (0..items.len()).any(|i| !t.is_ok(i));
        if !lost {
            t.flush(&self.disks, &self.disks.backing);
            t.wait();
            lost = !t.is_ok(t.flush_tag());
        }
        if lost {
            // Which of them are there does not matter: they stay dirty and are written again.
            self.faults.writebacks.fetch_add(1, Ordering::Relaxed);
            if self.may_log() {
                log_err!(
                    "{}: cannot write to the backing device near block {}",
                    &*self.disks,
                    items[0].addr()
                );
            }
            ok = false;
        }
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let mut core = self.core.lock();
            for (k, item) in items.iter().enumerate() {
                if live[i * AT_ONCE + k] != 0 && !lost {
                    core.engine.written_back(batch, item);
                }
            }
        }
        t.reset();
        ok
    }

    /// Reads items into the blocks of the transfer's memory that have their numbers, tagged with these.
    pub(super) fn read_items<'a>(&self, t: &Arc<Transfer>, items: impl Iterator<Item = (usize, &'a Item)>) {
        t.reset();
        for (i, item) in items {
            t.read(&self.disks, &self.disks.cache, self.slot_sector(item.slot), (i * BLOCK, BLOCK), i);
        }
        t.wait();
    }

    /// Whether item number `i`, read by [`Volume::read_items`], is what was once written.
    pub(super) fn is_intact(&self, t: &Transfer, i: usize, item: &Item) -> bool {
        let crc = t.pages.with(i * BLOCK, BLOCK, |b| crc32c(0, b));
        if t.is_ok(i) && crc == Some(self.pins.checksum(item.slot)) {
            return true;
        }
        self.cache_read_failed(item.slot, 1);
        false
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

/// The runs of the live sectors of `items`, which are sorted by address.
fn for_each_run(items: &[Item], live: &[u8], mut f: impl FnMut(&Run)) {
    let mut run: Option<Run> = None;
    for (i, item) in items.iter().enumerate() {
        for s in (0..BLOCK_SECTORS as usize).filter(|s| live[i] & 1 << s != 0) {
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
