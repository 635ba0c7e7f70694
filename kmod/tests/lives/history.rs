// SPDX-License-Identifier: GPL-2.0-only

//! The writes of one writer to its part of the volume, and the contents that may be found there: promises 1
//! to 4.

use std::fmt;

/// A write: its sectors from the start of the part, and whether it has failed, so that any of it may be there
/// or not.
#[derive(Debug, Clone, Copy)]
struct Write {
    first: u64,
    sectors: u64,
    failed: bool,
}

/// Versions of sectors; runs of equal ones are shown together.
pub struct Shown<'a>(pub &'a [u64]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        for run in self.0.chunk_by(|a, b| a == b) {
            write!(f, " {at}+{}:{}", run.len(), run[0])?;
            at += run.len();
        }
        Ok(())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base{}; {} ended, {} promised;", Shown(&self.base), self.ended, self.promised)?;
        for (number, write) in (self.before + 1..).zip(&self.writes) {
            let failed = if write.failed { "!" } else { "" };
            write!(f, " {number}{failed}={}+{}", write.first, write.sectors)?;
        }
        Ok(())
    }
}

/// The history of one writer's part. Each sector holds the number of the last write to it.
#[derive(Clone)]
pub struct History {
    /// The contents when the life began, and the number of the last write before it.
    base: Vec<u64>,
    before: u64,
    writes: Vec<Write>,
    /// The number of writes that have ended.
    ended: usize,
    /// The number of writes that are durable, by a flush or a write with FUA that has ended.
    promised: usize,
}

impl History {
    /// A part of so many sectors that were never written.
    pub fn new(sectors: u64) -> Self {
        Self { base: vec![0; sectors as usize], before: 0, writes: vec![], ended: 0, promised: 0 }
    }

    /// A write begins. Returns its number.
    pub fn begin(&mut self, first: u64, sectors: u64) -> u64 {
        self.writes.push(Write { first, sectors, failed: false });
        self.before + self.writes.len() as u64
    }

    /// The last write has ended; it is durable if it had FUA and went well.
    pub fn end(&mut self, failed: bool, fua: bool) {
        self.ended = self.writes.len();
        self.writes[self.ended - 1].failed = failed;
        if fua && !failed {
            // The log is a prefix: earlier writes of this writer are durable, too.
            self.promised = self.ended;
        }
    }

    /// The number of writes that have ended.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// The first `ended` writes are durable.
    pub fn promise(&mut self, ended: usize) {
        self.promised = self.promised.max(ended);
    }

    /// Whether a volume may hold `found` after exactly `n` writes and, if `and_part`, a part of one more.
    fn allows_after(&self, found: &[u64], n: usize, and_part: bool) -> bool {
        let mut is_left = vec![true; found.len()];
        let mut is_right = vec![false; found.len()];
        let part = usize::from(and_part && n < self.writes.len());
        for (i, write) in self.writes[..n + part].iter().enumerate().rev() {
            let number = self.before + i as u64 + 1;
            // A write that has failed may be there or not, and so may one that has only begun.
            let may_be_missing = write.failed || i >= n;
            for at in write.first as usize..(write.first + write.sectors) as usize {
                if is_left[at] {
                    is_right[at] |= found[at] == number;
                    is_left[at] = may_be_missing;
                }
            }
        }
        (0..found.len()).all(|at| is_right[at] || (is_left[at] && found[at] == self.base[at]))
    }

    /// Whether `found` may be left after a crash: some prefix, at least as long as promised, and a part of
    /// one more write.
    pub fn allows(&self, found: &[u64]) -> bool {
        (self.promised..=self.writes.len()).rev().any(|n| self.allows_after(found, n, true))
    }

    /// Whether the writer itself may read `found`, while none of its writes is under way.
    pub fn is_now(&self, found: &[u64]) -> bool {
        self.allows_after(found, self.writes.len(), false)
    }

    /// The same for the sectors from `first` on alone.
    pub fn is_now_from(&self, first: u64, found: &[u64]) -> bool {
        let range = first as usize..first as usize + found.len();
        let mut all: Vec<u64> = self.base.clone();
        for (i, write) in self.writes.iter().enumerate() {
            let sectors = write.first as usize..(write.first + write.sectors) as usize;
            all[sectors].fill(self.before + i as u64 + 1);
        }
        // All other sectors count as correct.
        all[range].copy_from_slice(found);
        self.is_now(&all)
    }

    /// A new life begins with the contents `found`.
    pub fn begin_anew(&mut self, found: Vec<u64>) {
        self.before += self.writes.len() as u64;
        self.base = found;
        self.writes.clear();
        (self.ended, self.promised) = (0, 0);
    }
}

#[test]
fn a_prefix_and_a_part_of_one_more_is_allowed() {
    let mut history = History::new(4);
    let write = |history: &mut History, first, sectors, failed, fua| {
        history.begin(first, sectors);
        history.end(failed, fua);
    };
    write(&mut history, 0, 2, false, true);
    write(&mut history, 1, 2, false, false);
    write(&mut history, 0, 1, true, false);
    for (found, allows, is_now) in [
        ([1, 1, 0, 0], true, false),
        ([1, 1, 2, 0], true, false),
        ([1, 2, 2, 0], true, true),
        ([3, 2, 2, 0], true, true),
        ([3, 1, 0, 0], false, false),
        ([0, 0, 0, 0], false, false),
        ([1, 1, 0, 4], false, false),
    ] {
        assert_eq!((history.allows(&found), history.is_now(&found)), (allows, is_now), "{found:?}");
    }
    history.begin_anew(vec![1, 2, 2, 0]);
    assert_eq!(history.begin(3, 1), 4);
    assert!(history.allows(&[1, 2, 2, 4]) && history.allows(&[1, 2, 2, 0]) && !history.allows(&[1, 1, 2, 0]));
}
