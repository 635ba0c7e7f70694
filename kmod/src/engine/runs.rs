// SPDX-License-Identifier: GPL-2.0-only

//! Which items of a part are read or written as one piece.

use super::reclaim::Item;
use crate::format::{Block, Slot, BLOCK, BLOCK_SECTORS, SECTOR};
use core::ops::Range;

/// Sectors that follow each other both on the backing device and in the memory of a part, in which each item
/// has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of its first item.
    pub first: usize,
    /// First sector on the backing device.
    pub sector: u64,
    /// Where in memory it begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub len: usize,
}

impl Run {
    /// From the first to the last of the sectors `mask`, which is not 0, of block `addr`, which is item
    /// number `item`.
    pub fn of(item: usize, addr: Block, mask: u8) -> Self {
        let (first, end) = (mask.trailing_zeros() as usize, 8 - mask.leading_zeros() as usize);
        Self {
            first: item,
            sector: addr.first_sector() + first as u64,
            offset: item * BLOCK + first * SECTOR,
            len: (end - first) * SECTOR,
        }
    }

    /// The items of which the run has sectors.
    pub fn items(&self) -> Range<usize> {
        self.first..(self.offset + self.len).div_ceil(BLOCK)
    }

    /// The same run when so many items come before those that it was made of.
    pub fn behind(&self, items: usize) -> Self {
        Self { first: self.first + items, offset: self.offset + items * BLOCK, ..*self }
    }

    /// Takes `next` in if it directly follows. Returns whether it did.
    fn take(&mut self, next: &Self) -> bool {
        let is_behind =
            self.sector + (self.len / SECTOR) as u64 == next.sector && self.offset + self.len == next.offset;
        if is_behind {
            self.len += next.len;
        }
        is_behind
    }
}

/// The runs of the sectors `todo` of `items`, which are sorted by address.
pub fn for_each_run(items: &[Item], todo: &[u8], mut f: impl FnMut(&Run)) {
    let mut run: Option<Run> = None;
    for (i, (item, todo)) in items.iter().zip(todo).enumerate() {
        for s in (0..BLOCK_SECTORS).filter(|s| todo & 1 << s != 0) {
            let next = Run::of(i, item.addr(), 1 << s);
            if !run.as_mut().is_some_and(|run| run.take(&next)) {
                if let Some(run) = run.replace(next) {
                    f(&run);
                }
            }
        }
    }
    if let Some(run) = run {
        f(&run);
    }
}

/// Calls `f` for each row of items whose numbers and slots both follow one another, `most` items at most. `f`
/// gets the number of the first item, its slot, and the number of items.
pub fn for_each_row(
    items: impl Iterator<Item = (usize, Slot)>,
    most: usize,
    mut f: impl FnMut(usize, Slot, usize),
) {
    let mut row: Option<(usize, Slot, usize)> = None;
    for (i, slot) in items {
        match &mut row {
            Some((first, first_slot, n))
                if i == *first + *n
                    && u64::from(slot.0) == u64::from(first_slot.0) + *n as u64
                    && *n < most =>
            {
                *n += 1;
            }
            _ => {
                if let Some((i, slot, n)) = row.replace((i, slot, 1)) {
                    f(i, slot, n);
                }
            }
        }
    }
    if let Some((i, slot, n)) = row {
        f(i, slot, n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_run_goes_on_over_blocks_and_ends_at_a_gap() {
        let items = [3, 4, 5, 7, 7].map(|addr| Item::at(addr, Slot(0)));
        let runs = |todo: [u8; 5]| {
            let mut runs = Vec::new();
            for_each_run(&items, &todo, |run| {
                runs.push((run.first, run.sector, run.offset / SECTOR, run.len / SECTOR, run.items()));
            });
            runs
        };
        assert_eq!(
            runs([0xff, 0xff, 0x0f, 0x01, 0xf0]),
            [(0, 24, 0, 20, 0..3), (3, 56, 24, 1, 3..4), (4, 60, 36, 4, 4..5)]
        );
        // Sectors that are not to be written are a gap; so is memory between two parts of a block.
        assert_eq!(
            runs([0x80, 0, 0x05, 0x0f, 0xf0]),
            [
                (0, 31, 7, 1, 0..1),
                (2, 40, 16, 1, 2..3),
                (2, 42, 18, 1, 2..3),
                (3, 56, 24, 4, 3..4),
                (4, 60, 36, 4, 4..5)
            ]
        );
        assert!(runs([0; 5]).is_empty());
        let run = Run::of(2, Block(10), 0b0111_1000);
        assert_eq!((run.sector, run.offset, run.len), (83, 2 * BLOCK + 3 * SECTOR, 4 * SECTOR));
        assert_eq!(
            (run.behind(5).first, run.behind(5).offset - run.offset, run.behind(5).items()),
            (7, 5 * BLOCK, 7..8)
        );
    }

    #[test]
    fn rows_of_slots() {
        let rows = |items: &[(usize, u32)], most| {
            let mut rows = Vec::new();
            let items = items.iter().map(|&(i, slot)| (i, Slot(slot)));
            for_each_row(items, most, |i, slot, n| rows.push((i, slot.0, n)));
            rows
        };
        let items = [(0, 10), (1, 11), (2, 13), (4, 14), (5, 15), (6, 16), (7, 17)];
        assert_eq!(rows(&items, 256), [(0, 10, 2), (2, 13, 1), (4, 14, 4)]);
        assert_eq!(rows(&items, 3), [(0, 10, 2), (2, 13, 1), (4, 14, 3), (7, 17, 1)]);
        assert_eq!(rows(&[(0, u32::MAX), (1, 0)], 3), [(0, u32::MAX, 1), (1, 0, 1)]);
        assert!(rows(&[], 3).is_empty());
    }
}
