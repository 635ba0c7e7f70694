// SPDX-License-Identifier: GPL-2.0-only

//! Formats a cache device for writeboost: the arguments of `wbformat` and what it prints. What it does is in
//! the crate `wbhost`, because `wbctl create` does it too.

pub mod cli;
