// SPDX-License-Identifier: GPL-2.0-only

//! The status: numbers in the order of dm-writeboost 2.2, and `#WORDS KEY VALUE ...` to the end of the line.
//!
//! A program that reads the status of 2.2 can read this one to its end: there is one count of words, behind
//! it come the five options of 2.2 by the same names, and everything behind them consists of pairs of a word
//! and a whole number, too. Texts are answers to messages instead.

use super::table::Options;
use super::{write_pairs, Pairs, Words};
use core::fmt::{self, Write};

/// Bits of the index of a counter, as in dm-writeboost.
pub mod count {
    /// A write; a read otherwise.
    pub const WRITE: u32 = 8;
    /// The block was in the cache.
    pub const HIT: u32 = 4;
    /// The block was in RAM.
    pub const IN_RAM: u32 = 2;
    /// The request was for a whole block of 4 KiB.
    pub const FULL: u32 = 1;
    /// The number of counters.
    pub const NUMBER: usize = 16;
}

/// The counters of requests, each of one block of 4 KiB or a part of one, by the bits of [`count`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters(pub [u64; count::NUMBER]);

#[allow(dead_code)] // For the tools and tests.
impl Counters {
    /// The words for the bits of counter `i`, such as `write hit buffer full`.
    pub fn words(i: u32) -> [&'static str; 4] {
        let word = |bit, yes, no| if i & bit != 0 { yes } else { no };
        [
            word(count::WRITE, "write", "read"),
            word(count::HIT, "hit", "miss"),
            word(count::IN_RAM, "buffer", "device"),
            word(count::FULL, "full", "partial"),
        ]
    }

    fn sum(&self, mask: u32, bits: u32) -> u64 {
        (0..).zip(self.0).filter(|(i, _)| i & mask == bits).fold(0, |sum, (_, n)| n.saturating_add(sum))
    }

    /// Reads.
    pub fn reads(&self) -> u64 {
        self.sum(count::WRITE, 0)
    }

    /// Writes.
    pub fn writes(&self) -> u64 {
        self.sum(count::WRITE, count::WRITE)
    }

    /// Reads of blocks that were in the cache.
    pub fn read_hits(&self) -> u64 {
        self.sum(count::WRITE | count::HIT, count::HIT)
    }

    /// Writes of blocks that were in the cache already.
    pub fn write_hits(&self) -> u64 {
        self.sum(count::WRITE | count::HIT, count::WRITE | count::HIT)
    }
}

/// The reasons why the state is not `ok`, as bits.
pub mod trouble {
    /// A write to the cache device has failed and is being repeated; with a failed log, it has failed for
    /// good.
    pub const CACHE_WRITE: u32 = 1;
    /// A dirty block cannot be read from the cache device.
    pub const CACHE_READ: u32 = 2;
    /// Something could not be written back.
    pub const BACKING_WRITE: u32 = 4;
    /// Another user has had the cache device while the machine hibernated: see [`crate::volume`].
    pub const CHANGED: u32 = 8;
    /// The words for them.
    pub const WORDS: [(u32, &str); 4] = [
        (CACHE_WRITE, "cache_write"),
        (CACHE_READ, "cache_read"),
        (BACKING_WRITE, "backing_write"),
        (CHANGED, "changed"),
    ];
}

/// A volume's health in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All works.
    Ok,
    /// All works, but something needs attention.
    Degraded,
    /// The volume accepts no more writes.
    Failed,
}

impl State {
    /// All states; the index is the number in the status.
    #[allow(dead_code)] // For the tools and tests.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Degraded, Self::Failed];

    /// The state by its number.
    #[allow(dead_code)] // For the tools and tests.
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Failed => "failed",
        }
    }
}

/// A volume's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// The log cannot be written: writes are not accepted any more.
    pub failed: bool,
    /// Bits of [`trouble`].
    pub trouble: u32,
}

impl Health {
    /// The health in one word.
    pub fn state(self) -> State {
        match self {
            Self { failed: true, .. } => State::Failed,
            Self { trouble: 0, .. } => State::Ok,
            _ => State::Degraded,
        }
    }
}

/// The bits of [`trouble`] in words with commas between them, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble(pub u32);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (_, word) in trouble::WORDS.iter().filter(|(bit, _)| self.0 & bit != 0) {
            write!(f, "{comma}{word}")?;
            comma = ",";
        }
        if comma.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

/// The answer to the message `health`: the state, and the reasons why it is not `ok`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.state().word(), Trouble(self.trouble))
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The pairs of a status: `None` for a word that the status does not have.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Named { $($(#[$doc])* pub $name: Option<u64>,)* }

        impl Named {
            /// The words, in the order of the status.
            pub const WORDS: &'static [&'static str] = &[$(stringify!($name),)*];

            fn get(&self, word: &str) -> Option<u64> {
                match word {
                    $(stringify!($name) => self.$name,)*
                    _ => None,
                }
            }

            /// The place of a word, if there is such a word.
            pub fn get_mut(&mut self, word: &str) -> Option<&mut Option<u64>> {
                match word {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

named! {
    /// The option; 0 when it was not given.
    writeback_threshold,
    /// Segments that are being written back now.
    nr_cur_batched_writeback,
    /// The option.
    sync_data_interval,
    /// The option.
    update_sb_record_interval,
    /// The option.
    read_cache_threshold,
    /// The option; when it was not given, the most segments that are written back at a time.
    nr_max_batched_writeback,
    /// The option.
    write_around_mode,
    /// The option.
    writeback_rate_limit,
    /// The option.
    steering_timeout,
    /// The number of a [`State`].
    state,
    /// Bits of [`trouble`].
    fault,
    /// The number of the [`Who`](super::message::Who) that has set the options about writeback.
    steered_by,
    /// 1 while the dead man's rule is at work.
    steering_expired,
    /// Segments that can be written at once.
    free_segments,
    /// 1 while segments run short and only writeback makes room.
    full,
    /// Dirty blocks that the cache device could not read any more, and that were given up.
    lost_blocks,
    /// Blocks that could not be read from the cache device or did not match their checksum.
    read_errors,
    /// Failed writes to the cache device.
    cache_write_errors,
    /// Failed reads from the backing device.
    backing_read_errors,
    /// Failed writes to the backing device.
    writeback_errors,
    /// Reads from the cache device that went well when repeated.
    read_again,
    /// Flushes and FUA writes taken.
    flushes,
    /// Blocks of 4 KiB written back.
    written_back,
    /// Blocks of 4 KiB written to the backing device without the cache, which was full.
    written_around,
    /// Seconds for which the backing device has not answered.
    backing_silent_s,
    /// Seconds for which the cache device has not answered.
    cache_silent_s,
}

impl Named {
    /// The pairs, in the order of the status. Borrowed: the kernel's stack has no room for copies.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, u64)> + Clone + '_ {
        Self::WORDS.iter().filter_map(|word| Some((*word, self.get(word)?)))
    }

    /// Sets the values of the options.
    pub fn set_options(&mut self, options: &Options) {
        for (name, value) in options.all() {
            if let Some(place) = self.get_mut(name) {
                *place = Some(value.into());
            }
        }
    }
}

/// A status. A block is 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The place of the log's head, in blocks (`cursor_pos`).
    pub cursor: u64,
    /// Blocks of the whole cache (`nr_cache_blocks`).
    pub cache_blocks: u64,
    /// Segments of the whole cache (`nr_segments`).
    pub segments: u64,
    /// Number of the newest part of the log (`current_id`).
    pub current_id: u64,
    /// Number of the newest part on the cache device.
    pub last_flushed_id: u64,
    /// Number of the newest part that is written back.
    pub last_writeback_id: u64,
    /// Blocks that are not on the backing device yet (`nr_dirty_cache_blocks`).
    pub dirty_blocks: u64,
    /// Requests.
    pub counters: Counters,
    /// Parts of the log that were written before they were full (`nr_partial_flushed`).
    pub partial_flushed: u64,
    /// The named values.
    pub named: Named,
}

/// Names of the numbers before the counters.
pub const FIRST: [&str; 7] = [
    "cursor_pos",
    "nr_cache_blocks",
    "nr_segments",
    "current_id",
    "last_flushed_id",
    "last_writeback_id",
    "nr_dirty_cache_blocks",
];

/// The fault of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusError<'a> {
    /// It ends before this number, counted from 0.
    Short(usize),
    /// This number, counted from 0, is this word, which is not a number.
    Number(usize, &'a str),
    /// The words behind the numbers differ from their count, or are odd in number.
    Count,
}

impl fmt::Display for StatusError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |i: &usize| FIRST.get(*i).copied().unwrap_or("the last counter");
        match self {
            Self::Short(i) => write!(f, "the status ends before {}", name(i)),
            Self::Number(i, word) => write!(f, "the status has {word:?} for number {i}"),
            Self::Count => f.write_str("the status has more or fewer words than it announces"),
        }
    }
}

impl Status {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let Self { cursor, cache_blocks, segments, current_id, .. } = self;
        write!(out, "{cursor} {cache_blocks} {segments} {current_id} ")?;
        write!(out, "{} {} {}", self.last_flushed_id, self.last_writeback_id, self.dirty_blocks)?;
        for n in self.counters.0 {
            write!(out, " {n}")?;
        }
        write!(out, " {} ", self.partial_flushed)?;
        write_pairs(out, self.named.pairs())
    }

    /// Reads a status. Words of ours may be missing; `other` is called for each word that is unknown here.
    ///
    /// # Errors
    /// [`StatusError`].
    #[allow(dead_code)] // For the tools and tests.
    pub fn parse<'a>(
        line: &'a str,
        mut other: impl FnMut(&'a str, &'a str),
    ) -> Result<Self, StatusError<'a>> {
        let mut words = Words::of(line);
        let mut i = 0;
        let mut number = || {
            let word = words.next().flatten().ok_or(StatusError::Short(i))?;
            let n = word.parse::<u64>().map_err(|_| StatusError::Number(i, word));
            i += 1;
            n
        };
        let mut status = Self {
            cursor: number()?,
            cache_blocks: number()?,
            segments: number()?,
            current_id: number()?,
            last_flushed_id: number()?,
            last_writeback_id: number()?,
            dirty_blocks: number()?,
            ..Self::default()
        };
        for n in &mut status.counters.0 {
            *n = number()?;
        }
        status.partial_flushed = number()?;
        for (key, value) in Pairs::of(words).map_err(|_| StatusError::Count)? {
            match (status.named.get_mut(key), value.parse()) {
                (Some(place), Ok(n)) => *place = Some(n),
                _ => other(key, value),
            }
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Who;
    use super::*;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn status() -> Status {
        let mut status = Status {
            cursor: 5,
            cache_blocks: 131_072,
            segments: 1024,
            current_id: 77,
            last_flushed_id: 76,
            last_writeback_id: 70,
            dirty_blocks: 1234,
            partial_flushed: 42,
            ..Status::default()
        };
        for (n, i) in status.counters.0.iter_mut().zip(1..) {
            *n = i;
        }
        for (word, n) in Named::WORDS.iter().zip(100..) {
            *status.named.get_mut(word).unwrap() = Some(n);
        }
        status
    }

    fn line(status: &Status) -> String {
        let mut line = String::new();
        status.write(&mut line).unwrap();
        line
    }

    #[test]
    fn what_is_written_is_read() {
        let status = status();
        let none = |key: &str, _: &str| panic!("{key} is not known");
        assert_eq!(Status::parse(&line(&status), none), Ok(status));
        let few = Status { named: Named { full: Some(1), ..Named::default() }, ..Status::default() };
        assert!(line(&few).ends_with(" 0 2 full 1"));
        assert_eq!(Status::parse(&line(&few), none), Ok(few));
    }

    /// As the tools for dm-writeboost 2.2 read it: by position, and pairs to the end.
    #[test]
    fn as_dm_writeboost_2_2_reads_it() {
        let line = line(&status());
        let words: Vec<&str> = line.split(' ').collect();
        let numbers: Vec<u64> = words[..25].iter().map(|w| w.parse().unwrap()).collect();
        assert_eq!(numbers[..7], [5, 131_072, 1024, 77, 76, 70, 1234]);
        assert_eq!((numbers[7], numbers[22], numbers[23]), (1, 16, 42));
        assert_eq!(words.len(), 25 + numbers[24] as usize);
        let pairs: Vec<_> = words[25..].chunks(2).map(|p| (p[0], p[1].parse::<u64>().unwrap())).collect();
        let names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
        let theirs = [
            "writeback_threshold",
            "nr_cur_batched_writeback",
            "sync_data_interval",
            "update_sb_record_interval",
            "read_cache_threshold",
        ];
        assert_eq!(names[..5], theirs);
    }

    #[test]
    fn every_option_is_in_it() {
        let mut named = Named::default();
        named.set_options(&Options::default());
        for known in Options::known() {
            assert_eq!(*named.get_mut(known.name).unwrap(), Some(known.default.into()), "{}", known.name);
        }
        assert_eq!(named.pairs().count(), Options::known().len());
    }

    #[test]
    fn of_others_and_garbage() {
        let zero = "0 ".repeat(24);
        let other = |line: &str| {
            let mut found = Vec::new();
            let status = Status::parse(line, |key, value| found.push(format!("{key} {value}"))).unwrap();
            (status.named, found)
        };
        let (named, found) = other(&format!("{zero} 6 read_cache_threshold 1 later 2 full x"));
        assert_eq!((named.read_cache_threshold, named.full), (Some(1), None));
        assert_eq!(found, ["later 2", "full x"]);
        assert_eq!(other(&zero).0, Named::default());
        let error = |line: &str| Status::parse(line, |_, _| ()).unwrap_err().to_string();
        assert_eq!(error(""), "the status ends before cursor_pos");
        assert_eq!(error("1 2 x"), "the status has \"x\" for number 2");
        for bad in ["4 a 1", "x", "1 a", "2 a 1 0"] {
            assert_eq!(error(&format!("{zero} {bad}")), StatusError::Count.to_string(), "{bad}");
        }
    }

    #[test]
    fn words() {
        assert_eq!(Counters::words(9), ["write", "miss", "device", "full"]);
        assert_eq!(Counters::words(6), ["read", "hit", "buffer", "partial"]);
        let c = status().counters;
        assert_eq!((c.reads(), c.writes(), c.read_hits(), c.write_hits()), (36, 100, 26, 58));
        let health = Health { failed: false, trouble: trouble::CACHE_READ | trouble::BACKING_WRITE };
        assert_eq!(health.to_string(), "degraded cache_read,backing_write");
        assert_eq!(Health::default().to_string(), "ok none");
        for (i, state) in State::ALL.into_iter().enumerate() {
            assert_eq!((State::of(i as u64), state as usize), (Some(state), i));
        }
        assert_eq!(Who::of(9), None);
    }
}
