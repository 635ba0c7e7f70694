// SPDX-License-Identifier: GPL-2.0-only

//! Messages: commands and questions to a volume.
//!
//! Every user who may run `dmsetup` chooses the words, so nothing in them is trusted. A word is `None` where
//! it is not UTF-8: none of ours is such a word.

use super::report::{Query, DEFAULT_CELLS, MAX_CELLS};
use core::fmt;

/// The source of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A single command: a table line, an administrator, a script.
    Hand,
    /// A program that sets options all the time, and leaves alone those that were set by hand.
    Daemon,
}

impl Who {
    /// The number for `steered_by` in the status; 0 for no source.
    pub fn number(who: Option<Self>) -> u32 {
        who.map_or(0, |who| who as u32 + 1)
    }

    /// The source with this number in the status.
    #[allow(dead_code)] // For the tools and tests.
    pub fn of(number: u64) -> Option<Self> {
        [Self::Hand, Self::Daemon].into_iter().find(|&who| u64::from(Self::number(Some(who))) == number)
    }
}

/// The last word of a daemon's message that sets an option.
pub const DAEMON: &str = "daemon";

const REPORT: &str = "report";

/// The messages of one word.
const ALONE: [(&str, Message<'_>); 5] = [
    ("drop_caches", Message::Drain),
    ("clear_stat", Message::ClearCounters),
    ("give_up", Message::GiveUp),
    ("uuid", Message::Uuid),
    ("health", Message::Health),
];

/// A parsed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// `report [CELLS [FIRST COUNT]]`: the state of the segments.
    Report(Query),
    /// `give_up`: do not wait for minutes before giving up blocks that are lost by the medium's word.
    GiveUp,
    /// `drop_caches`: write back everything that is dirty.
    Drain,
    /// `clear_stat`: set the counters to zero.
    ClearCounters,
    /// `uuid`: the UUID of the volume.
    Uuid,
    /// `health`: the volume's health, in words.
    Health,
    /// `KEY VALUE [daemon]`: set an option.
    Set {
        /// The word that names the option.
        key: &'a str,
        /// The word that is its value.
        value: &'a str,
        /// The source of the value.
        by: Who,
    },
}

impl<'a> Message<'a> {
    /// Reads the words of a message. [`Options::set`](super::table::Options::set) checks whether the option
    /// exists.
    ///
    /// # Errors
    /// The first word, when it is no message of ours with this number of words.
    pub fn parse(mut words: impl ExactSizeIterator<Item = Option<&'a str>>) -> Result<Self, &'a str> {
        let number = words.len();
        let mut word = || words.next().flatten();
        let [first, second, third, fourth] = [word(), word(), word(), word()];
        let name = first.unwrap_or("");
        let value = |word: Option<&str>| word.and_then(|w| w.parse::<u32>().ok()).ok_or(name);
        let is = |word: &str| first.is_some_and(|m| m.eq_ignore_ascii_case(word));
        if let (Some((_, message)), 1) = (ALONE.iter().find(|(word, _)| is(word)), number) {
            return Ok(*message);
        }
        match (first, second, number) {
            (Some(_), _, 1 | 2 | 4) if is(REPORT) => {
                let cells = if number == 1 { DEFAULT_CELLS } else { value(second)? };
                let range = if number == 4 { Some((value(third)?, value(fourth)?)) } else { None };
                if (1..=MAX_CELLS).contains(&cells) {
                    Ok(Self::Report(Query { cells, range }))
                } else {
                    Err(name)
                }
            }
            (Some(key), Some(value), 2) => Ok(Self::Set { key, value, by: Who::Hand }),
            (Some(key), Some(value), 3) if third == Some(DAEMON) => {
                Ok(Self::Set { key, value, by: Who::Daemon })
            }
            _ => Err(name),
        }
    }
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { key, value, by: Who::Hand } => write!(f, "{key} {value}"),
            Self::Set { key, value, by: Who::Daemon } => write!(f, "{key} {value} {DAEMON}"),
            Self::Report(Query { cells, range: None }) => write!(f, "{REPORT} {cells}"),
            Self::Report(Query { cells, range: Some((first, count)) }) => {
                write!(f, "{REPORT} {cells} {first} {count}")
            }
            alone => match ALONE.iter().find(|(_, message)| message == alone) {
                Some((word, _)) => f.write_str(word),
                None => Err(fmt::Error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Words;
    use super::*;
    use std::string::ToString;

    fn words(line: &str) -> Words<'_> {
        Words::of(line)
    }

    #[test]
    fn reports() {
        let report = |line| match Message::parse(words(line)) {
            Ok(Message::Report(query)) => Some(query),
            _ => None,
        };
        assert_eq!(report("report"), Some(Query { cells: DEFAULT_CELLS, range: None }));
        assert_eq!(report("REPORT 4096"), Some(Query { cells: MAX_CELLS, range: None }));
        let part = report("report 10 5 20").unwrap();
        assert_eq!(part, Query { cells: 10, range: Some((5, 20)) });
        assert_eq!((part.segments(25), part.segments(24)), (Ok((5, 20)), Err(24)));
        assert_eq!(report("report").unwrap().segments(24), Ok((0, 24)));
        for nothing in ["report 1 0 0", "report 1 4294967295 1", "report 1 24 1"] {
            assert_eq!(report(nothing).unwrap().segments(24), Err(24), "{nothing}");
        }
        for bad in ["report 0", "report 4097", "report x", "report 1 2", "report 1 2 x", "report 1 2 3 4"] {
            assert_eq!(report(bad), None, "{bad}");
        }
    }

    #[test]
    fn messages() {
        assert_eq!(Message::parse(words("Drop_Caches")), Ok(Message::Drain));
        assert_eq!(Message::parse(words("clear_stat")), Ok(Message::ClearCounters));
        assert_eq!(Message::parse(words("give_up")), Ok(Message::GiveUp));
        assert_eq!(
            Message::parse(words("drop_caches 1")),
            Ok(Message::Set { key: "drop_caches", value: "1", by: Who::Hand })
        );
        for bad in ["", "drop", "a b c", "a b daemon d", "clear_stat 1 2"] {
            assert_eq!(Message::parse(words(bad)), Err(bad.split(' ').next().unwrap_or("")), "{bad}");
        }
        assert_eq!(Message::parse([None].into_iter()), Err(""));
        assert_eq!(Message::parse([Some("a"), None].into_iter()), Err("a"));
    }

    #[test]
    fn what_is_written_is_read() {
        let set = |by| Message::Set { key: "writeback_threshold", value: "70", by };
        let report = |range| Message::Report(Query { cells: 7, range });
        let of_options = [set(Who::Hand), set(Who::Daemon), report(None), report(Some((3, 4)))];
        for message in ALONE.iter().map(|(_, m)| *m).chain(of_options) {
            let line = message.to_string();
            assert_eq!(Message::parse(words(&line)), Ok(message), "{line}");
        }
    }

    #[test]
    fn who_it_is_as_a_number() {
        for who in [None, Some(Who::Hand), Some(Who::Daemon)] {
            assert_eq!(Who::of(Who::number(who).into()), who);
        }
        assert_eq!([None, Some(Who::Hand), Some(Who::Daemon)].map(Who::number), [0, 1, 2]);
        assert_eq!(Who::of(3), None);
    }
}
