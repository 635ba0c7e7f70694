// SPDX-License-Identifier: GPL-2.0-only

//! When what has failed is tried again, and when it is over.
//!
//! There are two schedules. [`Retry`] is for what somebody waits for: a write to the cache device, or the
//! look at it after a hibernation. It is tried a few times, and then it is over. [`Pause`] is for what nobody
//! waits for: a block that cannot be written back. It is tried later and later, without end.

/// Milliseconds before the second attempt, and before those that follow: long enough for a device to be
/// reset, and short enough for those who wait.
const PAUSES_MS: [u64; 5] = [100, 400, 1500, 3000, 5000];

/// All of them together, in milliseconds.
pub const LASTS_MS: u64 = 10_000;

const _: () = {
    let (mut sum, mut i) = (0, 0);
    while i < PAUSES_MS.len() {
        sum += PAUSES_MS[i];
        i += 1;
    }
    assert!(sum == LASTS_MS);
};

/// What is tried again after so many milliseconds at first.
const FIRST_PAUSE_MS: u64 = 1000;

/// What an attempt that has failed means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is another one in so many milliseconds.
    Again(u64),
    /// It was the last one.
    Over,
}

/// Attempts at one thing that somebody waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failed: usize,
}

impl Retry {
    /// An attempt has failed: says what comes next.
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

/// How long something is left alone that nobody waits for: twice as long each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    /// In milliseconds since boot.
    until: u64,
    /// 0 when nothing has failed.
    length: u64,
}

impl Pause {
    /// It has failed, once more: it is left alone from `now_ms` on, for `most_ms` milliseconds at most.
    pub fn begin(&mut self, now_ms: u64, most_ms: u64) {
        self.length = self.length.saturating_mul(2).clamp(FIRST_PAUSE_MS, most_ms);
        self.until = now_ms.saturating_add(self.length);
    }

    /// Whether it is not over.
    pub fn is_on(&self, now_ms: u64) -> bool {
        now_ms < self.until
    }

    /// Whether it has failed, and nothing went well since.
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
        // However often it is asked.
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
