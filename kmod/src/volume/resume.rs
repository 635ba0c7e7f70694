// SPDX-License-Identifier: GPL-2.0-only

//! From what is on the devices to a volume: replays the log.

use super::{bytes, nr_buffers, Disks, Running, Transfer};
use crate::engine::ahead::{Ahead, Look};
use crate::engine::places::Opening;
use crate::engine::replay::{Damage, Replay, Source, Stopped};
use crate::engine::Engine;
use crate::format::{
    Checkpoint, Chosen, Held, Slot, Start, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS, FIRST_BLOCK,
    MAX_SEGMENT_BLOCKS, SECTOR,
};
use crate::host::{
    boxed, damaged, sleep_ms, unboxed, Arc, Box, Error, Events, InUse, Refusal, Result, EINVAL, EIO, ENOMEM,
};
use crate::interface::table::Options;
use crate::policy::lost::{insist, insist_or_loss, Loss, TRIES};

/// Pause between two attempts to read a checkpoint, in milliseconds.
const AGAIN_MS: u32 = 300;

/// Blocks that a replay reads ahead: 2 MiB, which is enough to keep a device busy.
const AHEAD_BLOCKS: u32 = 2 * MAX_SEGMENT_BLOCKS;

/// Memory for all reads of a replay: what is not read ahead is at most the data of one record.
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
    /// Blocks that are read ahead come first, each tagged with the index of its piece; then those that are
    /// read by themselves.
    t: &'a Arc<Transfer>,
    ahead: Ahead,
    /// Number of records in the last progress message.
    told: u64,
}

impl Source for Log<'_> {
    type Error = Error;

    fn read<R>(&mut self, slot: Slot, blocks: u32, f: impl FnOnce(&[u8]) -> R) -> Result<Result<R, Loss>> {
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
            // A piece that cannot be read ahead may never be needed, or is read by itself.
            Look::Memory { piece, at } if self.t.is_ok(piece as usize) => Ok(at),
            _ => {
                let alone = || {
                    self.begin(slot, blocks, AHEAD_BLOCKS, AHEAD_BLOCKS);
                    self.t.wait();
                    self.t.error(AHEAD_BLOCKS as usize).map_or(Ok(AHEAD_BLOCKS), Err)
                };
                insist_or_loss(alone, |e| e.to_errno())?
            }
        };
        match at {
            Ok(at) => self.t.pages.with(bytes(at), bytes(blocks), f).map(Ok).ok_or(EIO),
            Err(loss) => Ok(Err(loss)),
        }
    }

    fn lost(&mut self, slot: Slot) {
        let sector = self.sb.slot_sector(slot);
        log_info!(
            "{}: the medium of the cache device has lost something from sector {} on",
            self.disks,
            sector
        );
    }

    fn applied(&mut self, records: u64) {
        if records.saturating_sub(self.told) >= 100_000 {
            self.told = records;
            log_info!("{}: replaying, {} records so far", self.disks, records);
        }
    }
}

impl Log<'_> {
    fn begin(&self, slot: Slot, blocks: u32, at: u32, tag: u32) {
        let part = (bytes(at), bytes(blocks));
        self.t.forgive(tag as usize);
        self.t.read(self.disks, &self.disks.cache, self.sb.slot_sector(slot), part, tag as usize);
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        // Read errors of pieces are no failure of what comes now.
        self.t.reset();
    }
}

impl Disks {
    /// Reads the first sector of a block and lends it to `f`.
    ///
    /// # Errors
    /// Those of the device.
    // The sector stays in the memory of `t`: the kernel's stack has no room for copies of it.
    pub(super) fn read_sector<R>(
        &self,
        t: &Arc<Transfer>,
        block: u64,
        f: impl FnOnce(&[u8; SECTOR]) -> R,
    ) -> Result<R> {
        // A whole block is read, which any logical block size divides.
        t.read(self, &self.cache, sector_of(block), (0, BLOCK), 0);
        t.finish()?;
        t.pages.with(0, SECTOR, |b| b.first_chunk().map(f)).flatten().ok_or(EIO)
    }

    /// Reads what a checkpoint slot holds. The answer is [`Held::Unreadable`] in two cases. Either the device
    /// says that the medium cannot give it back; or all metadata but such slots can be read at the same time,
    /// which would not happen to 4 KiB if the device were away or the path to it were down. In the second
    /// case the error is in `away`.
    ///
    /// # Errors
    /// Any other error, of each of a few attempts.
    fn read_if_there(
        &self,
        t: &Arc<Transfer>,
        sb: &Superblock,
        block: u64,
        away: &mut Option<Error>,
    ) -> Result<Held> {
        let mut alone = true;
        let mut last = EIO;
        for attempt in 0..TRIES {
            if attempt != 0 {
                sleep_ms(AGAIN_MS);
            }
            let read = || self.read_sector(t, block, |sector| Held::of(Some(sector), sb));
            match insist(read, |e| e.to_errno()) {
                Ok(held) => return Ok(held.unwrap_or(Held::Unreadable)),
                Err(e) => last = e,
            }
            alone &= self.answers_around(t);
        }
        if alone {
            *away = Some(last);
            Ok(Held::Unreadable)
        } else {
            Err(last)
        }
    }

    /// Whether all of the metadata but the checkpoint slots can be read.
    fn answers_around(&self, t: &Arc<Transfer>) -> bool {
        let read = |from: u64, to: u64| {
            let blocks = to.saturating_sub(from);
            if blocks != 0 {
                let part = (bytes(from as u32), bytes(blocks as u32));
                t.read(self, &self.cache, sector_of(from), part, 0);
            }
        };
        let mut from = 0;
        for slot in CHECKPOINT_BLOCKS {
            read(from, slot);
            from = slot.saturating_add(1);
        }
        read(from, FIRST_BLOCK.into());
        t.finish().is_ok()
    }

    /// Writes a block of zeroes that begins with what `encode` makes of its first sector.
    pub(super) fn write_sector(
        &self,
        t: &Arc<Transfer>,
        block: u64,
        encode: impl FnOnce(&mut [u8; SECTOR]),
    ) -> Result {
        t.pages.with_mut(0, BLOCK, |b| {
            b.fill(0);
            b.first_chunk_mut().map(encode)
        });
        t.write(self, &self.cache, sector_of(block), (0, BLOCK), true, 0);
        t.finish()
    }

    pub(super) fn flush_cache(&self, t: &Arc<Transfer>) -> Result {
        t.flush(self, &self.cache);
        t.finish()
    }

    #[inline(never)]
    fn checkpoint(&self, t: &Arc<Transfer>, sb: &Superblock) -> core::result::Result<Chosen, Refusal> {
        let mut slots = [Held::Unreadable; CHECKPOINT_BLOCKS.len()];
        let mut away = None;
        for (slot, block) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
            *slot = self.read_if_there(t, sb, block, &mut away).map_err(cannot_read)?;
            if *slot == Held::Unreadable {
                log_err!(
                    "{}: block {} of the cache device, a checkpoint, cannot be read: another one has to do",
                    self,
                    block
                );
            }
        }
        Checkpoint::choose(&slots).map_err(|invalid| {
            if let Some(e) = away {
                return cannot_read(e);
            }
            log_err!("{}: refusing the cache device, its checkpoints are damaged: {}", self, invalid);
            (c"The checkpoints of the cache device are damaged", EINVAL)
        })
    }

    #[inline(never)]
    fn replay(&self, t: &Arc<Transfer>, sb: &Superblock) -> core::result::Result<Engine, Refusal> {
        let chosen = self.checkpoint(t, sb)?;
        let mut replay = begin(sb, &chosen)
            .map_err(|_| (c"Not enough memory for the index of the cache device", ENOMEM))?;
        let ahead = Ahead::new(sb, AHEAD_BLOCKS).map_err(|_| (c"Not enough memory", ENOMEM))?;
        let stopped = replay.run(&mut Log { disks: self, sb, t, ahead, told: 0 });
        stopped.map_err(|stopped| match stopped {
            Stopped::Error(e) => cannot_read(e),
            Stopped::Damage(damage) => self.damaged(sb, &chosen, &damage),
        })?;
        self.end_replay(t, replay).map_err(|e| (c"Cannot write to the cache device", e))
    }

    #[inline(never)]
    fn damaged(&self, sb: &Superblock, chosen: &Chosen, damage: &Damage) -> Refusal {
        log_err!("{}: refusing the cache device: {}", self, damage);
        if let Damage::Unreadable { slot, .. } | Damage::Area { slot, .. } = *damage {
            log_err!(
                "{}: sector {} of the cache device would have to be read: try again, perhaps on another \
                 machine, and keep an image of the device; wbformat --force --force gives up all that is in \
                 the log",
                self,
                sb.slot_sector(slot)
            );
        }
        self.log_doubtful(chosen);
        (c"The log on the cache device is damaged: see the kernel log", damaged())
    }

    #[inline(never)]
    fn end_replay(&self, t: &Arc<Transfer>, replay: Box<Replay>) -> Result<Engine> {
        let (records, _) = replay.progress();
        let (mut engine, checkpoint) = unboxed(replay).finish();
        self.flush_cache(t)?;
        self.begin_life(t, &mut engine, checkpoint)?;
        if records != 0 {
            log_info!("{}: replayed {} records, {} blocks are dirty", self, records, engine.state().dirty);
        }
        Ok(engine)
    }

    /// Logs which slots might hold a newer checkpoint, when the replay from an older one goes wrong.
    fn log_doubtful(&self, chosen: &Chosen) {
        let unreadable = CHECKPOINT_BLOCKS.into_iter().zip(chosen.unreadable).filter(|&(_, is)| is);
        for (block, _) in unreadable {
            log_err!(
                "{}: the newest checkpoint may be in block {} of the cache device, which cannot be read: if \
                 it can be read again, perhaps on another machine, all is there; keep an image of the device",
                self,
                block
            );
        }
    }

    /// Writes what [`Opening`] says, before the engine is used.
    fn begin_life(&self, t: &Arc<Transfer>, engine: &mut Engine, checkpoint: Checkpoint) -> Result {
        let mut opening = Opening::new(checkpoint);
        let mut error = EIO;
        while let Some((block, checkpoint)) = opening.want(engine) {
            let result = self.write_sector(t, block, |b| {
                if let Some(checkpoint) = checkpoint {
                    checkpoint.encode_into(b);
                }
            });
            if let Err(e) = result {
                error = e;
                log_err!(
                    "{}: block {} of the cache device, for a checkpoint, cannot be written: another one has \
                     to do",
                    self,
                    block
                );
            }
            opening.written(engine, result.is_ok()).map_err(|_| error)?;
        }
        Ok(())
    }
}

/// Begins a replay. It is not on the stack, for bios are sent from this stack while the replay goes on.
#[inline(never)]
fn begin(sb: &Superblock, chosen: &Chosen) -> Result<Box<Replay>> {
    boxed(Replay::new(sb, *chosen, nr_buffers(sb))?)
}

pub(super) fn cannot_read(e: Error) -> Refusal {
    (c"Cannot read the cache device", e)
}

/// Opens the volume on `disks`, and takes the hold on its identity.
///
/// # Errors
/// Why it cannot be opened: for people, and as an error number. Unless the cache device was blank nothing was
/// written to it.
pub fn open(
    disks: Arc<Disks>,
    events: Events,
    options: Options,
) -> core::result::Result<(Running, [InUse; 2]), Refusal> {
    let no_memory = |e| (c"Not enough memory", e);
    let t = Transfer::with_blocks(&disks, READ_BLOCKS).map_err(no_memory)?;
    let (sb, in_use) = disks.superblock(&t)?;
    let engine = disks.replay(&t, &sb)?;
    Ok((Running::start(disks, events, engine, options).map_err(no_memory)?, in_use))
}
