// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation.
//!
//! # Invariant
//! From the moment before the snapshot until tasks run again, in the kernel that made the image or in the one that comes out of
//! it, nothing of this volume is written to its devices, whoever asks for it. Or the device would be ahead of the memory in the
//! image: what that acknowledges would lie where no replay looks for it.
//!
//! And nothing that memory says of the devices is told to anybody between the snapshot and the moment in which it is known that
//! memory is as old as the devices are.
//!
//! # What happens when
//! - **Hibernation is announced** (or a restore, in the kernel that is to be replaced): the volume *drowses*. Nothing is written
//!   back only because there is time for it. All else goes on: a sync follows, and user space and file systems must come to
//!   rest, for which a full cache needs room.
//! - **User space is frozen**, and all devices work: the volume *rests*. Writeback, relocation, the tail and what goes
//!   around the cache end, which may take many I/Os. They end here and not later, because then the devices below may sleep
//!   already: the kernel has no order for those that came after this module, or that sleep at the same time. Records go on:
//!   the kernel makes room in RAM for the image.
//! - **All tasks are frozen, and devices are about to be**: the volume *falls asleep*. The sending of records and flushes ends,
//!   by the thread or by who flushes. What is under way is waited for. What cannot be had in time is no sleep, and then the
//!   kernel does not hibernate. Of volumes on volumes the upper one sleeps first, for it may need the lower one until then.
//! - **Blind**, from then until the kernel knows whether it is the one that makes the image or the one that has come out of it:
//!   whatever comes is held. Nothing is read, taken or acknowledged, neither from RAM nor from a device.
//! - **Asleep**, in the kernel that writes the image: reads are served, they write nothing. Writes are taken into RAM as always,
//!   for as long as there is room in the buffers, and then wait; flushes wait. They come from threads of the kernel, which may wait:
//!   an error would lose what is dirty in the page cache if the hibernation is broken off. Only the task that hibernates gets an
//!   error, and at once: it writes the image, which is to lie on the volume, nobody would ever wake up if it waited, and
//!   nobody could read the image again. So the hibernation fails, and the system goes on.
//! - **Memory has come out of an image**: the volume stays blind. Its thread compares the cache device with memory
//!   ([`crate::engine::sleep`]), which takes as long as it takes: the device may need a daemon that is frozen like all tasks.
//!   If it has changed, somebody else has had the volume, and everything that memory knows of it may be stale. Then the volume
//!   never wakes up: it writes nothing, takes nothing, and serves no read, neither from the cache nor from the backing device.
//!   So it is, too, when the device still has nothing but errors some time after tasks run again.
//! - **Hibernation is announced anew while it still compares**: a sync waits for what is held, so it wakes up behind the comparison
//!   as if tasks had just been thawed, and is drowsy. It comes to rest only when the comparison is over.
//! - **Tasks are thawed**: it wakes up, or will when it has compared; also when the hibernation has failed at whatever step, and
//!   if it never fell asleep.
//!
//! The end of an I/O, checksums and the engine's state go on in RAM all the time. That of the image is older by as much, and
//! repeats it: nothing was under way at the snapshot. Suspend to RAM needs none of this, for memory stays what it is.
//! Volumes are made and removed by tasks, and so not while these are frozen.

use super::faults::{trouble, Kind};
use super::{Errand, Transfer, Volume};
use crate::engine::sleep::Comparison;
use crate::format::{Held, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS};
use crate::host::{is_hibernating, now_ms, should_stop, sleep_ms, Arc, Bio, Mutex, Op, Result, Sleeper, EIO};
use crate::policy::lost::insist;
use crate::policy::retry::{Next, Retry};
use crate::policy::room::Wake;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How long it may take to fall asleep, in milliseconds: as long as the kernel waits for tasks, and a failing write is repeated.
const PATIENCE_MS: u64 = 20_000;
/// Tasks are not frozen for longer than this between the announcement and the moment in which it falls asleep, in milliseconds,
/// or the hibernation has failed and they run again: what the kernel waits for them, what it takes to make room, and what the
/// volume takes to rest.
const FROZEN_MS: u64 = 120_000;

/// Each has what the ones before it have.
const AWAKE: u32 = 0;
const DROWSY: u32 = 1;
/// Neither writeback nor relocation nor a checkpoint begins.
const RESTING: u32 = 2;
/// Nothing is sent.
const ASLEEP: u32 = 3;
/// Nothing is served either: nobody knows yet whose the devices are.
const BLIND: u32 = 4;
/// And never will be: the devices are somebody else's.
const GONE: u32 = 5;

/// How deep the volume sleeps.
#[derive(Default)]
pub(super) struct Depth {
    depth: AtomicU32,
    /// Memory has come out of an image, and the cache device is to be compared with it.
    is_restored: AtomicBool,
    /// Tasks run, or did when a hibernation was announced.
    is_thawed: AtomicBool,
    /// Hibernation is announced: tasks may be frozen at any moment.
    is_announced: AtomicBool,
}

impl Depth {
    fn is(&self, depth: u32) -> bool {
        // Whoever must see it has locked something since that its setter has locked, too.
        self.depth.load(Ordering::Relaxed) >= depth
    }

    fn deepen(&self, depth: u32) {
        self.depth.fetch_max(depth, Ordering::SeqCst);
    }

    /// It wakes up, as far as it may.
    fn wakes(&self) {
        if !self.is_gone() {
            let is_announced = self.is_announced.load(Ordering::SeqCst);
            self.depth.store(if is_announced { DROWSY } else { AWAKE }, Ordering::SeqCst);
            // Announced meanwhile: one of the two comes last.
            if self.is_announced.load(Ordering::SeqCst) {
                self.deepen(DROWSY);
            }
        }
    }

    /// Tasks ran when it was announced that they will be frozen: nobody knows whether they are by now.
    fn is_about_to_freeze(&self) -> bool {
        self.is_thawed.load(Ordering::SeqCst) && self.is_announced.load(Ordering::SeqCst)
    }

    /// Whether an error of a device is its own, and not of a task that is frozen and that it needs, when there have been only
    /// errors since `since_ms` and tasks were about to freeze all that time.
    fn blames_device(&self, since_ms: u64) -> bool {
        self.is_thawed.load(Ordering::SeqCst)
            && (!self.is_about_to_freeze() || now_ms().saturating_sub(since_ms) > FROZEN_MS)
    }

    /// It is known whose the devices are.
    fn sees(&self) {
        let _ = self.depth.compare_exchange(BLIND, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether somebody has to compare.
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored.load(Ordering::SeqCst)
    }

    /// What comes is to be held. To be asked with the lock of `core` by whoever then puts it where it is held.
    pub(super) fn is_blind(&self) -> bool {
        self.depth.load(Ordering::Relaxed) == BLIND
    }

    /// What comes is to be held, or ended: nothing is looked up.
    pub(super) fn serves_nothing(&self) -> bool {
        self.is(BLIND)
    }

    /// Nothing is to be written back for lack of anything better to do.
    pub(super) fn is_drowsy(&self) -> bool {
        self.is(DROWSY)
    }

    /// Neither writeback nor relocation nor a checkpoint may begin. To be asked with the mutex of that kind of work.
    pub(super) fn is_resting(&self) -> bool {
        self.is(RESTING)
    }

    /// Nothing may be sent. To be asked with the attempts.
    pub(super) fn is_asleep(&self) -> bool {
        self.is(ASLEEP)
    }

    /// Somebody else has had the devices: memory knows nothing of them any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is(GONE)
    }
}

/// Waits until something `is_over`. Says whether that was before `until`.
fn ends(until: u64, is_over: impl Fn() -> bool) -> bool {
    while !is_over() {
        if now_ms() >= until {
            return false;
        }
        sleep_ms(5);
    }
    true
}

/// Waits until nobody has the mutex who has locked it before. Says whether that was before `until`.
fn settle<T>(mutex: &Mutex<T>, until: u64) -> bool {
    // Not by locking it: its holder may wait for a device that is frozen already.
    ends(until, || mutex.try_lock().is_some())
}

impl Volume {
    /// Whether a bio gets an error at once, instead of waiting for what will not come.
    pub fn refuses(&self, bio: &Bio<Errand>) -> bool {
        self.flags.depth.is_asleep()
            && (self.flags.depth.is_gone() || (!matches!(bio.op(), Op::Read) && is_hibernating()))
    }

    /// Writeback, relocation and the tail end. Says whether they have.
    fn comes_to_rest(&self, until: u64) -> bool {
        let depth = &self.flags.depth;
        depth.deepen(RESTING);
        // Whoever still compares wakes it up at the end.
        if !ends(until, || !depth.is_restored()) || !settle(&self.reclaim_busy, until) {
            return false;
        }
        depth.deepen(RESTING);
        // Who goes around the cache asks with the lock: nobody does from now on.
        drop(self.core.lock());
        settle(&self.writeback_busy, until)
            && settle(&self.reclaim_busy, until)
            && ends(until, || self.bypass.is_idle())
    }

    fn falls_asleep(&self, until: u64) -> bool {
        if !self.comes_to_rest(until) {
            return false;
        }
        // Nobody waits for a record any more who could not wait on.
        self.flags.depth.deepen(ASLEEP);
        if !settle(&self.attempts, until) || !ends(until, || !self.flights.is_flying()) {
            return false;
        }
        self.flags.depth.deepen(BLIND);
        true
    }

    fn or_complain(&self, is_quiet: bool) -> bool {
        if !is_quiet {
            log_err!(
                "{}: something is still being written, so that the machine cannot hibernate",
                &*self.disks
            );
        }
        is_quiet
    }

    /// Gives a read back that may go on. While the volume is blind it is held, and ended when the devices are somebody else's.
    pub(super) fn let_read(&self, bio: Bio<Errand>) -> Option<Bio<Errand>> {
        if !self.flags.depth.is_asleep() {
            return Some(bio);
        }
        let mut core = self.core.lock();
        if self.flags.depth.is_blind() {
            core.held.push(bio);
            return None;
        }
        drop(core);
        if self.flags.depth.is_gone() {
            bio.end(Err(EIO));
            return None;
        }
        Some(bio)
    }

    /// It is not blind any more: what is held goes on.
    fn release(&self) {
        let mut held = self.core.lock().held.take();
        while let Some(bio) = held.pop() {
            self.near.push(bio);
        }
        self.wake(Wake::COMMIT | Wake::WRITEBACK | Wake::RECLAIM | Wake::PROGRESS);
    }

    /// Reads a block of the cache device and lends it to `f`, trying again for as long as a write would be. `None` when the
    /// medium cannot give it back.
    fn read_insistently<R>(
        &self,
        t: &Arc<Transfer>,
        sector: u64,
        f: impl FnOnce(&[u8; BLOCK]) -> R,
    ) -> Result<Option<R>> {
        let mut retry = Retry::default();
        loop {
            let read = || {
                t.read(&self.disks, &self.disks.cache, sector, (0, BLOCK), 0);
                t.finish()
            };
            match insist(read, |e| e.to_errno()) {
                Ok(Some(())) => {
                    return t.pages.with(0, BLOCK, |b| b.first_chunk().map(f)).flatten().map(Some).ok_or(EIO);
                }
                Ok(None) => {
                    self.count_fault(Kind::CacheRead);
                    return Ok(None);
                }
                Err(e) => match retry.failed() {
                    Next::Again(pause) if !should_stop() => {
                        self.count_fault(Kind::CacheRead);
                        sleep_ms(pause as u32);
                    }
                    Next::Again(_) | Next::Over => return Err(e),
                },
            }
        }
    }

    /// Whether the cache device is as memory has left it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn is_as_it_was(&self, t: &Arc<Transfer>) -> Result<bool> {
        let mut slots = [Held::Unreadable; CHECKPOINT_BLOCKS.len()];
        for (slot, place) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
            let sector = place.saturating_mul(BLOCK_SECTORS);
            let held = self.read_insistently(t, sector, |block| {
                Held::of(block.first_chunk(), self.core.lock().engine.superblock())
            })?;
            *slot = held.unwrap_or(Held::Unreadable);
        }
        let mut comparison = Comparison::default();
        let tell = {
            let core = self.core.lock();
            comparison.checkpoints(&core.engine, &slots);
            core.engine.telling_slots()
        };
        for slot in tell.into_iter().flatten() {
            let is_there = self.read_insistently(t, self.slot_sector(slot), |block| {
                comparison.block(&self.core.lock().engine, slot, Some(block));
            })?;
            if is_there.is_none() {
                comparison.block(&self.core.lock().engine, slot, None);
            }
        }
        let verdict = comparison.conclude(&mut self.core.lock().engine);
        if let Err(changed) = &verdict {
            log_err!(
                "{}: the cache device has changed since the machine hibernated: {}",
                &*self.disks,
                changed
            );
        }
        Ok(verdict.is_ok())
    }

    /// Memory has come out of an image: compares the cache device with it, for as long as that takes, and lets go what is held.
    /// For who has `reclaim_busy`, and `t` with it.
    pub(super) fn compare(&self, t: &Arc<Transfer>) {
        let depth = &self.flags.depth;
        let mut since_ms = now_ms();
        let result = loop {
            if !depth.is_about_to_freeze() {
                since_ms = now_ms();
            }
            // Errors count only if nobody that is frozen could have been the reason, all the time.
            let is_last = depth.blames_device(since_ms);
            let result = self.is_as_it_was(t);
            if result.is_ok() || (is_last && depth.blames_device(since_ms)) || should_stop() {
                break result;
            }
        };
        if result.is_err() {
            log_err!("{}: cannot read the cache device after the hibernation", &*self.disks);
        }
        if result == Ok(true) {
            depth.sees();
        } else {
            // All under the lock, so that nothing is taken in between, and nobody takes one for a device that cannot be written.
            let mut core = self.core.lock();
            depth.deepen(GONE);
            core.engine.give_up();
            self.note_trouble(trouble::CHANGED, true);
        }
        depth.is_restored.store(false, Ordering::SeqCst);
        if depth.is_thawed.load(Ordering::SeqCst) {
            depth.wakes();
        }
        self.release();
    }
}

impl Sleeper for Volume {
    fn drowse(&self) {
        // Tasks run: whoever compares wakes it up, for what is held, and what a sync waits for.
        self.flags.depth.is_announced.store(true, Ordering::SeqCst);
        self.flags.depth.deepen(DROWSY);
    }

    fn rest(&self) -> bool {
        self.or_complain(self.comes_to_rest(now_ms().saturating_add(PATIENCE_MS)))
    }

    fn sleep(&self) -> bool {
        self.flags.depth.is_thawed.store(false, Ordering::SeqCst);
        self.or_complain(self.falls_asleep(now_ms().saturating_add(PATIENCE_MS)))
    }

    fn stay(&self) {
        if !self.flags.depth.is_restored() {
            self.flags.depth.sees();
            self.release();
        }
    }

    fn restored(&self) {
        if self.flags.depth.is_blind() {
            self.flags.depth.is_restored.store(true, Ordering::SeqCst);
            self.wake(Wake::RECLAIM);
        }
    }

    fn wake(&self) {
        let depth = &self.flags.depth;
        depth.is_announced.store(false, Ordering::SeqCst);
        // Before the other one is looked at: whoever has compared looks at them the other way round.
        depth.is_thawed.store(true, Ordering::SeqCst);
        if depth.is_restored() {
            return;
        }
        depth.wakes();
        self.release();
    }
}
