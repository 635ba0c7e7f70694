// SPDX-License-Identifier: GPL-2.0-only

//! Steers the writeback of writeboost volumes.
//!
//! [`control`] decides, from what was seen, what is to be done; it is pure. [`volumes`] finds volumes, looks at them and tells them what
//! was decided, [`service`] does that again and again, [`instance`] makes sure that nobody else does, [`config`] is what the administrator
//! wants. [`metrics`] is what Prometheus sees, [`server`] shows it, in the format that [`accept`] finds, also on a [`socket`].
//! [`simulate`] and [`loads`] put the controller before models of disks and days.

pub mod accept;
pub mod cli;
pub mod config;
pub mod control;
pub mod instance;
pub mod loads;
pub mod metrics;
pub mod server;
pub mod service;
pub mod simulate;
pub mod socket;
pub mod volumes;
