// SPDX-License-Identifier: GPL-2.0-only

//! A whole volume in one thread: the real engine, a host that does the engine's I/O in a random order, two
//! simulated disks, and a model that knows the permitted contents of the volume.
//!
//! Every source of nondeterminism of the kernel is a step here, and the next step is random: bios complete in
//! any order, copies into the log finish in any order, the commit thread is late, writeback and relocation
//! are interleaved item by item with everything else, and the machine may crash between any two steps. Some
//! runs have *rushes*, in which commits, writeback and the tail catch up with writes that are still being
//! copied: by random steps alone that hardly ever happens.
//!
//! Each step draws from a seed of its own, so that a step can be left out of a run while the others stay the
//! same. This is how failures shrink, see [`Case`].
//!
//! # Crashes
//! Each life ends in a crash, from which the next one resumes. At random steps in between there is a *probe*:
//! the machine crashes on copies of the two disks, which are the only remains. They are resumed from,
//! checked, perhaps crash again or are drained, and are thrown away, and the life goes on as if nothing had
//! happened.
//!
//! # The oracle
//! Each claimed block of a write gets a version, counted up in the order of claims, and every sector that is
//! written carries it. So the order of the log is known, the content of the volume after record `n` is known,
//! and all data read anywhere show which write they come from.
//! - After a crash the volume must equal the state after the last record that the replay found, sector by
//!   sector. That record must not be older than any promise (acknowledged flushes and FUA writes, records
//!   that the engine called durable, records that an earlier resume found).
//! - A read must not return anything older than the versions that were acknowledged or read before it began,
//!   nor anything from a write that a crash has undone.
//! - Each sector that is written back has one version at a time, never one that is not durable in the log.
//! - After a drain the backing device alone, power cut included, must equal the volume.

use super::case::Case;
use super::disk::{Disk, AWAY, SECTOR};
use super::host;
use super::rng::Rng;
use std::collections::HashMap;
use writeboost::engine::bypass::{Bypass, Tag};
use writeboost::engine::checks::{Checks, Generation, Verdict};
use writeboost::engine::flight::Doubts;
use writeboost::engine::log::{Claim, Io, Refused, Wait};
use writeboost::engine::places::Opening;
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::{Batch, Item, Relocation};
use writeboost::engine::replay::{Replay, Want};
use writeboost::engine::{Engine, Entry, Part, Secret, RESERVED_SEGMENTS};
use writeboost::format::{
    Block, Checkpoint, Held, RecordHeader, Segment, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS,
    CHECKPOINT_BLOCKS, MIN_SEGMENTS,
};
use writeboost::host::{crc32c, Shared};
use writeboost::policy::lost::{insist, insist_or_loss, Around, Lost, Near, Sight, Word};
use writeboost::policy::writeback::{Next, Round};

/// The secret of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// Most steps that anything waits once no new operations come.
const PATIENCE: u32 = 400_000;

/// How often relocation may read the whole log before a write gets room or something is written back. It
/// makes room for a tenth of the log at least each time, and less than that is reserved.
const MOST_PASSES: u64 = 8;
/// Steps between two looks at the engine's invariants, which take longer than most steps.
const AUDIT_EVERY: u64 = 61;

/// Counts of events, so that a test can check that all of them are tested.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub steps: u64,
    pub writes: u64,
    pub reads: u64,
    pub flushes: u64,
    pub records: u64,
    pub fua_records: u64,
    pub power_cuts: u64,
    pub host_crashes: u64,
    pub crashes_in_replay: u64,
    pub probes: u64,
    pub resumes: u64,
    pub undone: u64,
    pub written_back: u64,
    pub relocated: u64,
    pub checkpoints: u64,
    pub space_waits: u64,
    pub failures: u64,
    pub drains: u64,
    pub rushes: u64,
    /// Reads, and items of writeback and relocation, whose segment was opened again before they were over.
    pub gone: u64,
    pub gone_items: u64,
    pub unreadable: u64,
    /// Checkpoint slots that can be neither read nor written any more.
    pub dead: u64,
    /// Checkpoints older than the last two, in slots that others stand in for.
    pub blanked: u64,
    pub away: u64,
    pub kept: u64,
    /// Writes that bypassed the cache.
    pub bypassed: u64,
}

impl Counts {
    /// Crashes, each of which was followed by a resume and a check of the whole volume.
    pub fn states(&self) -> u64 {
        self.power_cuts + self.host_crashes
    }

    pub fn add(&mut self, c: &Self) {
        self.steps += c.steps;
        self.writes += c.writes;
        self.reads += c.reads;
        self.flushes += c.flushes;
        self.records += c.records;
        self.fua_records += c.fua_records;
        self.power_cuts += c.power_cuts;
        self.host_crashes += c.host_crashes;
        self.crashes_in_replay += c.crashes_in_replay;
        self.probes += c.probes;
        self.resumes += c.resumes;
        self.undone += c.undone;
        self.written_back += c.written_back;
        self.relocated += c.relocated;
        self.checkpoints += c.checkpoints;
        self.space_waits += c.space_waits;
        self.failures += c.failures;
        self.drains += c.drains;
        self.rushes += c.rushes;
        self.gone += c.gone;
        self.gone_items += c.gone_items;
        self.unreadable += c.unreadable;
        self.dead += c.dead;
        self.blanked += c.blanked;
        self.away += c.away;
        self.kept += c.kept;
        self.bypassed += c.bypassed;
    }
}

/// One version of some sectors of a block, in the order of the log.
#[derive(Clone)]
struct Logged {
    /// [`Seq::NONE`] for a write that bypassed the log.
    seq: Seq,
    sector: u64,
    sectors: u64,
    version: u64,
    /// Whether it is there: a write that bypasses the cache may be torn.
    certain: bool,
}

struct Write {
    next: u64,
    end: u64,
    fua: bool,
    /// PREFLUSH: the record that must be durable before the write begins, for the engine and for the model.
    before: Option<(Seq, Seq)>,
    promise_before: Seq,
    copies: usize,
    last_seq: Seq,
    done: Vec<(u64, u64, u64)>,
    way: Way,
}

/// Whether a write bypasses the cache.
#[derive(Clone, Copy)]
enum Way {
    /// It may.
    Open,
    /// So many of its blocks were looked up.
    Looking(Tag, u64),
    /// It is under way.
    Around,
    /// It goes into the log.
    Log,
}

struct Read {
    start: u64,
    next: u64,
    end: u64,
    floor: Vec<u64>,
    got: Vec<u64>,
    parts: usize,
}

enum Op {
    Write(Write),
    Read(Read),
    /// Ends when the engine is durable up to the first record; promises the second.
    Flush(Seq, Seq),
}

/// The source of a part of a read.
enum Source {
    /// With the checksum that the slot had at the lookup. The buffer stays unchanged, but the log may come
    /// round and open the slot again with another buffer.
    Ram {
        buffer: u8,
        block: u32,
        slot: Slot,
        crc: u32,
        addr: Block,
        mask: u8,
    },
    Cache {
        slot: Slot,
        blocks: u32,
        generation: Generation,
        addr: Block,
        mask: u8,
    },
    Backing {
        sector: u64,
        sectors: u64,
    },
}

/// A job that is under way: each ends in a step of its own.
enum Job {
    /// A block of a claim: slot, where it goes, sector, version.
    Copy {
        op: u64,
        claim: Claim,
        todo: Vec<(u32, Part, u64)>,
    },
    Read {
        op: u64,
        from: Source,
    },
    Record {
        seq: Seq,
        slot: Slot,
        buffer: u8,
        offset: u32,
        fua: bool,
        data: Vec<u8>,
    },
    Flush {
        upto: Seq,
        mark: u64,
    },
    /// To this block.
    Checkpoint(Checkpoint, u64),
    /// Zeroes, to this block, which holds an old checkpoint.
    Blank(u64),
    WritebackRead(usize),
    WritebackWrite {
        item: usize,
        sector: u64,
        data: Vec<u8>,
    },
    WritebackFlush(u64),
    /// A write that bypasses the cache.
    Around {
        op: u64,
        tag: Tag,
        sector: u64,
        sectors: u64,
        version: u64,
        /// The failures before it, and whether it will fail.
        doubts: u32,
        fails: bool,
    },
    RelocationRead(usize),
    RelocationCopy {
        claim: Claim,
        done: usize,
        next: u32,
    },
}

impl Job {
    fn kind(&self) -> u32 {
        match self {
            Job::Copy { .. } => 0,
            Job::Read { .. } => 1,
            Job::Record { .. } => 2,
            Job::Flush { .. } => 3,
            Job::Checkpoint(..) => 4,
            Job::WritebackRead(_) => 5,
            Job::WritebackWrite { .. } => 6,
            Job::WritebackFlush(_) => 7,
            Job::RelocationRead(_) => 8,
            Job::RelocationCopy { .. } => 9,
            Job::Around { .. } => 10,
            Job::Blank(_) => 11,
        }
    }
}

impl Job {
    fn show(&self) -> String {
        match self {
            Job::Copy { op, claim, todo } => {
                let (slot, part) =
                    todo.last().map_or((Slot(0), None), |(i, part, _)| (claim.slot.plus(*i), Some(part)));
                format!("write {op}: copies {part:?} to slot {slot}, record {}", claim.seq)
            }
            Job::Read { op, .. } => format!("read {op}: a part is done"),
            Job::Record { seq, .. } => format!("record {seq} is written"),
            Job::Flush { upto, .. } => format!("flush of the cache device is done, for records up to {upto}"),
            Job::Checkpoint(cp, _) => format!("checkpoint {} is durable", cp.generation),
            Job::Blank(block) => format!("block {block}, an old checkpoint, is blank"),
            Job::WritebackRead(i) => format!("writeback: item {i} is read"),
            Job::WritebackWrite { sector, data, .. } => {
                format!("writeback: sectors {sector}+{} are written", data.len() / SECTOR)
            }
            Job::WritebackFlush(_) => "writeback: the backing device is flushed".into(),
            Job::Around { op, sector, sectors, .. } => {
                format!("write {op}: sectors {sector}+{sectors} are written around the cache")
            }
            Job::RelocationRead(i) => format!("relocation: item {i} is read"),
            Job::RelocationCopy { claim, next, .. } => {
                format!("relocation: block {next} of {} in record {}", claim.blocks, claim.seq)
            }
        }
    }
}

#[derive(PartialEq, Clone, Copy, Debug)]
enum Phase {
    Idle,
    Planning,
    Begin,
    Reading,
    Writing,
    Flushing,
    Ending,
}

/// An item that is being processed.
struct Work {
    item: Item,
    live: u8,
    data: Vec<u8>,
    /// It could not be written.
    lost: bool,
    /// The error of the read.
    error: Option<i32>,
}

struct Mover {
    phase: Phase,
    batch: Batch,
    at: usize,
    work: Vec<Work>,
    pending: usize,
    /// Nothing of the round is clean.
    left: bool,
    /// Whether its flush went well, and the number of writes that had begun to bypass the cache by then.
    flushed: (bool, u64),
}

impl Mover {
    fn new(slots: usize) -> Self {
        Self {
            phase: Phase::Idle,
            batch: Batch::new(slots).unwrap(),
            at: 0,
            work: Vec::new(),
            pending: 0,
            left: false,
            flushed: (false, 0),
        }
    }
}

#[derive(PartialEq, Clone, Copy, Debug)]
enum Mode {
    Busy,
    Quiet,
    Drain,
}

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nr_buffers: u8,
    pub backing_sectors: u64,
    pub lives: u64,
    pub mean_steps: u64,
    pub most_ops: usize,
    /// Writeback gets one step in so many.
    pub writeback_every: u64,
    /// Relocation begins once in so many steps of its thread.
    pub relocate_every: u64,
    /// One in so many I/Os of the cache device fails; 0 for none.
    pub fail_every: u64,
    /// The same for the backing device, which may forget its unstable data when an I/O fails.
    pub backing_fails_every: u64,
    pub flush_percent: u64,
    /// Kinds of jobs that take much longer than others in this run: bit [`Job::kind`].
    pub slow: u32,
    /// A slow job is done once in so many of its turns.
    pub slowness: u64,
    pub nr_segments: u64,
    /// Relocates only when that makes room, as the kernel's host does; relocation that is never worth it must
    /// be safe all the same.
    pub judges: bool,
    /// With 64, headers of large records are longer than a sector, and can be torn.
    pub segment_blocks: u32,
    /// One in so many steps is followed by a probe.
    pub probe_every: u64,
    /// At some steps everything is quick except copies into the log, see [`Sim::rush`].
    pub rushes: bool,
    /// Once in so many steps a part of the cache device is away for a while; 0 for never.
    pub away_every: u64,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            nr_buffers: rng.range(1, 5) as u8,
            backing_sectors: rng.pick(&[20, 60, 200, 400]) * BLOCK_SECTORS + rng.range(1, 8),
            lives: rng.range(2, 6),
            mean_steps: rng.pick(&[20, 100, 500, 2000, 4000]),
            most_ops: rng.range(1, 8) as usize,
            writeback_every: rng.pick(&[1, 2, 8, 40]),
            relocate_every: rng.pick(&[2, 10, 100, 1_000_000]),
            fail_every: rng.pick(&[0, 0, 0, 0, 30, 300]),
            backing_fails_every: rng.pick(&[0, 0, 10, 100]),
            flush_percent: rng.pick(&[0, 5, 30]),
            slow: (if rng.one_in(2) { rng.next() & rng.next() } else { 0 }) as u32,
            slowness: rng.pick(&[20, 60, 300]),
            nr_segments: rng.pick(&[16, 16, 16, 24, 90]),
            segment_blocks: rng.pick(&[16, 16, 16, 16, 16, 64]),
            probe_every: rng.pick(&[100, 300, 1000]),
            judges: rng.one_in(2),
            rushes: rng.one_in(3),
            away_every: rng.pick(&[0, 0, 300, 1000]),
        }
    }
}

pub struct Sim {
    rng: Rng,
    plan: Plan,
    sb: Superblock,
    cache: Disk,
    backing: Disk,
    buffers: Vec<Vec<u8>>,
    engine: Engine,
    checks: Shared<Checks>,
    bypass: Shared<Bypass>,
    jobs: Vec<Job>,
    ops: Vec<(u64, Op)>,
    next_op: u64,
    writeback: Mover,
    doubts: Shared<Doubts>,
    round: Round,
    relocation: Mover,
    relocation_tries: u32,
    /// The blocks that relocation could not read, and the step until which a part of the cache device is
    /// away.
    lost: Lost,
    away_until: u64,
    space: bool,
    checkpointing: bool,
    /// An I/O that the log needs has failed in this life.
    has_failed: bool,
    // The model.
    version: u64,
    /// Versions above those of `base` up to this one were undone by a crash.
    crash_version: u64,
    base: Vec<u64>,
    floor: Vec<u64>,
    log: Vec<Logged>,
    last_claim: (Seq, Slot),
    /// Highest record of an acknowledged write.
    acknowledged: Seq,
    /// Highest record that a completed flush or FUA write, or a resume, says is durable.
    promised: Seq,
    pub counts: Counts,
    /// Blocks that relocation has read since a write got room or something was written back.
    idle_work: u64,
    /// The last step in which a write got room.
    last_progress: u64,
    /// The place in a run: the life, and the step in it if the run is in one. Both are counted among those
    /// that are left in the case.
    pub at: (usize, Option<usize>),
    /// Prints the events.
    pub trace: bool,
}

/// The content of a sector of some version; version 0 is that of a sector never written.
pub fn content(sector: u64, version: u64) -> [u8; SECTOR] {
    let mut b = [0; SECTOR];
    if version != 0 {
        for (i, word) in b.chunks_exact_mut(8).enumerate() {
            let x = match i {
                0 => version,
                1 => sector,
                _ => version.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (sector << 32) ^ i as u64,
            };
            word.copy_from_slice(&x.to_le_bytes());
        }
    }
    b
}

/// The version that a sector holds; garbage ends the test.
pub fn version_of(sector: u64, b: &[u8]) -> u64 {
    let version = u64::from_le_bytes(b[..8].try_into().unwrap());
    assert!(b[..] == content(sector, version)[..], "garbage in sector {sector}: {:x?}", &b[..24]);
    version
}

/// The content of several sectors.
fn contents(sector: u64, sectors: u64, version: u64) -> Vec<u8> {
    (sector..sector + sectors).flat_map(|s| content(s, version)).collect()
}

pub fn block_sector(sb: &Superblock, slot: Slot) -> u64 {
    (u64::from(sb.first_block) + u64::from(slot.0)) * BLOCK_SECTORS
}

/// How a life ends.
#[derive(Clone, Copy)]
enum Crash {
    Power,
    Host,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        Self::with_plan(rng, plan)
    }

    pub fn with_plan(mut rng: Rng, plan: Plan) -> Self {
        let more = (plan.nr_segments - u64::from(MIN_SEGMENTS)) * u64::from(plan.segment_blocks);
        let cache_sectors = Superblock::min_cache_sectors(plan.segment_blocks) + more * BLOCK_SECTORS;
        let sb =
            Superblock::new(cache_sectors, plan.backing_sectors, plan.segment_blocks, [1; 16], rng.next())
                .unwrap();
        let mut cache = Disk::new(cache_sectors);
        let first = Checkpoint::first(sb.nonce);
        cache.write(0, &sb.encode(), true);
        cache.write(first.block() * BLOCK_SECTORS, &first.encode(), true);
        let engine =
            Replay::with_secret(&sb, first, plan.nr_buffers, Secret::new(SECRET)).unwrap().finish().0;
        let n = plan.backing_sectors as usize;
        let slots = (sb.nr_segments * sb.segment_blocks) as usize;
        let doubts = Doubts::new().unwrap();
        Self {
            backing: Disk::new(plan.backing_sectors),
            buffers: Vec::new(),
            checks: engine.checks(),
            bypass: engine.bypass(),
            engine,
            jobs: Vec::new(),
            ops: Vec::new(),
            next_op: 0,
            writeback: Mover::new(slots),
            round: Round::new(doubts.clone()),
            doubts,
            relocation: Mover::new(16),
            relocation_tries: 0,
            lost: Lost::new(slots).unwrap(),
            away_until: 0,
            space: false,
            checkpointing: false,
            has_failed: false,
            version: 0,
            crash_version: 0,
            base: vec![0; n],
            floor: vec![0; n],
            log: Vec::new(),
            last_claim: (Seq::NONE, Slot(0)),
            acknowledged: Seq::NONE,
            promised: Seq::NONE,
            counts: Counts::default(),
            idle_work: 0,
            last_progress: 0,
            at: (0, None),
            trace: false,
            rng,
            plan,
            sb,
            cache,
        }
    }

    /// Several lives, each of which ends in a crash; then a drain.
    pub fn run(&mut self, case: &Case) {
        for (i, life) in case.lives.iter().enumerate() {
            self.at = (i, None);
            self.rng = life.begin(case);
            self.resume();
            for (k, &step) in life.steps.iter().enumerate() {
                self.at.1 = Some(k);
                self.rng = life.step(case, step);
                let probe = self.rng.one_in(self.plan.probe_every).then(|| self.rng.next());
                self.step(Mode::Busy);
                if self.plan.rushes && self.rng.one_in(60) {
                    self.rush();
                }
                if let Some(seed) = probe {
                    self.probe(seed);
                }
            }
            self.at.1 = None;
            self.rng = life.end(case);
            let ending = self.rng.below(8);
            if life.ending {
                match ending {
                    0 => self.settle(),
                    1 => self.drain(),
                    2 => {
                        self.settle();
                        self.check_dirty();
                    }
                    _ => (),
                }
            }
            let how = self.draw_crash();
            self.crash(how);
        }
        self.at = (case.lives.len(), None);
        self.rng = case.end();
        (self.plan.fail_every, self.plan.backing_fails_every) = (0, 0);
        self.resume();
        if case.drain {
            self.drain();
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("  {}", what());
        }
    }

    /// Writes only, more than the log has room for, with a backing device so slow that the log is full all
    /// the time. Returns the longest time, in steps, in which no write got room.
    pub fn crowd(seed: u64, steps: u64) -> (u64, Counts) {
        let mut rng = Rng::new(seed);
        let plan = Plan {
            backing_sectors: 400 * BLOCK_SECTORS,
            most_ops: 4,
            writeback_every: 1,
            relocate_every: rng.pick(&[1, 2]),
            fail_every: 0,
            backing_fails_every: 0,
            flush_percent: rng.pick(&[0, 5, 30]),
            slow: [6, 7].iter().fold(0, |slow, kind| slow | 1 << kind),
            slowness: rng.pick(&[20, 60, 300]),
            nr_segments: 16,
            segment_blocks: 16,
            judges: true,
            rushes: false,
            away_every: 0,
            ..Plan::draw(&mut rng)
        };
        let mut sim = Self::with_plan(rng, plan);
        sim.resume();
        let mut longest = 0;
        for _ in 0..steps {
            sim.step(Mode::Busy);
            longest = longest.max(sim.counts.steps - sim.last_progress);
        }
        sim.settle();
        (longest, sim.counts)
    }

    /// One life and a crash: the superblock and all bytes of a cache device as a crash may leave it.
    pub fn image(&mut self) -> (Superblock, Vec<u8>) {
        self.resume();
        for _ in 0..self.rng.below(self.plan.mean_steps * 2) {
            self.step(Mode::Busy);
        }
        let how = self.draw_crash();
        self.crash(how);
        (self.sb.clone(), self.cache.read(0, self.sb.cache_sectors()).to_vec())
    }

    fn draw_crash(&mut self) -> Crash {
        if self.rng.one_in(3) {
            Crash::Host
        } else {
            Crash::Power
        }
    }

    // The machine.

    /// The writes in flight to the cache device and to the backing device.
    fn in_flight(&self) -> [Vec<(u64, Vec<u8>)>; 2] {
        let [mut to_cache, mut to_backing] = [Vec::new(), Vec::new()];
        for job in &self.jobs {
            match job {
                Job::Record { slot, data, .. } => {
                    to_cache.push((block_sector(&self.sb, *slot), data.clone()))
                }
                Job::Checkpoint(cp, block) => to_cache.push((block * BLOCK_SECTORS, cp.encode().to_vec())),
                Job::Blank(block) => to_cache.push((block * BLOCK_SECTORS, vec![0; SECTOR])),
                Job::WritebackWrite { sector, data, .. } => to_backing.push((*sector, data.clone())),
                Job::Around { sector, sectors, version, .. } => {
                    to_backing.push((*sector, contents(*sector, *sectors, *version)));
                }
                _ => (),
            }
        }
        [to_cache, to_backing]
    }

    /// Writes that are bypassing the cache may be there after a crash.
    fn note_around_in_flight(&mut self) {
        let around = self.jobs.iter().filter_map(|job| match job {
            &Job::Around { sector, sectors, version, .. } => {
                Some(Logged { seq: Seq::NONE, sector, sectors, version, certain: false })
            }
            _ => None,
        });
        self.log.extend(around);
    }

    /// Finds out which sectors are there of bypassing writes that have failed, or were under way in a crash.
    /// Sectors that a torn write has made unreadable would only be errors for their readers.
    fn find_out(&mut self) {
        let mut log = Vec::new();
        for l in std::mem::take(&mut self.log) {
            if l.certain {
                log.push(l);
                continue;
            }
            for s in l.sector..l.sector + l.sectors {
                let found = self.backing.read(s, 1).to_vec();
                self.backing.write(s, &found, true);
                if version_of(s, &found) == l.version {
                    log.push(Logged { sector: s, sectors: 1, certain: true, ..l });
                }
            }
        }
        self.log = log;
    }

    fn crash(&mut self, how: Crash) {
        let in_flight = self.in_flight();
        self.promised = self.promised.max(self.engine.durable());
        self.crash_disks(how, in_flight);
        self.note_around_in_flight();
        self.find_out();
        self.jobs.clear();
        self.ops.clear();
    }

    /// A crash on copies, of which the machine itself does not know: see the module's text.
    fn probe(&mut self, seed: u64) {
        self.say(|| "probe {".into());
        self.counts.probes += 1;
        let rng = std::mem::replace(&mut self.rng, Rng::new(seed));
        let disks = (self.cache.clone(), self.backing.clone());
        let buffers = std::mem::take(&mut self.buffers);
        let (checks, bypass, promised) = (self.checks.clone(), self.bypass.clone(), self.promised);
        let checkpointing = std::mem::take(&mut self.checkpointing);
        let mut engine = None;
        let mut in_flight = self.in_flight();
        let log = self.log.clone();
        self.note_around_in_flight();
        self.promised = promised.max(self.engine.durable());
        loop {
            let how = self.draw_crash();
            self.crash_disks(how, in_flight);
            self.find_out();
            let (found, newest) = self.come_up();
            let found = std::mem::replace(&mut self.engine, found);
            engine.get_or_insert(found);
            let expected = self.expected(newest);
            self.check_volume(&expected);
            self.check_dirty();
            self.promised = newest;
            if self.rng.one_in(4) {
                in_flight = self.write_back_all();
                self.drained(&expected);
                self.check_volume(&expected);
            } else {
                in_flight = Default::default();
            }
            if !self.rng.one_in(3) {
                break;
            }
        }
        self.log = log;
        // There always is one: the loop went round at least once.
        self.engine = engine.unwrap();
        (self.checks, self.bypass) = (checks, bypass);
        (self.promised, self.buffers) = (promised, buffers);
        (self.cache, self.backing) = disks;
        (self.checkpointing, self.rng) = (checkpointing, rng);
        self.say(|| "}".into());
    }

    /// Everything is done at once except copies into the log: commits, writeback and the tail catch up with
    /// them.
    fn rush(&mut self) {
        if self.writeback.phase != Phase::Idle || self.checkpointing || self.cache.is_away() {
            return;
        }
        self.say(|| "rush".into());
        self.counts.rushes += 1;
        self.engine.flush();
        loop {
            while self.engine.has_work() {
                self.poll();
            }
            let is_io = |job: &Job| matches!(job, Job::Record { .. } | Job::Flush { .. });
            let Some(i) = self.jobs.iter().position(is_io) else { break };
            let job = self.jobs.swap_remove(i);
            self.finish(job);
        }
        self.write_back_durable();
        self.move_tail(Mode::Busy);
    }

    /// Writes everything back in one go, while nothing else is under way. Returns the writes in flight then:
    /// the checkpoint that frees the last segments.
    fn write_back_all(&mut self) -> [Vec<(u64, Vec<u8>)>; 2] {
        self.write_back_durable();
        assert_eq!(self.engine.state().dirty, 0);
        let cp = self.engine.advance_tail(true);
        let cp = cp.map(|cp| (self.engine.checkpoint_block() * BLOCK_SECTORS, cp.encode().to_vec()));
        [cp.into_iter().collect(), Vec::new()]
    }

    /// Writes back in one go all that can be written back.
    fn write_back_durable(&mut self) {
        let mut batch = Batch::new((self.sb.nr_segments * self.sb.segment_blocks) as usize).unwrap();
        self.engine.begin_batch(&mut batch);
        while self.engine.plan_writeback(&mut batch, Seq::MAX) {}
        batch.sort();
        for item in batch.items() {
            let live =
                self.engine.begin_item(&batch, item).expect("nobody has changed it since it was planned");
            let block = self.cache.read(block_sector(&self.sb, item.slot), BLOCK_SECTORS);
            let slot = item.slot;
            assert_eq!(crc32c(0, &block), self.checks.checksum(slot), "checksum of slot {slot}");
            for i in (0..BLOCK_SECTORS).filter(|i| live & 1 << i != 0) {
                let data = &block[i as usize * SECTOR..(i as usize + 1) * SECTOR];
                self.backing.write(item.addr().first_sector() + i, data, false);
            }
        }
        self.backing.flush(self.backing.mark());
        for item in batch.items() {
            self.engine.written_back(&batch, item);
        }
    }

    /// The backing device alone, power cut included, must equal the volume.
    fn drained(&self, expected: &[u64]) {
        for (s, &want) in expected.iter().enumerate() {
            let got = version_of(s as u64, &self.backing.stable(s as u64, 1));
            assert_eq!(got, want, "sector {s} of the backing device after a drain");
        }
    }

    fn crash_disks(&mut self, how: Crash, [mut to_cache, mut to_backing]: [Vec<(u64, Vec<u8>)>; 2]) {
        self.rng.shuffle(&mut to_cache);
        self.rng.shuffle(&mut to_backing);
        self.say(|| {
            let list = |disk: &Disk, in_flight: &[(u64, Vec<u8>)]| {
                let one = |sector: u64, len: usize| format!("{sector}+{}", len / SECTOR);
                let done = disk.pending().iter().map(|w| one(w.sector, w.data.len()));
                let all: Vec<_> = done.chain(in_flight.iter().map(|(s, d)| one(*s, d.len()))).collect();
                if all.is_empty() {
                    "nothing".into()
                } else {
                    all.join(" ")
                }
            };
            let what = match how {
                Crash::Power => "power cut",
                Crash::Host => "crash of the host",
            };
            format!(
                "{what}; not stable on the cache device: {}, on the backing device: {}",
                list(&self.cache, &to_cache),
                list(&self.backing, &to_backing)
            )
        });
        match how {
            Crash::Power => {
                self.counts.power_cuts += 1;
                self.cache.cut(&mut self.rng, &to_cache);
                // A checkpoint is one sector, and so cannot be torn, but some disks may leave it unreadable.
                for (sector, _) in to_cache.iter().filter(|(_, data)| data.len() == SECTOR) {
                    match self.rng.below(8) {
                        0 => self.cache.poke(*sector, &[0x5a; SECTOR]),
                        1 => self.cache.lose(*sector),
                        // For good. The volume works on with two slots.
                        2 if self.cache.dead() < CHECKPOINT_BLOCKS.len() - 2 => {
                            self.cache.kill(*sector);
                            self.counts.dead += 1;
                        }
                        _ => (),
                    }
                }
                self.backing.cut(&mut self.rng, &to_backing);
            }
            // The disks keep their power.
            Crash::Host => {
                self.counts.host_crashes += 1;
                self.cache.orphan(&mut self.rng, &to_cache);
                self.backing.orphan(&mut self.rng, &to_backing);
            }
        }
    }

    /// Resumes from the two disks, perhaps after crashes on the way. Returns the engine and its newest
    /// record.
    fn come_up(&mut self) -> (Engine, Seq) {
        let mut unstable = self.rng.one_in(3);
        let (engine, cp) = loop {
            if let Some(up) = self.replay(unstable) {
                break up;
            }
            self.counts.crashes_in_replay += 1;
            unstable = self.rng.one_in(3);
        };
        self.checks = engine.checks();
        self.bypass = engine.bypass();
        self.counts.resumes += 1;
        let state = engine.state();
        assert_eq!((state.durable, cp.durable), (state.newest, state.newest));
        assert!(
            state.newest >= self.promised,
            "the log ends with record {}, promised was {}",
            state.newest,
            self.promised
        );
        self.say(|| format!("resumed: records {} to {}", state.tail, state.newest));
        (engine, state.newest)
    }

    /// A new life begins.
    fn resume(&mut self) {
        let (engine, newest) = self.come_up();
        self.engine = engine;
        self.buffers = (0..self.plan.nr_buffers)
            .map(|_| vec![0xcd; self.plan.segment_blocks as usize * BLOCK])
            .collect();
        let slots = (self.sb.nr_segments * self.sb.segment_blocks) as usize;
        let segment = self.sb.segment_blocks as usize;
        let room = if self.rng.one_in(2) { slots } else { self.rng.range(15, 60) as usize * segment / 15 };
        self.writeback = Mover::new(room);
        self.relocation = Mover::new(self.rng.range(8, 40) as usize * segment / 16);
        self.space = false;
        self.checkpointing = false;
        self.has_failed = false;
        self.lost = Lost::new(slots).unwrap();
        (self.idle_work, self.last_progress) = (0, self.counts.steps);
        self.recover(newest);
        let expected = self.expected(newest);
        self.check_volume(&expected);
        self.check_dirty();
    }

    /// One attempt to resume; none when the machine crashed on the way.
    fn replay(&mut self, unstable: bool) -> Option<(Engine, Checkpoint)> {
        if unstable && self.rng.one_in(3) {
            self.draw_absence();
        }
        let superblock = self.cache.sector(0);
        assert_eq!(Superblock::decode(&superblock).as_ref(), Ok(&self.sb));
        let mut slots = [Held::Unreadable; CHECKPOINT_BLOCKS.len()];
        for (slot, block) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
            let Ok(found) = self.checkpoint_slot(block) else { return self.refused() };
            *slot = found;
        }
        let chosen = Checkpoint::choose(&slots).unwrap();
        self.say(|| format!("replay from {chosen:?}"));
        let mut replay =
            Replay::with_secret(&self.sb, chosen, self.plan.nr_buffers, Secret::new(SECRET)).unwrap();
        let mut reads = 0;
        while let Want::Read { slot, blocks } = replay.want() {
            if unstable && self.rng.one_in(40) {
                return self.crash_in_replay(None);
            }
            let (sector, sectors) = (block_sector(&self.sb, slot), u64::from(blocks) * BLOCK_SECTORS);
            let fed = match insist_or_loss(|| self.cache.try_read(sector, sectors), |e| *e) {
                Ok(Ok(b)) => replay.feed(&b),
                Ok(Err(loss)) => {
                    self.counts.unreadable += 1;
                    replay.feed_unreadable(loss)
                }
                Err(_) => return self.refused(),
            };
            fed.unwrap_or_else(|e| panic!("{e}; promised {}", self.promised));
            self.say(|| format!("replay read {blocks} blocks at slot {slot}"));
            reads += 1;
            assert!(reads < 20_000, "replay has no end");
        }
        if unstable && self.rng.one_in(4) {
            return self.crash_in_replay(None);
        }
        self.cache.come_back();
        self.cache.flush(self.cache.mark());
        let (mut engine, cp) = replay.finish();
        let mut opening = Opening::new(cp);
        while let Some((block, checkpoint)) = opening.want(&engine) {
            let sector = host::checkpoint_sector(checkpoint);
            if unstable && self.rng.one_in(4) {
                return self.crash_in_replay(Some((block, sector)));
            }
            let ok = self.cache.try_write(block * BLOCK_SECTORS, &sector);
            opening.written(&mut engine, ok).unwrap();
            if unstable && self.rng.one_in(4) {
                return self.crash_in_replay(None);
            }
        }
        Some((engine, cp))
    }

    /// The contents of a checkpoint slot, which the medium may have lost.
    fn checkpoint_slot(&mut self, block: u64) -> Result<Held, i32> {
        let read = || self.cache.try_read(block * BLOCK_SECTORS, BLOCK_SECTORS);
        let sector = insist(read, |e| *e)?;
        let held = Held::of(sector.as_ref().map(|b| b.first_chunk().unwrap()), &self.sb);
        self.counts.unreadable += u64::from(held == Held::Unreadable);
        Ok(held)
    }

    /// A resume stops when a device does not answer. It has changed nothing then, and is tried again later.
    fn refused<T>(&mut self) -> Option<T> {
        self.say(|| "refused: something does not answer".into());
        self.cache.come_back();
        None
    }

    /// A part of the cache device goes away.
    fn draw_absence(&mut self) {
        let all = self.sb.cache_sectors();
        let first = self.rng.below(all);
        let len = self.rng.range(1, all);
        let errno = self.rng.pick(&AWAY);
        self.say(|| format!("sectors {first}+{len} of the cache device are away, error {errno}"));
        self.cache.go_away(first..first + len, errno);
        self.counts.away += 1;
    }

    fn crash_in_replay<T>(&mut self, write: Option<(u64, [u8; SECTOR])>) -> Option<T> {
        let in_flight = write.map(|(block, sector)| (block * BLOCK_SECTORS, sector.to_vec()));
        let how = self.draw_crash();
        self.crash_disks(how, [in_flight.into_iter().collect(), Vec::new()]);
        None
    }

    // The model.

    /// The log was found to end with record `newest`.
    fn recover(&mut self, newest: Seq) {
        for l in self.log.drain(..) {
            if l.seq > newest {
                self.counts.undone += 1;
                continue;
            }
            for s in l.sector..l.sector + l.sectors {
                self.base[s as usize] = l.version;
            }
        }
        self.crash_version = self.version;
        self.floor.clone_from(&self.base);
        self.promised = newest;
        self.acknowledged = newest;
        self.last_claim = (newest, Slot(0));
    }

    /// The contents of the volume after record `newest`.
    fn expected(&self, newest: Seq) -> Vec<u64> {
        let mut v = self.base.clone();
        for l in self.log.iter().filter(|l| l.seq <= newest) {
            v[l.sector as usize..(l.sector + l.sectors) as usize].fill(l.version);
        }
        v
    }

    /// Reads the whole volume at one moment, without writes.
    fn check_volume(&mut self, expected: &[u64]) {
        let mut at = 0;
        while at < self.plan.backing_sectors {
            let want = self.rng.range(1, self.plan.backing_sectors - at);
            at += self.sources(at, want, |sim, from| {
                for (sector, got) in sim.fetch(&from).expect("nobody writes") {
                    let want = expected[sector as usize];
                    assert_eq!(got, want, "sector {sector} holds version {got} instead of {want}");
                }
            });
        }
    }

    /// Counts the dirty blocks, when everything is durable and nothing under way.
    fn check_dirty(&mut self) {
        let state = self.engine.state();
        if self.checkpointing || state.durable != state.newest || state.failed {
            return;
        }
        let mut all = Batch::new((self.sb.nr_segments * self.sb.segment_blocks) as usize).unwrap();
        self.engine.begin_batch(&mut all);
        while self.engine.plan_writeback(&mut all, Seq::MAX) {}
        assert_eq!(all.items().len() as u64, state.dirty, "count of dirty slots");
        assert_eq!(all.segments(), state.nr_segments - state.free_segments);
    }

    // Reads.

    /// Looks up the first sectors of a read and passes their sources to `f`. Returns their number.
    fn sources(&mut self, sector: u64, sectors: u64, mut f: impl FnMut(&mut Self, Source)) -> u64 {
        let part = Part::first_of(sector, sectors);
        match self.engine.lookup(sector, sectors) {
            Run::Backing(n) => {
                assert!(n >= 1 && n <= sectors);
                f(self, Source::Backing { sector, sectors: n });
                n
            }
            Run::Cache { slot, blocks, generation } => {
                let n = u64::from(blocks) * BLOCK_SECTORS;
                assert!(n >= 1 && n <= sectors && part.first == 0);
                let segment = |slot: Slot| slot.segment(self.sb.segment_blocks);
                assert_eq!(segment(slot), segment(slot.plus(blocks - 1)), "more than one segment");
                f(self, Source::Cache { slot, blocks, generation, addr: part.addr, mask: 0xff });
                n
            }
            Run::Pieces(pieces) => {
                let mut rest = part.mask();
                for p in pieces.as_slice() {
                    assert!(p.mask & !rest == 0 && p.mask != 0, "pieces overlap or are not asked for");
                    rest &= !p.mask;
                    let from = match p.ram {
                        Some((buffer, block)) => {
                            let crc = self.checks.checksum(p.slot);
                            Source::Ram { buffer, block, slot: p.slot, crc, addr: part.addr, mask: p.mask }
                        }
                        None => Source::Cache {
                            slot: p.slot,
                            blocks: 1,
                            generation: p.generation,
                            addr: part.addr,
                            mask: p.mask,
                        },
                    };
                    f(self, from);
                }
                for i in (0..BLOCK_SECTORS).filter(|i| rest & 1 << i != 0) {
                    f(self, Source::Backing { sector: part.addr.first_sector() + i, sectors: 1 });
                }
                part.sectors.into()
            }
        }
    }

    /// Looks up the sectors of a part of a read again. Returns the number of parts that replace it.
    fn look_again(&mut self, op: u64, gone: &Source) -> usize {
        let &Source::Cache { blocks, addr, mask, .. } = gone else {
            panic!("only segments are opened again")
        };
        self.counts.gone += 1;
        let (first, end) = (addr.first_sector(), addr.plus(blocks.into()).first_sector());
        let mut from = Vec::new();
        let mut at = first;
        while at < end {
            // A part of a block goes sector by sector.
            let most = if mask == 0xff { end - at } else { 1 };
            let wanted = mask & 1 << (at % BLOCK_SECTORS) != 0;
            at += if wanted { self.sources(at, most, |_, f| from.push(f)) } else { 1 };
        }
        let parts = from.len();
        self.jobs.extend(from.into_iter().map(|from| Job::Read { op, from }));
        parts
    }

    /// A part of a read completes. Returns the versions of its sectors, or none when the log has come round
    /// meanwhile.
    fn fetch(&mut self, from: &Source) -> Option<Vec<(u64, u64)>> {
        let of_block = |addr: Block, mask: u8, block: &[u8], out: &mut Vec<(u64, u64)>| {
            for i in (0..BLOCK_SECTORS as usize).filter(|i| mask & 1 << i != 0) {
                let sector = addr.first_sector() + i as u64;
                out.push((sector, version_of(sector, &block[i * SECTOR..(i + 1) * SECTOR])));
            }
        };
        let mut out = Vec::new();
        match *from {
            Source::Backing { sector, sectors } => {
                for s in sector..sector + sectors {
                    let b = self.backing.try_read(s, 1).expect("a sector that is nowhere else can be read");
                    out.push((s, version_of(s, &b)));
                }
            }
            Source::Cache { slot, blocks, generation, addr, mask } => {
                let all = self.cache.read(block_sector(&self.sb, slot), u64::from(blocks) * BLOCK_SECTORS);
                match self.checks.judge(slot, generation, all.chunks(BLOCK).map(|b| crc32c(0, b))) {
                    Verdict::Intact => (),
                    Verdict::Gone => return None,
                    Verdict::Wrong => panic!("checksum of slot {slot} or one of {blocks}"),
                }
                for (i, block) in (0..).zip(all.chunks(BLOCK)) {
                    of_block(addr.plus(i), mask, block, &mut out);
                }
            }
            Source::Ram { buffer, block, slot, crc, addr, mask } => {
                let at = block as usize * BLOCK;
                let b = &self.buffers[usize::from(buffer)][at..at + BLOCK];
                assert_eq!(crc32c(0, b), crc, "checksum of slot {slot} in RAM");
                of_block(addr, mask, b, &mut out);
                self.engine.unpin_buffer(buffer);
            }
        }
        Some(out)
    }

    // Steps.

    fn step(&mut self, mode: Mode) {
        self.counts.steps += 1;
        if self.cache.is_away() {
            if self.counts.steps >= self.away_until || mode != Mode::Busy {
                self.say(|| "all of the cache device is back".into());
                self.cache.come_back();
            }
        } else if mode == Mode::Busy && self.plan.away_every != 0 && self.rng.one_in(self.plan.away_every) {
            self.draw_absence();
            self.away_until = self.counts.steps + self.rng.range(20, 3000);
        }
        if self.counts.steps % AUDIT_EVERY == 0 {
            assert_eq!(self.engine.audit(), Ok(()));
        }
        if self.counts.steps % 16 == 3 {
            // As the commit thread does, ahead of the head, but in pieces of any size.
            self.engine.prepare((self.counts.steps / 16 % 7 * 5 + 1) as u32);
        }
        if mode == Mode::Busy && self.plan.backing_fails_every != 0 && self.rng.one_in(20) {
            self.reset_unseen();
        }
        match self.rng.below(16) {
            0..=5 => {
                if !self.jobs.is_empty() {
                    let i = self.rng.index(self.jobs.len());
                    // In other modes the run waits for the end of everything, so slow jobs are less slow.
                    let slowness = self.plan.slowness.min(if mode == Mode::Busy { 300 } else { 10 });
                    if self.plan.slow & 1 << self.jobs[i].kind() != 0 && !self.rng.one_in(slowness) {
                        return;
                    }
                    let job = self.jobs.swap_remove(i);
                    self.finish(job);
                }
            }
            6..=8 => {
                if !self.ops.is_empty() {
                    let i = self.rng.index(self.ops.len());
                    let (id, op) = self.ops.swap_remove(i);
                    if let Some(op) = self.advance(id, op) {
                        self.ops.push((id, op));
                    }
                }
            }
            9 => {
                if mode == Mode::Busy && self.ops.len() < self.plan.most_ops {
                    self.begin();
                }
            }
            10 | 11 => self.poll(),
            12 | 13 => {
                if mode != Mode::Busy || self.rng.one_in(self.plan.writeback_every) {
                    self.write_back(mode);
                }
            }
            14 => self.relocate(mode),
            _ => self.move_tail(mode),
        }
        let e = &self.engine;
        assert_eq!(
            [e.failed(), e.state().failed, e.check().is_err()],
            [self.has_failed; 3],
            "the log fails when an I/O does, and only then"
        );
    }

    /// All operations that were begun end.
    fn settle(&mut self) {
        self.settle_in(Mode::Quiet, |sim| {
            sim.ops.is_empty()
                && sim.jobs.is_empty()
                && sim.writeback.phase == Phase::Idle
                && sim.relocation.phase == Phase::Idle
        });
    }

    fn settle_in(&mut self, mode: Mode, done: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if done(self) {
                return;
            }
            self.step(mode);
        }
        panic!(
            "no progress: {:?}, {} jobs, {} operations, writeback {:?}, relocation {:?}",
            self.engine.state(),
            self.jobs.len(),
            self.ops.len(),
            self.writeback.phase,
            self.relocation.phase
        );
    }

    fn drain(&mut self) {
        self.settle();
        self.find_out();
        let expected = self.expected(Seq::MAX);
        self.check_volume(&expected);
        let goal = self.engine.flush();
        self.settle_in(Mode::Drain, |sim| sim.engine.failed() || sim.engine.has_left_log(goal));
        if self.engine.has_left_log(goal) {
            self.check_left();
        }
        self.settle();
        if self.engine.failed() {
            return;
        }
        self.counts.drains += 1;
        let state = self.engine.state();
        assert_eq!(state.free_segments, state.nr_segments);
        let expected = self.expected(Seq::MAX);
        self.drained(&expected);
        self.check_volume(&expected);
    }

    /// A drain is over, and no write came since: whatever is still under way, nothing is left to be replayed.
    fn check_left(&mut self) {
        let disks = (self.cache.clone(), self.backing.clone());
        let (checks, bypass) = (self.checks.clone(), self.bypass.clone());
        let in_flight = self.in_flight();
        self.crash_disks(Crash::Power, in_flight);
        let (engine, _) = self.come_up();
        assert_eq!(engine.state().dirty, 0, "blocks of the log come back after a drain");
        (self.cache, self.backing) = disks;
        (self.checks, self.bypass) = (checks, bypass);
    }

    fn begin(&mut self) {
        let id = self.next_op;
        self.next_op += 1;
        let (start, n) = self.draw_range();
        let percent = self.rng.below(100);
        let op = if percent < self.plan.flush_percent {
            self.counts.flushes += 1;
            Op::Flush(self.engine.flush(), self.acknowledged)
        } else if percent < 75 {
            self.counts.writes += 1;
            let before = self.rng.one_in(20).then(|| (self.engine.flush(), self.acknowledged));
            Op::Write(Write {
                next: start,
                end: start + n,
                fua: self.rng.below(100) < self.plan.flush_percent / 2,
                before,
                promise_before: Seq::NONE,
                copies: 0,
                last_seq: Seq::NONE,
                done: Vec::new(),
                way: if self.rng.one_in(2) { Way::Open } else { Way::Log },
            })
        } else {
            self.counts.reads += 1;
            let range = start as usize..(start + n) as usize;
            Op::Read(Read {
                start,
                next: start,
                end: start + n,
                floor: self.floor[range].to_vec(),
                got: vec![u64::MAX; n as usize],
                parts: 0,
            })
        };
        self.say(|| match &op {
            Op::Flush(seq, _) => format!("flush {id}: wants record {seq}"),
            Op::Write(w) => {
                let fua = if w.fua { " with FUA" } else { "" };
                let before =
                    w.before.map_or(String::new(), |(seq, _)| format!(" after record {seq} is durable"));
                format!("write {id}: sectors {start}+{n}{fua}{before}")
            }
            Op::Read(_) => format!("read {id}: sectors {start}+{n}"),
        });
        self.ops.push((id, op));
    }

    fn draw_range(&mut self) -> (u64, u64) {
        let all = self.plan.backing_sectors;
        let spread = if self.rng.one_in(3) { 32.min(all) } else { all };
        let (start, n) = match self.rng.below(10) {
            0..=2 => (self.rng.below(spread), self.rng.range(1, 8)),
            3..=5 => (self.rng.below(spread) & !7, 8),
            6 | 7 => (self.rng.below(spread) & !7, 8 * self.rng.range(1, 6)),
            8 => (self.rng.below(spread), self.rng.range(1, 100)),
            _ => (self.rng.below(spread) & !7, 8 * self.rng.range(1, 50)),
        };
        (start, n.min(all - start))
    }

    /// An operation goes on, if it can. Returns it unless it has ended.
    fn advance(&mut self, id: u64, op: Op) -> Option<Op> {
        match op {
            Op::Flush(seq, promise) => {
                if self.engine.durable() >= seq {
                    self.promised = self.promised.max(promise);
                    return None;
                }
                // The flush ends with an error when the log has failed.
                (!self.engine.failed()).then_some(op)
            }
            Op::Read(mut r) => {
                if r.next < r.end {
                    let mut from = Vec::new();
                    r.next += self.sources(r.next, r.end - r.next, |_, f| from.push(f));
                    r.parts += from.len();
                    self.jobs.extend(from.into_iter().map(|from| Job::Read { op: id, from }));
                } else if r.parts == 0 {
                    self.end_read(&r);
                    return None;
                }
                Some(Op::Read(r))
            }
            Op::Write(w) => self.advance_write(id, w).map(Op::Write),
        }
    }

    fn end_read(&mut self, r: &Read) {
        for (i, (&got, &floor)) in r.got.iter().zip(&r.floor).enumerate() {
            let s = r.start as usize + i;
            assert!(
                got >= floor,
                "sector {s}: read version {got} when {floor} had been seen or acknowledged"
            );
            assert!(got == self.base[s] || got > self.crash_version, "sector {s}: version {got} was undone");
            assert!(got <= self.version, "sector {s}: read version {got}, which nobody wrote");
            // The data of a bypassing write that has failed are not durable: the next reset may take them, as
            // long as that write is not in the log.
            let is_new = got > self.floor[s];
            if is_new && !self.log.iter().any(|l| l.version == got && l.seq == Seq::NONE && !l.certain) {
                self.floor[s] = got;
            }
        }
    }

    fn advance_write(&mut self, id: u64, mut w: Write) -> Option<Write> {
        if let Some((seq, promise)) = w.before {
            if self.engine.durable() >= seq {
                (w.before, w.promise_before) = (None, promise);
            } else if self.engine.failed() {
                return None;
            }
            return Some(w);
        }
        if self.look_for_a_way(id, &mut w) {
            return Some(w);
        }
        if w.next < w.end {
            // The kernel's host copies before it claims more; other hosts need not.
            if w.copies > 0 && self.rng.one_in(2) {
                return Some(w);
            }
            let first = Block::of_sector(w.next);
            let blocks = Block(w.end.div_ceil(BLOCK_SECTORS)).since(first);
            match self.engine.claim_at(first, blocks as u32) {
                Ok(claim) => self.claimed(id, &mut w, claim, blocks),
                Err(Refused::Wait(Wait::Space)) => {
                    self.counts.space_waits += 1;
                    self.space = true;
                    if w.done.is_empty() && self.rng.one_in(2) {
                        w.way = Way::Open;
                    }
                }
                Err(Refused::Wait(Wait::Progress)) => (),
                Err(Refused::Failed) => {
                    assert!(self.engine.failed());
                    return (w.copies != 0).then_some(w);
                }
            }
            return Some(w);
        }
        if w.copies != 0 {
            return Some(w);
        }
        if w.fua {
            self.engine.want(w.last_seq);
            if self.engine.durable() < w.last_seq {
                return (!self.engine.failed()).then_some(w);
            }
            self.promised = self.promised.max(w.last_seq);
        }
        if !self.engine.failed() || w.fua {
            self.promised = self.promised.max(w.promise_before);
            self.acknowledged = self.acknowledged.max(w.last_seq);
            for (sector, sectors, version) in w.done {
                for s in sector..sector + sectors {
                    self.floor[s as usize] = self.floor[s as usize].max(version);
                }
            }
        }
        None
    }

    /// Whether a write bypasses the cache; then it stops for now.
    fn look_for_a_way(&mut self, id: u64, w: &mut Write) -> bool {
        let is_whole = w.next % BLOCK_SECTORS == 0 && w.end >= w.next + BLOCK_SECTORS;
        let (first, blocks) = (Block::of_sector(w.next), (w.end - w.next) / BLOCK_SECTORS);
        match w.way {
            Way::Open if is_whole && w.copies == 0 && self.engine.lets_bypass() => {
                let tag = self.bypass.begin(first, blocks);
                w.way = tag.map_or(Way::Log, |tag| Way::Looking(tag, 0));
            }
            Way::Looking(tag, looked) => {
                let n = self.rng.range(1, 16).min(blocks - looked);
                let absent = self.engine.count_absent(first.plus(looked), n);
                let looked = looked + absent;
                if absent == n && looked < blocks {
                    w.way = Way::Looking(tag, looked);
                } else if looked == 0 {
                    self.bypass.end(tag);
                    w.way = Way::Log;
                } else {
                    self.bypass.shorten(tag, looked);
                    self.version += 1;
                    let (sectors, version) = (looked * BLOCK_SECTORS, self.version);
                    let doubts = self.doubts.count();
                    self.jobs.push(Job::Around {
                        op: id,
                        tag,
                        sector: w.next,
                        sectors,
                        version,
                        doubts,
                        fails: false,
                    });
                    w.way = Way::Around;
                }
            }
            Way::Around => (),
            Way::Open | Way::Log => return false,
        }
        true
    }

    fn claimed(&mut self, id: u64, w: &mut Write, claim: Claim, blocks: u64) {
        assert!(claim.blocks >= 1 && u64::from(claim.blocks) <= blocks);
        assert!(usize::from(claim.buffer) < self.buffers.len());
        assert!(
            (claim.seq, claim.slot) > self.last_claim || claim.seq > self.last_claim.0,
            "order of claims"
        );
        assert_eq!(claim.offset, claim.slot.offset(self.plan.segment_blocks));
        assert!(claim.offset >= 1 && claim.offset + claim.blocks <= self.plan.segment_blocks);
        self.last_claim = (claim.seq, claim.slot);
        (self.idle_work, self.last_progress) = (0, self.counts.steps);
        self.say(|| {
            let Claim { seq, slot, blocks, .. } = claim;
            format!(
                "write {id}: {blocks} blocks in record {seq} from slot {slot}, version {}",
                self.version + 1
            )
        });
        let mut todo = Vec::new();
        for i in 0..claim.blocks {
            let part = Part::first_of(w.next, w.end - w.next);
            self.version += 1;
            let sectors = u64::from(part.sectors);
            self.log.push(Logged {
                seq: claim.seq,
                sector: w.next,
                sectors,
                version: self.version,
                certain: true,
            });
            w.done.push((w.next, sectors, self.version));
            todo.push((i, part, self.version));
            w.next += sectors;
        }
        self.rng.shuffle(&mut todo);
        w.copies += 1;
        w.last_seq = claim.seq;
        self.jobs.push(Job::Copy { op: id, claim, todo });
    }

    fn find_op(&mut self, id: u64) -> Option<&mut Op> {
        self.ops.iter_mut().find(|(i, _)| *i == id).map(|(_, op)| op)
    }

    fn fails(&mut self) -> bool {
        let fails = self.plan.fail_every != 0 && self.rng.one_in(self.plan.fail_every);
        self.counts.failures += u64::from(fails);
        self.has_failed |= fails;
        fails
    }

    /// A job ends, or makes progress.
    fn finish(&mut self, job: Job) {
        self.say(|| job.show());
        match job {
            Job::Copy { op, claim, mut todo } => {
                if let Some((i, part, version)) = todo.pop() {
                    let at = (claim.offset + i) as usize * BLOCK;
                    let block = &mut self.buffers[usize::from(claim.buffer)][at..at + BLOCK];
                    block.fill(0);
                    for k in part.first as usize..(part.first + part.sectors) as usize {
                        let sector = part.addr.first_sector() + k as u64;
                        block[k * SECTOR..(k + 1) * SECTOR].copy_from_slice(&content(sector, version));
                    }
                    let entry = Entry { addr: part.addr, mask: part.mask(), crc: crc32c(0, block) };
                    self.engine.stored(&claim, claim.slot.plus(i), entry);
                }
                if !todo.is_empty() {
                    self.jobs.push(Job::Copy { op, claim, todo });
                    return;
                }
                self.engine.copied(&claim);
                if let Some(Op::Write(w)) = self.find_op(op) {
                    w.copies -= 1;
                }
            }
            Job::Read { op, from } => {
                if self.is_unreadable(&from) {
                    // The read ends with an error.
                    self.ops.retain(|(id, _)| *id != op);
                    return;
                }
                let got = self.fetch(&from);
                let again = if got.is_none() { self.look_again(op, &from) } else { 0 };
                if let Some(Op::Read(r)) = self.find_op(op) {
                    for (sector, version) in got.into_iter().flatten() {
                        r.got[(sector - r.start) as usize] = version;
                    }
                    r.parts = r.parts + again - 1;
                }
            }
            Job::Record { seq, slot, buffer, offset, fua, data } => {
                let at = offset as usize * BLOCK;
                let now = &self.buffers[usize::from(buffer)][at..at + data.len()];
                assert!(now == &data[..], "the buffer of record {seq} changed while it was written");
                let sector = block_sector(&self.sb, slot);
                if self.fails() {
                    self.cache.tear(&mut self.rng, sector, &data);
                    self.engine.record_done(seq, fua, false);
                } else {
                    self.cache.write(sector, &data, fua);
                    self.engine.record_done(seq, fua, true);
                }
            }
            Job::Flush { upto, mark } => {
                let ok = !self.fails();
                if ok {
                    self.cache.flush(mark);
                }
                self.engine.flush_done(upto, ok);
            }
            Job::Checkpoint(cp, block) => {
                let ok = !self.fails();
                let sector = block * BLOCK_SECTORS;
                if ok {
                    // A write that is reported as failed may have been done or not.
                    let (blip, is_lost) = (self.rng.one_in(8), self.rng.one_in(2));
                    let is_there = !(blip && is_lost) && self.cache.try_write(sector, &cp.encode());
                    if blip || !is_there {
                        self.engine.checkpoint_missed();
                        self.jobs.push(Job::Checkpoint(cp, self.engine.checkpoint_block()));
                        return;
                    }
                } else {
                    self.cache.tear(&mut self.rng, sector, &cp.encode());
                }
                self.engine.checkpointed(ok);
                self.space = false;
                self.counts.checkpoints += 1;
                self.blank_stale();
            }
            Job::Blank(block) => {
                let ok = !self.rng.one_in(8) && self.cache.try_write(block * BLOCK_SECTORS, &[0; SECTOR]);
                self.engine.checkpoint_blanked(block, ok);
                self.counts.blanked += u64::from(ok);
                self.blank_stale();
            }
            Job::WritebackRead(i) => {
                Self::read_item(&self.cache, &self.sb, &mut self.writeback.work[i]);
                self.writeback.pending -= 1;
            }
            Job::WritebackWrite { item, sector, data } => {
                self.writeback.pending -= 1;
                if self.backing_fails() {
                    self.backing.tear(&mut self.rng, sector, &data);
                    self.backing.forget(&mut self.rng);
                    // The next attempt shows whether it can be written at all.
                    if self.rng.one_in(2) {
                        self.writeback.work[item].lost = true;
                    } else {
                        self.jobs.push(Job::WritebackWrite { item, sector, data });
                        self.writeback.pending += 1;
                    }
                } else {
                    self.backing.write(sector, &data, false);
                }
            }
            Job::Around { op, tag, sector, sectors, version, doubts, fails } => {
                let data = contents(sector, sectors, version);
                if fails {
                    self.doubts.add();
                }
                let has_failed = fails || self.backing_fails();
                let ok = !has_failed && self.doubts.count() == doubts;
                if ok {
                    self.backing.write(sector, &data, true);
                    self.counts.bypassed += 1;
                } else {
                    // A reset that another error has reported may have come between the write and its flush.
                    self.backing.tear(&mut self.rng, sector, &data);
                }
                if has_failed {
                    self.backing.forget(&mut self.rng);
                }
                self.log.push(Logged { seq: Seq::NONE, sector, sectors, version, certain: ok });
                self.bypass.end(tag);
                if let Some(Op::Write(w)) = self.find_op(op) {
                    w.way = Way::Log;
                    if ok {
                        w.next = sector + sectors;
                        w.done.push((sector, sectors, version));
                    }
                }
            }
            Job::WritebackFlush(mark) => {
                let ok = !self.backing_fails();
                if ok {
                    self.backing.flush(mark);
                } else {
                    self.backing.forget(&mut self.rng);
                }
                self.writeback.flushed = (ok, self.bypass.begun());
                self.writeback.pending -= 1;
            }
            Job::RelocationRead(i) => {
                Self::read_item(&self.cache, &self.sb, &mut self.relocation.work[i]);
                self.relocation.pending -= 1;
            }
            Job::RelocationCopy { claim, done, next } => self.relocation_copy(claim, done, next),
        }
    }

    /// Whether an I/O of the backing device fails; its writeback gets the error.
    fn backing_fails(&mut self) -> bool {
        let every = self.plan.backing_fails_every;
        let fails = every != 0 && self.rng.one_in(every);
        if fails {
            self.counts.failures += 1;
            self.doubts.add();
        }
        fails
    }

    /// The backing device is reset and forgets its unstable data. Only the error of a bypassing write will
    /// report this, while a flush that was sent before goes well.
    fn reset_unseen(&mut self) {
        let fails = self.jobs.iter_mut().find_map(|job| match job {
            Job::Around { fails, .. } => Some(fails),
            _ => None,
        });
        if let Some(fails) = fails {
            *fails = true;
            self.backing.forget(&mut self.rng);
            self.say(|| "the backing device is reset, and nobody knows yet".into());
        }
    }

    /// Whether this part of a read ends with an error; then the read is over.
    fn is_unreadable(&self, from: &Source) -> bool {
        let Source::Cache { slot, blocks, .. } = *from else { return false };
        self.cache.try_read(block_sector(&self.sb, slot), u64::from(blocks) * BLOCK_SECTORS).is_err()
    }

    /// Reads an item: its data, or the error.
    fn read_item(cache: &Disk, sb: &Superblock, w: &mut Work) {
        match cache.try_read(block_sector(sb, w.item.slot), BLOCK_SECTORS) {
            Ok(block) => w.data = block.to_vec(),
            Err(errno) => w.error = Some(errno),
        }
    }

    /// Whether the data of an item are those that were planned. Otherwise the log has come round meanwhile.
    fn is_there(engine: &Engine, batch: &Batch, w: &Work) -> bool {
        let slot = w.item.slot;
        let ok = w.error.is_some() || crc32c(0, &w.data) == engine.checks().checksum(slot);
        let held = engine.holds_item(batch, &w.item);
        assert!(ok || !held, "checksum of item in slot {slot}");
        held
    }

    fn poll(&mut self) {
        match host::poll(&mut self.engine) {
            Some(Io::Record { seq, slot, blocks, buffer, offset, fua }) => {
                assert!(
                    blocks >= 2
                        && offset + blocks <= self.plan.segment_blocks
                        && offset == slot.offset(self.plan.segment_blocks)
                );
                self.counts.records += 1;
                self.counts.fua_records += u64::from(fua);
                self.say(|| format!("record {seq} is sent: {blocks} blocks at slot {slot}, fua {fua}"));
                let at = offset as usize * BLOCK;
                let data = &mut self.buffers[usize::from(buffer)][at..at + blocks as usize * BLOCK];
                self.engine.encode_header(seq, data.first_chunk_mut().unwrap());
                let data = data.to_vec();
                self.jobs.push(Job::Record { seq, slot, buffer, offset, fua, data });
            }
            Some(Io::Flush { upto }) => {
                self.say(|| format!("flush of the cache device is sent, for records up to {upto}"));
                self.jobs.push(Job::Flush { upto, mark: self.cache.mark() });
            }
            None => (),
        }
    }

    // Reclaim.

    fn move_tail(&mut self, mode: Mode) {
        if self.checkpointing {
            return;
        }
        let whole = mode == Mode::Drain || self.rng.one_in(10);
        // A suspend may come at any time.
        let suspend = self.rng.one_in(30);
        if suspend && self.rng.one_in(2) {
            self.engine.forgive_slots();
        }
        let noted = if suspend { self.engine.note_durable() } else { None };
        if let Some(cp) = noted.or_else(|| self.engine.advance_tail(whole)) {
            self.say(|| format!("sent: {cp:?}"));
            self.checkpointing = true;
            self.jobs.push(Job::Checkpoint(cp, self.engine.checkpoint_block()));
        }
    }

    /// After a checkpoint: the next one waits until older ones are blank.
    fn blank_stale(&mut self) {
        let stale = self.engine.stale_checkpoint();
        self.checkpointing = stale.is_some();
        self.jobs.extend(stale.map(Job::Blank));
    }

    fn write_back(&mut self, mode: Mode) {
        let busy = mode == Mode::Busy;
        match self.writeback.phase {
            Phase::Idle if mode == Mode::Drain || self.space || (busy && self.rng.one_in(8)) => {
                // Behind the last plan, or from the beginning.
                if self.rng.one_in(2) {
                    self.engine.continue_batch(&mut self.writeback.batch);
                } else {
                    self.engine.begin_batch(&mut self.writeback.batch);
                }
                self.writeback.phase = Phase::Planning;
            }
            Phase::Planning => {
                let wb = &mut self.writeback;
                let more = self.engine.plan_writeback(&mut wb.batch, Seq::MAX);
                if more && !self.rng.one_in(8) {
                    return;
                }
                wb.batch.sort();
                if self.rng.one_in(2) {
                    while self.engine.plan_neighbours(&mut wb.batch, Seq::MAX) {}
                    wb.batch.sort();
                }
                (wb.at, wb.phase) = (0, Phase::Begin);
            }
            Phase::Begin => {
                let wb = &mut self.writeback;
                let chunk = if wb.work.is_empty() { 32 } else { 6 };
                if wb.at == wb.batch.items().len() || self.rng.one_in(chunk) {
                    wb.phase = if !wb.work.is_empty() {
                        Phase::Reading
                    } else if wb.at == wb.batch.items().len() {
                        Phase::Idle
                    } else {
                        Phase::Begin
                    };
                    return;
                }
                let item = wb.batch.items()[wb.at];
                wb.at += 1;
                if let Some(live) = self.engine.begin_item(&wb.batch, &item) {
                    assert_eq!(live & !item.mask(), 0, "an item has grown");
                    self.jobs.push(Job::WritebackRead(wb.work.len()));
                    wb.pending += 1;
                    wb.work.push(Work { item, live, data: Vec::new(), lost: false, error: None });
                }
            }
            Phase::Reading if self.writeback.pending == 0 => {
                let wb = &mut self.writeback;
                let all = wb.work.len();
                wb.work.retain(|w| Self::is_there(&self.engine, &wb.batch, w));
                self.counts.gone_items += (all - wb.work.len()) as u64;
                self.round.begin();
                self.send_round();
            }
            Phase::Writing if self.writeback.pending == 0 => match self.round.written() {
                Next::Write => self.send_round(),
                Next::Flush => {
                    self.jobs.push(Job::WritebackFlush(self.backing.mark()));
                    self.writeback.pending += 1;
                    self.writeback.phase = Phase::Flushing;
                }
                Next::Leave => (self.writeback.left, self.writeback.phase) = (true, Phase::Flushing),
            },
            Phase::Flushing if self.writeback.pending == 0 => {
                let (ok, begun) = self.writeback.flushed;
                if !self.writeback.left {
                    if !self.bypass.have_ended(begun) {
                        return;
                    }
                    self.writeback.left = !self.round.flushed(ok);
                }
                self.writeback.phase = Phase::Ending;
            }
            Phase::Ending => {
                let wb = &mut self.writeback;
                match wb.work.pop() {
                    Some(w) => {
                        if !wb.left && !w.lost && w.error.is_none() {
                            self.engine.written_back(&wb.batch, &w.item);
                            self.counts.written_back += 1;
                            self.idle_work = 0;
                        }
                    }
                    None => (wb.left, wb.phase) = (false, Phase::Begin),
                }
            }
            _ => (),
        }
    }

    /// Sends all items of the round that are not lost.
    fn send_round(&mut self) {
        let mut to_write: HashMap<u64, ()> = HashMap::new();
        let wb = &mut self.writeback;
        for (item, w) in wb.work.iter().enumerate().filter(|(_, w)| !w.lost && w.error.is_none()) {
            let mut i = 0;
            while i < BLOCK_SECTORS as usize {
                if w.live & 1 << i == 0 {
                    i += 1;
                    continue;
                }
                let first = i;
                while i < BLOCK_SECTORS as usize && w.live & 1 << i != 0 {
                    let sector = w.item.addr().first_sector() + i as u64;
                    assert!(to_write.insert(sector, ()).is_none(), "sector {sector} twice in a chunk");
                    i += 1;
                }
                let sector = w.item.addr().first_sector() + first as u64;
                let data = w.data[first * SECTOR..i * SECTOR].to_vec();
                self.jobs.push(Job::WritebackWrite { item, sector, data });
                wb.pending += 1;
            }
        }
        wb.phase = Phase::Writing;
    }

    fn relocate(&mut self, mode: Mode) {
        match self.relocation.phase {
            Phase::Idle if mode == Mode::Busy && self.rng.one_in(self.plan.relocate_every) => {
                // As in the kernel's host: not before segments run short.
                let state = self.engine.state();
                let low_water = (state.nr_segments / 8).max(RESERVED_SEGMENTS + 2);
                if self.plan.judges && state.free_segments >= low_water {
                    return;
                }
                self.engine.begin_batch(&mut self.relocation.batch);
                self.relocation.phase = Phase::Planning;
            }
            Phase::Planning => {
                let more = self.engine.plan_relocation(&mut self.relocation.batch);
                if !more || self.rng.one_in(3) {
                    if self.plan.judges
                        && self.engine.judge_relocation(&self.relocation.batch) != Relocation::MakesRoom
                    {
                        self.relocation.phase = Phase::Idle;
                        return;
                    }
                    (self.relocation.at, self.relocation.phase) = (0, Phase::Begin);
                }
            }
            Phase::Begin => {
                let r = &mut self.relocation;
                let Some(&item) = r.batch.items().get(r.at) else {
                    r.phase = Phase::Reading;
                    return;
                };
                r.at += 1;
                if let Some(live) = self.engine.begin_item(&r.batch, &item) {
                    self.jobs.push(Job::RelocationRead(r.work.len()));
                    r.pending += 1;
                    self.idle_work += 1;
                    let bound = MOST_PASSES * self.engine.state().nr_slots;
                    assert!(
                        !self.plan.judges || self.idle_work <= bound,
                        "relocation has read {} blocks, and nobody got on by it: {:?}",
                        self.idle_work,
                        self.engine.state()
                    );
                    r.work.push(Work { item, live, data: Vec::new(), lost: false, error: None });
                }
            }
            Phase::Reading if self.relocation.pending == 0 => {
                let r = &mut self.relocation;
                let all = r.work.len();
                r.work.retain(|w| Self::is_there(&self.engine, &r.batch, w));
                self.counts.gone_items += (all - r.work.len()) as u64;
                if !self.are_lost() {
                    // Blocks in the way are kept, and looked at again later.
                    self.counts.kept += 1;
                    self.relocation.phase = Phase::Ending;
                    return;
                }
                (self.relocation.at, self.relocation.phase) = (0, Phase::Writing);
                self.relocation_tries = 0;
            }
            Phase::Writing => self.claim_relocation(),
            Phase::Ending => {
                self.relocation.work.clear();
                self.relocation.phase = Phase::Idle;
            }
            _ => (),
        }
    }

    /// As in the kernel's host: whether each block that relocation has read is there, or lost for good. Here
    /// the medium never loses dirty blocks, so none is ever lost, and a request for haste changes nothing.
    fn are_lost(&mut self) -> bool {
        // An hour passes in a few thousand steps.
        let now = self.counts.steps * 2000;
        if self.rng.one_in(3) {
            self.lost.hurry(now);
        }
        self.lost.begin(now);
        let mut all = true;
        for w in &self.relocation.work {
            let Some(errno) = w.error else { continue };
            let (slot, crc) = (w.item.slot, self.checks.checksum(w.item.slot));
            let near = self.near(slot);
            all &=
                self.lost.wants(slot, crc) && self.lost.look(slot, crc, Sight::Error(Word::of(errno)), &near);
        }
        self.lost.end(now);
        let gone = self.relocation.work.iter().find(|w| w.error.is_some());
        assert!(
            !all || gone.is_none(),
            "block {} is given up, and is only away",
            gone.map_or(Block(0), |w| w.item.addr())
        );
        all
    }

    fn near(&self, slot: Slot) -> Near {
        let (nr, segment) = (self.sb.nr_segments, slot.segment(self.sb.segment_blocks));
        let around = Around::look(slot, nr * self.sb.segment_blocks, |place| {
            match self.cache.try_read(block_sector(&self.sb, place), BLOCK_SECTORS) {
                Err(errno) => Sight::Error(Word::of(errno)),
                Ok(b) if crc32c(0, &b) == self.checks.checksum(place) => Sight::Right,
                Ok(_) => Sight::Readable,
            }
        });
        let see = |segment: Segment| {
            let first = segment.first_slot(self.sb.segment_blocks);
            let block = self.cache.try_read(block_sector(&self.sb, first), BLOCK_SECTORS);
            match (block, self.engine.record_at(segment)) {
                (Err(errno), _) => Sight::Error(Word::of(errno)),
                (Ok(_), None) => Sight::Readable,
                (Ok(b), Some(seq)) => {
                    let right = RecordHeader::is_of(b[..].first_chunk().unwrap(), self.sb.nonce, seq);
                    assert!(right, "record {seq} does not begin segment {segment}");
                    Sight::Right
                }
            }
        };
        let beside = [see(segment.before(nr)), see(segment.next(nr))];
        Near { own: see(segment), beside, around }
    }

    fn claim_relocation(&mut self) {
        let r = &mut self.relocation;
        let left = r.work.len() - r.at;
        if left == 0 {
            self.engine.cancel_relocation();
            r.phase = Phase::Ending;
            return;
        }
        match self.engine.claim_relocation(left as u32) {
            Ok(claim) => {
                assert!(claim.blocks >= 1 && claim.blocks as usize <= left);
                assert!((claim.seq, claim.slot) > self.last_claim || claim.seq > self.last_claim.0);
                self.last_claim = (claim.seq, claim.slot);
                let done = r.at;
                r.at += claim.blocks as usize;
                r.phase = Phase::Flushing;
                self.jobs.push(Job::RelocationCopy { claim, done, next: 0 });
            }
            Err(wait) => {
                // As in the kernel's host: relocation gives up when there is no space, because it makes space
                // itself, and when the log has failed.
                if wait == Wait::Space || self.engine.failed() {
                    self.engine.cancel_relocation();
                    r.phase = Phase::Ending;
                }
                self.relocation_tries += 1;
            }
        }
    }

    fn relocation_copy(&mut self, claim: Claim, done: usize, next: u32) {
        if next < claim.blocks {
            let w = &self.relocation.work[done + next as usize];
            let at = (claim.offset + next) as usize * BLOCK;
            self.buffers[usize::from(claim.buffer)][at..at + BLOCK].copy_from_slice(&w.data);
            self.engine.relocated(&claim, claim.slot.plus(next), &self.relocation.batch, &w.item, None);
            self.counts.relocated += 1;
            self.jobs.push(Job::RelocationCopy { claim, done, next: next + 1 });
            return;
        }
        self.engine.copied(&claim);
        self.relocation.phase = Phase::Writing;
    }
}
