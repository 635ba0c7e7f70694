// SPDX-License-Identifier: GPL-2.0-only

//! What has gone wrong: counted, and reported by the status, the kernel's log and device-mapper's events.
//!
//! The context that meets a fault counts it and notes what it means for the volume; it may be any context.
//! The health thread, in this file, reports it. Nothing that I/O depends on waits for this thread, because an
//! event takes a mutex whose holders may wait for memory.
//!
//! # Invariants
//! - What an event tells of is in the status before the event.
//! - Every change of the state has an event and a line in the log. So has each of these: the cache runs full,
//!   and has had room again for [`ROOM_MS`]; steering falls silent, and is heard again; a device does not
//!   answer, and answers again (`silence`). Errors that leave the state as it is have an event a minute and a
//!   line a second at most, each kind for itself.

use super::Volume;
use crate::host::{now_ms, should_stop, Events, Sleep};
pub use crate::interface::status::trouble;
use crate::interface::status::Health;
use crate::policy::room::Wake;
use crate::policy::seldom::Seldom;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A kind of error of a device.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Kind {
    /// Blocks that could not be read from the cache device or did not match their checksum, in spite of a
    /// second try.
    CacheRead,
    /// Writes to the cache device and flushes of it that failed, those included that went well when repeated.
    CacheWrite,
    /// Reads that the backing device failed.
    BackingRead,
    /// Writes to the backing device and flushes of it that failed.
    BackingWrite,
}

const KINDS: usize = 4;

/// Errors of one kind have a line in the log again after so many milliseconds.
const LINE_MS: u64 = 1000;
/// Errors of one kind have an event again after so many milliseconds.
const AGAIN_MS: u64 = 60_000;

/// The cache is not called full any more when it has had room for so many milliseconds: in a long burst it
/// gets full again and again.
const ROOM_MS: u64 = 5000;

/// What has gone wrong since the volume was created.
#[derive(Default)]
pub struct Faults {
    counts: [AtomicU64; KINDS],
    /// Dirty blocks that could not be read from the cache device any more, and were given up.
    pub lost: AtomicU64,
    /// Blocks that were read well from the cache device when they were read again.
    pub read_again: AtomicU64,
    /// Bits of [`trouble`].
    trouble: AtomicU32,
    /// How often the message `give_up` has come: it asks for blocks to be given up that the medium says are
    /// lost.
    pub(super) give_ups: AtomicU64,
    /// When a line about each kind was logged.
    logged: [Seldom; KINDS],
}

impl Faults {
    /// Whether there is such trouble.
    pub(super) fn has(&self, trouble: u32) -> bool {
        self.trouble.load(Ordering::Relaxed) & trouble != 0
    }

    /// How often it has happened.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// Whether a line about one may be logged now: at most one of each kind a second.
    pub(super) fn may_log(&self, kind: Kind) -> bool {
        self.logged[kind as usize].may(now_ms(), LINE_MS)
    }
}

/// Whether the world was told that the cache is full, and since when it is not.
#[derive(Default)]
struct Fullness {
    told: bool,
    room_since: Option<u64>,
}

impl Fullness {
    /// What there is to tell when the cache is `full`, or is not, at this moment.
    fn news(&mut self, full: bool, now_ms: u64) -> Option<bool> {
        if full {
            self.room_since = None;
        }
        let since = *self.room_since.get_or_insert(now_ms);
        if full == self.told || (!full && now_ms.saturating_sub(since) < ROOM_MS) {
            return None;
        }
        self.told = full;
        Some(full)
    }
}

impl Volume {
    /// Counts an error. In any context.
    pub(super) fn count_fault(&self, kind: Kind) {
        self.faults.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.wake(Wake::ALARM);
    }

    /// Counts a dirty block that was given up.
    pub(super) fn count_lost_block(&self) {
        self.faults.lost.fetch_add(1, Ordering::Relaxed);
        self.note_trouble(trouble::CACHE_READ, true);
        self.wake(Wake::ALARM);
    }

    /// Notes that there is such `trouble`, or that there is none any more. In any context.
    pub(super) fn note_trouble(&self, trouble: u32, is_there: bool) {
        let before = if is_there {
            self.faults.trouble.fetch_or(trouble, Ordering::Relaxed)
        } else {
            self.faults.trouble.fetch_and(!trouble, Ordering::Relaxed)
        };
        if (before & trouble != 0) != is_there {
            self.wake(Wake::ALARM);
        }
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        let failed = self.core.lock().engine.failed();
        let trouble = self.faults.trouble.load(Ordering::Relaxed);
        // Nothing else matters then, nor is it known.
        if trouble & trouble::CHANGED != 0 {
            return Health { failed, trouble: trouble::CHANGED };
        }
        Health { failed, trouble: trouble | if failed { trouble::CACHE_WRITE } else { 0 } }
    }

    /// Tells the world.
    pub(super) fn run_health(&self, events: &Events) {
        let mut told = Health::default();
        let mut counts = [0; KINDS];
        let mut told_at = [None; KINDS];
        let mut lost = 0;
        let mut fullness = Fullness::default();
        let mut silent = false;
        while !should_stop() {
            let seen = self.alarm.count();
            self.stock_up();
            let health = self.health();
            let lost_before = core::mem::replace(&mut lost, self.faults.lost.load(Ordering::Relaxed));
            let mut event = lost != lost_before;
            if health != told {
                event = true;
                self.log_health(told, health);
                told = health;
            }
            for (i, count) in self.faults.counts.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                let now = now_ms();
                if count != counts[i] && told_at[i].is_none_or(|at| now.saturating_sub(at) >= AGAIN_MS) {
                    told_at[i] = Some(now);
                    event = true;
                }
                counts[i] = count;
            }
            if let Some(full) = fullness.news(self.is_full(), now_ms()) {
                event = true;
                self.log_full(full);
            }
            if self.is_steering_expired() != silent {
                event = true;
                silent = !silent;
                self.log_silent(silent);
            }
            let (is_news, again_ms) = self.listen();
            if event || is_news {
                events.raise();
            }
            let wait_ms = if fullness.told { again_ms.min(ROOM_MS as u32 / 5) } else { again_ms };
            let _ = self.alarm.wait(seen, wait_ms, Sleep::Idle);
        }
    }

    fn log_full(&self, full: bool) {
        let disks = &*self.disks;
        if full {
            log_info!("{}: the cache is full: writes are as fast as the backing device", disks);
        } else {
            log_info!("{}: the cache has room again", disks);
        }
    }

    fn log_silent(&self, silent: bool) {
        let disks = &*self.disks;
        if silent {
            log_info!("{}: whoever steers writeback is silent: the built-in policy takes over", disks);
        } else {
            log_info!("{}: writeback is steered again", disks);
        }
    }

    fn log_health(&self, before: Health, now: Health) {
        let disks = &*self.disks;
        if now.trouble & trouble::CHANGED != 0 {
            log_err!(
                "{}: somebody else has used the volume while the machine hibernated: it refuses everything \
                 from now on, and changes nothing; stop what uses it, remove it, and create it again",
                disks
            );
            return;
        }
        if now.failed && !before.failed {
            log_err!(
                "{}: cannot write to the cache device: the volume refuses writes and flushes from now on; \
                 what was flushed before is safe",
                disks
            );
            return;
        }
        let new = now.trouble & !before.trouble;
        if new & trouble::CACHE_WRITE != 0 {
            log_err!("{}: cannot write to the cache device, trying again", disks);
        }
        if new & trouble::CACHE_READ != 0 {
            log_err!(
                "{}: a block that is dirty cannot be read from the cache device: it is not written back, and \
                 reading it is an error",
                disks
            );
        }
        if new & trouble::BACKING_WRITE != 0 {
            log_err!("{}: writeback has failed; what is dirty stays in the cache, trying again", disks);
        }
        if now.trouble & trouble::BACKING_WRITE == 0 && before.trouble & trouble::BACKING_WRITE != 0 {
            log_info!("{}: writeback works again", disks);
        }
        if now.trouble & trouble::CACHE_WRITE == 0 && before.trouble & trouble::CACHE_WRITE != 0 {
            log_info!("{}: the cache device can be written again", disks);
        }
        if now == Health::default() {
            log_info!("{}: state ok again", disks);
        }
    }
}
