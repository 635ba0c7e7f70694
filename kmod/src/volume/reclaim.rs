// SPDX-License-Identifier: GPL-2.0-only

//! The thread that moves the tail, and relocates when writeback cannot make room fast enough.

use super::{until_made, OwnTransfer, Transfer, Volume};
use crate::engine::checks::Verdict;
use crate::engine::format::{Superblock, BLOCK, BLOCK_SECTORS};
use crate::engine::log::{Claim, Wait};
use crate::engine::pace::low_water;
use crate::engine::reclaim::{Batch, Item, Relocation};
use crate::engine::Entry;
use crate::os::{now_ms, should_stop, Sleep, Table};
use core::sync::atomic::Ordering;
use kernel::sync::Arc;

/// How often it looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;

/// A block is given up for lost when it could not be read this often, a second apart, though the device answers.
const MOST_TRIES: u32 = 5;
const PAUSE_MS: u64 = 1000;

/// What the thread works with; allocated once, so that it never has to wait for memory.
struct Tools {
    batch: Batch,
    /// A segment's worth of blocks, and one more.
    transfer: OwnTransfer,
    /// What each item of the batch is.
    found: Table<Found>,
    trouble: Trouble,
}

/// Dirty blocks that cannot be read, and that the tail cannot pass.
#[derive(Default)]
struct Trouble {
    /// Hash of their slots; 0 for none.
    slots: u64,
    tries: u32,
    at_ms: u64,
}

/// What a block on the cache device turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Intact,
    /// It was given up before, and has been carried along since.
    Lost,
    Unreadable,
    /// Its segment was opened again: nobody needs it any more, and nothing of it is moved.
    Gone,
}

impl Volume {
    pub(super) fn run_reclaim(&self) {
        let segment_blocks = self.core.lock().engine.superblock().segment_blocks as usize;
        let tools = until_made(&self.reclaim, || {
            Ok(Tools {
                batch: Batch::new(segment_blocks)?,
                transfer: Transfer::doubting(segment_blocks + 1, self.flights.doubts())?,
                found: Table::new(segment_blocks, |_| Found::Intact)?,
                trouble: Trouble::default(),
            })
        });
        let Some(mut tools) = tools else { return };
        while !should_stop() {
            let seen = self.reclaim.count();
            let worked = {
                let _busy = self.reclaim_busy.lock();
                !self.rests() && (self.move_tail(&tools.transfer) | self.relocate(&mut tools))
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
        let ok = self.write_checkpoint(t, &checkpoint);
        self.commit.notify();
        self.progress.notify();
        ok
    }

    /// When segments run short, moves what is dirty in the oldest ones to the head, if that makes room. Says whether it
    /// did.
    fn relocate(&self, tools: &mut Tools) -> bool {
        let Tools { batch, transfer: t, found, trouble } = tools;
        if trouble.slots != 0 && now_ms().saturating_sub(trouble.at_ms) < PAUSE_MS {
            return false;
        }
        let verdict = {
            let mut core = self.core.lock();
            let state = core.engine.state();
            if state.free_segments >= low_water(state.nr_segments) {
                self.flags.resting.store(false, Ordering::Relaxed);
                return false;
            }
            core.engine.begin_batch(batch);
            while core.engine.plan_relocation(batch) {}
            // A drain waits until the oldest segments are written back, and must not lose sight of what was in them.
            let stuck = self.faults.stuck.load(Ordering::Relaxed);
            let rests = self.draining.load(Ordering::Relaxed) != 0 && !stuck;
            let (verdict, rests) = match core.engine.judge_relocation(batch) {
                Relocation::MakesRoom if rests => (Relocation::Useless, true),
                verdict => (verdict, false),
            };
            self.flags.resting.store(rests, Ordering::Relaxed);
            if verdict == Relocation::MakesRoom && self.draining.load(Ordering::Relaxed) != 0 {
                // Under the lock, and so before the tail that it moves is seen.
                self.carried.fetch_add(1, Ordering::Relaxed);
            }
            match verdict {
                Relocation::MakesRoom => core.pace.end(),
                // A writeback that gets nothing done is waited for in vain.
                Relocation::Useless if !stuck => {
                    let moment = self.moment(&core.engine);
                    core.pace.begin(&moment);
                }
                Relocation::Useless | Relocation::Waits => (),
            }
            verdict
        };
        match verdict {
            // Who was delayed need not be any more.
            Relocation::MakesRoom => self.commit.notify(),
            Relocation::Useless if self.flags.resting.load(Ordering::Relaxed) => {
                // Only until the drain is over, or gets nothing done: nobody has to give up.
                self.set_full(false);
                self.writeback.notify();
                return false;
            }
            Relocation::Useless => {
                self.faults.salvaging.store(false, Ordering::Relaxed);
                self.call_writeback();
                return false;
            }
            Relocation::Waits => return false,
        }
        // What has been superseded meanwhile is left out.
        batch.retain(|planned, item| self.core.lock().engine.begin_item(planned, item).is_some());
        self.read_items(t, batch.items().iter().enumerate());
        // FNV-1a, to know the same ones again.
        let mut unreadable = 0;
        for (i, item) in batch.items().iter().enumerate() {
            found[i] = self.find(t, i, batch, item);
            if found[i] == Found::Unreadable {
                let hash = if unreadable == 0 { 0xcbf2_9ce4_8422_2325 } else { unreadable };
                unreadable = (hash ^ u64::from(item.slot)).wrapping_mul(0x0100_0000_01b3) | 1;
            }
        }
        let is_ready = unreadable == 0 || self.gives_up_for_lost(t, unreadable, trouble);
        self.faults.salvaging.store(trouble.tries != 0, Ordering::Relaxed);
        let seq = if is_ready {
            self.faults.note_helpless(false);
            self.set_full(false);
            self.append(batch, found, t)
        } else {
            self.call_writeback();
            None
        };
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

    /// Relocation makes no room: it is up to writeback.
    fn call_writeback(&self) {
        let is_news = !self.flags.full.load(Ordering::Relaxed);
        if is_news {
            // That it got nothing done when little was dirty and it was not needed says nothing. Whoever sees the flag sees
            // that, too. A device that is still dead shows so in the next pass.
            self.faults.note_hope();
            self.set_full(true);
        }
        // When it gets nothing done either, the two would wake each other without end.
        if is_news || !self.faults.stuck.load(Ordering::Relaxed) {
            self.writeback.notify();
        }
    }

    /// What item number `i`, read by [`Volume::read_items`], is.
    fn find(&self, t: &Arc<Transfer>, i: usize, batch: &Batch, item: &Item) -> Found {
        let stored = self.checks.checksum(item.slot);
        let lost = t.is_ok(i) && t.pages.with(i * BLOCK, BLOCK, Entry::lost) == Some(stored);
        if lost && self.core.lock().engine.holds_item(batch, item) {
            return Found::Lost;
        }
        match self.judge_item(t, i, batch, item) {
            Verdict::Intact => Found::Intact,
            Verdict::Wrong => Found::Unreadable,
            Verdict::Gone => Found::Gone,
        }
    }

    /// Whether the blocks with the hash `slots`, which could not be read again, are to be given up.
    ///
    /// What is lost by this cannot be had back, so: room is needed and they are in the way, it was tried for seconds, and
    /// each time the device could read its superblock. A device that does not answer may come back with all its data.
    fn gives_up_for_lost(&self, t: &Arc<Transfer>, slots: u64, trouble: &mut Trouble) -> bool {
        if trouble.slots != slots {
            *trouble = Trouble { slots, ..Trouble::default() };
        }
        trouble.at_ms = now_ms();
        let spare = t.pages.len() / BLOCK - 1;
        t.reset();
        t.read(&self.disks, &self.disks.cache, 0, (spare * BLOCK, BLOCK), spare);
        t.wait();
        let nonce = self.core.lock().engine.superblock().nonce;
        let answers = t.is_ok(spare)
            && t.pages.with(spare * BLOCK, BLOCK, |block| {
                block
                    .first_chunk()
                    .is_some_and(|sector| Superblock::decode(sector).is_ok_and(|sb| sb.nonce == nonce))
            }) == Some(true);
        trouble.tries = if answers { trouble.tries + 1 } else { 0 };
        if trouble.tries < MOST_TRIES {
            return false;
        }
        *trouble = Trouble::default();
        true
    }

    fn report_lost(&self, item: &Item) {
        self.block_lost();
        log_err!(
            "{}: block {} (sectors {} to {}) is lost: it cannot be read from the cache device any more; reads of it \
             fail until it is written again",
            &*self.disks,
            item.addr(),
            item.addr() * BLOCK_SECTORS,
            (item.addr() + 1) * BLOCK_SECTORS - 1
        );
    }

    /// Appends the items, whose data are in the blocks of `t` that have their numbers, to the log; zeroes for those that
    /// are not intact, which are lost. Returns the sequence number of the last record that this took; none if there are no
    /// items or it could not be done.
    fn append(&self, batch: &Batch, found: &[Found], t: &Transfer) -> Option<u64> {
        let items = batch.items();
        for (item, _) in items.iter().zip(found).filter(|(_, found)| **found == Found::Unreadable) {
            self.report_lost(item);
        }
        let lost = Entry::lost(&[0; BLOCK]);
        let mut seq = None;
        let mut done = 0;
        while done < items.len() {
            let claim = self.claim_relocation(items.len() - done)?;
            for i in 0..claim.blocks as usize {
                t.pages.with_mut((done + i) * BLOCK, BLOCK, |from| {
                    if found[done + i] != Found::Intact {
                        from.fill(0);
                    }
                    let to = (claim.offset as usize + i) * BLOCK;
                    self.buffers[usize::from(claim.buffer)]
                        .with_mut(to, BLOCK, |to| to.copy_from_slice(from));
                });
            }
            let mut core = self.core.lock();
            for (i, slot) in (done..).zip(claim.slot..claim.slot + claim.blocks) {
                let lost = (found[i] != Found::Intact).then_some(lost);
                core.engine.relocated(&claim, slot, batch, &items[i], lost);
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
