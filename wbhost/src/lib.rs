// SPDX-License-Identifier: GPL-2.0-only

//! What the programs know of this machine: devices, and volumes made of them. `wbctl`, `wbformat`, `wbdaemon`
//! and `wbstat` are built on it; it parses no command line and prints nothing.
//!
//! **Devices.** Open one ([`device`]), see who uses it ([`users`]), what is on it ([`inspect`],
//! [`signature`]), which device it really is ([`identity`]), whether two share bytes ([`overlap`]), whether
//! it can be used at all ([`fit`]), how busy it is ([`disk`]); write the superblock ([`mod@format`]). What
//! the bytes mean is not known here but in the engine, `writeboost::format`. sysfs, procfs and udev's
//! database are read through [`host`].
//!
//! **Volumes.** [`create`], [`drain`] and [`remove`] one, tune it by its [`options`], see what the target
//! says ([`volume`], [`status`], [`report`]), [`watch`] volumes come and go, and learn of [`events`]. All of
//! it talks to the kernel through [`dm`], which alone knows device-mapper's ioctls. Below that are its node
//! ([`control`]) and the module.
//!
//! What is refused or fails is an [`Error`], or a [`DeviceError`] where it is about one device, with an exit
//! code of [`exit`].

pub mod control;
pub mod create;
pub mod device;
mod device_error;
pub mod disk;
pub mod dm;
pub mod drain;
mod error;
pub mod events;
pub mod exit;
pub mod fit;
pub mod format;
pub mod host;
pub mod identity;
pub mod inspect;
mod kmsg;
mod module;
mod node;
pub mod options;
pub mod overlap;
pub mod remove;
pub mod report;
pub mod signature;
pub mod size;
pub mod status;
mod udev;
pub mod users;
pub mod volume;
pub mod watch;

pub use device_error::DeviceError;
pub use error::Error;
