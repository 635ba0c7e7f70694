// SPDX-License-Identifier: GPL-2.0-only

//! The kernel module: registers the device-mapper target `writeboost`.
//!
//! This is the crate root for Kbuild; `lib.rs` is the one for cargo. They have everything else in common.

#![deny(unsafe_op_in_unsafe_fn)]
// `engine`, `format`, `host`, `interface`, `policy` and `volume` are public in the crate that cargo builds of
// them. What only that crate uses of them, its tests and the tools, says so by an `allow` of its own.
#![allow(unreachable_pub)]

use kernel::prelude::*;

/// Logs an error. `pr_err!` accepts only types with the kernel crate's own `Display`; the engine's types have
/// core's.
macro_rules! log_err {
    ($($t:tt)*) => { kernel::pr_err!("{}\n", core::format_args!($($t)*)) };
}
/// Logs some news.
macro_rules! log_info {
    ($($t:tt)*) => { kernel::pr_info!("{}\n", core::format_args!($($t)*)) };
}

mod engine;
mod format;
// Code of the host and of the volume runs in interrupts, and a panic there takes the machine with it: the
// kernel is built with checks for overflow. So each calculation says what happens when it leaves its range.
// `cargo xtask test check::clippy_kmod` checks this.
mod host;
mod interface;
mod policy;
mod target;
#[deny(clippy::arithmetic_side_effects, clippy::panic, clippy::unwrap_used, clippy::expect_used)]
mod volume;

module! {
    type: Module,
    name: "dm_writeboost",
    authors: ["The writeboost authors"],
    description: "device-mapper target writeboost: a log-structured write-back cache",
    license: "GPL v2",
    alias: ["dm-writeboost"],
}

struct Module {
    _target: host::Registration<target::Writeboost>,
    // Behind `_target`: it must exist as long as there may be volumes.
    _hibernation: host::Hibernation,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        host::init_module();
        let hibernation = host::Hibernation::new()?;
        Ok(Self { _target: host::Registration::new(module)?, _hibernation: hibernation })
    }
}
