// SPDX-License-Identifier: GPL-2.0-only

//! Reading ahead of a replay. Where the next record begins is known only when the header before it was read,
//! so a replay by itself waits for the device once for each record. But each segment that holds records
//! begins with a header. The headers at the beginning of the next segments are read together; where segments
//! have many small records, these segments are read as a whole.
//!
//! The host asks [`Ahead::look`] where to find what the replay wants, and reads what that says.
//!
//! # Invariant
//! A place that [`Ahead::look`] names was in a batch that it asked for before, and no batch since has used
//! that memory.

use crate::format::{Segment, Slot, Superblock};
use crate::host::{OutOfMemory, Table};

/// A segment with so many records or more, beside the first, has many; so does a small one of which an eighth
/// are headers.
const MANY: u32 = 8;
/// Segments are read as a whole until so many have begun since one had many records. A log may have both
/// kinds by turns, and all that was read ahead is dropped when the way of reading changes.
const LASTING: u32 = 8;
/// No segment.
const NONE: Segment = Segment(u32::MAX);

/// What is read from one segment in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Number of the piece, below the number of blocks of the memory.
    pub index: u32,
    /// Slot of its first block.
    pub slot: Slot,
    /// Number of blocks.
    pub blocks: u32,
    /// Block of the memory where the blocks belong.
    pub at: u32,
}

/// Where to find what the replay wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// In memory, from block `at` on, unless the piece could not be read.
    Memory {
        /// [`Piece::index`] of the piece.
        piece: u32,
        /// Block of the memory.
        at: u32,
    },
    /// First so many pieces have to be read, all at once: [`Ahead::piece`] says which. Then the blocks are in
    /// memory.
    Batch(u32),
    /// On the device, to be read by itself.
    Alone,
}

/// What was read ahead and what will be. Memory is divided into equal pieces, used in turn.
#[derive(Debug)]
pub struct Ahead {
    segment_blocks: u32,
    nr_segments: u32,
    /// Blocks of memory.
    room: u32,
    /// Blocks of each piece: 1, or a segment's.
    piece_blocks: u32,
    /// Segment of each piece, by index.
    held: Table<Segment>,
    /// The newest batch: its first segment, index of its first piece, and number.
    batch: (Segment, u32, u32),
    /// Pieces of the next batch.
    window: u32,
    /// The segment whose inner records were wanted last, and how many of these were wanted.
    segment: Segment,
    inner: u32,
    /// The segment whose beginning was wanted last, and how many segments have begun since one had many
    /// records.
    newest: Segment,
    begun: u32,
}

impl Ahead {
    /// For a replay of the volume `sb`, with memory of `room` blocks: at least that of two segments.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(sb: &Superblock, room: u32) -> Result<Self, OutOfMemory> {
        Ok(Self {
            segment_blocks: sb.segment_blocks,
            nr_segments: sb.nr_segments,
            room,
            piece_blocks: 1,
            held: Table::new(room as usize, |_| NONE)?,
            batch: (Segment(0), 0, 0),
            window: 1,
            segment: NONE,
            inner: 0,
            newest: NONE,
            begun: LASTING + 1,
        })
    }

    fn pieces(&self) -> u32 {
        self.room / self.piece_blocks
    }

    /// Where to find `blocks` blocks from `slot` on, which the replay wants now.
    pub fn look(&mut self, slot: Slot, blocks: u32) -> Look {
        let (segment, offset) = (slot.segment(self.segment_blocks), slot.offset(self.segment_blocks));
        self.note(segment, offset);
        let begins = offset == 0;
        let whole = self.begun <= LASTING;
        // The first block alone is of little use when more of the segment will be wanted.
        let too_little = begins && whole && self.piece_blocks == 1;
        if offset + blocks <= self.piece_blocks && !too_little {
            let held = &self.held[..self.pieces() as usize];
            if let Some(i) = held.iter().position(|&s| s == segment) {
                return Look::Memory { piece: i as u32, at: i as u32 * self.piece_blocks + offset };
            }
        }
        if !begins {
            return Look::Alone;
        }
        Look::Batch(self.plan(segment, if whole { self.segment_blocks } else { 1 }))
    }

    /// Takes note of how many records segments have.
    fn note(&mut self, segment: Segment, offset: u32) {
        if offset == 0 {
            // A replay may want to know how the next segment begins before it goes on in this one, and then
            // wants that again later.
            if segment != self.newest {
                self.newest = segment;
                self.begun = self.begun.saturating_add(1);
            }
            return;
        }
        if segment != self.segment {
            self.segment = segment;
            self.inner = 0;
        }
        self.inner += 1;
        if self.inner >= MANY.min(self.segment_blocks / 8) {
            self.begun = 0;
        }
    }

    fn plan(&mut self, segment: Segment, piece_blocks: u32) -> u32 {
        if piece_blocks != self.piece_blocks {
            self.piece_blocks = piece_blocks;
            self.held.fill(NONE);
            self.batch = (Segment(0), 0, 0);
            self.window = 1;
        }
        let pieces = self.pieces();
        // Half of the memory, so that the segment that the replay is in is still there when it asks for the
        // next one.
        let count = self.window.min(pieces / 2).min(self.nr_segments / 2).max(1);
        let first = (self.batch.1 + self.batch.2) % pieces;
        self.batch = (segment, first, count);
        // Most logs are short, so the first batch is small.
        self.window = (self.window * 2).min(self.room);
        for i in 0..count {
            let p = self.piece(i);
            self.held[p.index as usize] = p.slot.segment(self.segment_blocks);
        }
        count
    }

    /// Piece `i` of the batch that [`Ahead::look`] has asked for.
    pub fn piece(&self, i: u32) -> Piece {
        let (segment, first, _) = self.batch;
        let index = (first + i) % self.pieces();
        Piece {
            index,
            slot: Segment((segment.0 + i) % self.nr_segments).first_slot(self.segment_blocks),
            blocks: self.piece_blocks,
            at: index * self.piece_blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec;
    use std::vec::Vec;

    const SEGMENTS: u32 = 3000;
    const BLOCKS: u32 = 128;
    const ROOM: u32 = 512;

    /// A host that knows, for each block of its memory, the slot that the block is of. It counts waits for
    /// the device, reads and blocks.
    struct Host {
        ahead: Ahead,
        memory: Vec<Slot>,
        waits: u32,
        reads: u32,
        blocks: u32,
    }

    impl Host {
        fn new() -> Self {
            Self::of(SEGMENTS, BLOCKS)
        }

        fn of(nr_segments: u32, segment_blocks: u32) -> Self {
            let mut sb = Superblock::new(1 << 30, 1 << 30, segment_blocks, [0; 16], 1).unwrap();
            sb.nr_segments = nr_segments;
            let ahead = Ahead::new(&sb, ROOM).unwrap();
            Self { ahead, memory: vec![Slot(u32::MAX); ROOM as usize], waits: 0, reads: 0, blocks: 0 }
        }

        fn want(&mut self, slot: Slot, blocks: u32) {
            let mut look = self.ahead.look(slot, blocks);
            if let Look::Batch(count) = look {
                self.waits += 1;
                for i in 0..count {
                    let p = self.ahead.piece(i);
                    assert!(
                        p.index < ROOM
                            && p.at + p.blocks <= ROOM
                            && p.slot.offset(self.ahead.segment_blocks) == 0
                    );
                    for k in 0..p.blocks {
                        self.memory[(p.at + k) as usize] = p.slot.plus(k);
                    }
                    self.reads += 1;
                    self.blocks += p.blocks;
                }
                look = self.ahead.look(slot, blocks);
                assert!(matches!(look, Look::Memory { .. }), "{look:?} after the batch");
            }
            match look {
                Look::Memory { at, .. } => {
                    assert!(
                        (0..blocks).all(|k| self.memory[(at + k) as usize] == slot.plus(k)),
                        "slot {slot}"
                    );
                }
                _ => {
                    self.waits += 1;
                    self.reads += 1;
                    self.blocks += blocks;
                }
            }
        }

        /// A replay of `segments` segments from `first` on, of which the `i`th has records of `sizes(i)`
        /// blocks, headers included; `peeks`: it looks at the next segment first.
        fn replay(&mut self, first: u32, segments: u32, peeks: bool, sizes: impl Fn(u32) -> u32) {
            let (all, blocks) = (self.ahead.nr_segments, self.ahead.segment_blocks);
            for i in 0..segments {
                let start = Segment((first + i) % all).first_slot(blocks);
                let mut at = 0;
                while at + 2 <= blocks {
                    self.want(start.plus(at), 1);
                    if at == 0 && peeks {
                        self.want(Segment((first + i + 1) % all).first_slot(blocks), 1);
                    }
                    at += sizes(i);
                }
            }
        }
    }

    #[test]
    fn full_segments_are_waited_for_once_in_many() {
        let mut h = Host::new();
        h.replay(2900, 2048, false, |_| BLOCKS);
        // 1, 2, ... 128 and then 256 at a time.
        assert!(h.waits <= 8 + 8, "{} waits", h.waits);
        assert!(h.blocks < 2048 + 256, "{} blocks", h.blocks);
    }

    #[test]
    fn segments_of_small_records_are_read_as_a_whole() {
        for peeks in [false, true] {
            let mut h = Host::new();
            h.replay(0, 2048, peeks, |_| 2);
            // The first by itself, then two at a time.
            assert!(h.waits < 64 + 10 + 2048 / 2, "{} waits, {peeks}", h.waits);
            assert!(h.blocks < (2048 + 4) * BLOCKS, "{} blocks, {peeks}", h.blocks);
        }
    }

    #[test]
    fn segments_of_both_kinds_by_turns_cost_little_more_than_without_reading_ahead() {
        for (every, size, peeks) in [
            (2, 2, false),
            (3, 4, false),
            (3, 4, true),
            (4, 4, true),
            (10, 8, false),
            (10, 2, true),
            (100, 8, false),
        ] {
            let mut h = Host::new();
            h.replay(0, 2000, peeks, |i| if i % every == 0 { size } else { BLOCKS });
            // One wait for each header, and one for each peek.
            let headers = 2000 / every * (BLOCKS / size) + (2000 - 2000 / every);
            let before = headers + if peeks { 2000 } else { 0 };
            let what =
                format!("1 of {every}, records of {size} blocks, {peeks}: {} waits for {before}", h.waits);
            assert!(h.waits <= before, "{what}");
            assert!(h.reads <= before + before / 2, "{what}, {} reads", h.reads);
            assert!(h.blocks <= before + 2100 * BLOCKS, "{what}, {} blocks", h.blocks);
        }
    }

    #[test]
    fn an_empty_log_is_one_block() {
        let mut h = Host::new();
        h.want(Slot(77 * BLOCKS), 1);
        assert_eq!((h.waits, h.blocks), (1, 1));
    }

    #[test]
    fn what_is_in_memory_is_what_is_wanted_whatever_the_records_are_like() {
        for seed in 0..300u32 {
            let all = [3000, 300, 16][seed as usize % 3];
            let blocks = [16, 128, 256][seed as usize / 3 % 3];
            let mut h = Host::of(all, blocks);
            // Runs of segments that are alike, and some of all kinds.
            let sizes = |i: u32| {
                let x = (i / (1 + seed % 50))
                    .wrapping_mul(0x9e37_79b9)
                    .wrapping_add(seed)
                    .wrapping_mul(0x85eb_ca6b)
                    >> 16;
                [2, 2, 3, 10, 64, blocks, blocks][x as usize % 7].min(blocks)
            };
            let used = all.min(600) - 1;
            h.replay(seed * 15, used, seed % 2 == 0, sizes);
            // The data of a record at the end.
            h.want(Segment((seed * 15 + used - 1) % all).first_slot(blocks).plus(1), blocks - 1);
        }
    }
}
