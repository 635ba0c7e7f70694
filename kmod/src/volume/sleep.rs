// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation.
//!
//! # Invariant
//! From the moment before the snapshot until tasks run again, in the kernel that made the image or in the one
//! that comes out of it, nothing of this volume is written to its devices, for whatever reason. Otherwise the
//! device would be ahead of the memory in the image: writes that this memory acknowledges would lie where no
//! replay looks for them.
//!
//! And between the snapshot and the moment in which it is known that memory is as old as the devices are,
//! nothing that memory says of the devices leaves the volume.
//!
//! # The steps
//! - **Hibernation is announced** (or a restore, in the kernel that is to be replaced): the volume *drowses*.
//!   Background writeback ends. All else goes on: a sync follows, and user space and file systems must come
//!   to rest, for which a full cache needs room.
//! - **User space is frozen**, and all devices work: the volume *rests*. Writeback, relocation, the tail and
//!   writes around the cache end, which may take many I/Os. They end here and not later, because then the
//!   devices below may sleep already: the kernel has no order for devices that came after this module, or
//!   that sleep at the same time. Records go on: the kernel makes room in RAM for the image.
//! - **All tasks are frozen, and devices are about to be**: the volume *falls asleep*. No more records and
//!   flushes are sent, neither by the commit thread nor by a task that flushes. The volume waits for what is
//!   under way. If that does not end in time the volume does not sleep, and then the kernel does not
//!   hibernate. Of volumes on volumes the upper one sleeps first, for it may need the lower one until then.
//! - **Blind**, from then until the kernel knows whether it is the one that makes the image or the one that
//!   has come out of it: all bios that come are held. Nothing is read, taken or acknowledged, neither from
//!   RAM nor from a device.
//! - **Asleep**, in the kernel that writes the image: reads are served, for they write nothing. Writes are
//!   taken into RAM as always, for as long as there is room in the buffers, and then wait; flushes wait. They
//!   come from threads of the kernel, which may wait: an error would lose what is dirty in the page cache if
//!   the hibernation is broken off. Only the task that hibernates gets an error, and at once. It writes the
//!   image, which would then lie on the volume: if that task waited nothing would ever wake it up, and the
//!   image could not be read again. So the hibernation fails, and the system goes on.
//! - **Memory has come out of an image**: the volume stays blind. The reclaim thread compares the cache
//!   device with memory ([`crate::engine::sleep`]), which takes as long as it takes: the device may need a
//!   daemon that is frozen like all tasks. If the device has changed, another system has used the volume, and
//!   everything that memory knows of it may be stale. Then the volume never wakes up: it writes nothing,
//!   takes nothing, and serves no read, neither from the cache nor from the backing device. The same holds
//!   when the device still has nothing but errors some time after tasks run again.
//! - **Hibernation is announced anew during the comparison**: a sync waits for what is held, so the volume
//!   wakes up after the comparison as if tasks had just been thawed, and is drowsy. It comes to rest only
//!   when the comparison is over.
//! - **Tasks are thawed**: the volume wakes up, or will when the comparison is over. It also wakes up when
//!   the hibernation has failed at whatever step, and when it never fell asleep.
//!
//! The end of an I/O, checksums and the engine's state go on in RAM all the time. The memory of the image is
//! older by as much, and repeats it: nothing was under way at the snapshot. Suspend to RAM needs none of
//! this, for memory stays what it is. Volumes are made and removed by tasks, and so not while these are
//! frozen.

use super::faults::{trouble, Kind};
use super::{Errand, Transfer, Volume};
use crate::engine::sleep::Comparison;
use crate::format::{Held, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS};
use crate::host::{is_hibernating, now_ms, should_stop, sleep_ms, Arc, Bio, Mutex, Op, Result, Sleeper, EIO};
use crate::policy::lost::insist;
use crate::policy::retry::{Next, Retry};
use crate::policy::room::Wake;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How long it may take to fall asleep, in milliseconds: as long as the kernel waits for tasks, and as long
/// as a failing write is repeated.
const PATIENCE_MS: u64 = 20_000;
/// Longest time for which tasks can be frozen between the announcement and the moment in which the volume
/// falls asleep, in milliseconds; otherwise the hibernation has failed and tasks run again. It is the time
/// that the kernel waits for tasks, makes room, and waits for the volume to rest.
const FROZEN_MS: u64 = 120_000;

/// Each depth has all that the ones before it have.
const AWAKE: u32 = 0;
const DROWSY: u32 = 1;
/// Neither writeback nor relocation nor a checkpoint begins.
const RESTING: u32 = 2;
/// Nothing is sent.
const ASLEEP: u32 = 3;
/// No bio is served either: it is not known yet whether another system has used the devices.
const BLIND: u32 = 4;
/// No bio will ever be served: another system has used the devices.
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
        // Code that must see the depth has taken a lock since that the setter of the depth has taken, too.
        self.depth.load(Ordering::Relaxed) >= depth
    }

    fn deepen(&self, depth: u32) {
        self.depth.fetch_max(depth, Ordering::SeqCst);
    }

    /// The volume wakes up, as far as it may.
    fn wakes(&self) {
        if !self.is_gone() {
            let is_announced = self.is_announced.load(Ordering::SeqCst);
            self.depth.store(if is_announced { DROWSY } else { AWAKE }, Ordering::SeqCst);
            // If hibernation was announced meanwhile, one of the two contexts comes last and sets the depth.
            if self.is_announced.load(Ordering::SeqCst) {
                self.deepen(DROWSY);
            }
        }
    }

    /// Tasks ran when a hibernation was announced: it is not known whether they are frozen by now.
    fn is_about_to_freeze(&self) -> bool {
        self.is_thawed.load(Ordering::SeqCst) && self.is_announced.load(Ordering::SeqCst)
    }

    /// Whether an error is the device's own, and not that of a frozen task that the device needs, when there
    /// have been only errors since `since_ms` and tasks were about to freeze all that time.
    fn blames_device(&self, since_ms: u64) -> bool {
        self.is_thawed.load(Ordering::SeqCst)
            && (!self.is_about_to_freeze() || now_ms().saturating_sub(since_ms) > FROZEN_MS)
    }

    /// It is known that no other system has used the devices.
    fn sees(&self) {
        let _ = self.depth.compare_exchange(BLIND, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether the cache device is to be compared with memory.
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored.load(Ordering::SeqCst)
    }

    /// Bios that come are to be held. The caller holds the lock of `core`, and then puts the bio where it is
    /// held.
    pub(super) fn is_blind(&self) -> bool {
        self.depth.load(Ordering::Relaxed) == BLIND
    }

    /// Bios that come are to be held, or ended: nothing is looked up.
    pub(super) fn serves_nothing(&self) -> bool {
        self.is(BLIND)
    }

    /// There is to be no background writeback.
    pub(super) fn is_drowsy(&self) -> bool {
        self.is(DROWSY)
    }

    /// Neither writeback nor relocation nor a checkpoint may begin. The caller holds the mutex of that kind
    /// of work.
    pub(super) fn is_resting(&self) -> bool {
        self.is(RESTING)
    }

    /// Nothing may be sent. The caller holds the attempts.
    pub(super) fn is_asleep(&self) -> bool {
        self.is(ASLEEP)
    }

    /// Another system has used the devices: memory knows nothing of them any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is(GONE)
    }
}

/// Waits until something `is_over`. Returns whether that was before `until`.
fn ends(until: u64, is_over: impl Fn() -> bool) -> bool {
    while !is_over() {
        if now_ms() >= until {
            return false;
        }
        sleep_ms(5);
    }
    true
}

/// Waits until each task that held the mutex before the call has released it. Returns whether that was before
/// `until`.
fn settle<T>(mutex: &Mutex<T>, until: u64) -> bool {
    // Not by locking it: the holder may wait for a device that is frozen already.
    ends(until, || mutex.try_lock().is_some())
}

impl Volume {
    /// Whether a bio gets an error at once, instead of waiting for what will not come.
    pub fn refuses(&self, bio: &Bio<Errand>) -> bool {
        self.flags.depth.is_asleep()
            && (self.flags.depth.is_gone() || (!matches!(bio.op(), Op::Read) && is_hibernating()))
    }

    /// Writeback, relocation and the tail end. Returns whether they have.
    fn comes_to_rest(&self, until: u64) -> bool {
        let depth = &self.flags.depth;
        depth.deepen(RESTING);
        // A comparison that goes on wakes the volume up at its end.
        if !ends(until, || !depth.is_restored()) || !settle(&self.reclaim_busy, until) {
            return false;
        }
        depth.deepen(RESTING);
        // A write checks the depth with the lock held before it goes around the cache, so none does from now
        // on.
        drop(self.core.lock());
        settle(&self.writeback_busy, until)
            && settle(&self.reclaim_busy, until)
            && ends(until, || self.bypass.is_idle())
    }

    fn falls_asleep(&self, until: u64) -> bool {
        if !self.comes_to_rest(until) {
            return false;
        }
        // From here on, a task that waits for a record can wait on.
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

    /// Returns a read that may go on. While the volume is blind the read is held; when another system has
    /// used the devices it is ended.
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

    /// The volume is not blind any more: what is held goes on.
    fn release(&self) {
        let mut held = self.core.lock().held.take();
        while let Some(bio) = held.pop() {
            self.near.push(bio);
        }
        self.wake(Wake::COMMIT | Wake::WRITEBACK | Wake::RECLAIM | Wake::PROGRESS);
    }

    /// Reads a block of the cache device and lends it to `f`. Tries again for as long as a write would be
    /// repeated. `None` when the medium cannot give the block back.
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

    /// Memory has come out of an image: compares the cache device with memory, for as long as that takes, and
    /// releases what is held. The caller holds `reclaim_busy`, and `t` with it.
    pub(super) fn compare(&self, t: &Arc<Transfer>) {
        let depth = &self.flags.depth;
        let mut since_ms = now_ms();
        let result = loop {
            if !depth.is_about_to_freeze() {
                since_ms = now_ms();
            }
            // Errors count only if at no time a frozen task could have been the reason.
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
            // All under the lock, so that no write is taken in between, and the failed log is not reported as
            // a cache device that cannot be written.
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
        // Tasks run: if a comparison goes on, it wakes the volume up at its end, for what is held and for a
        // sync that waits for that.
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
        // Stored before `is_restored` is read: the comparison stores and reads the two in the opposite order.
        depth.is_thawed.store(true, Ordering::SeqCst);
        if depth.is_restored() {
            return;
        }
        depth.wakes();
        self.release();
    }
}
