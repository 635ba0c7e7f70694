// SPDX-License-Identifier: GPL-2.0-only

//! Shows writeboost volumes live.
//!
//! [`sample`] is what is known of all volumes at a moment, from the machine or from a recording; [`rates`] what has happened between
//! two of these; [`app`] what the dashboard knows and how keys change it; [`ui`] how that looks; [`print`](mod@print) the same for scripts.

pub mod app;
pub mod cli;
pub mod print;
pub mod rates;
pub mod sample;
pub mod tunables;
pub mod ui;
