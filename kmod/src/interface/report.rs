// SPDX-License-Identifier: GPL-2.0-only

//! The answer to the message `report`: the state of the segments, as a map.
//!
//! `report [CELLS [FIRST COUNT]]` asks about `COUNT` segments from number `FIRST` on, or else about all, in
//! `CELLS` cells of equal size, or in fewer cells if that suffices. The answer is `VERSION SEGMENTS FIRST
//! COUNT FREE OPEN WRITING DIRTY CLEAN MAP`, with a character of `MAP` for each cell.

use core::fmt::{self, Write};

/// Most cells that a report has: it has to fit into a message's answer, whatever the size of the cache.
pub const MAX_CELLS: u32 = 4096;

/// Version of a report.
pub const VERSION: u32 = 1;

/// Cells of a report unless a message says otherwise.
pub const DEFAULT_CELLS: u32 = 64;

/// The segments and cells of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Cells that the map may have, from 1 to [`MAX_CELLS`].
    pub cells: u32,
    /// The first segment, and the number of segments; `None` for all.
    pub range: Option<(u32, u32)>,
}

impl Query {
    /// The first segment and the number of segments, at least 1, of a volume that has `segments`.
    ///
    /// # Errors
    /// The number of segments, when the volume does not have all segments of the query.
    pub fn segments(&self, segments: u32) -> Result<(u32, u32), u32> {
        match self.range {
            None => Ok((0, segments)),
            Some((first, count))
                if count > 0 && first.checked_add(count).is_some_and(|end| end <= segments) =>
            {
                Ok((first, count))
            }
            Some(_) => Err(segments),
        }
    }
}

/// The state of the segments of a cell. If a cell has segments of several states, the one that comes last
/// here is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Not in the log: it can be written at once.
    Free,
    /// In the log, and all of it is on the backing device, or superseded.
    Clean,
    /// Some blocks are not on the backing device yet: 1 for up to a ninth of all blocks of the cell, 9 for
    /// nearly all.
    Dirty(u8),
    /// Dirty, and being written back now.
    Writing,
    /// The log's head is in it, or some of it is not durable yet.
    Open,
}

impl Cell {
    /// Its character in the map.
    pub fn char(self) -> char {
        match self {
            Cell::Free => '.',
            Cell::Clean => '-',
            Cell::Dirty(ninths) => (b'0' + ninths.clamp(1, 9)).into(),
            Cell::Writing => 'w',
            Cell::Open => 'o',
        }
    }

    /// The meaning of a character of the map.
    #[allow(dead_code)] // For the tools and tests.
    pub fn of(c: char) -> Option<Self> {
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

/// An answer without its map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

/// The fault of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportError<'a> {
    /// It ends before its map.
    Short,
    /// A word should be a number, and is not.
    Number(&'a str),
    /// The version is unknown.
    Version(u32),
    /// A character of the map has no meaning.
    Map(char),
}

impl fmt::Display for ReportError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the report ends before its map"),
            Self::Number(word) => write!(f, "the report has {word:?} for a number"),
            Self::Version(v) => write!(f, "the report is of version {v}, and {VERSION} is known"),
            Self::Map(c) => write!(f, "the report's map has {c:?}"),
        }
    }
}

impl Report {
    /// Writes it; [`Cell::char`] of each cell follows.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let Self { segments, first, count, free, open, writing, dirty, clean } = self;
        write!(out, "{VERSION} {segments} {first} {count} {free} {open} {writing} {dirty} {clean} ")
    }

    /// Reads an answer, and returns it with its map.
    ///
    /// # Errors
    /// [`ReportError`].
    #[allow(dead_code)] // For the tools and tests.
    pub fn parse(line: &str) -> Result<(Self, &str), ReportError<'_>> {
        // The kernel ends the answer with a NUL.
        let mut words = line.trim_end_matches('\0').split_ascii_whitespace();
        let mut number = || {
            let word = words.next().ok_or(ReportError::Short)?;
            word.parse::<u32>().map_err(|_| ReportError::Number(word))
        };
        let version = number()?;
        if version != VERSION {
            return Err(ReportError::Version(version));
        }
        let report = Self {
            segments: number()?,
            first: number()?,
            count: number()?,
            free: number()?,
            open: number()?,
            writing: number()?,
            dirty: number()?,
            clean: number()?,
        };
        let map = words.next().ok_or(ReportError::Short)?;
        match map.chars().find(|&c| Cell::of(c).is_none()) {
            Some(c) => Err(ReportError::Map(c)),
            None => Ok((report, map)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn what_is_written_is_read() {
        let report =
            Report { segments: 16, first: 1, count: 15, free: 6, open: 1, writing: 2, dirty: 4, clean: 2 };
        let mut line = String::new();
        report.write(&mut line).unwrap();
        let cells = [Cell::Open, Cell::Writing, Cell::Dirty(1), Cell::Dirty(9), Cell::Clean, Cell::Free];
        cells.iter().for_each(|c| line.push(c.char()));
        line.push('\0');
        assert_eq!(line, "1 16 1 15 6 1 2 4 2 ow19-.\0");
        assert_eq!(Report::parse(&line), Ok((report, "ow19-.")));
        assert!(cells.iter().all(|&c| Cell::of(c.char()) == Some(c)));
    }

    #[test]
    fn what_is_no_report() {
        for (bad, error) in [
            ("", ReportError::Short),
            ("2 1 0 1 1 0 0 0 0 .", ReportError::Version(2)),
            ("1 16 0", ReportError::Short),
            ("1 1 0 1 1 0 0 0 0", ReportError::Short),
            ("1 1 0 1 1 0 0 0 0 ?", ReportError::Map('?')),
            ("1 x", ReportError::Number("x")),
        ] {
            assert_eq!(Report::parse(bad), Err(error), "{bad:?}");
        }
    }
}
