// SPDX-License-Identifier: GPL-2.0-only

//! The machine of [`policy::room`](crate::policy::room): how it is told what happens, what can be seen of it
//! without the lock, and the one place where threads are woken.
//!
//! # Invariants
//! - The machine changes in [`Volume::tell`] only, with the lock. So `flags.room` always agrees with the
//!   machine: it is written there, and nowhere else.
//! - `flags.room` is one word and is not ordered with anything else. It is for questions that it answers
//!   alone. A task that asks whether the volume is suspended holds the mutex of its kind of work, and a
//!   suspend takes that mutex after the change.

use super::{Core, Volume};
use crate::policy::room::{Glance, Room, Wake};
use core::ops::Deref;
use core::sync::atomic::Ordering;

/// The machine, read-only.
#[derive(Default)]
pub(super) struct Machine(Room);

impl Deref for Machine {
    type Target = Room;
    fn deref(&self) -> &Room {
        &self.0
    }
}

impl Volume {
    /// Tells the machine what has happened, with the lock. The caller wakes the threads that the answer
    /// names.
    pub(super) fn tell<R>(&self, core: &mut Core, event: impl FnOnce(&mut Room) -> R) -> R {
        let answer = event(&mut core.room.0);
        let word = core.room.glance().word();
        // Mostly the word does not change, and then no other processor is to lose the cache line.
        if self.flags.room.load(Ordering::Relaxed) != word {
            self.flags.room.store(word, Ordering::Relaxed);
        }
        answer
    }

    /// Tells the machine that something has happened, and wakes the threads that its answer names. The caller
    /// does not hold the lock.
    pub(super) fn happens(&self, event: impl FnOnce(&mut Room) -> Wake) {
        let wake = self.tell(&mut self.core.lock(), event);
        self.wake(wake);
    }

    /// What can be seen of the machine without the lock. In any context.
    pub(super) fn glance(&self) -> Glance {
        Glance::of(self.flags.room.load(Ordering::Relaxed))
    }

    /// Wakes these threads. In any context.
    #[inline]
    pub(super) fn wake(&self, who: Wake) {
        for (one, event) in [
            (Wake::COMMIT, &self.commit),
            (Wake::RECLAIM, &self.reclaim),
            (Wake::WRITEBACK, &self.writeback),
            (Wake::PROGRESS, &self.progress),
            (Wake::ALARM, &self.alarm),
        ] {
            if who.has(one) {
                event.notify();
            }
        }
    }
}
