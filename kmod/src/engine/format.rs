// SPDX-License-Identifier: GPL-2.0-only

//! Every byte on the cache device: superblock, checkpoint and record header. `docs/on-disk-format.md` is its text.
//!
//! All integers are little-endian. Nothing read from a device is trusted: each `decode` checks magic, version,
//! checksum and every range, and says which of them failed.

use crate::host::crc32c;
use core::fmt;

/// Bytes per sector, the block layer's unit of address.
pub const SECTOR: usize = 512;
/// Bytes per block, the cache's unit of address.
pub const BLOCK: usize = 4096;
/// Sectors per block.
pub const BLOCK_SECTORS: u64 = (BLOCK / SECTOR) as u64;
/// The version of the format that this code reads and writes.
pub const VERSION: u32 = 1;
/// Blocks before the first segment: superblock, checkpoint slots and room to grow; 1 MiB keeps segments aligned.
pub const FIRST_BLOCK: u32 = 256;
/// Slots for checkpoints: two that are used in turn, and two that stand in for these.
pub const CHECKPOINT_SLOTS: usize = 4;
/// The blocks of the checkpoint slots: generation `g` is written to number `g % 2`, or to number `2 + g % 2` when that fails. Those
/// that stand in lie far from the others, and under small stripes on other disks.
pub const CHECKPOINT_BLOCKS: [u64; CHECKPOINT_SLOTS] = [1, 2, 128, 192];
/// Blocks per segment unless chosen otherwise when formatting: 512 KiB.
pub const DEFAULT_SEGMENT_BLOCKS: u32 = 128;
/// Fewest blocks per segment.
pub const MIN_SEGMENT_BLOCKS: u32 = 16;
/// Most blocks per segment: one bio carries at most 256 pages.
pub const MAX_SEGMENT_BLOCKS: u32 = 256;
/// Fewest segments of a cache device.
pub const MIN_SEGMENTS: u32 = 16;
/// Most records that may be on the cache device without being known durable. Replay keeps that many headers in RAM.
pub const WINDOW: u64 = 64;
/// Bytes of the volume's name in the superblock, NUL-padded; device-mapper's limit.
pub const NAME_LEN: usize = 128;
/// Bytes of the backing device's identity in the superblock, NUL-padded.
pub const BACKING_ID_LEN: usize = 256;
/// Highest number of backing blocks: addresses have 40 bits.
pub const MAX_BACKING_BLOCKS: u64 = 1 << 40;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"WBoostSB";
const CHECKPOINT_MAGIC: [u8; 8] = *b"WBoostCP";
const RECORD_MAGIC: [u8; 4] = *b"WBrc";
/// Offset of the checksum in superblock and checkpoint.
const SECTOR_CRC: usize = 12;
/// Offset of the checksum in a record header.
const RECORD_CRC: usize = 4;
/// Bytes before the first entry of a record header.
const RECORD_FIXED: usize = 64;
/// Bytes per entry of a record header.
const ENTRY: usize = 12;
/// Most entries of one record header.
pub const MAX_ENTRIES: usize = (BLOCK - RECORD_FIXED) / ENTRY;
// A record is never so large that its header does not hold its entries.
const _: () =
    assert!(MAX_SEGMENT_BLOCKS as usize <= MAX_ENTRIES && RECORD_FIXED + MAX_ENTRIES * ENTRY <= BLOCK);

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// All bytes are zero: nothing was ever written here.
    Blank,
    /// The magic number is another one: not ours.
    Magic,
    /// Ours, but of a format version that this code does not know.
    Version(u32),
    /// The checksum does not match: torn or damaged.
    Checksum,
    /// A field has a value that no writer of this format writes; its name.
    Field(&'static str),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Blank => f.write_str("it is blank"),
            Invalid::Magic => f.write_str("it does not carry the writeboost magic"),
            Invalid::Version(v) => write!(
                f,
                "it has format version {v}, this software knows version {VERSION}: use the wbctl and module that wrote it"
            ),
            Invalid::Checksum => f.write_str("its checksum does not match (torn or damaged)"),
            Invalid::Field(name) => write!(f, "its field {name} is out of range"),
        }
    }
}

fn get<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[at..at + N]);
    out
}

fn get_u16(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(b, at))
}

fn get_u32(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(b, at))
}

fn get_u64(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(b, at))
}

fn put(b: &mut [u8], at: usize, bytes: &[u8]) {
    b[at..at + bytes.len()].copy_from_slice(bytes);
}

/// CRC-32C of `b` with the four bytes at `at` taken as zero.
fn crc_without(b: &[u8], at: usize) -> u32 {
    let crc = crc32c(0, &b[..at]);
    let crc = crc32c(crc, &[0; 4]);
    crc32c(crc, &b[at + 4..])
}

/// What [`Superblock::decode`] and [`Checkpoint::decode`] have in common: one sector with magic, version, checksum.
fn check_sector(b: &[u8; SECTOR], magic: &[u8; 8]) -> Result<(), Invalid> {
    if b.iter().all(|&x| x == 0) {
        return Err(Invalid::Blank);
    }
    if b[..8] != magic[..] {
        return Err(Invalid::Magic);
    }
    if get_u32(b, 8) != VERSION {
        return Err(Invalid::Version(get_u32(b, 8)));
    }
    if get_u32(b, SECTOR_CRC) != crc_without(b, SECTOR_CRC) {
        return Err(Invalid::Checksum);
    }
    Ok(())
}

fn begin_sector(b: &mut [u8; SECTOR], magic: &[u8; 8]) {
    b.fill(0);
    put(b, 0, magic);
    put(b, 8, &VERSION.to_le_bytes());
}

fn seal_sector(b: &mut [u8; SECTOR]) {
    let crc = crc_without(b, SECTOR_CRC);
    put(b, SECTOR_CRC, &crc.to_le_bytes());
}

/// A sector of its own: not in the kernel, whose stack is small.
fn sector(encode: impl FnOnce(&mut [u8; SECTOR])) -> [u8; SECTOR] {
    let mut b = [0; SECTOR];
    encode(&mut b);
    b
}

/// The first sector of the cache device: what the volume is. Written once, when formatting, and never changed.
///
/// It is one sector long because a sector is what disks write whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the volume (RFC 9562).
    pub uuid: [u8; 16],
    /// Random number of this format: what an earlier one left on the device never replays.
    pub nonce: u64,
    /// Size of the backing device in sectors.
    pub backing_sectors: u64,
    /// Number of segments.
    pub nr_segments: u32,
    /// Blocks per segment.
    pub segment_blocks: u32,
    /// First block of the first segment.
    pub first_block: u32,
    /// Name of the volume, NUL-padded UTF-8 without control characters; may be empty.
    pub name: [u8; NAME_LEN],
    /// Identity of the backing device as `KIND:VALUE`, likewise; empty when whoever formatted knew none.
    pub backing_id: [u8; BACKING_ID_LEN],
}

impl Superblock {
    /// Lays out a cache device of `cache_sectors` for a backing device of `backing_sectors`.
    ///
    /// # Errors
    /// [`Invalid::Field`] naming what does not fit.
    pub fn new(
        cache_sectors: u64,
        backing_sectors: u64,
        segment_blocks: u32,
        uuid: [u8; 16],
        nonce: u64,
    ) -> Result<Self, Invalid> {
        let blocks = (cache_sectors / BLOCK_SECTORS).saturating_sub(FIRST_BLOCK.into());
        let by_size = blocks / u64::from(segment_blocks.max(1));
        // Slots have 32-bit numbers, of which the highest means none: a larger device is used as far as they reach.
        let limit = u64::from(u32::MAX / segment_blocks.max(1));
        let sb = Self {
            uuid,
            nonce,
            backing_sectors,
            nr_segments: by_size.min(limit) as u32,
            segment_blocks,
            first_block: FIRST_BLOCK,
            name: [0; NAME_LEN],
            backing_id: [0; BACKING_ID_LEN],
        };
        sb.check()?;
        Ok(sb)
    }

    /// Smallest cache device in sectors for segments of `segment_blocks` blocks.
    pub fn min_cache_sectors(segment_blocks: u32) -> u64 {
        (u64::from(FIRST_BLOCK) + u64::from(MIN_SEGMENTS) * u64::from(segment_blocks)) * BLOCK_SECTORS
    }

    /// Sectors of the cache device that are in use, from its start.
    pub fn cache_sectors(&self) -> u64 {
        (u64::from(self.first_block) + u64::from(self.nr_segments) * u64::from(self.segment_blocks))
            * BLOCK_SECTORS
    }

    /// First sector on the cache device of the block in `slot`.
    pub fn slot_sector(&self, slot: u32) -> u64 {
        (u64::from(self.first_block) + u64::from(slot)) * BLOCK_SECTORS
    }

    fn check(&self) -> Result<(), Invalid> {
        if !self.segment_blocks.is_power_of_two()
            || !(MIN_SEGMENT_BLOCKS..=MAX_SEGMENT_BLOCKS).contains(&self.segment_blocks)
        {
            return Err(Invalid::Field("segment_blocks"));
        }
        if !(MIN_SEGMENTS..=u32::MAX / self.segment_blocks).contains(&self.nr_segments) {
            return Err(Invalid::Field("nr_segments"));
        }
        if self.first_block != FIRST_BLOCK {
            return Err(Invalid::Field("first_block"));
        }
        if self.backing_sectors == 0 || self.backing_sectors.div_ceil(BLOCK_SECTORS) > MAX_BACKING_BLOCKS {
            return Err(Invalid::Field("backing_sectors"));
        }
        if text(&self.name).is_none() {
            return Err(Invalid::Field("name"));
        }
        if text(&self.backing_id).is_none() {
            return Err(Invalid::Field("backing_id"));
        }
        Ok(())
    }

    /// Name of the volume; empty when it has none.
    pub fn name(&self) -> &str {
        text(&self.name).unwrap_or("")
    }

    /// Identity of the backing device; empty when none was known.
    pub fn backing_id(&self) -> &str {
        text(&self.backing_id).unwrap_or("")
    }

    /// Sets the name of the volume.
    ///
    /// # Errors
    /// [`Invalid::Field`] when it is longer than [`NAME_LEN`] bytes or holds control characters.
    pub fn set_name(&mut self, name: &str) -> Result<(), Invalid> {
        self.name = padded(name).ok_or(Invalid::Field("name"))?;
        Ok(())
    }

    /// Sets the identity of the backing device.
    ///
    /// # Errors
    /// [`Invalid::Field`] when it is longer than [`BACKING_ID_LEN`] bytes or holds control characters.
    pub fn set_backing_id(&mut self, id: &str) -> Result<(), Invalid> {
        self.backing_id = padded(id).ok_or(Invalid::Field("backing_id"))?;
        Ok(())
    }

    /// The sector to write at the start of the cache device.
    pub fn encode(&self) -> [u8; SECTOR] {
        sector(|b| self.encode_into(b))
    }

    /// The same, in memory that is there.
    pub fn encode_into(&self, b: &mut [u8; SECTOR]) {
        begin_sector(b, &SUPERBLOCK_MAGIC);
        put(b, 16, &self.uuid);
        put(b, 32, &self.nonce.to_le_bytes());
        put(b, 40, &self.backing_sectors.to_le_bytes());
        put(b, 48, &self.nr_segments.to_le_bytes());
        put(b, 52, &self.segment_blocks.to_le_bytes());
        put(b, 56, &self.first_block.to_le_bytes());
        put(b, 64, &self.name);
        put(b, 192, &self.backing_id);
        seal_sector(b);
    }

    /// Whether the first sector of a device says that it is a cache device, of whatever version and in whatever state.
    pub fn is_in(b: &[u8; SECTOR]) -> bool {
        b[..8] == SUPERBLOCK_MAGIC
    }

    /// Reads a superblock from the first sector of a device.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(b: &[u8; SECTOR]) -> Result<Self, Invalid> {
        check_sector(b, &SUPERBLOCK_MAGIC)?;
        let sb = Self {
            uuid: get(b, 16),
            nonce: get_u64(b, 32),
            backing_sectors: get_u64(b, 40),
            nr_segments: get_u32(b, 48),
            segment_blocks: get_u32(b, 52),
            first_block: get_u32(b, 56),
            name: get(b, 64),
            backing_id: get(b, 192),
        };
        sb.check()?;
        Ok(sb)
    }
}

/// The text in a NUL-padded field: `None` when it is not UTF-8, has bytes behind the first NUL, or control characters,
/// which would do to a terminal whatever the author of a hostile device wants.
fn text(b: &[u8]) -> Option<&str> {
    let end = b.iter().position(|&x| x == 0).unwrap_or(b.len());
    if b[end..].iter().any(|&x| x != 0) {
        return None;
    }
    core::str::from_utf8(&b[..end]).ok().filter(|s| !s.contains(char::is_control))
}

fn padded<const N: usize>(s: &str) -> Option<[u8; N]> {
    if s.len() > N || s.contains(char::is_control) {
        return None;
    }
    let mut b = [0; N];
    b[..s.len()].copy_from_slice(s.as_bytes());
    Some(b)
}

/// A UUID, shown as RFC 9562 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, b) in self.0.iter().enumerate() {
            write!(f, "{}{b:02x}", if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" })?;
        }
        Ok(())
    }
}

/// Where the log begins: written (FUA) each time the tail moves and twice on each resume, to two slots in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The superblock's nonce.
    pub nonce: u64,
    /// Counts the checkpoints of this format; the higher valid one holds.
    pub generation: u64,
    /// Counts the resumes of this format; records carry it.
    pub epoch: u64,
    /// First sequence number of this epoch: records from here on must carry `epoch`, those before it an older one.
    pub epoch_start: u64,
    /// Oldest sequence number not yet written back; its record is the first of segment `tail_segment`.
    pub tail: u64,
    /// Highest sequence number known durable when this was written: a log that ends before it is damaged.
    pub durable: u64,
    /// Segment where the log begins.
    pub tail_segment: u32,
}

impl Checkpoint {
    /// The checkpoint of a log in which nothing was ever written.
    pub fn first(nonce: u64) -> Self {
        Self { nonce, generation: 0, epoch: 0, epoch_start: 1, tail: 1, durable: 0, tail_segment: 0 }
    }

    /// Block of the cache device that this checkpoint is written to, unless another one stands in for it:
    /// [`super::Engine::checkpoint_block`] knows.
    pub fn block(&self) -> u64 {
        CHECKPOINT_BLOCKS[(self.generation % 2) as usize]
    }

    /// The sector to write at the start of [`Checkpoint::block`].
    pub fn encode(&self) -> [u8; SECTOR] {
        sector(|b| self.encode_into(b))
    }

    /// The same, in memory that is there.
    pub fn encode_into(&self, b: &mut [u8; SECTOR]) {
        begin_sector(b, &CHECKPOINT_MAGIC);
        put(b, 16, &self.nonce.to_le_bytes());
        put(b, 24, &self.generation.to_le_bytes());
        put(b, 32, &self.epoch.to_le_bytes());
        put(b, 40, &self.epoch_start.to_le_bytes());
        put(b, 48, &self.tail.to_le_bytes());
        put(b, 56, &self.durable.to_le_bytes());
        put(b, 64, &self.tail_segment.to_le_bytes());
        seal_sector(b);
    }

    /// Reads a checkpoint of a volume whose superblock is not there, if it is one.
    pub fn orphan(b: &[u8; SECTOR]) -> Option<Self> {
        check_sector(b, &CHECKPOINT_MAGIC).is_ok().then(|| Self::parse(b))
    }

    fn parse(b: &[u8; SECTOR]) -> Self {
        Self {
            nonce: get_u64(b, 16),
            generation: get_u64(b, 24),
            epoch: get_u64(b, 32),
            epoch_start: get_u64(b, 40),
            tail: get_u64(b, 48),
            durable: get_u64(b, 56),
            tail_segment: get_u32(b, 64),
        }
    }

    /// Reads a checkpoint of the volume `sb`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(b: &[u8; SECTOR], sb: &Superblock) -> Result<Self, Invalid> {
        check_sector(b, &CHECKPOINT_MAGIC)?;
        let cp = Self::parse(b);
        if cp.nonce != sb.nonce {
            return Err(Invalid::Field("nonce"));
        }
        if cp.tail_segment >= sb.nr_segments {
            return Err(Invalid::Field("tail_segment"));
        }
        // Numbers near the end of u64 are never reached by counting: refusing them keeps all sums from overflowing.
        let sane = 1 << 62;
        if cp.tail == 0 || cp.tail > sane || cp.durable > sane || cp.tail > cp.durable + 1 {
            return Err(Invalid::Field("tail"));
        }
        if cp.epoch_start == 0 || cp.epoch_start > sane || cp.epoch > sane || cp.generation > sane {
            return Err(Invalid::Field("epoch"));
        }
        Ok(cp)
    }

    /// Chooses between what the slots hold: the newest valid one. One that the medium cannot give back is as good as one with a
    /// wrong checksum. Whether it was the newest nobody can say then; a replay from an older one finds out, unless what it
    /// would find is gone too, from what was written since: `Outdated`, `Overwritten` and `Short` of
    /// [`super::replay::Damage`].
    ///
    /// # Errors
    /// When none is valid, what is wrong with the first that is not blank.
    pub fn choose(slots: &[Held; CHECKPOINT_SLOTS]) -> Result<Chosen, Invalid> {
        let mut newest: Option<(usize, Self)> = None;
        let mut wrong = None;
        let (mut valid, mut doubtful) = (0, 0);
        for (i, held) in slots.iter().enumerate() {
            match *held {
                Held::Checkpoint(cp) => {
                    valid += 1;
                    if newest.is_none_or(|(_, other)| cp.generation > other.generation) {
                        newest = Some((i, cp));
                    }
                }
                Held::Blank => (),
                Held::Unreadable => doubtful += 1,
                Held::Invalid(invalid) => {
                    doubtful += 1;
                    wrong = wrong.or(Some(invalid));
                }
            }
        }
        let Some((slot, checkpoint)) = newest else {
            // One that cannot be read is not blank.
            let rest = if doubtful == 0 { Invalid::Blank } else { Invalid::Magic };
            return Err(wrong.unwrap_or(rest));
        };
        // There are two, but right after a format: one has become blank.
        let lacks = u32::from(valid == 1 && checkpoint.generation != 0);
        Ok(Chosen {
            checkpoint,
            slot,
            doubtful: doubtful.max(lacks),
            unreadable: slots.map(|held| held == Held::Unreadable),
            filled: slots.map(|held| held != Held::Blank),
        })
    }
}

/// What one of the slots for checkpoints holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// One of this volume.
    Checkpoint(Checkpoint),
    /// Zeroes.
    Blank,
    /// Something else.
    Invalid(Invalid),
    /// The medium cannot give it back.
    Unreadable,
}

impl Held {
    /// Of a slot that begins with this sector, or with one that the medium has lost.
    pub fn of(sector: Option<&[u8; SECTOR]>, sb: &Superblock) -> Self {
        let Some(sector) = sector else { return Self::Unreadable };
        match Checkpoint::decode(sector, sb) {
            Ok(checkpoint) => Self::Checkpoint(checkpoint),
            Err(_) if sector.iter().all(|&x| x == 0) => Self::Blank,
            Err(invalid) => Self::Invalid(invalid),
        }
    }

    /// The checkpoint, if it is one.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Self::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        }
    }
}

/// What [`Checkpoint::choose`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The newest one.
    pub checkpoint: Checkpoint,
    /// Which slot it is in.
    pub slot: usize,
    /// How many slots may hold newer ones, which cannot be read or are not whole.
    pub doubtful: u32,
    /// The slots that cannot be read.
    pub unreadable: [bool; CHECKPOINT_SLOTS],
    /// Those that are not blank.
    pub filled: [bool; CHECKPOINT_SLOTS],
}

impl From<Checkpoint> for Chosen {
    /// One that is alone, where it belongs.
    fn from(checkpoint: Checkpoint) -> Self {
        let slot = (checkpoint.generation % 2) as usize;
        let unreadable = [false; CHECKPOINT_SLOTS];
        Self { checkpoint, slot, doubtful: 0, unreadable, filled: [0, 1, 2, 3].map(|i| i == slot) }
    }
}

/// What is on a device that has no superblock where a format puts everything but the segments.
///
/// A format writes only there, and only where nothing is: that the first sector is blank says little, for ext4, btrfs, LVM, swap and others
/// leave it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The newer checkpoint, if there is any. With generation 0 it is what is left of a format that was interrupted.
    pub orphan: Option<Checkpoint>,
    /// The first sector that is neither blank nor a checkpoint.
    pub used: Option<u64>,
}

impl Start {
    /// Bytes that it is about.
    pub const BYTES: usize = FIRST_BLOCK as usize * BLOCK;

    /// Looks at the first [`Start::BYTES`] of a device, or at all of one that is smaller.
    pub fn of(b: &[u8]) -> Self {
        let mut start = Self { orphan: None, used: None };
        for (i, sector) in (0u64..).zip(b.chunks(SECTOR)) {
            if sector.iter().all(|&x| x == 0) {
                continue;
            }
            let is_slot = CHECKPOINT_BLOCKS.contains(&(i / BLOCK_SECTORS)) && i % BLOCK_SECTORS == 0;
            let slot = sector.first_chunk().filter(|_| is_slot);
            match (slot.and_then(Checkpoint::orphan), start.orphan) {
                (Some(c), Some(other)) if c.generation <= other.generation => (),
                (Some(c), _) => start.orphan = Some(c),
                (None, _) => {
                    start.used.get_or_insert(i);
                }
            }
        }
        start
    }
}

/// One block in a record: where it belongs and what its stored 4096 bytes add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// Block number on the backing device.
    pub addr: u64,
    /// Bit `i` says that sector `i` of the block was written; 0 says that the entry holds nothing.
    pub mask: u8,
    /// CRC-32C of the block as stored; sectors that are not in the mask may hold anything. The complement of it when the
    /// block is lost: nobody can take it for good, and still it is seen to have been stored as it is.
    pub crc: u32,
}

impl Entry {
    /// The checksum of a block that stands for one that is lost, and is stored as `block`.
    pub fn lost(block: &[u8]) -> u32 {
        !crc32c(0, block)
    }

    /// Whether `block` is what was stored for the entry, lost or not.
    pub fn is_stored_as(&self, block: &[u8]) -> bool {
        let crc = crc32c(0, block);
        self.mask == 0 || crc == self.crc || crc == !self.crc
    }
}

/// The first block of a record: what follows it. A view of encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// The superblock's nonce.
    pub nonce: u64,
    /// Counts the records of this format from 1, without gaps.
    pub seq: u64,
    /// The epoch in which the record was written.
    pub epoch: u64,
    /// Highest sequence number known durable when the record was sealed; at most [`WINDOW`] behind `seq`.
    pub durable: u64,
    /// Oldest sequence number not yet written back when the record was sealed. For people who look at a damaged log.
    pub tail: u64,
    /// Number of entries and of data blocks behind the header.
    pub blocks: u16,
}

impl RecordHeader {
    /// Writes the header into `b`, with the entries that `entry(i)` gives for `0..blocks`.
    pub fn encode(&self, b: &mut [u8; BLOCK], entry: impl Fn(usize) -> Entry) {
        b.fill(0);
        put(b, 0, &RECORD_MAGIC);
        put(b, 8, &self.nonce.to_le_bytes());
        put(b, 16, &self.seq.to_le_bytes());
        put(b, 24, &self.epoch.to_le_bytes());
        put(b, 32, &self.durable.to_le_bytes());
        put(b, 40, &self.tail.to_le_bytes());
        put(b, 48, &self.blocks.to_le_bytes());
        for i in 0..usize::from(self.blocks) {
            let e = entry(i);
            let at = RECORD_FIXED + i * ENTRY;
            put(b, at, &e.addr.to_le_bytes()[..5]);
            b[at + 5] = e.mask;
            put(b, at + 8, &e.crc.to_le_bytes());
        }
        let crc = crc_without(b, RECORD_CRC);
        put(b, RECORD_CRC, &crc.to_le_bytes());
    }

    /// Reads a header of the volume `sb` that begins at `offset` blocks in its segment.
    ///
    /// # Errors
    /// What is wrong with it: also [`Invalid::Field`] `nonce` for what another format left.
    pub fn decode(b: &[u8; BLOCK], sb: &Superblock, offset: u32) -> Result<Self, Invalid> {
        if b[..4] != RECORD_MAGIC[..] {
            return Err(Invalid::Magic);
        }
        if get_u32(b, RECORD_CRC) != crc_without(b, RECORD_CRC) {
            return Err(Invalid::Checksum);
        }
        let h = Self {
            nonce: get_u64(b, 8),
            seq: get_u64(b, 16),
            epoch: get_u64(b, 24),
            durable: get_u64(b, 32),
            tail: get_u64(b, 40),
            blocks: get_u16(b, 48),
        };
        if h.nonce != sb.nonce {
            return Err(Invalid::Field("nonce"));
        }
        let room = sb.segment_blocks.saturating_sub(offset + 1);
        if h.blocks == 0 || u32::from(h.blocks) > room {
            return Err(Invalid::Field("blocks"));
        }
        if h.durable >= h.seq || h.seq - h.durable > WINDOW {
            return Err(Invalid::Field("durable"));
        }
        let last = sb.backing_sectors.div_ceil(BLOCK_SECTORS);
        for i in 0..usize::from(h.blocks) {
            let e = Self::entry(b, i);
            if e.addr >= last {
                return Err(Invalid::Field("addr"));
            }
            // A block at the end of a backing device may be cut short: nothing can have been written behind it.
            let sectors = (sb.backing_sectors - e.addr * BLOCK_SECTORS).min(BLOCK_SECTORS);
            if u64::from(e.mask) >> sectors != 0 {
                return Err(Invalid::Field("mask"));
            }
        }
        Ok(h)
    }

    /// Whether `b` is the header of record `seq` of the format `nonce`, as far as that can be said without a superblock.
    pub fn is_of(b: &[u8; BLOCK], nonce: u64, seq: u64) -> bool {
        b[..4] == RECORD_MAGIC[..]
            && get_u32(b, RECORD_CRC) == crc_without(b, RECORD_CRC)
            && (get_u64(b, 8), get_u64(b, 16)) == (nonce, seq)
    }

    /// Entry `i` of an encoded header; `i` is below [`MAX_ENTRIES`].
    pub fn entry(b: &[u8; BLOCK], i: usize) -> Entry {
        let at = RECORD_FIXED + i * ENTRY;
        let mut addr = [0; 8];
        addr[..5].copy_from_slice(&b[at..at + 5]);
        Entry { addr: u64::from_le_bytes(addr), mask: b[at + 5], crc: get_u32(b, at + 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn sb() -> Superblock {
        let mut sb = Superblock::new(64 << 11, 1_000_001, 128, [7; 16], 42).unwrap();
        sb.set_name("perflv").unwrap();
        sb.set_backing_id("wwid:naa.5000").unwrap();
        sb
    }

    #[test]
    fn superblock_round_trip_and_every_flipped_bit_is_seen() {
        let good = sb().encode();
        assert_eq!(Superblock::decode(&good), Ok(sb()));
        for bit in 0..SECTOR * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bad).is_err(), "bit {bit}");
        }
        assert_eq!(Superblock::decode(&[0; SECTOR]), Err(Invalid::Blank));
    }

    #[test]
    fn superblock_limits() {
        let min = Superblock::min_cache_sectors(128);
        assert!(Superblock::new(min, 8, 128, [0; 16], 0).is_ok());
        assert_eq!(Superblock::new(min - 1, 8, 128, [0; 16], 0), Err(Invalid::Field("nr_segments")));
        assert_eq!(Superblock::new(min, 0, 128, [0; 16], 0), Err(Invalid::Field("backing_sectors")));
        assert_eq!(Superblock::new(min, 8, 100, [0; 16], 0), Err(Invalid::Field("segment_blocks")));
        let most = MAX_BACKING_BLOCKS * BLOCK_SECTORS;
        assert!(Superblock::new(min, most, 128, [0; 16], 0).is_ok());
        assert_eq!(Superblock::new(min, most + 1, 128, [0; 16], 0), Err(Invalid::Field("backing_sectors")));
        // Slots up to the last but one of those that 32 bits can number.
        let huge = Superblock::new(1 << 40, 8, 128, [0; 16], 0).unwrap();
        assert_eq!(huge.nr_segments, (1 << 25) - 1);
        assert_eq!(Superblock::decode(&huge.encode()).as_ref(), Ok(&huge));
        let larger = Superblock { nr_segments: huge.nr_segments + 1, ..huge };
        assert_eq!(Superblock::decode(&larger.encode()), Err(Invalid::Field("nr_segments")));
    }

    #[test]
    fn a_cache_device_is_used_up_to_its_last_whole_segment() {
        for segment_blocks in [16, 32, 64, 128, 256] {
            let segment = u64::from(segment_blocks) * BLOCK_SECTORS;
            let min = Superblock::min_cache_sectors(segment_blocks);
            assert_eq!(min, 2048 + 16 * segment);
            for more in [0, 1, segment - 1, segment, 5 * segment + 7] {
                let sb = Superblock::new(min + more, 8, segment_blocks, [0; 16], 0).unwrap();
                let used = min + more / segment * segment;
                assert_eq!(sb.cache_sectors(), used, "{segment_blocks} {more}");
                assert_eq!(sb.slot_sector(0), 2048);
                assert_eq!(sb.slot_sector(sb.nr_segments * segment_blocks), used);
            }
        }
    }

    #[test]
    fn texts_are_what_was_set_up_to_the_last_byte() {
        let mut sb = Superblock::decode(&sb().encode()).unwrap();
        assert_eq!((sb.name(), sb.backing_id()), ("perflv", "wwid:naa.5000"));
        let (name, id) = ("n".repeat(NAME_LEN), "i".repeat(BACKING_ID_LEN));
        sb.set_name(&name).unwrap();
        sb.set_backing_id(&id).unwrap();
        let mut sb = Superblock::decode(&sb.encode()).unwrap();
        assert_eq!((sb.name(), sb.backing_id()), (&name[..], &id[..]));
        assert_eq!(sb.set_name(&(name.clone() + "n")), Err(Invalid::Field("name")));
        assert_eq!(sb.set_backing_id(&(id.clone() + "i")), Err(Invalid::Field("backing_id")));
        assert_eq!((sb.name(), sb.backing_id()), (&name[..], &id[..]));
        sb.set_name("").unwrap();
        assert_eq!(sb.name(), "");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (invalid, words) in [
            (Invalid::Blank, &["blank"][..]),
            (Invalid::Magic, &["magic"]),
            (Invalid::Version(7), &["version 7", "version 1:"]),
            (Invalid::Checksum, &["checksum", "torn"]),
            (Invalid::Field("tail"), &["tail"]),
        ] {
            let text = invalid.to_string();
            assert!(words.iter().all(|w| text.contains(w)), "{text}");
        }
    }

    #[test]
    fn text_that_a_terminal_would_obey_is_refused() {
        for (at, field) in [(64, "name"), (192, "backing_id")] {
            for text in [&b"a\x1b[2J"[..], b"a\nb", b"\xc2\x9b2J", b"a\0b", b"\xff"] {
                let mut b = sb().encode();
                b[at..at + 16].fill(0);
                put(&mut b, at, text);
                seal_sector(&mut b);
                assert_eq!(Superblock::decode(&b), Err(Invalid::Field(field)), "{text:?}");
            }
        }
        assert_eq!(sb().set_name("a\x1b[2J"), Err(Invalid::Field("name")));
        assert!(sb().set_backing_id("file:/srv/\u{e4} b.img").is_ok());
    }

    #[test]
    fn checkpoint_round_trip_and_choice() {
        let sb = sb();
        let mut a = Checkpoint::first(42);
        a.generation = 6;
        a.durable = 9;
        let b = Checkpoint { generation: 7, tail: 10, ..a };
        assert_eq!(Checkpoint::decode(&a.encode(), &sb), Ok(a));
        let held = |sector: [u8; SECTOR]| Held::of(Some(&sector), &sb);
        let (blank, unreadable) = (held([0; SECTOR]), Held::of(None, &sb));
        assert_eq!([blank, unreadable], [Held::Blank, Held::Unreadable]);
        let choose = |slots: [Held; 2]| {
            let [a, b] = slots;
            let chosen = Checkpoint::choose(&[a, b, blank, blank])?;
            // Wherever they are.
            for slots in [[b, a, blank, blank], [blank, a, blank, b]] {
                let elsewhere = Checkpoint::choose(&slots).unwrap();
                assert_eq!(slots[elsewhere.slot].checkpoint(), Some(&chosen.checkpoint));
                assert_eq!((elsewhere.checkpoint, elsewhere.doubtful), (chosen.checkpoint, chosen.doubtful));
            }
            Ok::<_, Invalid>((chosen.checkpoint, chosen.slot, chosen.doubtful))
        };
        let is_a = held(a.encode());
        assert_eq!(choose([is_a, held(b.encode())]), Ok((b, 1, 0)));
        let mut torn = b.encode();
        torn[100] ^= 1;
        let is_torn = held(torn);
        assert_eq!(choose([is_a, is_torn]), Ok((a, 0, 1)));
        assert_eq!(choose([unreadable, is_a]), Ok((a, 1, 1)));
        // One that was written is gone.
        assert_eq!(choose([blank, is_a]), Ok((a, 1, 1)));
        let first = Checkpoint::first(42);
        assert_eq!(choose([held(first.encode()), blank]), Ok((first, 0, 0)));
        assert_eq!(choose([blank; 2]), Err(Invalid::Blank));
        assert_eq!(choose([unreadable, is_torn]), Err(Checkpoint::decode(&torn, &sb).unwrap_err()));
        let lost = Checkpoint::choose(&[unreadable, is_torn, is_a, unreadable]).unwrap();
        assert_eq!((lost.slot, lost.doubtful, lost.unreadable), (2, 3, [true, false, false, true]));
        let foreign = Checkpoint { nonce: 1, ..a };
        assert_eq!(Checkpoint::decode(&foreign.encode(), &sb), Err(Invalid::Field("nonce")));
        // Without a superblock it is one all the same; what is torn is none.
        assert_eq!(Checkpoint::orphan(&foreign.encode()), Some(foreign));
        assert_eq!(Checkpoint::orphan(&torn), None);
        assert_eq!(Checkpoint::orphan(&sb.encode()), None);
    }

    #[test]
    fn what_a_format_may_overwrite() {
        let blank = std::vec![0; Start::BYTES];
        assert_eq!(Start::of(&blank), Start { orphan: None, used: None });
        // Wherever it is: where ext4, LVM, btrfs and swap have something, and in the last byte.
        for byte in
            [1024 + 56, 512, 65536 + 64, 4086, CHECKPOINT_BLOCKS[0] as usize * BLOCK + 700, Start::BYTES - 1]
        {
            let mut b = blank.clone();
            b[byte] = 1;
            assert_eq!(Start::of(&b), Start { orphan: None, used: Some((byte / SECTOR) as u64) }, "{byte}");
            b[0] = 1;
            assert_eq!(Start::of(&b).used, Some(0));
        }
        let slot = |g: u64| CHECKPOINT_BLOCKS[g as usize % 4] as usize * BLOCK;
        let mut b = blank.clone();
        put(&mut b, slot(0), &Checkpoint::first(42).encode());
        assert_eq!(Start::of(&b), Start { orphan: Some(Checkpoint::first(42)), used: None });
        for generations in [[7, 8], [8, 7]] {
            for g in generations {
                put(&mut b, slot(g), &Checkpoint { generation: g, ..Checkpoint::first(42) }.encode());
            }
            assert_eq!(Start::of(&b).orphan.map(|c| c.generation), Some(8));
        }
        // A checkpoint that is not whole, or in another place, is none.
        b[slot(7) + 16] ^= 1;
        assert_eq!(Start::of(&b).used, Some((slot(7) / SECTOR) as u64));
        b[slot(7)..slot(7) + SECTOR].fill(0);
        put(&mut b, 3 * BLOCK, &Checkpoint::first(42).encode());
        assert_eq!(Start::of(&b).used, Some(24));
        // A smaller device.
        assert_eq!(Start::of(&b[..2 * BLOCK]).used, None);
        assert_eq!(Start::of(&[0; 100]), Start { orphan: None, used: None });
    }

    #[test]
    fn uuids_are_shown_in_groups() {
        let mut b = [0; 16];
        (0..16).for_each(|i| b[i] = 0xa0 + i as u8);
        assert_eq!(Uuid(b).to_string(), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
    }

    #[test]
    fn a_device_with_a_superblock_is_known_by_it() {
        let mut b = sb().encode();
        assert!(Superblock::is_in(&b));
        // Whatever its version, and damaged.
        for byte in [8, 12, 100] {
            b[byte] ^= 1;
            assert!(Superblock::is_in(&b) && Superblock::decode(&b).is_err());
        }
        assert!(!Superblock::is_in(&[0; SECTOR]) && !Superblock::is_in(&Checkpoint::first(1).encode()));
    }

    #[test]
    fn checkpoint_limits() {
        let sb = sb();
        let most = 1 << 62;
        let good = Checkpoint { tail: 5, durable: 7, ..Checkpoint::first(42) };
        let check = |cp: Checkpoint, field: Option<&'static str>| {
            let expected = field.map_or(Ok(cp), |f| Err(Invalid::Field(f)));
            assert_eq!(Checkpoint::decode(&cp.encode(), &sb), expected);
        };
        for cp in [
            Checkpoint { tail: 1, durable: 0, ..good },
            Checkpoint { tail: 8, ..good },
            Checkpoint { durable: most, ..good },
            Checkpoint { tail: most, durable: most, ..good },
            Checkpoint { epoch_start: 1, epoch: 0, generation: 0, ..good },
            Checkpoint { epoch_start: most, ..good },
            Checkpoint { epoch: most, ..good },
            Checkpoint { generation: most, ..good },
            Checkpoint { tail_segment: sb.nr_segments - 1, ..good },
        ] {
            check(cp, None);
        }
        for cp in [
            Checkpoint { tail: 0, ..good },
            Checkpoint { tail: 9, ..good },
            Checkpoint { durable: most + 1, ..good },
            Checkpoint { durable: u64::MAX, ..good },
            Checkpoint { tail: most + 1, durable: most, ..good },
            Checkpoint { tail: u64::MAX, durable: most, ..good },
        ] {
            check(cp, Some("tail"));
        }
        for cp in [
            Checkpoint { epoch_start: 0, ..good },
            Checkpoint { epoch_start: most + 1, ..good },
            Checkpoint { epoch: most + 1, ..good },
            Checkpoint { generation: most + 1, ..good },
            Checkpoint { epoch_start: u64::MAX, epoch: u64::MAX, generation: u64::MAX, ..good },
        ] {
            check(cp, Some("epoch"));
        }
        check(Checkpoint { tail_segment: sb.nr_segments, ..good }, Some("tail_segment"));
    }

    #[test]
    fn record_header_round_trip_and_ranges() {
        let sb = sb();
        let h = RecordHeader { nonce: 42, seq: 70, epoch: 3, durable: 60, tail: 2, blocks: 127 };
        let entry =
            |i: usize| Entry { addr: i as u64 * 900, mask: 0xff >> (i % 8), crc: i as u32 ^ 0xdead_beef };
        let mut b = [0xaa; BLOCK];
        h.encode(&mut b, entry);
        assert_eq!(RecordHeader::decode(&b, &sb, 0), Ok(h));
        for i in 0..127 {
            assert_eq!(RecordHeader::entry(&b, i), entry(i));
        }
        assert_eq!(RecordHeader::decode(&b, &sb, 1), Err(Invalid::Field("blocks")));
        // The last place in a segment of 128 blocks for one of so many.
        for (blocks, offset, fits) in [(0, 0, false), (1, 126, true), (1, 127, false), (1, 128, false)] {
            RecordHeader { blocks, ..h }.encode(&mut b, entry);
            assert_eq!(RecordHeader::decode(&b, &sb, offset).is_ok(), fits, "{blocks} at {offset}");
        }
        for (durable, good) in [(5, false), (6, true), (69, true), (70, false), (71, false)] {
            let h = RecordHeader { durable, ..h };
            h.encode(&mut b, entry);
            let expected = if good { Ok(h) } else { Err(Invalid::Field("durable")) };
            assert_eq!(RecordHeader::decode(&b, &sb, 0), expected);
        }
        // 1,000,001 sectors: block 125,000 has one sector only.
        h.encode(&mut b, |_| Entry { addr: 125_000, mask: 1, crc: 0 });
        assert!(RecordHeader::decode(&b, &sb, 0).is_ok());
        h.encode(&mut b, |_| Entry { addr: 125_000, mask: 2, crc: 0 });
        assert_eq!(RecordHeader::decode(&b, &sb, 0), Err(Invalid::Field("mask")));
        h.encode(&mut b, |_| Entry { addr: 125_001, mask: 1, crc: 0 });
        assert_eq!(RecordHeader::decode(&b, &sb, 0), Err(Invalid::Field("addr")));
        // Without a superblock: whose it is, and no more.
        assert!(RecordHeader::is_of(&b, 42, 70));
        assert!(!RecordHeader::is_of(&b, 41, 70) && !RecordHeader::is_of(&b, 42, 71));
        for at in [0, BLOCK - 1] {
            b[at] ^= 1;
            assert!(!RecordHeader::is_of(&b, 42, 70));
            b[at] ^= 1;
        }
        let mut other = b;
        other[..4].copy_from_slice(b"WBrd");
        let crc = crc_without(&other, RECORD_CRC);
        put(&mut other, RECORD_CRC, &crc.to_le_bytes());
        assert!(!RecordHeader::is_of(&other, 42, 70));
    }
}
