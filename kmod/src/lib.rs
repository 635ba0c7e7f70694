// SPDX-License-Identifier: GPL-2.0-only

//! The writeboost cache, as a plain crate.
//!
//! This workspace crate has the very files that Kbuild compiles into `dm-writeboost.ko` (crate root
//! `writeboost_main.rs`). So `cargo test` writes, flushes, crashes, resumes and reads through the functions
//! that the kernel calls, and the tools read a cache device with the same code that wrote it. Only the host
//! is another one: [`host::plain`] instead of `host/kernel/`.

#![no_std]
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate std;

/// Logs an error.
macro_rules! log_err {
    ($($t:tt)*) => {
        $crate::host::plain::log($crate::host::plain::Level::Error, core::format_args!($($t)*))
    };
}
/// Logs some news.
macro_rules! log_info {
    ($($t:tt)*) => { $crate::host::plain::log($crate::host::plain::Level::Info, core::format_args!($($t)*)) };
}

pub mod engine;
pub mod format;
pub mod host;
pub mod interface;
pub mod policy;
pub mod target;
pub mod volume;
