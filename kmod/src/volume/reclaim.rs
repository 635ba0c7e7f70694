// SPDX-License-Identifier: GPL-2.0-only

//! The reclaim thread, which moves the tail, and relocates when writeback cannot make room fast enough.

use super::faults::trouble;
use super::{bytes, OwnTransfer, Transfer, Volume};
use crate::engine::checks::Verdict;
use crate::engine::log::{Claim, Wait};
use crate::engine::reclaim::{Batch, Item};
use crate::engine::Entry;
use crate::format::{RecordHeader, Segment, Seq, Slot, BLOCK, BLOCK_SECTORS};
use crate::host::{crc32c, now_ms, should_stop, Arc, Result, Sleep, Table};
use crate::policy::lost::{Around, Lost, Near, Sight, Word, HURRY_LASTS_MS, LASTS_MS, REACH, WATCHED};
use crate::policy::room::{Course, Room, Wake, PATIENCE_MS};
use core::sync::atomic::Ordering;

/// How often the thread looks whether there is something to do, in milliseconds.
const TICK_MS: u32 = 1000;

/// A line in the log says that blocks are in the way once in so many milliseconds.
const SAY_MS: u64 = 60_000;

/// What the thread works with; allocated before the thread starts, so that it never has to wait for memory.
pub(super) struct Tools {
    batch: Batch,
    /// Memory for a segment's blocks, and for those that are looked at beside a block: [`Near`].
    transfer: OwnTransfer,
    /// The finding for each item of the batch.
    found: Table<Found>,
    lost: Lost,
    /// Requests to give up that the thread has taken up, and when it last logged that blocks are in the way.
    give_ups: u64,
    said_ms: u64,
}

/// Headers that are looked at beside a block that cannot be read.
const NEAR: usize = 3;
/// Blocks that are looked at around it.
const AROUND: usize = 2 * REACH as usize;

/// What a block on the cache device turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Intact,
    /// The block was given up before, and has been carried along since.
    Lost,
    /// The block has an error, or does not match its checksum.
    Unreadable(Sight),
    /// Its segment was opened again: the block is not needed any more, and nothing of it is moved.
    Gone,
}

impl Volume {
    /// What the thread works with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reclaim_tools(&self) -> Result<Tools> {
        let segment_blocks = self.core.lock().engine.superblock().segment_blocks as usize;
        Ok(Tools {
            batch: Batch::new(segment_blocks)?,
            transfer: Transfer::with_blocks(
                &self.disks,
                segment_blocks.saturating_add(NEAR).saturating_add(AROUND),
            )?,
            found: Table::new(segment_blocks, |_| Found::Intact)?,
            lost: Lost::new(segment_blocks)?,
            give_ups: 0,
            said_ms: 0,
        })
    }

    pub(super) fn run_reclaim(&self, tools: &mut Tools) {
        while !should_stop() {
            let seen = self.reclaim.count();
            let worked = {
                let _busy = self.reclaim_busy.lock();
                if self.flags.depth.is_restored() {
                    self.compare(&tools.transfer);
                }
                !self.rests() && (self.move_tail(&tools.transfer) | self.relocate(tools))
            };
            if !worked {
                let _ = self.reclaim.wait(seen, TICK_MS, Sleep::Idle);
            }
        }
    }

    /// Frees the segments that hold nothing dirty. Returns whether there were any.
    fn move_tail(&self, t: &Arc<Transfer>) -> bool {
        let (checkpoint, work) = {
            let mut core = self.core.lock();
            let whole = core.room.is_draining() || core.engine.state().dirty == 0;
            core.adds_work(|engine| engine.advance_tail(whole))
        };
        if work {
            self.wake(Wake::COMMIT);
        }
        let Some(checkpoint) = checkpoint else { return false };
        let ok = self.write_checkpoint_or_fail(t, &checkpoint);
        self.wake(Wake::COMMIT | Wake::PROGRESS);
        self.blank_stale(t);
        ok
    }

    /// When segments run short, moves what is dirty in the oldest ones to the head, if that makes room.
    /// Returns whether it did.
    fn relocate(&self, tools: &mut Tools) -> bool {
        let asked = self.faults.give_ups.load(Ordering::Relaxed);
        if core::mem::replace(&mut tools.give_ups, asked) != asked {
            tools.lost.hurry(now_ms());
        }
        if tools.lost.is_early(now_ms()) {
            return false;
        }
        let Some(course) = self.judge_relocation(&mut tools.batch) else {
            if self.faults.has(trouble::CACHE_READ) && tools.lost.is_due(now_ms()) && !self.leaves(false) {
                self.watch(tools);
            }
            return false;
        };
        if course != Course::CarryOn {
            return false;
        }
        let is_ready = self.look_for_lost(tools, usize::MAX, true);
        if !is_ready && self.leaves(true) {
            return false;
        }
        let Tools { batch, transfer: t, found, lost, .. } = tools;
        let seq = if is_ready {
            self.happens(Room::relocation_begins);
            let seq = self.append(batch, found, t);
            if seq.is_some() {
                lost.given_up();
            }
            seq
        } else {
            // A write that waits for room does not wait in vain when blocks that are in the way will be given
            // up.
            let soon = lost.is_over_within(PATIENCE_MS);
            self.happens(|room| room.relocation_cannot_read(soon));
            None
        };
        match seq {
            // Items that were superseded or cleaned meanwhile may free segments all the same.
            None if batch.items().is_empty() => self.move_tail(t),
            None => false,
            Some(seq) => {
                self.core.lock().engine.want(seq);
                self.wake(Wake::COMMIT);
                self.wait_durable(seq, Sleep::Busy).is_ok() && self.move_tail(t)
            }
        }
    }

    /// When segments run short, plans a relocation, and returns how to go on. When there is room, returns
    /// nothing.
    fn judge_relocation(&self, batch: &mut Batch) -> Option<Course> {
        let is_low = {
            let mut core = self.core.lock();
            let is_low = core.is_low();
            let wake = if is_low { Wake::NOBODY } else { self.tell(&mut core, Room::room_is_there) };
            drop(core);
            self.wake(wake);
            is_low
        };
        if !is_low {
            return None;
        }
        self.core.lock().engine.begin_batch(batch);
        // The lock is released each time: a large log may have to be looked through to its end.
        while self.core.lock().engine.plan_relocation(batch) {}
        let (course, wake) = {
            let mut core = self.core.lock();
            // Writes are not delayed for a writeback that gets nothing done: it would be in vain.
            let is_stuck = core.room.is_stuck();
            let verdict = core.engine.judge_relocation(batch);
            // Under the same lock, and so before the tail that this relocation moves is seen.
            let (course, wake) = self.tell(&mut core, |room| room.relocation_judged(verdict));
            match course {
                Course::CarryOn => core.pace.end(),
                Course::Rest | Course::LeaveIt if !is_stuck => {
                    let moment = self.moment(&core.engine);
                    core.pace.begin(&moment);
                }
                Course::Rest | Course::LeaveIt | Course::Wait => (),
            }
            (course, wake)
        };
        self.wake(wake);
        Some(course)
    }

    /// Whether looking at blocks that cannot be read has to end at once, for each may take minutes: because a
    /// task waits for `reclaim_busy`; or, unless the look `is_needed` to make room, because a task is about
    /// to, or needs the tail to be moved.
    fn leaves(&self, is_needed: bool) -> bool {
        let is_wanted = self.rests() || should_stop() || self.reclaim_wanted.load(Ordering::Relaxed) != 0;
        is_wanted || (!is_needed && self.leaves_idle_work())
    }

    fn leaves_idle_work(&self) -> bool {
        let core = self.core.lock();
        let glance = core.room.glance();
        glance.is_leaving() || glance.is_draining() || core.is_low()
    }

    /// Reads the first `most` items of the batch, and finds out what each is. Returns whether all can be read
    /// or are lost; `false` when it [leaves](Self::leaves).
    fn look_for_lost(&self, tools: &mut Tools, most: usize, is_needed: bool) -> bool {
        let Tools { batch, transfer: t, found, lost, .. } = tools;
        let mut left = most;
        // Items that have been superseded meanwhile are left out.
        batch.retain(|planned, item| {
            let is = left != 0 && self.core.lock().engine.begin_item(planned, item).is_some();
            left = left.saturating_sub(usize::from(is));
            is
        });
        lost.resume(now_ms());
        self.read_items(t, batch.items().iter().enumerate());
        let is_whole = batch.items().iter().enumerate().all(|(i, item)| {
            // An item that can be read takes no time.
            if !t.is_ok(i) && self.leaves(is_needed) {
                return false;
            }
            found[i] = self.find(t, i, batch, item);
            true
        });
        let is_ready = is_whole && self.are_lost(tools, is_needed);
        // These read errors are no failure of what comes now: the next checkpoint is written with the same
        // transfer.
        tools.transfer.reset();
        is_ready
    }

    /// There is room, and somewhere a block that cannot be read: looks whether it is lost, so that no write
    /// has to wait for that when the room is needed.
    fn watch(&self, tools: &mut Tools) {
        self.core.lock().engine.begin_batch(&mut tools.batch);
        while self.core.lock().engine.plan_relocation(&mut tools.batch) {}
        let was_over = tools.lost.is_over_within(0);
        self.look_for_lost(tools, WATCHED, false);
        if tools.lost.is_over_within(0) && !was_over {
            log_err!(
                "{}: the medium of the cache device has lost dirty blocks, {} of the oldest ones: they are \
                 given up as soon as their room is needed",
                &*self.disks,
                tools.lost.count()
            );
        }
    }

    /// What item number `i`, read by [`Volume::read_items`], is.
    fn find(&self, t: &Arc<Transfer>, i: usize, batch: &Batch, item: &Item) -> Found {
        let stored = self.checks.checksum(item.slot);
        let lost = t.is_ok(i) && t.pages.with(i.saturating_mul(BLOCK), BLOCK, Entry::lost) == Some(stored);
        if lost && self.core.lock().engine.holds_item(batch, item) {
            return Found::Lost;
        }
        match self.judge_item(t, i, batch.into(), item) {
            Verdict::Intact => Found::Intact,
            // The error of the second try. Without an error, what was read is something else.
            Verdict::Wrong => {
                let word = t.error(i).map_or(Sight::Wrong, |e| Sight::Error(Word::of(e.to_errno())));
                Found::Unreadable(word)
            }
            Verdict::Gone => Found::Gone,
        }
    }

    /// Whether all blocks of the batch can be read, or are lost: `policy/lost.rs` says when. A block that is
    /// declared lost here cannot be had back.
    fn are_lost(&self, tools: &mut Tools, is_needed: bool) -> bool {
        let Tools { batch, transfer: t, found, lost, said_ms, .. } = tools;
        let before = lost.count();
        lost.begin(now_ms());
        let mut all = true;
        // The items of a segment follow each other, so its headers are looked at once.
        let mut headers: Option<(Segment, [Sight; NEAR])> = None;
        for (item, found) in batch.items().iter().zip(found.iter()) {
            let Found::Unreadable(sight) = *found else { continue };
            let crc = self.checks.checksum(item.slot);
            if !lost.wants(item.slot, crc) {
                all = false;
                continue;
            }
            // A round that is not ended does not count.
            if self.leaves(is_needed) {
                return false;
            }
            let segment = item.slot.segment(self.segment_blocks);
            let [own, before, behind] = match headers {
                Some((of, headers)) if of == segment => headers,
                _ => headers.insert((segment, self.look_at_headers(t, segment))).1,
            };
            let Some(around) = self.look_around(t, item.slot, is_needed) else { return false };
            let near = Near { own, beside: [before, behind], around };
            all &= lost.look(item.slot, crc, sight, &near);
        }
        let now = now_ms();
        lost.end(now);
        if before == 0 && lost.count() != 0 && (*said_ms == 0 || now.saturating_sub(*said_ms) >= SAY_MS) {
            *said_ms = now;
            log_err!(
                "{}: dirty blocks that cannot be read from the cache device are in the way of the log; they \
                 are kept unless the device says for {} minutes that its medium has lost them (the message \
                 give_up makes that seconds)",
                &*self.disks,
                LASTS_MS / 60_000
            );
        }
        all
    }

    /// Looks at the headers of a segment and of those beside it. Uses the blocks of `t` behind those of a
    /// batch.
    fn look_at_headers(&self, t: &Arc<Transfer>, segment: Segment) -> [Sight; NEAR] {
        let (nonce, nr) = {
            let core = self.core.lock();
            let sb = core.engine.superblock();
            (sb.nonce, sb.nr_segments)
        };
        let first = (t.pages.len() / BLOCK).saturating_sub(NEAR.saturating_add(AROUND));
        let places = [segment, segment.before(nr), segment.next(nr)];
        let known = places.map(|s| self.core.lock().engine.record_at(s));
        for (s, at) in places.iter().zip(first..) {
            t.forgive(at);
            let sector = self.slot_sector(s.first_slot(self.segment_blocks));
            t.read(&self.disks, &self.disks.cache, sector, (at.saturating_mul(BLOCK), BLOCK), at);
        }
        t.wait();
        let see = |at: usize, known: Option<Seq>| match (t.error(at), known) {
            (Some(e), _) => Sight::Error(Word::of(e.to_errno())),
            (None, None) => Sight::Readable,
            (None, Some(seq)) => {
                let is_right = t.pages.with(at.saturating_mul(BLOCK), BLOCK, |block| {
                    block.first_chunk().is_some_and(|block| RecordHeader::is_of(block, nonce, seq))
                });
                if is_right == Some(true) {
                    Sight::Right
                } else {
                    Sight::Wrong
                }
            }
        };
        let mut at = first..;
        known.map(|known| see(at.next().unwrap_or(first), known))
    }

    /// Looks at the blocks directly beside one that cannot be read, unless it [leaves](Self::leaves). Uses
    /// the last blocks of `t`.
    fn look_around(&self, t: &Arc<Transfer>, slot: Slot, is_needed: bool) -> Option<Around> {
        let nr_slots = u32::try_from(self.state().nr_slots).unwrap_or(u32::MAX);
        let room = (t.pages.len() / BLOCK).saturating_sub(AROUND);
        // The blocks before it, and those behind: first slot, number of blocks, and where they go in the
        // memory.
        let first = slot.minus(REACH);
        let behind = slot.plus(1);
        let sides = [
            (first, slot.since(first), room),
            (behind, Slot(nr_slots).since(behind).min(REACH), room.saturating_add(REACH as usize)),
        ];
        let read = |first: Slot, blocks: u32, at: usize| {
            t.forgive(at);
            let part = (at.saturating_mul(BLOCK), bytes(blocks));
            t.read(&self.disks, &self.disks.cache, self.slot_sector(first), part, at);
        };
        // Mostly all of them can be read, which takes no longer than reading one.
        sides.iter().filter(|side| side.1 != 0).for_each(|&(first, blocks, at)| read(first, blocks, at));
        t.wait();
        let whole = sides.map(|(_, blocks, at)| blocks != 0 && t.is_ok(at));
        let mut is_whole = true;
        let around = Around::look(slot, nr_slots, |place| {
            let i = usize::from(place > slot);
            let (first, _, at) = sides[i];
            let at = at.saturating_add(place.since(first) as usize);
            if !whole[i] {
                if self.leaves(is_needed) {
                    is_whole = false;
                    // With this, `Around::look` ends.
                    return Sight::Error(Word::Away);
                }
                read(place, 1, at);
                t.wait();
                if let Some(e) = t.error(at) {
                    return Sight::Error(Word::of(e.to_errno()));
                }
            }
            // These slots were not looked up, so their segment may have been opened again meanwhile.
            let crc = t.pages.with(at.saturating_mul(BLOCK), BLOCK, |block| crc32c(0, block));
            if crc == Some(self.checks.checksum(place)) {
                Sight::Right
            } else {
                Sight::Readable
            }
        });
        is_whole.then_some(around)
    }

    /// A user does not want to wait for minutes where the medium says that blocks are lost.
    pub fn give_up(&self) {
        self.faults.give_ups.fetch_add(1, Ordering::Relaxed);
        log_info!(
            "{}: for {} minutes, blocks are given up as soon as the medium of the cache device has said a \
             few times that it has lost them",
            &*self.disks,
            HURRY_LASTS_MS / 60_000
        );
        self.wake(Wake::RECLAIM);
    }

    fn report_lost(&self, item: &Item) {
        self.count_lost_block();
        let first = item.addr().first_sector();
        log_err!(
            "{}: block {} (sectors {} to {}) is lost: it cannot be read from the cache device any more; \
             reads of it fail until it is written again",
            &*self.disks,
            item.addr(),
            first,
            first.saturating_add(BLOCK_SECTORS - 1)
        );
    }

    /// Appends the items to the log. The data of item `i` are in block `i` of `t`. A block that is not intact
    /// is lost, and zeroes are appended for it. Returns the sequence number of the last record that this
    /// took; none if there are no items or it could not be done.
    fn append(&self, batch: &Batch, found: &mut [Found], t: &Transfer) -> Option<Seq> {
        let items = batch.items();
        let lost = Entry::lost(&[0; BLOCK]);
        let mut seq = None;
        let mut done: usize = 0;
        while done < items.len() {
            let claim = self.claim_relocation(items.len().saturating_sub(done))?;
            // Slots of the claim, blocks of its buffer, and items.
            let end = done.saturating_add(claim.blocks as usize).min(items.len());
            let (slots, blocks) = (claim.slot.onward(), claim.offset..);
            for (i, to) in (done..end).zip(blocks) {
                t.pages.with_mut(i.saturating_mul(BLOCK), BLOCK, |from| {
                    if found[i] != Found::Intact {
                        from.fill(0);
                    }
                    self.buffers[usize::from(claim.buffer)]
                        .with_mut(bytes(to), BLOCK, |to| to.copy_from_slice(from));
                });
            }
            let mut core = self.core.lock();
            for (i, slot) in (done..end).zip(slots) {
                let lost = (found[i] != Found::Intact).then_some(lost);
                if !core.engine.relocated(&claim, slot, batch, &items[i], lost) {
                    // The block was written again meanwhile: nothing of it is lost.
                    found[i] = Found::Intact;
                }
            }
            core.engine.copied(&claim);
            drop(core);
            for (item, found) in items[done..end].iter().zip(&found[done..end]) {
                if matches!(found, Found::Unreadable(_)) {
                    self.report_lost(item);
                }
            }
            done = end;
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
                    // Only the tail makes space, and only this thread moves the tail.
                    Err(Wait::Space) => break,
                    Err(Wait::Progress) => (),
                }
            }
            self.wake(Wake::COMMIT);
            let _ = self.progress.wait(seen, 20, Sleep::Busy);
        }
        self.core.lock().engine.cancel_relocation();
        // Writes may have been made to wait meanwhile.
        self.wake(Wake::COMMIT);
        None
    }
}
