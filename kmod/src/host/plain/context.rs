// SPDX-License-Identifier: GPL-2.0-only

//! The things that the calling thread may do by the rules of the kernel: a thread that holds a spinlock or
//! ends I/O in an interrupt must not sleep. Here nothing bad would happen if it did, so it is an assertion.

use super::clock::{swap_mine, Waiter};
use std::cell::Cell;
use std::sync::Arc;

std::thread_local! {
    static SPINNING: Cell<u32> = const { Cell::new(0) };
    static INTERRUPTS: Cell<u32> = const { Cell::new(0) };
    static ENDINGS: Cell<u32> = const { Cell::new(0) };
}

fn add(to: &'static std::thread::LocalKey<Cell<u32>>) {
    to.set(to.get() + 1);
}

fn sub(from: &'static std::thread::LocalKey<Cell<u32>>) {
    from.set(from.get() - 1);
}

/// The context of a task of a simulation while another task runs: the thread has the context of the task that
/// runs.
#[derive(Default)]
pub(super) struct Context {
    spinning: u32,
    interrupts: u32,
    endings: u32,
    mine: Option<Arc<Waiter>>,
}

impl Context {
    /// Exchanges the task's context for the thread's.
    pub(super) fn swap(&mut self) {
        self.spinning = SPINNING.replace(self.spinning);
        self.interrupts = INTERRUPTS.replace(self.interrupts);
        self.endings = ENDINGS.replace(self.endings);
        swap_mine(&mut self.mine);
    }
}

/// The thread holds a spinlock while this exists. No spinlock is taken within another one.
pub(super) struct Spinning;

impl Spinning {
    #[track_caller]
    pub(super) fn begin() -> Self {
        assert!(SPINNING.get() == 0, "a spinlock within a spinlock");
        assert!(INTERRUPTS.get() == 0, "a spinlock of threads is taken in an interrupt");
        add(&SPINNING);
        Self
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        sub(&SPINNING);
    }
}

/// The thread counts as an interrupt while this exists.
pub(super) struct Interrupt;

impl Interrupt {
    pub(super) fn begin() -> Self {
        add(&INTERRUPTS);
        Self
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        sub(&INTERRUPTS);
    }
}

/// The thread ends some I/O while this exists.
pub(super) struct Ends;

impl Ends {
    pub(super) fn begin() -> Self {
        add(&ENDINGS);
        Self
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        sub(&ENDINGS);
    }
}

/// Asserts that the thread may sleep.
#[track_caller]
pub(super) fn assert_may_sleep() {
    assert!(SPINNING.get() == 0, "sleeps with a spinlock");
    assert!(INTERRUPTS.get() == 0, "sleeps in an interrupt");
}

/// Asserts that the thread may wait for all ends of I/O.
#[track_caller]
pub(super) fn assert_may_wait_for_io_ends() {
    assert_may_sleep();
    assert!(ENDINGS.get() == 0, "waits for itself");
}

/// Whether only the calling thread waits when the caller takes long, as it does outside interrupts. Here a
/// device's worker counts as an interrupt while it reports the end of I/O.
pub fn may_take_long() -> bool {
    INTERRUPTS.get() == 0
}
