// SPDX-License-Identifier: GPL-2.0-only

//! A device that does not answer: neither with data nor with an error. Examples are a network block device
//! that waits for its server, a thin pool that is full and queues, a multipath device without a path, and any
//! device that is suspended.
//!
//! Nothing fails then, and nothing can be done about it here: every task that needs the device waits. But the
//! silence can be reported.
//!
//! # Invariants
//! - A device is never reported as silent while it has answered anything since the last look: an answer
//!   between two looks counts for the whole time between them. So a slow device is not silent, however many
//!   tasks wait for it, and neither is a device that nothing is asked of.
//! - The reported time is never longer than the device was silent; it is shorter by the time between two
//!   looks at most.
//! - Nothing here can fail or overflow, whatever the counts and clocks say: they are read one after the other
//!   while others change them.

use crate::host::atomic::{fence, Ordering};
use crate::host::{Counters, OutOfMemory};

/// A device is silent when it has not answered for so many milliseconds.
///
/// Linux gives a command to a disk 30 s before it begins to repeat it (`SD_TIMEOUT` in drivers/scsi/sd.h,
/// `io_timeout` of nvme_core), and data sheets of hard disks allow up to 30 s for spinning up. A device that
/// takes longer does not behave like a healthy disk.
pub const SILENT_MS: u64 = 30_000;

/// The number of I/Os that were sent to a device since it was opened, and the number that have returned from
/// it: those of users and our own.
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

    /// The numbers so far.
    pub fn counts(&self) -> Counts {
        // In this order, so that every I/O counted as returned is counted as sent. A return that is seen too
        // late is seen at the next look.
        let returned = self.0.sum(RETURNED);
        fence(Ordering::Acquire);
        Counts { sent: self.0.sum(SENT), returned }
    }
}

/// The numbers of a [`Traffic`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// I/Os that were sent.
    pub sent: u64,
    /// Those of them that have returned.
    pub returned: u64,
}

impl Counts {
    /// The number that is under way.
    pub fn awaited(self) -> u64 {
        self.sent.saturating_sub(self.returned)
    }
}

/// News about a device. The times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It has not answered for so long. Reported after [`SILENT_MS`], and each time that the time has
    /// doubled.
    Silent(u64),
    /// It has answered again, after so long.
    Answers(u64),
}

/// The results of repeated looks at a device.
#[derive(Debug, Default)]
pub struct Silence {
    seen: Counts,
    /// Whether it had something to do at the last look, or before it.
    used: bool,
    /// Since when something is awaited and nothing has returned, in milliseconds since boot.
    since_ms: Option<u64>,
    /// The silence that was reported last, in milliseconds; 0 for none.
    told_ms: u64,
}

impl Silence {
    /// Looks at the device's counts, at `now_ms` milliseconds since boot. Returns the news, if there is any.
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

    /// For how many milliseconds the device has not answered at `now_ms`, with these counts by then; 0 when
    /// nothing is awaited from it.
    pub fn silent_ms(&self, now_ms: u64, counts: Counts) -> u64 {
        match self.since_ms {
            Some(since) if self.goes_on(counts) => now_ms.saturating_sub(since),
            _ => 0,
        }
    }

    /// Whether it was used lately: then another look is due soon.
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

    /// Looks once a second, from second 100 on, and returns the news of each second.
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
        // 30 s after the first look, which may have come a moment after the I/O was sent; then each time that
        // this has doubled.
        let silences = [30, 60, 120, 240, 480].map(|s| (100 + s, News::Silent(s * S)));
        assert_eq!(all[..5], silences);
        assert_eq!(all[5..], [(600, News::Answers(500 * S))]);
    }

    #[test]
    fn one_answer_of_many_is_an_answer() {
        // Each request takes 40 s, and 40 are under way; then one at a time; and then the device hangs with
        // requests of others.
        let slow = |i: u64| (40 + i, i);
        assert_eq!(told((0..200).map(slow)), []);
        assert_eq!(told((0..200).map(|i| (i / 29 + 1, i / 29))), []);
        let all = told((0..35).map(|i| (2 + i, 1)).chain([(40, 2), (40, 2)]));
        assert_eq!(all, [(130, News::Silent(30 * S)), (135, News::Answers(35 * S))]);
    }

    #[test]
    fn nothing_is_awaited_from_who_is_idle() {
        assert_eq!(told(core::iter::repeat_n((7, 7), 1000)), []);
        // The time in which the device had nothing to do does not count.
        let all = told(core::iter::repeat_n((7, 7), 100).chain(core::iter::repeat_n((8, 7), 31)));
        assert_eq!(all, [(230, News::Silent(30 * S))]);
        // I/Os that begin and end between two looks are not awaited either.
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
