// SPDX-License-Identifier: GPL-2.0-only

//! The target's answer to the message `report`, in the form in which it is kept and recorded.

use serde::{Deserialize, Serialize};
use writeboost::interface::report;

pub use writeboost::interface::report::Cell;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Segments of the whole cache.
    pub segments: u32,
    /// The first segment of the map.
    pub first: u32,
    /// Segments of the map.
    pub count: u32,
    /// Free ones among them; this and the following four add up to `count`.
    pub free: u32,
    /// Open ones.
    pub open: u32,
    /// Those that are being written back.
    pub writing: u32,
    /// Other dirty ones.
    pub dirty: u32,
    /// Clean ones.
    pub clean: u32,
    /// The map: a character for each cell, as [`Cell::of`] understands them.
    pub map: String,
}

impl Report {
    /// Reads an answer.
    ///
    /// # Errors
    /// The fault, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        let (answer, map) = report::Report::parse(line).map_err(|e| e.to_string())?;
        let report::Report { segments, first, count, free, open, writing, dirty, clean } = answer;
        Ok(Self { segments, first, count, free, open, writing, dirty, clean, map: map.to_owned() })
    }

    /// The cells of the map.
    pub fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.map.chars().filter_map(Cell::of)
    }
}
