// SPDX-License-Identifier: GPL-2.0-only

//! A model of a volume, its backing device and its users, to compare policies on days of load in seconds.
//!
//! What is modelled: a disk with one head (seek by distance, rotation, transfer; reads go before writes, but not for ever), the log
//! as a ring of segments that is freed from its tail, overwrites that make older versions superfluous, passes of writeback as the
//! target does them (the oldest segments, sorted, in parts of at most 256 blocks, neighbours merged), and writes that wait for room
//! when there is none. What is not: the cache device, which is taken to be infinitely fast; relocation; commits; what else the
//! backing device is used for. All of it is deterministic.

use crate::control::{Controller, Decision, Observation, Tuning};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

/// Data blocks of a segment: 128, and one of them is a header.
const SEGMENT_BLOCKS: u32 = 127;
/// Blocks that are written back together.
const CHUNK: usize = 256;
/// Segments that stay free.
const RESERVED: usize = 4;
/// A second, in the unit of time: microseconds.
const SECOND: u64 = 1_000_000;
/// Writes that may be passed by reads, until one gets its turn: as Linux's mq-deadline has it.
const STARVED: u32 = 2;

/// One request of a user, of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When, in microseconds.
    pub at: u64,
    /// Block on the backing device.
    pub block: u64,
    /// Whether it is a write.
    pub write: bool,
}

/// A disk with one head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disk {
    /// Blocks that it has.
    pub blocks: u64,
    /// A seek to the next track and across all of it, in microseconds.
    pub seek_us: (f64, f64),
    /// A whole turn, in microseconds.
    pub turn_us: f64,
    /// Transfer of a block, in microseconds.
    pub block_us: f64,
}

impl Disk {
    /// A hard disk with 7,200 turns a minute: 4.2 ms for half a turn, 200 MB/s.
    pub fn hard_disk(blocks: u64) -> Self {
        Self { blocks, seek_us: (500.0, 9000.0), turn_us: 8333.0, block_us: 20.0 }
    }

    /// How long a request of `len` blocks takes; `noise` from 0 to 1 is where the disk happens to stand.
    fn service(&self, head: u64, block: u64, len: u64, noise: f64) -> u64 {
        let transfer = self.block_us * len as f64;
        if block == head {
            return transfer as u64;
        }
        let distance = block.abs_diff(head) as f64 / self.blocks.max(1) as f64;
        let seek = self.seek_us.0 + (self.seek_us.1 - self.seek_us.0) * distance.sqrt();
        (seek + self.turn_us * noise + transfer) as u64
    }
}

/// Who decides about writeback.
#[derive(Debug, Clone)]
pub enum Policy {
    /// Options that never change: a threshold in percent of utilisation.
    Fixed(u32),
    /// The target's own.
    BuiltIn,
    /// wbdaemon's.
    Steered(Tuning),
}

impl Policy {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Policy::Fixed(0) => "never until full".to_owned(),
            Policy::Fixed(100) => "always".to_owned(),
            Policy::Fixed(n) => format!("fixed {n} %"),
            Policy::BuiltIn => "built-in".to_owned(),
            Policy::Steered(_) => "wbdaemon".to_owned(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Milliseconds that reads of the backing device took, sorted.
    pub reads_ms: Vec<f64>,
    /// Seconds in which some write waited for room.
    pub full_s: f64,
    /// Longest time that a write waited for room, in milliseconds.
    pub longest_wait_ms: f64,
    /// Blocks that users have written, and those of them that were written back.
    pub user_blocks: u64,
    /// Blocks written back.
    pub written_back: u64,
    /// Blocks that were dirty and overwritten, and so never written back.
    pub overwritten: u64,
    /// Blocks that are dirty at the end.
    pub dirty: u64,
    /// Messages that were said to the target.
    pub messages: u64,
    /// What was seen from time to time.
    pub history: Vec<Point>,
}

/// How it was at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// In seconds.
    pub at_s: f64,
    /// Part of the cache that was dirty, and part of the log that was in use.
    pub dirty: f64,
    /// See `dirty`.
    pub used: f64,
    /// Reads of the backing device, and blocks written back, a second.
    pub reads: f64,
    /// See `reads`.
    pub written_back: f64,
}

impl Outcome {
    /// The time that so many percent of the reads took at most, in milliseconds; 0 without reads.
    pub fn read_ms(&self, percent: f64) -> f64 {
        let n = self.reads_ms.len();
        if n == 0 {
            return 0.0;
        }
        self.reads_ms[((n as f64 * percent / 100.0) as usize).min(n - 1)]
    }
}

/// A part of a pass: sorted blocks, as runs of neighbours, of which each is a request.
#[derive(Debug, Default)]
struct Chunk {
    runs: VecDeque<(u64, u64)>,
    /// Blocks, and the version of each that is being written.
    blocks: Vec<(u64, u64)>,
}

/// A segment of the simulated log.
struct SimulatedSegment {
    /// Blocks that were written into it, with their versions.
    blocks: Vec<(u64, u64)>,
    dirty: u32,
}

/// What the disk is doing.
enum Doing {
    Read { arrived: u64 },
    Write,
}

/// Simulates a volume.
pub struct Volume<'a> {
    disk: Disk,
    nr_segments: usize,
    policy: &'a Policy,
    controller: Option<Controller>,
    decision: Option<Decision>,
    /// Oldest first; the last one is the head.
    log: VecDeque<SimulatedSegment>,
    /// Number of the first segment of `log` since the beginning.
    first: u64,
    /// Of each dirty block: its newest version, and the segment of that.
    dirty: HashMap<u64, (u64, u64)>,
    /// Blocks that the cache can answer for: dirty or not yet freed.
    cached: HashMap<u64, u64>,
    version: u64,
    waiting: VecDeque<(u64, u64)>,
    reads: VecDeque<(u64, u64)>,
    chunk: Chunk,
    batch: VecDeque<(u64, u64)>,
    doing: Option<Doing>,
    head: u64,
    starved: u32,
    random: u64,
    /// Within this second.
    busy_us: u64,
    second: Second,
    utilisation: f64,
    idle: bool,
    /// When the next part may be written, with a limit.
    due: u64,
    out: Outcome,
}

#[derive(Default)]
struct Second {
    reads: u64,
    read_us: u64,
    writes: u64,
    written_back: u64,
    user_blocks: u64,
    requests: u64,
    full: bool,
}

impl<'a> Volume<'a> {
    /// One with a cache of so many segments, under a policy.
    pub fn new(disk: Disk, nr_segments: usize, policy: &'a Policy) -> Self {
        let controller = match policy {
            Policy::Steered(tuning) => Some(Controller::new(tuning.clone())),
            _ => None,
        };
        Self {
            disk,
            nr_segments,
            policy,
            controller,
            decision: None,
            log: VecDeque::from([SimulatedSegment { blocks: Vec::new(), dirty: 0 }]),
            first: 0,
            dirty: HashMap::new(),
            cached: HashMap::new(),
            version: 0,
            waiting: VecDeque::new(),
            reads: VecDeque::new(),
            chunk: Chunk::default(),
            batch: VecDeque::new(),
            doing: None,
            head: 0,
            starved: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            busy_us: 0,
            second: Second::default(),
            utilisation: 0.0,
            idle: true,
            due: 0,
            out: Outcome::default(),
        }
    }

    /// Lives through all requests, which are in order of time, and until `end`, in microseconds.
    pub fn run(mut self, requests: impl Iterator<Item = Request>, end: u64) -> Outcome {
        let mut requests = requests.peekable();
        // When the disk is done with what it is doing.
        let mut done: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
        let mut tick = SECOND;
        let mut now = 0;
        loop {
            let next = requests.peek().map_or(u64::MAX, |r| r.at);
            let disk = done.peek().map_or(u64::MAX, |d| d.0);
            let due = if self.doing.is_none() && self.due > 0 { self.due.max(now) } else { u64::MAX };
            now = next.min(disk).min(tick).min(due);
            if now >= end {
                break;
            }
            if disk == now {
                done.pop();
                self.finish(now);
            } else if tick == now {
                self.tick(now);
                tick += SECOND;
            } else if next == now {
                let Some(r) = requests.next() else { break };
                self.request(r);
            }
            if due == now {
                self.due = 0;
            }
            if self.doing.is_none() {
                if let Some(us) = self.begin(now) {
                    self.busy_us += us;
                    done.push(Reverse(now + us.max(1)));
                }
            }
        }
        self.out.reads_ms.sort_by(f64::total_cmp);
        self.out.dirty = self.dirty.len() as u64;
        self.out
    }

    fn free(&self) -> usize {
        self.nr_segments.saturating_sub(self.log.len())
    }

    fn is_full(&self) -> bool {
        let head_is_full = self.log.back().is_none_or(|s| s.blocks.len() as u32 >= SEGMENT_BLOCKS);
        head_is_full && self.free() <= RESERVED
    }

    fn request(&mut self, r: Request) {
        self.second.requests += 1;
        if r.write {
            self.second.user_blocks += 1;
            self.out.user_blocks += 1;
            if self.is_full() || !self.waiting.is_empty() {
                self.waiting.push_back((r.at, r.block));
            } else {
                self.store(r.block);
            }
        } else if !self.cached.contains_key(&r.block) {
            self.reads.push_back((r.at, r.block));
        }
    }

    fn store(&mut self, block: u64) {
        if self.log.back().is_none_or(|s| s.blocks.len() as u32 >= SEGMENT_BLOCKS) {
            self.log.push_back(SimulatedSegment { blocks: Vec::new(), dirty: 0 });
        }
        self.version += 1;
        let segment = self.first + self.log.len() as u64 - 1;
        if let Some((_, old)) = self.dirty.insert(block, (self.version, segment)) {
            self.out.overwritten += 1;
            self.log[(old - self.first) as usize].dirty -= 1;
        }
        self.cached.insert(block, segment);
        if let Some(head) = self.log.back_mut() {
            head.blocks.push((block, self.version));
            head.dirty += 1;
        }
    }

    /// Frees the oldest segments that have nothing dirty, but not the head.
    fn move_tail(&mut self, now: u64) {
        while self.log.len() > 1 && self.log[0].dirty == 0 {
            if let Some(freed) = self.log.pop_front() {
                for (block, _) in freed.blocks {
                    if self.cached.get(&block) == Some(&self.first) {
                        self.cached.remove(&block);
                    }
                }
            }
            self.first += 1;
        }
        while !self.is_full() {
            let Some((at, block)) = self.waiting.pop_front() else { break };
            self.out.longest_wait_ms = self.out.longest_wait_ms.max((now - at) as f64 / 1000.0);
            self.store(block);
        }
    }

    /// What the disk does next, and how long that takes.
    fn begin(&mut self, now: u64) -> Option<u64> {
        let writes = !self.chunk.runs.is_empty() || self.next_chunk(now);
        let read_first = !self.reads.is_empty() && (!writes || self.starved < STARVED);
        // Half a turn on average; less for sorted writes, of which the disk can choose.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let noise = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        if read_first {
            let (arrived, block) = self.reads.pop_front()?;
            self.starved += u32::from(writes);
            let us = self.disk.service(self.head, block, 1, noise);
            self.head = block + 1;
            self.doing = Some(Doing::Read { arrived });
            return Some(us);
        }
        let (block, len) = self.chunk.runs.pop_front()?;
        self.starved = 0;
        let us = self.disk.service(self.head, block, len, noise);
        self.head = block + len;
        self.doing = Some(Doing::Write);
        Some(us)
    }

    fn finish(&mut self, now: u64) {
        match self.doing.take() {
            Some(Doing::Read { arrived }) => {
                self.second.reads += 1;
                self.second.read_us += now - arrived;
                self.out.reads_ms.push((now - arrived) as f64 / 1000.0);
            }
            Some(Doing::Write) => {
                self.second.writes += 1;
                if self.chunk.runs.is_empty() {
                    self.end_chunk(now);
                }
            }
            None => (),
        }
    }

    fn end_chunk(&mut self, now: u64) {
        for (block, version) in std::mem::take(&mut self.chunk.blocks) {
            self.second.written_back += 1;
            self.out.written_back += 1;
            if let Some(&(newest, segment)) = self.dirty.get(&block) {
                if newest == version {
                    self.dirty.remove(&block);
                    self.log[(segment - self.first) as usize].dirty -= 1;
                }
            }
        }
        self.move_tail(now);
    }

    /// Takes the next part of the pass, or begins one, if that is wanted.
    fn next_chunk(&mut self, now: u64) -> bool {
        let urgent = self.is_full() || !self.waiting.is_empty();
        let (threshold, batch, limit) = match (&self.policy, self.decision) {
            (Policy::Fixed(n), _) => (Some(*n), None, 0),
            (Policy::Steered(_), Some(d)) => (
                Some(d.writeback_threshold),
                Some(d.nr_max_batched_writeback as usize),
                d.writeback_rate_limit,
            ),
            _ => (None, None, 0),
        };
        let built_in = self.idle || self.free() * 8 < self.nr_segments * 3;
        let begins = urgent
            || match threshold {
                Some(100) => true,
                Some(n) => self.utilisation * 100.0 < f64::from(n),
                None => built_in,
            };
        let goes_on = urgent || threshold.map_or(built_in, |n| n != 0);
        if !self.batch.is_empty() && !goes_on {
            self.batch.clear();
        }
        if self.batch.is_empty() {
            if !begins || self.dirty.is_empty() {
                return false;
            }
            let small = (self.nr_segments / 256).clamp(1, 32);
            let most = batch.unwrap_or(if urgent { small } else { 256 });
            let mut items = Vec::new();
            let mut segments = 0;
            for segment in &self.log {
                if segments == most {
                    break;
                }
                let before = items.len();
                items.extend(
                    segment.blocks.iter().filter(|(b, v)| self.dirty.get(b).is_some_and(|d| d.0 == *v)),
                );
                segments += usize::from(items.len() > before);
            }
            items.sort_unstable();
            self.batch = items.into();
        }
        let limit = if urgent { 0 } else { limit };
        if limit != 0 && now < self.due {
            return false;
        }
        let most = if limit == 0 { CHUNK } else { (limit as usize / 16).clamp(1, CHUNK) };
        while self.chunk.blocks.len() < most {
            let Some((block, version)) = self.batch.pop_front() else { break };
            if self.dirty.get(&block).is_none_or(|d| d.0 != version) {
                continue;
            }
            self.chunk.blocks.push((block, version));
            match self.chunk.runs.back_mut() {
                Some((first, len)) if *first + *len == block => *len += 1,
                _ => self.chunk.runs.push_back((block, 1)),
            }
        }
        if limit != 0 {
            let cost = self.chunk.blocks.len() as u64 * 4 * SECOND / u64::from(limit);
            self.due = self.due.max(now) + cost;
        }
        !self.chunk.runs.is_empty()
    }

    fn tick(&mut self, now: u64) {
        let s = std::mem::take(&mut self.second);
        self.utilisation = (self.busy_us as f64 / SECOND as f64).min(1.0);
        // What is still under way counts in the second in which it ends.
        self.busy_us = self.busy_us.saturating_sub(SECOND);
        self.idle = s.requests == 0;
        let full = s.full || self.is_full() && !self.waiting.is_empty();
        self.out.full_s += f64::from(u8::from(full));
        let cache_blocks = self.nr_segments as u64 * u64::from(SEGMENT_BLOCKS + 1);
        if let Some(controller) = &mut self.controller {
            let decision = controller.step(&Observation {
                seconds: 1.0,
                utilisation: self.utilisation,
                reads_per_s: s.reads as f64,
                writes_per_s: s.writes as f64,
                read_latency_ms: (s.reads > 0).then(|| s.read_us as f64 / s.reads as f64 / 1000.0),
                queue_length: self.reads.len() as f64,
                cache_blocks,
                segments: self.nr_segments as u64,
                free_segments: self.nr_segments.saturating_sub(self.log.len()) as u64,
                dirty_blocks: self.dirty.len() as u64,
                written_back_blocks: s.written_back,
                user_written_blocks: s.user_blocks,
                read_misses: s.reads,
                full,
            });
            if self.decision != Some(decision) {
                self.out.messages += 1;
                self.decision = Some(decision);
                self.due = 0;
            }
        }
        if (now / SECOND).is_multiple_of(60) {
            self.out.history.push(Point {
                at_s: now as f64 / SECOND as f64,
                dirty: self.dirty.len() as f64 / cache_blocks as f64,
                used: self.log.len() as f64 / self.nr_segments as f64,
                reads: s.reads as f64,
                written_back: s.written_back as f64,
            });
        }
        // The target looks once a second whether there is something to do.
        self.move_tail(now);
    }
}

/// The sum by which policies are compared on one load: the 99th percentile of reads, the time full and the blocks written back (what
/// is dirty in the end included, which somebody has to write back), each as a part of the worst policy's. From 0, the best, to 3.
pub fn scores(outcomes: &[Outcome]) -> Vec<f64> {
    let measures: [fn(&Outcome) -> f64; 3] =
        [|o| o.read_ms(99.0), |o| o.full_s, |o| (o.written_back + o.dirty) as f64];
    let mut scores = vec![0.0; outcomes.len()];
    for measure in measures {
        let worst = outcomes.iter().map(measure).fold(0.0, f64::max);
        if worst > 0.0 {
            for (score, outcome) in scores.iter_mut().zip(outcomes) {
                *score += measure(outcome) / worst;
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads;

    fn disk() -> Disk {
        Disk::hard_disk(1 << 20)
    }

    fn at(second: f64, block: u64, write: bool) -> Request {
        Request { at: (second * SECOND as f64) as u64, block, write }
    }

    #[test]
    fn nothing_is_lost() {
        for load in loads::generated(0.02) {
            for policy in
                [Policy::Fixed(100), Policy::Fixed(0), Policy::BuiltIn, Policy::Steered(Tuning::default())]
            {
                let run = || {
                    Volume::new(Disk::hard_disk(load.blocks), load.nr_segments, &policy)
                        .run(load.requests.iter().copied(), load.end)
                };
                let o = run();
                // A version that is overwritten while it is written back counts as both.
                assert!(o.user_blocks <= o.written_back + o.overwritten + o.dirty, "{}: {o:?}", load.name);
                assert!(o.written_back + o.dirty <= o.user_blocks, "{}", load.name);
                assert!(o.reads_ms.iter().all(|ms| *ms > 0.0), "{}", load.name);
                assert_eq!(o, run(), "the same each time");
            }
        }
    }

    #[test]
    fn a_disk_alone() {
        // Far apart, one at a time: about as many a second as a real one does.
        let requests = (0..1000).map(|i| at(i as f64 * 0.1, (i * 7_919_000) % (1 << 20), false));
        let o = Volume::new(disk(), 64, &Policy::Fixed(0)).run(requests, 200 * SECOND);
        assert_eq!(o.reads_ms.len(), 1000);
        assert!((6.0..13.0).contains(&o.read_ms(50.0)), "{} ms", o.read_ms(50.0));
        assert_eq!((o.written_back, o.full_s), (0, 0.0));
    }

    #[test]
    fn overwrites_cost_nothing_when_they_wait() {
        let requests = (0..10_000).map(|i| at(i as f64 * 0.01, i % 100, true));
        let o = Volume::new(disk(), 256, &Policy::Fixed(0)).run(requests, 100 * SECOND);
        assert_eq!((o.overwritten, o.dirty, o.written_back), (9900, 100, 0));
    }

    #[test]
    fn a_full_cache_lets_writes_wait() {
        let requests = (0..40_000).map(|i| at(i as f64 * 0.001, (i * 7919) % (1 << 20), true));
        let o = Volume::new(disk(), 32, &Policy::Fixed(0)).run(requests, 400 * SECOND);
        assert!(o.full_s > 10.0 && o.longest_wait_ms > 1000.0, "{o:?}");
        assert_eq!(o.user_blocks, 40_000);
    }

    #[test]
    fn sorting_and_merging_help() {
        let sorted = |n: u64| (0..n).map(move |i| at(0.001 * i as f64, i * 37 % n, true));
        let o = Volume::new(disk(), 256, &Policy::BuiltIn).run(sorted(8000), 60 * SECOND);
        // Neighbours all of them: at the speed of the medium.
        assert_eq!((o.dirty, o.written_back), (0, 8000));
    }

    #[test]
    fn a_limit_is_kept_to() {
        // Quiet, so no limit: as a check that it would be faster without.
        let requests = (0..2000).map(|i| at(0.001 * i as f64, i * 523 % (1 << 20), true));
        let o = Volume::new(disk(), 256, &Policy::Steered(Tuning::default())).run(requests, 300 * SECOND);
        assert_eq!(o.dirty, 0, "idle time is used");
    }

    #[test]
    fn better_than_what_never_changes() {
        let steered = Policy::Steered(Tuning::default());
        let policies = [Policy::Fixed(100), Policy::Fixed(0), Policy::Fixed(70), steered];
        let mut sums = [0.0; 4];
        for load in loads::generated(0.1) {
            let outcomes: Vec<Outcome> = policies
                .iter()
                .map(|p| {
                    Volume::new(Disk::hard_disk(load.blocks), load.nr_segments, p)
                        .run(load.requests.iter().copied(), load.end)
                })
                .collect();
            for (sum, score) in sums.iter_mut().zip(scores(&outcomes)) {
                *sum += score;
            }
        }
        let [always, never, fixed, ours] = sums;
        assert!(ours < always && ours < never && ours < fixed, "{sums:?}");
    }
}
