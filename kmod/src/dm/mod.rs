// SPDX-License-Identifier: GPL-2.0-only

//! Safe wrappers over device-mapper and bios, one file per C structure.

/// What bindgen makes of `bindings.h`: see `Kbuild`.
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
pub(crate) mod bindings;

mod bio;
mod bio_queue;
mod bio_set;
mod device;
mod target;

pub use bio::{Bio, BioList, BioStack, Cursor, Op};
pub use bio_queue::{BioQueue, QueueKind, Serve, Service};
pub use bio_set::{BioSet, EndIo, How};
pub use device::Device;
pub use target::{
    Args, Construction, Events, Mapping, Outcome, Refusal, Registration, Returned, StatusKind, Target, Writer,
};
