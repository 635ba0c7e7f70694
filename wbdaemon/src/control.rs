// SPDX-License-Identifier: GPL-2.0-only

//! How much is to be written back: decided once a tick from the observations of the last tick. Pure: no
//! clock, no I/O, no allocation.
//!
//! There are two demands, and the larger one counts:
//!
//! - **The necessary rate** (feed-forward with a proportional part). The log must not run full. Users fill it
//!   at a rate that is smoothed and slow to be forgotten. A share of this rate is written back that grows
//!   with the part of the log that is in use: none up to `low_used`, all of it at `target_used`, twice as
//!   much at `high_used`. In the long run the log settles where as much goes out as comes in. From
//!   `high_used` on there is no limit any more.
//! - **The permitted rate** (AIMD). While users read from the backing device, writeback raises its rate in
//!   small steps from nothing, and halves it as soon as reads take longer than they would without writeback
//!   by `disturb_percent`. This is done between `low_used` and `high_used` only: below, waiting makes for
//!   longer runs, and blocks that are overwritten meanwhile are never written. While there are no reads,
//!   there is no limit while more than `idle_dirty` is dirty, and after `quiet_s` none at all: a device that
//!   is left alone ends with nothing dirty.
//!
//! # Invariants
//! - Whatever the observations are, the answer is within the target's ranges, and no number is lost to NaN.
//! - It asks for no rest from `high_used` on, nor while the cache is full.
//! - When the target makes room by itself, it is given batches that are small enough to make room soon.

use serde::{Deserialize, Serialize};
use writeboost::interface::table::{MAX_BATCHED, MAX_RATE_KIB};

/// The observations of one tick. A block is 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observation {
    /// Seconds since the last tick.
    pub seconds: f64,
    /// The part of the time in which the backing device had something to do.
    pub utilisation: f64,
    /// Reads of the backing device that ended, per second: writeback makes none.
    pub reads_per_s: f64,
    /// Writes to the backing device that ended, per second, those of writeback included.
    pub writes_per_s: f64,
    /// Average time that a read of the backing device took, queueing included, in milliseconds; `None` if
    /// there was none.
    pub read_latency_ms: Option<f64>,
    /// Requests at the device at a time, on average.
    pub queue_length: f64,
    /// Blocks of the whole cache.
    pub cache_blocks: u64,
    /// Segments of the whole cache.
    pub segments: u64,
    /// Segments that can be written.
    pub free_segments: u64,
    /// Blocks that are not on the backing device.
    pub dirty_blocks: u64,
    /// Blocks written back since the last tick.
    pub written_back_blocks: u64,
    /// Blocks that users have written since the last tick.
    pub user_written_blocks: u64,
    /// Reads that the cache did not answer since the last tick.
    pub read_misses: u64,
    /// Whether the cache is full.
    pub full: bool,
}

/// The settings for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// 0 for urgent writeback only, 100 for writeback all the time.
    pub writeback_threshold: u32,
    /// Segments that are sorted together.
    pub nr_max_batched_writeback: u32,
    /// KiB a second; 0 for no limit.
    pub writeback_rate_limit: u32,
}

/// The parameters of the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Part of the log in use, from 0 to 1, up to which nothing is written back while users read from the
    /// backing device.
    pub low_used: f64,
    /// Part of the log in use at which as much is written back as comes in.
    pub target_used: f64,
    /// Part of the log in use from which on writeback has no limit.
    pub high_used: f64,
    /// How much longer than without writeback reads of the backing device may take, in percent.
    pub disturb_percent: f64,
    /// Part of the cache, from 0 to 1, that may stay dirty in the first `quiet_s` seconds without reads: it
    /// may be overwritten.
    pub idle_dirty: f64,
    /// After so many seconds without reads of the backing device everything is written back.
    pub quiet_s: f64,
    /// Fewer reads a second than these count as none.
    pub quiet_reads_per_s: f64,
    /// Lowest rate of writeback in KiB/s. A lower rate becomes none up to `target_used`, and this above.
    pub min_rate_kib: u32,
    /// Segments that are sorted together in background writeback.
    pub batch_segments: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            low_used: 0.5,
            target_used: 0.7,
            high_used: 0.85,
            disturb_percent: 50.0,
            idle_dirty: 0.1,
            quiet_s: 30.0,
            quiet_reads_per_s: 1.0,
            min_rate_kib: 64,
            batch_segments: 256,
        }
    }
}

impl Tuning {
    /// Checks the values.
    ///
    /// # Errors
    /// The fault, with its key.
    pub fn validate(&self) -> Result<(), String> {
        let part = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is from 0 to 1"))
            }
        };
        part("low_used", self.low_used)?;
        part("target_used", self.target_used)?;
        part("high_used", self.high_used)?;
        part("idle_dirty", self.idle_dirty)?;
        if !(self.low_used < self.target_used && self.target_used < self.high_used) {
            return Err("low_used is less than target_used, and that less than high_used".to_owned());
        }
        if !(1.0..=10_000.0).contains(&self.disturb_percent) {
            return Err("disturb_percent is from 1 to 10000".to_owned());
        }
        if !(0.0..=86_400.0).contains(&self.quiet_s) {
            return Err("quiet_s is from 0 to 86400".to_owned());
        }
        if !(0.0..=1e6).contains(&self.quiet_reads_per_s) {
            return Err("quiet_reads_per_s is from 0 to 1000000".to_owned());
        }
        if !(4..=MAX_RATE_KIB).contains(&self.min_rate_kib) {
            return Err(format!("min_rate_kib is from 4 to {MAX_RATE_KIB}"));
        }
        if !(1..=MAX_BATCHED).contains(&self.batch_segments) {
            return Err(format!("batch_segments is from 1 to {MAX_BATCHED}"));
        }
        Ok(())
    }
}

/// A shorter tick says nothing about rates.
const SHORTEST_S: f64 = 0.001;
/// KiB of a block.
const BLOCK_KIB: f64 = 4.0;
/// Time constants, in seconds: how soon a higher rate of user writes is believed, and how late a lower one.
const FILL_UP_S: f64 = 10.0;
const FILL_DOWN_S: f64 = 120.0;
/// The same for the time of a read without writeback. A longer time is believed late, because it may come
/// from a burst of reads.
const CALM_DOWN_S: f64 = 10.0;
const CALM_UP_S: f64 = 60.0;
/// Seconds without reads after which the device counts as not read.
const QUIET_LEAST_S: f64 = 2.0;
/// AIMD: the rate added in a second, as a part of the fastest rate seen, and the part that is left after a
/// disturbance.
const STEP: f64 = 0.02;
const CUT: f64 = 0.5;
/// The fastest rate is forgotten with this time constant.
const FASTEST_S: f64 = 3600.0;
/// A limit that differs by less than this part is left as it is.
const SAME: f64 = 0.1;

/// Decides for one volume.
#[derive(Debug, Clone)]
pub struct Controller {
    tuning: Tuning,
    /// Blocks a second that users write.
    fill: f64,
    /// Milliseconds that a read of the backing device takes without writeback, once that is known.
    calm_ms: Option<f64>,
    /// Blocks a second: the rate that AIMD allows, and the fastest writeback that was seen.
    allowed: f64,
    fastest: f64,
    /// Seconds without reads.
    quiet: f64,
    last: Option<Decision>,
}

impl Controller {
    /// A controller without observations.
    pub fn new(tuning: Tuning) -> Self {
        Self { tuning, fill: 0.0, calm_ms: None, allowed: 0.0, fastest: 0.0, quiet: 0.0, last: None }
    }

    /// Decides on the settings until the next tick.
    pub fn step(&mut self, seen: &Observation) -> Decision {
        // Values that are no numbers, or below zero, count as zero.
        let sane = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
        let seconds = sane(seen.seconds);
        if seconds >= SHORTEST_S {
            self.learn(seen, seconds.min(60.0));
        }
        let t = &self.tuning;
        let part = |n: u64, of: u64| (n as f64 / of.max(1) as f64).clamp(0.0, 1.0);
        let used = 1.0 - part(seen.free_segments, seen.segments);
        let dirty = part(seen.dirty_blocks, seen.cache_blocks);
        let soon = ((seen.segments / 256).clamp(1, 32)) as u32;
        if seen.full || used >= t.high_used {
            return self.say(100, soon, 0);
        }
        let batch = t.batch_segments.min((seen.segments / 4).clamp(1, MAX_BATCHED.into()) as u32);
        if self.quiet >= QUIET_LEAST_S {
            let all = self.quiet >= t.quiet_s;
            if seen.dirty_blocks == 0 && all {
                // Blocks written from now on may wait for as long again, because they may be overwritten.
                self.quiet = QUIET_LEAST_S;
            }
            let wanted = all || dirty > t.idle_dirty || used > t.low_used;
            return self.say(if seen.dirty_blocks > 0 && wanted { 100 } else { 0 }, batch, 0);
        }
        if used <= t.low_used {
            return self.say(0, batch, 0);
        }
        let share = if used < t.target_used {
            (used - t.low_used) / (t.target_used - t.low_used)
        } else {
            1.0 + (used - t.target_used) / (t.high_used - t.target_used)
        };
        let mut rate_kib = (self.fill * share).max(self.allowed) * BLOCK_KIB;
        if rate_kib < t.min_rate_kib.into() {
            if used < t.target_used {
                return self.say(0, batch, 0);
            }
            // However little comes in, the log would run full some day.
            rate_kib = t.min_rate_kib.into();
        }
        self.say(100, batch, rate_kib.min(MAX_RATE_KIB.into()) as u32)
    }

    fn learn(&mut self, seen: &Observation, seconds: f64) {
        // Part of the way to the new value.
        let toward =
            |old: f64, new: f64, constant: f64| old + (new - old) * (1.0 - (-seconds / constant).exp());
        let fill = seen.user_written_blocks as f64 / seconds;
        self.fill = toward(self.fill, fill, if fill > self.fill { FILL_UP_S } else { FILL_DOWN_S });
        let written = seen.written_back_blocks as f64 / seconds;
        self.fastest = toward(self.fastest, 0.0, FASTEST_S).max(written);
        let reads = if seen.reads_per_s.is_finite() { seen.reads_per_s } else { 0.0 };
        if reads < self.tuning.quiet_reads_per_s {
            self.quiet += seconds;
            return;
        }
        self.quiet = 0.0;
        let Some(latency) = seen.read_latency_ms.filter(|ms| ms.is_finite() && *ms >= 0.0) else { return };
        let is_calm = seen.written_back_blocks == 0;
        if is_calm {
            let calm = self.calm_ms.unwrap_or(latency);
            self.calm_ms = Some(toward(calm, latency, if latency < calm { CALM_DOWN_S } else { CALM_UP_S }));
        }
        let limit = self.calm_ms.map(|calm| calm * (1.0 + self.tuning.disturb_percent / 100.0));
        match limit {
            _ if is_calm && self.allowed > 0.0 => (),
            Some(limit) if latency > limit => self.allowed *= CUT,
            // Only when the time of a read without writeback is known.
            Some(_) => self.allowed += (self.fastest * STEP).max(1.0) * seconds,
            None => (),
        }
        // A rate above any that was ever reached is no limit, and coming down from it would take long.
        let most = self.fastest.max(f64::from(self.tuning.min_rate_kib) / BLOCK_KIB) * 2.0;
        self.allowed = self.allowed.min(most);
    }

    /// The decision, or the one before if the two are nearly the same: each change costs a message.
    fn say(&mut self, threshold: u32, batch: u32, limit: u32) -> Decision {
        let mut decision = Decision {
            writeback_threshold: threshold,
            nr_max_batched_writeback: batch.clamp(1, MAX_BATCHED),
            writeback_rate_limit: limit,
        };
        if let Some(last) = self.last.filter(|l| l.writeback_rate_limit != 0 && limit != 0) {
            let ratio = f64::from(limit) / f64::from(last.writeback_rate_limit);
            if (1.0 - SAME..=1.0 + SAME).contains(&ratio) {
                decision.writeback_rate_limit = last.writeback_rate_limit;
            }
        }
        if threshold == 0 {
            // Without writeback the limit has no effect, so it is kept, which saves a message.
            decision.writeback_rate_limit = self.last.map_or(0, |l| l.writeback_rate_limit);
        }
        self.last = Some(decision);
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of 1024 segments, of which so many are free, and a disk that is read from.
    fn seen(free_segments: u64) -> Observation {
        Observation {
            seconds: 1.0,
            utilisation: 0.3,
            reads_per_s: 20.0,
            writes_per_s: 0.0,
            read_latency_ms: Some(10.0),
            queue_length: 0.3,
            cache_blocks: 1024 * 128,
            segments: 1024,
            free_segments,
            dirty_blocks: (1024 - free_segments) * 100,
            written_back_blocks: 0,
            user_written_blocks: 50,
            read_misses: 20,
            full: false,
        }
    }

    fn controller() -> Controller {
        Controller::new(Tuning::default())
    }

    /// The last decision after so many seconds of the same.
    fn after(c: &mut Controller, seconds: u32, o: &Observation) -> Decision {
        let mut d = c.step(o);
        for _ in 1..seconds {
            d = c.step(o);
        }
        d
    }

    /// Blocks a second that a decision allows.
    fn rate(d: Decision) -> f64 {
        match (d.writeback_threshold, d.writeback_rate_limit) {
            (0, _) => 0.0,
            (_, 0) => f64::INFINITY,
            (_, kib) => f64::from(kib) / BLOCK_KIB,
        }
    }

    #[test]
    fn whatever_it_is_told_it_stays_in_range() {
        let mut c = controller();
        let mut x = 1u64;
        let mut random = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            x >> 33
        };
        let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 1e-300, 7.0];
        for _ in 0..100_000 {
            let mut f = || odd[random() as usize % odd.len()];
            let floats = [f(), f(), f(), f(), f(), f()];
            let mut n = || if random() % 4 == 0 { u64::MAX } else { random() % 2000 };
            let o = Observation {
                seconds: floats[0],
                utilisation: floats[1],
                reads_per_s: floats[2],
                writes_per_s: floats[3],
                read_latency_ms: Some(floats[4]),
                queue_length: floats[5],
                cache_blocks: n(),
                segments: n(),
                free_segments: n(),
                dirty_blocks: n(),
                written_back_blocks: n(),
                user_written_blocks: n(),
                read_misses: n(),
                full: n() % 2 == 0,
            };
            let d = c.step(&o);
            assert!(d.writeback_threshold == 0 || d.writeback_threshold == 100, "{d:?}");
            assert!((1..=MAX_BATCHED).contains(&d.nr_max_batched_writeback), "{d:?}");
            assert!(d.writeback_rate_limit <= MAX_RATE_KIB, "{d:?}");
        }
        for value in [c.fill, c.allowed, c.fastest, c.quiet] {
            assert!(!value.is_nan(), "{c:?}");
        }
    }

    #[test]
    fn readers_are_left_alone_while_there_is_room() {
        assert_eq!(rate(after(&mut controller(), 100, &seen(600))), 0.0);
    }

    #[test]
    fn what_comes_in_goes_out_at_the_target() {
        let mut c = controller();
        // Reads are disturbed all the time: AIMD allows nothing.
        after(&mut c, 5, &seen(600));
        let disturbed =
            |free| Observation { read_latency_ms: Some(500.0), written_back_blocks: 40, ..seen(free) };
        let at_target = rate(after(&mut c, 200, &disturbed(307)));
        assert!((45.0..55.0).contains(&at_target), "{at_target} of 50");
        let above = rate(after(&mut c, 10, &disturbed(230)));
        assert!((70.0..85.0).contains(&above), "{above}, half of the way to twice as much");
        let below = rate(after(&mut c, 10, &disturbed(410)));
        assert!((20.0..30.0).contains(&below), "{below}, half of the way");
        assert_eq!(rate(after(&mut c, 1, &disturbed(150))), f64::INFINITY);
        // Hardly anything comes in, and still something is written back.
        let trickle = Observation { user_written_blocks: 0, ..disturbed(250) };
        assert_eq!(rate(after(&mut controller(), 300, &trickle)), 16.0);
    }

    #[test]
    fn the_rate_grows_until_readers_feel_it() {
        let mut c = controller();
        // Without writeback a read takes 10 ms, and at some time writeback did 400 blocks a second.
        after(&mut c, 20, &seen(600));
        c.step(&Observation {
            reads_per_s: 0.0,
            read_latency_ms: None,
            written_back_blocks: 400,
            ..seen(600)
        });
        let calm = Observation {
            written_back_blocks: 50,
            user_written_blocks: 0,
            read_latency_ms: Some(11.0),
            ..seen(450)
        };
        let slow = rate(after(&mut c, 10, &calm));
        let fast = rate(after(&mut c, 20, &calm));
        assert!(fast > slow + 100.0, "{slow}, then {fast}");
        let felt = Observation { read_latency_ms: Some(30.0), ..calm };
        let cut = rate(c.step(&felt));
        assert!(cut < fast * 0.6, "{fast}, then {cut}");
        assert!(rate(after(&mut c, 5, &felt)) < cut * 0.2);
    }

    #[test]
    fn idle_time_is_used_and_then_all_of_it() {
        let mut c = controller();
        let idle = |dirty_blocks| Observation {
            reads_per_s: 0.0,
            read_latency_ms: None,
            user_written_blocks: 0,
            dirty_blocks,
            ..seen(900)
        };
        after(&mut c, 10, &seen(900));
        assert_eq!(rate(after(&mut c, 3, &idle(20_000))), f64::INFINITY, "a sixth is dirty");
        assert_eq!(rate(after(&mut c, 1, &idle(10_000))), 0.0, "that may be overwritten");
        assert_eq!(rate(after(&mut c, 40, &idle(10_000))), f64::INFINITY, "after a while all of it");
        assert_eq!(rate(c.step(&idle(0))), 0.0);
        assert_eq!(rate(c.step(&idle(5))), 0.0, "what is new waits again");
        assert_eq!(rate(after(&mut c, 40, &idle(5))), f64::INFINITY);
    }

    #[test]
    fn a_full_cache_gets_small_batches_and_no_limit() {
        let full = Observation { full: true, ..seen(4) };
        let d = controller().step(&full);
        assert_eq!((rate(d), d.nr_max_batched_writeback), (f64::INFINITY, 4));
        assert!(controller().step(&seen(600)).nr_max_batched_writeback >= 100);
    }

    #[test]
    fn it_says_little() {
        let mut c = controller();
        let mut said = None;
        let mut n = 0;
        for i in 0..600 {
            // Up and down by a few percent.
            let o = Observation { user_written_blocks: 50 + i % 5, written_back_blocks: 50, ..seen(307) };
            let d = c.step(&Observation { read_latency_ms: Some(500.0), ..o });
            n += u32::from(said.replace(d) != Some(d));
        }
        assert!(n < 30, "{n} changes in ten minutes of the same");
    }

    #[test]
    fn tunings() {
        assert_eq!(Tuning::default().validate(), Ok(()));
        let wrong = |f: fn(&mut Tuning)| {
            let mut t = Tuning::default();
            f(&mut t);
            t.validate().unwrap_err()
        };
        assert!(wrong(|t| t.low_used = 0.8).contains("low_used is less than target_used"));
        assert!(wrong(|t| t.idle_dirty = f64::NAN).contains("idle_dirty is from 0 to 1"));
        assert!(wrong(|t| t.batch_segments = 0).contains("batch_segments"));
        assert!(wrong(|t| t.min_rate_kib = 1).contains("min_rate_kib"));
    }
}
