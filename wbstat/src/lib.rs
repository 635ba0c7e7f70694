// SPDX-License-Identifier: GPL-2.0-only

//! Shows writeboost volumes live.
//!
//! [`sample`] is the state of all volumes at a moment, from the machine or from a recording. [`rates`] are
//! the changes between two samples. [`app`] is the state of the dashboard, which keys change, and [`ui`]
//! draws it. [`print`](mod@print) prints samples for scripts.

pub mod app;
pub mod cli;
pub mod print;
pub mod rates;
pub mod sample;
pub mod tunables;
pub mod ui;
