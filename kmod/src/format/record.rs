// SPDX-License-Identifier: GPL-2.0-only

//! Record headers and their entries.

use super::*;

/// One block in a record: its address, and the checksum of its stored 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// Block number on the backing device.
    pub addr: Block,
    /// Bit `i` says that sector `i` of the block was written; 0 says that the entry holds nothing.
    pub mask: u8,
    /// CRC-32C of the block as stored; sectors that are not in the mask may hold anything. For a lost block
    /// it is the complement: then no reader mistakes the block for valid data, and the block can still be
    /// recognised as stored.
    pub crc: u32,
}

impl Entry {
    /// The checksum of a block that stands in for a lost one, and is stored as `block`.
    pub fn lost(block: &[u8]) -> u32 {
        !crc32c(0, block)
    }

    /// Whether `block` was stored for the entry, lost or not.
    pub fn is_stored_as(&self, block: &[u8]) -> bool {
        let crc = crc32c(0, block);
        self.mask == 0 || crc == self.crc || crc == !self.crc
    }
}

/// The first block of a record; it describes the blocks behind it. A view of encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// The superblock's nonce.
    pub nonce: u64,
    /// Counts the records of this format from 1, without gaps.
    pub seq: Seq,
    /// The epoch in which the record was written.
    pub epoch: u64,
    /// Highest sequence number known durable when the record was sealed; at most [`WINDOW`] behind `seq`.
    pub durable: Seq,
    /// Oldest sequence number not yet written back when the record was sealed. For people who examine a
    /// damaged log.
    pub tail: Seq,
    /// Number of entries and of data blocks behind the header.
    pub blocks: u16,
}

impl RecordHeader {
    /// Writes the header into `b`, with the entries that `entry(i)` gives for `0..blocks`.
    pub fn encode(&self, b: &mut [u8; BLOCK], entry: impl Fn(usize) -> Entry) {
        b.fill(0);
        put(b, 0, &RECORD_MAGIC);
        put(b, 8, &self.nonce.to_le_bytes());
        put(b, 16, &self.seq.0.to_le_bytes());
        put(b, 24, &self.epoch.to_le_bytes());
        put(b, 32, &self.durable.0.to_le_bytes());
        put(b, 40, &self.tail.0.to_le_bytes());
        put(b, 48, &self.blocks.to_le_bytes());
        for i in 0..usize::from(self.blocks) {
            let e = entry(i);
            let at = RECORD_FIXED + i * ENTRY;
            put(b, at, &e.addr.0.to_le_bytes()[..5]);
            b[at + 5] = e.mask;
            put(b, at + 8, &e.crc.to_le_bytes());
        }
        let crc = crc_without(b, RECORD_CRC);
        put(b, RECORD_CRC, &crc.to_le_bytes());
    }

    /// Reads a header of the volume `sb` that begins at `offset` blocks in its segment.
    ///
    /// # Errors
    /// The fault of the header: also [`Invalid::Field`] `nonce` for a header of another format.
    pub fn decode(b: &[u8; BLOCK], sb: &Superblock, offset: u32) -> Result<Self, Invalid> {
        if b[..4] != RECORD_MAGIC[..] {
            return Err(Invalid::Magic);
        }
        if get_u32(b, RECORD_CRC) != crc_without(b, RECORD_CRC) {
            return Err(Invalid::Checksum);
        }
        let h = Self {
            nonce: get_u64(b, 8),
            seq: Seq(get_u64(b, 16)),
            epoch: get_u64(b, 24),
            durable: Seq(get_u64(b, 32)),
            tail: Seq(get_u64(b, 40)),
            blocks: get_u16(b, 48),
        };
        if h.nonce != sb.nonce {
            return Err(Invalid::Field("nonce"));
        }
        let room = sb.segment_blocks.saturating_sub(offset + 1);
        if h.blocks == 0 || u32::from(h.blocks) > room {
            return Err(Invalid::Field("blocks"));
        }
        if h.durable >= h.seq || h.seq.since(h.durable) > WINDOW {
            return Err(Invalid::Field("durable"));
        }
        let end = Block(sb.backing_sectors.div_ceil(BLOCK_SECTORS));
        for i in 0..usize::from(h.blocks) {
            let e = Self::entry(b, i);
            if e.addr >= end {
                return Err(Invalid::Field("addr"));
            }
            // A block at the end of a backing device may be cut short: nothing can have been written behind
            // the end.
            let sectors = (sb.backing_sectors - e.addr.first_sector()).min(BLOCK_SECTORS);
            if u64::from(e.mask) >> sectors != 0 {
                return Err(Invalid::Field("mask"));
            }
        }
        Ok(h)
    }

    /// Whether `b` is the header of record `seq` of the format `nonce`, as far as this can be checked without
    /// a superblock.
    pub fn is_of(b: &[u8; BLOCK], nonce: u64, seq: Seq) -> bool {
        b[..4] == RECORD_MAGIC[..]
            && get_u32(b, RECORD_CRC) == crc_without(b, RECORD_CRC)
            && (get_u64(b, 8), Seq(get_u64(b, 16))) == (nonce, seq)
    }

    /// Entry `i` of an encoded header; `i` is below [`MAX_ENTRIES`].
    pub fn entry(b: &[u8; BLOCK], i: usize) -> Entry {
        let at = RECORD_FIXED + i * ENTRY;
        let mut addr = [0; 8];
        addr[..5].copy_from_slice(&b[at..at + 5]);
        Entry { addr: Block(u64::from_le_bytes(addr)), mask: b[at + 5], crc: get_u32(b, at + 8) }
    }
}
