// SPDX-License-Identifier: GPL-2.0-only

//! The kernel log.

use super::machine::machine;
use super::sync::locked;
use core::fmt::Arguments;
use std::io::Write;
use std::string::{String, ToString};
use std::sync::OnceLock;
use std::vec::Vec;

/// The severity of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something has failed.
    Error,
    /// Some news.
    Info,
}

/// So many lines are kept; beyond that the oldest are dropped.
const MOST: usize = 10_000;

/// Logs a line; to the standard error output, too, if the environment has `WRITEBOOST_LOG`.
pub fn log(level: Level, line: Arguments<'_>) {
    static IS_SHOWN: OnceLock<bool> = OnceLock::new();
    let line = line.to_string();
    if *IS_SHOWN.get_or_init(|| std::env::var_os("WRITEBOOST_LOG").is_some()) {
        // A test's captured output may not be shown; this is.
        let _ = std::writeln!(std::io::stderr(), "{level:?}: {line}");
    }
    let machine = machine();
    let mut lines = locked(&machine.lines);
    if lines.len() >= MOST {
        lines.drain(..MOST / 2);
    }
    lines.push(line);
}

/// Takes the lines that were logged so far, by all volumes of this machine.
pub fn take_log() -> Vec<String> {
    core::mem::take(&mut *locked(&machine().lines))
}
