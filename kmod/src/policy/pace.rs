// SPDX-License-Identifier: GPL-2.0-only

//! How fast writes are let in when only writeback makes room: as fast as writeback goes.
//!
//! A log is freed by whole segments, and writeback in order of address cleans many of them together. Writes
//! that took all room as soon as there is some would stand still for seconds and run for moments, by turns.
//! So the last of the room is spent slowly: blocks are let in at the rate at which blocks are being written
//! back, faster while more than half of it is left and slower when less is.
//!
//! # Invariants
//! - It only delays. A write that is let in still has to find room.
//! - It never delays for ever: some writes are let in however slow writeback is, [`SLOWEST`] slots a second
//!   at least.

use crate::engine::RESERVED_SEGMENTS;

/// Slots a second that are let in even if nothing is written back.
pub const SLOWEST: u64 = 50;

/// The assumed rate of writeback until it is known, in thousandths of slots a second: the rate of a hard
/// disk.
const GUESS: u64 = 200_000;

/// The rate of writeback is measured over so many milliseconds, and a measurement counts for so many.
const WINDOW_MS: u64 = 100;
const MEMORY_MS: u64 = 2000;

/// Unused credit is kept for so many milliseconds, because the clock that wakes waiting writes is coarse.
const SAVED_MS: u64 = 20;

/// A slot, in the unit of [`Pace::credit`].
const SLOT: u64 = 1_000_000;

/// The number of segments that are written back together when only writeback makes room, of `nr_segments`.
///
/// More are better for a disk, which has to seek less between their blocks. But until they are free, writes
/// have only the room that is left.
pub fn segments_at_once(nr_segments: u32) -> u32 {
    (nr_segments / 256).clamp(1, 32)
}

/// The same when nothing fails, and `rate` blocks are written back in a second, of which a segment has
/// `segment_blocks`: as many segments as take a quarter of a second, but at most a sixteenth of the cache,
/// and at least as many as for a slow disk.
pub fn segments_for(nr_segments: u32, segment_blocks: u32, rate: u64) -> u32 {
    let least = segments_at_once(nr_segments);
    let in_time = rate / 4 / u64::from(segment_blocks.max(1));
    in_time.clamp(least.into(), (nr_segments / 16).max(least).into()) as u32
}

/// With fewer free segments than these, of `nr_segments`, it delays. The number suffices for the segments
/// that are written back together, in different states. The reserve is never given to user data.
fn begins_at(nr_segments: u32) -> u32 {
    low_water(nr_segments).min(RESERVED_SEGMENTS + 4 * segments_at_once(nr_segments))
}

/// With fewer free segments than these, of `nr_segments`, reclaim is urgent. It must become urgent before a
/// write finds no free segment, which happens while the reserved ones are still free. Otherwise no thread
/// would make room, and the write would wait for ever.
pub fn low_water(nr_segments: u32) -> u32 {
    (nr_segments / 8).max(RESERVED_SEGMENTS + 2)
}

/// The values that the rate depends on, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since boot.
    pub now_ms: u64,
    /// Blocks written back so far.
    pub written: u64,
    /// Free segments.
    pub free: u32,
    /// Segments.
    pub nr_segments: u32,
}

/// Limits the rate at which slots are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    is_on: bool,
    /// Thousandths of blocks that are written back in a second, on average. (Whole blocks would be too
    /// coarse: a hard disk does 100.)
    rate: u64,
    /// The rate has not been measured yet.
    is_guess: bool,
    /// The time of the last measurement, and the blocks written back by then.
    looked_ms: u64,
    written: u64,
    /// Millionths of a slot that may be taken by now; below 0 when too much was taken.
    credit: i64,
    credited_ms: u64,
}

impl Pace {
    /// From now on only writeback makes room. Changes nothing if that is known already.
    pub fn begin(&mut self, m: &Moment) {
        if !self.is_on {
            let (looked_ms, credited_ms) = (m.now_ms, m.now_ms);
            // The rate of the last time is the best guess there is.
            let is_guess = self.is_guess || self.rate == 0;
            let rate = if is_guess { GUESS } else { self.rate };
            *self =
                Self { is_on: true, rate, is_guess, looked_ms, written: m.written, credit: 0, credited_ms };
        }
    }

    /// There is room, or relocation makes room too.
    pub fn end(&mut self) {
        self.is_on = false;
    }

    /// Whether it delays writes.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether a write may begin now. A write that may is let in whole, and the next ones wait the longer.
    pub fn lets_in(&mut self, m: &Moment) -> bool {
        if !self.is_on {
            return true;
        }
        self.look(m);
        if m.free >= begins_at(m.nr_segments) {
            (self.credit, self.credited_ms) = (1, m.now_ms);
            return true;
        }
        let past = m.now_ms.saturating_sub(self.credited_ms).min(3_600_000);
        let allowed = self.allowed(m);
        self.credit += (allowed * past) as i64;
        self.credit = self.credit.min((allowed * SAVED_MS).max(SLOT) as i64);
        self.credited_ms = m.now_ms;
        self.credit > 0
    }

    /// Milliseconds until the next write may begin, at least 1, if nothing changes; none if it might have
    /// begun already.
    pub fn due_ms(&self, m: &Moment) -> Option<u64> {
        if !self.is_on || self.credit > 0 {
            return None;
        }
        // The first measurement may show that the rate is much higher.
        let most = if self.is_guess { WINDOW_MS } else { 1000 };
        Some(((1 - self.credit) as u64).div_ceil(self.allowed(m)).clamp(1, most))
    }

    /// So many slots have been taken.
    pub fn took(&mut self, slots: u32) {
        if self.is_on {
            self.credit -= i64::from(slots) * SLOT as i64;
        }
    }

    /// Measures the rate, if enough time has passed.
    fn look(&mut self, m: &Moment) {
        let past = m.now_ms.saturating_sub(self.looked_ms);
        if past < WINDOW_MS {
            return;
        }
        let rate = m.written.saturating_sub(self.written).saturating_mul(1_000_000) / past;
        // A guess holds until something is written back, and counts less and less.
        let is_first = self.is_guess && rate != 0;
        self.rate = if is_first { rate } else { (self.rate * MEMORY_MS + rate * past) / (MEMORY_MS + past) };
        self.is_guess &= !is_first;
        self.looked_ms = m.now_ms;
        self.written = m.written;
    }

    /// Thousandths of slots a second, which are millionths of a slot in a millisecond.
    fn allowed(&self, m: &Moment) -> u64 {
        let most = begins_at(m.nr_segments);
        let left = u64::from(m.free.min(most).saturating_sub(RESERVED_SEGMENTS));
        // The number of free segments goes up and down by one all the time. Near the middle the rate should
        // change little, but a rate that is quite wrong must not use up all of the room.
        let level = left * 400 / u64::from(most - RESERVED_SEGMENTS);
        let percent = match level {
            0..100 => 60 + level * 30 / 100,
            100..300 => 90 + (level - 100) * 20 / 200,
            _ => 110 + (level - 300) * 90 / 100,
        };
        (self.rate * percent / 100).max(SLOWEST * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NR_SEGMENTS: u32 = 256;
    /// Half of the room that it spends is left.
    const HALF: u32 = 2 + RESERVED_SEGMENTS;

    fn at(now_ms: u64, written: u64, free: u32) -> Moment {
        Moment { now_ms, written, free, nr_segments: NR_SEGMENTS }
    }

    /// A pace that has seen `rate` blocks a second for ten seconds, until `10_000`.
    fn used_to(rate: u64) -> Pace {
        let mut pace = Pace::default();
        pace.begin(&at(0, 0, HALF));
        for ms in (0..=10_000).step_by(10) {
            pace.lets_in(&at(ms, rate * ms / 1000, HALF));
        }
        pace
    }

    /// The number of writes of `slots` slots that are let in within `ms` milliseconds.
    fn let_in(pace: &mut Pace, (from, ms): (u64, u64), rate: u64, free: u32, slots: u32) -> u64 {
        let mut n = 0;
        for now in from..from + ms {
            while pace.lets_in(&at(now, rate * now / 1000, free)) {
                pace.took(slots);
                n += 1;
                assert!(n < 1_000_000, "without end");
            }
        }
        n
    }

    #[test]
    fn as_much_is_let_in_as_is_written_back() {
        for rate in [190, 1000, 40_000] {
            let n = let_in(&mut used_to(rate), (10_000, 10_000), rate, HALF, 1);
            assert!((rate * 10 * 98 / 100..=rate * 10 * 103 / 100).contains(&n), "{n} at {rate}");
        }
        let n = let_in(&mut used_to(1000), (10_000, 10_000), 1000, HALF, 100);
        assert!((95..=105).contains(&n), "{n} large ones");
    }

    #[test]
    fn a_disk_that_becomes_a_little_faster_is_noticed() {
        let mut pace = used_to(100);
        let mut all = 0;
        let mut first_half = 0;
        for ms in 0..20_000 {
            while pace.lets_in(&at(10_000 + ms, 1000 + ms * 11 / 100, HALF)) {
                pace.took(1);
                all += 1;
                assert!(all < 1_000_000, "without end");
            }
            first_half = if ms == 9_999 { all } else { first_half };
        }
        let n = all - first_half;
        assert!((1095..=1105).contains(&n), "{n} at 110 a second");
    }

    #[test]
    fn more_while_there_is_room_and_less_when_there_is_none() {
        let much = let_in(&mut used_to(1000), (10_000, 1000), 1000, HALF + 1, 1);
        let little = let_in(&mut used_to(1000), (10_000, 1000), 1000, HALF - 1, 1);
        let none = let_in(&mut used_to(1000), (10_000, 1000), 1000, RESERVED_SEGMENTS, 1);
        assert!((1080..1140).contains(&much), "{much}");
        assert!((880..930).contains(&little), "{little}");
        assert!((590..620).contains(&none), "{none}");
        let mut pace = used_to(1000);
        for _ in 0..1000 {
            assert!(pace.lets_in(&at(10_001, 10_000, HALF + 2)), "there is enough");
            pace.took(1);
        }
    }

    #[test]
    fn the_rate_by_what_is_left() {
        let pace = used_to(1000);
        // Of 128 segments.
        for (left, percent) in
            [(0, 60), (16, 75), (32, 90), (48, 95), (64, 100), (96, 110), (112, 155), (128, 200)]
        {
            let m = Moment { free: RESERVED_SEGMENTS + left, nr_segments: 1 << 19, ..at(10_000, 10_000, 0) };
            assert_eq!(pace.allowed(&m), 10_000 * percent, "{left} left");
        }
    }

    #[test]
    fn what_nobody_took_is_saved_up_for_a_moment() {
        let mut pace = used_to(10_000);
        let n = let_in(&mut pace, (15_000, 1), 10_000, HALF, 1);
        assert!((199..=201).contains(&n), "{n}");
    }

    #[test]
    fn a_moment_without_writeback_is_not_felt() {
        let mut pace = used_to(1000);
        let n = (10_001..10_501).filter(|&ms| {
            pace.lets_in(&at(ms, 10_000, HALF)) && {
                pace.took(1);
                true
            }
        });
        let n = n.count();
        assert!((420..500).contains(&n), "{n}");
    }

    #[test]
    fn evenly() {
        let mut pace = used_to(190);
        let mut last = 10_000;
        let_in(&mut pace, (10_000, 100), 190, HALF, 1);
        for now in 10_100..12_000 {
            if pace.lets_in(&at(now, 190 * now / 1000, HALF)) {
                pace.took(1);
                assert!(now - last < 10 || last == 10_000, "nothing for {} ms", now - last);
                last = now;
            }
        }
        assert!(last > 11_980);
    }

    #[test]
    fn nobody_waits_for_a_writeback_that_gets_nothing_done() {
        let mut pace = used_to(1000);
        // The earlier rate is forgotten.
        let_in(&mut pace, (10_000, 30_000), 0, HALF, 1);
        for free in [RESERVED_SEGMENTS, HALF] {
            let mut pace = pace;
            let n = let_in(&mut pace, (40_000, 1000), 0, free, 1);
            assert!((SLOWEST - 5..=SLOWEST + 5).contains(&n), "{n} with {free} free segments");
        }
    }

    #[test]
    fn it_is_due_when_it_says() {
        let then = |ms| at(ms, 200 * ms / 1000, HALF);
        let mut pace = used_to(200);
        let mut now = 10_000;
        for slots in [5, 10, 100] {
            pace.took(slots);
            assert!(!pace.lets_in(&then(now)));
            let due = pace.due_ms(&then(now)).unwrap();
            assert!(due <= 1000, "{due} ms");
            assert!(due == 1 || !pace.clone().lets_in(&then(now + due * 9 / 10)), "{slots} slots, {due} ms");
            // The rate may have been a little lower at first than in the end.
            assert!(pace.lets_in(&then(now + due + due / 20)), "{slots} slots, {due} ms");
            now += due + due / 20;
        }
    }

    #[test]
    fn debts_are_paid_by_time() {
        let mut pace = used_to(100);
        pace.took(400);
        assert!(!pace.lets_in(&at(10_000, 1000, HALF)));
        // No write comes for a while.
        assert!(pace.lets_in(&at(15_000, 1500, HALF)));
        assert_eq!(pace.due_ms(&at(15_000, 1500, HALF)), None, "it may begin");
    }

    #[test]
    fn a_rate_that_is_not_known_is_asked_for_soon() {
        let mut pace = Pace::default();
        pace.begin(&at(0, 0, HALF));
        assert!(pace.is_on() && !pace.lets_in(&at(0, 0, HALF)));
        assert_eq!(pace.due_ms(&at(0, 0, HALF)), Some(1));
        pace.took(256);
        assert_eq!(pace.due_ms(&at(0, 0, HALF)), Some(WINDOW_MS));
    }

    #[test]
    fn a_new_beginning_owes_nothing() {
        let mut pace = used_to(1000);
        pace.took(1_000_000);
        assert!(!pace.lets_in(&at(10_100, 10_100, HALF)));
        pace.end();
        assert!(pace.lets_in(&at(10_100, 10_100, HALF)) && !pace.is_on());
        pace.took(5);
        pace.begin(&at(10_100, 10_100, HALF));
        pace.begin(&at(10_200, 10_100, HALF));
        assert!(pace.lets_in(&at(10_200, 10_200, HALF)));
    }

    #[test]
    fn the_larger_the_cache_the_more_at_once() {
        for (nr_segments, few, begins, low) in
            [(16, 1, 6, 6), (64, 1, 8, 8), (256, 1, 8, 32), (2048, 8, 36, 256), (1 << 19, 32, 132, 1 << 16)]
        {
            let found = (segments_at_once(nr_segments), begins_at(nr_segments), low_water(nr_segments));
            assert_eq!(found, (few, begins, low), "{nr_segments}");
        }
    }

    #[test]
    fn the_faster_the_more_at_once() {
        // 190, 40,000 and 500,000 blocks a second.
        for (nr_segments, few) in
            [(16, [1, 1, 1]), (256, [1, 16, 16]), (2048, [8, 78, 128]), (1 << 16, [32, 78, 976])]
        {
            assert_eq!(
                [190, 40_000, 500_000].map(|rate| segments_for(nr_segments, 128, rate)),
                few,
                "{nr_segments}"
            );
        }
    }

    #[test]
    fn what_is_written_back_together_leaves_room_for_as_much_again() {
        for nr_segments in [16, 17, 63, 64, 128, 256, 2048, 1 << 19] {
            let (few, most) = (segments_at_once(nr_segments), begins_at(nr_segments));
            assert!(RESERVED_SEGMENTS + few < most && most <= low_water(nr_segments), "{nr_segments}");
        }
    }
}
