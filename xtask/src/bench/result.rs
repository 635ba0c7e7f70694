//! What the guest has left in files, and the figures in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a figure counts. Most are better when they are higher, the others say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Iops,
    WritesPerSecond,
    MegabytesPerSecond,
    /// The least that was done in one second.
    SlowestSecond,
    /// Latencies in ms.
    P50,
    P99,
    P999,
    Longest,
    /// CPU time for each I/O.
    MicrosecondsCpu,
    /// Written to the cache device for each byte that the user wrote.
    CacheBytesPerByte,
    /// For each write of the user's.
    CacheWrites,
    CacheFlushes,
    /// RAM for each 4 KiB of the cache device.
    BytesPerBlock,
    FormatMs,
    /// Of what was formatted, and nothing written to it.
    EmptyMs,
    ResumeMs,
    /// Of a copy, until it is durable.
    CopyMs,
    DrainMs,
}

impl Unit {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::WritesPerSecond => "writes/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::SlowestSecond => "writes in the slowest second",
            Self::P50 => "p50, ms",
            Self::P99 => "p99, ms",
            Self::P999 => "p99.9, ms",
            Self::Longest => "longest, ms",
            Self::MicrosecondsCpu => "CPU per I/O, µs",
            Self::CacheBytesPerByte => "bytes to the cache per byte",
            Self::CacheWrites => "writes to the cache per write",
            Self::CacheFlushes => "flushes of the cache per write",
            Self::BytesPerBlock => "bytes of RAM per 4 KiB",
            Self::FormatMs => "format, ms",
            Self::EmptyMs => "resume of an empty one, ms",
            Self::ResumeMs => "resume, ms",
            Self::CopyMs => "copy, ms",
            Self::DrainMs => "drain, ms",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::Iops | Self::WritesPerSecond | Self::MegabytesPerSecond | Self::SlowestSecond)
    }

    /// A figure, with as many digits as mean something.
    pub fn show(self, x: f64) -> String {
        if !x.is_finite() {
            return "-".to_owned();
        }
        match x.abs() {
            a if a >= 100.0 => group(x.round() as i64),
            a if a >= 10.0 => format!("{x:.1}"),
            _ => format!("{x:.2}"),
        }
    }
}

/// 1234567 as `1,234,567`.
fn group(n: i64) -> String {
    let digits = n.abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 {
        text.insert(0, '-');
    }
    text
}

/// What devices and CPU have done until some moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Snapshot {
    /// Ticks of 10 ms in which the CPU was not idle.
    busy: f64,
    /// Of the cache device.
    writes: f64,
    sectors: f64,
    flushes: f64,
    /// KiB.
    free: f64,
}

impl Snapshot {
    fn parse(text: &str) -> Result<Self> {
        let mut snapshot = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let numbers: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
            let number = |i: usize| numbers.get(i).copied().unwrap_or(0.0);
            match name {
                // user nice system idle iowait irq softirq
                "cpu" => snapshot.busy = [0, 1, 2, 5, 6].map(number).iter().sum(),
                // Documentation/block/stat.rst: writes, sectors written, flush requests.
                "fast" => {
                    (snapshot.writes, snapshot.sectors, snapshot.flushes) = (number(4), number(6), number(15))
                }
                "MemFree:" => snapshot.free = number(0),
                _ => (),
            }
        }
        anyhow::ensure!(snapshot.free > 0.0, "no snapshot: {text}");
        Ok(snapshot)
    }

    fn read(path: &Path) -> Result<Self> {
        Self::parse(&fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
    }
}

/// The figures of one run.
pub type Figures = BTreeMap<Unit, f64>;

/// What a run of fio has left in `dir` under `name`.
pub fn of_fio(dir: &Path, name: &str) -> Result<Figures> {
    let path = dir.join(format!("{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // fio may say something before.
    let json = &text[text.find('{').context("no JSON from fio")?..];
    let json: Value = serde_json::from_str(json).with_context(|| format!("in {}", path.display()))?;
    let (before, after) = (
        Snapshot::read(&dir.join(format!("{name}.before")))?,
        Snapshot::read(&dir.join(format!("{name}.after")))?,
    );
    let job = json["jobs"].get(0).context("fio ran no job")?;
    let (read, write) = (&job["read"], &job["write"]);
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or(0.0);
    let mut figures = Figures::new();
    let iops = number(read, "iops") + number(write, "iops");
    let ios = number(read, "total_ios") + number(write, "total_ios");
    anyhow::ensure!(ios > 0.0, "fio did nothing: {}", path.display());
    figures.insert(Unit::Iops, iops);
    figures.insert(Unit::WritesPerSecond, number(write, "iops"));
    figures.insert(Unit::MegabytesPerSecond, (number(read, "bw_bytes") + number(write, "bw_bytes")) / 1e6);
    figures.insert(Unit::SlowestSecond, number(write, "iops_min"));
    let latency = &write["clat_ns"];
    for (unit, key) in [(Unit::P50, "50.000000"), (Unit::P99, "99.000000"), (Unit::P999, "99.900000")] {
        figures.insert(unit, number(&latency["percentile"], key) / 1e6);
    }
    figures.insert(Unit::Longest, number(latency, "max") / 1e6);
    figures.insert(Unit::MicrosecondsCpu, (after.busy - before.busy) * 1e4 / ios);
    let (bytes, writes) = (number(write, "io_bytes"), number(write, "total_ios"));
    if bytes > 0.0 {
        figures.insert(Unit::CacheBytesPerByte, (after.sectors - before.sectors) * 512.0 / bytes);
        figures.insert(Unit::CacheWrites, (after.writes - before.writes) / writes);
        figures.insert(Unit::CacheFlushes, (after.flushes - before.flushes) / writes);
    }
    Ok(figures)
}

/// Bytes of RAM per 4 KiB of a cache of `mib` MiB.
pub fn of_memory(dir: &Path, name: &str, mib: u32) -> Result<Figures> {
    let before = Snapshot::read(&dir.join(format!("{name}.before")))?;
    let after = Snapshot::read(&dir.join(format!("{name}.after")))?;
    let blocks = f64::from(mib) * 256.0;
    Ok(Figures::from([(Unit::BytesPerBlock, (before.free - after.free) * 1024.0 / blocks)]))
}

/// How fast `mib` MiB were copied and drained.
pub fn of_copy(dir: &Path, name: &str, mib: u32) -> Result<Figures> {
    let mut figures = of_times(dir, name)?;
    let ms: f64 = [Unit::CopyMs, Unit::DrainMs].iter().filter_map(|unit| figures.get(unit)).sum();
    anyhow::ensure!(ms > 0.0, "{name} took no time");
    figures.insert(Unit::MegabytesPerSecond, f64::from(mib) * f64::from(1 << 20) / 1e3 / ms);
    Ok(figures)
}

/// How long the parts of it took.
pub fn of_times(dir: &Path, name: &str) -> Result<Figures> {
    let path = dir.join(format!("{name}.times"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut figures = Figures::new();
    for line in text.lines() {
        let (word, number) = line.split_once(' ').context("no time")?;
        let unit = match word {
            "format" => Unit::FormatMs,
            "empty" => Unit::EmptyMs,
            "resume" => Unit::ResumeMs,
            "copy" => Unit::CopyMs,
            "drain" => Unit::DrainMs,
            _ => anyhow::bail!("what is {line:?}?"),
        };
        figures.insert(unit, number.parse()?);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_mean_something() {
        assert_eq!(Unit::Iops.show(1_234_567.4), "1,234,567");
        assert_eq!(Unit::P99.show(12.345), "12.3");
        assert_eq!(Unit::P99.show(0.756), "0.76");
        assert_eq!(Unit::P99.show(f64::NAN), "-");
    }

    #[test]
    fn a_snapshot_is_read() {
        let text = "cpu  10 1 20 400 5 2 3 0 0 0\nslow 1 1 1 1 1 1 1\n\
                    fast 0 0 0 0 7 0 56 0 0 0 0 0 0 0 0 3 9\nMemFree:  1234 kB\n";
        let want = Snapshot { busy: 36.0, writes: 7.0, sectors: 56.0, flushes: 3.0, free: 1234.0 };
        assert_eq!(Snapshot::parse(text).unwrap(), want);
        assert!(Snapshot::parse("nothing").is_err());
    }
}
