// SPDX-License-Identifier: GPL-2.0-only

//! A volume on a device that anybody may have written: opened as every host opens it, and then used. Nothing that the
//! engine answers may lead outside of the devices, and what the volume holds must be the same before and after.
//!
//! A sector is known here by its first bytes. One whose block does not match its checksum is `None`: a read error for
//! whoever wants it, and never written back.

use crate::bytes::Source;
use crate::device::Device;
use std::collections::BTreeMap;
use writeboost::engine::log::{Claim, Io, Refused, Wait};
use writeboost::engine::places::Opening;
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::{Batch, Relocation};
use writeboost::engine::replay::{self, Replay, Want};
use writeboost::engine::{Engine, Entry, Part, Secret, State};
use writeboost::format::{
    Block, Checkpoint, Chosen, Held, RecordHeader, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS,
    CHECKPOINT_BLOCKS, SECTOR,
};
use writeboost::host::crc32c;

/// Of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// What came of an image.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Fate {
    /// Superblock or checkpoints are none, or do not fit the device.
    Refused,
    /// The log is damaged.
    Damaged,
    /// There is a volume, and it worked.
    Works,
}

/// What is written in place of a block that cannot be read.
const MARK: [u8; BLOCK] = [0x4c; BLOCK];

/// Counts from which a volume is not resumed; only a forger reaches them.
const MOST: u64 = 1 << 61;

/// What a sector holds; `None` when it cannot be read.
type Content = Option<u64>;

/// What the sectors of a block hold; those behind the end of the backing device are zero.
type Contents = [Content; BLOCK_SECTORS as usize];

/// What sector `s` of a block holds.
fn content(block: &[u8], s: usize) -> u64 {
    let words = block[s * SECTOR..].chunks_exact(8).take(3);
    words.fold(0, |n, w| n.rotate_left(21) ^ u64::from_le_bytes(w.try_into().unwrap()))
}

/// A volume that is open.
#[derive(Debug)]
pub struct Volume {
    sb: Superblock,
    cache: Device,
    /// Blocks in which something was written back.
    backing: BTreeMap<Block, [u64; BLOCK_SECTORS as usize]>,
    engine: Engine,
    buffers: Vec<Vec<u8>>,
    batch: Batch,
    /// The blocks that are watched, and what they must hold.
    expected: BTreeMap<Block, Contents>,
    /// Blocks written.
    written: u64,
    /// There are records that nobody has written: of epochs that were still to come when it was opened first, or with numbers
    /// from before their epoch.
    forged: bool,
}

/// Superblock and checkpoint, as every host reads them.
fn begin(cache: &Device) -> Result<(Superblock, Chosen), Fate> {
    let sb = Superblock::decode(&cache.sector(0)).map_err(|_| Fate::Refused)?;
    // Every host compares with the sizes of the devices before it allocates anything.
    if sb.cache_sectors() > cache.sectors() {
        return Err(Fate::Refused);
    }
    let slots = CHECKPOINT_BLOCKS.map(|block| Held::of(Some(&cache.sector(block)), &sb));
    let chosen = Checkpoint::choose(&slots).map_err(|_| Fate::Refused)?;
    Ok((sb, chosen))
}

fn replay(
    sb: &Superblock,
    chosen: Chosen,
    cache: &Device,
    nr_buffers: u8,
) -> Result<(Engine, Checkpoint), Fate> {
    let nr_slots = sb.nr_segments * sb.segment_blocks;
    let cp = chosen.checkpoint;
    let mut replay = Replay::with_secret(sb, chosen, nr_buffers, Secret::new(SECRET)).unwrap();
    let mut data = Vec::new();
    // Each segment's start may be looked at twice and one block behind each record; data are read once.
    let mut left = 4 * nr_slots;
    let mut first = true;
    let mut empty = false;
    while let Want::Read { slot, blocks } = replay.want() {
        assert!(
            blocks >= 1 && slot < Slot(nr_slots) && blocks <= Slot(nr_slots).since(slot),
            "{blocks} blocks from slot {slot}"
        );
        left = left.checked_sub(blocks).expect("endless");
        cache.read(u64::from(sb.first_block) + u64::from(slot.0), blocks, &mut data);
        if first {
            empty = replay::is_empty(sb, &cp, data.first_chunk().unwrap());
            first = false;
        }
        replay.feed(&data).map_err(|damage| {
            assert!(damage.to_string().len() < 200);
            assert!(!empty, "an empty log is not damaged: {damage}");
            Fate::Damaged
        })?;
    }
    let (engine, next) = replay.finish();
    let s = engine.state();
    assert!(!empty || s.dirty == 0, "what was called empty is not");
    assert_eq!((s.durable, next.durable), (s.newest, s.newest));
    assert!(s.durable >= cp.durable && s.tail == cp.tail && s.tail <= s.newest.next(), "{s:?} from {cp:?}");
    assert!(s.dirty <= s.nr_slots && s.free_segments >= 1 && s.free_segments <= s.nr_segments);
    let doubtful = u64::from(chosen.doubtful);
    assert_eq!((next.generation, next.epoch), (cp.generation + 1 + 2 * doubtful, cp.epoch + 1 + doubtful));
    assert_eq!((next.epoch_start, next.tail), (s.newest.next(), cp.tail));
    // What cannot be read again would give way to an older one.
    assert_eq!(Checkpoint::decode(&next.encode(), sb), Ok(next));
    Ok((engine, next))
}

impl Volume {
    /// Opens a volume on `cache`, if there is one that can be opened.
    ///
    /// # Errors
    /// Its fate.
    pub fn open(cache: Device, nr_buffers: u8) -> Result<Self, Fate> {
        let (sb, chosen) = begin(&cache)?;
        let (engine, next) = replay(&sb, chosen, &cache, nr_buffers)?;
        let cp = chosen.checkpoint;
        // No epoch has records from before it began.
        let forged = headers(&sb, &cache)
            .any(|(_, h)| h.epoch > cp.epoch || h.epoch == cp.epoch && h.seq < cp.epoch_start);
        let buffers = (0..nr_buffers).map(|_| vec![0; sb.segment_blocks as usize * BLOCK]).collect();
        let mut volume = Self {
            batch: Batch::new((sb.nr_segments * sb.segment_blocks) as usize).unwrap(),
            sb,
            cache,
            backing: BTreeMap::new(),
            engine,
            buffers,
            expected: BTreeMap::new(),
            written: 0,
            forged,
        };
        volume.begin_life(next);
        for addr in watch(&volume.sb, &volume.cache) {
            let held = volume.read_block(addr);
            volume.expected.insert(addr, held);
        }
        Ok(volume)
    }

    /// How its engine is doing.
    pub fn state(&self) -> State {
        self.engine.state()
    }

    /// Writes what a resume writes.
    fn begin_life(&mut self, next: Checkpoint) {
        let mut opening = Opening::new(next);
        while let Some((block, checkpoint)) = opening.want(&self.engine) {
            let mut bytes = [0; BLOCK];
            if let Some(checkpoint) = checkpoint {
                checkpoint.encode_into(bytes.first_chunk_mut().unwrap());
            }
            self.cache.write(block, &bytes);
            opening.written(&mut self.engine, true).unwrap();
        }
    }

    fn checkpoint(&mut self, cp: &Checkpoint) {
        let mut block = [0; BLOCK];
        block[..SECTOR].copy_from_slice(&cp.encode());
        self.cache.write(self.engine.checkpoint_block(), &block);
    }

    /// Whether it can be said what comes of it when it is opened again: somebody who knows the nonce can prepare records
    /// that are only looked at in a later epoch, and counts that have come to their end.
    fn is_predictable(&self) -> bool {
        let Ok((_, Chosen { checkpoint: cp, .. })) = begin(&self.cache) else { return false };
        let far = MOST - 2 * u64::from(self.sb.nr_segments * self.sb.segment_blocks) - 1000;
        !self.forged && cp.generation.max(cp.epoch).max(cp.durable.0) < far
    }

    /// Opens it again, as after a crash in a moment when everything was durable.
    fn reopen(&mut self) {
        let (sb, cp) = begin(&self.cache).expect("superblock and checkpoints are ours");
        assert_eq!(sb, self.sb);
        let nr_buffers = self.buffers.len() as u8;
        let (engine, next) = replay(&sb, cp, &self.cache, nr_buffers).expect("the log is ours");
        self.engine = engine;
        self.begin_life(next);
    }

    fn slot_block(&self, slot: Slot) -> u64 {
        let block = u64::from(self.sb.first_block) + u64::from(slot.0);
        assert_eq!(block * BLOCK_SECTORS, self.engine.slot_sector(slot));
        assert!(slot < Slot(self.sb.nr_segments * self.sb.segment_blocks), "slot {slot} is on no segment");
        block
    }

    /// The block in a slot, if it is what its checksum says.
    fn intact(&self, slot: Slot) -> Option<&[u8]> {
        let b = self.cache.block(self.slot_block(slot));
        (crc32c(0, b) == self.engine.checks().checksum(slot)).then_some(b)
    }

    /// Reads sectors, all of which are on the backing device.
    fn read(&mut self, sector: u64, sectors: u64) -> Vec<Content> {
        let end = sector + sectors;
        assert!(sectors > 0 && end <= self.sb.backing_sectors);
        let mut out = Vec::new();
        while sector + (out.len() as u64) < end {
            let at = sector + out.len() as u64;
            let part = Part::first_of(at, end - at);
            let backing = |s: u64| {
                let block = self.backing.get(&Block::of_sector(s));
                Some(block.map_or(0, |b| b[(s % BLOCK_SECTORS) as usize]))
            };
            match self.engine.lookup(at, end - at) {
                Run::Backing(n) => {
                    assert!(n >= 1 && n <= end - at);
                    out.extend((at..at + n).map(backing));
                }
                Run::Cache { slot, blocks, .. } => {
                    assert!(blocks >= 1 && u64::from(blocks) * BLOCK_SECTORS <= end - at);
                    assert!(slot.offset(self.sb.segment_blocks) + blocks <= self.sb.segment_blocks);
                    for i in 0..blocks {
                        let b = self.intact(slot.plus(i));
                        out.extend((0..BLOCK / SECTOR).map(|s| Some(content(b?, s))));
                    }
                }
                Run::Pieces(pieces) => {
                    let mut seen = 0;
                    let mut found = [None; BLOCK_SECTORS as usize];
                    for p in pieces.as_slice() {
                        assert!(p.mask != 0 && p.mask & !part.mask() == 0 && p.mask & seen == 0);
                        seen |= p.mask;
                        let b = match p.ram {
                            Some((buffer, block)) => {
                                self.engine.unpin_buffer(buffer);
                                Some(&self.buffers[usize::from(buffer)][block as usize * BLOCK..][..BLOCK])
                            }
                            None => self.intact(p.slot),
                        };
                        for s in (0..8).filter(|s| p.mask & 1 << s != 0) {
                            found[s] = b.map(|b| content(b, s));
                        }
                    }
                    for s in part.first..part.first + part.sectors {
                        let held = seen & 1 << s != 0;
                        let s = u64::from(s);
                        out.push(if held {
                            found[s as usize]
                        } else {
                            backing(part.addr.first_sector() + s)
                        });
                    }
                }
            }
        }
        assert_eq!(out.len() as u64, sectors);
        out
    }

    /// First sector of a block and how many it has.
    fn sectors_of(&self, addr: Block) -> (u64, u64) {
        let first = addr.first_sector();
        (first, (self.sb.backing_sectors - first).min(BLOCK_SECTORS))
    }

    fn read_block(&mut self, addr: Block) -> Contents {
        let (first, n) = self.sectors_of(addr);
        let mut held = [Some(0); BLOCK_SECTORS as usize];
        held[..n as usize].copy_from_slice(&self.read(first, n));
        held
    }

    fn check_content(&mut self) {
        let expected = std::mem::take(&mut self.expected);
        for (addr, held) in &expected {
            assert_eq!(self.read_block(*addr), *held, "block {addr}");
        }
        self.expected = expected;
    }

    /// A sector near one that the image has, or any.
    fn draw(&self, from: &mut Source<'_>) -> u64 {
        let n = Block(from.number());
        let near = self.expected.range(n..).next().or(self.expected.first_key_value()).map_or(n, |(a, _)| *a);
        near.0.wrapping_mul(BLOCK_SECTORS).wrapping_add(from.byte().into()) % self.sb.backing_sectors
    }

    /// Does what the script says, at most `most` things, and then everything that must always be possible.
    pub fn run(&mut self, script: &[u8], most: usize) {
        let mut from = Source(script);
        let mut n = 0;
        while !from.is_empty() && n < most {
            n += 1;
            match from.byte() % 11 {
                0..=2 => {
                    let sector = self.draw(&mut from);
                    let sectors = (1 + u64::from(from.byte())).min(self.sb.backing_sectors - sector);
                    self.write(sector, sectors, n as u64);
                }
                3 => {
                    let sector = self.draw(&mut from);
                    let sectors = (1 + u64::from(from.byte())).min(self.sb.backing_sectors - sector);
                    for (s, held) in (sector..).zip(self.read(sector, sectors)) {
                        if let Some(expected) = self.expected.get(&Block::of_sector(s)) {
                            assert_eq!(held, expected[(s % BLOCK_SECTORS) as usize], "sector {s}");
                        }
                    }
                }
                4 => self.flush(),
                5 => self.write_back(),
                6 => self.move_tail(from.byte() & 1 != 0),
                7 => self.relocate(from.byte() & 1 != 0),
                8 => self.note_durable(),
                9 => {
                    let sector = self.draw(&mut from);
                    self.forget(Block::of_sector(sector));
                }
                _ => {
                    self.flush();
                    if self.is_predictable() {
                        self.reopen();
                        self.check_content();
                    }
                }
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        self.check_content();
        self.flush();
        if self.is_predictable() {
            self.reopen();
            self.check_content();
        }
        // A block whose data are not right stays dirty; but a volume without such a one can always be written.
        let before = self.written;
        self.write(0, 1, before + 1);
        self.flush();
        self.write_back();
        self.move_tail(true);
        let s = self.engine.state();
        let bad = self.batch.items().iter().filter(|i| self.intact(i.slot).is_none()).count() as u64;
        assert_eq!(s.dirty, bad, "all that can be written back is clean");
        assert!(bad != 0 || (s.free_segments == s.nr_segments && self.written > before), "{s:?}");
        self.check_content();
        if self.is_predictable() {
            self.reopen();
            self.check_content();
            assert!(bad != 0 || self.engine.state().dirty == 0);
        }
    }

    /// Writes sectors, as far as there is room.
    fn write(&mut self, sector: u64, sectors: u64, n: u64) {
        let end = sector + sectors;
        let mut at = sector;
        while at < end {
            let blocks = end.div_ceil(BLOCK_SECTORS) - at / BLOCK_SECTORS;
            let Some(claim) = self.claim(blocks as u32) else { return };
            assert!(claim.blocks >= 1 && u64::from(claim.blocks) <= blocks);
            assert!(claim.offset + claim.blocks <= self.sb.segment_blocks);
            for i in 0..claim.blocks {
                let part = Part::first_of(at, end - at);
                if !self.expected.contains_key(&part.addr) {
                    let held = self.read_block(part.addr);
                    self.expected.insert(part.addr, held);
                }
                let block = &mut self.buffers[usize::from(claim.buffer)]
                    [(claim.offset + i) as usize * BLOCK..][..BLOCK];
                block.fill(0);
                let expected = self.expected.entry(part.addr).or_default();
                for s in part.first as usize..(part.first + part.sectors) as usize {
                    let b = &mut block[s * SECTOR..][..SECTOR];
                    b[..8].copy_from_slice(&(u64::MAX - n).to_le_bytes());
                    b[8..16].copy_from_slice(&self.written.to_le_bytes());
                    expected[s] = Some(content(block, s));
                }
                let entry = Entry { addr: part.addr, mask: part.mask(), crc: crc32c(0, block) };
                self.engine.stored(&claim, claim.slot.plus(i), entry);
                at += u64::from(part.sectors);
                self.written += 1;
            }
            self.engine.copied(&claim);
        }
    }

    fn claim(&mut self, blocks: u32) -> Option<Claim> {
        for _ in 0..3 {
            match self.engine.claim(blocks) {
                Ok(claim) => return Some(claim),
                Err(Refused::Wait(Wait::Progress)) => self.flush(),
                Err(Refused::Wait(Wait::Space)) => {
                    self.flush();
                    self.write_back();
                    self.move_tail(false);
                }
                Err(Refused::Failed) => panic!("failed, and no I/O did"),
            }
        }
        // Dirty blocks that cannot be written back may fill it; nothing else may.
        self.engine.begin_batch(&mut self.batch);
        while self.engine.plan_writeback(&mut self.batch, Seq::MAX) {}
        let bad = self.batch.items().iter().any(|i| self.intact(i.slot).is_none());
        assert!(bad, "no room, and nothing is in the way: {:?}", self.engine.state());
        None
    }

    /// Does all that the engine wants of the cache device.
    fn pump(&mut self) {
        while let Some(io) = self.engine.poll() {
            match io {
                Io::Record { seq, slot, blocks, buffer, offset, fua } => {
                    assert!(
                        slot.offset(self.sb.segment_blocks) == offset
                            && offset + blocks <= self.sb.segment_blocks
                    );
                    let data = &mut self.buffers[usize::from(buffer)][offset as usize * BLOCK..]
                        [..blocks as usize * BLOCK];
                    self.engine.encode_header(seq, data.first_chunk_mut().unwrap());
                    let first = self.slot_block(slot);
                    let data = &self.buffers[usize::from(buffer)][offset as usize * BLOCK..]
                        [..blocks as usize * BLOCK];
                    self.cache.write(first, data);
                    self.engine.record_done(seq, fua, true);
                }
                Io::Flush { upto } => self.engine.flush_done(upto, true),
            }
        }
    }

    fn flush(&mut self) {
        let seq = self.engine.flush();
        self.pump();
        assert!(self.engine.durable() >= seq);
    }

    fn write_back(&mut self) {
        self.engine.begin_batch(&mut self.batch);
        while self.engine.plan_writeback(&mut self.batch, Seq::MAX) {}
        self.batch.sort();
        for i in 0..self.batch.items().len() {
            let item = self.batch.items()[i];
            let Some(live) = self.engine.begin_item(&self.batch, &item) else { continue };
            assert!(live != 0 && live & !item.mask() == 0);
            let first = item.addr().first_sector();
            let sectors = (0..BLOCK_SECTORS).filter(|s| live & 1 << s != 0);
            let b = self.intact(item.slot).map(<[u8]>::to_vec);
            if let Some(b) = b {
                let backing = self.backing.entry(item.addr()).or_default();
                for s in sectors {
                    assert!(first + s < self.sb.backing_sectors, "behind the end of the backing device");
                    backing[s as usize] = content(&b, s as usize);
                }
                self.engine.written_back(&self.batch, &item);
            }
        }
    }

    /// Notes in a checkpoint what is durable.
    fn note_durable(&mut self) {
        if let Some(cp) = self.engine.note_durable() {
            self.checkpoint(&cp);
            self.engine.checkpointed(true);
        }
    }

    /// Takes a block out of the cache, if it is clean there: what it holds stays the same.
    fn forget(&mut self, addr: Block) {
        let (first, n) = self.sectors_of(addr);
        let before = self.read_block(addr);
        match self.engine.lookup(first, n) {
            Run::Backing(_) => (),
            Run::Cache { slot, generation, .. } => {
                self.engine.forget(slot, generation, 0xff);
            }
            Run::Pieces(pieces) => {
                for p in pieces.as_slice() {
                    match p.ram {
                        Some((buffer, _)) => self.engine.unpin_buffer(buffer),
                        None => {
                            self.engine.forget(p.slot, p.generation, p.mask);
                        }
                    }
                }
            }
        }
        assert_eq!(self.read_block(addr), before, "block {addr} was not clean");
    }

    /// Moves what is dirty in the oldest segments to the head, if that makes room. What is not intact is given up or left.
    fn relocate(&mut self, give_up: bool) {
        self.engine.begin_batch(&mut self.batch);
        while self.engine.plan_relocation(&mut self.batch) {}
        if self.engine.judge_relocation(&self.batch) != Relocation::MakesRoom {
            return;
        }
        let mut items = Vec::new();
        for item in self.batch.items().to_vec() {
            let live = self.engine.begin_item(&self.batch, &item).is_some();
            if live && (give_up || self.intact(item.slot).is_some()) {
                items.push(item);
            }
        }
        let mut at = 0;
        let mut tries = 0;
        while at < items.len() {
            tries += 1;
            assert!(tries < 10_000, "endless");
            let claim = match self.engine.claim_relocation((items.len() - at) as u32) {
                Ok(claim) => claim,
                Err(Wait::Progress) => {
                    self.flush();
                    continue;
                }
                Err(Wait::Space) => break,
            };
            assert!(claim.blocks >= 1 && claim.blocks as usize <= items.len() - at);
            assert!(claim.offset + claim.blocks <= self.sb.segment_blocks);
            for i in 0..claim.blocks {
                let item = items[at];
                let data = self.intact(item.slot).map(<[u8]>::to_vec);
                let lost = data.is_none().then(|| Entry::lost(&MARK));
                let data = data.unwrap_or(MARK.to_vec());
                self.buffers[usize::from(claim.buffer)][(claim.offset + i) as usize * BLOCK..][..BLOCK]
                    .copy_from_slice(&data);
                self.engine.relocated(&claim, claim.slot.plus(i), &self.batch, &item, lost);
                at += 1;
            }
            self.engine.copied(&claim);
        }
        self.engine.cancel_relocation();
    }

    fn move_tail(&mut self, whole: bool) {
        while let Some(cp) = self.engine.advance_tail(whole) {
            self.checkpoint(&cp);
            self.engine.checkpointed(true);
            self.pump();
        }
        self.pump();
    }
}

/// All record headers on the device, and their slots.
fn headers<'a>(sb: &'a Superblock, cache: &'a Device) -> impl Iterator<Item = (Slot, RecordHeader)> + 'a {
    cache.written().into_iter().filter_map(move |block| {
        let slot = Slot(block.checked_sub(sb.first_block)?);
        let b = cache.block(block.into()).first_chunk().unwrap();
        Some((slot, RecordHeader::decode(b, sb, slot.offset(sb.segment_blocks)).ok()?))
    })
}

/// The blocks that some record on the device may hold, and the first and the last.
fn watch(sb: &Superblock, cache: &Device) -> Vec<Block> {
    let mut all = vec![Block(0), Block::of_sector(sb.backing_sectors - 1)];
    for (slot, h) in headers(sb, cache) {
        let b = cache.block(u64::from(sb.first_block) + u64::from(slot.0)).first_chunk().unwrap();
        all.extend((0..h.blocks.into()).map(|i| RecordHeader::entry(b, i).addr));
    }
    all.sort_unstable();
    all.dedup();
    all
}
