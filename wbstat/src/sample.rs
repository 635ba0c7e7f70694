// SPDX-License-Identifier: GPL-2.0-only

//! The state of all volumes at a moment. Samples are recorded, a line of JSON for each.

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use wbhost::{
    disk::{DiskReader, DiskStat},
    dm::Dm,
    host::{DevNo, Host},
    options,
    report::Report,
    size,
    status::{Silent, SteeredBy},
    volume::{Below, Volume},
    watch::Watch,
    Error,
};

/// Version of a recording.
const VERSION: u32 = 1;
/// Cells of the map in a report: enough for a wide screen.
const CELLS: u32 = 2048;
/// With up to so many segments a map is cheap, and every sample has one. For a larger cache the map is not
/// taken each time.
const CHEAP_SEGMENTS: u64 = 1 << 18;
/// The value of "steered by" while a program sets the options all the time.
pub const STEERED: &str = "wbdaemon";
/// How often the map of a larger cache is taken.
const DEAR_PERIOD: Duration = Duration::from_secs(10);

/// All volumes at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Milliseconds since 1970, in UTC.
    pub at_ms: u64,
    /// By name.
    pub volumes: Vec<VolumeSample>,
}

/// One volume at a moment. Counts are since it was created; a block is 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeSample {
    /// Its name.
    pub name: String,
    /// Its UUID, if the target reports it.
    pub uuid: Option<String>,
    /// `ok`, `degraded`, `failed` or `unknown`.
    pub state: String,
    /// The faults: `none`, or words with commas between them.
    pub fault: String,
    /// Advice about the faults.
    pub advice: Vec<String>,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether writes are only as fast as the backing device, for want of room.
    pub full: bool,
    /// Path of the backing device.
    pub backing: String,
    /// Path of the cache device.
    pub cache: String,
    /// Its size.
    pub size_bytes: u64,
    /// Blocks of the whole cache.
    pub cache_blocks: u64,
    /// Segments of the cache.
    pub segments: u64,
    /// Segments that can be written.
    pub free_segments: u64,
    /// Blocks that are not on the backing device.
    pub dirty_blocks: u64,
    /// Reads.
    pub reads: u64,
    /// Reads that the cache answered.
    pub read_hits: u64,
    /// Writes.
    pub writes: u64,
    /// Writes whose block was in the cache already.
    pub write_hits: u64,
    /// Flushes and FUA writes.
    pub flushes: u64,
    /// Blocks written back.
    pub written_back_blocks: u64,
    /// Errors: of the cache device in reads and in writes, of the backing device in reads and in writes.
    pub errors: [u64; 4],
    /// Dirty blocks that were given up.
    pub lost_blocks: u64,
    /// Options, and their values where they were given.
    pub options: Vec<(String, Option<u64>)>,
    /// The source of the options about writeback. Older recordings do not have it.
    #[serde(default)]
    pub set_by: SteeredBy,
    /// Whether the steering program is silent.
    pub steering_expired: bool,
    /// For how many seconds the backing device and the cache device have not answered. Older recordings do
    /// not have it.
    #[serde(default)]
    pub silent_s: [u64; 2],
    /// The state of the segments, if the target can report it.
    pub report: Option<Report>,
    /// The kernel's counters for the volume itself, the backing and the cache device.
    pub disks: [DiskStat; 3],
}

impl VolumeSample {
    fn new(volume: &Volume, report: Option<Report>, disks: [DiskStat; 3]) -> Self {
        let s = &volume.status;
        Self {
            name: volume.name.clone(),
            uuid: s.uuid.clone(),
            state: s.state.word().to_owned(),
            fault: s.fault.clone().unwrap_or_else(|| "none".to_owned()),
            advice: s.advice().iter().map(|a| (*a).to_owned()).collect(),
            suspended: volume.suspended,
            full: s.full == Some(true),
            backing: volume.backing.device.clone(),
            cache: volume.cache.device.clone(),
            size_bytes: volume.size_bytes,
            cache_blocks: s.cache_blocks,
            segments: s.segments,
            free_segments: s.free_segments.unwrap_or(0),
            dirty_blocks: s.dirty_blocks,
            reads: s.counters.reads(),
            read_hits: s.counters.read_hits(),
            writes: s.counters.writes(),
            write_hits: s.counters.write_hits(),
            flushes: s.flushes.unwrap_or(0),
            written_back_blocks: s.written_back_blocks.unwrap_or(0),
            errors: [s.read_errors, s.cache_write_errors, s.backing_read_errors, s.writeback_errors]
                .map(|n| n.unwrap_or(0)),
            lost_blocks: s.lost_blocks.unwrap_or(0),
            options: options::settings(volume).into_iter().map(|o| (o.name, o.value)).collect(),
            set_by: s.steered_by,
            steering_expired: s.steering_expired == Some(true),
            silent_s: s.silent_s(),
            report,
            disks,
        }
    }

    /// The devices that are silent, in words.
    pub fn silent(&self) -> impl Iterator<Item = String> {
        Silent::among(self.silent_s).map(|s| s.to_string())
    }

    /// The state as it is shown: a volume whose device does not answer is degraded, though nothing has
    /// failed.
    pub fn looks(&self) -> &str {
        match self.state.as_str() {
            "ok" if self.silent().next().is_some() => "degraded",
            state => state,
        }
    }

    /// The part of the log that is in use, from 0 to 1.
    pub fn used(&self) -> f64 {
        1.0 - part(self.free_segments, self.segments.max(1))
    }

    /// The part of the cache that is dirty, from 0 to 1.
    pub fn dirty(&self) -> f64 {
        part(self.dirty_blocks, self.cache_blocks)
    }

    /// The value of an option that was given.
    pub fn option(&self, name: &str) -> Option<u64> {
        self.options.iter().find(|(n, _)| n == name)?.1
    }

    /// The part that decides how much is written back, in words.
    pub fn steered_by(&self) -> &'static str {
        match self.set_by {
            _ if self.steering_expired => "built-in policy (steering is silent)",
            SteeredBy::Nobody => "built-in policy",
            SteeredBy::Daemon => STEERED,
            SteeredBy::Hand => "set by hand",
            SteeredBy::Unknown => "not recorded",
        }
    }

    /// The present limit of writeback, in words.
    pub fn throttle(&self) -> String {
        if self.steering_expired {
            return "as it sees fit".to_owned();
        }
        let limit = self.option("writeback_rate_limit").filter(|&kib| kib > 0);
        match (self.option("writeback_threshold"), limit) {
            (None, None) => "as it sees fit".to_owned(),
            (Some(0), _) => "only when it must".to_owned(),
            (Some(100), None) => "as fast as it can".to_owned(),
            (Some(100) | None, Some(kib)) => format!("up to {}/s", human(kib * 1024)),
            (Some(n), None) => format!("below {n} % busy"),
            (Some(n), Some(kib)) => format!("below {n} % busy, up to {}/s", human(kib * 1024)),
        }
    }
}

/// A number of bytes with a binary unit.
pub fn human(bytes: u64) -> String {
    size::human(bytes)
}

fn part(n: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        (n as f64 / of as f64).clamp(0.0, 1.0)
    }
}

/// The volumes of this machine.
pub struct Live {
    host: Host,
    watch: Watch,
    known: BTreeMap<String, Known>,
}

/// The data that are kept about a volume from sample to sample.
struct Known {
    volume: Volume,
    /// The volume itself, the backing and the cache device, as far as the kernel counts them.
    disks: [Option<DiskReader>; 3],
    /// The map of a large cache, and when it was taken.
    map: Option<(SystemTime, Report)>,
    /// The target has no maps.
    mute: bool,
}

impl Known {
    fn new(host: &Host, number: DevNo, volume: Volume) -> Self {
        let open = |number: Option<DevNo>| DiskReader::open(host, number?).ok();
        let below = |b: &Below| open(DevNo::parse(&b.number));
        let disks = [open(Some(number)), below(&volume.backing), below(&volume.cache)];
        Self { volume, disks, map: None, mute: false }
    }

    fn report(&mut self, dm: &Dm, now: SystemTime) -> Option<Report> {
        // A suspended volume does not answer before it is resumed.
        if self.mute || self.volume.suspended {
            return None;
        }
        if let Some((at, map)) = &self.map {
            if now.duration_since(*at).is_ok_and(|age| age < DEAR_PERIOD) {
                return Some(map.clone());
            }
        }
        match dm.report(&self.volume.name, CELLS) {
            Ok(report) => {
                let is_dear = self.volume.status.segments > CHEAP_SEGMENTS;
                self.map = is_dear.then(|| (now, report.clone()));
                Some(report)
            }
            // Another question would only make the target log again that it does not know the message.
            Err(Error::Kernel(_) | Error::Failed(_)) => {
                self.mute = true;
                None
            }
            Err(_) => None,
        }
    }

    fn sample(&mut self, dm: &Dm, now: SystemTime) -> VolumeSample {
        let report = self.report(dm, now);
        let read = |disk: &Option<DiskReader>| disk.as_ref().and_then(|d| d.read().ok()).unwrap_or_default();
        VolumeSample::new(&self.volume, report, self.disks.each_ref().map(read))
    }
}

impl Live {
    /// No volumes yet.
    pub fn new() -> Self {
        // Every sample shows the volumes of that moment.
        Self { host: Host::default(), watch: Watch::new(Duration::ZERO), known: BTreeMap::new() }
    }

    /// Looks at all volumes.
    ///
    /// # Errors
    /// [`Error::Failed`] without the rights, [`Error::Kernel`].
    pub fn sample(&mut self) -> Result<Sample, Error> {
        let now = SystemTime::now();
        let at_ms = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let look = self.watch.look()?;
        for name in &look.gone {
            self.known.remove(name);
        }
        let mut volumes = Vec::new();
        let Some(dm) = self.watch.dm() else { return Ok(Sample { at_ms, volumes }) };
        for mapped in look.there {
            let (name, number) = (mapped.name.clone(), mapped.device);
            let before = self.known.get(&name).map(|k| &k.volume);
            let volume = Volume::again(&self.host, mapped, before)?;
            let is_same = |k: &Known| {
                let key = |v: &Volume| {
                    (v.status.uuid.clone(), v.backing.clone(), v.cache.clone(), v.number.clone())
                };
                key(&k.volume) == key(&volume)
            };
            let known = match self.known.remove(&name).filter(is_same) {
                Some(known) => Known { volume, ..known },
                None => Known::new(&self.host, number, volume),
            };
            volumes.push(self.known.entry(name).or_insert(known).sample(dm, now));
        }
        Ok(Sample { at_ms, volumes })
    }

    /// Sets an option of a volume.
    ///
    /// # Errors
    /// Those of [`options::set`].
    pub fn set(&self, volume: &str, key: &str, value: &str) -> Result<(), Error> {
        options::set(&self.host, volume, key, value).map(drop)
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

/// The first line of a recording.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    wbstat_recording: u32,
}

/// Begins a recording.
///
/// # Errors
/// Those of writing.
pub fn begin_recording(out: &mut impl Write) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(&Head { wbstat_recording: VERSION })?)?;
    Ok(out.flush()?)
}

/// Adds a sample to a recording.
///
/// # Errors
/// Those of writing.
pub fn record(out: &mut impl Write, sample: &Sample) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(sample)?)?;
    Ok(out.flush()?)
}

/// Reads a recording. One that ends within a line, as when the power was cut, is valid up to there.
///
/// # Errors
/// The fault, and its line.
pub fn read_recording(input: impl BufRead) -> Result<Vec<Sample>> {
    let mut lines = input.lines();
    let head = lines.next().context("it is empty")??;
    let head: Head =
        serde_json::from_str(&head).ok().context("line 1: this is no recording of wbstat --record")?;
    if head.wbstat_recording != VERSION {
        bail!("it is of version {}, and this wbstat knows {VERSION}", head.wbstat_recording);
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut lines = lines.enumerate().peekable();
    while let Some((i, line)) = lines.next() {
        let line = line?;
        match serde_json::from_str::<Sample>(&line) {
            Ok(sample) => {
                if samples.last().is_some_and(|last| sample.at_ms < last.at_ms) {
                    bail!("line {}: it is earlier than the line before", i + 2);
                }
                samples.push(sample);
            }
            Err(e) if e.is_eof() && lines.peek().is_none() => break,
            Err(e) => bail!("line {}: {e}", i + 2),
        }
    }
    if samples.is_empty() {
        bail!("there is no sample in it");
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64) -> Sample {
        let volume = VolumeSample { name: "v".into(), reads: at_ms, ..VolumeSample::default() };
        Sample { at_ms, volumes: vec![volume] }
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let mut out = Vec::new();
        begin_recording(&mut out).unwrap();
        let samples = [sample(1), sample(2)];
        samples.iter().for_each(|s| record(&mut out, s).unwrap());
        assert_eq!(read_recording(&out[..]).unwrap(), samples);
        // Cut off in the middle of a line.
        assert_eq!(read_recording(&out[..out.len() - 10]).unwrap(), samples[..1]);
    }

    #[test]
    fn what_is_no_recording() {
        let error = |text: &str| read_recording(text.as_bytes()).unwrap_err().to_string();
        let head = "{\"wbstat_recording\":1}\n";
        assert_eq!(error(""), "it is empty");
        assert!(error("x\n").starts_with("line 1: this is no recording"));
        assert!(error("{\"wbstat_recording\":2}\n").starts_with("it is of version 2"));
        assert_eq!(error(head), "there is no sample in it");
        assert!(error(&format!("{head}x\n")).starts_with("line 2: "));
        let line = |at| serde_json::to_string(&sample(at)).unwrap();
        assert!(error(&format!("{head}{}\n{}\n", line(2), line(1))).starts_with("line 3: it is earlier"));
    }

    #[test]
    fn who_steers() {
        let of = |options: &[(&str, u64)], set_by, steering_expired| VolumeSample {
            options: options.iter().map(|(k, v)| ((*k).to_owned(), Some(*v))).collect(),
            set_by,
            steering_expired,
            ..VolumeSample::default()
        };
        let words = |v: &VolumeSample| (v.steered_by(), v.throttle());
        let (t, r) = ("writeback_threshold", "writeback_rate_limit");
        let (nobody, hand, daemon) = (SteeredBy::Nobody, SteeredBy::Hand, SteeredBy::Daemon);
        assert_eq!(words(&of(&[], nobody, false)), ("built-in policy", "as it sees fit".into()));
        assert_eq!(words(&of(&[(t, 70)], hand, false)), ("set by hand", "below 70 % busy".into()));
        assert_eq!(words(&of(&[(t, 100), (r, 1024)], daemon, false)), ("wbdaemon", "up to 1 MiB/s".into()));
        assert_eq!(words(&of(&[(t, 0)], daemon, false)).1, "only when it must");
        assert!(words(&of(&[(t, 0)], daemon, true)).0.contains("silent"));
    }
}
