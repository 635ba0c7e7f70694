// SPDX-License-Identifier: GPL-2.0-only

//! Creates, inspects, drains and removes writeboost volumes.
//!
//! The crate `wbhost` does the work of the commands. This crate has their arguments ([`cli`]), the output
//! meanwhile ([`progress`]) and the output in the end ([`text`]).

pub mod cli;
pub mod progress;
pub mod text;
