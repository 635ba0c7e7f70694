// SPDX-License-Identifier: GPL-2.0-only

//! Loads for the simulator: generated days, and recordings.

use crate::simulate::Request;

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600;

/// A workload and the cache that it runs against.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its name, for people.
    pub name: String,
    /// Segments of the cache, of 512 KiB.
    pub nr_segments: usize,
    /// Blocks of the backing device.
    pub blocks: u64,
    /// Its requests in order of time.
    pub requests: Vec<Request>,
    /// Its end, in microseconds.
    pub end: u64,
}

/// The distribution of a load's blocks: a few are used often, most rarely, and neighbours together.
#[derive(Clone, Copy)]
struct Spread {
    /// Number of blocks.
    blocks: u64,
    /// 1 if all are used alike; the higher, the fewer are used most.
    power: f64,
    /// Neighbours that are used alike.
    extent: u64,
}

/// xorshift64*, by Marsaglia and Vigna: the same days everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn block(&mut self, spread: &Spread, device: u64) -> u64 {
        let extents = (spread.blocks / spread.extent).max(1);
        let rank = (extents as f64 * self.part().powf(spread.power)) as u64;
        // Ranks are scattered over the device.
        let place = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (device / spread.extent).max(1);
        place * spread.extent + self.next() % spread.extent
    }
}

/// Collects the requests of a load.
struct Day {
    random: Random,
    device: u64,
    requests: Vec<Request>,
}

impl Day {
    fn new(seed: u64, device: u64) -> Self {
        Self { random: Random(seed | 1), device, requests: Vec::new() }
    }

    /// Requests at random moments from second `from` to `to`; `rate` is their average number in each second.
    fn add(&mut self, from: u64, to: u64, write: bool, spread: Spread, rate: impl Fn(u64) -> f64) {
        for second in from..to {
            let expected = rate(second);
            // The whole part, and one more with the probability of the rest.
            let n = expected as u64 + u64::from(self.random.part() < expected.fract());
            for _ in 0..n {
                let at = second * SECOND + self.random.next() % SECOND;
                let block = self.random.block(&spread, self.device);
                self.requests.push(Request { at, block, write });
            }
        }
    }

    /// Sequential reads.
    fn scan(&mut self, from: u64, to: u64, per_s: u64) {
        let mut block = 0;
        for second in from..to {
            for i in 0..per_s {
                self.requests.push(Request { at: second * SECOND + i * SECOND / per_s, block, write: false });
                // A scan reads files, and not every file is in one piece.
                block = if self.random.next().is_multiple_of(32) {
                    self.random.next() % self.device
                } else {
                    block + 1
                };
            }
        }
    }

    fn load(mut self, name: &str, nr_segments: usize, seconds: u64) -> Load {
        self.requests.sort_by_key(|r| r.at);
        Load {
            name: name.to_owned(),
            nr_segments,
            blocks: self.device,
            requests: self.requests,
            end: seconds * SECOND,
        }
    }
}

/// All generated loads, each shortened to a part `scale` of it, from 0 to 1.
pub fn generated(scale: f64) -> Vec<Load> {
    let hours = |h: f64| (h * HOUR as f64 * scale) as u64;
    // A disk of 64 GiB.
    let device = 16 << 20;
    let mut loads = Vec::new();

    // Users come at eight and leave at six; a backup reads everything at night.
    let mut day = Day::new(1, device);
    let end = hours(24.0);
    let at_work = |s: u64| {
        let hour = s as f64 / end.max(1) as f64 * 24.0;
        if (8.0..18.0).contains(&hour) {
            ((hour - 8.0) / 10.0 * std::f64::consts::PI).sin()
        } else {
            0.0
        }
    };
    let files = Spread { blocks: 1 << 20, power: 3.0, extent: 16 };
    day.add(0, end, true, files, |s| 0.2 + 40.0 * at_work(s));
    day.add(0, end, false, Spread { power: 1.5, ..files }, |s| 25.0 * at_work(s));
    day.scan(hours(2.0), hours(4.0), 60);
    loads.push(day.load("office", 1024, end));

    // Reads all the time, small hot tables, and a checkpoint each quarter of an hour.
    let mut day = Day::new(2, device);
    let end = hours(8.0);
    let tables = Spread { blocks: 1 << 19, power: 4.0, extent: 4 };
    day.add(0, end, true, tables, |s| if s % 900 < 20 { 600.0 } else { 50.0 });
    day.add(0, end, false, Spread { blocks: 4 << 20, power: 1.2, extent: 4 }, |_| 25.0);
    loads.push(day.load("database", 1024, end));

    // Nothing, and then much at once: each burst is half of the cache.
    let mut day = Day::new(3, device);
    let end = hours(12.0);
    let all = Spread { blocks: 4 << 20, power: 1.0, extent: 4 };
    day.add(0, end, true, all, |s| if s % 2400 < 120 { 550.0 } else { 1.0 });
    day.add(0, end, false, all, |s| if s / 1200 % 2 == 0 { 15.0 } else { 0.0 });
    loads.push(day.load("bursts", 1024, end));

    // About as much as the disk can take in the long run.
    let mut day = Day::new(4, device);
    let end = hours(6.0);
    day.add(0, end, true, Spread { blocks: 2 << 20, power: 1.5, extent: 8 }, |_| 90.0);
    day.add(0, end, false, all, |s| if s / 600 % 3 == 0 { 30.0 } else { 8.0 });
    loads.push(day.load("near the limit", 512, end));

    // Hardly any load, except an evening of watching films.
    let mut day = Day::new(5, device);
    let end = hours(24.0);
    day.add(0, end, true, files, |s| if s % 3600 < 60 { 80.0 } else { 0.1 });
    day.scan(hours(19.0), hours(22.0), 20);
    day.add(hours(17.0), hours(23.0), false, files, |_| 3.0);
    loads.push(day.load("at home", 256, end));
    loads
}

/// Reads a recording: a line for each request, `MILLISECONDS,R or W,FIRST BLOCK,BLOCKS` in order of time,
/// with blocks of 4 KiB. Empty lines and those that begin with `#` are ignored.
///
/// # Errors
/// The fault, and its line.
pub fn recorded(text: &str, name: &str, nr_segments: usize) -> Result<Load, String> {
    let mut requests = Vec::new();
    let mut most = 0;
    let mut last = 0;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what} in {line:?}", i + 1);
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [at, op, first, blocks] = fields[..] else { return Err(wrong("not four fields")) };
        let at: f64 = at.parse().map_err(|_| wrong("no time"))?;
        let write = match op {
            "R" | "r" => false,
            "W" | "w" => true,
            _ => return Err(wrong("neither R nor W")),
        };
        let first: u64 = first.parse().map_err(|_| wrong("no block"))?;
        let blocks: u64 = blocks.parse().map_err(|_| wrong("no number of blocks"))?;
        if !at.is_finite() || at < 0.0 || blocks == 0 || blocks > 1 << 20 || first > u64::MAX - blocks {
            return Err(wrong("out of range"));
        }
        let at = (at * 1000.0) as u64;
        if at < last {
            return Err(wrong("earlier than the line before"));
        }
        last = at;
        most = most.max(first + blocks);
        requests.extend((first..first + blocks).map(|block| Request { at, block, write }));
    }
    if requests.is_empty() {
        return Err("there is no request in it".to_owned());
    }
    Ok(Load { name: name.to_owned(), nr_segments, blocks: most, requests, end: last + 60 * SECOND })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_the_same_each_time_and_in_order() {
        let (a, b) = (generated(0.01), generated(0.01));
        assert_eq!(a.len(), 5);
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.requests, b.requests);
            assert!(a.requests.windows(2).all(|w| w[0].at <= w[1].at));
            assert!(a.requests.iter().all(|r| r.block < a.blocks + 64 && r.at < a.end + SECOND));
            assert!(a.requests.iter().any(|r| r.write), "{}", a.name);
        }
    }

    #[test]
    fn the_recording_that_is_kept() {
        let load = recorded(include_str!("../loads/ext4.csv"), "ext4", 64).unwrap();
        let writes = load.requests.iter().filter(|r| r.write).count();
        assert!(load.requests.len() > 10_000 && writes > 5000 && writes < load.requests.len());
    }

    #[test]
    fn recordings() {
        let load = recorded("# a comment\n0,W,10,2\n\n1.5, r, 4, 1\n", "x", 16).unwrap();
        let at = |at, block, write| Request { at, block, write };
        assert_eq!(load.requests, [at(0, 10, true), at(0, 11, true), at(1500, 4, false)]);
        assert_eq!(load.blocks, 12);
        for (bad, words) in [
            ("", "no request"),
            ("0,W,1", "line 1: not four fields"),
            ("0,W,1,1\nx,W,1,1", "line 2: no time"),
            ("0,X,1,1", "neither R nor W"),
            ("0,W,-1,1", "no block"),
            ("0,W,1,0", "out of range"),
            ("5,W,1,1\n4,W,1,1", "line 2: earlier"),
        ] {
            assert!(recorded(bad, "x", 16).unwrap_err().contains(words), "{bad:?}");
        }
    }
}
