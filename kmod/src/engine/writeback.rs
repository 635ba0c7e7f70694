// SPDX-License-Identifier: GPL-2.0-only

//! What writeback may call clean.
//!
//! A backing device has a cache that it may lose, and tells of that by nothing but an error: of the write, or of the flush, that it
//! was reset under. What had gone well before that is as doubtful as what has failed.
//!
//! # Invariants
//! - What is called clean was written after the last failure that came before the flush which made it durable, and no
//!   failure came before that flush returned.
//! - After a flush that has failed, nothing that was written since the one before counts as written.

use super::flight::{Doubts, Trust};
use crate::os::Shared;

/// How often what a round is for is written, at most, before it is left for later: a device that fails again and again
/// is not to be kept busy with the same blocks.
const MOST_PASSES: u32 = 5;

/// What is written to the backing device between two flushes.
///
/// [`Round::begin`], write everything; then as [`Round::written`] says when all of that has returned.
#[derive(Debug)]
pub struct Round {
    trust: Trust,
    passes: u32,
}

/// What a round wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Everything is to be written once more, but for what cannot be written.
    Write,
    /// The device is to be flushed.
    Flush,
    /// Nothing of it is clean: it stays dirty.
    Leave,
}

impl Round {
    /// For a device whose failed writes and flushes are told to `doubts`.
    pub fn new(doubts: Shared<Doubts>) -> Self {
        Self { trust: Trust::new(doubts), passes: 0 }
    }

    /// Everything of a new round is about to be written.
    pub fn begin(&mut self) {
        self.passes = 1;
        self.trust.renew();
    }

    /// All writes have returned. [`Next::Write`] counts as begun.
    pub fn written(&mut self) -> Next {
        if !self.trust.is_suspect() {
            return Next::Flush;
        }
        if self.passes >= MOST_PASSES {
            return Next::Leave;
        }
        self.passes += 1;
        self.trust.renew();
        Next::Write
    }

    /// The flush has returned. Says whether what was written well is clean now.
    pub fn flushed(&self, ok: bool) -> bool {
        ok && !self.trust.is_suspect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> (Round, Shared<Doubts>) {
        let doubts = Doubts::new().unwrap();
        (Round::new(doubts.clone()), doubts)
    }

    #[test]
    fn what_a_failure_casts_doubt_on_is_written_again() {
        let (mut round, doubts) = round();
        // What failed in an earlier round does not matter.
        doubts.add();
        round.begin();
        assert_eq!(round.written(), Next::Flush);
        assert!(round.flushed(true) && !round.flushed(false));
        round.begin();
        doubts.add();
        assert_eq!(round.written(), Next::Write);
        doubts.add();
        doubts.add();
        assert_eq!(round.written(), Next::Write);
        assert_eq!(round.written(), Next::Flush);
        assert!(round.flushed(true));
    }

    #[test]
    fn a_flush_is_not_believed_that_returns_after_a_failure() {
        let (mut round, doubts) = round();
        round.begin();
        assert_eq!(round.written(), Next::Flush);
        doubts.add();
        assert!(!round.flushed(true));
    }

    #[test]
    fn it_is_left_in_the_end() {
        let (mut round, doubts) = round();
        for _ in 0..2 {
            round.begin();
            let mut passes = 1;
            loop {
                doubts.add();
                match round.written() {
                    Next::Write => passes += 1,
                    next => break assert_eq!(next, Next::Leave),
                }
            }
            assert_eq!(passes, MOST_PASSES);
        }
    }
}
