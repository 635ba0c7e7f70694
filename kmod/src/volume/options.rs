// SPDX-License-Identifier: GPL-2.0-only

//! Options of a table line and of messages: names, ranges and meaning as in dm-writeboost 2.2.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

/// Most segments that are written back together; dm-writeboost 2.2 had room for 32.
pub const MAX_BATCHED: u32 = 1024;

/// Value of an option that was not given.
const UNSET: u32 = u32::MAX;

/// An option's name, its highest and lowest value, and what it is when not given.
struct Known {
    name: &'static str,
    min: u32,
    max: u32,
    default: u32,
}

/// All options, in the order in which status shows them.
const KNOWN: [Known; 6] = [
    // Without it the volume decides by itself: see `writeback.rs`.
    Known { name: "writeback_threshold", min: 0, max: 100, default: 0 },
    Known { name: "nr_max_batched_writeback", min: 1, max: MAX_BATCHED, default: 32 },
    Known { name: "sync_data_interval", min: 0, max: 3600, default: 0 },
    // Taken for the sake of existing scripts: the tail is recorded each time it moves.
    Known { name: "update_sb_record_interval", min: 0, max: 3600, default: 0 },
    // There is no read caching and no write-around (yet), which is what 0 asks for.
    Known { name: "read_cache_threshold", min: 0, max: 0, default: 0 },
    Known { name: "write_around_mode", min: 0, max: 0, default: 0 },
];
const THRESHOLD: usize = 0;
const BATCHED: usize = 1;
const SYNC: usize = 2;

/// What is wrong with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionError {
    /// There is none of this name.
    Unknown,
    /// The value is no number, or out of range.
    Range {
        /// Name of the option.
        name: &'static str,
        /// Lowest and highest value.
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
                write!(f, "{name} takes a number from {min} to {max}")
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

impl Options {
    /// Sets an option.
    ///
    /// # Errors
    /// [`OptionError`]; then nothing has changed.
    pub fn set(&self, name: &str, value: &str) -> Result<(), OptionError> {
        let i = KNOWN.iter().position(|k| k.name == name).ok_or(OptionError::Unknown)?;
        let k = &KNOWN[i];
        match value.parse() {
            Ok(v) if (k.min..=k.max).contains(&v) => {
                self.values[i].store(v, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(OptionError::Range { name: k.name, min: k.min, max: k.max }),
        }
    }

    fn get(&self, i: usize) -> u32 {
        match self.values[i].load(Ordering::Relaxed) {
            UNSET => KNOWN[i].default,
            v => v,
        }
    }

    /// Percent of utilisation of the backing device below which writeback runs, when it was given.
    pub fn writeback_threshold(&self) -> Option<u32> {
        self.given(THRESHOLD)
    }

    /// Segments that are written back together, when it was given.
    pub fn nr_max_batched_writeback(&self) -> Option<u32> {
        self.given(BATCHED)
    }

    fn given(&self, i: usize) -> Option<u32> {
        let v = self.values[i].load(Ordering::Relaxed);
        (v != UNSET).then_some(v)
    }

    /// Seconds after which what is written is made durable even if nobody asks for it; 0 for never.
    pub fn sync_data_interval(&self) -> u32 {
        self.get(SYNC)
    }

    /// Writes `COUNT KEY VALUE ...`, of all options or only of those that were given.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, only_given: bool) -> fmt::Result {
        let shown = |i: &usize| !only_given || self.values[*i].load(Ordering::Relaxed) != UNSET;
        write!(out, "{}", (0..KNOWN.len()).filter(shown).count() * 2)?;
        for i in (0..KNOWN.len()).filter(shown) {
            write!(out, " {} {}", KNOWN[i].name, self.get(i))?;
        }
        Ok(())
    }
}
