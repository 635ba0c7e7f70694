// SPDX-License-Identifier: GPL-2.0-only

//! The host `kernel`: safe wrappers over the kernel's C interfaces, one file per structure, and `shim.c` for
//! macros, inline functions and differences between kernels.

/// The bindings that bindgen makes of `bindings.h`: see `Kbuild`.
#[allow(
    clippy::all,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused
)]
#[rustfmt::skip]
#[path = "bindings_generated.rs"]
mod bindings;

mod bio;
mod bio_queue;
mod bio_set;
mod device;
mod event;
mod hibernation;
mod in_use;
mod lock;
mod memory;
mod target;
mod thread;

pub use super::contract::{
    EndIo, How, Key, Op, Outcome, QueueKind, Refusal, Returned, Serve, Sleep, Sleeper, StatusKind, Target,
    Work,
};
pub use bio::{Bio, BioList, BioStack, Cursor};
pub use bio_queue::{BioQueue, Service};
pub use bio_set::BioSet;
pub use core::sync::atomic;
pub use device::Device;
pub use event::{may_take_long, now_ms, sleep_ms, wait_for_io_ends, Ending, Event};
pub use hibernation::{is_hibernating, Asleep, Hibernation};
pub use in_use::InUse;
pub use kernel::prelude::{Error, Result, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENOMEM, EROFS};
pub use kernel::sync::Arc;
pub(crate) use lock::{mutex, spinlock};
pub use lock::{Mutex, MutexGuard, SpinLock};
pub use memory::{arc, boxed, crc32c, prefetch, random, unboxed, Box, Counters, List, Pages, Shared, Table};
pub use target::{Args, Construction, Events, Mapping, Registration, Writer};
pub use thread::{hurry, should_stop, Thread};

/// Whether checks may take time that no product should take.
pub const LOOKS_FOR_BUGS: bool = cfg!(CONFIG_PROVE_LOCKING);

/// The operation is not supported. Not every kernel that is supported names it in its `kernel` crate.
pub fn not_supported() -> Error {
    Error::from_errno((kernel::bindings::EOPNOTSUPP as i32).wrapping_neg())
}

/// The data on the device are damaged. Not every kernel names this error either: see [`not_supported`].
pub fn damaged() -> Error {
    Error::from_errno((kernel::bindings::EUCLEAN as i32).wrapping_neg())
}

/// Initialises the module's globals. Called once, before anything else.
pub fn init_module() {
    in_use::init();
    hibernation::init();
}
