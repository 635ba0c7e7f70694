// SPDX-License-Identifier: GPL-2.0-only

//! The interface between the volume and the machine: memory, threads, time, locks, devices, bios, and the
//! kernel's log. The engine, the volume and the target need nothing else.
//!
//! There are two hosts, chosen by `cfg(MODULE)`, which Kbuild sets: `kernel`, and `plain` for everything that
//! runs in a process (tests, simulations, tools). Both export the names below with the same meaning, and no
//! code above this module asks which one it has. A host decides nothing: all decisions about a volume are in
//! `engine/`, `policy/` and `volume/`, and are the same code everywhere.
//!
//! # Guarantees of each item
//! - **Memory.** [`Table`], [`Shared`], [`List`], [`Pages`] and `arc`, `boxed` are made when a volume is
//!   made, and may fail then; none of them allocates later. [`Pages`] is memory that several threads use at
//!   the same time, each its own part. The callers decide by the engine's claims which thread may touch which
//!   part.
//! - **Locks.** A [`SpinLock`] is held for a short time, and its owner must not sleep; a [`Mutex`] may be
//!   held for long. Both are made by macros, `spinlock!` and `mutex!`, so that the kernel's lock checker can
//!   distinguish them.
//! - **Events.** An [`Event`] counts. A thread that waits reads the count first, then looks at the state that
//!   the event is about, and then waits for another count. So it misses nothing. An event may be notified in
//!   any context.
//! - **Threads.** A [`Thread`] runs its [`Work`] until [`should_stop`]. Dropping it tells it to stop, and
//!   waits until it has.
//! - **Ends.** I/O of a device ends in any context, also in one that must not wait: [`EndIo`],
//!   `Volume::bio_returned`. [`wait_for_io_ends`] waits until every end that was under way is over.
//! - **Devices.** A [`Device`] is open as long as it exists. A [`BioSet`] sends I/O of our own and never
//!   fails for want of memory; it may wait for I/O of the same set.
//! - **Bios** of users belong to the value that holds them, and end when they are dropped. [`BioList`] and
//!   [`BioStack`] link bios through themselves. A [`BioQueue`] leaves them to a bounded number of workers, in
//!   order.
//! - **Looking for bugs.** [`LOOKS_FOR_BUGS`] is true where time may be spent on checks that no product
//!   needs: in `plain` always, in the kernel when it was built with CONFIG_PROVE_LOCKING, which costs a
//!   kernel most of its speed anyway.
//! - **Time** is counted in milliseconds, and goes on by itself; in `plain` it may be moved on.

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
