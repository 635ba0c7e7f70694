// SPDX-License-Identifier: GPL-2.0-only

//! Time, events that threads wait for, and the ends of I/O that are under way.

use super::bindings;
use super::Sleep;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use kernel::prelude::*;

/// Milliseconds since boot.
pub fn now_ms() -> u64 {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_now_ms() }
}

/// Sleeps `ms` milliseconds.
pub fn sleep_ms(ms: u32) {
    // SAFETY: It has no preconditions but that the caller may sleep.
    unsafe { kernel::bindings::msleep(ms) }
}

/// Sleeps, and returns early after a signal.
///
/// # Errors
/// `ERESTARTNOHAND`: a caller that handles the signal gets `EINTR`; without a handler the system call begins
/// again. It also begins again after a hibernation, because the freezer stops tasks as by a signal.
pub(super) fn sleep_interruptible_ms(ms: u32) -> Result {
    // SAFETY: It has no preconditions but that the caller may sleep.
    if unsafe { bindings::wb_sleep_interruptible(ms) } {
        Ok(())
    } else {
        Err(ERESTARTNOHAND)
    }
}

/// Whether only the calling task waits when the caller takes long, as it does outside interrupts.
pub fn may_take_long() -> bool {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_may_take_long() }
}

/// An end of I/O, while it is under way: see [`wait_for_io_ends`].
pub struct Ending {
    idx: i32,
    /// It ends in the context in which it began.
    context: PhantomData<*mut ()>,
}

impl Ending {
    /// Begins one. In any context.
    pub fn begin() -> Self {
        // SAFETY: It has no preconditions.
        Self { idx: unsafe { bindings::wb_end_begin() }, context: PhantomData }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // SAFETY: `begin` has returned this number, in this context.
        unsafe { bindings::wb_end_over(self.idx) }
    }
}

/// Waits until every end of I/O that was under way at the call is over: those of bios of our own, and every
/// [`Ending`].
pub fn wait_for_io_ends() {
    // SAFETY: It has no preconditions but that the caller may sleep.
    unsafe { bindings::wb_synchronize() }
}

/// Something that happens again and again. Several threads may wait for it, and miss nothing.
///
/// # Invariants
/// It is initialised, and stays where it is.
pub struct Event(KBox<UnsafeCell<bindings::wb_event>>);

// SAFETY: A `wb_event` is an atomic counter and a wait queue, which has its own lock.
unsafe impl Send for Event {}
// SAFETY: As above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that has not happened yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: It is plain data for which zeroes are a value.
        let event: KBox<UnsafeCell<bindings::wb_event>> =
            KBox::new(UnsafeCell::new(unsafe { core::mem::zeroed() }), GFP_KERNEL)?;
        // SAFETY: It is allocated, nothing else uses it, and it is never moved out of its box.
        unsafe { bindings::wb_event_init(event.get()) };
        Ok(Self(event))
    }

    /// Counts one more occurrence and wakes all threads that wait. In any context.
    pub fn notify(&self) {
        // SAFETY: The event was initialised by `new`.
        unsafe { bindings::wb_event_notify(self.0.get()) }
    }

    /// How often the event has happened. A thread reads this count first, then looks at the state that the
    /// event is about, then waits.
    pub fn count(&self) -> i32 {
        // SAFETY: The event was initialised by `new`.
        unsafe { bindings::wb_event_count(self.0.get()) }
    }

    /// Waits until the event has happened since the count was `seen`, at most `timeout_ms` milliseconds.
    ///
    /// # Errors
    /// `ERESTARTNOHAND` after a signal, when [`Sleep::Interruptible`].
    pub fn wait(&self, seen: i32, timeout_ms: u32, sleep: Sleep) -> Result {
        let sleep = match sleep {
            Sleep::Idle => bindings::wb_sleep_WB_SLEEP_IDLE,
            Sleep::Busy => bindings::wb_sleep_WB_SLEEP_BUSY,
            Sleep::Interruptible => bindings::wb_sleep_WB_SLEEP_INTERRUPTIBLE,
        };
        // SAFETY: The event was initialised by `new`.
        kernel::error::to_result(unsafe { bindings::wb_event_wait(self.0.get(), seen, timeout_ms, sleep) })
    }
}
