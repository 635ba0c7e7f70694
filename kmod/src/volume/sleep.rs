// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation.
//!
//! # Invariant
//! From the moment before the snapshot until tasks run again, in the kernel that made the image or in the one that comes out of
//! it, nothing of this volume is written to its devices, whoever asks for it. Or the device would be ahead of the memory in the
//! image: what that acknowledges would lie where no replay looks for it.
//!
//! # What happens when
//! - **Hibernation is announced** (or a restore, in the kernel that is to be replaced): the volume *drowses*. Nothing is written
//!   back only because there is time for it. All else goes on: a sync follows, and user space and file systems must come to
//!   rest, for which a full cache needs room.
//! - **All tasks are frozen, and devices are about to be**: the volume *falls asleep*. First writeback, relocation and the tail
//!   end, then, because these may wait for it, the sending of records and flushes, by the thread or by who flushes. What is under
//!   way is waited for. What cannot be had in time is no sleep, and then the kernel does not hibernate.
//! - **Asleep**, until tasks are thawed: reads are served, they write nothing. Writes are taken into RAM as always, for as long
//!   as there is room in the buffers, and then wait; flushes wait. They come from threads of the kernel, which may wait:
//!   an error would lose what is dirty in the page cache if the hibernation is broken off. Only the task that hibernates gets an
//!   error, and at once: it writes the image, which is to lie on the volume, nobody would ever wake up if it waited, and
//!   nobody could read the image again. So the hibernation fails, and the system goes on.
//! - **Memory has come out of an image**, and before any task runs: the cache device is compared with memory
//!   ([`crate::engine::sleep`]). If it has changed, somebody else has had the volume, and everything that memory knows of it may
//!   be stale. Then the volume never wakes up: it writes nothing, takes nothing, and serves no read, neither from the
//!   cache nor from the backing device.
//! - **Tasks are thawed**: it wakes up, also when the hibernation has failed at whatever step, and if it never fell asleep.
//!
//! The end of an I/O, checksums and the engine's state go on in RAM all the time. That of the image is older by as much, and
//! repeats it: nothing was under way at the snapshot. Suspend to RAM needs none of this, for memory stays what it is.
//! Volumes are made and removed by tasks, and so not while these are frozen.

use super::commit::PAUSES_MS;
use super::faults::{trouble, Kind};
use super::{PerBio, Volume};
use crate::dm::{Bio, Op};
use crate::engine::format::{BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS, SECTOR, UNREADABLE};
use crate::engine::lost::Word;
use crate::os::{is_hibernating, now_ms, sleep_ms, Sleeper};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::Mutex;

/// How long it may take to fall asleep, in milliseconds: as long as the kernel waits for tasks, and a failing write is repeated.
const PATIENCE_MS: u64 = 20_000;

/// Each has what the ones before it have.
const AWAKE: u32 = 0;
const DROWSY: u32 = 1;
/// Neither writeback nor relocation nor a checkpoint begins.
const RESTING: u32 = 2;
/// Nothing is sent.
const ASLEEP: u32 = 3;
/// And never will be: the devices are somebody else's.
const GONE: u32 = 4;

/// How deep the volume sleeps.
#[derive(Default)]
pub(super) struct Depth(AtomicU32);

impl Depth {
    fn is(&self, depth: u32) -> bool {
        // Whoever must see it has locked something since that its setter has locked, too.
        self.0.load(Ordering::Relaxed) >= depth
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

/// Waits until nobody has the mutex who has locked it before. Says whether that was before `until`.
fn settle<T>(mutex: &Mutex<T>, until: u64) -> bool {
    // Not by locking it: its holder may wait for a device that is frozen already.
    while mutex.try_lock().is_none() {
        if now_ms() >= until {
            return false;
        }
        sleep_ms(5);
    }
    true
}

impl Volume {
    /// Whether a bio gets an error at once, instead of waiting for what will not come.
    pub fn refuses(&self, bio: &Bio<PerBio>) -> bool {
        self.flags.depth.is_asleep()
            && (self.flags.depth.is_gone() || (!matches!(bio.op(), Op::Read) && is_hibernating()))
    }

    fn falls_asleep(&self, until: u64) -> bool {
        self.flags.depth.0.fetch_max(RESTING, Ordering::SeqCst);
        if !settle(&self.writeback_busy, until) || !settle(&self.reclaim_busy, until) {
            return false;
        }
        // Nobody waits for a record any more who could not wait on.
        self.flags.depth.0.fetch_max(ASLEEP, Ordering::SeqCst);
        if !settle(&self.attempts, until) {
            return false;
        }
        while self.flights.is_flying() {
            if now_ms() >= until {
                return false;
            }
            sleep_ms(5);
        }
        true
    }

    /// Reads a block of the cache device and lends it to `f`, trying again for as long as a write would be.
    fn read_insistently<R>(&self, sector: u64, f: impl FnOnce(&[u8; BLOCK]) -> R) -> Result<R> {
        let t = &self.spare;
        let mut pauses = PAUSES_MS.iter();
        loop {
            t.read(&self.disks, &self.disks.cache, sector, (0, BLOCK), 0);
            match (t.finish(), pauses.next()) {
                (Ok(()), _) => {
                    return t.pages.with(0, BLOCK, |b| b.first_chunk().map(f)).flatten().ok_or(EIO);
                }
                (Err(_), Some(pause)) => {
                    self.fault(Kind::CacheRead);
                    sleep_ms(*pause as u32);
                }
                (Err(e), None) => return Err(e),
            }
        }
    }

    /// Whether the cache device is as memory has left it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn is_as_it_was(&self) -> Result<bool> {
        let _busy = self.reclaim_busy.lock();
        let mut slots = [UNREADABLE; CHECKPOINT_BLOCKS.len()];
        for (slot, place) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
            let sector = place.saturating_mul(BLOCK_SECTORS);
            let read = self.read_insistently(sector, |block| slot.copy_from_slice(&block[..SECTOR]));
            match read {
                // Another slot stands in for it. Who opens the volume writes to two.
                Err(e) if Word::of(e.to_errno()) == Word::Medium => (),
                result => result?,
            }
        }
        let (mut verdict, tell) = {
            let core = self.core.lock();
            (core.engine.compare_checkpoints(&slots), core.engine.telling_slots())
        };
        for slot in tell.into_iter().flatten() {
            let found = self.read_insistently(self.slot_sector(slot), |block| {
                self.core.lock().engine.compare_block(slot, block)
            })?;
            verdict = verdict.and(found);
        }
        if let Err(changed) = &verdict {
            log_err!(
                "{}: the cache device has changed since the machine hibernated: {}",
                &*self.disks,
                changed
            );
        }
        Ok(verdict.is_ok())
    }
}

impl Sleeper for Volume {
    fn drowse(&self) {
        self.flags.depth.0.fetch_max(DROWSY, Ordering::SeqCst);
    }

    fn sleep(&self) -> bool {
        let ok = self.falls_asleep(now_ms().saturating_add(PATIENCE_MS));
        if !ok {
            log_err!(
                "{}: something is still being written, so that the machine cannot hibernate",
                &*self.disks
            );
        }
        ok
    }

    fn compare(&self) {
        if !self.flags.depth.is_asleep() || self.flags.depth.is_gone() {
            return;
        }
        let result = self.is_as_it_was();
        if result.is_err() {
            log_err!("{}: cannot read the cache device after the hibernation", &*self.disks);
        }
        if result != Ok(true) {
            self.flags.depth.0.store(GONE, Ordering::SeqCst);
            // Both under the lock, so that nobody takes one for a device that cannot be written.
            let mut core = self.core.lock();
            core.engine.give_up();
            self.trouble(trouble::CHANGED, true);
        }
    }

    fn wake(&self) {
        if !self.flags.depth.is_gone() {
            self.flags.depth.0.store(AWAKE, Ordering::SeqCst);
        }
        for event in [&self.commit, &self.writeback, &self.reclaim, &self.progress] {
            event.notify();
        }
    }
}
