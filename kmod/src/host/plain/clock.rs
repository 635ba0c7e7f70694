// SPDX-License-Identifier: GPL-2.0-only

//! The time, and who waits for it. All that waits for a time does so here, so that tests can let it pass.

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

/// Lets `ms` milliseconds pass for everybody on this machine: whose time has come by that wakes up.
pub fn advance_ms(ms: u64) {
    let machine = machine();
    machine.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    // After the time, so that whoever is not woken sees it.
    let all: Vec<_> = locked(&machine.waiters).iter().filter_map(Weak::upgrade).collect();
    all.iter().for_each(|waiter| waiter.wake());
}

/// Sleeps.
pub fn sleep_ms(ms: u32) {
    assert_may_sleep();
    Waiter::mine().wait_until(now_ms() + u64::from(ms), || false);
}

/// A thread, for those who wake it up.
#[derive(Default)]
pub(super) struct Waiter {
    woken: Mutex<bool>,
    wake: Condvar,
    /// It should return: see [`super::should_stop`].
    pub(super) stop: AtomicBool,
}

std::thread_local! {
    static MINE: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

/// Exchanges the calling thread's own for another one.
pub(super) fn swap_mine(other: &mut Option<Arc<Waiter>>) {
    MINE.with_borrow_mut(|mine| core::mem::swap(mine, other));
}

impl Waiter {
    /// Of a thread that is about to be made.
    pub(super) fn new() -> Arc<Self> {
        let waiter = Arc::new(Self::default());
        let machine = machine();
        let mut all = locked(&machine.waiters);
        all.retain(|waiter| waiter.strong_count() != 0);
        all.push(Arc::downgrade(&waiter));
        waiter
    }

    /// The calling thread's own.
    pub(super) fn mine() -> Arc<Self> {
        MINE.with_borrow_mut(|mine| mine.get_or_insert_with(Self::new).clone())
    }

    /// The calling thread's own from now on.
    pub(super) fn be_mine(self: Arc<Self>) {
        let before = MINE.replace(Some(self));
        assert!(before.is_none(), "the thread has waited before");
    }

    /// Has the thread look again what it waits for.
    pub(super) fn wake(&self) {
        *locked(&self.woken) = true;
        self.wake.notify_one();
    }

    /// Waits until what it waits for `is_over`, or until the time `until_ms`. For the thread itself; whoever brings it about has to
    /// [wake](Self::wake) it.
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
