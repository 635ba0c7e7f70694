// SPDX-License-Identifier: GPL-2.0-only

//! Small histories with all their crashes: nothing is random here.
//!
//! A history begins with one of a few cache devices ([`Start`]) and is a sequence of [`Event`]s. At its end
//! the power is cut in every possible way:
//!
//! - Each unstable write to the cache device (completed and not flushed, or in flight) is lost, whole, or
//!   torn. Of a torn record the first `n` sectors are left, for every `n`, or any set of its blocks when it
//!   has at most five of them, else all but one or any one. Of a checkpoint nothing is left, all of it, or a
//!   sector that cannot be read.
//! - Of each unstable write to the backing device the first `n` sectors are left, for every `n`.
//! - All of these in all combinations. Where there are more than [`MOST`] of them, the outcomes of a write
//!   are reduced step by step, see [`Outcomes`]; the number of such reductions is counted.
//!
//! Each of these images is resumed from and checked by the oracle of `volume.rs`. Then, from the same image:
//!
//! - The power is cut again when the resume has written its checkpoint, which is whole, or cannot be read.
//! - Everything is written back: the backing device alone must be the volume.
//! - In the new life a record of one, two or three blocks is written and made durable, and the power is cut
//!   once more: leftovers of the first crash behind the end of the log must stay there.
//!
//! If the last event of a history changes neither the unstable writes nor the promises, the history has the
//! same crashes as the one before that event, and is not counted.

use super::disk::{Disk, SECTOR};
use super::host;
use super::search::catch;
use super::volume::{block_sector, content, version_of};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use writeboost::engine::log::{Claim, Io, Refused};
use writeboost::engine::places::Opening;
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::Batch;
use writeboost::engine::replay::{Replay, Want};
use writeboost::engine::{Engine, Entry, Part, Secret};
use writeboost::format::{Checkpoint, Held, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS};
use writeboost::host::crc32c;

/// The secret of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

const SEGMENT_BLOCKS: u32 = 16;
const NR_BUFFERS: u8 = 3;
/// 16 blocks, the last of which is short.
const SECTORS: u64 = 125;
/// Most images of the first crash, by the number of events before it.
const MOST: [usize; 6] = [20_000, 20_000, 1_000, 200, 100, 50];

/// The contents of the cache device at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Nothing.
    New,
    /// Leftovers of the log's first time around, everywhere.
    Aged,
    /// As [`Start::Aged`], with room for a record of one block in the head segment.
    Edge,
    /// As many segments in use as there can be before writes have to wait; few of their blocks are live.
    Full,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Block 0 is written.
    Whole,
    /// Three sectors of block 0 are written.
    Part,
    /// The end of block 0, block 1 and the beginning of block 2 are written.
    Over,
    /// As many blocks are written as a segment has room for.
    Big,
    /// Block 1 is written with FUA.
    Fua,
    /// A flush is submitted.
    Flush,
    /// The oldest I/O on the cache device completes.
    First,
    /// The newest of several I/Os on the cache device completes.
    Last,
    /// Everything that may be written back is written; the backing device is not flushed.
    Writeback,
    /// The backing device is flushed, and the blocks that were written back are clean.
    Clean,
    /// The dirty blocks in the oldest segments are copied to the head.
    Relocate,
    /// The tail moves: a checkpoint is written.
    Tail,
}

use Event::{Big, Clean, First, Flush, Fua, Last, Over, Relocate, Tail, Whole, Writeback};

const STARTS: [Start; 4] = [Start::New, Start::Aged, Start::Edge, Start::Full];
const EVENTS: [Event; 12] =
    [Whole, Event::Part, Over, Big, Fua, Flush, First, Last, Writeback, Clean, Relocate, Tail];

/// Longer histories, for failures that need many steps. Impossible events are left out: a write without room
/// must not find any before the checkpoint is durable.
const LONG: [&str; 7] = [
    // A segment is used again as soon as possible, with its checkpoint in flight.
    "full writeback clean tail big last big last big last big last big last big last flush first",
    "full relocate flush first first tail big last big last big last big last flush first",
    // A record is lost, but the next one is not.
    "edge whole flush first whole flush over flush last last",
    "edge over flush whole first over flush first last",
    // Writeback, relocation and overwrites of the same block.
    "aged whole flush first first writeback part flush first relocate clean first tail",
    "aged over flush first first relocate writeback clean flush first tail over fua first",
    "new big over flush first first first writeback clean part fua tail first first",
];

/// A history: its start and its events.
#[derive(Clone, PartialEq, Debug)]
pub struct History(pub Start, pub Vec<Event>);

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{:?}", self.0);
        for e in &self.1 {
            text += &format!(" {e:?}");
        }
        f.write_str(&text.to_lowercase())
    }
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or("");
        let named = |x: &dyn fmt::Debug, word: &str| format!("{x:?}").eq_ignore_ascii_case(word);
        let unknown =
            |word: &str| format!("{word:?} is no part of a history, which looks like: full tail big flush");
        let start = STARTS.into_iter().find(|s| named(s, first)).ok_or_else(|| unknown(first))?;
        let event = |word| EVENTS.into_iter().find(|e| named(e, word)).ok_or_else(|| unknown(word));
        Ok(Self(start, words.map(event).collect::<Result<_, _>>()?))
    }
}

/// An I/O on the cache device that has not completed.
#[derive(Clone)]
enum Flight {
    Record { seq: Seq, fua: bool, sector: u64, data: Vec<u8> },
    Flush { upto: Seq, mark: u64 },
    Checkpoint(Checkpoint),
}

struct Logged {
    seq: Seq,
    sector: u64,
    sectors: u64,
    version: u64,
}

/// A volume on which every step is complete when it returns.
struct Machine {
    sb: Superblock,
    cache: Disk,
    backing: Disk,
    engine: Engine,
    /// The checkpoint that the resume has written.
    resumed: Checkpoint,
    /// Allocated when they are first written to: most volumes are only read.
    buffers: Vec<Vec<u8>>,
    in_flight: Vec<Flight>,
    /// The blocks that writeback has written since the backing device was flushed.
    batch: Option<Batch>,
    /// The waiting flushes: the record that each waits for, and the promise that it makes then.
    waits: Vec<(Seq, Seq)>,
    acknowledged: Seq,
    promised: Seq,
    version: u64,
    base: Vec<u64>,
    log: Vec<Logged>,
}

/// The two devices and their contents, at a moment when the power comes on.
#[derive(Clone)]
struct Image {
    sb: Superblock,
    cache: Disk,
    backing: Disk,
    base: Vec<u64>,
    version: u64,
}

impl Image {
    fn new() -> Self {
        let sectors = Superblock::min_cache_sectors(SEGMENT_BLOCKS);
        let sb = Superblock::new(sectors, SECTORS, SEGMENT_BLOCKS, [1; 16], 77).unwrap();
        let mut cache = Disk::new(sectors);
        let first = Checkpoint::first(sb.nonce);
        cache.poke(0, &sb.encode());
        cache.poke(first.block() * BLOCK_SECTORS, &first.encode());
        Self { sb, cache, backing: Disk::new(SECTORS), base: vec![0; SECTORS as usize], version: 0 }
    }

    /// The image that a history begins with.
    fn of(start: Start) -> Self {
        let mut m = Machine::begin(Self::new());
        if start == Start::New {
            return m.power_off();
        }
        // Once around and a bit, in two epochs, records of all sizes. Everything is reclaimed in the end.
        for round in 0..3 {
            for i in 0..24 {
                m.must([Whole, Over, Event::Part, Big][(i + round) % 4]);
                m.settle();
                if i % 4 == 3 {
                    m.reclaim();
                }
            }
            m.reclaim();
            m = Machine::begin(m.power_off());
        }
        if start == Start::Full {
            // One block in the oldest segment stays live.
            m.write(15 * BLOCK_SECTORS, SECTORS - 15 * BLOCK_SECTORS, false).unwrap();
            m.settle();
            while m.event(Big) {
                m.settle();
            }
        }
        m.power_off()
    }
}

/// Replays the log on the cache device. The caller writes the checkpoint.
fn replay(sb: &Superblock, cache: &Disk) -> (Engine, Checkpoint) {
    let slots = CHECKPOINT_BLOCKS.map(|block| Held::of(Some(&cache.sector(block * BLOCK_SECTORS)), sb));
    let chosen = Checkpoint::choose(&slots).unwrap();
    let mut replay = Replay::with_secret(sb, chosen, NR_BUFFERS, Secret::new(SECRET)).unwrap();
    let mut reads = 0;
    while let Want::Read { slot, blocks } = replay.want() {
        let data = cache.read(block_sector(sb, slot), u64::from(blocks) * BLOCK_SECTORS);
        replay.feed(&data).unwrap_or_else(|e| panic!("{e}"));
        reads += 1;
        assert!(reads < 2_000, "replay has no end");
    }
    replay.finish()
}

impl Machine {
    fn begin(image: Image) -> Self {
        let Image { sb, mut cache, backing, base, version } = image;
        let (mut engine, cp) = replay(&sb, &cache);
        let mut opening = Opening::new(cp);
        while let Some((block, checkpoint)) = opening.want(&engine) {
            cache.write(block * BLOCK_SECTORS, &host::checkpoint_sector(checkpoint), true);
            opening.written(&mut engine, true).unwrap();
        }
        let newest = engine.state().newest;
        Self {
            resumed: cp,
            buffers: vec![Vec::new(); usize::from(NR_BUFFERS)],
            in_flight: Vec::new(),
            batch: None,
            waits: Vec::new(),
            acknowledged: newest,
            promised: newest,
            log: Vec::new(),
            sb,
            cache,
            backing,
            engine,
            version,
            base,
        }
    }

    /// The power goes off when nothing is under way.
    fn power_off(mut self) -> Image {
        self.settle();
        let base = self.expected(Seq::MAX);
        self.cache.restart();
        self.backing.restart();
        Image { sb: self.sb, cache: self.cache, backing: self.backing, base, version: self.version }
    }

    fn must(&mut self, event: Event) {
        assert!(self.event(event), "{event:?} cannot happen: {:?}", self.engine.state());
    }

    /// Everything becomes durable.
    fn settle(&mut self) {
        self.engine.flush();
        self.poll();
        while self.event(First) {}
        assert_eq!(self.engine.durable(), self.engine.state().newest);
    }

    /// Everything is written back and every segment is free.
    fn reclaim(&mut self) {
        if self.event(Writeback) {
            self.must(Clean);
        }
        while self.event(Tail) {
            self.settle();
        }
    }

    /// An event takes place, if it can.
    fn event(&mut self, event: Event) -> bool {
        let happened = match event {
            Whole => self.write(0, 8, false).is_ok(),
            Event::Part => self.write(2, 3, false).is_ok(),
            Over => self.write(6, 11, false).is_ok(),
            Big => self.write(0, 15 * BLOCK_SECTORS, false).is_ok(),
            Fua => self.write(8, 8, true).is_ok(),
            Flush => {
                self.waits.push((self.engine.flush(), self.acknowledged));
                true
            }
            First => !self.in_flight.is_empty() && self.complete(0),
            Last => self.in_flight.len() > 1 && self.complete(self.in_flight.len() - 1),
            Writeback => self.batch.is_none() && self.write_back(),
            Clean => match self.batch.take() {
                Some(batch) => {
                    self.backing.flush(self.backing.mark());
                    for item in batch.items() {
                        self.engine.written_back(&batch, item);
                    }
                    true
                }
                None => false,
            },
            Relocate => self.relocate(),
            Tail => match self.engine.advance_tail(true) {
                Some(cp) => {
                    self.in_flight.push(Flight::Checkpoint(cp));
                    true
                }
                None => false,
            },
        };
        self.poll();
        let durable = self.engine.durable();
        for (_, promise) in self.waits.iter().filter(|(seq, _)| *seq <= durable) {
            self.promised = self.promised.max(*promise);
        }
        self.waits.retain(|(seq, _)| *seq > durable);
        // Records that the engine calls durable may be written back, and so must not be lost.
        self.promised = self.promised.max(durable);
        assert_eq!(self.engine.audit(), Ok(()), "after {event:?}");
        happened
    }

    fn write(&mut self, sector: u64, sectors: u64, fua: bool) -> Result<(), Refused> {
        let mut done = 0;
        while done < sectors {
            let (first, left) = (sector + done, sectors - done);
            let blocks = (first + left).div_ceil(BLOCK_SECTORS) - first / BLOCK_SECTORS;
            // A write that gets room only for a part would have to wait for the rest: here it does not begin.
            let claim = self.engine.claim(blocks as u32)?;
            for i in 0..claim.blocks {
                let part = Part::first_of(sector + done, sectors - done);
                self.version += 1;
                self.copy(&claim, i, &part, self.version);
                done += u64::from(part.sectors);
            }
            self.engine.copied(&claim);
            self.acknowledged = claim.seq;
            if fua {
                self.engine.want(claim.seq);
                self.waits.push((claim.seq, claim.seq));
            }
        }
        Ok(())
    }

    /// A block of a claim.
    fn buffer(&mut self, claim: &Claim, i: u32) -> &mut [u8] {
        let at = (claim.offset + i) as usize * BLOCK;
        let buffer = &mut self.buffers[usize::from(claim.buffer)];
        buffer.resize(SEGMENT_BLOCKS as usize * BLOCK, 0xcd);
        &mut buffer[at..at + BLOCK]
    }

    fn copy(&mut self, claim: &Claim, i: u32, part: &Part, version: u64) {
        let block = self.buffer(claim, i);
        block.fill(0);
        let first = part.addr.first_sector() + u64::from(part.first);
        for k in 0..u64::from(part.sectors) {
            let to = (part.first as usize + k as usize) * SECTOR;
            block[to..to + SECTOR].copy_from_slice(&content(first + k, version));
        }
        let entry = Entry { addr: part.addr, mask: part.mask(), crc: crc32c(0, block) };
        self.engine.stored(claim, claim.slot.plus(i), entry);
        self.log.push(Logged { seq: claim.seq, sector: first, sectors: part.sectors.into(), version });
    }

    fn poll(&mut self) {
        while let Some(io) = host::poll(&mut self.engine) {
            self.in_flight.push(match io {
                Io::Record { seq, slot, blocks, buffer, offset, fua } => {
                    let at = offset as usize * BLOCK;
                    let data = &mut self.buffers[usize::from(buffer)][at..at + blocks as usize * BLOCK];
                    self.engine.encode_header(seq, data.first_chunk_mut().unwrap());
                    Flight::Record { seq, fua, sector: block_sector(&self.sb, slot), data: data.to_vec() }
                }
                Io::Flush { upto } => Flight::Flush { upto, mark: self.cache.mark() },
            });
        }
    }

    fn complete(&mut self, i: usize) -> bool {
        match self.in_flight.remove(i) {
            Flight::Record { seq, fua, sector, data } => {
                self.cache.write(sector, &data, fua);
                self.engine.record_done(seq, fua, true);
            }
            Flight::Flush { upto, mark } => {
                self.cache.flush(mark);
                self.engine.flush_done(upto, true);
            }
            Flight::Checkpoint(cp) => {
                self.cache.write(cp.block() * BLOCK_SECTORS, &cp.encode(), true);
                self.engine.checkpointed(true);
            }
        }
        true
    }

    fn plan(&mut self, more: impl Fn(&Engine, &mut Batch) -> bool) -> Batch {
        let mut batch = Batch::new((self.sb.nr_segments * SEGMENT_BLOCKS) as usize).unwrap();
        self.engine.begin_batch(&mut batch);
        while more(&self.engine, &mut batch) {}
        batch
    }

    fn block(&self, slot: Slot) -> Vec<u8> {
        let block = self.cache.read(block_sector(&self.sb, slot), BLOCK_SECTORS).into_owned();
        assert_eq!(crc32c(0, &block), self.engine.checks().checksum(slot), "checksum of slot {slot}");
        block
    }

    fn write_back(&mut self) -> bool {
        let mut batch = self.plan(|engine, batch| engine.plan_writeback(batch, Seq::MAX));
        batch.sort();
        // Adjacent blocks become one write, as in the kernel's host.
        let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
        for item in batch.items() {
            let Some(live) = self.engine.begin_item(&batch, item) else { continue };
            let block = self.block(item.slot);
            for i in (0..BLOCK_SECTORS).filter(|i| live & 1 << i != 0) {
                let (sector, at) = (item.addr().first_sector() + i, i as usize * SECTOR);
                match writes.last_mut() {
                    Some((first, data)) if *first + (data.len() / SECTOR) as u64 == sector => {
                        data.extend_from_slice(&block[at..at + SECTOR]);
                    }
                    _ => writes.push((sector, block[at..at + SECTOR].to_vec())),
                }
            }
        }
        for (sector, data) in writes {
            self.backing.write(sector, &data, false);
        }
        let some = !batch.items().is_empty();
        if some {
            self.batch = Some(batch);
        }
        some
    }

    fn relocate(&mut self) -> bool {
        let mut batch = self.plan(Engine::plan_relocation);
        batch.retain(|planned, item| self.engine.begin_item(planned, item).is_some());
        let items = batch.items().to_vec();
        let mut at = 0;
        while at < items.len() {
            let Ok(claim) = self.engine.claim_relocation((items.len() - at) as u32) else { break };
            for i in 0..claim.blocks {
                let item = &items[at + i as usize];
                let data = self.block(item.slot);
                self.buffer(&claim, i).copy_from_slice(&data);
                self.engine.relocated(&claim, claim.slot.plus(i), &batch, item, None);
            }
            self.engine.copied(&claim);
            at += claim.blocks as usize;
        }
        self.engine.cancel_relocation();
        at > 0
    }

    /// The contents of the volume after record `newest`.
    fn expected(&self, newest: Seq) -> Vec<u64> {
        let mut v = self.base.clone();
        for l in self.log.iter().filter(|l| l.seq <= newest) {
            v[l.sector as usize..(l.sector + l.sectors) as usize].fill(l.version);
        }
        v
    }

    /// Reads the whole volume.
    fn check_volume(&mut self, expected: &[u64]) {
        let check = |sector: u64, b: &[u8]| {
            let (got, want) = (version_of(sector, b), expected[sector as usize]);
            assert_eq!(got, want, "sector {sector} holds version {got} instead of {want}");
        };
        let mut at = 0;
        while at < SECTORS {
            let part = Part::first_of(at, SECTORS - at);
            match self.engine.lookup(at, SECTORS - at) {
                Run::Backing(n) => {
                    for s in at..at + n {
                        check(s, &self.backing.sector(s));
                    }
                    at += n;
                }
                Run::Cache { slot, blocks, .. } => {
                    for i in 0..blocks {
                        let b = self.block(slot.plus(i));
                        for s in 0..BLOCK_SECTORS {
                            check(at + s, &b[s as usize * SECTOR..(s as usize + 1) * SECTOR]);
                        }
                        at += BLOCK_SECTORS;
                    }
                }
                Run::Pieces(pieces) => {
                    for s in (0..8).filter(|s| part.mask() & !pieces.mask() & 1 << s != 0) {
                        let s = part.addr.first_sector() + s;
                        check(s, &self.backing.sector(s));
                    }
                    for p in pieces.as_slice() {
                        let b = match p.ram {
                            Some((buffer, i)) => {
                                self.engine.unpin_buffer(buffer);
                                self.buffers[usize::from(buffer)][i as usize * BLOCK..][..BLOCK].to_vec()
                            }
                            None => self.block(p.slot),
                        };
                        for s in (0..8usize).filter(|s| p.mask & 1 << s != 0) {
                            check(part.addr.first_sector() + s as u64, &b[s * SECTOR..(s + 1) * SECTOR]);
                        }
                    }
                    at += u64::from(part.sectors);
                }
            }
        }
    }
}

/// A possible rest of a write: its sectors, as ranges counted from its beginning, and whether the disk cannot
/// read the sectors that it wrote.
#[derive(Clone, PartialEq, Debug)]
struct Left {
    ranges: Vec<(usize, usize)>,
    unreadable: bool,
}

/// The set of outcomes of a write.
#[derive(Clone, Copy, PartialEq)]
enum Outcomes {
    /// All that the module's text names.
    All,
    /// Those of them that end with a block; half of a write to the backing device.
    Blocks,
    /// Lost, whole, only the header, all but the header, all but the last sector.
    Few,
    /// Lost or whole.
    Two,
}

fn outcomes(sectors: usize, on_cache: bool, how: Outcomes) -> Vec<Left> {
    let ranges = |ranges: Vec<(usize, usize)>| Left { ranges, unreadable: false };
    let mut all = vec![ranges(vec![])];
    let is_record = on_cache && sectors > 1;
    if on_cache && !is_record {
        return vec![ranges(vec![]), ranges(vec![(0, 1)]), Left { ranges: vec![], unreadable: true }];
    }
    let mut add = |r: Vec<(usize, usize)>| {
        let left = ranges(r);
        if !all.contains(&left) {
            all.push(left);
        }
    };
    add(vec![(0, sectors)]);
    let block = BLOCK_SECTORS as usize;
    match how {
        Outcomes::All | Outcomes::Blocks if is_record => {
            for n in (1..sectors).filter(|n| how == Outcomes::All || n % block == 0) {
                add(vec![(0, n)]);
            }
            let blocks = sectors / block;
            // Of many blocks only those sets that have one member, or lack one.
            let sets: Vec<u32> = if blocks <= 5 {
                (1..(1 << blocks) - 1).collect()
            } else {
                (0..blocks).flat_map(|i| [1 << i, ((1 << blocks) - 1) & !(1 << i)]).collect()
            };
            for set in sets {
                // Adjacent blocks form one range, so that a set that is also a prefix does not occur twice.
                let mut r: Vec<(usize, usize)> = Vec::new();
                for i in (0..blocks).filter(|i| set & 1 << i != 0) {
                    match r.last_mut() {
                        Some(last) if last.1 == i * block => last.1 += block,
                        _ => r.push((i * block, (i + 1) * block)),
                    }
                }
                add(r);
            }
        }
        Outcomes::All => (1..sectors).for_each(|n| add(vec![(0, n)])),
        Outcomes::Few if is_record => {
            add(vec![(0, block)]);
            add(vec![(0, sectors - 1)]);
            add(vec![(block, sectors)]);
        }
        Outcomes::Blocks | Outcomes::Few => add(vec![(0, sectors / 2)]),
        Outcomes::Two => (),
    }
    all
}

/// The number of checks.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Totals {
    /// Histories that were checked with crashes of their own.
    pub histories: u64,
    /// Images of the first crash.
    pub images: u64,
    /// Crashes with a resume and a check after them, those in and after the resume from an image included.
    pub states: u64,
    /// Histories at the end of which not every outcome of every write was tried.
    pub reduced: u64,
}

impl Totals {
    fn add(&mut self, t: &Self) {
        self.histories += t.histories;
        self.images += t.images;
        self.states += t.states;
        self.reduced += t.reduced;
    }
}

impl Machine {
    /// The state on which the crashes of this moment depend: the unstable writes and the promises.
    fn moment(&self) -> (Seq, [Vec<(u64, usize)>; 2]) {
        let pending = |d: &Disk| d.pending().iter().map(|w| (w.sector, w.data.len())).collect::<Vec<_>>();
        let mut cache = pending(&self.cache);
        for f in &self.in_flight {
            match f {
                Flight::Record { sector, data, .. } => cache.push((*sector, data.len())),
                Flight::Checkpoint(cp) => cache.push((cp.block() * BLOCK_SECTORS, SECTOR)),
                Flight::Flush { .. } => (),
            }
        }
        // A power cut treats completed writes and those in flight alike.
        cache.sort_unstable();
        (self.promised, [cache, pending(&self.backing)])
    }

    /// Cuts the power in every possible way, and checks the result.
    fn crash_in_every_way(&self, most: usize) -> Result<Totals, String> {
        let mut totals = Totals { histories: 1, ..Totals::default() };
        let mut writes: Vec<(bool, u64, Vec<u8>)> =
            self.cache.pending().iter().map(|w| (true, w.sector, w.data.to_vec())).collect();
        for f in &self.in_flight {
            match f {
                Flight::Record { sector, data, .. } => writes.push((true, *sector, data.clone())),
                Flight::Checkpoint(cp) => {
                    writes.push((true, cp.block() * BLOCK_SECTORS, cp.encode().to_vec()));
                }
                Flight::Flush { .. } => (),
            }
        }
        writes.extend(self.backing.pending().iter().map(|w| (false, w.sector, w.data.to_vec())));
        let sets = |how| -> Vec<Vec<Left>> {
            writes.iter().map(|(cache, _, d)| outcomes(d.len() / SECTOR, *cache, how)).collect()
        };
        let product = |sets: &[Vec<Left>]| sets.iter().fold(1usize, |n, s| n.saturating_mul(s.len()));
        let mut all = sets(Outcomes::All);
        for how in [Outcomes::Blocks, Outcomes::Few, Outcomes::Two] {
            if product(&all) > most {
                all = sets(how);
                totals.reduced = 1;
            }
        }
        if product(&all) > 100_000 {
            return Err(format!("{} writes are too many", writes.len()));
        }
        for n in 0..product(&all) {
            let (mut cache, mut backing) = (self.cache.clone(), self.backing.clone());
            let mut rest = n;
            let mut chosen = Vec::new();
            for ((is_cache, sector, data), set) in writes.iter().zip(&all) {
                let left = &set[rest % set.len()];
                rest /= set.len();
                let disk = if *is_cache { &mut cache } else { &mut backing };
                for &(from, to) in &left.ranges {
                    disk.keep(sector + from as u64, &data[from * SECTOR..to * SECTOR]);
                }
                if left.unreadable {
                    disk.keep(*sector, &[0x5a; SECTOR]);
                }
                chosen.push((*is_cache, *sector, data.len() / SECTOR, left));
            }
            cache.restart();
            backing.restart();
            totals.images += 1;
            self.check_image(cache, backing, &mut totals.states).map_err(|message| {
                let mut text = String::new();
                for (is_cache, sector, sectors, left) in chosen {
                    let disk = if is_cache { "cache device" } else { "backing device" };
                    let what = match &left.ranges[..] {
                        _ if left.unreadable => "unreadable".into(),
                        [] => "lost".into(),
                        [(0, n)] if *n == sectors => "kept".into(),
                        ranges => format!("torn, sectors {ranges:?} are kept"),
                    };
                    text += &format!("\n  {disk}, sectors {sector}+{sectors}: {what}");
                }
                format!("{message}{text}")
            })?;
        }
        Ok(totals)
    }

    /// All checks of one image. Counts the crashes.
    fn check_image(&self, cache: Disk, backing: Disk, states: &mut u64) -> Result<(), String> {
        let image = |cache: &Disk, base: &[u64]| Image {
            sb: self.sb.clone(),
            cache: cache.clone(),
            backing: backing.clone(),
            base: base.to_vec(),
            version: self.version,
        };
        let mut doing = "the resume";
        let mut count = || *states += 1;
        catch(|| {
            count();
            let mut m = Machine::begin(image(&cache, &[]));
            let newest = m.engine.state().newest;
            assert!(
                newest >= self.promised,
                "the log ends with record {newest}, promised was {}",
                self.promised
            );
            let expected = self.expected(newest);
            m.base.clone_from(&expected);
            m.check_volume(&expected);
            // The next resume, after a crash during the write of this one's checkpoint. If the write had not
            // begun, or its checkpoint were lost, the devices would be as they are now.
            doing = "the resume after a crash when the first one had written its checkpoint";
            count();
            let mut after = Machine::begin(image(&m.cache, &expected));
            assert_eq!(after.engine.state().newest, newest);
            after.check_volume(&expected);
            doing = "the resume after the first one's checkpoint has become unreadable";
            count();
            let mut torn = cache.clone();
            torn.poke(m.resumed.block() * BLOCK_SECTORS, &[0x5a; SECTOR]);
            let mut after = Machine::begin(image(&torn, &expected));
            assert_eq!(after.engine.state().newest, newest);
            after.check_volume(&expected);
            for blocks in 1..=3 {
                doing = "the resume after a second life, in which one record was written";
                let mut next = Machine::begin(image(&cache, &expected));
                let full = next.write(0, blocks * BLOCK_SECTORS, false).is_err();
                next.settle();
                if full {
                    break;
                }
                let expected = next.expected(Seq::MAX);
                let number = next.engine.state().newest;
                count();
                let mut last = Machine::begin(next.power_off());
                assert_eq!(last.engine.state().newest, number);
                last.check_volume(&expected);
            }
            doing = "writing everything back";
            m.reclaim();
            let s = m.engine.state();
            assert_eq!((s.dirty, s.free_segments), (0, s.nr_segments));
            for s in 0..SECTORS {
                let (got, want) = (version_of(s, &m.backing.stable(s, 1)), expected[s as usize]);
                assert_eq!(got, want, "sector {s} of the backing device has version {got} instead of {want}");
            }
            m.check_volume(&expected);
        })
        .map_err(|message| format!("{doing}: {message}"))
    }
}

/// The images that histories begin with, and a machine on one of them.
struct Begin([Image; 4]);

impl Begin {
    fn new() -> Self {
        Self(STARTS.map(Image::of))
    }

    fn machine(&self, start: Start) -> Machine {
        let mut m = Machine::begin(self.0[STARTS.iter().position(|s| *s == start).unwrap()].clone());
        if start == Start::Edge {
            m.write(0, 13 * BLOCK_SECTORS, false).unwrap();
            m.settle();
        }
        m
    }

    /// Plays a history. With `strict`, returns `None` if an event in it cannot take place; otherwise such
    /// events are left out.
    fn play(&self, history: &History, strict: bool) -> Option<(Machine, bool)> {
        let mut m = self.machine(history.0);
        let mut before = m.moment();
        for (i, &event) in history.1.iter().enumerate() {
            if i + 1 == history.1.len() {
                before = m.moment();
            }
            if !m.event(event) && strict {
                return None;
            }
        }
        let changed = history.1.is_empty() || m.moment() != before;
        Some((m, changed))
    }

    /// Checks all crashes at the end of a history. `None` when `strict` and an event in it cannot take place.
    fn check(&self, history: &History, strict: bool) -> Option<Result<Totals, String>> {
        let played = catch(|| {
            let (mut m, changed) = self.play(history, strict)?;
            let expected = m.expected(Seq::MAX);
            m.check_volume(&expected);
            Some((m, changed))
        });
        match played {
            Ok(None) => None,
            Ok(Some((_, false))) => Some(Ok(Totals::default())),
            Ok(Some((m, true))) => Some(m.crash_in_every_way(MOST[history.1.len().min(MOST.len() - 1)])),
            Err(message) => Some(Err(message)),
        }
    }

    /// Checks all histories that are `left` events longer than this one.
    fn longer(&self, h: &mut History, left: usize, stop: &AtomicBool) -> Result<Totals, (History, String)> {
        let mut totals = Totals::default();
        for event in EVENTS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            h.1.push(event);
            if left > 1 {
                if matches!(catch(|| self.play(h, true).is_some()), Ok(true)) {
                    totals.add(&self.longer(h, left - 1, stop)?);
                }
            } else {
                match self.check(h, true) {
                    Some(Ok(t)) => totals.add(&t),
                    Some(Err(message)) => return Err((h.clone(), message)),
                    None => (),
                }
            }
            h.1.pop();
        }
        Ok(totals)
    }
}

/// Runs jobs on all threads, up to the first that fails.
fn on_all<T: Sync>(
    threads: usize,
    jobs: &[T],
    job: impl Fn(&Begin, &T, &AtomicBool) -> Result<Totals, (History, String)> + Sync,
) -> Result<Totals, (History, String)> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let all = Mutex::new((Totals::default(), None));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let begin = Begin::new();
                while let Some(j) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let result = job(&begin, j, &stop);
                    let mut all = all.lock().unwrap();
                    match result {
                        Ok(t) => all.0.add(&t),
                        Err(e) => {
                            stop.store(true, Ordering::Relaxed);
                            all.1.get_or_insert(e);
                        }
                    }
                }
            });
        }
    });
    match all.into_inner().unwrap() {
        (_, Some(e)) => Err(e),
        (totals, None) => Ok(totals),
    }
}

/// All histories of up to `depth` events, the shortest first, and then some long ones at each of their
/// moments.
pub fn all(
    depth: usize,
    threads: usize,
    mut progress: impl FnMut(&str, &Totals),
) -> Result<Totals, (History, String)> {
    let mut totals = Totals::default();
    for depth in 0..=depth {
        let mut jobs = Vec::new();
        for start in STARTS {
            match depth {
                0 => jobs.push(History(start, vec![])),
                _ => jobs.extend(EVENTS.map(|e| History(start, vec![e]))),
            }
        }
        let t = on_all(threads, &jobs, |begin, h, stop| {
            let mut h = h.clone();
            if depth <= 1 {
                let checked = begin.check(&h, true).unwrap_or(Ok(Totals::default()));
                return checked.map_err(|message| (h, message));
            }
            match catch(|| begin.play(&h, true).is_some()) {
                Ok(true) => begin.longer(&mut h, depth - 1, stop),
                _ => Ok(Totals::default()),
            }
        })?;
        progress(&format!("histories of {depth} events"), &t);
        totals.add(&t);
    }
    let t = on_all(threads, &LONG, |begin, text, _| {
        let history: History = text.parse().unwrap_or_else(|e| panic!("{e}"));
        moments(begin, &history)
    })?;
    progress("longer histories", &t);
    totals.add(&t);
    Ok(totals)
}

fn moments(begin: &Begin, history: &History) -> Result<Totals, (History, String)> {
    let mut totals = Totals::default();
    for n in 0..=history.1.len() {
        let part = History(history.0, history.1[..n].to_vec());
        match begin.check(&part, false) {
            Some(Ok(t)) => totals.add(&t),
            Some(Err(message)) => return Err((part, message)),
            None => (),
        }
    }
    Ok(totals)
}

/// One history at each of its moments.
pub fn one(history: &History) -> Result<Totals, (History, String)> {
    moments(&Begin::new(), history)
}
