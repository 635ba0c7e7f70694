// SPDX-License-Identifier: GPL-2.0-only

//! How busy a block device is: the kernel's I/O statistics, as `iostat` reads them.
//!
//! Documented in the kernel's `Documentation/admin-guide/iostats.rst`. All counters are since boot and may
//! wrap around.

use crate::host::{DevNo, Host};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Counters of one block device. A sector is 512 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStat {
    /// Reads that have ended.
    pub reads: u64,
    /// Sectors read.
    pub read_sectors: u64,
    /// Milliseconds that all reads took together.
    pub read_ms: u64,
    /// Writes that have ended.
    pub writes: u64,
    /// Sectors written.
    pub write_sectors: u64,
    /// Milliseconds that all writes took together.
    pub write_ms: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// Milliseconds in which at least one request was under way.
    pub busy_ms: u64,
    /// Milliseconds times requests under way.
    pub queue_ms: u64,
    /// Flushes that have ended; 0 where the kernel does not count them.
    pub flushes: u64,
    /// Milliseconds that all flushes took together.
    pub flush_ms: u64,
}

/// Reads the counters of one block device again and again.
#[derive(Debug)]
pub struct DiskReader {
    /// `/sys/dev/block/MAJOR:MINOR/stat`, kept open, because finding it costs more than reading it.
    file: File,
}

impl DiskReader {
    /// For the device `dev`.
    ///
    /// # Errors
    /// Those of opening its file; `NotFound` when there is no such device.
    pub fn open(host: &Host, dev: DevNo) -> io::Result<Self> {
        Ok(Self { file: File::open(host.sys.join(format!("dev/block/{dev}/stat")))? })
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// Those of reading, `ENODEV` when the device is gone; `InvalidData` when there are fewer fields than in
    /// any kernel since 2.6.
    pub fn read(&self) -> io::Result<DiskStat> {
        let mut buf = [0; 512];
        let n = self.file.read_at(&mut buf, 0)?;
        let text = String::from_utf8_lossy(&buf[..n]);
        DiskStat::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("it has {text:?}")))
    }
}

impl DiskStat {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> =
            text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let field = |i: usize| fields.get(i).copied().unwrap_or(0);
        (fields.len() >= 11).then(|| Self {
            reads: field(0),
            read_sectors: field(2),
            read_ms: field(3),
            writes: field(4),
            write_sectors: field(6),
            write_ms: field(7),
            in_flight: field(8),
            busy_ms: field(9),
            queue_ms: field(10),
            flushes: field(15),
            flush_ms: field(16),
        })
    }

    /// The increase since `before`, except for [`DiskStat::in_flight`], which keeps its present value.
    pub fn since(&self, before: &Self) -> Self {
        if self.reads < before.reads || self.writes < before.writes {
            // These two do not wrap around: it is another device with the same number.
            return *self;
        }
        // The kernel's milliseconds are 32 bits wide, and wrap around.
        let ms = |now: u64, before: u64| {
            if now >= before {
                now - before
            } else {
                u64::from((now as u32).wrapping_sub(before as u32))
            }
        };
        Self {
            reads: self.reads.saturating_sub(before.reads),
            read_sectors: self.read_sectors.saturating_sub(before.read_sectors),
            read_ms: ms(self.read_ms, before.read_ms),
            writes: self.writes.saturating_sub(before.writes),
            write_sectors: self.write_sectors.saturating_sub(before.write_sectors),
            write_ms: ms(self.write_ms, before.write_ms),
            in_flight: self.in_flight,
            busy_ms: ms(self.busy_ms, before.busy_ms),
            queue_ms: ms(self.queue_ms, before.queue_ms),
            flushes: self.flushes.saturating_sub(before.flushes),
            flush_ms: ms(self.flush_ms, before.flush_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_sysfs() {
        let now = DiskStat::parse("  100 1 800 250 200 2 1600 500 3 4294967290 900 0 0 0 0 7 70\n").unwrap();
        assert_eq!((now.reads, now.read_sectors, now.read_ms), (100, 800, 250));
        assert_eq!((now.writes, now.write_sectors, now.write_ms), (200, 1600, 500));
        assert_eq!((now.in_flight, now.queue_ms, now.flushes, now.flush_ms), (3, 900, 7, 70));
        let later = DiskStat { reads: 110, busy_ms: 10, in_flight: 1, ..now };
        let d = later.since(&now);
        assert_eq!((d.reads, d.writes, d.busy_ms, d.in_flight), (10, 0, 16, 1));
        // Another device.
        let new = DiskStat { reads: 1, busy_ms: 2, ..DiskStat::default() };
        assert_eq!(new.since(&now), new);
        // Without discards and flushes, as before Linux 4.18.
        assert!(DiskStat::parse("1 2 3 4 5 6 7 8 9 10 11").is_some());
        assert!(DiskStat::parse("1 2 3 4 5 6 7 8 9 10").is_none());
        assert!(DiskStat::parse("1 2 3 4 5 6 7 8 9 10 x").is_none());
    }
}
