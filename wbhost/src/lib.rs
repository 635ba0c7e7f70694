// SPDX-License-Identifier: GPL-2.0-only

//! The programs' access to this machine: devices, and the volumes made of them. `wbctl`, `wbformat`,
//! `wbdaemon` and `wbstat` are built on this crate; it parses no command line and prints nothing.
//!
//! **Devices.** [`device`] opens one. [`users`] finds its users, [`inspect`] and [`signature`] its contents,
//! [`identity`] its identity, [`disk`] its load. [`overlap`] finds whether two devices share bytes, [`fit`]
//! whether a device can be used at all. [`mod@format`] writes the superblock. The meaning of the bytes is not
//! known here but in the engine, `writeboost::format`. [`host`] reads sysfs, procfs and udev's database.
//!
//! **Volumes.** [`create`], [`drain`] and [`remove`] handle one volume, and [`options`] tunes it. [`volume`],
//! [`status`] and [`report`] have the target's answers; [`watch`] notices volumes that come and go, and
//! [`events`] reports changes. All of it talks to the kernel through [`dm`], which alone knows
//! device-mapper's ioctls. Below that are its node ([`control`]) and the module.
//!
//! A refusal or failure is an [`Error`], or a [`DeviceError`] where it is about one device, with an exit code
//! of [`exit`].

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
