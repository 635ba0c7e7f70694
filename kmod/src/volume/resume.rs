// SPDX-License-Identifier: GPL-2.0-only

//! From what is on the devices to a volume: replays the log.

use super::{bytes, nr_buffers, Disks, Running, Transfer};
use crate::arguments::Options;
use crate::dm::{Events, Refusal};
use crate::engine::ahead::{Ahead, Look};
use crate::engine::format::{
    Checkpoint, Start, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCK, FIRST_BLOCK, MAX_SEGMENT_BLOCKS,
    SECTOR,
};
use crate::engine::lost::{insist, TRIES};
use crate::engine::replay::{Damage, Replay, Want};
use crate::engine::Engine;
use crate::os::{damaged, sleep_ms, InUse};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Between two attempts to read a checkpoint, in milliseconds.
const AGAIN_MS: u32 = 300;

/// Blocks that a replay reads ahead: 2 MiB, which is enough to keep a device busy.
const AHEAD_BLOCKS: u32 = 2 * MAX_SEGMENT_BLOCKS;

/// All that it reads to: by itself it reads at most the data of one record.
const READ_BLOCKS: usize = (AHEAD_BLOCKS + MAX_SEGMENT_BLOCKS) as usize;
// One bio reads what a format may overwrite.
const _: () = assert!(Start::BYTES <= MAX_SEGMENT_BLOCKS as usize * BLOCK);

/// The first sector of a block of the cache device.
fn sector_of(block: u64) -> u64 {
    block.saturating_mul(BLOCK_SECTORS)
}

/// The log on the cache device, for a replay.
struct Log<'a> {
    disks: &'a Disks,
    sb: &'a Superblock,
    /// What is read ahead comes first, tagged with the index of its piece; then what is read by itself.
    t: &'a Arc<Transfer>,
    ahead: Ahead,
}

impl Log<'_> {
    /// Reads `blocks` blocks from `slot` on and lends them to `f`. `None` when the medium cannot give them back.
    ///
    /// # Errors
    /// Any other error: the device, or the way to it, does not answer, and may have all of it.
    fn read<R>(&mut self, slot: u32, blocks: u32, f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
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
            Look::Memory { piece, at } if self.t.is_ok(piece as usize) => Some(at),
            _ => {
                let alone = || {
                    self.begin(slot, blocks, AHEAD_BLOCKS, AHEAD_BLOCKS);
                    self.t.wait();
                    self.t.error(AHEAD_BLOCKS as usize).map_or(Ok(AHEAD_BLOCKS), Err)
                };
                insist(alone, |e| e.to_errno())?
            }
        };
        let Some(at) = at else { return Ok(None) };
        self.t.pages.with(bytes(at), bytes(blocks), f).map(Some).ok_or(EIO)
    }

    fn begin(&self, slot: u32, blocks: u32, at: u32, tag: u32) {
        let part = (bytes(at), bytes(blocks));
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
    pub(super) fn read_sector(&self, t: &Arc<Transfer>, block: u64) -> Result<[u8; SECTOR]> {
        // A whole block, which any logical block size divides.
        t.read(self, &self.cache, sector_of(block), (0, BLOCK), 0);
        t.finish()?;
        let mut sector = [0; SECTOR];
        t.pages.with(0, SECTOR, |b| sector.copy_from_slice(b)).ok_or(EIO)?;
        Ok(sector)
    }

    /// Reads the first sector of a block of the metadata. `None` when the medium cannot give it back: by its own word, or because
    /// all else of the metadata can be read at the same time, which no device that is away and no path that is down would let
    /// happen to 4 KiB.
    ///
    /// # Errors
    /// Any other error, of each of a few attempts.
    fn read_if_there(&self, t: &Arc<Transfer>, block: u64) -> Result<Option<[u8; SECTOR]>> {
        let mut alone = true;
        let mut last = EIO;
        for attempt in 0..TRIES {
            if attempt != 0 {
                sleep_ms(AGAIN_MS);
            }
            match insist(|| self.read_sector(t, block), |e| e.to_errno()) {
                Ok(sector) => return Ok(sector),
                Err(e) => last = e,
            }
            alone &= self.answers_around(t, block);
        }
        if alone {
            Ok(None)
        } else {
            Err(last)
        }
    }

    /// Whether all of the metadata can be read but this block.
    fn answers_around(&self, t: &Arc<Transfer>, block: u64) -> bool {
        let parts = [(0, block), (block.saturating_add(1), u64::from(FIRST_BLOCK))];
        for (from, blocks) in parts.map(|(from, to)| (from, to.saturating_sub(from))) {
            if blocks != 0 {
                let part = (bytes(from as u32), bytes(blocks as u32));
                t.read(self, &self.cache, sector_of(from), part, 0);
            }
        }
        t.finish().is_ok()
    }

    pub(super) fn write_sector(&self, t: &Arc<Transfer>, block: u64, sector: &[u8; SECTOR]) -> Result {
        t.pages.with_mut(0, BLOCK, |b| {
            b.fill(0);
            b[..SECTOR].copy_from_slice(sector);
        });
        t.write(self, &self.cache, sector_of(block), (0, BLOCK), true, 0);
        t.finish()
    }

    /// Writes a checkpoint with FUA.
    ///
    /// # Errors
    /// `EIO`.
    pub fn write_checkpoint(&self, t: &Arc<Transfer>, checkpoint: &Checkpoint) -> Result {
        self.write_sector(t, checkpoint.block(), &checkpoint.encode())
    }

    pub(super) fn flush_cache(&self, t: &Arc<Transfer>) -> Result {
        t.flush(self, &self.cache);
        t.finish()
    }

    #[inline(never)]
    fn checkpoint(&self, t: &Arc<Transfer>, sb: &Superblock) -> core::result::Result<Checkpoint, Refusal> {
        let slot = |block: u64| match self.read_if_there(t, block) {
            Ok(Some(sector)) => Ok(sector),
            Ok(None) => {
                log_err!(
                    "{}: block {} of the cache device, a checkpoint, cannot be read: the other one has to do",
                    self,
                    block
                );
                Ok([0; SECTOR])
            }
            Err(e) => Err(cannot_read(e)),
        };
        let (a, b) = (slot(CHECKPOINT_BLOCK)?, slot(CHECKPOINT_BLOCK + 1)?);
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
            let fed = match log.read(slot, blocks, |b| replay.feed(b)).map_err(cannot_read)? {
                Some(fed) => fed,
                None => {
                    let sector = sb.slot_sector(slot);
                    log_info!(
                        "{}: the medium of the cache device has lost something from sector {} on",
                        self,
                        sector
                    );
                    replay.feed_unreadable()
                }
            };
            if let Err(damage) = fed {
                log_err!("{}: refusing the cache device: {}", self, damage);
                if let Damage::Unreadable { slot, .. } = damage {
                    log_err!(
                        "{}: sector {} of the cache device would have to be read: try again, perhaps on another machine, and \
                         keep an image of the device; wbformat --force --force gives up all that is in the log",
                        self,
                        sb.slot_sector(slot)
                    );
                }
                return Err((c"The log on the cache device is damaged: see the kernel log", damaged()));
            }
            let (records, _) = replay.progress();
            if records.saturating_sub(noted) >= 100_000 {
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

pub(super) fn cannot_read(e: Error) -> Refusal {
    (c"Cannot read the cache device", e)
}

/// Opens the volume on `disks`, and takes a hold on its identity.
///
/// # Errors
/// Why it cannot be opened: for people, and as an error number. Unless the cache device was blank nothing was written to
/// it.
pub fn open(
    disks: Arc<Disks>,
    events: Events,
    options: Options,
) -> core::result::Result<(Running, [InUse; 2]), Refusal> {
    let no_memory = |e| (c"Not enough memory", e);
    let t = Transfer::new(READ_BLOCKS).map_err(no_memory)?;
    let (sb, in_use) = disks.superblock(&t)?;
    let engine = disks.replay(&t, &sb)?;
    Ok((Running::start(disks, events, engine, options).map_err(no_memory)?, in_use))
}
