// SPDX-License-Identifier: GPL-2.0-only

//! What the target answers to the message `report`: the state of its segments, as a map.
//!
//! `report [CELLS [FIRST COUNT]]` is about `COUNT` segments from number `FIRST` on, all unless said otherwise, in `CELLS`
//! cells of equal size or the next smaller number that does. The answer is
//! `VERSION SEGMENTS FIRST COUNT FREE OPEN WRITING DIRTY CLEAN MAP`, with a character of `MAP` for each cell.

use serde::{Deserialize, Serialize};
use writeboost::arguments::REPORT_VERSION;

/// What the segments of a cell are. Of several kinds in one cell, that which comes last here is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cell {
    /// Not in the log: can be written at once.
    Free,
    /// In the log, and all of it is on the backing device, or superseded.
    Clean,
    /// Some blocks are not on the backing device yet: 1 for up to a ninth of all blocks of the cell, 9 for nearly all.
    Dirty(u8),
    /// Dirty, and being written back now.
    Writing,
    /// The log's head is in it, or some of it is not durable yet.
    Open,
}

impl Cell {
    /// What a character of the map means.
    pub fn from_char(c: char) -> Option<Self> {
        Some(match c {
            '.' => Cell::Free,
            '-' => Cell::Clean,
            '1'..='9' => Cell::Dirty(c as u8 - b'0'),
            'w' => Cell::Writing,
            'o' => Cell::Open,
            _ => return None,
        })
    }
}

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
    /// The map: a character for each cell, as [`Cell::from_char`] understands them.
    pub map: String,
}

impl Report {
    /// Parses an answer.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        // The kernel ends the answer with a NUL.
        let line = line.trim_end_matches('\0');
        let mut words = line.split_ascii_whitespace();
        let mut number = || {
            let word = words.next().ok_or_else(|| format!("the report is only {line:?}"))?;
            word.parse::<u32>().map_err(|_| format!("the report has {word:?} for a number"))
        };
        let version = number()?;
        if version != REPORT_VERSION {
            return Err(format!("the report is of version {version}, and {REPORT_VERSION} is known"));
        }
        let [segments, first, count] = [number()?, number()?, number()?];
        let [free, open, writing, dirty, clean] = [number()?, number()?, number()?, number()?, number()?];
        let map = words.next().unwrap_or("").to_owned();
        if let Some(c) = map.chars().find(|&c| Cell::from_char(c).is_none()) {
            return Err(format!("the report's map has {c:?}"));
        }
        Ok(Self { segments, first, count, free, open, writing, dirty, clean, map })
    }

    /// The cells of the map.
    pub fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.map.chars().filter_map(Cell::from_char)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer() {
        let r = Report::parse("1 16 0 16 7 1 2 4 2 ow19-...\0").unwrap();
        assert_eq!(
            (r.segments, r.count, r.free, r.open, r.writing, r.dirty, r.clean),
            (16, 16, 7, 1, 2, 4, 2)
        );
        let cells: Vec<_> = r.cells().collect();
        assert_eq!(cells[..5], [Cell::Open, Cell::Writing, Cell::Dirty(1), Cell::Dirty(9), Cell::Clean]);
        assert_eq!(cells[5..], [Cell::Free; 3]);
        for bad in ["", "2 1 0 1 1 0 0 0 0 .", "1 16 0", "1 1 0 1 1 0 0 0 0 ?", "x"] {
            assert!(Report::parse(bad).is_err(), "{bad:?}");
        }
    }
}
