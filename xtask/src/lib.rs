//! Everything in this repository that is not plain cargo: building the kernel module and booting guests that
//! run it.
//!
//! `cargo xtask` is a thin command line over this library, and the integration tests use [`lab`] directly.

pub mod cargo;
pub mod lab;
pub mod progress;
