// SPDX-License-Identifier: GPL-2.0-only

//! The machine of [`policy::room`](crate::policy::room): how it is told what happens, what of it is seen
//! without the lock, and the one place where threads are woken.
//!
//! # Invariants
//! - The machine changes in [`Volume::tell`] only, with the lock. So `flags.room` is always what the machine
//!   says it is: it is written there, and nowhere else.
//! - `flags.room` is one word and is not ordered with anything else. It is for questions that it answers
//!   alone. Who asks whether the volume is suspended has the mutex of its kind of work, and a suspend takes
//!   that mutex behind the change.

use super::{Core, Volume};
use crate::policy::room::{Glance, Room, Wake};
use core::ops::Deref;
use core::sync::atomic::Ordering;

/// The machine, to be looked at.
#[derive(Default)]
pub(super) struct Machine(Room);

impl Deref for Machine {
    type Target = Room;
    fn deref(&self) -> &Room {
        &self.0
    }
}

impl Volume {
    /// Tells the machine what has happened, with the lock. Whom its answer names is to be woken.
    pub(super) fn tell<R>(&self, core: &mut Core, event: impl FnOnce(&mut Room) -> R) -> R {
        let answer = event(&mut core.room.0);
        let word = core.room.glance().word();
        // Mostly it is known, and nobody is to lose the line of memory for that.
        if self.flags.room.load(Ordering::Relaxed) != word {
            self.flags.room.store(word, Ordering::Relaxed);
        }
        answer
    }

    /// Something has happened: tells the machine, and wakes who is to be woken. For who does not have the
    /// lock.
    pub(super) fn happens(&self, event: impl FnOnce(&mut Room) -> Wake) {
        let wake = self.tell(&mut self.core.lock(), event);
        self.wake(wake);
    }

    /// What of the machine is seen without the lock. In any context.
    pub(super) fn glance(&self) -> Glance {
        Glance::of(self.flags.room.load(Ordering::Relaxed))
    }

    /// Wakes them. In any context.
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
