// SPDX-License-Identifier: GPL-2.0-only

//! The options that can be changed in the dashboard.

use writeboost::interface::table::{Known, Options, DEFAULT};

/// All options that have an effect, in the target's order.
pub fn all() -> impl Iterator<Item = &'static Known> {
    Options::known().iter().filter(|k| k.min < k.max)
}

/// Checks a value for an option.
///
/// # Errors
/// The fault of the value.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    Options::check(name, value).map_err(|e| e.to_string())
}

/// The value of an option, as it is typed.
pub fn word(value: Option<u64>) -> String {
    value.map_or_else(|| DEFAULT.to_owned(), |v| v.to_string())
}
