// SPDX-License-Identifier: GPL-2.0-only

//! A device in RAM of which only the blocks that were written take any: most of a hostile image is zero, and
//! its backing device may be of any size.

use std::collections::HashMap;
use writeboost::format::{BLOCK, BLOCK_SECTORS, FIRST_BLOCK, SECTOR};

/// Slots of a cache device: enough for 16 segments of the largest size.
pub const SLOTS: u32 = 16 * 256;

/// The device.
#[derive(Debug, Clone)]
pub struct Device {
    sectors: u64,
    blocks: HashMap<u64, Box<[u8]>>,
}

/// A cache device.
impl Default for Device {
    fn default() -> Self {
        Self::new(u64::from(FIRST_BLOCK + SLOTS) * BLOCK_SECTORS)
    }
}

impl Device {
    /// A device of so many sectors, zero at first.
    pub fn new(sectors: u64) -> Self {
        Self { sectors, blocks: HashMap::new() }
    }

    /// A cache device with these bytes at its start.
    pub fn of(bytes: &[u8]) -> Self {
        let mut device = Self::default();
        for (i, data) in (0..).zip(bytes.chunks(BLOCK)).filter(|(_, data)| data.iter().any(|&b| b != 0)) {
            device.write_block(i, data);
        }
        device
    }

    /// Its size.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// A block, to be changed; `None` behind the end of the device.
    pub fn block_mut(&mut self, block: u64) -> Option<&mut [u8]> {
        let is_there = block < self.sectors.div_ceil(BLOCK_SECTORS);
        is_there.then(|| &mut **self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK].into_boxed_slice()))
    }

    /// A block, which must be on the device. Sectors of the last block behind the end of the device are zero.
    pub fn block(&self, block: u64) -> &[u8; BLOCK] {
        assert!(
            block < self.sectors.div_ceil(BLOCK_SECTORS),
            "block {block} is behind the end of the device"
        );
        self.blocks.get(&block).map_or(&[0; BLOCK], |b| b.first_chunk().expect("a whole block"))
    }

    /// The first sector of a block.
    pub fn sector(&self, block: u64) -> [u8; SECTOR] {
        self.block(block)[..SECTOR].try_into().expect("a whole sector")
    }

    /// Overwrites the start of a block, which must be on the device.
    pub fn write_block(&mut self, block: u64, data: &[u8]) {
        self.block_mut(block).expect("behind the end of the device")[..data.len()].copy_from_slice(data);
    }

    /// Reads whole sectors.
    pub fn read(&self, sector: u64, to: &mut [u8]) {
        for (sector, to) in (sector..).zip(to.chunks_mut(SECTOR)) {
            let at = (sector % BLOCK_SECTORS) as usize * SECTOR;
            to.copy_from_slice(&self.block(sector / BLOCK_SECTORS)[at..at + SECTOR]);
        }
    }

    /// Writes whole sectors.
    pub fn write(&mut self, sector: u64, from: &[u8]) {
        for (sector, from) in (sector..).zip(from.chunks(SECTOR)) {
            let at = (sector % BLOCK_SECTORS) as usize * SECTOR;
            let block = self.block_mut(sector / BLOCK_SECTORS).expect("behind the end of the device");
            block[at..at + SECTOR].copy_from_slice(from);
        }
    }

    /// The numbers of all blocks that were ever written, in order.
    pub fn written(&self) -> Vec<u64> {
        let mut all: Vec<_> = self.blocks.keys().copied().collect();
        all.sort_unstable();
        all
    }
}
