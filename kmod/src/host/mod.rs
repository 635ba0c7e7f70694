// SPDX-License-Identifier: GPL-2.0-only

//! What the engine, the volume and the target need of the machine: memory, threads, time, locks, devices, bios, and a way to tell people
//! something.
//!
//! There are two hosts, chosen by `cfg(MODULE)`, which Kbuild sets: `kernel` and, for everything that runs in a process (tests,
//! simulations, tools), `plain`. Both export the names below with the same meaning, and nobody above asks which one it has.
//! A host decides nothing: what is decided about a volume is in `engine/` and `volume/`, and is the same code everywhere.
//!
//! # What each item guarantees
//! - **Memory.** [`Table`], [`Shared`], [`List`], [`Pages`] and `arc`, `boxed` are made when a volume is made, and may fail then; nothing of
//!   it is allocated later. [`Pages`] is memory that several threads use at the same time, each its own part: who may touch
//!   which is up to the callers, by the engine's claims.
//! - **Locks.** A [`SpinLock`] is held for a short time and by no one who sleeps; a [`Mutex`] may be held for long. Both are made by macros,
//!   `spinlock!` and `mutex!`, so that the kernel's lock checker tells them apart.
//! - **Events.** An [`Event`] counts. Who waits looks at the count first, then at what the event is about, and then waits for
//!   another count: so nothing is missed. It is notified in any context.
//! - **Threads.** A [`Thread`] runs its [`Work`] until [`should_stop`]; dropping it tells it to stop, and waits for that.
//! - **Ends.** What a device returns ends in any context, also in one that must not wait: [`EndIo`], `Volume::bio_returned`. [`wait_for_io_ends`]
//!   waits until every end that was under way is over.
//! - **Devices.** A [`Device`] is open as long as it is there. A [`BioSet`] sends I/O of our own and never fails for want of memory; it may
//!   wait for I/O of the same set.
//! - **Bios** of users belong to whoever has them, and end when they are dropped. [`BioList`] and [`BioStack`] link them through
//!   themselves. A [`BioQueue`] leaves them to a bounded number of workers, in order.
//! - **Looking for bugs.** [`LOOKS_FOR_BUGS`] is true where time may be spent on checks that nobody needs: in `plain` always, in the
//!   kernel when it was built with CONFIG_PROVE_LOCKING, the check that costs a kernel most of its speed anyway.
//! - **Time** is counted in milliseconds, and goes on while nobody looks; in `plain` it may be moved on.

mod contract;

#[cfg(MODULE)]
#[deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#[allow(unsafe_code)]
mod kernel;
#[cfg(MODULE)]
use self::kernel as this;

#[cfg(not(MODULE))]
pub mod plain;
#[cfg(not(MODULE))]
use self::plain as this;

// Memory.
pub use this::{
    arc, atomic, boxed, crc32c, prefetch, random, unboxed, Arc, Box, Counters, List, Pages, Shared, Table,
};
// Locks, events, threads and time.
pub use this::{
    hurry, is_hibernating, may_take_long, now_ms, should_stop, sleep_ms, wait_for_io_ends, Asleep, Event,
    InUse, Key, Mutex, MutexGuard, Sleep, Sleeper, SpinLock, Thread, Work, LOOKS_FOR_BUGS,
};
pub(crate) use this::{mutex, spinlock};
// Errors.
pub use this::{damaged, not_supported, Error, Result, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENOMEM, EROFS};
// Devices, bios and the target.
#[cfg(MODULE)]
pub use this::{init_module, Hibernation, Registration};
pub use this::{
    Args, Bio, BioList, BioQueue, BioSet, BioStack, Construction, Cursor, Device, EndIo, Events, How,
    Mapping, Op, Outcome, QueueKind, Refusal, Returned, Serve, Service, StatusKind, Target, Writer,
};

/// The host has no memory for a table of this size. Only while a volume is made; later nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;
