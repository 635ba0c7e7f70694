// SPDX-License-Identifier: GPL-2.0-only

//! Creates, inspects, drains and removes writeboost volumes.
//!
//! What the commands do is in the crate `wbhost`. Here are their arguments ([`cli`]), what is told meanwhile
//! ([`progress`]) and what is printed in the end ([`text`]).

pub mod cli;
pub mod progress;
pub mod text;
