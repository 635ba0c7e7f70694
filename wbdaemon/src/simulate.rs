// SPDX-License-Identifier: GPL-2.0-only

//! Days of a volume in minutes, to compare policies: the volume itself runs, with all its threads, in a
//! simulation. Its disk and its users are models.
//!
//! The disk has one head (seek by distance, rotation, transfer; reads go before writes, but not for ever).
//! The cache device takes no time. The users send each request of a load at its time, whether or not earlier
//! requests have ended. There is no other load on the disk. Each run of a load gives the same outcome.

use crate::control::{Controller, Decision, Observation, Tuning};
use crate::loads::Load;
use crate::volumes::pairs;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use writeboost::format::{Superblock, BLOCK, BLOCK_SECTORS, DEFAULT_SEGMENT_BLOCKS, MIN_SEGMENTS};
use writeboost::host::plain::{
    self, now_us, simulate, take_us, Event, Mapped, MemoryDisk, Sleep, StatusKind,
};
use writeboost::interface::message::DAEMON;
use writeboost::interface::status::Status;
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

/// A second, in the unit of time: microseconds.
const SECOND: u64 = 1_000_000;
/// Writes that may be passed by reads, until one gets its turn: as Linux's mq-deadline has it.
const STARVED: u32 = 2;
/// Most requests in the queue of the disk: twice Linux's `nr_requests` of a disk, as mq-deadline has it.
const QUEUE: usize = 256;

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

/// The part that decides about writeback.
#[derive(Debug, Clone)]
pub enum Policy {
    /// Options that never change: a threshold in percent of utilisation.
    Fixed(u32),
    /// The target's built-in policy.
    BuiltIn,
    /// wbdaemon's controller.
    Steered(Tuning),
}

impl Policy {
    /// Its name in tables and pictures.
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

/// The outcome of a load under a policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Milliseconds that reads of the backing device took, sorted.
    pub reads_ms: Vec<f64>,
    /// Seconds in which the cache was full and some write was under way.
    pub full_s: f64,
    /// The longest time that a write took, in milliseconds.
    pub longest_wait_ms: f64,
    /// Blocks that users have written.
    pub user_blocks: u64,
    /// Blocks written back.
    pub written_back: u64,
    /// Blocks that were dirty and overwritten, and so never written back.
    pub overwritten: u64,
    /// Blocks that are dirty at the end.
    pub dirty: u64,
    /// Decisions that were sent to the target.
    pub messages: u64,
    /// Observations, one a minute.
    pub history: Vec<Point>,
}

/// The state at a moment.
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

/// The work of the disk within a second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    reads: u64,
    read_us: u64,
    writes: u64,
    busy_us: u64,
}

/// The requests that wait for the disk, and the work that it has done.
#[derive(Default)]
struct Queue {
    is_busy: bool,
    /// Requests that wait, each until its event happens.
    reads: VecDeque<Arc<Event>>,
    writes: VecDeque<Arc<Event>>,
    /// Reads that went before a write that waits.
    starved: u32,
    head: u64,
    random: u64,
    second: Second,
    reads_ms: Vec<f64>,
}

impl Queue {
    /// Where the disk happens to stand, as part of a turn: half a turn on average.
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Forgets the work that was done so far.
    fn forget(&mut self) {
        (self.second, self.reads_ms) = Default::default();
    }

    /// The request whose turn it is.
    fn next(&mut self) -> Option<Arc<Event>> {
        let writes = !self.writes.is_empty();
        if !self.reads.is_empty() && (!writes || self.starved < STARVED) {
            self.starved += u32::from(writes);
            return self.reads.pop_front();
        }
        self.starved = 0;
        self.writes.pop_front()
    }
}

/// The backing device: a disk that keeps no data, because no data is compared here.
struct Backing {
    disk: Disk,
    queue: Mutex<Queue>,
}

impl Backing {
    fn new(disk: Disk) -> Arc<Self> {
        let queue = Queue { random: 0x9e37_79b9_7f4a_7c15, ..Queue::default() };
        Arc::new(Self { disk, queue: Mutex::new(queue) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while it is held")
    }

    /// Takes the time that a request takes.
    fn serve(&self, is_read: bool, sector: u64, bytes: usize) {
        let came = now_us();
        let turn = {
            let mut queue = self.queue();
            let turn = Arc::new(Event::new().expect("an event"));
            match (std::mem::replace(&mut queue.is_busy, true), is_read) {
                (false, _) => turn.notify(),
                (true, true) => queue.reads.push_back(turn.clone()),
                (true, false) => queue.writes.push_back(turn.clone()),
            }
            turn
        };
        while turn.count() == 0 {
            let _ = turn.wait(0, u32::MAX, Sleep::Busy);
        }
        let us = {
            let mut queue = self.queue();
            let (block, blocks) = (sector / BLOCK_SECTORS, (bytes / BLOCK) as u64);
            let (noise, head) = (queue.noise(), std::mem::replace(&mut queue.head, block + blocks));
            self.disk.service(head, block, blocks, noise).max(1)
        };
        take_us(us);
        let mut queue = self.queue();
        queue.second.busy_us += us;
        if is_read {
            let took = now_us() - came;
            queue.second.reads += 1;
            queue.second.read_us += took;
            queue.reads_ms.push(took as f64 / 1000.0);
        } else {
            queue.second.writes += 1;
        }
        let next = queue.next();
        queue.is_busy = next.is_some();
        drop(queue);
        if let Some(next) = next {
            next.notify();
        }
    }
}

impl plain::Disk for Backing {
    fn shape(&self) -> Shape {
        Shape { sectors: self.disk.blocks * BLOCK_SECTORS, ..MemoryDisk::new(1).shape() }
    }

    fn limits(&self) -> Limits {
        MemoryDisk::new(1).limits()
    }

    fn at_a_time(&self) -> usize {
        QUEUE
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> plain::Result {
        self.serve(true, sector, to.len());
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], _fua: bool) -> plain::Result {
        self.serve(false, sector, from.len());
        Ok(())
    }

    fn flush(&self) -> plain::Result {
        Ok(())
    }
}

/// The number of user writes that have not ended, and the longest time that a write took, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Writes {
    under_way: u64,
    longest_us: u64,
}

/// A volume, its disk, its users and its controller.
struct Life {
    volume: Mapped<Writeboost>,
    backing: Arc<Backing>,
    writes: Arc<Mutex<Writes>>,
    data: Vec<u8>,
    controller: Option<Controller>,
    /// The decision that was sent last.
    said: Option<Decision>,
    /// The number of blocks that users had written, and the status, at the last tick.
    before: (u64, Status),
    out: Outcome,
}

/// Runs a volume under a load and a policy.
pub fn live(load: &Load, disk: Disk, policy: &Policy) -> Outcome {
    let (load, policy) = (load.clone(), policy.clone());
    simulate(1, move || Life::new(&load, disk, &policy).run(&load))
}

impl Life {
    fn new(load: &Load, disk: Disk, policy: &Policy) -> Self {
        let backing = Backing::new(disk);
        let segments =
            load.nr_segments.saturating_sub(MIN_SEGMENTS as usize) * DEFAULT_SEGMENT_BLOCKS as usize;
        let sectors = Superblock::min_cache_sectors(DEFAULT_SEGMENT_BLOCKS) as usize;
        let cache = Arc::new(MemoryDisk::new(sectors + segments * BLOCK_SECTORS as usize));
        let options = match policy {
            Policy::Fixed(threshold) => format!("2 writeback_threshold {threshold}"),
            Policy::BuiltIn | Policy::Steered(_) => String::new(),
        };
        let disks: [(&str, Arc<dyn plain::Disk>); 2] = [("backing", backing.clone()), ("cache", cache)];
        let volume = Mapped::create(&disks, &format!("backing cache {options}")).expect("a volume");
        volume.resume();
        // The reads of the start are not the users' reads.
        backing.queue().forget();
        let status = status_of(&volume);
        assert_eq!(status.segments, load.nr_segments as u64);
        let controller = match policy {
            Policy::Steered(tuning) => Some(Controller::new(tuning.clone())),
            _ => None,
        };
        Self {
            volume,
            backing,
            writes: Arc::default(),
            data: vec![0x5a; BLOCK],
            controller,
            said: None,
            before: (0, status),
            out: Outcome::default(),
        }
    }

    fn run(mut self, load: &Load) -> Outcome {
        let begun = now_us();
        let mut requests = load.requests.iter().peekable();
        let mut tick = SECOND;
        loop {
            let next = requests.peek().map_or(u64::MAX, |r| r.at).min(tick);
            if next >= load.end {
                break;
            }
            let now = now_us() - begun;
            if now < next {
                take_us(next - now);
            }
            if next == tick {
                self.tick(tick);
                tick += SECOND;
            } else if let Some(r) = requests.next() {
                self.request(r);
            }
        }
        let status = status_of(&self.volume);
        let mut out = self.out;
        out.dirty = status.dirty_blocks;
        out.written_back = status.named.written_back.unwrap_or(0);
        out.overwritten = out.user_blocks.saturating_sub(out.written_back + out.dirty);
        out.longest_wait_ms =
            self.writes.lock().expect("no panic while it is held").longest_us as f64 / 1000.0;
        out.reads_ms = std::mem::take(&mut self.backing.queue().reads_ms);
        out.reads_ms.sort_by(f64::total_cmp);
        self.volume.kill();
        out
    }

    fn request(&mut self, r: &Request) {
        let sector = r.block * BLOCK_SECTORS;
        if !r.write {
            return self.volume.submit_with(plain::Request::read(sector, BLOCK_SECTORS), |_| ());
        }
        self.out.user_blocks += 1;
        let (writes, came) = (self.writes.clone(), now_us());
        writes.lock().expect("no panic while it is held").under_way += 1;
        self.volume.submit_with(plain::Request::write(sector, &self.data), move |_| {
            let mut writes = writes.lock().expect("no panic while it is held");
            writes.under_way -= 1;
            writes.longest_us = writes.longest_us.max(now_us() - came);
        });
    }

    /// Observes and steers, once a second.
    fn tick(&mut self, now: u64) {
        let status = status_of(&self.volume);
        let (second, waiting) = {
            let mut queue = self.backing.queue();
            (std::mem::take(&mut queue.second), queue.reads.len())
        };
        let full = status.named.full == Some(1);
        let waits = self.writes.lock().expect("no panic while it is held").under_way != 0;
        self.out.full_s += f64::from(u8::from(full && waits));
        let (user_blocks, before) =
            std::mem::replace(&mut self.before, (self.out.user_blocks, status.clone()));
        let since = |of: fn(&Status) -> u64| of(&status).saturating_sub(of(&before));
        let written_back = since(|s| s.named.written_back.unwrap_or(0));
        let free_segments = status.named.free_segments.unwrap_or(0);
        if let Some(controller) = &mut self.controller {
            let decision = controller.step(&Observation {
                seconds: 1.0,
                utilisation: (second.busy_us as f64 / SECOND as f64).min(1.0),
                reads_per_s: second.reads as f64,
                writes_per_s: second.writes as f64,
                read_latency_ms: (second.reads > 0)
                    .then(|| second.read_us as f64 / second.reads as f64 / 1000.0),
                queue_length: waiting as f64,
                cache_blocks: status.cache_blocks,
                segments: status.segments,
                free_segments,
                dirty_blocks: status.dirty_blocks,
                written_back_blocks: written_back,
                user_written_blocks: self.out.user_blocks - user_blocks,
                read_misses: since(|s| s.counters.reads() - s.counters.read_hits()),
                full,
            });
            if self.said != Some(decision) {
                self.out.messages += 1;
                let said = self.said.replace(decision).map(|said| pairs(&said));
                for (i, (key, value)) in pairs(&decision).into_iter().enumerate() {
                    if said.is_none_or(|said| said[i].1 != value) {
                        let message = format!("{key} {value} {DAEMON}");
                        self.volume.message(&message).expect("a message that is known");
                    }
                }
            }
        }
        if (now / SECOND).is_multiple_of(60) {
            self.out.history.push(Point {
                at_s: now as f64 / SECOND as f64,
                dirty: status.dirty_blocks as f64 / status.cache_blocks as f64,
                used: 1.0 - free_segments as f64 / status.segments as f64,
                reads: second.reads as f64,
                written_back: written_back as f64,
            });
        }
    }
}

/// The status of a volume.
fn status_of(volume: &Mapped<Writeboost>) -> Status {
    let line = volume.status(StatusKind::Info);
    Status::parse(&line, |_, _| ()).expect("a status that can be read")
}

/// The sum by which policies are compared on one load: the 99th percentile of reads, the time full and the
/// blocks written back (with those that are dirty in the end, which have yet to be written back), each as a
/// part of the worst policy's. From 0, the best, to 3.
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

    fn at(second: f64, block: u64, write: bool) -> Request {
        Request { at: (second * SECOND as f64) as u64, block, write }
    }

    /// The outcome of these requests, on a disk of 4 GiB, after so many seconds.
    fn lived(
        requests: impl Iterator<Item = Request>,
        nr_segments: usize,
        policy: &Policy,
        seconds: u64,
    ) -> Outcome {
        let (name, blocks, requests) = (String::new(), 1 << 20, requests.collect());
        let load = Load { name, nr_segments, blocks, requests, end: seconds * SECOND };
        live(&load, Disk::hard_disk(blocks), policy)
    }

    #[test]
    fn days_are_lived_the_same_each_time() {
        for load in loads::generated(0.002) {
            for policy in
                [Policy::Fixed(100), Policy::Fixed(0), Policy::BuiltIn, Policy::Steered(Tuning::default())]
            {
                let run = || live(&load, Disk::hard_disk(load.blocks), &policy);
                let o = run();
                let most = o.written_back.max(o.dirty);
                assert!(most != 0 && most <= o.user_blocks, "{}: {most} of {}", load.name, o.user_blocks);
                assert!(o.reads_ms.iter().all(|ms| *ms > 0.0), "{}", load.name);
                assert_eq!(o, run(), "the same each time");
            }
        }
    }

    #[test]
    fn a_disk_alone() {
        // Far apart, one at a time: about as many a second as a real disk does.
        let requests = (0..1000).map(|i| at(i as f64 * 0.1, (i * 7_919_000) % (1 << 20), false));
        let o = lived(requests, 64, &Policy::Fixed(0), 200);
        assert_eq!(o.reads_ms.len(), 1000);
        assert!((6.0..13.0).contains(&o.read_ms(50.0)), "{} ms", o.read_ms(50.0));
        assert_eq!((o.written_back, o.full_s), (0, 0.0));
    }

    #[test]
    fn overwrites_cost_nothing_when_they_wait() {
        let requests = (0..10_000).map(|i| at(i as f64 * 0.01, i % 100, true));
        let o = lived(requests, 256, &Policy::Fixed(0), 101);
        assert_eq!((o.overwritten, o.dirty, o.written_back), (9900, 100, 0));
    }

    #[test]
    fn a_full_cache_lets_writes_wait() {
        let requests = (0..40_000).map(|i| at(i as f64 * 0.001, (i * 7919) % (1 << 20), true));
        let o = lived(requests, 32, &Policy::Fixed(0), 400);
        assert!(o.full_s > 10.0 && o.longest_wait_ms > 1000.0, "{o:?}");
        assert_eq!(o.user_blocks, 40_000);
    }

    #[test]
    fn sorting_and_merging_help() {
        let sorted = |n: u64| (0..n).map(move |i| at(0.001 * i as f64, i * 37 % n, true));
        let o = lived(sorted(8000), 256, &Policy::BuiltIn, 20);
        // All are neighbours, and so are written at the speed of the medium.
        assert_eq!((o.dirty, o.written_back), (0, 8000));
    }

    #[test]
    fn idle_time_is_used() {
        let requests = (0..2000).map(|i| at(0.001 * i as f64, i * 523 % (1 << 20), true));
        let o = lived(requests, 256, &Policy::Steered(Tuning::default()), 300);
        assert_eq!(o.dirty, 0);
    }

    /// Bursts of half of a small cache, and between them only some reads by turns.
    fn bursts() -> impl Iterator<Item = Request> {
        let place = |i: u64| (i * 7_919_123) % (1 << 20);
        let writes = (0..4 * 8000).map(move |i| {
            let (burst, i_of) = (i / 8000, i % 8000);
            at(burst as f64 * 300.0 + i_of as f64 / 550.0, place(i), true)
        });
        let reads = (0..20_000).map(move |i| at(i as f64 * 0.06, place(i * 3), false));
        let mut all: Vec<_> =
            writes.chain(reads.filter(|r| (r.at / (150 * SECOND)).is_multiple_of(2))).collect();
        all.sort_by_key(|r| r.at);
        all.into_iter()
    }

    #[test]
    fn better_than_what_never_changes() {
        let steered = Policy::Steered(Tuning::default());
        let policies = [Policy::Fixed(100), Policy::Fixed(0), Policy::Fixed(70), steered];
        let outcomes: Vec<_> = policies.iter().map(|p| lived(bursts(), 128, p, 1200)).collect();
        let scores = scores(&outcomes);
        let [always, never, fixed, ours] = scores[..] else { panic!("four policies") };
        assert!(ours < always && ours < never && ours < fixed, "{scores:?}");
    }
}
