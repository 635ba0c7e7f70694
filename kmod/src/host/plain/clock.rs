// SPDX-License-Identifier: GPL-2.0-only

//! The time, and who waits for it. All that waits for a time does so here, so that tests can let it pass.

use super::context::assert_may_sleep;
use super::sync::locked;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::cell::OnceCell;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::Instant;
use std::vec::Vec;

/// The time of the first look at the clock, in milliseconds since boot: it is never 0.
const FIRST_MS: u64 = 100_000;

/// Milliseconds that have passed by [`advance_ms`].
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

/// Milliseconds since boot.
pub fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let real = START.get_or_init(Instant::now).elapsed().as_millis() as u64;
    FIRST_MS + real + AHEAD_MS.load(Ordering::SeqCst)
}

/// Lets `ms` milliseconds pass for everybody in this process: whose time has come by that wakes up.
pub fn advance_ms(ms: u64) {
    AHEAD_MS.fetch_add(ms, Ordering::SeqCst);
    // After the time, so that whoever is not woken sees it.
    let all: Vec<_> = locked(&ALL).iter().filter_map(Weak::upgrade).collect();
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

/// All threads that have ever waited and are there still.
static ALL: Mutex<Vec<Weak<Waiter>>> = Mutex::new(Vec::new());

std::thread_local! {
    static MINE: OnceCell<Arc<Waiter>> = const { OnceCell::new() };
}

impl Waiter {
    /// Of a thread that is about to be made.
    pub(super) fn new() -> Arc<Self> {
        let waiter = Arc::new(Self::default());
        let mut all = locked(&ALL);
        all.retain(|waiter| waiter.strong_count() != 0);
        all.push(Arc::downgrade(&waiter));
        waiter
    }

    /// The calling thread's own.
    pub(super) fn mine() -> Arc<Self> {
        MINE.with(|mine| mine.get_or_init(Self::new).clone())
    }

    /// The calling thread's own from now on.
    pub(super) fn be_mine(self: Arc<Self>) {
        MINE.with(|mine| assert!(mine.set(self).is_ok(), "the thread has waited before"));
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
                let wait = self.wake.wait_timeout(woken, Duration::from_millis(left_ms));
                woken = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            *woken = false;
        }
    }
}
