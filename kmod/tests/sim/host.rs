// SPDX-License-Identifier: GPL-2.0-only

//! A plain host for step-by-step tests. Every block that it writes holds a single number.

use super::disk::{Disk, SECTOR};
use std::collections::HashMap;
use writeboost::engine::checks::Verdict;
use writeboost::engine::log::{Claim, Io, Refused};
use writeboost::engine::places::{Opening, Unwritable};
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::{Batch, Item};
use writeboost::engine::replay::{Damage, Replay, Want};
use writeboost::engine::{Engine, Entry, Part, Secret};
use writeboost::format::{
    Checkpoint, Chosen, Held, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS,
};
use writeboost::host::crc32c;
use writeboost::policy::lost::{insist, insist_or_loss};

/// The secret of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

pub const SEGMENT_BLOCKS: u32 = 16;
const NR_BUFFERS: u8 = 4;

/// Sectors that hold the number `n`.
pub fn filled(n: u64, sectors: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(sectors as usize * SECTOR / 8)
}

/// The contents that an [`Opening`] wants at the start of a slot.
pub fn checkpoint_sector(checkpoint: Option<Checkpoint>) -> [u8; SECTOR] {
    checkpoint.map_or([0; SECTOR], |checkpoint| checkpoint.encode())
}

/// The next I/O that the engine wants. A host asks only while there is work.
pub fn poll(engine: &mut Engine) -> Option<Io> {
    let had_work = engine.has_work();
    let io = engine.poll();
    assert!(engine.failed() == engine.check().is_err() && engine.failed() == engine.state().failed);
    assert!(had_work || io.is_none(), "nobody would have asked for {io:?}");
    assert!(io.is_some() || !engine.has_work(), "there is work, and it is nothing");
    if let Some(Io::Flush { upto }) = io {
        assert!(engine.durable() < upto && upto <= engine.state().newest, "a flush up to {upto}: {engine:?}");
    }
    io
}

pub struct Host {
    pub sb: Superblock,
    pub cache: Disk,
    pub backing: Disk,
    pub engine: Engine,
    pub buffers: Vec<Vec<u8>>,
}

impl Host {
    pub fn new(nr_segments: u64, backing_sectors: u64) -> Self {
        Self::with_segments_of(SEGMENT_BLOCKS, nr_segments, backing_sectors)
    }

    pub fn with_segments_of(segment_blocks: u32, nr_segments: u64, backing_sectors: u64) -> Self {
        let cache_sectors = Superblock::min_cache_sectors(segment_blocks)
            + (nr_segments - 16) * u64::from(segment_blocks) * BLOCK_SECTORS;
        let sb = Superblock::new(cache_sectors, backing_sectors, segment_blocks, [7; 16], 99).unwrap();
        let mut cache = Disk::new(cache_sectors);
        let first = Checkpoint::first(sb.nonce);
        cache.poke(0, &sb.encode());
        cache.poke(first.block() * BLOCK_SECTORS, &first.encode());
        let engine = Replay::with_secret(&sb, first, NR_BUFFERS, Secret::new(SECRET)).unwrap().finish().0;
        let buffers = (0..NR_BUFFERS).map(|_| vec![0; segment_blocks as usize * BLOCK]).collect();
        let mut host = Self { sb, cache, backing: Disk::new(backing_sectors), engine, buffers };
        host.resume().unwrap();
        host
    }

    pub fn sector_of(&self, slot: Slot) -> u64 {
        self.engine.slot_sector(slot)
    }

    /// The slots that hold sectors of a block, each with the mask of its sectors.
    pub fn slots_of(&mut self, addr: u64) -> Vec<(Slot, u8)> {
        match self.engine.lookup(addr * BLOCK_SECTORS, BLOCK_SECTORS) {
            Run::Backing(_) => Vec::new(),
            Run::Cache { slot, .. } => vec![(slot, 0xff)],
            Run::Pieces(pieces) => {
                for (buffer, _) in pieces.as_slice().iter().filter_map(|p| p.ram) {
                    self.engine.unpin_buffer(buffer);
                }
                pieces.as_slice().iter().map(|p| (p.slot, p.mask)).collect()
            }
        }
    }

    /// Copies the number into the blocks of a claim that begin at `sector`. Returns the number of sectors
    /// copied.
    pub fn copy(&mut self, claim: &Claim, sector: u64, sectors: u64, n: u64) -> u64 {
        let mut done = 0;
        for i in 0..claim.blocks {
            let part = Part::first_of(sector + done, sectors - done);
            let at = (claim.offset + i) as usize * BLOCK;
            let block = &mut self.buffers[usize::from(claim.buffer)][at..at + BLOCK];
            block.fill(0);
            let (first, len) = (part.first as usize * SECTOR, part.sectors as usize * SECTOR);
            block[first..first + len].copy_from_slice(&filled(n, part.sectors.into()));
            let entry = Entry { addr: part.addr, mask: part.mask(), crc: crc32c(0, block) };
            self.engine.stored(claim, claim.slot.plus(i), entry);
            done += u64::from(part.sectors);
        }
        self.engine.copied(claim);
        done
    }

    /// Writes sectors, all of which then hold `n`. Returns the claims.
    pub fn write_sectors(&mut self, sector: u64, sectors: u64, n: u64) -> Result<Vec<Claim>, Refused> {
        assert!(sector + sectors <= self.sb.backing_sectors);
        let mut claims = Vec::new();
        let mut done = 0;
        while done < sectors {
            let (first, left) = (sector + done, sectors - done);
            let blocks = (first + left).div_ceil(BLOCK_SECTORS) - first / BLOCK_SECTORS;
            let claim = self.engine.claim(blocks as u32)?;
            done += self.copy(&claim, first, left, n);
            claims.push(claim);
        }
        Ok(claims)
    }

    pub fn write(&mut self, addr: u64, blocks: u64, n: u64) -> Vec<Claim> {
        self.write_sectors(addr * BLOCK_SECTORS, blocks * BLOCK_SECTORS, n).unwrap()
    }

    /// All I/O that the engine wants now; none of it is done yet.
    pub fn poll(&mut self) -> Vec<Io> {
        let mut all = Vec::new();
        while let Some(io) = poll(&mut self.engine) {
            if let Io::Record { seq, buffer, offset, .. } = io {
                let block = &mut self.buffers[usize::from(buffer)][offset as usize * BLOCK..];
                self.engine.encode_header(seq, block.first_chunk_mut().unwrap());
            }
            all.push(io);
        }
        all
    }

    /// The place and the bytes of a record.
    pub fn bytes_of(&self, io: &Io) -> (u64, Vec<u8>) {
        let &Io::Record { slot, blocks, buffer, offset, .. } = io else { panic!("not a record: {io:?}") };
        let at = offset as usize * BLOCK;
        (self.sector_of(slot), self.buffers[usize::from(buffer)][at..at + blocks as usize * BLOCK].to_vec())
    }

    pub fn complete(&mut self, io: &Io) {
        match *io {
            Io::Record { seq, fua, .. } => {
                let (sector, bytes) = self.bytes_of(io);
                self.cache.write(sector, &bytes, fua);
                self.engine.record_done(seq, fua, true);
            }
            Io::Flush { upto } => {
                self.cache.flush(self.cache.mark());
                self.engine.flush_done(upto, true);
            }
        }
    }

    /// Does all I/O that the engine wants, until it wants none. Returns that I/O.
    pub fn pump(&mut self) -> Vec<Io> {
        let mut all = Vec::new();
        loop {
            let some = self.poll();
            if some.is_empty() {
                return all;
            }
            for io in some {
                self.complete(&io);
                all.push(io);
            }
        }
    }

    pub fn flush(&mut self) -> Vec<Io> {
        let seq = self.engine.flush();
        let io = self.pump();
        assert!(self.engine.durable() >= seq);
        io
    }

    /// Writes the checkpoints of a suspend.
    pub fn note(&mut self) {
        self.engine.forgive_slots();
        while let Some(cp) = self.engine.note_durable() {
            self.write_checkpoint(&cp);
            self.engine.checkpointed(true);
        }
        self.blank_stale();
    }

    /// Blanks the checkpoints that the engine calls stale.
    pub fn blank_stale(&mut self) {
        while let Some(block) = self.engine.stale_checkpoint() {
            let ok = self.cache.try_write(block * BLOCK_SECTORS, &[0; SECTOR]);
            self.engine.checkpoint_blanked(block, ok);
        }
    }

    /// The power fails, and nothing is left that was not durable.
    pub fn lose_power(&mut self) {
        self.cache.restart();
        self.backing.restart();
    }

    pub fn chosen(&self) -> Chosen {
        let slots = CHECKPOINT_BLOCKS.map(|block| {
            let read = || self.cache.try_read(block * BLOCK_SECTORS, BLOCK_SECTORS);
            let sector = insist(read, |e| *e).unwrap();
            Held::of(sector.as_ref().map(|b| b.first_chunk().unwrap()), &self.sb)
        });
        Checkpoint::choose(&slots).unwrap()
    }

    pub fn checkpoint(&self) -> Checkpoint {
        self.chosen().checkpoint
    }

    /// Replays the log on the cache device. Also returns the blocks that were read: the first slot and the
    /// number of each read.
    pub fn replay(&self) -> Result<(Replay, Vec<(u32, u32)>), Damage> {
        let mut replay =
            Replay::with_secret(&self.sb, self.chosen(), NR_BUFFERS, Secret::new(SECRET)).unwrap();
        let mut reads = Vec::new();
        while let Want::Read { slot, blocks } = replay.want() {
            let read = || self.cache.try_read(self.sector_of(slot), u64::from(blocks) * BLOCK_SECTORS);
            match insist_or_loss(read, |e| *e).unwrap() {
                Ok(b) => replay.feed(&b)?,
                Err(loss) => replay.feed_unreadable(loss)?,
            }
            reads.push((slot.0, blocks));
        }
        Ok((replay, reads))
    }

    /// Replays the log on the cache device, and continues with it.
    pub fn resume(&mut self) -> Result<(), Damage> {
        let (replay, _) = self.replay()?;
        self.cache.flush(self.cache.mark());
        let (engine, cp) = replay.finish();
        self.engine = engine;
        self.open(cp).unwrap();
        Ok(())
    }

    /// Performs the writes of a resume.
    pub fn open(&mut self, cp: Checkpoint) -> Result<(), Unwritable> {
        let mut opening = Opening::new(cp);
        while let Some((block, checkpoint)) = opening.want(&self.engine) {
            let ok = self.cache.try_write(block * BLOCK_SECTORS, &checkpoint_sector(checkpoint));
            opening.written(&mut self.engine, ok)?;
        }
        Ok(())
    }

    pub fn crash(&mut self) -> Result<(), Damage> {
        self.lose_power();
        self.resume()
    }

    /// Writes the checkpoint that the engine has handed out.
    pub fn write_checkpoint(&mut self, cp: &Checkpoint) {
        while !self.cache.try_write(self.engine.checkpoint_block() * BLOCK_SECTORS, &cp.encode()) {
            self.engine.checkpoint_missed();
        }
    }

    /// The numbers in the sectors, after a check of their checksums.
    pub fn read_sectors(&mut self, sector: u64, sectors: u64) -> Vec<u64> {
        let mut out = HashMap::new();
        let mut at = sector;
        let end = sector + sectors;
        let number = |b: &[u8]| {
            let n = u64::from_le_bytes(b[..8].try_into().unwrap());
            assert!(b[..SECTOR] == filled(n, 1)[..], "garbage");
            n
        };
        while at < end {
            let part = Part::first_of(at, end - at);
            match self.engine.lookup(at, end - at) {
                Run::Backing(n) => {
                    for s in at..at + n {
                        out.insert(s, number(&self.backing.read(s, 1)));
                    }
                    at += n;
                }
                Run::Cache { slot, blocks, generation } => {
                    for i in 0..blocks {
                        let b = self.cache.read(self.sector_of(slot.plus(i)), BLOCK_SECTORS);
                        let verdict = self.engine.checks().judge(slot.plus(i), generation, [crc32c(0, &b)]);
                        assert_eq!(verdict, Verdict::Intact);
                        for s in 0..BLOCK_SECTORS {
                            out.insert(at + s, number(&b[s as usize * SECTOR..]));
                        }
                        at += BLOCK_SECTORS;
                    }
                }
                Run::Pieces(pieces) => {
                    for s in (0..8).filter(|s| part.mask() & !pieces.mask() & 1 << s != 0) {
                        let s = part.addr.first_sector() + s;
                        out.insert(s, number(&self.backing.read(s, 1)));
                    }
                    for p in pieces.as_slice() {
                        let b = match p.ram {
                            Some((buffer, i)) => {
                                self.engine.unpin_buffer(buffer);
                                self.buffers[usize::from(buffer)][i as usize * BLOCK..][..BLOCK].to_vec()
                            }
                            None => self.cache.read(self.sector_of(p.slot), BLOCK_SECTORS).to_vec(),
                        };
                        let verdict = self.engine.checks().judge(p.slot, p.generation, [crc32c(0, &b)]);
                        assert_eq!(verdict, Verdict::Intact);
                        for s in (0..8).filter(|s| p.mask & 1 << s != 0) {
                            out.insert(part.addr.first_sector() + s, number(&b[s as usize * SECTOR..]));
                        }
                    }
                    at += u64::from(part.sectors);
                }
            }
        }
        (sector..end).map(|s| out[&s]).collect()
    }

    /// The number in all sectors of a block.
    pub fn read(&mut self, addr: u64) -> u64 {
        let v = self.read_sectors(addr * BLOCK_SECTORS, BLOCK_SECTORS);
        assert!(v.iter().all(|&n| n == v[0]), "{v:?}");
        v[0]
    }

    pub fn plan_writeback(&mut self) -> Batch {
        let mut batch = Batch::new((self.sb.segment_blocks * self.sb.nr_segments) as usize).unwrap();
        self.engine.begin_batch(&mut batch);
        while self.engine.plan_writeback(&mut batch, Seq::MAX) {}
        batch.sort();
        batch
    }

    /// Writes an item to the backing device, which is not flushed.
    pub fn write_item(&mut self, batch: &Batch, item: &Item) {
        let Some(live) = self.engine.begin_item(batch, item) else { return };
        let b = self.cache.read(self.sector_of(item.slot), BLOCK_SECTORS).to_vec();
        assert!(self.engine.holds_item(batch, item));
        for s in (0..8).filter(|s| live & 1 << s != 0) {
            let sector = &b[s as usize * SECTOR..][..SECTOR];
            self.backing.write(item.addr().first_sector() + s, sector, false);
        }
    }

    /// Writes back all that is durable and dirty.
    pub fn write_back(&mut self) {
        let batch = self.plan_writeback();
        for item in batch.items() {
            self.write_item(&batch, item);
        }
        self.backing.flush(self.backing.mark());
        for item in batch.items() {
            self.engine.written_back(&batch, item);
        }
    }

    /// Moves the tail as far as it goes.
    pub fn move_tail(&mut self, whole: bool) {
        while let Some(cp) = self.engine.advance_tail(whole) {
            self.write_checkpoint(&cp);
            self.engine.checkpointed(true);
            self.blank_stale();
            self.pump();
        }
        self.pump();
    }

    /// Makes everything durable, writes all of it back and frees all segments.
    pub fn drain(&mut self) {
        self.flush();
        self.write_back();
        self.move_tail(true);
        let s = self.engine.state();
        assert_eq!((s.dirty, s.free_segments), (0, s.nr_segments));
    }
}
