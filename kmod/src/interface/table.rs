// SPDX-License-Identifier: GPL-2.0-only

//! The table line: `BACKING CACHE [#WORDS KEY VALUE ...]`. The options, their ranges and their meaning are
//! those of dm-writeboost 2.2, and some of our own.
//!
//! Every user who may run `dmsetup` chooses the words, so nothing in them is trusted. A word is `None` where
//! it is not UTF-8: none of ours is such a word.

use super::{write_pairs, Miscounted, Pairs, Words};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

/// Most segments that are written back together; dm-writeboost 2.2 had room for 32.
pub const MAX_BATCHED: u32 = 1024;

/// Value of an option that was not given.
const UNSET: u32 = u32::MAX;

/// Highest limit of the rate of writeback, in KiB a second.
pub const MAX_RATE_KIB: u32 = 4 << 20;

/// The properties of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// Lowest value.
    pub min: u32,
    /// Highest value.
    pub max: u32,
    /// Its value when not given.
    pub default: u32,
    /// The unit of its value.
    pub unit: &'static str,
    /// Its purpose, in a few words.
    pub summary: &'static str,
}

/// All options, in the order in which status shows them.
const KNOWN: [Known; 8] = [
    Known {
        name: "writeback_threshold",
        min: 0,
        max: 100,
        default: 0,
        unit: "percent",
        // Without the option the volume decides by itself: see `volume/writeback.rs`.
        summary: "utilisation of the backing device below which writeback runs; 0 when it has to, 100 always",
    },
    Known {
        name: "nr_max_batched_writeback",
        min: 1,
        max: MAX_BATCHED,
        default: 32,
        unit: "segments",
        summary: "sorted and written back together",
    },
    Known {
        name: "sync_data_interval",
        min: 0,
        max: 3600,
        default: 0,
        unit: "seconds",
        summary: "after which all is made durable even if nobody asks for it; 0 for never",
    },
    Known {
        name: "update_sb_record_interval",
        min: 0,
        max: 3600,
        default: 0,
        unit: "seconds",
        // The tail is recorded each time it moves.
        summary: "taken for the sake of existing scripts, without effect",
    },
    Known {
        name: "read_cache_threshold",
        min: 0,
        max: 0,
        default: 0,
        unit: "blocks",
        summary: "there is no read caching, which is what 0 asks for",
    },
    Known {
        name: "write_around_mode",
        min: 0,
        max: 0,
        default: 0,
        unit: "",
        summary: "there is no write-around, which is what 0 asks for",
    },
    Known {
        name: "writeback_rate_limit",
        min: 0,
        max: MAX_RATE_KIB,
        default: 0,
        unit: "KiB/s",
        summary: "most that writeback does while the cache is neither full nor drained; 0 for no limit",
    },
    Known {
        name: "steering_timeout",
        min: 0,
        max: 3600,
        default: 0,
        unit: "seconds",
        summary: "without a KEY VALUE message after which the built-in policy takes over; 0 for never",
    },
];
const THRESHOLD: usize = 0;
const BATCHED: usize = 1;
const SYNC: usize = 2;
const RATE: usize = 6;
const TIMEOUT: usize = 7;
/// The options that the dead man's rule is about.
const STEERING: [usize; 3] = [THRESHOLD, BATCHED, RATE];

/// The value that resets an option: as if it had never been given.
pub const DEFAULT: &str = "default";

/// The reason why an option cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionError {
    /// There is no option of this name.
    Unknown,
    /// The value is no number, or out of range.
    Range {
        /// Name of the option.
        name: &'static str,
        /// Lowest value.
        min: u32,
        /// Highest value.
        max: u32,
    },
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown => {
                f.write_str("unknown option; there are")?;
                for (i, k) in KNOWN.iter().enumerate() {
                    write!(f, "{} {}", if i == 0 { "" } else { "," }, k.name)?;
                }
                Ok(())
            }
            OptionError::Range { name, min, max } => {
                write!(f, "{name} takes a number from {min} to {max}, or {DEFAULT}")
            }
        }
    }
}

/// The options of a volume; can be changed at any time.
pub struct Options {
    values: [AtomicU32; KNOWN.len()],
}

impl Default for Options {
    fn default() -> Self {
        Self { values: [const { AtomicU32::new(UNSET) }; KNOWN.len()] }
    }
}

/// The index of the option, and its value; [`UNSET`] to reset it.
fn parse(name: &str, value: &str) -> Result<(usize, u32), OptionError> {
    let i = KNOWN.iter().position(|k| k.name == name).ok_or(OptionError::Unknown)?;
    let k = &KNOWN[i];
    if value == DEFAULT {
        return Ok((i, UNSET));
    }
    match value.parse() {
        Ok(v) if (k.min..=k.max).contains(&v) => Ok((i, v)),
        _ => Err(OptionError::Range { name: k.name, min: k.min, max: k.max }),
    }
}

impl Options {
    /// All options, in the order in which status shows them.
    #[allow(dead_code)] // For the tools and tests.
    pub fn known() -> &'static [Known] {
        &KNOWN
    }

    /// Sets an option, or resets it when its value is [`DEFAULT`].
    ///
    /// # Errors
    /// [`OptionError`]; then nothing has changed.
    pub fn set(&self, name: &str, value: &str) -> Result<(), OptionError> {
        let (i, v) = parse(name, value)?;
        self.values[i].store(v, Ordering::Relaxed);
        Ok(())
    }

    /// Whether [`Options::set`] would accept the value.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn check(name: &str, value: &str) -> Result<(), OptionError> {
        parse(name, value).map(drop)
    }

    fn get(&self, i: usize) -> u32 {
        match self.values[i].load(Ordering::Relaxed) {
            UNSET => KNOWN[i].default,
            v => v,
        }
    }

    /// The utilisation of the backing device, in percent, below which writeback runs, when the option was
    /// given.
    pub fn writeback_threshold(&self) -> Option<u32> {
        self.given(THRESHOLD)
    }

    /// The number of segments that are written back together, when the option was given.
    pub fn nr_max_batched_writeback(&self) -> Option<u32> {
        self.given(BATCHED)
    }

    /// The limit of the rate of writeback in KiB a second, when there is one.
    pub fn writeback_rate_limit(&self) -> Option<u32> {
        self.given(RATE).filter(|&kib| kib != 0)
    }

    /// Seconds of silence after which the steering program is taken to be gone; 0 for never.
    pub fn steering_timeout(&self) -> u32 {
        self.get(TIMEOUT)
    }

    fn given(&self, i: usize) -> Option<u32> {
        let v = self.values[i].load(Ordering::Relaxed);
        (v != UNSET).then_some(v)
    }

    /// Seconds after which written data become durable even without a flush; 0 for never.
    pub fn sync_data_interval(&self) -> u32 {
        self.get(SYNC)
    }

    /// All options with their values.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u32)> + Clone + '_ {
        (0..KNOWN.len()).map(|i| (KNOWN[i].name, self.get(i)))
    }

    /// The options that were given, with their values.
    pub fn all_given(&self) -> impl Iterator<Item = (&'static str, u32)> + Clone + '_ {
        (0..KNOWN.len()).filter_map(|i| Some((KNOWN[i].name, self.given(i)?)))
    }

    /// Whether an option was given that controls how much is written back.
    pub fn steers(&self) -> bool {
        STEERING.iter().any(|&i| self.given(i).is_some())
    }
}

/// Whether the option `name` controls how much is written back.
pub fn is_steering(name: &str) -> bool {
    STEERING.iter().any(|&i| KNOWN[i].name == name)
}

/// The fault of the words behind the two devices of a table line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError<'a> {
    /// They do not begin with their own number, or that number is odd.
    Count,
    /// An option among them cannot be set.
    Option {
        /// The word that names the option.
        key: &'a str,
        /// The word that is its value.
        value: &'a str,
        /// Why not.
        error: OptionError,
    },
}

/// The options of a table line: its words behind the two devices, which are none or `#WORDS KEY VALUE ...`.
///
/// An option that is given twice has the later value.
///
/// # Errors
/// [`TableError`].
pub fn options<'a>(words: impl ExactSizeIterator<Item = Option<&'a str>>) -> Result<Options, TableError<'a>> {
    let options = Options::default();
    for (key, value) in Pairs::of(words).map_err(|Miscounted| TableError::Count)? {
        options.set(key, value).map_err(|error| TableError::Option { key, value, error })?;
    }
    Ok(options)
}

/// A table line as it is shown: its devices, and the options that were given.
#[derive(Debug, Clone)]
#[allow(dead_code)] // For the tools and tests.
pub struct Table<'a> {
    /// The backing device.
    pub backing: &'a str,
    /// The cache device.
    pub cache: &'a str,
    /// Options and their values, also options that are unknown here.
    pub given: Pairs<'a, Words<'a>>,
}

impl<'a> Table<'a> {
    /// Reads a line. `None` when it has no two devices, or its number of words differs from its count.
    #[allow(dead_code)] // For the tools and tests.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = Words::of(line);
        let (backing, cache) = (words.next()??, words.next()??);
        Some(Self { backing, cache, given: Pairs::of(words).ok()? })
    }
}

/// Writes a table line.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    [backing, cache]: [impl fmt::Display; 2],
    given: impl Iterator<Item = (impl fmt::Display, impl fmt::Display)> + Clone,
) -> fmt::Result {
    write!(out, "{backing} {cache} ")?;
    write_pairs(out, given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn words(line: &str) -> impl ExactSizeIterator<Item = Option<&str>> {
        line.split_ascii_whitespace().map(Some).collect::<Vec<_>>().into_iter()
    }

    fn shown(options: &Options, only_given: bool) -> String {
        let mut out = String::new();
        if only_given {
            write_pairs(&mut out, options.all_given()).unwrap();
        } else {
            write_pairs(&mut out, options.all()).unwrap();
        }
        out
    }

    #[test]
    fn a_table_line_is_shown_as_it_was_given() {
        for line in ["0", "2 writeback_threshold 70", "4 writeback_threshold 0 sync_data_interval 3600"] {
            assert_eq!(shown(&options(words(line)).unwrap(), true), line);
        }
        let none = options(words("")).unwrap();
        assert_eq!(shown(&none, true), "0");
        assert_eq!((none.writeback_threshold(), none.nr_max_batched_writeback()), (None, None));
        assert!(shown(&none, false).starts_with("16 writeback_threshold 0 nr_max_batched_writeback 32 "));
        let twice = options(words("4 sync_data_interval 1 sync_data_interval 2")).unwrap();
        assert_eq!(twice.sync_data_interval(), 2);
    }

    #[test]
    fn the_number_of_words_must_be_right() {
        for line in [
            "1",
            "x",
            "-1",
            "1 writeback_threshold",
            "2 writeback_threshold",
            "2 a 1 b 2",
            "99999999999999999999",
        ] {
            assert_eq!(options(words(line)).err(), Some(TableError::Count), "{line}");
        }
        assert_eq!(options([None].into_iter()).err(), Some(TableError::Count));
    }

    #[test]
    fn an_option_out_of_range_changes_nothing() {
        let set = Options::default();
        set.set("nr_max_batched_writeback", "8").unwrap();
        for value in ["", "0", "1025", "-1", "8 ", "0x8", "4294967295", "4294967296", "\u{661}"] {
            let range = OptionError::Range { name: "nr_max_batched_writeback", min: 1, max: MAX_BATCHED };
            assert_eq!(set.set("nr_max_batched_writeback", value), Err(range), "{value}");
        }
        assert_eq!(set.set("Sync_data_interval", "1"), Err(OptionError::Unknown));
        assert_eq!(shown(&set, true), "2 nr_max_batched_writeback 8");
        let error = options([Some("2"), None, Some("1")].into_iter()).err();
        assert_eq!(error, Some(TableError::Option { key: "", value: "1", error: OptionError::Unknown }));
    }

    #[test]
    fn an_option_can_be_taken_back() {
        let o = options(words("4 writeback_threshold 0 writeback_rate_limit 8")).unwrap();
        assert_eq!((o.writeback_threshold(), o.writeback_rate_limit()), (Some(0), Some(8)));
        o.set("writeback_threshold", DEFAULT).unwrap();
        assert_eq!((o.writeback_threshold(), shown(&o, true)), (None, "2 writeback_rate_limit 8".into()));
        o.set("writeback_rate_limit", "0").unwrap();
        assert_eq!((o.writeback_rate_limit(), shown(&o, true)), (None, "2 writeback_rate_limit 0".into()));
        assert_eq!(o.set("no_such", DEFAULT), Err(OptionError::Unknown));
    }

    #[test]
    fn places_of_options() {
        let name = |i: usize| Options::known()[i].name;
        let named = [THRESHOLD, BATCHED, SYNC, RATE, TIMEOUT].map(name);
        let want = [
            "writeback_threshold",
            "nr_max_batched_writeback",
            "sync_data_interval",
            "writeback_rate_limit",
            "steering_timeout",
        ];
        assert_eq!(named, want);
        for k in Options::known() {
            assert!((k.min..=k.max).contains(&k.default) && k.max < UNSET, "{}", k.name);
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let given = options(words("4 writeback_threshold 70 steering_timeout 9")).unwrap();
        let mut line = String::new();
        write(&mut line, ["8:16", "259:3"], given.all_given()).unwrap();
        assert_eq!(line, "8:16 259:3 4 writeback_threshold 70 steering_timeout 9");
        let table = Table::parse(&line).unwrap();
        assert_eq!((table.backing, table.cache), ("8:16", "259:3"));
        let again: Vec<_> = table.given.collect();
        assert_eq!(again, [("writeback_threshold", "70"), ("steering_timeout", "9")]);
        assert_eq!(Table::parse("a b").unwrap().given.count(), 0);
        for bad in ["", "a", "a b 1", "a b 2 x", "a b x y"] {
            assert!(Table::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn what_steers() {
        let names: Vec<_> = Options::known().iter().map(|k| k.name).filter(|n| is_steering(n)).collect();
        assert_eq!(names, ["writeback_threshold", "nr_max_batched_writeback", "writeback_rate_limit"]);
        let options = options(words("2 steering_timeout 9")).unwrap();
        assert!(!options.steers());
        options.set("writeback_rate_limit", "0").unwrap();
        assert!(options.steers());
    }
}
