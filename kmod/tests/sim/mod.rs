// SPDX-License-Identifier: GPL-2.0-only

//! The common parts of the tests. Each test crate uses some of them.
#![allow(dead_code)]

pub mod case;
pub mod disk;
pub mod host;
pub mod rng;
pub mod search;
pub mod small;
pub mod volume;
