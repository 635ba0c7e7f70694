// SPDX-License-Identifier: GPL-2.0-only

//! Where the sectors of a read are: in RAM, on the cache device, on the backing device, or some here and some
//! there.

use super::checks::Generation;
use super::{Engine, Part};
use crate::format::{Block, Slot, BLOCK_SECTORS};

/// Most blocks that one lookup looks at, so that the lock is held for a bounded time.
const MAX_LOOKUP: u64 = 256;

/// Sectors of one block that are live in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// The slot.
    pub slot: Slot,
    /// The generation of its segment: data read from the slot are judged by [`super::checks::Checks::judge`].
    pub generation: Generation,
    /// Which sectors of the block.
    pub mask: u8,
    /// The RAM buffer that still holds the slot, and which of its blocks it is.
    pub ram: Option<(u8, u32)>,
}

/// The sectors of one block that a read wants. Each is in one piece or, if in none, on the backing device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pieces {
    list: [Piece; BLOCK_SECTORS as usize],
    len: usize,
}

impl Pieces {
    /// The pieces.
    pub fn as_slice(&self) -> &[Piece] {
        &self.list[..self.len]
    }

    /// The sectors `mask`, all of which a lookup has found in `slot` under `generation`, on the cache device.
    pub fn one(slot: Slot, generation: Generation, mask: u8) -> Self {
        let mut p = Self { len: 1, ..Self::default() };
        p.list[0] = Piece { slot, generation, mask, ram: None };
        p
    }

    /// The sectors that are in one of the pieces.
    pub fn mask(&self) -> u8 {
        self.as_slice().iter().fold(0, |m, p| m | p.mask)
    }
}

/// Where the first sectors of a read are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// So many sectors, as far as the lookup went, are on the backing device only.
    Backing(u64),
    /// So many whole blocks follow each other on the cache device from this slot on, all in one segment. Data
    /// read there are judged by [`super::checks::Checks::judge`].
    Cache {
        /// Slot of the first block.
        slot: Slot,
        /// Number of blocks.
        blocks: u32,
        /// The generation of their segment.
        generation: Generation,
    },
    /// The wanted sectors of the first block are in these pieces and the rest on the backing device. The
    /// buffers of the pieces in RAM are pinned: [`Engine::unpin_buffer`].
    Pieces(Pieces),
}

impl Engine {
    fn pieces(&self, part: &Part) -> Pieces {
        let mut p = Pieces::default();
        let want = part.mask();
        self.index.find(part.addr, |slot, live| {
            if live & want == 0 {
                return;
            }
            // The live masks of a block's slots are disjoint, so that eight pieces are always enough.
            let Some(piece) = p.list.get_mut(p.len) else { return };
            let segment = self.segment_of(slot);
            // A slot that stands for a lost block must be read from the device, where its checksum gives it
            // away: data in RAM are not checked.
            let ram = self.segments[segment.index()]
                .buffer
                .filter(|_| !self.index.is_lost(slot))
                .map(|b| (b, slot.offset(self.sb.segment_blocks)));
            *piece = Piece { slot, generation: self.checks.generation(slot), mask: live & want, ram };
            p.len += 1;
        });
        p
    }

    /// Returns where the first of the sectors `sector..sector + sectors` are, and pins the buffers of those
    /// in RAM; `sectors` is not 0.
    pub fn lookup(&mut self, sector: u64, sectors: u64) -> Run {
        let part = Part::first_of(sector, sectors);
        let first = self.pieces(&part);
        match first.as_slice() {
            [] => Run::Backing(self.backing_run(sector, sectors, &part)),
            &[Piece { slot, generation, mask: 0xff, ram: None }] => {
                let blocks = self.cache_run(part.addr, sectors / BLOCK_SECTORS, slot);
                Run::Cache { slot, blocks, generation }
            }
            list => {
                for (buffer, _) in list.iter().filter_map(|p| p.ram) {
                    self.buffers[usize::from(buffer)].pins += 1;
                }
                Run::Pieces(first)
            }
        }
    }

    fn backing_run(&self, sector: u64, sectors: u64, first: &Part) -> u64 {
        let mut n = u64::from(first.sectors);
        for _ in 1..MAX_LOOKUP {
            if n == sectors {
                break;
            }
            let part = Part::first_of(sector + n, sectors - n);
            if self.pieces(&part).len != 0 {
                break;
            }
            n += u64::from(part.sectors);
        }
        n
    }

    fn cache_run(&self, addr: Block, blocks: u64, slot: Slot) -> u32 {
        // Behind a lost block in a segment that is in RAM there may be blocks that are not on the device yet.
        if self.segments[self.segment_of(slot).index()].buffer.is_some() {
            return 1;
        }
        let mut n = 1;
        // The run ends with its segment at the latest: the next segment begins with a header, which holds no
        // block.
        while u64::from(n) < blocks {
            let mut next = None;
            self.index.find(addr.plus(n.into()), |s, live| next = Some((s, live)));
            if next != Some((slot.plus(n), 0xff)) {
                break;
            }
            n += 1;
        }
        n
    }

    /// Takes `slot`, which a lookup has found under `generation` and which cannot be read, out of the index
    /// if it is clean: then the backing device has what it holds. Returns whether a new lookup finds the
    /// sectors `mask` of its block in another place, because of that or because they have been superseded
    /// meanwhile.
    pub fn forget(&mut self, slot: Slot, generation: Generation, mask: u8) -> bool {
        if self.checks.generation(slot) != generation {
            return true;
        }
        let (_, live, dirty) = self.index.get(slot);
        if live & mask == mask && dirty {
            return false;
        }
        // The live sectors of a clean slot are on the backing device, which was flushed: nothing older can
        // come back.
        if !dirty {
            self.index.remove(slot);
            self.note_forgotten(self.segment_of(slot));
        }
        true
    }

    /// Ends a copy from a RAM buffer that [`Engine::lookup`] has pinned.
    pub fn unpin_buffer(&mut self, buffer: u8) {
        self.buffers[usize::from(buffer)].pins -= 1;
    }
}
