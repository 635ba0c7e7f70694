// SPDX-License-Identifier: GPL-2.0-only

//! Which slot holds which sectors of which backing block: a hash table with chains through a table of slots.
//!
//! A slot is one block of the log; slot `s` is block `s % segment_blocks` of segment `s / segment_blocks`. Several
//! slots may hold sectors of the same block. 18 bytes of RAM per slot, all told.
//!
//! # Invariants
//! - A slot is in the chain of its address if and only if its live mask is not 0.
//! - The live masks of the slots of one address are disjoint: every sector is live in one slot at most.

use super::format::Entry;
use crate::os::atomic::{AtomicU32, Ordering};
use crate::os::{OutOfMemory, Table};

/// So many slots share a bucket when all are live: each look into the index goes along a chain that is so long, and each
/// slot takes 4 bytes by this less.
const SLOTS_OF_A_BUCKET: usize = 2;
/// Number of no slot: the end of a chain.
const NONE: u32 = u32::MAX;
/// The slot's data are not on the backing device.
const DIRTY: u32 = 1 << 24;
/// All that was live in the slot was copied to the slot that `next` names; nothing is live in this one.
const MOVED: u32 = 1 << 25;
/// What the slot holds stands for a block that is lost.
const LOST: u32 = 1 << 26;

/// The block that a slot holds, packed into 12 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    addr_low: u32,
    next: u32,
    /// Bits 0..8 the address' bits 32..40, bits 8..16 the live mask, bits 16..24 the written mask, then flags.
    meta: u32,
}

impl Slot {
    fn addr(&self) -> u64 {
        u64::from(self.addr_low) | u64::from(self.meta & 0xff) << 32
    }

    fn live(&self) -> u8 {
        (self.meta >> 8) as u8
    }

    fn written(&self) -> u8 {
        (self.meta >> 16) as u8
    }

    fn set_live(&mut self, mask: u8) {
        self.meta = self.meta & !0xff00 | u32::from(mask) << 8;
    }
}

/// What [`Index::insert`] did to one older or newer slot of the same block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlap {
    /// The slot that lost sectors: an older one, or the inserted one itself if a newer one is there already.
    pub(super) slot: u32,
    /// Whether nothing of that slot is live any more.
    pub(super) dead: bool,
    /// Whether that slot was dirty.
    pub(super) dirty: bool,
}

/// The index. Everything but the checksums is reached through the engine's lock only.
#[derive(Debug)]
pub(super) struct Index {
    slots: Table<Slot>,
    buckets: Table<u32>,
}

/// CRC-32C of each slot's block. A slot's checksum does not change while its segment has readers, so that whoever
/// reads a slot checks it without the engine's lock.
pub(super) type Checksums = Table<AtomicU32>;

impl Index {
    pub(super) fn new(nr_slots: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            slots: Table::new(nr_slots, |_| Slot { addr_low: 0, next: NONE, meta: 0 })?,
            buckets: Table::new(nr_slots.div_ceil(SLOTS_OF_A_BUCKET), |_| NONE)?,
        })
    }

    fn bucket(&self, addr: u64) -> usize {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4): neighbours spread over all buckets. Of any number of them: a product
        // takes the place of the remainder.
        let hash = addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((hash * self.buckets.len() as u64) >> 32) as usize
    }

    /// The slot's address, live mask and whether it is dirty.
    pub(super) fn get(&self, slot: u32) -> (u64, u8, bool) {
        let s = &self.slots[slot as usize];
        (s.addr(), s.live(), s.meta & DIRTY != 0)
    }

    /// The entry that a record header holds for the slot: what was written, whatever has been superseded since.
    pub(super) fn entry(&self, slot: u32, checksums: &Checksums) -> Entry {
        let s = &self.slots[slot as usize];
        Entry { addr: s.addr(), mask: s.written(), crc: checksums[slot as usize].load(Ordering::Relaxed) }
    }

    /// Calls `f(slot, live mask)` for each slot that holds sectors of the block.
    pub(super) fn find(&self, addr: u64, mut f: impl FnMut(u32, u8)) {
        let mut at = self.buckets[self.bucket(addr)];
        while at != NONE {
            let s = &self.slots[at as usize];
            if s.addr() == addr {
                f(at, s.live());
            }
            at = s.next;
        }
    }

    /// Makes a free slot hold nothing: the entry of a record header that stands for no block.
    pub(super) fn insert_nothing(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot { addr_low: 0, next: NONE, meta: 0 };
    }

    /// Puts the written sectors `mask` of block `addr` into the free slot `slot`, dirty.
    ///
    /// Sectors that the block already has in slots for which `newer` says true stay there; those in all others move
    /// to `slot`. `lost` is told of each slot that lost sectors by this.
    pub(super) fn insert(
        &mut self,
        slot: u32,
        addr: u64,
        mask: u8,
        newer: impl Fn(u32) -> bool,
        mut lost: impl FnMut(Overlap),
    ) {
        let bucket = self.bucket(addr);
        let mut live = mask;
        let mut prev = NONE;
        let mut at = self.buckets[bucket];
        while at != NONE {
            let s = &mut self.slots[at as usize];
            let next = s.next;
            let both = if s.addr() == addr { s.live() & mask } else { 0 };
            let mut unlinked = false;
            if both != 0 {
                if newer(at) {
                    live &= !both;
                    lost(Overlap { slot, dead: live == 0, dirty: true });
                } else {
                    let rest = s.live() & !both;
                    s.set_live(rest);
                    lost(Overlap { slot: at, dead: rest == 0, dirty: s.meta & DIRTY != 0 });
                    unlinked = rest == 0;
                }
            }
            if unlinked {
                self.link(bucket, prev, next);
            } else {
                prev = at;
            }
            at = next;
        }
        let head = self.buckets[bucket];
        let s = &mut self.slots[slot as usize];
        s.addr_low = addr as u32;
        s.meta = (addr >> 32) as u32 & 0xff | u32::from(live) << 8 | u32::from(mask) << 16 | DIRTY;
        if live != 0 {
            s.next = head;
            self.buckets[bucket] = slot;
        }
    }

    fn link(&mut self, bucket: usize, prev: u32, next: u32) {
        if prev == NONE {
            self.buckets[bucket] = next;
        } else {
            self.slots[prev as usize].next = next;
        }
    }

    /// Makes the slot clean; says whether it was live and dirty.
    pub(super) fn clean(&mut self, slot: u32) -> bool {
        let s = &mut self.slots[slot as usize];
        let was = s.live() != 0 && s.meta & DIRTY != 0;
        s.meta &= !DIRTY;
        was
    }

    /// Notes that what was live in `slot`, in which nothing is live any more, was copied to `to`.
    pub(super) fn set_moved(&mut self, slot: u32, to: u32) {
        let s = &mut self.slots[slot as usize];
        if s.live() == 0 {
            s.next = to;
            s.meta |= MOVED;
        }
    }

    /// Notes that what the slot holds stands for a block that is lost.
    pub(super) fn set_lost(&mut self, slot: u32) {
        self.slots[slot as usize].meta |= LOST;
    }

    /// Whether what the slot holds stands for a block that is lost; a replay does not know, and has it read.
    pub(super) fn is_lost(&self, slot: u32) -> bool {
        self.slots[slot as usize].meta & LOST != 0
    }

    /// Where what was live in the slot was copied to, if it was.
    pub(super) fn moved_to(&self, slot: u32) -> Option<u32> {
        let s = &self.slots[slot as usize];
        (s.meta & MOVED != 0).then_some(s.next)
    }

    /// Forgets what the slot holds, and where that was copied to.
    pub(super) fn remove(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if s.live() == 0 {
            s.meta &= !MOVED;
            return;
        }
        let s = *s;
        let bucket = self.bucket(s.addr());
        let mut prev = NONE;
        let mut at = self.buckets[bucket];
        while at != NONE && at != slot {
            prev = at;
            at = self.slots[at as usize].next;
        }
        if at == slot {
            self.link(bucket, prev, s.next);
        }
        self.slots[slot as usize].set_live(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn found(ix: &Index, addr: u64) -> Vec<(u32, u8)> {
        let mut v = Vec::new();
        ix.find(addr, |s, m| v.push((s, m)));
        v.sort_unstable();
        v
    }

    #[test]
    fn a_sector_is_live_in_one_slot_only() {
        let mut ix = Index::new(8).unwrap();
        ix.insert(0, 5, 0xff, |_| false, |_| panic!());
        ix.insert(1, 5, 0x0f, |_| false, |o| assert_eq!(o, Overlap { slot: 0, dead: false, dirty: true }));
        assert_eq!(found(&ix, 5), [(0, 0xf0), (1, 0x0f)]);
        ix.insert(2, 5, 0xff, |_| false, |o| assert!(o.dead));
        assert_eq!(found(&ix, 5), [(2, 0xff)]);
        assert_eq!(ix.get(0).1, 0);
    }

    #[test]
    fn what_is_newer_in_the_log_stays() {
        let mut ix = Index::new(8).unwrap();
        ix.insert(3, 9, 0x3c, |_| false, |_| panic!());
        let mut lost = Vec::new();
        ix.insert(2, 9, 0xff, |s| s == 3, |o| lost.push(o));
        assert_eq!(lost, [Overlap { slot: 2, dead: false, dirty: true }]);
        assert_eq!(found(&ix, 9), [(2, 0xc3), (3, 0x3c)]);
        ix.insert(1, 9, 0x18, |_| true, |o| assert!(o.dead && o.slot == 1));
        assert_eq!(found(&ix, 9), [(2, 0xc3), (3, 0x3c)]);
    }

    #[test]
    fn removal_keeps_the_rest_of_the_chain() {
        let mut ix = Index::new(2).unwrap();
        ix.insert(0, 1, 0xff, |_| false, |_| ());
        ix.insert(1, 1 << 39, 0x01, |_| false, |_| ());
        ix.remove(0);
        assert_eq!(found(&ix, 1), []);
        assert_eq!(found(&ix, 1 << 39), [(1, 1)]);
        assert!(ix.clean(1));
        assert!(!ix.clean(1));
        assert!(!ix.clean(0));
    }
}
