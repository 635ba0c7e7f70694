// SPDX-License-Identifier: GPL-2.0-only

//! The superblock in the first sector.

use super::*;

/// The first sector of the cache device, which describes the volume. It is written once, when formatting, and
/// never changed.
///
/// It is one sector long because disks write a sector whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the volume (RFC 9562).
    pub uuid: [u8; 16],
    /// Random number of this format: records of an earlier format on the device are never replayed.
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
    /// Identity of the backing device as `KIND:VALUE`, NUL-padded likewise; empty when none was known at the
    /// format.
    pub backing_id: [u8; BACKING_ID_LEN],
}

impl Superblock {
    /// Lays out a cache device of `cache_sectors` for a backing device of `backing_sectors`.
    ///
    /// # Errors
    /// [`Invalid::Field`] naming the field that does not fit.
    pub fn new(
        cache_sectors: u64,
        backing_sectors: u64,
        segment_blocks: u32,
        uuid: [u8; 16],
        nonce: u64,
    ) -> Result<Self, Invalid> {
        let blocks = (cache_sectors / BLOCK_SECTORS).saturating_sub(FIRST_BLOCK.into());
        let by_size = blocks / u64::from(segment_blocks.max(1));
        // Slots have 32-bit numbers, of which the highest means none. Of a larger device only the numbered
        // slots are used.
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
    pub fn slot_sector(&self, slot: Slot) -> u64 {
        (u64::from(self.first_block) + u64::from(slot.0)) * BLOCK_SECTORS
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
    #[allow(dead_code)] // For the tools and tests.
    pub fn name(&self) -> &str {
        text(&self.name).unwrap_or("")
    }

    /// Identity of the backing device; empty when none was known.
    #[allow(dead_code)] // For the tools and tests.
    pub fn backing_id(&self) -> &str {
        text(&self.backing_id).unwrap_or("")
    }

    /// Sets the name of the volume.
    ///
    /// # Errors
    /// [`Invalid::Field`] when it is longer than [`NAME_LEN`] bytes or holds control characters.
    #[allow(dead_code)] // For the tools and tests.
    pub fn set_name(&mut self, name: &str) -> Result<(), Invalid> {
        self.name = padded(name).ok_or(Invalid::Field("name"))?;
        Ok(())
    }

    /// Sets the identity of the backing device.
    ///
    /// # Errors
    /// [`Invalid::Field`] when it is longer than [`BACKING_ID_LEN`] bytes or holds control characters.
    #[allow(dead_code)] // For the tools and tests.
    pub fn set_backing_id(&mut self, id: &str) -> Result<(), Invalid> {
        self.backing_id = padded(id).ok_or(Invalid::Field("backing_id"))?;
        Ok(())
    }

    /// The sector to write at the start of the cache device.
    #[allow(dead_code)] // For the tools and tests.
    pub fn encode(&self) -> [u8; SECTOR] {
        sector(|b| self.encode_into(b))
    }

    /// The same, into existing memory.
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

    /// Whether the first sector of a device says that it is a cache device, of any version and in any state.
    pub fn is_in(b: &[u8; SECTOR]) -> bool {
        b[..8] == SUPERBLOCK_MAGIC
    }

    /// Reads a superblock from the first sector of a device.
    ///
    /// # Errors
    /// The fault of the superblock.
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

/// The text in a NUL-padded field. `None` when it is not UTF-8, has bytes behind the first NUL, or has
/// control characters, with which the author of a hostile device could control a terminal.
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
