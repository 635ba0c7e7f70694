// SPDX-License-Identifier: GPL-2.0-only

//! What the tests have in common. Each test crate uses part of it.
#![allow(dead_code)]

pub mod case;
pub mod disk;
pub mod host;
pub mod rng;
pub mod search;
pub mod small;
pub mod volume;
