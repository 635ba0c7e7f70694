// SPDX-License-Identifier: GPL-2.0-only

//! The parts that a machine has one of: its clock, its log, the sleepers told of hibernation, the disks in
//! use. A process is one machine; each simulation has one of its own.

use super::clock::Waiter;
use super::sync::{Condvar, Phases};
use super::{Key, Sleeper};
use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use std::string::String;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::vec::Vec;

/// The sleepers that are told of hibernation.
#[derive(Default)]
pub(super) struct Sleepers {
    pub(super) all: Vec<Arc<dyn Sleeper>>,
    pub(super) drowsy: bool,
}

/// One machine.
#[derive(Default)]
pub(super) struct Machine {
    /// Milliseconds that have passed by [`super::advance_ms`].
    pub(super) ahead_ms: AtomicU64,
    /// All threads that have ever waited and still exist.
    pub(super) waiters: Mutex<Vec<Weak<Waiter>>>,
    /// The keys that only one volume may have at a time.
    pub(super) in_use: Mutex<Vec<Key>>,
    /// So many pieces of memory are left: see [`super::limit_memory`].
    pub(super) memory: Mutex<Option<u64>>,
    /// The kernel log.
    pub(super) lines: Mutex<Vec<String>>,
    pub(super) sleepers: Mutex<Sleepers>,
    /// The ends of I/O that are under way.
    pub(super) phases: Mutex<Phases>,
    /// None of one phase is under way any more.
    pub(super) phase_over: Condvar,
    /// Locked by the thread that waits for the end of a phase.
    pub(super) synchronizes: Mutex<()>,
}

std::thread_local! {
    /// The machine of a simulation that runs in this thread.
    static SIMULATED: RefCell<Option<Arc<Machine>>> = const { RefCell::new(None) };
}

/// The machine that the caller runs on.
pub(super) fn machine() -> Arc<Machine> {
    static PROCESS: OnceLock<Arc<Machine>> = OnceLock::new();
    SIMULATED.with_borrow(|simulated| match simulated {
        Some(machine) => machine.clone(),
        None => PROCESS.get_or_init(Arc::default).clone(),
    })
}

/// The calling thread runs on a machine of its own while this exists.
pub(super) struct Own(());

impl Own {
    pub(super) fn begin() -> Self {
        SIMULATED.with_borrow_mut(|simulated| {
            assert!(simulated.is_none(), "a simulation within a simulation");
            *simulated = Some(Arc::default());
        });
        Self(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // After the borrow has ended: values dropped with the machine may look for it.
        let machine = SIMULATED.with_borrow_mut(Option::take);
        drop(machine);
    }
}
