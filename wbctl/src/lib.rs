// SPDX-License-Identifier: GPL-2.0-only

//! Creates, inspects, drains and removes writeboost volumes.
//!
//! The command `wbctl` only parses arguments and prints ([`cli`]). A volume is made by [`create`], written back by
//! [`drain`], tuned by [`options`], watched by [`events`] and taken down by [`remove`]; [`status`] and [`report`] are what the target says about itself, [`disk`] what the
//! kernel counts of the devices below. All of it talks to the
//! kernel through [`dm`], which alone knows device-mapper's ioctls.

pub mod cli;
pub mod create;
pub mod disk;
pub mod dm;
pub mod drain;
pub mod error;
pub mod events;
mod kmsg;
mod module;
mod node;
pub mod options;
pub mod remove;
pub mod report;
pub mod status;
mod udev;
pub mod volume;

pub use error::Error;
