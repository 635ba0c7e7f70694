// SPDX-License-Identifier: GPL-2.0-only

//! A cache device in RAM of which only the blocks that were written take any: most of a hostile image is
//! zero.

use std::collections::HashMap;
use writeboost::format::{BLOCK, FIRST_BLOCK, SECTOR};

/// Slots of the device: enough for 16 segments of the largest size.
pub const SLOTS: u32 = 16 * 256;
/// Blocks of the device.
pub const BLOCKS: u32 = FIRST_BLOCK + SLOTS;

/// The device.
#[derive(Debug, Clone, Default)]
pub struct Device {
    blocks: HashMap<u32, Box<[u8]>>,
}

impl Device {
    /// A device with these bytes at its start.
    pub fn of(bytes: &[u8]) -> Self {
        let mut device = Self::default();
        for (i, data) in bytes.chunks(BLOCK).enumerate().filter(|(_, data)| data.iter().any(|&b| b != 0)) {
            device.write(i as u64, data);
        }
        device
    }

    /// Its size.
    pub fn sectors(&self) -> u64 {
        u64::from(BLOCKS) * (BLOCK / SECTOR) as u64
    }

    /// A block, to be changed; `None` behind the end of the device.
    pub fn block_mut(&mut self, block: u64) -> Option<&mut [u8]> {
        (block < BLOCKS.into()).then(|| {
            &mut **self.blocks.entry(block as u32).or_insert_with(|| vec![0; BLOCK].into_boxed_slice())
        })
    }

    /// A block, which must be on the device.
    pub fn block(&self, block: u64) -> &[u8] {
        assert!(block < BLOCKS.into(), "block {block} is behind the end of the device");
        self.blocks.get(&(block as u32)).map_or(&[0; BLOCK], |b| b)
    }

    /// The first sector of a block.
    pub fn sector(&self, block: u64) -> [u8; SECTOR] {
        self.block(block)[..SECTOR].try_into().unwrap()
    }

    /// Copies `n` blocks, all of which must be on the device.
    pub fn read(&self, block: u64, n: u32, to: &mut Vec<u8>) {
        to.clear();
        for i in 0..u64::from(n) {
            to.extend_from_slice(self.block(block + i));
        }
    }

    /// Overwrites whole blocks, all of which must be on the device.
    pub fn write(&mut self, block: u64, data: &[u8]) {
        for (i, data) in data.chunks(BLOCK).enumerate() {
            let to = self.block_mut(block + i as u64).expect("behind the end of the device");
            to[..data.len()].copy_from_slice(data);
        }
    }

    /// The numbers of all blocks that were ever written, in order.
    pub fn written(&self) -> Vec<u32> {
        let mut all: Vec<_> = self.blocks.keys().copied().collect();
        all.sort_unstable();
        all
    }
}
