// SPDX-License-Identifier: GPL-2.0-only

//! The thread that moves the tail, and relocates when writeback cannot make room fast enough.

use super::commit::low_water;
use super::{until_made, Transfer, Volume};
use crate::engine::format::BLOCK;
use crate::engine::log::{Claim, Wait};
use crate::engine::reclaim::{Batch, Item, Relocation};
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
        let tools = until_made(&self.reclaim, || {
            Ok(Tools { batch: Batch::new(segment_blocks)?, transfer: Transfer::new(segment_blocks)? })
        });
        let Some(mut tools) = tools else { return };
        while !should_stop() {
            let seen = self.reclaim.count();
            let worked = {
                let _busy = self.reclaim_busy.lock();
                !self.suspended.load(Ordering::SeqCst)
                    && (self.move_tail(&tools.transfer) | self.relocate(&mut tools))
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
            log_err!(
                "{}: cannot write a checkpoint to the cache device; no more writes are taken",
                &*self.disks
            );
        }
        self.commit.notify();
        self.progress.notify();
        ok
    }

    /// When segments run short, moves what is dirty in the oldest ones to the head, if that makes room. Says whether it
    /// did.
    fn relocate(&self, tools: &mut Tools) -> bool {
        let Tools { batch, transfer: t } = tools;
        let verdict = {
            let core = self.core.lock();
            let state = core.engine.state();
            if state.free_segments >= low_water(state.nr_segments) {
                return false;
            }
            core.engine.begin_batch(batch);
            while core.engine.plan_relocation(batch) {}
            core.engine.judge_relocation(batch)
        };
        match verdict {
            Relocation::MakesRoom => (),
            Relocation::Useless => {
                self.full.store(true, Ordering::Relaxed);
                self.writeback.notify();
                return false;
            }
            Relocation::Waits => return false,
        }
        // Pins what is to be read; what has been superseded meanwhile is left out.
        batch.retain(|planned, item| self.core.lock().engine.begin_item(planned, item).is_some());
        self.read_items(t, batch.items().iter().enumerate());
        // What cannot be read stays where it is, and writeback reports it: the tail cannot pass it.
        let intact = batch.items().iter().enumerate().all(|(i, item)| self.is_intact(t, i, item));
        let seq = if intact { self.append(batch.items(), t) } else { None };
        for item in batch.items() {
            self.unpin_slot(item.slot);
        }
        match seq {
            // What was superseded or cleaned meanwhile may free segments all the same.
            None if batch.items().is_empty() => self.move_tail(t),
            None => false,
            Some(seq) => {
                self.core.lock().engine.want(seq);
                self.commit.notify();
                self.wait_durable(seq, Sleep::Busy).is_ok() && self.move_tail(t)
            }
        }
    }

    /// Appends the items, whose data are in the blocks of `t` that have their numbers, to the log. Returns the sequence
    /// number of the last record that this took; none if there are no items or it could not be done.
    fn append(&self, items: &[Item], t: &Transfer) -> Option<u64> {
        let mut seq = None;
        let mut done = 0;
        while done < items.len() {
            let claim = self.claim_relocation(items.len() - done)?;
            for i in 0..claim.blocks as usize {
                t.pages.with((done + i) * BLOCK, BLOCK, |from| {
                    let to = (claim.offset as usize + i) * BLOCK;
                    self.buffers[usize::from(claim.buffer)]
                        .with_mut(to, BLOCK, |to| to.copy_from_slice(from));
                });
            }
            let mut core = self.core.lock();
            for (slot, item) in (claim.slot..claim.slot + claim.blocks).zip(&items[done..]) {
                core.engine.relocated(&claim, slot, item);
            }
            core.engine.copied(&claim);
            done += claim.blocks as usize;
            seq = Some(claim.seq);
        }
        seq
    }

    fn claim_relocation(&self, blocks: usize) -> Option<Claim> {
        while !should_stop() {
            let seen = self.progress.count();
            {
                let mut core = self.core.lock();
                if core.engine.failed() {
                    break;
                }
                match core.engine.claim_relocation(blocks as u32) {
                    Ok(claim) => return Some(claim),
                    // Only the tail makes space, and it is this thread that moves it.
                    Err(Wait::Space) => break,
                    Err(Wait::Progress) => (),
                }
            }
            self.commit.notify();
            let _ = self.progress.wait(seen, 20, Sleep::Busy);
        }
        self.core.lock().engine.cancel_relocation();
        // Writes may have been turned away meanwhile.
        self.commit.notify();
        None
    }
}
