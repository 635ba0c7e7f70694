// SPDX-License-Identifier: GPL-2.0-only

//! A device that does not answer: neither with data nor with an error. A network block device that waits for its server is
//! so, a thin pool that is full and queues, a multipath device without a path, and whatever is suspended.
//!
//! Nothing fails then, and nothing can be done about it from here: whoever needs the device waits. But it can be said.
//!
//! # Invariants
//! - A device is never said to be silent while it has answered anything within the last look: what it did between two looks
//!   counts for the whole time between them. So a device that is slow is not silent, however many wait for it, nor is one that
//!   nothing is asked of.
//! - The time that is told is never longer than the device was silent; it is shorter by the time between two looks at most.
//! - Nothing here can fail or overflow, whatever the counts and clocks say: they are read one after the other while others
//!   change them.

use crate::host::atomic::{fence, Ordering};
use crate::host::{Counters, OutOfMemory};

/// A device is silent when it has not answered for so many milliseconds.
///
/// Linux gives a command to a disk 30 s before it begins to repeat it (`SD_TIMEOUT` in drivers/scsi/sd.h, `io_timeout` of
/// nvme_core), and data sheets of hard disks allow up to 30 s for spinning up. Whoever takes longer does not what disks do when
/// they are well.
pub const SILENT_MS: u64 = 30_000;

/// How many I/Os were sent to a device, and how many have returned from it, since it was opened: those of users and our own.
pub struct Traffic(Counters);

const SENT: u32 = 0;
const RETURNED: u32 = 1;

impl Traffic {
    /// Nothing was sent yet.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self(Counters::new(2)?))
    }

    /// One more is about to be sent. In any context.
    pub fn sent(&self) {
        self.0.add(SENT, 1);
    }

    /// One more has returned, with or without an error. In any context.
    pub fn returned(&self) {
        self.0.add(RETURNED, 1);
    }

    /// How many so far.
    pub fn counts(&self) -> Counts {
        // In this order, so that what has returned was sent. Whoever sees a return too late sees it at the next look.
        let returned = self.0.sum(RETURNED);
        fence(Ordering::Acquire);
        Counts { sent: self.0.sum(SENT), returned }
    }
}

/// What a [`Traffic`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was sent.
    pub sent: u64,
    /// What has returned of it.
    pub returned: u64,
}

impl Counts {
    /// How many are under way.
    pub fn awaited(self) -> u64 {
        self.sent.saturating_sub(self.returned)
    }
}

/// What there is to tell of a device. The times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It has not answered for so long: for [`SILENT_MS`], and each time that this has doubled.
    Silent(u64),
    /// It has answered again, after so long.
    Answers(u64),
}

/// What is known of a device from looking at it again and again.
#[derive(Debug, Default)]
pub struct Silence {
    seen: Counts,
    /// Whether it had something to do at the last look, or before it.
    used: bool,
    /// Since when something is awaited and nothing has returned, in milliseconds since boot.
    since_ms: Option<u64>,
    /// The silence that was told last, in milliseconds; 0 for none.
    told_ms: u64,
}

impl Silence {
    /// Looks at what the device has done, at `now_ms` milliseconds since boot. Says what there is to tell.
    pub fn look(&mut self, now_ms: u64, counts: Counts) -> Option<News> {
        let goes_on = self.goes_on(counts);
        self.used = counts != self.seen || counts.awaited() != 0;
        self.seen = counts;
        if !goes_on {
            let begins = (counts.awaited() != 0).then_some(now_ms);
            let since_ms = core::mem::replace(&mut self.since_ms, begins);
            let was_told = core::mem::take(&mut self.told_ms) != 0;
            return since_ms.filter(|_| was_told).map(|since| News::Answers(now_ms.saturating_sub(since)));
        }
        let silent_ms = self.silent_ms(now_ms, counts);
        if silent_ms < SILENT_MS.max(self.told_ms.saturating_mul(2)) {
            return None;
        }
        self.told_ms = silent_ms;
        Some(News::Silent(silent_ms))
    }

    /// For how many milliseconds the device has not answered at `now_ms`, when it has done what `counts` says by then; 0 when
    /// nothing is awaited from it.
    pub fn silent_ms(&self, now_ms: u64, counts: Counts) -> u64 {
        match self.since_ms {
            Some(since) if self.goes_on(counts) => now_ms.saturating_sub(since),
            _ => 0,
        }
    }

    /// Whether it was used lately: then it is to be looked at again soon.
    pub fn is_used(&self) -> bool {
        self.used
    }

    fn goes_on(&self, counts: Counts) -> bool {
        self.since_ms.is_some() && counts.awaited() != 0 && counts.returned == self.seen.returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const S: u64 = 1000;

    /// Looks once a second, from second 100 on, and says what was told in which second.
    fn told(counts: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, News)> {
        let mut silence = Silence::default();
        let looks = counts.into_iter().zip(100..);
        looks
            .filter_map(|((sent, returned), s)| Some((s, silence.look(s * S, Counts { sent, returned })?)))
            .collect()
    }

    #[test]
    fn who_does_not_answer_is_silent_until_he_does() {
        let silent = core::iter::repeat_n((5, 4), 500);
        let all = told(silent.chain([(5, 5), (5, 5)]));
        // 30 s after the first look, which may have been a moment after it was sent; then each time that it has doubled.
        let silences = [30, 60, 120, 240, 480].map(|s| (100 + s, News::Silent(s * S)));
        assert_eq!(all[..5], silences);
        assert_eq!(all[5..], [(600, News::Answers(500 * S))]);
    }

    #[test]
    fn one_answer_of_many_is_an_answer() {
        // Each request takes 40 s, and 40 are under way; then one at a time, and then the device hangs with what others send.
        let slow = |i: u64| (40 + i, i);
        assert_eq!(told((0..200).map(slow)), []);
        assert_eq!(told((0..200).map(|i| (i / 29 + 1, i / 29))), []);
        let all = told((0..35).map(|i| (2 + i, 1)).chain([(40, 2), (40, 2)]));
        assert_eq!(all, [(130, News::Silent(30 * S)), (135, News::Answers(35 * S))]);
    }

    #[test]
    fn nothing_is_awaited_from_who_is_idle() {
        assert_eq!(told(core::iter::repeat_n((7, 7), 1000)), []);
        // The time in which nothing was asked of it does not count.
        let all = told(core::iter::repeat_n((7, 7), 100).chain(core::iter::repeat_n((8, 7), 31)));
        assert_eq!(all, [(230, News::Silent(30 * S))]);
        // Nor is it awaited what it does between two looks.
        assert_eq!(told((0..1000).map(|i| (i * 10 + 1, i * 10))), []);
    }

    #[test]
    fn what_was_not_told_of_needs_no_end() {
        assert_eq!(told(core::iter::repeat_n((1, 0), 29).chain([(1, 1), (2, 1), (2, 2)])), []);
    }

    #[test]
    fn the_status_does_not_wait_for_the_next_look() {
        let mut silence = Silence::default();
        let (idle, asked) = (Counts { sent: 3, returned: 3 }, Counts { sent: 4, returned: 3 });
        assert!(silence.look(10 * S, idle).is_none() && silence.is_used(), "it was used before");
        assert!(silence.look(11 * S, idle).is_none() && !silence.is_used());
        assert_eq!(silence.silent_ms(12 * S, asked), 0, "nobody knows since when");
        assert!(silence.look(12 * S, asked).is_none() && silence.is_used());
        assert_eq!(silence.silent_ms(14 * S, asked), 2 * S);
        assert_eq!(silence.silent_ms(14 * S, Counts { sent: 9, returned: 3 }), 2 * S);
        assert_eq!(silence.silent_ms(14 * S, Counts { sent: 9, returned: 4 }), 0);
        assert_eq!(silence.silent_ms(14 * S, Counts { sent: 4, returned: 4 }), 0);
    }

    #[test]
    fn no_counts_and_no_clock_are_too_strange() {
        let mut silence = Silence::default();
        for (now_ms, sent, returned) in [
            (u64::MAX, 0, u64::MAX),
            (0, u64::MAX, 0),
            (u64::MAX, u64::MAX, 0),
            (u64::MAX, u64::MAX, 0),
            (0, u64::MAX, 0),
            (0, 0, 1),
        ] {
            let counts = Counts { sent, returned };
            let _ = silence.look(now_ms, counts);
            let _ = silence.silent_ms(0, counts);
        }
    }

    // A model checker's counters are for its own runs.
    #[test]
    #[cfg(not(feature = "loom"))]
    fn traffic_is_counted() {
        let traffic = Traffic::new().unwrap();
        traffic.sent();
        traffic.sent();
        traffic.returned();
        assert_eq!(traffic.counts(), Counts { sent: 2, returned: 1 });
        assert_eq!(traffic.counts().awaited(), 1);
    }
}
