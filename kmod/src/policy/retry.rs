// SPDX-License-Identifier: GPL-2.0-only

//! When a failed attempt is repeated, and when it is the last one.
//!
//! There are two schedules. [`Retry`] is for an operation that a task waits for: a write to the cache device,
//! or the look at it after a hibernation. It is tried a few times, and then it has failed. [`Pause`] is for
//! an operation that no task waits for, such as writing back a bad block. It is tried later and later,
//! without end.

/// Milliseconds before the second attempt, and before those that follow: long enough for a device to be
/// reset, and short enough for tasks that wait.
const PAUSES_MS: [u64; 5] = [100, 400, 1500, 3000, 5000];

/// The sum of the pauses, in milliseconds.
pub const LASTS_MS: u64 = 10_000;

const _: () = {
    let (mut sum, mut i) = (0, 0);
    while i < PAUSES_MS.len() {
        sum += PAUSES_MS[i];
        i += 1;
    }
    assert!(sum == LASTS_MS);
};

/// The first pause of a [`Pause`], in milliseconds.
const FIRST_PAUSE_MS: u64 = 1000;

/// The next step after an attempt that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is another attempt in so many milliseconds.
    Again(u64),
    /// It was the last attempt.
    Over,
}

/// The attempts at one operation that a task waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failed: usize,
}

impl Retry {
    /// An attempt has failed. Returns the next step.
    pub fn failed(&mut self) -> Next {
        let Some(pause) = PAUSES_MS.get(self.failed) else { return Next::Over };
        self.failed += 1;
        Next::Again(*pause)
    }

    /// Whether any attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.failed != 0
    }
}

/// The pauses of an operation that no task waits for: each is twice as long as the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    /// In milliseconds since boot.
    until: u64,
    /// 0 when nothing has failed.
    length: u64,
}

impl Pause {
    /// The operation has failed once more. It is left alone from `now_ms` on, for `most_ms` milliseconds at
    /// most.
    pub fn begin(&mut self, now_ms: u64, most_ms: u64) {
        self.length = self.length.saturating_mul(2).clamp(FIRST_PAUSE_MS, most_ms);
        self.until = now_ms.saturating_add(self.length);
    }

    /// Whether the pause is not over.
    pub fn is_on(&self, now_ms: u64) -> bool {
        now_ms < self.until
    }

    /// Whether the operation has failed, and has not gone well since.
    pub fn has_failed(&self) -> bool {
        self.length != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_more_attempts_within_ten_seconds() {
        let mut retry = Retry::default();
        assert!(!retry.has_failed());
        let mut all = 0;
        for n in 0..5 {
            let Next::Again(pause) = retry.failed() else { panic!("over after {n}") };
            assert!(retry.has_failed());
            all += pause;
        }
        assert_eq!(all, LASTS_MS);
        // However often it is called.
        assert_eq!([retry.failed(), retry.failed()], [Next::Over; 2]);
    }

    #[test]
    fn pauses_become_longer_and_have_no_end() {
        let mut pause = Pause::default();
        assert!(!pause.has_failed() && !pause.is_on(0));
        let mut lengths = std::vec::Vec::new();
        let mut now = 5;
        for _ in 0..6 {
            pause.begin(now, 10_000);
            let end = (now..).find(|&at| !pause.is_on(at)).unwrap();
            lengths.push(end - now);
            now = end;
        }
        assert_eq!(lengths, [1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert!(pause.has_failed(), "until something goes well");
        pause.begin(u64::MAX - 1, 60_000);
        assert!(pause.is_on(u64::MAX - 1));
    }
}
