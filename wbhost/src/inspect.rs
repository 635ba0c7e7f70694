// SPDX-License-Identifier: GPL-2.0-only

//! The contents of a cache device, read without changing them.

use crate::{
    device::Device,
    signature::{self, Signature},
    DeviceError,
};
use uuid::Uuid;
use writeboost::engine::replay::{is_empty, Damage, Replay, Source, Stopped};
use writeboost::format::{
    Checkpoint, Chosen, Held, Invalid, Slot, Start, Superblock, BLOCK, CHECKPOINT_BLOCKS, FIRST_BLOCK, SECTOR,
};
use writeboost::policy::lost::Loss;

/// Bytes at the start of a device that are zero on a blank one: the area that belongs to the superblock.
pub const BLANK_BYTES: u64 = Start::BYTES as u64;

/// Most slots for which the index is built just to count dirty blocks: about 1.5 GB of RAM, a cache of 256
/// GiB.
const MAX_COUNTED_SLOTS: u64 = 1 << 26;

/// The contents of a device.
#[derive(Debug)]
pub enum Contents {
    /// Nothing that libblkid knows, and the first [`BLANK_BYTES`] are zero, or are the remains of a format
    /// that was interrupted before it wrote the superblock.
    Blank,
    /// Something that libblkid knows.
    Foreign(Vec<Signature>),
    /// Neither libblkid nor this program knows the contents, but the device is not blank.
    Unrecognised,
    /// A volume of ours.
    Volume(Box<Volume>),
    /// Our magic, but with contents that this version cannot read.
    Unreadable(Invalid),
    /// Checkpoints of a volume with a log behind them, but no superblock: its place is blank or has other
    /// contents.
    Orphaned,
}

/// A volume that was found on a cache device.
#[derive(Debug)]
pub struct Volume {
    /// The superblock.
    pub superblock: Superblock,
    /// The state of the log.
    pub log: Log,
}

/// The state of a volume's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// All its data are on the backing device.
    Clean,
    /// Data that is not on the backing device: the number of blocks of 4 KiB, if it was counted.
    Dirty(Option<u64>),
    /// Neither checkpoint is valid.
    NoCheckpoint(Invalid),
    /// The log ends before records that are known to be durable.
    Damaged(Damage),
}

impl Volume {
    /// The volume's UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_bytes(self.superblock.uuid)
    }

    /// The volume's name, or its UUID when it has no name: for messages.
    pub fn label(&self) -> String {
        match self.superblock.name() {
            "" => self.uuid().to_string(),
            name => name.to_owned(),
        }
    }
}

/// How closely to examine a log that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Not at all: the log counts as dirty, of unknown extent. A resume finds out anyway.
    Glance,
    /// Replay the log to count the dirty blocks: a read per record.
    Count,
}

/// Reads the contents of `device`. A volume of ours is reported as such, whatever else libblkid may find
/// there, because cached data can look like anything.
///
/// # Errors
/// [`DeviceError::Io`], [`DeviceError::Blkid`].
pub fn contents(device: &Device, depth: Depth) -> Result<Contents, DeviceError> {
    if device.sectors() > 0 {
        let sector = device.read_sector(0)?;
        match Superblock::decode(&sector) {
            Ok(sb) => return Ok(Contents::Volume(Box::new(volume(device, sb, depth)?))),
            Err(Invalid::Blank | Invalid::Magic) => (),
            Err(invalid) => return Ok(Contents::Unreadable(invalid)),
        }
    }
    let found = signature::find(device)?;
    if !found.is_empty() {
        return Ok(Contents::Foreign(found));
    }
    let mut bytes = vec![0; (device.sectors() * SECTOR as u64).min(BLANK_BYTES) as usize];
    device.read(&mut bytes, 0)?;
    let start = Start::of(&bytes);
    if let Some(checkpoint) = &start.orphan {
        // The kernel's rule, as the next table line would apply it.
        let is_orphaned = checkpoint.has_log(device.sectors(), |sector| {
            let mut block = vec![0; BLOCK];
            device.read(&mut block, sector * SECTOR as u64)?;
            Ok::<_, DeviceError>(checkpoint.is_before(&block))
        })?;
        if is_orphaned {
            return Ok(Contents::Orphaned);
        }
    }
    Ok(if start.used.is_none() { Contents::Blank } else { Contents::Unrecognised })
}

fn volume(device: &Device, superblock: Superblock, depth: Depth) -> Result<Volume, DeviceError> {
    if device.sectors() < superblock.cache_sectors() {
        return Err(DeviceError::Size(format!(
            "{}: holds a volume of {} sectors, but has only {}: it was shrunk, or copied to a \
             smaller device. To give up what is on it use --force --force",
            device.path().display(),
            superblock.cache_sectors(),
            device.sectors()
        )));
    }
    let log = log(device, &superblock, depth)?;
    Ok(Volume { superblock, log })
}

fn log(device: &Device, sb: &Superblock, depth: Depth) -> Result<Log, DeviceError> {
    // A checkpoint that the medium has lost counts like one with a wrong checksum; and so does, as in the
    // kernel, a single one that fails.
    let mut slots = [Held::Unreadable; CHECKPOINT_BLOCKS.len()];
    let mut away = None;
    for (slot, block) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
        match device.read_sector_if_there(block) {
            Ok(sector) => *slot = Held::of(sector.as_ref(), sb),
            Err(e) if answers_around(device) => away = Some(e),
            Err(e) => return Err(e),
        }
    }
    let chosen = match (Checkpoint::choose(&slots), away) {
        (Ok(chosen), _) => chosen,
        (Err(_), Some(e)) => return Err(e),
        (Err(invalid), None) => return Ok(Log::NoCheckpoint(invalid)),
    };
    let cp = chosen.checkpoint;
    // Replay needs an index of the whole cache. To keep formatting instantaneous, an empty log is recognised
    // by its first header. In doubt the log counts as dirty, and replay decides.
    if cp.durable < cp.tail {
        let mut block = [0; BLOCK];
        let is_there = device
            .read_if_there(&mut block, slot_offset(sb, cp.tail_segment.first_slot(sb.segment_blocks)))?;
        if is_there && is_empty(sb, &cp, &block) {
            return Ok(Log::Clean);
        }
    }
    let slots = u64::from(sb.nr_segments) * u64::from(sb.segment_blocks);
    if depth == Depth::Glance || slots > MAX_COUNTED_SLOTS {
        return Ok(Log::Dirty(None));
    }
    count(device, sb, chosen)
}

/// Whether everything before the segments can be read, apart from the checkpoint slots.
fn answers_around(device: &Device) -> bool {
    let mut from = 0;
    CHECKPOINT_BLOCKS.into_iter().chain([FIRST_BLOCK.into()]).all(|to| {
        let mut blocks = vec![0; (to - from) as usize * BLOCK];
        let ok = device.read(&mut blocks, from * BLOCK as u64).is_ok();
        from = to + 1;
        ok
    })
}

/// The log of a volume on a device.
struct Records<'a> {
    device: &'a Device,
    sb: &'a Superblock,
    /// The blocks that were read last.
    blocks: Vec<u8>,
}

impl Source for Records<'_> {
    type Error = DeviceError;

    fn read<R>(
        &mut self,
        slot: Slot,
        blocks: u32,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Result<R, Loss>, DeviceError> {
        self.blocks.resize(blocks as usize * BLOCK, 0);
        let read = self.device.read_or_loss(&mut self.blocks, slot_offset(self.sb, slot))?;
        Ok(read.map(|()| f(&self.blocks)))
    }
}

/// Counts the dirty blocks, by the engine's own replay.
fn count(device: &Device, sb: &Superblock, chosen: Chosen) -> Result<Log, DeviceError> {
    let Ok(mut replay) = Replay::new(sb, chosen, 0) else { return Ok(Log::Dirty(None)) };
    match replay.run(&mut Records { device, sb, blocks: Vec::new() }) {
        Ok(()) => (),
        Err(Stopped::Error(e)) => return Err(e),
        Err(Stopped::Damage(damage)) => return Ok(Log::Damaged(damage)),
    }
    let (engine, _) = replay.finish();
    Ok(match engine.state().dirty {
        0 => Log::Clean,
        n => Log::Dirty(Some(n)),
    })
}

/// Byte offset of a slot on the cache device.
fn slot_offset(sb: &Superblock, slot: Slot) -> u64 {
    (u64::from(sb.first_block) + u64::from(slot.0)) * BLOCK as u64
}
