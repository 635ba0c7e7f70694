// SPDX-License-Identifier: GPL-2.0-only

//! All words that the target reads and writes: table line, messages, status, report. Each has its writer and
//! its parser here, for the kernel and for the tools. `docs/interface.md` explains them;
//! `kmod/tests/interface.rs` compares its tables with this module.
//!
//! Nothing here allocates, because the kernel also writes where it must not allocate.

pub mod message;
pub mod report;
pub mod status;
pub mod table;

use core::fmt::{self, Display, Write};
use core::marker::PhantomData;
use core::str::SplitAsciiWhitespace;

/// The words of a line, in the form in which device-mapper passes them to the kernel.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    words: SplitAsciiWhitespace<'a>,
    left: usize,
}

impl<'a> Words<'a> {
    /// The words of `line`.
    #[allow(dead_code)] // For the tools and tests.
    pub fn of(line: &'a str) -> Self {
        let words = line.split_ascii_whitespace();
        Self { left: words.clone().count(), words }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Option<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let word = self.words.next()?;
        self.left -= 1;
        Some(Some(word))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Words<'_> {}

/// `#WORDS KEY VALUE ...`, to the end of a line. No words at all mean no pairs.
#[derive(Debug, Clone)]
pub struct Pairs<'a, W> {
    words: W,
    of: PhantomData<&'a str>,
}

/// The number of words differs from the count in front of them, or is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miscounted;

impl<'a, W: ExactSizeIterator<Item = Option<&'a str>>> Pairs<'a, W> {
    /// Reads the pairs in `words`.
    ///
    /// # Errors
    /// [`Miscounted`].
    pub fn of(mut words: W) -> Result<Self, Miscounted> {
        if let Some(count) = words.next() {
            let count = count.and_then(|n| n.parse::<usize>().ok());
            if count != Some(words.len()) || words.len() % 2 != 0 {
                return Err(Miscounted);
            }
        }
        Ok(Self { words, of: PhantomData })
    }
}

impl<'a, W: Iterator<Item = Option<&'a str>>> Iterator for Pairs<'a, W> {
    /// A word that is not UTF-8 is empty here.
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.words.next()?.unwrap_or(""), self.words.next()?.unwrap_or("")))
    }
}

/// Writes `#WORDS KEY VALUE ...`.
///
/// # Errors
/// Those of `out`.
pub fn write_pairs(
    out: &mut impl Write,
    pairs: impl Iterator<Item = (impl Display, impl Display)> + Clone,
) -> fmt::Result {
    write!(out, "{}", pairs.clone().count() * 2)?;
    for (key, value) in pairs {
        write!(out, " {key} {value}")?;
    }
    Ok(())
}
