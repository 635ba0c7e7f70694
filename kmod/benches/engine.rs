// SPDX-License-Identifier: GPL-2.0-only

//! What the engine itself costs, without any I/O and without copying data: for each block that is written or
//! read, or in a replay, with an index of 2^18 slots (a cache of 1 GiB) and of 2^26 (256 GiB).
//!
//! With two threads, a time is what passes from one operation of any thread to the next: were there no lock,
//! it would be half of that with one thread.

use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use writeboost::engine::checks::Checks;
use writeboost::engine::log::{Io, Refused, Wait};
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::Batch;
use writeboost::engine::replay::{Replay, Want};
use writeboost::engine::{Chains, Engine, Entry, Secret, RESERVED_SEGMENTS};
use writeboost::format::{
    Block, Checkpoint, RecordHeader, Segment, Seq, Superblock, BLOCK, BLOCK_SECTORS, DEFAULT_SEGMENT_BLOCKS,
};
use writeboost::host::Shared;

/// Of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// Powers of two: how many slots an index has.
const SIZES: [u32; 2] = [18, 26];
const THREADS: [usize; 2] = [1, 2];
const SEGMENT_BLOCKS: u32 = DEFAULT_SEGMENT_BLOCKS;
const NR_BUFFERS: u8 = 8;
const NONCE: u64 = 1;

/// A volume of which so much of the cache is in use, all of it dirty.
struct Volume {
    sb: Superblock,
    /// Blocks of the backing device, a power of two: twice as many as there are slots.
    blocks: u64,
    used_segments: u32,
}

impl Volume {
    /// `percent` of the segments are in use.
    fn new(log_slots: u32, percent: u64) -> Self {
        let blocks = 2u64 << log_slots;
        let nr_segments = (1u64 << log_slots) / u64::from(SEGMENT_BLOCKS);
        let cache = Superblock::min_cache_sectors(SEGMENT_BLOCKS)
            + (nr_segments - 16) * u64::from(SEGMENT_BLOCKS) * BLOCK_SECTORS;
        let sb = Superblock::new(cache, blocks * BLOCK_SECTORS, SEGMENT_BLOCKS, [7; 16], NONCE)
            .expect("sizes that fit");
        assert_eq!(u64::from(sb.nr_segments), nr_segments);
        Self { sb, blocks, used_segments: (nr_segments * percent / 100) as u32 }
    }

    /// How many blocks are cached.
    fn cached(&self) -> u64 {
        u64::from(self.used_segments) * u64::from(SEGMENT_BLOCKS - 1)
    }

    /// Address of the block that was written as the `i`th, in no order that any hash or any CPU's cache could
    /// know: `i` goes through a bijection of all blocks. From [`Volume::cached`] on, blocks that were never
    /// written.
    fn addr(&self, i: u64) -> u64 {
        let (mask, half) = (self.blocks - 1, self.blocks.trailing_zeros() / 2);
        let x = i.wrapping_mul(0xd1b5_4a32_d192_ed03) & mask;
        (x ^ x >> half).wrapping_mul(0xaef1_7502_b3e5_4a1b) & mask
    }

    /// The header of the record that fills a segment.
    fn header(&self, segment: Segment, block: &mut [u8; BLOCK]) {
        let blocks = SEGMENT_BLOCKS as u16 - 1;
        let seq = Seq(u64::from(segment.0) + 1);
        let (durable, tail) = (seq.before(), Seq::FIRST);
        let header = RecordHeader { nonce: NONCE, seq, epoch: 0, durable, tail, blocks };
        let first = u64::from(segment.0) * u64::from(blocks);
        header.encode(block, |i| Entry {
            addr: Block(self.addr(first + i as u64)),
            mask: 0xff,
            crc: i as u32,
        });
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { durable: Seq(self.used_segments.into()), ..Checkpoint::first(NONCE) }
    }

    /// Replays the log; `header` fills in that of a segment.
    fn replay(&self, mut header: impl FnMut(Segment, &mut [u8; BLOCK])) -> Engine {
        let mut replay = Replay::with_secret(&self.sb, self.checkpoint(), NR_BUFFERS, Secret::new(SECRET))
            .expect("memory");
        let mut block = [0; BLOCK];
        while let Want::Read { slot, .. } = replay.want() {
            let segment = slot.segment(SEGMENT_BLOCKS);
            if slot.offset(SEGMENT_BLOCKS) == 0 && segment.0 < self.used_segments {
                header(segment, &mut block);
            } else {
                block.fill(0);
            }
            replay.feed(&block).expect("a log that is whole");
        }
        let engine = replay.finish().0;
        assert_eq!(engine.state().dirty, self.cached());
        engine
    }

    fn engine(&self) -> Engine {
        self.replay(|segment, block| self.header(segment, block))
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

/// A host whose devices take no time.
struct Host {
    engine: Mutex<Engine>,
    checks: Shared<Checks>,
    chains: Shared<Chains>,
    batch: Mutex<Batch>,
}

impl Host {
    fn new(engine: Engine) -> Self {
        let (checks, chains) = (engine.checks(), engine.chains());
        let batch = Batch::new(64 * SEGMENT_BLOCKS as usize).expect("memory");
        Self { engine: Mutex::new(engine), checks, chains, batch: Mutex::new(batch) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().expect("nobody panics")
    }

    /// As the commit thread does.
    fn commit(&self) {
        let mut header = [0; BLOCK];
        let mut engine = self.lock();
        while let Some(io) = engine.poll() {
            match io {
                Io::Record { seq, fua, .. } => {
                    engine.encode_header(seq, &mut header);
                    engine.record_done(seq, fua, true);
                }
                Io::Flush { upto } => engine.flush_done(upto, true),
            }
        }
    }

    /// Writes one block.
    fn write(&self, addr: u64) {
        let claim = loop {
            let claim = self.lock().claim(1);
            match claim {
                Ok(claim) => break claim,
                Err(Refused::Wait(Wait::Space)) => self.make_room(),
                Err(Refused::Wait(Wait::Progress)) => self.commit(),
                Err(Refused::Failed) => panic!("the log has failed"),
            }
        };
        self.chains.warm(Block(addr));
        let mut engine = self.lock();
        engine.stored(&claim, claim.slot, Entry { addr: Block(addr), mask: 0xff, crc: addr as u32 });
        engine.copied(&claim);
        let work = engine.has_work();
        drop(engine);
        if work {
            self.commit();
        }
    }

    /// Writes back what is in the oldest segments, and frees them.
    fn make_room(&self) {
        self.commit();
        let mut batch = self.batch.lock().expect("nobody panics");
        self.lock().begin_batch(&mut batch);
        while self.lock().plan_writeback(&mut batch, Seq::MAX) {}
        batch.sort();
        for item in batch.items() {
            black_box(self.lock().begin_item(&*batch, item));
        }
        for item in batch.items() {
            self.lock().written_back(&*batch, item);
        }
        let mut engine = self.lock();
        while engine.advance_tail(false).is_some() {
            engine.checkpointed(true);
        }
    }

    /// Looks one block up; says whether it was cached.
    fn read(&self, addr: u64) -> bool {
        self.chains.warm(Block(addr));
        let run = self.lock().lookup(addr * BLOCK_SECTORS, BLOCK_SECTORS);
        match black_box(run) {
            Run::Backing(_) => return false,
            Run::Cache { slot, blocks: 1, generation } => {
                // As the end of the read does.
                black_box(self.checks.judge(slot, generation, [addr as u32]));
            }
            Run::Cache { .. } => panic!("more than was asked for"),
            Run::Pieces(pieces) => {
                for (buffer, _) in pieces.as_slice().iter().filter_map(|p| p.ram) {
                    self.lock().unpin_buffer(buffer);
                }
            }
        }
        true
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

fn lookup(c: &mut Criterion) {
    for size in SIZES {
        let volume = Volume::new(size, 75);
        let host = Host::new(volume.engine());
        on_threads(&mut c.benchmark_group("lookup of a cached block"), size, |rng| {
            assert!(host.read(volume.addr(rng.below(volume.cached()))));
        });
        let never = volume.blocks - volume.cached();
        on_threads(&mut c.benchmark_group("lookup of a block that is not cached"), size, |rng| {
            assert!(!host.read(volume.addr(volume.cached() + rng.below(never))));
        });
    }
}

fn write(c: &mut Criterion) {
    for size in SIZES {
        let volume = Volume::new(size, 75);
        let host = Host::new(volume.engine());
        // Of the backing device's blocks, half as many as there are slots; so the cache is full before long,
        // and what writeback and the tail cost is in it.
        let half = volume.blocks / 4;
        on_threads(&mut c.benchmark_group("random write, with writeback"), size, |rng| {
            host.write(volume.addr(rng.below(half)));
        });
        on_threads(&mut c.benchmark_group("random write and flush"), size, |rng| {
            host.write(volume.addr(rng.below(half)));
            let seq = host.lock().flush();
            host.commit();
            debug_assert!(host.lock().durable() >= seq);
        });
        let state = host.lock().state();
        assert!(state.newest > Seq::NONE && state.free_segments < volume.sb.nr_segments - RESERVED_SEGMENTS);
    }
}

fn reclaim(c: &mut Criterion) {
    let mut group = c.benchmark_group("planning of writeback, per block");
    for size in SIZES {
        let volume = Volume::new(size, 75);
        let engine = volume.engine();
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
    let volume = Volume::new(18, 90);
    let mut log = vec![[0; BLOCK]; volume.used_segments as usize];
    for (segment, block) in log.iter_mut().enumerate() {
        volume.header(Segment(segment as u32), block);
    }
    group.throughput(Throughput::Elements(volume.cached()));
    group.sample_size(20);
    group.bench_function("2^18 slots, 90 % of them in use", |b| {
        b.iter(|| volume.replay(|segment, block| *block = log[segment.index()]));
    });
}

fn main() {
    let mut c = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    for bench in [lookup, write, reclaim, replay] {
        bench(&mut c);
    }
    c.final_summary();
}
