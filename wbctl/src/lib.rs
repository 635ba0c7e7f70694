// SPDX-License-Identifier: GPL-2.0-only

//! Creates, inspects, drains and removes writeboost volumes.
//!
//! The command `wbctl` only parses arguments and prints ([`cli`]). A volume is made by [`create`], written back by
//! [`drain`] and taken down by [`remove`]; [`status`] is what the target says about itself. All of it talks to the
//! kernel through [`dm`], which alone knows device-mapper's ioctls.

pub mod cli;
pub mod create;
pub mod dm;
pub mod drain;
pub mod error;
mod kmsg;
mod module;
mod node;
pub mod remove;
pub mod status;
mod udev;
pub mod volume;

pub use error::Error;
