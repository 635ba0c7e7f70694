// SPDX-License-Identifier: GPL-2.0-only

//! The target's status of a volume, with names and words for its numbers, and with advice.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use writeboost::{
    interface::{
        message::Who,
        status::{self, Counters, Trouble},
        table::Options,
    },
    policy::silence::SILENT_MS,
};

/// A volume's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All works.
    Ok,
    /// It works, but something has failed: see the error counters and the kernel's log.
    Degraded,
    /// It does not accept writes any more.
    Failed,
    /// The target does not report it, or reports an unknown word.
    Unknown,
}

impl State {
    fn of(number: Option<u64>) -> Self {
        match number.and_then(status::State::of) {
            Some(status::State::Ok) => State::Ok,
            Some(status::State::Degraded) => State::Degraded,
            Some(status::State::Failed) => State::Failed,
            None => State::Unknown,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => status::State::Ok.word(),
            State::Degraded => status::State::Degraded.word(),
            State::Failed => status::State::Failed.word(),
            State::Unknown => "unknown",
        }
    }
}

/// The source of the options about writeback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteeredBy {
    /// The target does not report it.
    #[default]
    Unknown,
    /// None of the options was given.
    Nobody,
    /// A table line, an administrator or a script.
    Hand,
    /// A program that sets them all the time.
    Daemon,
}

impl SteeredBy {
    fn of(number: Option<u64>) -> Self {
        match number.map(|n| (n, Who::of(n))) {
            Some((0, _)) => Self::Nobody,
            Some((_, Some(Who::Hand))) => Self::Hand,
            Some((_, Some(Who::Daemon))) => Self::Daemon,
            _ => Self::Unknown,
        }
    }
}

/// A device of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The device where the data belong.
    Backing,
    /// The device with the log.
    Cache,
}

impl Side {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Side::Backing => "the backing device",
            Side::Cache => "the cache device",
        }
    }
}

/// A device that has not answered for so long that something is wrong with it: 30 s, as in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// The device.
    pub side: Side,
    /// The silence in seconds.
    pub seconds: u64,
}

impl Silent {
    /// The silent ones among the backing device and the cache device, which have not answered for so many
    /// seconds.
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

/// A status. A block is 4 KiB.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The volume's health.
    pub state: State,
    /// UUID of the volume, if the target reports it.
    pub uuid: Option<String>,
    /// The place of the log's head, in blocks, as dm-writeboost counts it.
    pub cursor_blocks: u64,
    /// Blocks of the whole cache.
    pub cache_blocks: u64,
    /// Segments of the whole cache.
    pub segments: u64,
    /// Segments that can be written at once, if the target reports it.
    pub free_segments: Option<u64>,
    /// Number of the newest part of the log.
    pub current_id: u64,
    /// Number of the newest part on the cache device.
    pub last_flushed_id: u64,
    /// Number of the newest part that is written back.
    pub last_writeback_id: u64,
    /// Blocks that are not on the backing device yet.
    pub dirty_blocks: u64,
    /// Parts of the log that were written before they were full.
    pub partial_flushed: u64,
    /// Failed writes to the backing device, if the target reports it.
    pub writeback_errors: Option<u64>,
    /// Blocks that could not be read from the cache device or did not match their checksum, if the target
    /// reports it.
    pub read_errors: Option<u64>,
    /// The reasons why the state is not `ok`, if the target reports them: `none`, or words with commas
    /// between them.
    pub fault: Option<String>,
    /// Failed writes to the cache device, including those that went well when repeated, if the target reports
    /// it.
    pub cache_write_errors: Option<u64>,
    /// Dirty blocks that could not be read from the cache device any more and were given up, if the target
    /// reports it.
    pub lost_blocks: Option<u64>,
    /// Failed reads from the backing device, if the target reports it.
    pub backing_read_errors: Option<u64>,
    /// Reads from the cache device that went well when repeated, if the target reports it.
    pub read_again: Option<u64>,
    /// Whether the cache is full, so that writes go at the pace of writeback, if the target reports it.
    pub full: Option<bool>,
    /// Flushes and FUA writes taken so far, if the target reports it.
    pub flushes: Option<u64>,
    /// Blocks written back so far, if the target reports it.
    pub written_back_blocks: Option<u64>,
    /// Blocks written past the cache, which was full, if the target reports it.
    pub written_around_blocks: Option<u64>,
    /// Segments that are being written back, if the target reports it.
    pub writing_segments: Option<u64>,
    /// The source of the options about writeback.
    pub steered_by: SteeredBy,
    /// Whether the steering program has been silent for longer than `steering_timeout`, and the built-in
    /// policy is at work, if the target reports it.
    pub steering_expired: Option<bool>,
    /// For how many seconds the backing device has not answered a request that waits, if the target reports
    /// it.
    pub backing_silent_s: Option<u64>,
    /// The same for the cache device, if the target reports it.
    pub cache_silent_s: Option<u64>,
    /// Requests.
    #[serde(serialize_with = "named_counters")]
    pub counters: Counters,
    /// The target's options and their values.
    pub options: Map<String, Value>,
    /// Words behind the options that are unknown to this version.
    pub other: Map<String, Value>,
}

fn named_counters<S: Serializer>(counters: &Counters, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map((0..).zip(counters.0).map(|(i, n)| (Counters::words(i).join("_"), n)))
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Status {
    /// Reads the words of a status line.
    ///
    /// Words of ours may be missing or new; dm-writeboost's may not.
    ///
    /// # Errors
    /// The fault, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut other = Map::new();
        let known = status::Status::parse(line, |key, value| {
            let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
            other.insert(key.to_owned(), value);
        });
        let mut s = known.map_err(|e| e.to_string())?;
        let option = |name: &str| Some((name.to_owned(), (*s.named.get_mut(name)?)?.into()));
        let options = Options::known().iter().map(|k| k.name).filter_map(option).collect();
        let n = s.named;
        let flag = |n: Option<u64>| n.map(|n| n != 0);
        Ok(Self {
            state: State::of(n.state),
            uuid: None,
            cursor_blocks: s.cursor,
            cache_blocks: s.cache_blocks,
            segments: s.segments,
            free_segments: n.free_segments,
            current_id: s.current_id,
            last_flushed_id: s.last_flushed_id,
            last_writeback_id: s.last_writeback_id,
            dirty_blocks: s.dirty_blocks,
            partial_flushed: s.partial_flushed,
            writeback_errors: n.writeback_errors,
            read_errors: n.read_errors,
            cache_write_errors: n.cache_write_errors,
            lost_blocks: n.lost_blocks,
            backing_read_errors: n.backing_read_errors,
            read_again: n.read_again,
            full: flag(n.full),
            flushes: n.flushes,
            written_back_blocks: n.written_back,
            written_around_blocks: n.written_around,
            writing_segments: n.nr_cur_batched_writeback,
            steered_by: SteeredBy::of(n.steered_by),
            steering_expired: flag(n.steering_expired),
            backing_silent_s: n.backing_silent_s,
            cache_silent_s: n.cache_silent_s,
            fault: n.fault.map(|bits| Trouble(u32::try_from(bits).unwrap_or(0)).to_string()),
            counters: s.counters,
            options,
            other,
        })
    }

    /// The part of all reads that the cache answered, in percent; `None` before the first.
    pub fn read_hit_percent(&self) -> Option<f64> {
        ratio(self.counters.read_hits(), self.counters.reads()).map(|r| r * 100.0)
    }

    /// The part of all writes whose block was in the cache already, in percent; `None` before the first.
    pub fn write_hit_percent(&self) -> Option<f64> {
        ratio(self.counters.write_hits(), self.counters.writes()).map(|r| r * 100.0)
    }

    /// For how many seconds the backing device and the cache device have not answered.
    pub fn silent_s(&self) -> [u64; 2] {
        [self.backing_silent_s, self.cache_silent_s].map(Option::unwrap_or_default)
    }

    /// The devices that are silent.
    pub fn silent(&self) -> impl Iterator<Item = Silent> {
        Silent::among(self.silent_s())
    }

    /// The faults and advice, a sentence or two for each; empty when all is well.
    pub fn advice(&self) -> Vec<&'static str> {
        let fault = self.fault.as_deref().unwrap_or("none");
        let mut advice: Vec<_> = fault
            .split(',')
            .filter_map(|word| match (word, self.state) {
                ("cache_write", State::Failed) => Some(
                    "The cache device cannot be written. Reads go on, and writeback of what was flushed; \
                     nothing new is taken. Stop what uses the volume, repair the cache device, then `wbctl \
                     remove` and `wbctl create` the volume: it resumes with all that was flushed.",
                ),
                ("cache_write", _) => Some(
                    "A write to the cache device has failed and is being repeated. If this comes again, \
                     drain the volume and replace the device.",
                ),
                ("cache_read", _) => Some(
                    "Blocks that are only in the cache cannot be read from the cache device. The kernel's \
                     log names them, and reading them is an error. Write them again from a backup; \
                     everything else is unharmed.",
                ),
                ("changed", _) => Some(
                    "While the machine hibernated somebody else has used the volume, so that what memory \
                     knows of it is no longer true. It takes and gives nothing. Stop what uses it, then \
                     `wbctl remove` and `wbctl create` it: it is as the other one has left it.",
                ),
                ("backing_write", _) => Some(
                    "Blocks cannot be written back. They are safe in the cache, and it is tried again by \
                     itself. Repair the backing device, then `wbctl drain` shows whether all is well.",
                ),
                _ => None,
            })
            .collect();
        if self.silent().next().is_some() {
            advice.push(
                "A device that is silent gives neither data nor errors. Whatever needs it waits, and goes on \
                 when it answers; nothing is lost. Look at what lies below it: the server and the way to it \
                 of a network device, the paths of a multipath device, the room in a thin pool; `dmsetup \
                 info` says whether it is suspended.",
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

/// A status line for tests. All its numbers are 0 except these: the `first` ones, `counters`, and `KEY VALUE
/// ...`.
#[doc(hidden)]
pub fn example(first: [u64; 7], counters: u64, named: &str) -> String {
    let first = first.map(|n| n.to_string()).join(" ");
    let counters = [counters; 16].map(|n| n.to_string()).join(" ");
    format!("{first} {counters} 0 {} {named}", named.split_ascii_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_numbers() {
        let line = example(
            [5, 131_072, 1024, 77, 76, 70, 1234],
            3,
            "writeback_threshold 70 nr_cur_batched_writeback 9 state 1 fault 6 steered_by 2 free_segments \
             900 full 1 steering_expired 0 backing_silent_s 31 cache_silent_s 29 written_back 6 later x",
        );
        let s = Status::parse(&line).unwrap();
        assert_eq!((s.cursor_blocks, s.cache_blocks, s.segments, s.dirty_blocks), (5, 131_072, 1024, 1234));
        assert_eq!((s.state, s.free_segments, s.writing_segments), (State::Degraded, Some(900), Some(9)));
        assert_eq!((s.full, s.steering_expired, s.written_back_blocks), (Some(true), Some(false), Some(6)));
        assert_eq!(s.fault.as_deref(), Some("cache_read,backing_write"));
        assert_eq!((s.steered_by, s.writeback_errors), (SteeredBy::Daemon, None));
        assert_eq!((s.options.len(), &s.options["writeback_threshold"]), (1, &70.into()));
        assert_eq!((s.other.len(), &s.other["later"]), (1, &"x".into()));
        assert_eq!((s.read_hit_percent(), s.write_hit_percent()), (Some(50.0), Some(50.0)));
        let silent: Vec<_> = s.silent().map(|s| s.to_string()).collect();
        assert_eq!(silent, ["the backing device has not answered for 31 s"]);
        let advice = s.advice().join("\n");
        for words in ["neither data nor errors", "from a backup", "wbctl drain", "dmesg"] {
            assert!(advice.contains(words), "{words:?} is not in {advice}");
        }
        let json = serde_json::to_value(&s).unwrap();
        assert_eq!(json["counters"]["write_hit_buffer_full"], 3);
        assert_eq!(json["counters"]["read_miss_device_partial"], 3);
        assert_eq!((&json["state"], &json["steered_by"]), (&"degraded".into(), &"daemon".into()));
    }

    #[test]
    fn c_driver_and_garbage() {
        let s = Status::parse(&example([0; 7], 0, "read_cache_threshold 0")).unwrap();
        assert_eq!((s.state, s.steered_by, s.free_segments), (State::Unknown, SteeredBy::Unknown, None));
        assert_eq!(s.read_hit_percent(), None);
        assert!(s.advice().is_empty() && s.silent().next().is_none());
        assert!(Status::parse("").unwrap_err().contains("cursor_pos"));
        assert!(Status::parse("1 2 x").is_err());
    }
}
