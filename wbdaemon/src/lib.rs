// SPDX-License-Identifier: GPL-2.0-only

//! Steers the writeback of writeboost volumes.
//!
//! [`control`] decides from observations on settings; it is pure. [`volumes`] finds volumes, observes them
//! and sends them the settings, and [`service`] repeats this. [`instance`] makes sure that only one daemon
//! does it. [`config`] has the administrator's settings. [`metrics`] is the page for Prometheus, and
//! [`server`] serves it in the format that [`accept`] finds, also on a [`socket`]. In [`simulate`] the
//! controller steers the volume itself, over a model of a disk and with the users of [`loads`].

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
