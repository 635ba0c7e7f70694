// SPDX-License-Identifier: GPL-2.0-only

//! From what is on the devices to a volume: formats a blank cache device, checks the superblock, replays the log.

use super::{nr_buffers, Disks, Running, Transfer};
use crate::arguments::Options;
use crate::dm::{Events, Refusal};
use crate::engine::ahead::{Ahead, Look};
use crate::engine::format::{
    Checkpoint, Invalid, RecordHeader, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCK,
    DEFAULT_SEGMENT_BLOCKS, FIRST_BLOCK, MAX_SEGMENT_BLOCKS, MIN_SEGMENT_BLOCKS, SECTOR,
};
use crate::engine::replay::{Replay, Want};
use crate::engine::Engine;
use crate::os::{damaged, random};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What has to be zero for nobody to see that there was a volume: the superblock and the checkpoints.
const BLANK_BYTES: u64 = (CHECKPOINT_BLOCK + 2) * BLOCK as u64;

/// Blocks that a replay reads ahead: 2 MiB, which is enough to keep a device busy.
const AHEAD_BLOCKS: u32 = 2 * MAX_SEGMENT_BLOCKS;

/// All that it reads to: by itself it reads at most the data of one record.
const READ_BLOCKS: usize = (AHEAD_BLOCKS + MAX_SEGMENT_BLOCKS) as usize;

/// The log on the cache device, for a replay.
struct Log<'a> {
    disks: &'a Disks,
    sb: &'a Superblock,
    /// What is read ahead comes first, tagged with the index of its piece; then what is read by itself.
    t: &'a Arc<Transfer>,
    ahead: Ahead,
}

impl Log<'_> {
    /// Reads `blocks` blocks from `slot` on and lends them to `f`.
    fn read<R>(&mut self, slot: u32, blocks: u32, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut look = self.ahead.look(slot, blocks);
        if let Look::Batch(count) = look {
            for i in 0..count {
                let p = self.ahead.piece(i);
                self.begin(p.slot, p.blocks, p.at, p.index);
            }
            self.t.wait();
            look = self.ahead.look(slot, blocks);
        }
        let at = match look {
            // What cannot be read ahead may never be needed, or be read by itself.
            Look::Memory { piece, at } if self.t.is_ok(piece as usize) => at,
            _ => {
                self.begin(slot, blocks, AHEAD_BLOCKS, AHEAD_BLOCKS);
                self.t.wait();
                if !self.t.is_ok(AHEAD_BLOCKS as usize) {
                    return Err(EIO);
                }
                AHEAD_BLOCKS
            }
        };
        self.t.pages.with(at as usize * BLOCK, blocks as usize * BLOCK, f).ok_or(EIO)
    }

    fn begin(&self, slot: u32, blocks: u32, at: u32, tag: u32) {
        let part = (at as usize * BLOCK, blocks as usize * BLOCK);
        self.t.forgive(tag as usize);
        self.t.read(self.disks, &self.disks.cache, self.sb.slot_sector(slot), part, tag as usize);
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        // Pieces that could not be read are no failure of what comes now.
        self.t.reset();
    }
}

impl Disks {
    fn read_sector(&self, t: &Arc<Transfer>, block: u64) -> Result<[u8; SECTOR]> {
        // A whole block, which any logical block size divides.
        t.read(self, &self.cache, block * BLOCK_SECTORS, (0, BLOCK), 0);
        t.finish()?;
        let mut sector = [0; SECTOR];
        t.pages.with(0, SECTOR, |b| sector.copy_from_slice(b)).ok_or(EIO)?;
        Ok(sector)
    }

    fn write_sector(&self, t: &Arc<Transfer>, block: u64, sector: &[u8; SECTOR]) -> Result {
        t.pages.with_mut(0, BLOCK, |b| {
            b.fill(0);
            b[..SECTOR].copy_from_slice(sector);
        });
        t.write(self, &self.cache, block * BLOCK_SECTORS, (0, BLOCK), true, 0);
        t.finish()
    }

    /// Writes a checkpoint with FUA.
    ///
    /// # Errors
    /// `EIO`.
    pub fn write_checkpoint(&self, t: &Arc<Transfer>, checkpoint: &Checkpoint) -> Result {
        self.write_sector(t, checkpoint.block(), &checkpoint.encode())
    }

    fn flush_cache(&self, t: &Arc<Transfer>) -> Result {
        t.flush(self, &self.cache);
        t.finish()
    }

    /// Writes a new superblock last, so that a crash leaves either a blank device or a formatted one.
    // Not inlined: together their frames would take half of the kernel's stack.
    #[inline(never)]
    fn format(&self, t: &Arc<Transfer>) -> core::result::Result<Superblock, Refusal> {
        let (mut uuid, mut nonce) = ([0; 16], [0; 8]);
        random(&mut uuid);
        random(&mut nonce);
        // Version 4, variant 1: RFC 9562, 5.4.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let nonce = u64::from_le_bytes(nonce);
        let sb = Superblock::new(
            self.cache.sectors(),
            self.backing.sectors(),
            DEFAULT_SEGMENT_BLOCKS,
            uuid,
            nonce,
        )
        .map_err(|_| (c"The cache device is too small: it must have at least 9 MiB", EINVAL))?;
        let first = Checkpoint::first(nonce);
        self.write_sector(t, CHECKPOINT_BLOCK + 1, &[0; SECTOR])
            .and_then(|()| self.write_checkpoint(t, &first))
            .and_then(|()| self.flush_cache(t))
            .and_then(|()| self.write_sector(t, 0, &sb.encode()))
            .and_then(|()| self.flush_cache(t))
            .map_err(|e| (c"Cannot write to the cache device", e))?;
        log_info!("{}: formatted a blank cache device", self);
        Ok(sb)
    }

    /// Whether there is a log without a superblock that may have data in it which are nowhere else. A blank superblock is what
    /// asks for a new format; but what has blanked it may have been an accident.
    #[inline(never)]
    fn has_orphaned_log(&self, t: &Arc<Transfer>) -> Result<bool> {
        let mut newest: Option<Checkpoint> = None;
        for block in [CHECKPOINT_BLOCK, CHECKPOINT_BLOCK + 1] {
            let found = Checkpoint::orphan(&self.read_sector(t, block)?);
            if found.is_some_and(|c| newest.is_none_or(|n| c.generation > n.generation)) {
                newest = found;
            }
        }
        // The first one is what a format leaves that was interrupted.
        let Some(c) = newest.filter(|c| c.generation > 0) else { return Ok(false) };
        if c.durable >= c.tail {
            return Ok(true);
        }
        // It was empty at that moment. Where its next record would be depends on the size of the segments.
        for segment_blocks in MIN_SEGMENT_BLOCKS..=MAX_SEGMENT_BLOCKS {
            let block = u64::from(FIRST_BLOCK) + u64::from(c.tail_segment) * u64::from(segment_blocks);
            if (block + 1) * BLOCK_SECTORS > self.cache.sectors() {
                break;
            }
            t.read(self, &self.cache, block * BLOCK_SECTORS, (0, BLOCK), 0);
            t.finish()?;
            let is_next =
                |b: &[u8]| b.first_chunk::<BLOCK>().is_some_and(|b| RecordHeader::is_of(b, c.nonce, c.tail));
            if t.pages.with(0, BLOCK, is_next) == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[inline(never)]
    fn superblock(&self, t: &Arc<Transfer>) -> core::result::Result<Superblock, Refusal> {
        let sector = self.read_sector(t, 0).map_err(cannot_read)?;
        let sb = match Superblock::decode(&sector) {
            Ok(sb) => sb,
            Err(Invalid::Blank) if self.has_orphaned_log(t).map_err(cannot_read)? => {
                log_err!(
                    "{}: refusing the cache device, whose superblock is blank but which has a log behind it: put back a \
                     copy of the superblock, or zero the first {} bytes to give up what is in the log",
                    self,
                    BLANK_BYTES
                );
                return Err((c"The superblock of the cache device is gone: see the kernel log", EINVAL));
            }
            Err(Invalid::Blank) => self.format(t)?,
            Err(invalid) => {
                log_err!("{}: refusing the cache device, for {}", self, invalid);
                return Err(match invalid {
                    Invalid::Magic => (
                        c"The cache device is neither blank nor formatted for writeboost: see wbformat",
                        EINVAL,
                    ),
                    Invalid::Version(_) => (
                        c"The cache device has a format that this module does not know: see the kernel log",
                        EINVAL,
                    ),
                    _ => (c"The superblock of the cache device is damaged: see the kernel log", EINVAL),
                });
            }
        };
        if sb.backing_sectors != self.backing.sectors() {
            log_err!(
                "{}: the cache device belongs to a backing device of {} sectors, this one has {}",
                self,
                sb.backing_sectors,
                self.backing.sectors()
            );
            return Err((c"The cache device belongs to a backing device of another size", EINVAL));
        }
        if sb.cache_sectors() > self.cache.sectors() {
            return Err((c"The cache device is smaller than when it was formatted", EINVAL));
        }
        Ok(sb)
    }

    #[inline(never)]
    fn checkpoint(&self, t: &Arc<Transfer>, sb: &Superblock) -> core::result::Result<Checkpoint, Refusal> {
        let a = self.read_sector(t, CHECKPOINT_BLOCK).map_err(cannot_read)?;
        let b = self.read_sector(t, CHECKPOINT_BLOCK + 1).map_err(cannot_read)?;
        Checkpoint::choose(&a, &b, sb).map_err(|invalid| {
            log_err!("{}: refusing the cache device, its checkpoints are damaged: {}", self, invalid);
            (c"The checkpoints of the cache device are damaged", EINVAL)
        })
    }

    #[inline(never)]
    fn replay(&self, t: &Arc<Transfer>, sb: &Superblock) -> core::result::Result<Engine, Refusal> {
        let checkpoint = self.checkpoint(t, sb)?;
        let mut replay = Replay::new(sb, checkpoint, nr_buffers(sb))
            .map_err(|_| (c"Not enough memory for the index of the cache device", ENOMEM))?;
        let ahead = Ahead::new(sb, AHEAD_BLOCKS).map_err(|_| (c"Not enough memory", ENOMEM))?;
        let mut log = Log { disks: self, sb, t, ahead };
        let mut noted = 0;
        while let Want::Read { slot, blocks } = replay.want() {
            let fed = log.read(slot, blocks, |b| replay.feed(b)).map_err(cannot_read)?;
            if let Err(damage) = fed {
                log_err!("{}: refusing the cache device: {}", self, damage);
                return Err((c"The log on the cache device is damaged: see the kernel log", damaged()));
            }
            let (records, _) = replay.progress();
            if records >= noted + 100_000 {
                noted = records;
                log_info!("{}: replaying, {} records so far", self, records);
            }
        }
        drop(log);
        let (records, _) = replay.progress();
        let (engine, checkpoint) = replay.finish();
        self.flush_cache(t)
            .and_then(|()| self.write_checkpoint(t, &checkpoint))
            .map_err(|e| (c"Cannot write to the cache device", e))?;
        if records != 0 {
            log_info!("{}: replayed {} records, {} blocks are dirty", self, records, engine.state().dirty);
        }
        Ok(engine)
    }
}

fn cannot_read(e: Error) -> Refusal {
    (c"Cannot read the cache device", e)
}

/// Opens the volume on `disks`.
///
/// # Errors
/// Why it cannot be opened: for people, and as an error number. Unless the cache device was blank nothing was written to
/// it.
pub fn open(disks: Arc<Disks>, events: Events, options: Options) -> core::result::Result<Running, Refusal> {
    let no_memory = |e| (c"Not enough memory", e);
    let t = Transfer::new(READ_BLOCKS).map_err(no_memory)?;
    let sb = disks.superblock(&t)?;
    let engine = disks.replay(&t, &sb)?;
    Running::start(disks, events, engine, options).map_err(no_memory)
}
