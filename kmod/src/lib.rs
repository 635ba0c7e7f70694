// SPDX-License-Identifier: GPL-2.0-only

//! The engine of the writeboost cache, as a plain crate.
//!
//! The very files that Kbuild compiles into `dm-writeboost.ko` (crate root `writeboost_main.rs`) are a workspace
//! crate here, so that `cargo test` covers them without a kernel and the tools read a cache device with the same
//! code that wrote it. What is only of the kernel (`dm/`, `target.rs`, `os/kernel.rs`) is not part of this crate.

#![no_std]
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate std;

pub mod arguments;
pub mod engine;
pub mod os;
