// SPDX-License-Identifier: GPL-2.0-only

//! The processor time of a volume, with an index of 2^18 slots (a cache of 1 GiB) and of 2^26 (256 GiB): for
//! each block that is written or read, by way of the target and on devices that take no time; and for a
//! replay and the planning of writeback by the engine alone.
//!
//! All blocks that are written and read hold the same bytes, so that no device has to remember any. A time
//! includes the work that a process does in place of a kernel: it makes requests and bios, each with memory
//! of its own.
//!
//! With two threads, a time is what passes from one operation of any thread to the next: were there no lock,
//! it would be half of that with one thread. The volume's own threads, which write back and reclaim, run on
//! the other processors.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use writeboost::engine::reclaim::Batch;
use writeboost::engine::replay::{Replay, Source};
use writeboost::engine::{Engine, Entry, Secret, RESERVED_SEGMENTS};
use writeboost::format::{
    Block, Checkpoint, RecordHeader, Segment, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS,
    DEFAULT_SEGMENT_BLOCKS, FIRST_BLOCK, SECTOR,
};
use writeboost::host::plain::{crc32c, Disk, Mapped, MemoryDisk, Request, Result, StatusKind};
use writeboost::interface::status::Status;
use writeboost::policy::limits::{Limits, Shape};
use writeboost::policy::lost::Loss;
use writeboost::target::Writeboost;

/// The secret of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// Powers of two: how many slots an index has.
const SIZES: [u32; 2] = [18, 26];
const THREADS: [usize; 2] = [1, 2];
const SEGMENT_BLOCKS: u32 = DEFAULT_SEGMENT_BLOCKS;
const NR_BUFFERS: u8 = 8;
const NONCE: u64 = 1;
/// The contents of each block of data.
const DATA: [u8; BLOCK] = [0x5a; BLOCK];

/// A log of which so much of the cache is in use, all of it dirty.
#[derive(Clone)]
struct Log {
    sb: Superblock,
    /// Blocks of the backing device, a power of two: twice as many as there are slots.
    blocks: u64,
    used_segments: u32,
    /// The checksum of each block.
    crc: u32,
}

impl Log {
    /// `percent` of the segments are in use.
    fn new(log_slots: u32, percent: u64) -> Self {
        let blocks = 2u64 << log_slots;
        let nr_segments = (1u64 << log_slots) / u64::from(SEGMENT_BLOCKS);
        let cache = Superblock::min_cache_sectors(SEGMENT_BLOCKS)
            + (nr_segments - 16) * u64::from(SEGMENT_BLOCKS) * BLOCK_SECTORS;
        let sb = Superblock::new(cache, blocks * BLOCK_SECTORS, SEGMENT_BLOCKS, [7; 16], NONCE)
            .expect("sizes that fit");
        assert_eq!(u64::from(sb.nr_segments), nr_segments);
        let used_segments = (nr_segments * percent / 100) as u32;
        Self { sb, blocks, used_segments, crc: crc32c(0, &DATA) }
    }

    /// How many blocks are cached.
    fn cached(&self) -> u64 {
        u64::from(self.used_segments) * u64::from(SEGMENT_BLOCKS - 1)
    }

    /// Address of the block that was written as the `i`th, in no order that any hash or any CPU's cache could
    /// know: `i` goes through a bijection of all blocks. From [`Log::cached`] on, blocks that were never
    /// written.
    fn addr(&self, i: u64) -> Block {
        let (mask, half) = (self.blocks - 1, self.blocks.trailing_zeros() / 2);
        let x = i.wrapping_mul(0xd1b5_4a32_d192_ed03) & mask;
        Block((x ^ x >> half).wrapping_mul(0xaef1_7502_b3e5_4a1b) & mask)
    }

    /// The header of the record that fills a segment.
    fn header(&self, segment: Segment, block: &mut [u8; BLOCK]) {
        let blocks = SEGMENT_BLOCKS as u16 - 1;
        let seq = Seq(u64::from(segment.0) + 1);
        let (durable, tail) = (seq.before(), Seq::FIRST);
        let header = RecordHeader { nonce: NONCE, seq, epoch: 0, durable, tail, blocks };
        let first = u64::from(segment.0) * u64::from(blocks);
        header.encode(block, |i| Entry { addr: self.addr(first + i as u64), mask: 0xff, crc: self.crc });
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { durable: Seq(self.used_segments.into()), ..Checkpoint::first(NONCE) }
    }

    /// Replays the log; `header` fills in that of a segment.
    fn replay(&self, header: impl FnMut(Segment, &mut [u8; BLOCK])) -> Engine {
        let mut replay = Replay::with_secret(&self.sb, self.checkpoint(), NR_BUFFERS, Secret::new(SECRET))
            .expect("memory");
        replay.run(&mut Headers { used_segments: self.used_segments, header }).expect("a whole log");
        let engine = replay.finish().0;
        assert_eq!(engine.state().dirty, self.cached());
        engine
    }

    fn engine(&self) -> Engine {
        self.replay(|segment, block| self.header(segment, block))
    }
}

/// A log that consists of headers.
struct Headers<F> {
    used_segments: u32,
    header: F,
}

impl<F: FnMut(Segment, &mut [u8; BLOCK])> Source for Headers<F> {
    type Error = ();

    fn read<R>(
        &mut self,
        slot: Slot,
        _blocks: u32,
        f: impl FnOnce(&[u8]) -> R,
    ) -> std::result::Result<std::result::Result<R, Loss>, ()> {
        let mut block = [0; BLOCK];
        let segment = slot.segment(SEGMENT_BLOCKS);
        if slot.offset(SEGMENT_BLOCKS) == 0 && segment.0 < self.used_segments {
            (self.header)(segment, &mut block);
        }
        Ok(Ok(f(&block)))
    }
}

/// A generator of numbers for one thread (xorshift64*, Vigna 2016).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(n)) >> 64) as u64
    }
}

/// The first blocks of a cache device, as far as they were written: superblock and checkpoints.
type Start = Mutex<HashMap<u64, [u8; BLOCK]>>;

/// A device that takes no time. Its blocks hold [`DATA`], apart from those that `log` knows.
struct Device {
    sectors: u64,
    /// The log and the first blocks, if it is a cache device.
    log: Option<(Log, Start)>,
}

impl Device {
    fn backing(log: &Log) -> Arc<dyn Disk> {
        Arc::new(Self { sectors: log.blocks * BLOCK_SECTORS, log: None })
    }

    fn cache(log: &Log) -> Arc<dyn Disk> {
        let mut start = HashMap::new();
        let checkpoint = log.checkpoint();
        for (block, sector) in [(0, log.sb.encode()), (checkpoint.block(), checkpoint.encode())] {
            let mut bytes = [0; BLOCK];
            bytes[..SECTOR].copy_from_slice(&sector);
            start.insert(block, bytes);
        }
        Arc::new(Self { sectors: log.sb.cache_sectors(), log: Some((log.clone(), Mutex::new(start))) })
    }
}

impl Disk for Device {
    fn shape(&self) -> Shape {
        Shape { sectors: self.sectors, ..MemoryDisk::new(1).shape() }
    }

    fn limits(&self) -> Limits {
        MemoryDisk::new(1).limits()
    }

    fn at_a_time(&self) -> usize {
        0
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        for (block, to) in (sector / BLOCK_SECTORS..).zip(to.chunks_exact_mut(BLOCK)) {
            let to: &mut [u8; BLOCK] = to.try_into().expect("a whole block");
            let slot = block.checked_sub(FIRST_BLOCK.into()).map(|slot| Slot(slot as u32));
            match (&self.log, slot) {
                (Some((_, start)), None) => {
                    let start = start.lock().expect("no panic while it is held");
                    *to = start.get(&block).copied().unwrap_or([0; BLOCK]);
                }
                // Only a replay reads headers, and it finds none but those of the log.
                (Some((log, _)), Some(slot)) if slot.offset(SEGMENT_BLOCKS) == 0 => {
                    let segment = slot.segment(SEGMENT_BLOCKS);
                    to.fill(0);
                    if segment.0 < log.used_segments {
                        log.header(segment, to);
                    }
                }
                _ => *to = DATA,
            }
        }
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], _fua: bool) -> Result {
        let block = sector / BLOCK_SECTORS;
        if let (Some((_, start)), Some(bytes), true) =
            (&self.log, from.first_chunk(), block < FIRST_BLOCK.into())
        {
            start.lock().expect("no panic while it is held").insert(block, *bytes);
        }
        Ok(())
    }

    fn flush(&self) -> Result {
        Ok(())
    }
}

/// A volume.
struct Volume(Mapped<Writeboost>);

impl Volume {
    /// Opens a volume with this log, which writes back only what it must.
    fn open(log: &Log) -> Self {
        let disks = [("backing", Device::backing(log)), ("cache", Device::cache(log))];
        let volume = Mapped::create(&disks, "backing cache 2 writeback_threshold 0").expect("a volume");
        volume.resume();
        let volume = Self(volume);
        assert_eq!(volume.status().dirty_blocks, log.cached());
        volume
    }

    fn status(&self) -> Status {
        Status::parse(&self.0.status(StatusKind::Info), |_, _| ()).expect("a status that can be read")
    }

    /// Writes one block.
    fn write(&self, addr: Block) {
        self.0.write(addr.first_sector(), &DATA).expect("a write");
    }

    /// Reads one block.
    fn read(&self, addr: Block) {
        let read = self.0.submit(Request::read(addr.first_sector(), BLOCK_SECTORS)).wait();
        black_box(read.expect("a read"));
    }
}

/// How long `n` operations take that `threads` threads share.
fn timed(threads: usize, n: u64, op: impl Fn(&mut Rng) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let (barrier, op) = (&barrier, &op);
                let share = n / threads as u64 + u64::from(thread < n % threads as u64);
                // Other numbers in each sample, or the second one would find everything in the CPU's cache.
                let mut rng = Rng(n ^ (thread + 1) << 48 | 1);
                scope.spawn(move || {
                    barrier.wait();
                    (0..share).for_each(|_| op(&mut rng));
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        handles.into_iter().for_each(|handle| handle.join().expect("a thread ends"));
        started.elapsed()
    })
}

/// Benches `op` with one thread and with two.
fn on_threads(group: &mut BenchmarkGroup<WallTime>, size: u32, op: impl Fn(&mut Rng) + Sync) {
    group.throughput(Throughput::Elements(1));
    for threads in THREADS {
        let id = BenchmarkId::new(format!("2^{size} slots"), format!("threads: {threads}"));
        group.bench_function(id, |b| b.iter_custom(|n| timed(threads, n, &op)));
    }
}

fn read(c: &mut Criterion) {
    for size in SIZES {
        let log = Log::new(size, 75);
        let volume = Volume::open(&log);
        on_threads(&mut c.benchmark_group("read of a cached block"), size, |rng| {
            volume.read(log.addr(rng.below(log.cached())));
        });
        let hits = volume.status().counters.read_hits();
        let never = log.blocks - log.cached();
        on_threads(&mut c.benchmark_group("read of a block that is not cached"), size, |rng| {
            volume.read(log.addr(log.cached() + rng.below(never)));
        });
        let counters = volume.status().counters;
        assert!(counters.read_hits() == hits && counters.reads() >= hits);
    }
}

fn write(c: &mut Criterion) {
    for size in SIZES {
        let log = Log::new(size, 75);
        let volume = Volume::open(&log);
        // Of the backing device's blocks, half as many as there are slots; so the cache is full before long,
        // and what writeback and the tail cost is in it.
        let half = log.blocks / 4;
        on_threads(&mut c.benchmark_group("random write, with writeback"), size, |rng| {
            volume.write(log.addr(rng.below(half)));
        });
        on_threads(&mut c.benchmark_group("random write and flush"), size, |rng| {
            volume.write(log.addr(rng.below(half)));
            volume.0.flush().expect("a flush");
        });
        let status = volume.status();
        let free = status.named.free_segments.expect("the module reports them");
        assert!(status.current_id > 0 && free < u64::from(log.sb.nr_segments - RESERVED_SEGMENTS));
    }
}

fn reclaim(c: &mut Criterion) {
    let mut group = c.benchmark_group("planning of writeback, per block");
    for size in SIZES {
        let engine = Log::new(size, 75).engine();
        let mut batch = Batch::new(64 * (SEGMENT_BLOCKS as usize - 1)).expect("memory");
        group.throughput(Throughput::Elements(64 * u64::from(SEGMENT_BLOCKS - 1)));
        group.bench_function(BenchmarkId::from_parameter(format!("2^{size} slots, 64 segments")), |b| {
            b.iter(|| {
                engine.begin_batch(&mut batch);
                while engine.plan_writeback(&mut batch, Seq::MAX) {}
                batch.sort();
                assert_eq!(batch.segments(), 64);
            });
        });
    }
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay, with what it takes to make the index");
    let log = Log::new(18, 90);
    let mut headers = vec![[0; BLOCK]; log.used_segments as usize];
    for (segment, block) in headers.iter_mut().enumerate() {
        log.header(Segment(segment as u32), block);
    }
    group.throughput(Throughput::Elements(log.cached()));
    group.sample_size(20);
    group.bench_function("2^18 slots, 90 % of them in use", |b| {
        b.iter(|| log.replay(|segment, block| *block = headers[segment.index()]));
    });
}

fn main() {
    let mut c = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    for bench in [read, write, reclaim, replay] {
        bench(&mut c);
    }
    c.final_summary();
}
