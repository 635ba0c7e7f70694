// SPDX-License-Identifier: GPL-2.0-only

//! The changes between two samples, per second.

use crate::sample::VolumeSample;
use serde::Serialize;
use wbhost::disk::DiskStat;
use writeboost::format::BLOCK;

/// The activity of a volume between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Reads a second.
    pub reads: f64,
    /// Writes a second.
    pub writes: f64,
    /// Flushes and FUA writes a second.
    pub flushes: f64,
    /// Reads that the cache answered, in percent; `None` without reads.
    pub read_hit_percent: Option<f64>,
    /// Writes whose block was in the cache, in percent; `None` without writes.
    pub write_hit_percent: Option<f64>,
    /// Bytes read by users, a second.
    pub read_bytes: f64,
    /// Bytes written by users, a second.
    pub write_bytes: f64,
    /// Bytes written back a second.
    pub written_back_bytes: f64,
    /// Time that a read of the volume took, in milliseconds; `None` without any.
    pub read_ms: Option<f64>,
    /// Time that a write took, likewise.
    pub write_ms: Option<f64>,
    /// Time that a flush took, likewise.
    pub flush_ms: Option<f64>,
    /// The backing device.
    pub backing: Device,
    /// The cache device.
    pub cache: Device,
    /// New errors.
    pub errors: u64,
}

/// The activity of a device below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Device {
    /// Part of the time in which it had something to do, in percent.
    pub busy_percent: f64,
    /// Requests at the device at a time, on average.
    pub queue: f64,
    /// Bytes a second that it read.
    pub read_bytes: f64,
    /// Bytes a second that it wrote.
    pub write_bytes: f64,
    /// Time that a read took, in milliseconds; `None` without any.
    pub read_ms: Option<f64>,
    /// The same for a write.
    pub write_ms: Option<f64>,
}

impl Rates {
    /// The changes between `before` and `now`, which is `seconds` later. Counts that went back, as after
    /// `clear_stat`, begin anew.
    pub fn between(before: &VolumeSample, now: &VolumeSample, seconds: f64) -> Self {
        if !seconds.is_finite() || seconds <= 0.0 {
            return Self::default();
        }
        let more = |before: u64, now: u64| if now >= before { now - before } else { now };
        let per_s = |n: u64| n as f64 / seconds;
        let (reads, writes) = (more(before.reads, now.reads), more(before.writes, now.writes));
        let percent = |hits: u64, all: u64| (all > 0).then(|| (hits as f64 / all as f64 * 100.0).min(100.0));
        let disk = |i: usize| now.disks[i].since(&before.disks[i]);
        let own = disk(0);
        let errors: u64 = before.errors.iter().zip(now.errors).map(|(b, n)| more(*b, n)).sum();
        Self {
            reads: per_s(reads),
            writes: per_s(writes),
            flushes: per_s(more(before.flushes, now.flushes)),
            read_hit_percent: percent(more(before.read_hits, now.read_hits), reads),
            write_hit_percent: percent(more(before.write_hits, now.write_hits), writes),
            read_bytes: per_s(own.read_sectors * 512),
            write_bytes: per_s(own.write_sectors * 512),
            written_back_bytes: per_s(
                more(before.written_back_blocks, now.written_back_blocks) * BLOCK as u64,
            ),
            read_ms: average(own.read_ms, own.reads),
            write_ms: average(own.write_ms, own.writes),
            flush_ms: average(own.flush_ms, own.flushes),
            backing: Device::of(&disk(1), seconds),
            cache: Device::of(&disk(2), seconds),
            errors,
        }
    }
}

impl Device {
    fn of(d: &DiskStat, seconds: f64) -> Self {
        Self {
            busy_percent: (d.busy_ms as f64 / seconds / 10.0).min(100.0),
            queue: d.queue_ms as f64 / seconds / 1000.0,
            read_bytes: d.read_sectors as f64 * 512.0 / seconds,
            write_bytes: d.write_sectors as f64 * 512.0 / seconds,
            read_ms: average(d.read_ms, d.reads),
            write_ms: average(d.write_ms, d.writes),
        }
    }
}

fn average(ms: u64, n: u64) -> Option<f64> {
    (n > 0).then(|| ms as f64 / n as f64)
}

/// The activity of a volume, in a few words.
pub fn activity(v: &VolumeSample, rates: &Rates) -> &'static str {
    match () {
        () if v.suspended => "suspended",
        () if v.state == "failed" => "FAILED: no writes",
        () if rates.errors > 0 => "errors",
        () if v.silent().next().is_some() => "no answer",
        () if v.state == "degraded" => "degraded",
        () if v.full => "full",
        () if rates.written_back_bytes > 0.0 => "writing back",
        () if rates.reads + rates.writes + rates.flushes > 0.0 => "in use",
        () => "idle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> VolumeSample {
        let disk = DiskStat { reads: 10, read_ms: 50, read_sectors: 80, busy_ms: 100, ..DiskStat::default() };
        VolumeSample {
            reads: 100,
            read_hits: 50,
            writes: 10,
            written_back_blocks: 5,
            errors: [1, 0, 0, 0],
            disks: [disk; 3],
            state: "ok".into(),
            ..VolumeSample::default()
        }
    }

    #[test]
    fn a_second() {
        let before = volume();
        let mut now = before.clone();
        (now.reads, now.read_hits, now.written_back_blocks) = (120, 65, 261);
        now.errors[3] = 2;
        for d in &mut now.disks {
            (d.reads, d.read_ms, d.read_sectors, d.busy_ms) = (14, 70, 112, 1100);
        }
        let r = Rates::between(&before, &now, 2.0);
        assert_eq!(
            (r.reads, r.writes, r.read_hit_percent, r.write_hit_percent),
            (10.0, 0.0, Some(75.0), None)
        );
        assert_eq!((r.written_back_bytes, r.read_bytes), (f64::from(128 * 4096), f64::from(16 * 512)));
        assert_eq!((r.read_ms, r.write_ms, r.errors), (Some(5.0), None, 2));
        assert_eq!((r.backing.busy_percent, r.cache.read_ms), (50.0, Some(5.0)));
        assert_eq!(activity(&now, &r), "errors");
    }

    #[test]
    fn counts_that_went_back_and_no_time() {
        let before = volume();
        let now = VolumeSample { reads: 3, read_hits: 3, ..volume() };
        let r = Rates::between(&before, &now, 1.0);
        assert_eq!((r.reads, r.read_hit_percent), (3.0, Some(100.0)));
        for seconds in [0.0, -1.0, f64::NAN] {
            assert_eq!(Rates::between(&before, &now, seconds), Rates::default());
        }
    }

    #[test]
    fn what_it_does() {
        let some = Rates { writes: 1.0, ..Rates::default() };
        let writing = Rates { written_back_bytes: 1.0, ..some };
        let v = |f: fn(&mut VolumeSample)| {
            let mut v = volume();
            f(&mut v);
            v
        };
        assert_eq!(activity(&volume(), &Rates::default()), "idle");
        assert_eq!(activity(&volume(), &some), "in use");
        assert_eq!(activity(&volume(), &writing), "writing back");
        assert_eq!(activity(&v(|v| v.full = true), &writing), "full");
        assert_eq!(activity(&v(|v| v.state = "failed".into()), &writing), "FAILED: no writes");
        assert_eq!(activity(&v(|v| v.suspended = true), &writing), "suspended");
        assert_eq!(activity(&v(|v| v.silent_s = [29, 0]), &some), "in use");
        assert_eq!(activity(&v(|v| v.silent_s = [0, 30]), &some), "no answer");
    }
}
