// SPDX-License-Identifier: GPL-2.0-only

//! Which blocks of a failed write to the backing device are bad, and the results of a pass of writeback.
//!
//! # Invariants
//! - [`Halves`]: each block of the range is in one [`Step::Write`] that went well at last, or in one
//!   [`Step::Bad`]. A block that could be written beside others that could not is never called bad, unless
//!   the caller gives up.
//! - It takes at most twice as many writes as there are blocks, and no memory but its own.

use super::failures::{Failures, LAST_DEVICE_PAUSE_MS, MAX_BAD};
use super::retry::Pause;
use super::writeback::PART;
use core::ops::Range;

/// If so many writes have failed in a row, and all of them, then the device is at fault, not the blocks.
const DEAD: u32 = 16;

/// Ranges that wait while another one is being examined: one at each depth.
const DEPTH: usize = PART.ilog2() as usize + 2;

/// The next step for a range that contains something bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These blocks are written by themselves. If that fails, [`Halves::failed`] is called.
    Write(Range<usize>),
    /// These blocks are bad.
    Bad(Range<usize>),
}

/// A write of up to [`PART`] blocks has failed: it is written in halves, then in quarters, and so on.
#[derive(Debug)]
pub struct Halves {
    failed: [(usize, usize); DEPTH],
    len: usize,
    /// The second half of the range that is being examined.
    second: Option<Range<usize>>,
}

impl Halves {
    /// Begins with the range of a write that has failed.
    pub fn of(failed: Range<usize>) -> Self {
        let mut halves = Self { failed: [(0, 0); DEPTH], len: 0, second: None };
        halves.failed(failed);
        halves
    }

    /// The next step, if there is one. `gives_up` is asked about each range; it says that a closer look is
    /// not worth the writes.
    pub fn next(&mut self, gives_up: impl FnOnce() -> bool) -> Option<Step> {
        if let Some(second) = self.second.take() {
            return Some(Step::Write(second));
        }
        self.len = self.len.checked_sub(1)?;
        let (from, to) = *self.failed.get(self.len)?;
        if gives_up() || to.saturating_sub(from) <= 1 {
            return Some(Step::Bad(from..to));
        }
        let middle = from.midpoint(to);
        self.second = Some(middle..to);
        Some(Step::Write(from..middle))
    }

    /// The write of this range has failed.
    pub fn failed(&mut self, range: Range<usize>) {
        if let Some(place) = self.failed.get_mut(self.len) {
            *place = (range.start, range.end);
            self.len = self.len.saturating_add(1);
        }
    }
}

/// How writing back one batch went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Writes that went well, whatever the result of the flush.
    pub written: u32,
    /// Writes and flushes that failed.
    pub failed: u32,
    /// Blocks that could not be read.
    pub unreadable: u32,
    /// Blocks that were left out because they have failed lately.
    pub early: u32,
    /// Blocks that are clean now.
    pub cleaned: u32,
    /// There are dirty parts of blocks, but the backing device can only write whole blocks.
    pub parts: bool,
    /// So many writes have failed, and none went well, that the device may be at fault. Only one failed write
    /// of a pass is examined more closely.
    pub hopeless: bool,
    /// The device fails, not single blocks.
    pub dead: bool,
}

impl Pass {
    /// Whether it is no longer worth the writes to find the block that has failed. `alive` says that the
    /// device is known to write.
    pub fn gives_up(&mut self, alive: bool) -> bool {
        self.hopeless |= self.failed >= DEAD && self.written == 0 && !alive;
        self.hopeless
    }

    /// Whether anything has failed.
    pub fn has_trouble(&self) -> bool {
        self.failed | self.unreadable != 0
    }

    /// Whether the pass has got nothing done because something has failed, now or lately.
    pub fn is_stuck(&self) -> bool {
        self.cleaned == 0 && (self.failed | self.unreadable | self.early) != 0
    }
}

impl Failures {
    /// A pass is over, or broken off. Decides for how long the device, or everything, is left alone now.
    pub fn conclude(&mut self, pass: &Pass, now_ms: u64) {
        if pass.dead {
            self.device.begin(now_ms, LAST_DEVICE_PAUSE_MS);
        } else if pass.written != 0 {
            self.device = Pause::default();
        }
        self.alive = pass.written != 0 && !pass.dead;
        if pass.is_stuck() && pass.unreadable.saturating_add(pass.early) as usize > MAX_BAD {
            // Otherwise each pass would read all of them in vain, and the next one would begin at once.
            self.all.begin(now_ms, LAST_DEVICE_PAUSE_MS);
        } else if pass.cleaned != 0 {
            self.all = Pause::default();
        }
    }

    /// Whether there is something that could not be written when it was last tried.
    pub fn any_unwritten(&self) -> bool {
        self.device.has_failed() || self.bad().iter().any(|bad| !bad.unreadable)
    }

    /// Whether there is something that could not be read from the cache device when it was last tried.
    pub fn any_unreadable(&self) -> bool {
        self.bad().iter().any(|bad| bad.unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Block;
    use std::vec::Vec;

    /// The blocks of `len` that are found bad when exactly those in `bad` cannot be written, and the number
    /// of writes that it took.
    fn find(len: usize, bad: &[usize], mut gives_up: impl FnMut() -> bool) -> (Vec<usize>, usize) {
        let mut fates = std::vec![None; len];
        let mut halves = Halves::of(0..len);
        let mut writes = 0;
        while let Some(step) = halves.next(&mut gives_up) {
            match step {
                Step::Write(range) => {
                    writes += 1;
                    if bad.iter().any(|b| range.contains(b)) {
                        halves.failed(range);
                    } else {
                        fates[range].iter_mut().for_each(|fate| assert_eq!(fate.replace(true), None));
                    }
                }
                Step::Bad(range) => {
                    fates[range].iter_mut().for_each(|fate| assert_eq!(fate.replace(false), None));
                }
            }
        }
        assert!(fates.iter().all(Option::is_some), "each has a fate: {fates:?}");
        ((0..len).filter(|&i| fates[i] == Some(false)).collect(), writes)
    }

    #[test]
    fn just_the_bad_blocks_are_found() {
        for len in 1..=9 {
            for set in 1..1u32 << len {
                let bad: Vec<_> = (0..len).filter(|i| set >> i & 1 != 0).collect();
                let (found, writes) = find(len, &bad, || false);
                assert_eq!(found, bad, "of {len}");
                assert!(writes < 2 * len, "{writes} writes for {len}");
            }
        }
    }

    #[test]
    fn one_of_a_whole_part_and_all_of_it() {
        for bad in [0, 1, PART / 2, PART - 1] {
            let (found, writes) = find(PART, &[bad], || false);
            assert_eq!((found, writes), (std::vec![bad], 2 * PART.ilog2() as usize));
        }
        let all: Vec<_> = (0..PART).collect();
        assert_eq!(find(PART, &all, || false), (all.clone(), 2 * (PART - 1)));
    }

    #[test]
    fn a_device_that_writes_nothing_is_not_asked_for_each_block() {
        let all: Vec<_> = (0..PART).collect();
        let mut asked = 0;
        let (found, writes) = find(PART, &all, || {
            asked += 1;
            asked > 3
        });
        assert_eq!((found, writes), (all, 6), "two halves of each range that was looked at");
        let mut pass = Pass { failed: DEAD - 1, ..Pass::default() };
        assert!(!pass.gives_up(false));
        pass.failed = DEAD;
        assert!(!pass.gives_up(true), "it is alive: these are blocks");
        assert!(!Pass { written: 1, ..pass }.gives_up(false), "something went well");
        assert!(pass.gives_up(false) && pass.hopeless);
    }

    #[test]
    fn what_a_pass_means_for_the_next_one() {
        let mut failures = Failures::new().unwrap();
        failures.conclude(&Pass { failed: 20, dead: true, ..Pass::default() }, 100);
        assert!(failures.device.is_on(1099) && failures.any_unwritten() && !failures.alive);
        // A pass in which nothing was tried changes nothing.
        failures.conclude(&Pass::default(), 200);
        assert!(failures.device.has_failed());
        failures.conclude(&Pass { written: 1, cleaned: 1, failed: 3, ..Pass::default() }, 2000);
        assert!(failures.alive && !failures.device.has_failed() && !failures.any_unwritten());
        // Only the flush has failed.
        failures.conclude(&Pass { written: 1, failed: 1, dead: true, ..Pass::default() }, 2000);
        assert!(failures.device.has_failed() && !failures.alive);
        failures.add(Block(7), true, 0);
        assert!(failures.any_unreadable());
    }

    #[test]
    fn when_most_of_it_cannot_be_read_all_of_it_is_left_alone() {
        let mut failures = Failures::new().unwrap();
        let most = MAX_BAD as u32;
        failures.conclude(&Pass { unreadable: most, ..Pass::default() }, 0);
        assert!(!failures.all.has_failed());
        failures.conclude(&Pass { unreadable: most, early: 1, cleaned: 1, ..Pass::default() }, 0);
        assert!(!failures.all.has_failed());
        failures.conclude(&Pass { unreadable: most, early: 1, ..Pass::default() }, 0);
        assert!(failures.all.is_on(999));
        failures.conclude(&Pass { cleaned: 1, ..Pass::default() }, 0);
        assert!(!failures.all.has_failed());
    }

    #[test]
    fn stuck_is_who_got_nothing_done_and_could_not() {
        let stuck = |pass: Pass| pass.is_stuck();
        assert!(!stuck(Pass::default()), "there was nothing to do");
        assert!(stuck(Pass { failed: 1, ..Pass::default() }));
        assert!(stuck(Pass { unreadable: 1, ..Pass::default() }));
        assert!(stuck(Pass { early: 1, ..Pass::default() }));
        assert!(stuck(Pass { written: 1, failed: 1, ..Pass::default() }), "the flush");
        assert!(!stuck(Pass { cleaned: 1, failed: 1, ..Pass::default() }));
    }
}
