// SPDX-License-Identifier: GPL-2.0-only

//! The target's status line, in dm-writeboost 2.2's order with our words behind it.

use serde::Serialize;
use serde_json::{Map, Value};
use writeboost::policy::silence::SILENT_MS;

/// Bits of a counter's index: dm-writeboost's.
const WRITE: usize = 8;
const HIT: usize = 4;
const BUFFER: usize = 2;
const FULL: usize = 1;

/// How a volume is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    Ok,
    /// It works, but something has failed: see the error counters and the kernel's log.
    Degraded,
    /// It does not accept writes any more.
    Failed,
    /// The target did not say, or a word that is not known here.
    Unknown,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Failed => "failed",
            State::Unknown => "unknown",
        }
    }
}

/// A device of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the data belong.
    Backing,
    /// Where the log is.
    Cache,
}

impl Side {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Side::Backing => "the backing device",
            Side::Cache => "the cache device",
        }
    }
}

/// A device that has not answered for so long that something is wrong with it: 30 s, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// Which one.
    pub side: Side,
    /// For how many seconds.
    pub seconds: u64,
}

impl Silent {
    /// The devices that are silent, of which the target says that the backing device and the cache device have not answered for so
    /// many seconds.
    pub fn among([backing, cache]: [u64; 2]) -> impl Iterator<Item = Self> {
        let all = [(Side::Backing, backing), (Side::Cache, cache)];
        let silent = all.into_iter().filter(|(_, seconds)| seconds.saturating_mul(1000) >= SILENT_MS);
        silent.map(|(side, seconds)| Self { side, seconds })
    }
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has not answered for {} s", self.side.name(), self.seconds)
    }
}

/// A parsed status line. A block is 4 KiB.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// How it is doing.
    pub state: State,
    /// UUID of the volume, if the target said.
    pub uuid: Option<String>,
    /// Where the log's head is, in blocks, as dm-writeboost counts it.
    pub cursor_blocks: u64,
    /// Blocks of the whole cache.
    pub cache_blocks: u64,
    /// Segments of the whole cache.
    pub segments: u64,
    /// Segments that can be written at once, if the target said.
    pub free_segments: Option<u64>,
    /// Number of the newest part of the log.
    pub current_id: u64,
    /// Number of the newest one on the cache device.
    pub last_flushed_id: u64,
    /// Number of the newest one that is written back.
    pub last_writeback_id: u64,
    /// Blocks that are not on the backing device yet.
    pub dirty_blocks: u64,
    /// Parts of the log that were written before they were full.
    pub partial_flushed: u64,
    /// Failed writes to the backing device, if the target said.
    pub writeback_errors: Option<u64>,
    /// Blocks that could not be read from the cache device or did not match their checksum, if the target said.
    pub read_errors: Option<u64>,
    /// What the state is not `ok` for, if the target said: `none`, or words with commas between them.
    pub fault: Option<String>,
    /// Failed writes to the cache device, those included that went well when repeated, if the target said.
    pub cache_write_errors: Option<u64>,
    /// Dirty blocks that could not be read from the cache device any more and were given up, if the target said.
    pub lost_blocks: Option<u64>,
    /// Failed reads from the backing device, if the target said.
    pub backing_read_errors: Option<u64>,
    /// Reads from the cache device that went well when repeated, if the target said.
    pub read_again: Option<u64>,
    /// Whether the cache is full, so that writes go at the pace of writeback, if the target said.
    pub full: Option<bool>,
    /// Flushes and FUA writes taken so far, if the target said.
    pub flushes: Option<u64>,
    /// Blocks written back so far, if the target said.
    pub written_back_blocks: Option<u64>,
    /// Whether whoever steers has been silent for longer than `steering_timeout`, and the built-in policy is at work, if the
    /// target said.
    pub steering_expired: Option<bool>,
    /// For how many seconds the backing device has not answered though somebody waits for it, if the target said.
    pub backing_silent_s: Option<u64>,
    /// The same of the cache device, if the target said.
    pub cache_silent_s: Option<u64>,
    /// Requests.
    pub counters: Counters,
    /// The target's options and their values.
    pub options: Map<String, Value>,
    /// Words behind the options that this version does not know.
    pub other: Map<String, Value>,
}

/// The 16 counters of requests, each of one part of a bio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters(pub [u64; 16]);

impl Counters {
    /// The counter's name, such as `write_hit_buffer_full`.
    pub fn name(i: usize) -> String {
        let word = |bit, yes, no| if i & bit != 0 { yes } else { no };
        format!(
            "{}_{}_{}_{}",
            word(WRITE, "write", "read"),
            word(HIT, "hit", "miss"),
            word(BUFFER, "buffer", "device"),
            word(FULL, "full", "partial")
        )
    }

    fn sum(&self, of: impl Fn(usize) -> bool) -> u64 {
        (0..16).filter(|&i| of(i)).map(|i| self.0[i]).fold(0, u64::saturating_add)
    }

    /// Reads.
    pub fn reads(&self) -> u64 {
        self.sum(|i| i & WRITE == 0)
    }

    /// Writes.
    pub fn writes(&self) -> u64 {
        self.sum(|i| i & WRITE != 0)
    }

    /// Reads that the cache answered.
    pub fn read_hits(&self) -> u64 {
        self.sum(|i| i & (WRITE | HIT) == HIT)
    }

    /// Writes whose block was in the cache already.
    pub fn write_hits(&self) -> u64 {
        self.sum(|i| i & (WRITE | HIT) == WRITE | HIT)
    }

    /// The part of all reads that the cache answered, from 0 to 1; `None` before the first.
    pub fn read_hit_ratio(&self) -> Option<f64> {
        ratio(self.read_hits(), self.reads())
    }

    /// The part of all writes whose block was in the cache already, from 0 to 1; `None` before the first.
    pub fn write_hit_ratio(&self) -> Option<f64> {
        ratio(self.write_hits(), self.writes())
    }
}

impl Serialize for Counters {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().enumerate().map(|(i, n)| (Self::name(i), n)))
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Status {
    /// Parses the words of a status line.
    ///
    /// Words of ours may be missing or new; dm-writeboost's may not.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let mut number = |name: &str| {
            let word = words.next().ok_or_else(|| format!("the status ends before {name}"))?;
            word.parse::<u64>().map_err(|_| format!("the status has {word:?} for {name}"))
        };
        let cursor_blocks = number("cursor_pos")?;
        let cache_blocks = number("nr_cache_blocks")?;
        let segments = number("nr_segments")?;
        let current_id = number("current_id")?;
        let last_flushed_id = number("last_flushed_id")?;
        let last_writeback_id = number("last_writeback_id")?;
        let dirty_blocks = number("nr_dirty_cache_blocks")?;
        let mut counters = [0; 16];
        for (i, c) in counters.iter_mut().enumerate() {
            *c = number(&Counters::name(i))?;
        }
        let partial_flushed = number("nr_partial_flushed")?;
        let options = pairs(&mut words)?;
        let mut other = pairs(&mut words)?;
        let mut take = |key: &str| other.shift_remove(key);
        let state = match take("state").as_ref().and_then(Value::as_str) {
            Some("ok") => State::Ok,
            Some("degraded") => State::Degraded,
            Some("failed") => State::Failed,
            _ => State::Unknown,
        };
        let mut count = |key: &str| take(key)?.as_u64();
        Ok(Self {
            state,
            cursor_blocks,
            cache_blocks,
            segments,
            free_segments: count("free_segments"),
            current_id,
            last_flushed_id,
            last_writeback_id,
            dirty_blocks,
            partial_flushed,
            writeback_errors: count("writeback_errors"),
            read_errors: count("read_errors"),
            cache_write_errors: count("cache_write_errors"),
            lost_blocks: count("lost_blocks"),
            backing_read_errors: count("backing_read_errors"),
            read_again: count("read_again"),
            full: count("full").map(|n| n != 0),
            flushes: count("flushes"),
            written_back_blocks: count("written_back"),
            steering_expired: count("steering_expired").map(|n| n != 0),
            backing_silent_s: count("backing_silent_s"),
            cache_silent_s: count("cache_silent_s"),
            uuid: take_string(&mut other, "uuid"),
            fault: take_string(&mut other, "fault"),
            counters: Counters(counters),
            options,
            other,
        })
    }

    /// For how many seconds the backing device and the cache device have not answered.
    pub fn silent_s(&self) -> [u64; 2] {
        [self.backing_silent_s, self.cache_silent_s].map(Option::unwrap_or_default)
    }

    /// The devices that are silent.
    pub fn silent(&self) -> impl Iterator<Item = Silent> {
        Silent::among(self.silent_s())
    }

    /// What is wrong and what to do, a sentence or two for each thing; nothing when all is well.
    pub fn advice(&self) -> Vec<&'static str> {
        let fault = self.fault.as_deref().unwrap_or("none");
        let mut advice: Vec<_> = fault
            .split(',')
            .filter_map(|word| match (word, self.state) {
                ("cache_write", State::Failed) => Some(
                    "The cache device cannot be written. Reads go on, and writeback of what was flushed; nothing new is \
                     taken. Stop what uses the volume, repair the cache device, then `wbctl remove` and `wbctl create` the \
                     volume: it resumes with all that was flushed.",
                ),
                ("cache_write", _) => Some(
                    "A write to the cache device has failed and is being repeated. If this comes again, drain the volume \
                     and replace the device.",
                ),
                ("cache_read", _) => Some(
                    "Blocks that are only in the cache cannot be read from the cache device. The kernel's log names them, and \
                     reading them is an error. Write them again from a backup; everything else is unharmed.",
                ),
                ("changed", _) => Some(
                    "While the machine hibernated somebody else has used the volume, so that what memory knows of it is no \
                     longer true. It takes and gives nothing. Stop what uses it, then `wbctl remove` and `wbctl create` it: it is \
                     as the other one has left it.",
                ),
                ("backing_write", _) => Some(
                    "Blocks cannot be written back. They are safe in the cache, and it is tried again by itself. Repair the \
                     backing device, then `wbctl drain` shows whether all is well.",
                ),
                _ => None,
            })
            .collect();
        if self.silent().next().is_some() {
            advice.push(
                "A device that is silent gives neither data nor errors. Whatever needs it waits, and goes on when it answers; nothing \
                 is lost. Look at what lies below it: the server and the way to it of a network device, the paths of a \
                 multipath device, the room in a thin pool; `dmsetup info` says whether it is suspended.",
            );
        }
        if matches!(self.state, State::Degraded | State::Failed) {
            advice.push("The kernel's log (dmesg) says what has failed.");
        }
        advice
    }

    /// The dirty part of the cache in percent.
    pub fn dirty_percent(&self) -> f64 {
        ratio(self.dirty_blocks, self.cache_blocks).unwrap_or(0.0) * 100.0
    }
}

fn take_string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.shift_remove(key)? {
        Value::String(s) => Some(s),
        other => Some(other.to_string()),
    }
}

/// A count of words and as many words, keys and values in turn. Nothing at all is none.
pub(crate) fn pairs<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Map<String, Value>, String> {
    let Some(count) = words.next() else { return Ok(Map::new()) };
    let count: usize =
        count.parse().map_err(|_| format!("the status has {count:?} for a number of words"))?;
    let mut map = Map::new();
    for _ in 0..count / 2 {
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            return Err(format!("the status has fewer than the {count} words that it announces"));
        };
        map.insert(key.to_owned(), value.parse::<u64>().map_or_else(|_| value.into(), Value::from));
    }
    if count % 2 == 1 {
        words.next();
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "5 131072 1024 77 76 70 1234 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 42 \
                        4 writeback_threshold 70 sync_data_interval 0 \
                        32 state degraded free_segments 900 writeback_errors 3 read_errors 0 \
                        uuid 6ba7b810-9dad-11d1-80b4-00c04fd430c8 later x \
                        fault cache_read,backing_write cache_write_errors 1 backing_read_errors 2 read_again 4 \
                        full 1 flushes 5 written_back 6 steering_expired 0 backing_silent_s 31 \
                        cache_silent_s 29";

    #[test]
    fn whole_line() {
        let s = Status::parse(LINE).unwrap();
        assert_eq!((s.cursor_blocks, s.cache_blocks, s.segments), (5, 131_072, 1024));
        assert_eq!((s.current_id, s.last_flushed_id, s.last_writeback_id), (77, 76, 70));
        assert_eq!((s.dirty_blocks, s.partial_flushed), (1234, 42));
        assert_eq!((s.state, s.free_segments), (State::Degraded, Some(900)));
        assert_eq!((s.writeback_errors, s.read_errors), (Some(3), Some(0)));
        assert_eq!(s.uuid.as_deref(), Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
        assert_eq!(s.options["writeback_threshold"], 70);
        assert_eq!((s.cache_write_errors, s.backing_read_errors, s.read_again), (Some(1), Some(2), Some(4)));
        assert_eq!((s.full, s.flushes), (Some(true), Some(5)));
        assert_eq!((s.written_back_blocks, s.steering_expired), (Some(6), Some(false)));
        assert_eq!(s.fault.as_deref(), Some("cache_read,backing_write"));
        assert_eq!((s.backing_silent_s, s.cache_silent_s), (Some(31), Some(29)));
        let silent: Vec<_> = s.silent().map(|s| s.to_string()).collect();
        assert_eq!(silent, ["the backing device has not answered for 31 s"]);
        let advice = s.advice().join("\n");
        for words in ["neither data nor errors", "from a backup", "wbctl drain", "dmesg"] {
            assert!(advice.contains(words), "{words:?} is not in {advice}");
        }
        assert_eq!(s.other.len(), 1);
        assert_eq!(s.other["later"], "x");
        let c = s.counters;
        assert_eq!((c.reads(), c.writes()), (36, 100));
        assert_eq!(c.read_hit_ratio(), Some(26.0 / 36.0));
        assert_eq!(c.write_hit_ratio(), Some(58.0 / 100.0));
        let json = serde_json::to_value(&s).unwrap();
        assert_eq!(json["counters"]["write_hit_buffer_full"], 16);
        assert_eq!(json["counters"]["read_miss_device_partial"], 1);
        assert_eq!(json["state"], "degraded");
    }

    #[test]
    fn c_driver_and_garbage() {
        let zero = "0 ".repeat(24);
        let s = Status::parse(&format!("{zero} 2 read_cache_threshold 0")).unwrap();
        assert_eq!((s.state, s.free_segments, s.uuid.as_deref()), (State::Unknown, None, None));
        assert_eq!(s.counters.read_hit_ratio(), None);
        assert!(s.advice().is_empty() && s.silent().next().is_none());
        assert!(Status::parse(&zero).is_ok(), "no options at all");
        assert!(Status::parse("").is_err());
        assert!(Status::parse("1 2 x").is_err());
        assert!(Status::parse(&format!("{zero} 4 a 1")).is_err());
        assert!(Status::parse(&format!("{zero} x")).is_err());
    }
}
