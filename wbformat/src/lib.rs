// SPDX-License-Identifier: GPL-2.0-only

//! Formats a cache device for writeboost: the arguments of `wbformat`, and its output. The work is done in
//! the crate `wbhost`, because `wbctl create` formats too.

pub mod cli;
