// SPDX-License-Identifier: GPL-2.0-only

//! The host for a process: threads of the standard library, and disks that are files or memory.
//!
//! Parts that only the kernel has are played here: [`Mapped`] is device-mapper's part of a volume,
//! [`advance_ms`] lets time pass, and [`drowse`] and the functions behind it hibernate the machine. This host
//! fails where the kernel would: a thread that sleeps with a spinlock or in an interrupt panics, and a thread
//! that panics ends the process.

mod bio;
mod bio_queue;
mod bio_set;
mod clock;
mod context;
mod device;
mod disk;
mod dm;
mod errors;
mod in_use;
mod log;
mod machine;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod simulation;
mod sleeper;
mod sync;
mod target;
mod thread;

// Under a model checker the very same code runs on atomics that the checker watches: `tests/loom.rs`. A third
// kind lets other tasks of a simulation go first: `tests/races.rs`.
#[cfg(not(any(feature = "loom", feature = "races")))]
pub use core::sync::atomic;
#[cfg(feature = "loom")]
pub use loom::sync::atomic;
#[cfg(all(feature = "races", not(feature = "loom")))]
pub mod atomic;

pub use super::contract::{
    EndIo, How, Key, Op, Outcome, QueueKind, Refusal, Returned, Serve, Sleep, Sleeper, StatusKind, Target,
    Work,
};
pub use bio::{Bio, BioList, BioStack, Cursor};
pub use bio_queue::{BioQueue, Service};
pub use bio_set::{BioSet, MAX_BYTES};
pub use clock::{advance_ms, now_ms, sleep_ms};
pub use context::may_take_long;
pub use device::Device;
pub use disk::{Disk, FileDisk, MemoryDisk};
pub use dm::{Mapped, Request, Ticket};
pub use errors::{
    damaged, not_supported, Error, Result, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENODEV, ENOMEM,
    ERESTARTNOHAND, EROFS,
};
pub use in_use::InUse;
pub use log::{log, take_log, Level};
pub use memory::{
    arc, boxed, crc32c, limit_memory, prefetch, random, unboxed, Arc, Box, Counters, List, Pages, Shared,
    Table,
};
pub use simulation::{now_us, pause, simulate, take_us, turns, who_waits};
pub use sleeper::{drowse, is_hibernating, rest, restored, sleep, stay, wake, Asleep};
pub(crate) use sync::{mutex, spinlock};
pub use sync::{wait_for_io_ends, Ending, Event, Mutex, MutexGuard, SpinLock, SpinLockGuard};
pub use target::{Args, Construction, Events, Mapping, Writer};
pub use thread::{hurry, should_stop, spawn, JoinHandle, Thread};

/// Whether checks may take time that no product should take.
pub const LOOKS_FOR_BUGS: bool = true;
