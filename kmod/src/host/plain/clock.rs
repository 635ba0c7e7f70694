// SPDX-License-Identifier: GPL-2.0-only

//! The time, and the threads that wait for it. Every wait for a time goes through this module, so that tests
//! can let time pass.

use super::context::assert_may_sleep;
use super::machine::machine;
use super::simulation;
use super::sync::{locked, Condvar};
use core::sync::atomic::{AtomicBool, Ordering};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;
use std::vec::Vec;

/// The time of the first look at the clock, in milliseconds since boot: it is never 0.
const FIRST_MS: u64 = 100_000;

/// Milliseconds since boot.
pub fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let ahead_ms = machine().ahead_ms.load(Ordering::SeqCst);
    if simulation::is_on() {
        return simulation::now_us() / 1000 + ahead_ms;
    }
    FIRST_MS + START.get_or_init(Instant::now).elapsed().as_millis() as u64 + ahead_ms
}

/// Lets `ms` milliseconds pass for all threads on this machine. A thread whose time has come by that wakes
/// up.
pub fn advance_ms(ms: u64) {
    let machine = machine();
    machine.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    // After the time, so that a thread that is not woken sees the new time.
    let all: Vec<_> = locked(&machine.waiters).iter().filter_map(Weak::upgrade).collect();
    all.iter().for_each(|waiter| waiter.wake());
}

/// Sleeps `ms` milliseconds.
pub fn sleep_ms(ms: u32) {
    assert_may_sleep();
    Waiter::mine().wait_until(now_ms() + u64::from(ms), || false);
}

/// A thread, for those that wake it up.
#[derive(Default)]
pub(super) struct Waiter {
    woken: Mutex<bool>,
    wake: Condvar,
    /// The thread should return: see [`super::should_stop`].
    pub(super) stop: AtomicBool,
}

std::thread_local! {
    static MINE: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

/// Exchanges the calling thread's own waiter for another one.
pub(super) fn swap_mine(other: &mut Option<Arc<Waiter>>) {
    MINE.with_borrow_mut(|mine| core::mem::swap(mine, other));
}

impl Waiter {
    /// The waiter of a thread that is about to be made.
    pub(super) fn new() -> Arc<Self> {
        let waiter = Arc::new(Self::default());
        let machine = machine();
        let mut all = locked(&machine.waiters);
        all.retain(|waiter| waiter.strong_count() != 0);
        all.push(Arc::downgrade(&waiter));
        waiter
    }

    /// The calling thread's own waiter.
    pub(super) fn mine() -> Arc<Self> {
        MINE.with_borrow_mut(|mine| mine.get_or_insert_with(Self::new).clone())
    }

    /// Makes this the calling thread's own waiter from now on.
    pub(super) fn be_mine(self: Arc<Self>) {
        let before = MINE.replace(Some(self));
        assert!(before.is_none(), "the thread has waited before");
    }

    /// Makes the thread look again at the condition that it waits for.
    pub(super) fn wake(&self) {
        *locked(&self.woken) = true;
        self.wake.notify_one();
    }

    /// Waits until the condition `is_over`, or until the time `until_ms`. Only the thread itself calls this.
    /// A thread that makes the condition true has to [wake](Self::wake) this one.
    pub(super) fn wait_until(&self, until_ms: u64, mut is_over: impl FnMut() -> bool) {
        loop {
            if is_over() {
                return;
            }
            let left_ms = until_ms.saturating_sub(now_ms());
            if left_ms == 0 {
                return;
            }
            let mut woken = locked(&self.woken);
            if !*woken {
                woken = self.wake.wait_ms(&self.woken, woken, left_ms);
            }
            *woken = false;
        }
    }
}
