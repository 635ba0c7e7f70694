// SPDX-License-Identifier: GPL-2.0-only

//! What the calling thread may do, as the kernel would have it: who holds a spinlock or ends I/O in an interrupt must not
//! sleep. Here nothing bad would happen by that, so it is an assertion.

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

/// All this of a task of a simulation while another one runs: that is what the thread has.
#[derive(Default)]
pub(super) struct Context {
    spinning: u32,
    interrupts: u32,
    endings: u32,
    mine: Option<Arc<Waiter>>,
}

impl Context {
    /// Exchanges it for the thread's.
    pub(super) fn swap(&mut self) {
        self.spinning = SPINNING.replace(self.spinning);
        self.interrupts = INTERRUPTS.replace(self.interrupts);
        self.endings = ENDINGS.replace(self.endings);
        swap_mine(&mut self.mine);
    }
}

/// The thread holds a spinlock while this is there. There is no spinlock that is taken within another one.
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

/// The thread is an interrupt while this is there.
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

/// The thread ends some I/O while this is there.
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

/// Whether the caller keeps nobody but its own thread waiting when it takes long: not in an interrupt, which is what a device's
/// worker is while it tells of the end of I/O.
pub fn may_take_long() -> bool {
    INTERRUPTS.get() == 0
}
