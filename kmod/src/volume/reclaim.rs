// SPDX-License-Identifier: GPL-2.0-only

//! The thread that moves the tail, and relocates when writeback cannot make room fast enough.

use super::commit::low_water;
use super::{Transfer, Volume};
use crate::engine::reclaim::Batch;
use crate::os::{should_stop, Sleep};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How often it looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;

/// What the thread works with; allocated once, so that it never has to wait for memory.
struct Tools {
    batch: Batch,
    transfer: Arc<Transfer>,
}

impl Volume {
    pub(super) fn run_reclaim(&self) {
        let segment_blocks = self.core.lock().engine.superblock().segment_blocks as usize;
        let mut tools = loop {
            let tools = Batch::new(segment_blocks)
                .map_err(Error::from)
                .and_then(|batch| Ok(Tools { batch, transfer: Transfer::new(segment_blocks)? }));
            match tools {
                Ok(t) => break t,
                Err(_) if should_stop() => return,
                Err(_) => {
                    let _ = self.reclaim.wait(self.reclaim.count(), 100, Sleep::Idle);
                }
            }
        };
        while !should_stop() {
            let seen = self.reclaim.count();
            let worked = {
                let _busy = self.reclaim_busy.lock();
                !self.suspended.load(Ordering::SeqCst) && (self.move_tail(&tools.transfer) | self.relocate(&mut tools))
            };
            if !worked {
                let _ = self.reclaim.wait(seen, TICK_MS, Sleep::Idle);
            }
        }
    }

    /// Frees the segments that hold nothing dirty. Says whether there were any.
    fn move_tail(&self, t: &Arc<Transfer>) -> bool {
        let (checkpoint, work) = {
            let mut core = self.core.lock();
            let whole = self.draining.load(Ordering::Relaxed) != 0 || core.engine.state().dirty == 0;
            let checkpoint = core.engine.advance_tail(whole);
            (checkpoint, core.engine.has_work())
        };
        if work {
            self.commit.notify();
        }
        let Some(checkpoint) = checkpoint else { return false };
        let ok = self.disks.write_checkpoint(t, &checkpoint).is_ok();
        self.core.lock().engine.checkpointed(ok);
        if !ok {
            log_err!("{}: cannot write a checkpoint to the cache device; no more writes are taken", &*self.disks);
        }
        self.commit.notify();
        self.progress.notify();
        ok
    }

    /// When segments run short, moves what is dirty in the oldest ones to the head, if at least two segments go into
    /// one. Says whether it did.
    fn relocate(&self, tools: &mut Tools) -> bool {
        let Tools { batch, transfer: t } = tools;
        {
            let core = self.core.lock();
            let state = core.engine.state();
            if state.free_segments >= low_water(state.nr_segments) || state.failed {
                return false;
            }
            core.engine.begin_batch(batch);
            while core.engine.plan_relocation(batch) {}
            if batch.segments() < 2 {
                drop(core);
                self.full.store(true, Ordering::Relaxed);
                self.writeback.notify();
                return false;
            }
        }
        // Pins what is to be read; what has been superseded meanwhile is left out.
        batch.retain(|planned, item| self.core.lock().engine.begin_item(planned, item).is_some());
        if batch.items().is_empty() {
            return self.move_tail(t);
        }
        let done = self.append_relocated(batch, t);
        for item in batch.items() {
            self.pins.unpin(item.slot);
        }
        self.commit.notify();
        match done {
            Some(seq) => self.wait_durable(seq, Sleep::Busy).is_ok() && self.move_tail(t),
            None => false,
        }
    }

    /// Reads the items of the batch and appends them to the log.
    fn append_relocated(&self, batch: &Batch, t: &Arc<Transfer>) -> Option<u64> {
        let taken = self.core.lock().engine.take_buffer();
        let Some(buffer) = taken else {
            // All buffers are being written: the next tick, or rather the next record done, finds one.
            let _ = self.progress.wait(self.progress.count(), 10, Sleep::Busy);
            return None;
        };
        let pages = &self.buffers[usize::from(buffer)];
        self.read_items(t, batch.items().iter().enumerate(), pages, 1);
        let mut intact = true;
        for (i, item) in batch.items().iter().enumerate() {
            intact &= self.is_intact(t, i, item, pages, i + 1);
        }
        // What cannot be read stays where it is: then the tail cannot pass it, and writeback reports it.
        while intact && !should_stop() {
            let seen = self.progress.count();
            {
                let mut core = self.core.lock();
                if core.engine.failed() {
                    break;
                }
                if let Ok(seq) = core.engine.relocate(batch.items(), buffer) {
                    core.engine.want(seq);
                    return Some(seq);
                }
            }
            self.commit.notify();
            let _ = self.progress.wait(seen, 20, Sleep::Busy);
        }
        self.core.lock().engine.give_buffer(buffer);
        if !intact {
            self.full.store(true, Ordering::Relaxed);
            self.writeback.notify();
        }
        None
    }
}
