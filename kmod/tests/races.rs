// SPDX-License-Identifier: GPL-2.0-only

//! The concurrent work of the real volume's threads, in many orders: writers and readers that meet in the
//! same few blocks, the commit thread, writeback, reclaim, workers, and disks whose I/O ends in any order.
//!
//! As in `lives/`, all of it is one simulation whose course a seed decides. Here tasks take turns at each
//! atomic, too, and while they use a block of memory: two tasks that meet in one block end the test. Each
//! sector holds the number of its last write, so that every read can be judged, even if other tasks write the
//! sector meanwhile.
//!
//! `cargo xtask races --seed N` repeats a run that failed, `--runs N` makes so many.

#[allow(dead_code)]
#[path = "sim/rng.rs"]
mod rng;

use rng::Rng;
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use writeboost::format::{Checkpoint, Superblock, BLOCK_SECTORS};
use writeboost::host::plain::{
    pause, simulate, spawn, take_us, Disk, Mapped, MemoryDisk, Request, Result, StatusKind,
};
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

const SECTOR: usize = 512;
/// Blocks per segment and number of segments: the fewest that the format allows.
const SEGMENT_BLOCKS: u32 = 16;
/// Blocks of the volume: few, so that all tasks meet.
const BLOCKS: u64 = 64;
const SECTORS: u64 = BLOCKS * BLOCK_SECTORS;

/// The values that a read may return: those of writes that were not surely overwritten before the read began.
struct Oracle {
    clock: u64,
    /// For each sector: number, begin and, once it is over, end of all writes to it.
    writes: Vec<Vec<(u64, u64, Option<u64>)>>,
    next: u64,
}

impl Oracle {
    fn new() -> Self {
        Self { clock: 0, writes: vec![vec![]; SECTORS as usize], next: 0 }
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, sector: u64, sectors: u64) -> u64 {
        let at = self.now();
        self.next += 1;
        for s in sector..sector + sectors {
            self.writes[s as usize].push((self.next, at, None));
        }
        self.next
    }

    fn end(&mut self, sector: u64, sectors: u64, number: u64) {
        let at = self.now();
        for s in sector..sector + sectors {
            for w in self.writes[s as usize].iter_mut().filter(|w| w.0 == number) {
                w.2 = Some(at);
            }
        }
    }

    /// A read that began at `began` and is over now has found `number` in `sector`.
    fn judge(&mut self, began: u64, sector: u64, number: u64) {
        let now = self.now();
        let writes = &self.writes[sector as usize];
        let (begin, end) = match writes.iter().find(|w| w.0 == number) {
            Some(w) => (w.1, w.2),
            None => {
                assert_eq!(number, 0, "sector {sector} holds what was never written there");
                (0, Some(0))
            }
        };
        assert!(begin <= now);
        let stale = writes.iter().find(|w| {
            end.is_some_and(|end| w.1 > end) && w.2.is_some_and(|over| over < began) && w.0 != number
        });
        assert!(
            stale.is_none(),
            "sector {sector} holds write {number}, which write {:?} had overwritten",
            stale.map(|w| w.0)
        );
    }

    /// Judges all sectors of some bytes.
    fn judge_all(&mut self, began: u64, sector: u64, bytes: &[u8]) {
        for (sector, bytes) in (sector..).zip(bytes.chunks_exact(SECTOR)) {
            let word = bytes.first_chunk::<8>().unwrap();
            assert!(bytes.chunks_exact(8).all(|other| other == word), "sector {sector} holds several writes");
            self.judge(began, sector, u64::from_le_bytes(*word));
        }
    }
}

/// A disk whose I/O ends in any order, with a volatile cache: promised data must be on the medium.
struct Shuffled {
    disk: MemoryDisk,
    /// The contents that surely survive a power cut.
    stable: MemoryDisk,
    random: Mutex<Rng>,
}

impl Shuffled {
    fn new(bytes: Vec<u8>, rng: &mut Rng) -> Arc<Self> {
        let random = Mutex::new(Rng::new(rng.next()));
        Arc::new(Self { disk: MemoryDisk::with(bytes.clone()), stable: MemoryDisk::with(bytes), random })
    }

    fn take_time(&self) {
        let us = self.random.lock().unwrap().below(40);
        if us < 10 {
            pause();
        } else {
            take_us(us);
        }
    }
}

impl Disk for Shuffled {
    fn shape(&self) -> Shape {
        self.disk.shape()
    }

    fn limits(&self) -> Limits {
        self.disk.limits()
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        self.take_time();
        self.disk.read(sector, to)
    }

    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        self.take_time();
        if fua {
            self.stable.write(sector, from, true)?;
        }
        self.disk.write(sector, from, fua)
    }

    fn flush(&self) -> Result {
        let now = self.disk.bytes();
        self.take_time();
        self.stable.write(0, &now, true)
    }
}

/// The contents that a power cut would have left when a flush was over, and the time when that flush had
/// begun.
struct Flushed {
    began: u64,
    stable: [Vec<u8>; 2],
}

/// A volume, with all knowledge about it.
struct World {
    volume: Mapped<Writeboost>,
    disks: [Arc<Shuffled>; 2],
    oracle: Mutex<Oracle>,
    flushed: Mutex<Vec<Flushed>>,
}

/// Number of power cuts that are checked.
const MOST_FLUSHED: usize = 4;

impl World {
    fn flush(&self, rng: &mut Rng) {
        let began = self.oracle.lock().unwrap().now();
        self.volume.flush().unwrap();
        self.is_durable(began, rng);
    }

    /// All writes that were over at `began` must survive a power cut now.
    fn is_durable(&self, began: u64, rng: &mut Rng) {
        let mut flushed = self.flushed.lock().unwrap();
        if flushed.len() < MOST_FLUSHED && rng.one_in(4) {
            let stable = self.disks.each_ref().map(|disk| disk.stable.bytes());
            flushed.push(Flushed { began, stable });
        }
    }
}

/// The volume on these disks.
fn open(disks: &[Arc<Shuffled>; 2], options: &str) -> Mapped<Writeboost> {
    let disks: [(&str, Arc<dyn Disk>); 2] =
        [("/dev/backing", disks[0].clone()), ("/dev/cache", disks[1].clone())];
    let volume = Mapped::create(&disks, &format!("/dev/backing /dev/cache {options}"));
    let volume = volume.unwrap_or_else(|(why, _)| panic!("refused: {why}"));
    volume.resume();
    volume
}

/// A user that writes, or reads, here and there.
fn use_it(world: &World, writes: bool, rng: &mut Rng) {
    let World { volume, oracle, .. } = world;
    for _ in 0..rng.range(15, 30) {
        // Half of the blocks are seldom written, so reads of them come from segments that are about to be
        // opened again.
        let cold = rng.one_in(if writes { 12 } else { 2 });
        let block = rng.below(BLOCKS / 2) + if cold { BLOCKS / 2 } else { 0 };
        let sector = block * BLOCK_SECTORS + if rng.one_in(2) { rng.below(BLOCK_SECTORS) } else { 0 };
        let most = if rng.one_in(2) { 4 } else { 8 * BLOCK_SECTORS };
        let sectors = rng.range(1, most.min(SECTORS - sector));
        if !writes {
            let began = oracle.lock().unwrap().now();
            let bytes = volume.read(sector, sectors).unwrap();
            oracle.lock().unwrap().judge_all(began, sector, &bytes);
            continue;
        }
        let number = oracle.lock().unwrap().begin(sector, sectors);
        let data = number.to_le_bytes().repeat(sectors as usize * SECTOR / 8);
        let request = Request::write(sector, &data);
        let fua = rng.one_in(10);
        let request = if fua { request.fua() } else { request };
        volume.submit(request).wait().unwrap();
        oracle.lock().unwrap().end(sector, sectors, number);
        match rng.below(20) {
            0 | 1 => world.flush(rng),
            2 => take_us(rng.below(3_000_000)),
            _ => (),
        }
    }
}

/// A short life of a volume. Returns counts of what happened.
fn scenario(seed: u64) -> HashMap<String, u64> {
    let rng = &mut Rng::new(seed);
    let cache = Superblock::min_cache_sectors(SEGMENT_BLOCKS);
    let sb = Superblock::new(cache, SECTORS, SEGMENT_BLOCKS, [7; 16], 99).unwrap();
    let first = Checkpoint::first(sb.nonce);
    let mut bytes = vec![0; cache as usize * SECTOR];
    let at = (first.block() * BLOCK_SECTORS) as usize * SECTOR;
    bytes[..SECTOR].copy_from_slice(&sb.encode());
    bytes[at..at + SECTOR].copy_from_slice(&first.encode());
    let backing = Shuffled::new(vec![0; SECTORS as usize * SECTOR], rng);
    let cache = Shuffled::new(bytes, rng);
    let options = rng.pick(&["", "2 writeback_threshold 0", "2 writeback_threshold 100"]);
    let disks = [backing.clone(), cache];
    let (oracle, flushed) = (Mutex::new(Oracle::new()), Mutex::default());
    let world = Arc::new(World { volume: open(&disks, options), disks, oracle, flushed });
    let users: Vec<_> = (0..5)
        .map(|i| {
            let (world, mut rng) = (world.clone(), Rng::new(rng.next()));
            // Three users write, two read.
            spawn("user", move || use_it(&world, i < 3, &mut rng)).unwrap()
        })
        .collect();
    users.into_iter().for_each(|user| user.join());
    let World { volume, oracle, flushed, .. } = Arc::into_inner(world).unwrap();
    volume.message("drop_caches").unwrap();
    let began = oracle.lock().unwrap().now();
    let bytes = volume.read(0, SECTORS).unwrap();
    oracle.lock().unwrap().judge_all(began, 0, &bytes);
    // All data are on the backing disk now, by themselves, and stable.
    oracle.lock().unwrap().judge_all(began, 0, &backing.stable.bytes());
    let status = volume.status(StatusKind::Info);
    volume.remove();
    for Flushed { began, stable } in flushed.into_inner().unwrap() {
        let disks = stable.map(|bytes| Shuffled::new(bytes, rng));
        let volume = open(&disks, "2 writeback_threshold 0");
        let bytes = volume.read(0, SECTORS).unwrap();
        oracle.lock().unwrap().judge_all(began, 0, &bytes);
        volume.kill();
    }
    let words: Vec<&str> = status.split(' ').collect();
    let number = |i: usize| words[i].parse::<u64>().unwrap();
    let mut counts: HashMap<String, u64> = HashMap::new();
    counts.insert("records".into(), number(3));
    // The bios that were mapped, by four bits: write 8, hit 4, in RAM 2, whole blocks 1.
    for (i, name) in [(7 + 6, "ram_reads"), (7 + 4, "cache_reads"), (7 + 1, "backing_reads")] {
        counts.insert(name.into(), number(i) + number(i ^ 1));
    }
    for pair in
        words.windows(2).filter(|pair| ["written_back", "free_segments", "flushes"].contains(&pair[0]))
    {
        counts.insert(pair[0].into(), pair[1].parse().unwrap());
    }
    counts
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

#[test]
fn nobody_meets_anybody_in_a_block() {
    let seeds = match number("WRITEBOOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WRITEBOOST_RUNS").unwrap_or(1500),
    };
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let (all, failure) = (Mutex::new(HashMap::<String, u64>::new()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || failure.lock().unwrap().is_some() {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| simulate(seed, move || scenario(seed)))) {
                    Ok(counts) => {
                        let mut all = all.lock().unwrap();
                        counts.into_iter().for_each(|(name, n)| *all.entry(name).or_default() += n);
                    }
                    Err(_) => *failure.lock().unwrap() = Some(seed),
                }
            });
        }
    });
    if let Some(seed) = failure.into_inner().unwrap() {
        panic!("seed {seed} failed; cargo xtask races --seed {seed} repeats it");
    }
    let (all, runs) = (all.into_inner().unwrap(), seeds.end - seeds.start);
    println!("{runs} lives in {:.1} s: {all:?}", started.elapsed().as_secs_f64());
    if runs > 100 {
        // An event that never happens is not tested.
        for name in ["records", "ram_reads", "cache_reads", "backing_reads", "written_back", "flushes"] {
            assert!(all.get(name).is_some_and(|n| *n != 0), "no {name}: {all:?}");
        }
    }
}
