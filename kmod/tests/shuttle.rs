// SPDX-License-Identifier: GPL-2.0-only

//! The concurrent protocol between the threads of a volume, under schedules that shuttle chooses: half of them at random,
//! half by PCT (Burckhardt et al. 2010), which finds what needs few but particular switches.
//!
//! The engine is the module's own source, on shuttle's atomics. What the kernel's threads do around it is written here as
//! `kmod/src/volume/` does it, over disks and buffers of which each block notices when two are in it at once: writers,
//! readers, the commit thread, writeback, reclaim, and two threads in which I/O ends in any order. Waiting has no
//! timeouts. Sectors hold the number of the write that they are of, so that every read can be judged.
//!
//! `cargo xtask races --seed N` repeats a run that failed, `--runs N` makes so many.

mod races;
#[allow(dead_code)]
#[path = "sim/rng.rs"]
mod rng;

use races::{engine, thread, Arc, Cell, Condvar, Event, Mutex, NR_SEGMENTS, SEGMENT_BLOCKS};
use rng::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use writeboost::engine::checks::{Checks, Generation, Verdict};
use writeboost::engine::flight::{Flights, Landing, Pending};
use writeboost::engine::log::{Claim, Io, Refused, Wait};
use writeboost::engine::read::{Pieces, Run};
use writeboost::engine::reclaim::{Batch, Item, Relocation};
use writeboost::engine::{Engine, Entry, Part};
use writeboost::format::{RecordHeader, Superblock, BLOCK, BLOCK_SECTORS};
use writeboost::host::{crc32c, Shared};

const NR_BUFFERS: u8 = 3;
/// Of the volume: few, so that everybody meets.
const BLOCKS: u64 = 64;
const SECTORS: u64 = BLOCKS * BLOCK_SECTORS;
/// Blocks that are put into the index, or begun to be written back, under one hold of the lock.
const AT_ONCE: usize = 3;
/// Riders that the end of a commit ends itself.
const MOST_AT_ONCE: usize = 1;
/// Items that are written back together.
const CHUNK: usize = 8;

/// What a block holds: for each of its sectors the number of the write that it is of; 0 at first.
type Data = [u64; BLOCK_SECTORS as usize];

fn crc(data: &Data) -> u32 {
    data.iter().fold(0, |crc, n| crc32c(crc, &n.to_le_bytes()))
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..BLOCK_SECTORS as usize).filter(move |i| mask & 1 << i != 0)
}

/// What happened, over all runs: what never happens is not tested.
#[derive(Debug, Default, Clone)]
struct Counts {
    writes: u64,
    reads: u64,
    records: u64,
    /// Records and flushes that were not sent by the commit thread, and who was ended without it.
    sent_at_once: u64,
    riders: u64,
    ram_reads: u64,
    cache_reads: u64,
    backing_reads: u64,
    /// Reads of one block from several places.
    mixed_reads: u64,
    /// Reads, and items, whose segment was opened again meanwhile.
    gone: u64,
    gone_items: u64,
    waits_for_space: u64,
    waits_for_progress: u64,
    written_back: u64,
    relocated: u64,
    checkpoints: u64,
}

/// Which values a read may return: those of writes that were not surely overwritten before the read began.
#[derive(Default)]
struct Oracle {
    clock: u64,
    /// Of each sector: number, begin and, once it is over, end of all writes to it.
    writes: Vec<Vec<(u64, u64, Option<u64>)>>,
    next: u64,
}

impl Oracle {
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
            for w in &mut self.writes[s as usize] {
                if w.0 == number {
                    w.2 = Some(at);
                }
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
}

/// A bio that writes.
struct Write {
    sector: u64,
    sectors: u64,
    number: u64,
    done: u64,
    fua: bool,
    seq: u64,
    ended: Arc<Ended>,
}

/// Whoever waits for one thing to end.
struct Ended {
    over: Mutex<bool>,
    wake: Condvar,
}

impl Ended {
    fn new() -> Arc<Self> {
        Arc::new(Self { over: Mutex::new(false), wake: Condvar::new() })
    }

    fn end(&self) {
        *self.over.lock().unwrap() = true;
        self.wake.notify_all();
    }

    fn wait(&self) {
        let mut over = self.over.lock().unwrap();
        while !*over {
            over = self.wake.wait(over).unwrap();
        }
    }
}

/// What the lock protects.
struct Core {
    engine: Engine,
    waiting: VecDeque<(u64, Arc<Ended>)>,
    deferred: VecDeque<Write>,
}

type Job = Box<dyn FnOnce() + Send>;

/// I/O that is under way. It ends in any order.
#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    stop: bool,
}

/// Memory of a thread that does I/O, and what is under way of it: `volume::Transfer`.
struct Transfer {
    pages: Vec<Cell<Data>>,
    pending: Pending,
    landed: Event,
}

impl Transfer {
    fn new(blocks: usize) -> Arc<Self> {
        let pages = (0..blocks).map(|_| Cell::new("a transfer's block", Data::default())).collect();
        Arc::new(Self { pages, pending: Pending::new(), landed: Event::new() })
    }

    fn end(&self) {
        if self.pending.end() {
            self.landed.notify();
        }
    }

    fn wait(&self) {
        loop {
            let seen = self.landed.count();
            if self.pending.is_over() {
                return;
            }
            self.landed.wait(seen);
        }
    }
}

struct Volume {
    sb: Superblock,
    core: Mutex<Core>,
    checks: Shared<Checks>,
    buffers: Vec<Vec<Cell<Data>>>,
    /// By slot.
    cache: Vec<Cell<Data>>,
    /// By sector.
    backing: Vec<Cell<u64>>,
    flights: Flights,
    /// Held while something is sent.
    attempts: Mutex<()>,
    /// Who waits for the commit that is under way. Taken from without a lock in the kernel.
    riders: Mutex<Vec<Arc<Ended>>>,
    arrived: Mutex<Vec<Arc<Ended>>>,
    queue: Mutex<Queue>,
    queued: Condvar,
    commit: Event,
    writeback: Event,
    reclaim: Event,
    progress: Event,
    // What follows is the test's own, and no part of what is tested.
    draining: AtomicBool,
    stop: AtomicBool,
    stop_commit: AtomicBool,
    oracle: std::sync::Mutex<Oracle>,
    counts: std::sync::Mutex<Counts>,
    seed: u64,
    rngs: AtomicU32,
    last_sent: AtomicU64,
    /// All records up to here are on the cache device, and it was told to keep them.
    stable: AtomicU64,
}

impl Volume {
    fn new(seed: u64) -> Arc<Self> {
        let engine = engine(SECTORS, NR_BUFFERS);
        let block = |what| Cell::new(what, Data::default());
        Arc::new(Self {
            sb: engine.superblock().clone(),
            checks: engine.checks(),
            core: Mutex::new(Core { engine, waiting: VecDeque::new(), deferred: VecDeque::new() }),
            buffers: (0..NR_BUFFERS)
                .map(|_| (0..SEGMENT_BLOCKS).map(|_| block("a block of a buffer")).collect())
                .collect(),
            cache: (0..NR_SEGMENTS * SEGMENT_BLOCKS).map(|_| block("a slot on the cache device")).collect(),
            backing: (0..SECTORS).map(|_| Cell::new("a sector of the backing device", 0)).collect(),
            flights: Flights::new(Doubts::new().unwrap()).unwrap(),
            attempts: Mutex::new(()),
            riders: Mutex::new(Vec::new()),
            arrived: Mutex::new(Vec::new()),
            queue: Mutex::new(Queue::default()),
            queued: Condvar::new(),
            commit: Event::new(),
            writeback: Event::new(),
            reclaim: Event::new(),
            progress: Event::new(),
            draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            stop_commit: AtomicBool::new(false),
            oracle: std::sync::Mutex::new(Oracle {
                writes: (0..SECTORS).map(|_| Vec::new()).collect(),
                ..Oracle::default()
            }),
            counts: std::sync::Mutex::default(),
            seed,
            rngs: AtomicU32::new(0),
            last_sent: AtomicU64::new(0),
            stable: AtomicU64::new(0),
        })
    }

    fn rng(&self) -> Rng {
        let n = u64::from(self.rngs.fetch_add(1, Ordering::SeqCst));
        let mut rng = Rng::new(self.seed.wrapping_mul(1000) + n);
        rng.next();
        rng
    }

    fn count(&self, f: impl FnOnce(&mut Counts)) {
        f(&mut self.counts.lock().unwrap());
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    // The devices.

    fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.queue.lock().unwrap().jobs.push(Box::new(job));
        self.queued.notify_one();
    }

    fn run_device(&self) {
        let mut rng = self.rng();
        loop {
            let job = {
                let mut queue = self.queue.lock().unwrap();
                loop {
                    if !queue.jobs.is_empty() {
                        let i = rng.index(queue.jobs.len());
                        break queue.jobs.swap_remove(i);
                    }
                    if queue.stop {
                        return;
                    }
                    queue = self.queued.wait(queue).unwrap();
                }
            };
            job();
        }
    }

    // Writes: `volume/write.rs`.

    fn write(this: &Arc<Self>, sector: u64, sectors: u64, fua: bool) {
        let number = this.oracle.lock().unwrap().begin(sector, sectors);
        let ended = Ended::new();
        Self::go_on_writing(
            this,
            Write { sector, sectors, number, done: 0, fua, seq: 0, ended: ended.clone() },
            false,
        );
        ended.wait();
        this.oracle.lock().unwrap().end(sector, sectors, number);
        this.count(|c| c.writes += 1);
    }

    fn go_on_writing(this: &Arc<Self>, mut write: Write, waited: bool) -> bool {
        while write.done != write.sectors {
            let (first, left) = (write.sector + write.done, write.sectors - write.done);
            let blocks = (first + left).div_ceil(BLOCK_SECTORS) - first / BLOCK_SECTORS;
            let claim = {
                let mut core = this.core.lock().unwrap();
                let claim = if !waited && !core.deferred.is_empty() {
                    Err(Refused::Wait(Wait::Progress))
                } else {
                    core.engine.claim(blocks as u32)
                };
                match claim {
                    Ok(claim) => claim,
                    Err(Refused::Wait(wait)) => {
                        if waited {
                            core.deferred.push_front(write);
                        } else {
                            core.deferred.push_back(write);
                        }
                        drop(core);
                        if wait == Wait::Space {
                            this.count(|c| c.waits_for_space += 1);
                            this.reclaim.notify();
                            this.writeback.notify();
                        } else {
                            this.count(|c| c.waits_for_progress += 1);
                        }
                        return false;
                    }
                    Err(Refused::Failed) => panic!("the log has failed"),
                }
            };
            write.done += this.copy(&claim, first, left, write.number);
            write.seq = claim.seq;
        }
        if write.fua {
            Self::end_when_durable(this, write.ended, write.seq);
        } else {
            write.ended.end();
        }
        true
    }

    fn copy(&self, claim: &Claim, sector: u64, left: u64, number: u64) -> u64 {
        let (mut copied, mut block) = (0, 0);
        while block < claim.blocks {
            let n = (claim.blocks - block).min(AT_ONCE as u32);
            let mut entries = Vec::new();
            for i in block..block + n {
                let part = Part::first_of(sector + copied, left - copied);
                let mut data = Data::default();
                bits(part.mask()).for_each(|i| data[i] = number);
                self.buffers[usize::from(claim.buffer)][(claim.offset + i) as usize].write(data);
                entries.push(Entry { addr: part.addr, mask: part.mask(), crc: crc(&data) });
                copied += u64::from(part.sectors);
            }
            if number % 8 == 0 {
                // A writer that was interrupted.
                (0..60).for_each(|_| thread::yield_now());
            }
            let mut core = self.core.lock().unwrap();
            for (i, entry) in entries.iter().enumerate() {
                core.engine.stored(claim, claim.slot + block + i as u32, *entry);
            }
            block += n;
            if block == claim.blocks {
                core.engine.copied(claim);
                let (work, paused) = (core.engine.has_work(), core.engine.is_paused());
                drop(core);
                if work {
                    self.commit.notify();
                }
                if paused {
                    self.progress.notify();
                }
            }
        }
        copied
    }

    fn flush(this: &Arc<Self>) {
        let ended = Ended::new();
        let seq = this.core.lock().unwrap().engine.flush();
        Self::end_when_durable(this, ended.clone(), seq);
        ended.wait();
        assert!(this.stable.load(Ordering::SeqCst) >= seq, "a flush has ended before its data were stable");
    }

    fn end_when_durable(this: &Arc<Self>, ended: Arc<Ended>, seq: u64) {
        let mut core = this.core.lock().unwrap();
        if core.engine.durable() >= seq {
            drop(core);
            ended.end();
        } else {
            core.engine.want(seq);
            core.waiting.push_back((seq, ended));
            let work = core.engine.has_work();
            drop(core);
            if work {
                Self::commit_now(this);
            }
        }
    }

    // Commits: `volume/commit.rs`.

    fn run_commit(this: &Arc<Self>) {
        loop {
            let seen = this.commit.count();
            let (landed, sent) = {
                let _attempts = this.attempts.lock().unwrap();
                let landed = this.land();
                let mut sent = false;
                while Self::send(this) {
                    sent = true;
                }
                (landed, sent)
            };
            this.end_arrived();
            if landed {
                this.end_waiting();
            }
            Self::retry_deferred(this);
            let prepared = this.core.lock().unwrap().engine.prepare(AT_ONCE as u32);
            if landed || sent {
                this.progress.notify();
            }
            if landed || sent || prepared {
                continue;
            }
            if this.stop_commit.load(Ordering::SeqCst) && !this.flights.is_flying() {
                return;
            }
            this.commit.wait(seen);
        }
    }

    fn commit_now(this: &Arc<Self>) {
        let (landed, sent, more) = match this.attempts.try_lock() {
            Ok(_attempts) => {
                let landed = this.land();
                let sent = Self::send(this);
                (landed, sent, this.core.lock().unwrap().engine.has_work())
            }
            Err(_) => (false, false, true),
        };
        this.count(|c| c.sent_at_once += u64::from(sent));
        if landed {
            this.end_waiting();
        }
        if landed || sent {
            this.progress.notify();
        }
        if more {
            this.commit.notify();
        }
    }

    fn land(&self) -> bool {
        let mut any = false;
        self.flights.collect(|landing| {
            let engine = &mut self.core.lock().unwrap().engine;
            match landing {
                Landing::Record { seq, fua, ok } => engine.record_done(seq, fua, ok),
                Landing::Flush { upto, ok } => engine.flush_done(upto, ok),
            }
            any = true;
        });
        any
    }

    fn send(this: &Arc<Self>) -> bool {
        let mut header = [0; BLOCK];
        let io = {
            let mut core = this.core.lock().unwrap();
            let Some(io) = core.engine.poll() else { return false };
            if let Io::Record { seq, buffer, offset, .. } = io {
                core.engine.encode_header(seq, &mut header);
                this.buffers[usize::from(buffer)][offset as usize].write([seq; BLOCK_SECTORS as usize]);
            }
            if let Io::Record { seq: upto, fua: true, .. } | Io::Flush { upto } = io {
                while core.waiting.front().is_some_and(|w| w.0 <= upto) {
                    let rider = core.waiting.pop_front().map(|w| w.1);
                    this.riders.lock().unwrap().extend(rider);
                }
            }
            io
        };
        let tag = this.flights.take_off(&io);
        let volume = this.clone();
        this.submit(move || {
            match io {
                Io::Record { seq, fua, .. } => {
                    volume.write_record(&io, &header);
                    if fua {
                        volume.stable.fetch_max(seq, Ordering::SeqCst);
                    }
                }
                Io::Flush { upto } => drop(volume.stable.fetch_max(upto, Ordering::SeqCst)),
            }
            let ok = volume.flights.is_believed(tag, true);
            if ok && Flights::is_commit(tag) {
                volume.end_riders();
            }
            volume.flights.land(tag, ok);
            volume.commit.notify();
        });
        true
    }

    fn end_riders(&self) {
        let mut riders = std::mem::take(&mut *self.riders.lock().unwrap());
        self.count(|c| c.riders += riders.len() as u64);
        let left = riders.split_off(riders.len().min(MOST_AT_ONCE));
        for rider in riders {
            rider.end();
        }
        self.arrived.lock().unwrap().extend(left);
    }

    fn end_arrived(&self) {
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        for rider in arrived {
            rider.end();
        }
    }

    /// What the device does with a record's bio, and whether that record is whole.
    fn write_record(&self, io: &Io, header: &[u8; BLOCK]) {
        let &Io::Record { seq, slot, blocks, buffer, offset, .. } = io else { return };
        let h = RecordHeader::decode(header, &self.sb, offset).unwrap();
        assert_eq!((h.seq, u32::from(h.blocks) + 1), (seq, blocks));
        for i in 0..blocks {
            let data = self.buffers[usize::from(buffer)][(offset + i) as usize].read();
            if i == 0 {
                assert_eq!(data, [seq; BLOCK_SECTORS as usize]);
            } else {
                let entry = RecordHeader::entry(header, i as usize - 1);
                // An entry without sectors holds what was superseded while it was relocated.
                assert!(entry.mask == 0 || entry.crc == crc(&data), "a torn record is sent");
            }
            self.cache[(slot + i) as usize].write(data);
        }
        self.last_sent.fetch_max(seq, Ordering::SeqCst);
        self.count(|c| c.records += 1);
    }

    fn end_waiting(&self) {
        let mut done = Vec::new();
        {
            let mut core = self.core.lock().unwrap();
            let durable = core.engine.durable();
            while core.waiting.front().is_some_and(|w| w.0 <= durable) {
                done.extend(core.waiting.pop_front());
            }
        }
        for (_, ended) in done {
            ended.end();
        }
    }

    fn retry_deferred(this: &Arc<Self>) {
        loop {
            let Some(write) = this.core.lock().unwrap().deferred.pop_front() else { return };
            if !Self::go_on_writing(this, write, true) {
                return;
            }
        }
    }

    // Reads: `volume/read.rs`.

    /// With `slow`, the cache device takes as long as the log to come round, if that does.
    fn read(this: &Arc<Self>, sector: u64, sectors: u64, slow: bool) {
        let began = this.oracle.lock().unwrap().now();
        let mut found = Vec::new();
        while (found.len() as u64) < sectors {
            let done = found.len() as u64;
            let run = this.core.lock().unwrap().engine.lookup(sector + done, sectors - done);
            let part = Part::first_of(sector + done, sectors - done);
            match run {
                Run::Backing(n) => {
                    this.count(|c| c.backing_reads += 1);
                    found.extend(Self::read_backing(this, sector + done, n));
                }
                Run::Cache { slot, blocks, generation } => {
                    this.count(|c| c.cache_reads += 1);
                    // What is gone is looked up again.
                    for data in Self::read_slots(this, slot, blocks, generation, slow).into_iter().flatten() {
                        found.extend_from_slice(&data[part.first as usize..]);
                    }
                }
                Run::Pieces(pieces) => {
                    found.extend(Self::read_pieces(this, &part, &pieces, slow).into_iter().flatten());
                }
            }
        }
        found.truncate(sectors as usize);
        let mut oracle = this.oracle.lock().unwrap();
        for (s, number) in (sector..).zip(found) {
            oracle.judge(began, s, number);
        }
        drop(oracle);
        this.count(|c| c.reads += 1);
    }

    /// None when one of them is gone.
    fn read_pieces(this: &Arc<Self>, part: &Part, pieces: &Pieces, slow: bool) -> Option<Vec<u64>> {
        let mut data = Data::default();
        let rest = part.mask() & !pieces.mask();
        if pieces.as_slice().len() > 1 || rest != 0 {
            this.count(|c| c.mixed_reads += 1);
        }
        let mut copy = |mask, from: &Data| bits(mask).for_each(|i| data[i] = from[i]);
        // Those in RAM first, so that their buffers are free again at once.
        for (p, (buffer, block)) in pieces.as_slice().iter().filter_map(|p| Some((p, p.ram?))) {
            this.count(|c| c.ram_reads += 1);
            copy(p.mask, &this.buffers[usize::from(buffer)][block as usize].read());
            let waited_for = {
                let mut core = this.core.lock().unwrap();
                core.engine.unpin_buffer(buffer);
                !core.deferred.is_empty()
            };
            if waited_for {
                this.commit.notify();
            }
        }
        for p in pieces.as_slice().iter().filter(|p| p.ram.is_none()) {
            copy(p.mask, &Self::read_slots(this, p.slot, 1, p.generation, slow)?[0]);
        }
        if rest != 0 {
            let from = Self::read_backing(
                this,
                part.addr * BLOCK_SECTORS + u64::from(part.first),
                part.sectors.into(),
            );
            bits(rest).for_each(|i| data[i] = from[i - part.first as usize]);
        }
        Some(data[part.first as usize..(part.first + part.sectors) as usize].to_vec())
    }

    fn read_backing(this: &Arc<Self>, sector: u64, sectors: u64) -> Vec<u64> {
        let (ended, out) = (Ended::new(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let volume = this.clone();
        this.submit({
            let (ended, out) = (ended.clone(), out.clone());
            move || {
                // A read may find a sector as it is before or after a write-back that it meets.
                let found = (sector..sector + sectors).map(|s| volume.backing[s as usize].peek());
                *out.lock().unwrap() = found.collect();
                ended.end();
            }
        });
        ended.wait();
        let found = std::mem::take(&mut *out.lock().unwrap());
        found
    }

    /// Reads whole slots, as a bio that was remapped to the cache device; its end judges them. None when they are gone.
    fn read_slots(
        this: &Arc<Self>,
        slot: u32,
        blocks: u32,
        generation: Generation,
        slow: bool,
    ) -> Option<Vec<Data>> {
        let (ended, out) = (Ended::new(), Arc::new(std::sync::Mutex::new(None)));
        let volume = this.clone();
        this.submit({
            let (ended, out) = (ended.clone(), out.clone());
            move || {
                let is_gone = || volume.checks.judge(slot, generation, []) == Verdict::Gone;
                for _ in 0..if slow { 3000 } else { 0 } {
                    if is_gone() || volume.draining() {
                        break;
                    }
                    thread::yield_now();
                }
                if slow {
                    // And what is there now has time to be written.
                    (0..100).for_each(|_| thread::yield_now());
                }
                let data: Vec<Data> = (slot..slot + blocks).map(|s| volume.on_device(s)).collect();
                // The log has time to come round.
                (0..8).for_each(|_| thread::yield_now());
                match volume.checks.judge(slot, generation, data.iter().map(crc)) {
                    Verdict::Intact => *out.lock().unwrap() = Some(data),
                    Verdict::Wrong => panic!("checksum of slot {slot}, or one of {blocks}"),
                    Verdict::Gone => volume.count(|c| c.gone += 1),
                }
                ended.end();
            }
        });
        ended.wait();
        let found = out.lock().unwrap().take();
        found
    }

    /// What the cache device has in a slot. Others may write there: that is for who reads to find out.
    fn on_device(&self, slot: u32) -> Data {
        thread::yield_now();
        self.cache[slot as usize].peek()
    }

    /// Whether item number `i`, which was read, is there.
    fn is_there(&self, t: &Transfer, i: usize, batch: &Batch, item: &Item) -> bool {
        let ok = crc(&t.pages[i].read()) == self.checks.checksum(item.slot);
        let held = self.core.lock().unwrap().engine.holds_item(batch, item);
        assert!(ok || !held, "checksum of item in slot {}", { item.slot });
        self.count(|c| c.gone_items += u64::from(!held));
        held
    }

    // Writeback: `volume/writeback.rs`.

    fn run_writeback(this: &Arc<Self>) {
        let mut batch = Batch::new((NR_SEGMENTS * SEGMENT_BLOCKS) as usize).unwrap();
        let t = Transfer::new(CHUNK);
        let mut rng = this.rng();
        loop {
            let seen = this.writeback.count();
            if this.stopped() {
                return;
            }
            if this.draining() {
                let seq = this.core.lock().unwrap().engine.flush();
                this.commit.notify();
                this.wait_durable(seq);
            }
            if Self::write_back(this, &mut batch, &t, &mut rng) {
                this.reclaim.notify();
                this.progress.notify();
            } else {
                this.writeback.wait(seen);
            }
        }
    }

    fn write_back(this: &Arc<Self>, batch: &mut Batch, t: &Arc<Transfer>, rng: &mut Rng) -> bool {
        this.core.lock().unwrap().engine.begin_batch(batch);
        let most = if this.draining() { NR_SEGMENTS } else { rng.range(1, 4) as u32 };
        while batch.segments() < most && this.core.lock().unwrap().engine.plan_writeback(batch, u64::MAX) {}
        if batch.items().is_empty() {
            return false;
        }
        batch.sort();
        let mut from = 0;
        while from < batch.items().len() {
            let to = (from + CHUNK).min(batch.items().len());
            Self::write_chunk(this, batch, &batch.items()[from..to], t);
            from = to;
            this.reclaim.notify();
        }
        true
    }

    fn write_chunk(this: &Arc<Self>, batch: &Batch, items: &[Item], t: &Arc<Transfer>) {
        let mut live = Vec::new();
        for items in items.chunks(AT_ONCE) {
            let core = this.core.lock().unwrap();
            live.extend(items.iter().map(|item| core.engine.begin_item(batch, item).unwrap_or(0)));
        }
        Self::read_items(this, t, items.iter().enumerate().filter(|&(i, _)| live[i] != 0));
        for (i, item) in items.iter().enumerate() {
            if live[i] != 0 && !this.is_there(t, i, batch, item) {
                live[i] = 0;
            }
        }
        for (i, item) in items.iter().enumerate().filter(|&(i, _)| live[i] != 0) {
            t.pending.begin();
            let (volume, t, item, live) = (this.clone(), t.clone(), *item, live[i]);
            this.submit(move || {
                let data = t.pages[i].read();
                for s in bits(live) {
                    volume.backing[item.addr() as usize * BLOCK_SECTORS as usize + s].write(data[s]);
                }
                t.end();
            });
        }
        t.wait();
        for (i, items) in items.chunks(AT_ONCE).enumerate() {
            let mut core = this.core.lock().unwrap();
            for (k, item) in items.iter().enumerate().filter(|&(k, _)| live[i * AT_ONCE + k] != 0) {
                let _ = k;
                core.engine.written_back(batch, item);
            }
        }
        this.count(|c| c.written_back += live.iter().filter(|live| **live != 0).count() as u64);
    }

    fn read_items<'a>(this: &Arc<Self>, t: &Arc<Transfer>, items: impl Iterator<Item = (usize, &'a Item)>) {
        for (i, item) in items {
            t.pending.begin();
            let (volume, t, slot) = (this.clone(), t.clone(), item.slot);
            this.submit(move || {
                t.pages[i].write(volume.on_device(slot));
                t.end();
            });
        }
        t.wait();
    }

    // Reclaim: `volume/reclaim.rs`.

    fn run_reclaim(this: &Arc<Self>) {
        let mut batch = Batch::new(SEGMENT_BLOCKS as usize).unwrap();
        let t = Transfer::new(SEGMENT_BLOCKS as usize);
        let mut rng = this.rng();
        loop {
            let seen = this.reclaim.count();
            if this.stopped() {
                return;
            }
            let moved = Self::move_tail(this, &t);
            // Now and then only, or nothing would ever be written back. Chance takes the place of what it is worth.
            let relocated = rng.one_in(3) && Self::relocate(this, &mut batch, &t);
            if !moved && !relocated {
                this.reclaim.wait(seen);
            }
        }
    }

    fn move_tail(this: &Arc<Self>, t: &Arc<Transfer>) -> bool {
        let (checkpoint, work) = {
            let mut core = this.core.lock().unwrap();
            let whole = this.draining() || core.engine.state().dirty == 0;
            (core.engine.advance_tail(whole), core.engine.has_work())
        };
        if work {
            this.commit.notify();
        }
        if checkpoint.is_none() {
            return false;
        }
        t.pending.begin();
        let end = t.clone();
        this.submit(move || end.end());
        t.wait();
        this.core.lock().unwrap().engine.checkpointed(true);
        this.count(|c| c.checkpoints += 1);
        this.commit.notify();
        this.progress.notify();
        true
    }

    fn relocate(this: &Arc<Self>, batch: &mut Batch, t: &Arc<Transfer>) -> bool {
        {
            let core = this.core.lock().unwrap();
            // Sooner than in the kernel, where so small a log never is short of segments.
            if core.engine.state().free_segments >= NR_SEGMENTS / 2 || this.draining() {
                return false;
            }
            core.engine.begin_batch(batch);
            while core.engine.plan_relocation(batch) {}
            if core.engine.judge_relocation(batch) != Relocation::MakesRoom {
                return false;
            }
        }
        batch.retain(|planned, item| this.core.lock().unwrap().engine.begin_item(planned, item).is_some());
        Self::read_items(this, t, batch.items().iter().enumerate());
        for (i, item) in batch.items().iter().enumerate() {
            this.is_there(t, i, batch, item);
        }
        let seq = this.append(batch, t);
        match seq {
            None if batch.items().is_empty() => Self::move_tail(this, t),
            None => false,
            Some(seq) => {
                this.core.lock().unwrap().engine.want(seq);
                this.commit.notify();
                this.wait_durable(seq);
                Self::move_tail(this, t)
            }
        }
    }

    fn append(&self, batch: &Batch, t: &Transfer) -> Option<u64> {
        let items = batch.items();
        let (mut seq, mut done) = (None, 0);
        while done < items.len() {
            let claim = self.claim_relocation(items.len() - done)?;
            for i in 0..claim.blocks as usize {
                self.buffers[usize::from(claim.buffer)][claim.offset as usize + i]
                    .write(t.pages[done + i].read());
            }
            let mut core = self.core.lock().unwrap();
            for (slot, item) in (claim.slot..claim.slot + claim.blocks).zip(&items[done..]) {
                core.engine.relocated(&claim, slot, batch, item, None);
            }
            core.engine.copied(&claim);
            drop(core);
            self.count(|c| c.relocated += u64::from(claim.blocks));
            done += claim.blocks as usize;
            seq = Some(claim.seq);
        }
        seq
    }

    fn claim_relocation(&self, blocks: usize) -> Option<Claim> {
        while !self.stopped() {
            match self.core.lock().unwrap().engine.claim_relocation(blocks as u32) {
                Ok(claim) => return Some(claim),
                Err(Wait::Space) => break,
                Err(Wait::Progress) => (),
            }
            self.commit.notify();
            // The kernel looks again after 20 ms.
            thread::yield_now();
        }
        self.core.lock().unwrap().engine.cancel_relocation();
        self.commit.notify();
        None
    }

    fn wait_durable(&self, seq: u64) {
        loop {
            let seen = self.progress.count();
            if self.core.lock().unwrap().engine.durable() >= seq {
                return;
            }
            self.progress.wait(seen);
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let seen = self.progress.count();
            let s = self.core.lock().unwrap().engine.state();
            if s.dirty == 0 && s.tail > s.newest {
                return;
            }
            self.writeback.notify();
            self.reclaim.notify();
            self.progress.wait(seen);
        }
    }
}

/// A short life of a volume.
fn scenario(seed: u64) -> Counts {
    let volume = Volume::new(seed);
    let spawn = |f: fn(&Arc<Volume>)| {
        let volume = volume.clone();
        thread::spawn(move || f(&volume))
    };
    let devices = [spawn(|v| v.run_device()), spawn(|v| v.run_device())];
    let commit = spawn(Volume::run_commit);
    let makers = [spawn(Volume::run_writeback), spawn(Volume::run_reclaim)];
    let users: Vec<_> = (0..5)
        .map(|i| {
            let volume = volume.clone();
            thread::spawn(move || {
                let mut rng = volume.rng();
                for _ in 0..rng.range(20, 40) {
                    // Half of the blocks are written to seldom, and so are read from segments that are about to be
                    // opened again.
                    let cold = rng.one_in(if i < 3 { 12 } else { 2 });
                    let block = rng.below(BLOCKS / 2) + if cold { BLOCKS / 2 } else { 0 };
                    let sector =
                        block * BLOCK_SECTORS + if rng.one_in(2) { rng.below(BLOCK_SECTORS) } else { 0 };
                    let most = if rng.one_in(2) { 4 } else { 8 * BLOCK_SECTORS };
                    let sectors = rng.range(1, most.min(SECTORS - sector));
                    // Three write, two read.
                    if i < 3 {
                        Volume::write(&volume, sector, sectors, rng.one_in(10));
                        if rng.one_in(8) {
                            Volume::flush(&volume);
                        }
                        // The tick of the kernel's threads.
                        if rng.one_in(4) {
                            volume.writeback.notify();
                        }
                        if rng.one_in(4) {
                            volume.reclaim.notify();
                        }
                    } else {
                        Volume::read(&volume, sector, sectors, rng.one_in(12));
                    }
                }
            })
        })
        .collect();
    for user in users {
        user.join().unwrap();
    }
    volume.drain();
    Volume::read(&volume, 0, SECTORS, false);
    // All of it is on the backing device now, by itself.
    {
        let mut oracle = volume.oracle.lock().unwrap();
        let now = oracle.now();
        for s in 0..SECTORS {
            oracle.judge(now, s, volume.backing[s as usize].peek());
        }
    }
    volume.stop.store(true, Ordering::SeqCst);
    volume.writeback.notify();
    volume.reclaim.notify();
    for maker in makers {
        maker.join().unwrap();
    }
    volume.stop_commit.store(true, Ordering::SeqCst);
    volume.commit.notify();
    commit.join().unwrap();
    volume.queue.lock().unwrap().stop = true;
    volume.queued.notify_all();
    for device in devices {
        device.join().unwrap();
    }
    let counts = volume.counts.lock().unwrap().clone();
    counts
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// One seed's schedules; says how many.
fn run(seed: u64, counts: &std::sync::Arc<std::sync::Mutex<Vec<Counts>>>) -> u64 {
    let mut config = Config::default();
    // Many threads with small needs.
    config.stack_size = 0x4_0000;
    // The seed is enough.
    config.failure_persistence = FailurePersistence::None;
    let life = {
        let counts = counts.clone();
        move || {
            let c = scenario(seed);
            counts.lock().unwrap().push(c);
        }
    };
    if seed % 2 == 0 {
        Runner::new(RandomScheduler::new_from_seed(seed, 1), config).run(life) as u64
    } else {
        // The first run tells PCT how long a run is.
        Runner::new(PctScheduler::new_from_seed(seed, 4, 3), config).run(life) as u64
    }
}

#[test]
fn nobody_meets_anybody_in_a_block() {
    let seeds = match number("WRITEBOOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WRITEBOOST_RUNS").unwrap_or(1500),
    };
    let started = Instant::now();
    let all = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (mut schedules, runs) = (0, seeds.end - seeds.start);
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, &all))) {
            Ok(n) => schedules += n,
            Err(_) => panic!("seed {seed} failed; cargo xtask races --seed {seed} repeats it"),
        }
    }
    let mut sum = Counts::default();
    for c in all.lock().unwrap().iter() {
        sum.writes += c.writes;
        sum.reads += c.reads;
        sum.records += c.records;
        sum.sent_at_once += c.sent_at_once;
        sum.riders += c.riders;
        sum.ram_reads += c.ram_reads;
        sum.cache_reads += c.cache_reads;
        sum.backing_reads += c.backing_reads;
        sum.mixed_reads += c.mixed_reads;
        sum.gone += c.gone;
        sum.gone_items += c.gone_items;
        sum.waits_for_space += c.waits_for_space;
        sum.waits_for_progress += c.waits_for_progress;
        sum.written_back += c.written_back;
        sum.relocated += c.relocated;
        sum.checkpoints += c.checkpoints;
    }
    println!("{schedules} schedules of {runs} seeds in {:.1} s: {sum:?}", started.elapsed().as_secs_f64());
    if runs > 100 {
        for n in [
            sum.sent_at_once,
            sum.riders,
            sum.ram_reads,
            sum.cache_reads,
            sum.backing_reads,
            sum.mixed_reads,
            sum.gone,
            sum.waits_for_space,
            sum.waits_for_progress,
            sum.written_back,
            sum.relocated,
            sum.checkpoints,
        ] {
            assert!(n != 0, "{sum:?}");
        }
    }
}
