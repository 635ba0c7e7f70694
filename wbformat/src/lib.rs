// SPDX-License-Identifier: GPL-2.0-only

//! Formats a cache device for writeboost, and knows what may be formatted.
//!
//! The command `wbformat` only parses arguments; what it does is here, because `wbctl create` does it too: open a
//! device ([`device`]), see who uses it ([`users`]), what is on it ([`inspect`]), which device it really is
//! ([`identity`]), whether two devices share bytes ([`overlap`]) and can be used at all ([`fit`]), and write the superblock ([`mod@format`]). What the
//! bytes mean is not known here but in the engine, `writeboost::format`.

pub mod cli;
pub mod device;
pub mod error;
pub mod fit;
pub mod format;
pub mod host;
pub mod identity;
pub mod inspect;
pub mod overlap;
pub mod signature;
pub mod size;
pub mod users;

pub use error::Error;
