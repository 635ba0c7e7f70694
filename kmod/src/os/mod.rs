// SPDX-License-Identifier: GPL-2.0-only

//! The few things that the engine needs from its host: fixed arrays, a shared pointer, atomics and CRC-32C.
//!
//! One file per host, chosen by `cfg(MODULE)`, which Kbuild sets. Both export the same names; the engine never asks
//! which one it has.

#[cfg(MODULE)]
#[deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
mod kernel;
#[cfg(MODULE)]
pub use self::kernel::{
    atomic, crc32c, damaged, hurry, init_module, is_hibernating, may_take_long, not_supported, now_ms,
    prefetch, random, should_stop, sleep_ms, synchronize, Asleep, Counters, Ending, Event, Hibernation,
    InUse, Key, Pages, Shared, Sleep, Sleeper, Table, Thread, Work,
};

#[cfg(not(MODULE))]
mod plain;
#[cfg(not(MODULE))]
pub use self::plain::{atomic, crc32c, prefetch, random, Counters, Shared, Table};

/// The host has no memory for a table of this size. Only while a volume is made; later nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;
