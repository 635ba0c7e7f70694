// SPDX-License-Identifier: GPL-2.0-only

//! Every byte on the cache device: superblock, checkpoint and record header. `docs/on-disk-format.md`
//! describes it.
//!
//! All integers are little-endian. Nothing read from a device is trusted: each `decode` checks magic,
//! version, checksum and every range, and says which of them failed.

mod checkpoint;
mod record;
mod superblock;
mod units;

pub use checkpoint::{Checkpoint, Chosen, Held, Start};
pub use record::{Entry, RecordHeader};
pub use superblock::{Superblock, Uuid};
pub use units::{Block, Segment, Seq, Slot};

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
/// Blocks before the first segment: superblock, checkpoint slots and room to grow. 1 MiB keeps segments
/// aligned.
pub const FIRST_BLOCK: u32 = 256;
/// Slots for checkpoints: two that are used in turn, and two that stand in for them.
pub const CHECKPOINT_SLOTS: usize = 4;
/// The blocks of the checkpoint slots. Generation `g` is written to number `g % 2`, or to number `2 + g % 2`
/// when that fails. The slots that stand in lie far from the others, and under small stripes on other disks.
pub const CHECKPOINT_BLOCKS: [u64; CHECKPOINT_SLOTS] = [1, 2, 128, 192];
/// Blocks per segment unless chosen otherwise when formatting: 512 KiB.
pub const DEFAULT_SEGMENT_BLOCKS: u32 = 128;
/// Fewest blocks per segment.
pub const MIN_SEGMENT_BLOCKS: u32 = 16;
/// Most blocks per segment: one bio carries at most 256 pages.
pub const MAX_SEGMENT_BLOCKS: u32 = 256;
/// Fewest segments of a cache device.
pub const MIN_SEGMENTS: u32 = 16;
/// Most records that may be on the cache device without being known durable. Replay keeps that many headers
/// in RAM.
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
#[allow(dead_code)] // For tests; the kernel's compiler does not count what an assertion uses.
pub const MAX_ENTRIES: usize = (BLOCK - RECORD_FIXED) / ENTRY;
// The header of the largest record holds all its entries.
const _: () =
    assert!(MAX_SEGMENT_BLOCKS as usize <= MAX_ENTRIES && RECORD_FIXED + MAX_ENTRIES * ENTRY <= BLOCK);

/// The reason why bytes are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// All bytes are zero: nothing was ever written here.
    Blank,
    /// The magic number is not ours.
    Magic,
    /// It is ours, but of a format version that this code does not know.
    Version(u32),
    /// The checksum does not match: torn or damaged.
    Checksum,
    /// A field, named here, has a value that no writer of this format writes.
    Field(&'static str),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Blank => f.write_str("it is blank"),
            Invalid::Magic => f.write_str("it does not carry the writeboost magic"),
            Invalid::Version(v) => write!(
                f,
                "it has format version {v}, this software knows version {VERSION}: use the wbctl and module \
                 that wrote it"
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

/// The common part of [`Superblock::decode`] and [`Checkpoint::decode`]: one sector with magic, version,
/// checksum.
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

/// A sector on the stack: not in the kernel, whose stack is small.
fn sector(encode: impl FnOnce(&mut [u8; SECTOR])) -> [u8; SECTOR] {
    let mut b = [0; SECTOR];
    encode(&mut b);
    b
}

#[cfg(test)]
mod tests;
