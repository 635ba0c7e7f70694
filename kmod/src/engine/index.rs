// SPDX-License-Identifier: GPL-2.0-only

//! Which slot holds which sectors of which backing block: a hash table with chains through a table of slots.
//!
//! A slot is one block of the log; slot `s` is block `s % segment_blocks` of segment `s / segment_blocks`.
//! Several slots may hold sectors of the same block. 18 bytes of RAM per slot, all told.
//!
//! The bucket of an address depends on a [`Secret`] of the index. Without it, a user of the volume could
//! choose addresses that all share a bucket, and each lookup in the index would go along all of them, with
//! the lock held.
//!
//! # Invariants
//! - A slot is in the chain of its address if and only if its live mask is not 0.
//! - The live masks of the slots of one address are disjoint: every sector is live in one slot at most.
//! - Only code that has the engine's lock changes anything, or relies on what it finds. Without the lock a
//!   chain may be followed to have it in the processor's cache later: see [`Chains`].

use crate::format::{Block, Entry, Slot};
use crate::host::atomic::{AtomicU32, Ordering};
use crate::host::{prefetch, random, OutOfMemory, Shared, Table};

/// Not the host's type, which a model checker watches: what the lock protects has no order of its own.
type Word = core::sync::atomic::AtomicU32;

/// So many slots share a bucket when all slots are live. A larger number makes each chain that a lookup
/// follows longer, and saves memory: the buckets take 4 bytes for so many slots.
const SLOTS_OF_A_BUCKET: usize = 2;
/// So many slots of a chain are touched before the lock is taken: most chains have no more.
const AHEAD: usize = 4;
/// Stands for no slot: the end of a chain.
const NONE: Slot = Slot(u32::MAX);
/// The slot's data are not on the backing device.
const DIRTY: u32 = 1 << 24;
/// All that was live in the slot was copied to the slot in `next`; nothing is live in this one.
const MOVED: u32 = 1 << 25;
/// The content of the slot stands for a block that is lost.
const LOST: u32 = 1 << 26;

/// The secret of an index: which addresses share a bucket depends on it.
#[derive(Clone, Copy)]
pub struct Secret([u64; 2]);

impl Secret {
    /// A random secret.
    pub fn random() -> Self {
        let mut bytes = [[0; 8]; 2];
        bytes.iter_mut().for_each(|b| random(b));
        Self::new(bytes.map(u64::from_le_bytes))
    }

    /// The secret made from `seed`, always the same.
    pub fn new(seed: [u64; 2]) -> Self {
        // The numbers are multipliers: an even one would lose the address's last bits.
        Self(seed.map(|s| s | 1))
    }

    /// The bucket of the address, out of `buckets` buckets, at most 2^32.
    fn bucket(self, addr: Block, buckets: usize) -> usize {
        // One multiplication by a secret (Dietzfelbinger and others, 1997) keeps any two addresses apart, but
        // not a row of them with equal gaps, and filesystems are full of such rows. So the result is folded,
        // and multiplied once more.
        let product = addr.0.wrapping_mul(self.0[0]);
        let hash = (product ^ product >> 32).wrapping_mul(self.0[1]) >> 32;
        // Works for any number of buckets: a product takes the place of the remainder.
        (hash.wrapping_mul(buckets as u64) >> 32) as usize
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

/// The block that a slot holds, packed into 12 bytes.
#[derive(Debug, Clone, Copy)]
struct Node {
    addr_low: u32,
    next: Slot,
    /// Bits 0..8 the address's bits 32..40, bits 8..16 the live mask, bits 16..24 the written mask, then
    /// flags.
    meta: u32,
}

impl Node {
    const EMPTY: Self = Self { addr_low: 0, next: NONE, meta: 0 };

    fn addr(&self) -> Block {
        Block(u64::from(self.addr_low) | u64::from(self.meta & 0xff) << 32)
    }

    fn live(&self) -> u8 {
        (self.meta >> 8) as u8
    }

    fn written(&self) -> u8 {
        (self.meta >> 16) as u8
    }
}

/// Where a [`Node`] lies.
#[derive(Debug)]
struct Place {
    addr_low: Word,
    next: Word,
    meta: Word,
}

impl Place {
    fn new(node: Node) -> Self {
        Self { addr_low: node.addr_low.into(), next: node.next.0.into(), meta: node.meta.into() }
    }

    fn get(&self) -> Node {
        Node {
            addr_low: self.addr_low.load(Ordering::Relaxed),
            next: self.next(),
            meta: self.meta.load(Ordering::Relaxed),
        }
    }

    fn set(&self, node: Node) {
        self.addr_low.store(node.addr_low, Ordering::Relaxed);
        self.set_next(node.next);
        self.set_meta(node.meta);
    }

    fn next(&self) -> Slot {
        Slot(self.next.load(Ordering::Relaxed))
    }

    fn set_next(&self, next: Slot) {
        self.next.store(next.0, Ordering::Relaxed);
    }

    fn set_meta(&self, meta: u32) {
        self.meta.store(meta, Ordering::Relaxed);
    }

    fn set_live(&self, mask: u8) {
        self.set_meta(self.get().meta & !0xff00 | u32::from(mask) << 8);
    }
}

/// The tables of the index. They never move, so code that is about to take the engine's lock for an address
/// can fetch the cache lines that will be looked at. With the lock held, all others would wait for these,
/// too.
#[derive(Debug)]
pub struct Chains {
    slots: Table<Place>,
    buckets: Table<Word>,
    secret: Secret,
}

impl Chains {
    fn bucket(&self, addr: Block) -> usize {
        self.secret.bucket(addr, self.buckets.len())
    }

    /// The block `addr` will be looked up: its bucket is fetched while the caller does something else.
    pub fn expect(&self, addr: Block) {
        if let Some(bucket) = self.buckets.get(self.bucket(addr)) {
            prefetch(bucket);
        }
    }

    /// As [`Chains::warm`], for the block that a slot holds.
    pub fn warm_slot(&self, slot: Slot) {
        if let Some(place) = self.slots.get(slot.index()) {
            self.warm(place.get().addr());
        }
    }

    /// As [`Chains::expect`], a moment before the lock is taken: goes along the chain. The result is out of
    /// date at once, and serves no other purpose.
    pub fn warm(&self, addr: Block) {
        let Some(bucket) = self.buckets.get(self.bucket(addr)) else { return };
        let mut at = Slot(bucket.load(Ordering::Relaxed));
        for _ in 0..AHEAD {
            // `NONE`, the end of a chain, is not in the table.
            let Some(place) = self.slots.get(at.index()) else { break };
            at = place.next();
        }
        // Otherwise the compiler would see that the result is not used.
        core::hint::black_box(at);
    }
}

/// What [`Index::insert`] did to one older or newer slot of the same block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlap {
    /// The slot that lost sectors: an older one, or the inserted one itself if a newer one is there already.
    pub(super) slot: Slot,
    /// Whether nothing of that slot is live any more.
    pub(super) dead: bool,
    /// Whether that slot was dirty.
    pub(super) dirty: bool,
}

/// The index. Everything but the checksums is reached through the engine's lock only, except what [`Chains`]
/// allows.
#[derive(Debug)]
pub(super) struct Index {
    chains: Shared<Chains>,
}

/// CRC-32C of each slot's block.
pub(super) type Checksums = Table<AtomicU32>;

impl Index {
    pub(super) fn new(nr_slots: usize, secret: Secret) -> Result<Self, OutOfMemory> {
        Ok(Self {
            chains: Shared::new(Chains {
                slots: Table::new(nr_slots, |_| Place::new(Node::EMPTY))?,
                buckets: Table::new(nr_slots.div_ceil(SLOTS_OF_A_BUCKET), |_| NONE.0.into())?,
                secret,
            })?,
        })
    }

    /// The tables that may be touched without the lock.
    pub(super) fn chains(&self) -> Shared<Chains> {
        self.chains.clone()
    }

    fn place(&self, slot: Slot) -> &Place {
        &self.chains.slots[slot.index()]
    }

    fn head(&self, bucket: usize) -> Slot {
        Slot(self.chains.buckets[bucket].load(Ordering::Relaxed))
    }

    fn set_head(&mut self, bucket: usize, slot: Slot) {
        self.chains.buckets[bucket].store(slot.0, Ordering::Relaxed);
    }

    /// The slot's address, live mask and whether it is dirty.
    pub(super) fn get(&self, slot: Slot) -> (Block, u8, bool) {
        let s = self.place(slot).get();
        (s.addr(), s.live(), s.meta & DIRTY != 0)
    }

    /// The entry that a record header holds for the slot: the sectors that were written, also those
    /// superseded since.
    pub(super) fn entry(&self, slot: Slot, checksums: &Checksums) -> Entry {
        let s = self.place(slot).get();
        Entry { addr: s.addr(), mask: s.written(), crc: checksums[slot.index()].load(Ordering::Relaxed) }
    }

    /// Calls `f(slot, live mask)` for each slot that holds sectors of the block.
    pub(super) fn find(&self, addr: Block, mut f: impl FnMut(Slot, u8)) {
        let mut at = self.head(self.chains.bucket(addr));
        while at != NONE {
            let s = self.place(at).get();
            if s.addr() == addr {
                f(at, s.live());
            }
            at = s.next;
        }
    }

    /// Makes a free slot hold nothing: the entry of a record header that stands for no block.
    pub(super) fn insert_nothing(&mut self, slot: Slot) {
        self.place(slot).set(Node::EMPTY);
    }

    /// Puts the written sectors `mask` of block `addr` into the free slot `slot`, dirty.
    ///
    /// Sectors that the block already has in slots for which `newer` returns true stay there; those in all
    /// others move to `slot`. `lost` is called for each slot that loses sectors by this. Returns a slot that
    /// the block was in, if it was in any: the one that was stored last.
    pub(super) fn insert(
        &mut self,
        slot: Slot,
        addr: Block,
        mask: u8,
        newer: impl Fn(Slot) -> bool,
        mut lost: impl FnMut(Overlap),
    ) -> Option<Slot> {
        let mut found = None;
        let bucket = self.chains.bucket(addr);
        let mut live = mask;
        let mut prev = NONE;
        let mut at = self.head(bucket);
        while at != NONE {
            let s = self.place(at).get();
            let next = s.next;
            let is_it = s.addr() == addr;
            let both = if is_it { s.live() & mask } else { 0 };
            let mut unlinked = false;
            if is_it {
                found = found.or(Some(at));
            }
            if both != 0 {
                if newer(at) {
                    live &= !both;
                    lost(Overlap { slot, dead: live == 0, dirty: true });
                } else {
                    let rest = s.live() & !both;
                    self.place(at).set_live(rest);
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
        let place = self.place(slot);
        let mut s = place.get();
        s.addr_low = addr.0 as u32;
        s.meta = (addr.0 >> 32) as u32 & 0xff | u32::from(live) << 8 | u32::from(mask) << 16 | DIRTY;
        if live != 0 {
            s.next = self.head(bucket);
        }
        place.set(s);
        if live != 0 {
            self.set_head(bucket, slot);
        }
        found
    }

    fn link(&mut self, bucket: usize, prev: Slot, next: Slot) {
        if prev == NONE {
            self.set_head(bucket, next);
        } else {
            self.place(prev).set_next(next);
        }
    }

    /// Makes the slot clean; returns whether it was live and dirty.
    pub(super) fn mark_clean(&mut self, slot: Slot) -> bool {
        let place = self.place(slot);
        let s = place.get();
        place.set_meta(s.meta & !DIRTY);
        s.live() != 0 && s.meta & DIRTY != 0
    }

    /// Notes that what was live in `slot` was copied to `to`. Nothing is live in `slot` any more.
    pub(super) fn set_moved(&mut self, slot: Slot, to: Slot) {
        let place = self.place(slot);
        let s = place.get();
        if s.live() == 0 {
            place.set_next(to);
            place.set_meta(s.meta | MOVED);
        }
    }

    /// Notes that the content of the slot stands for a block that is lost.
    pub(super) fn set_lost(&mut self, slot: Slot) {
        let place = self.place(slot);
        place.set_meta(place.get().meta | LOST);
    }

    /// Whether the content of the slot stands for a block that is lost. A replay does not know this, and has
    /// the block read.
    pub(super) fn is_lost(&self, slot: Slot) -> bool {
        self.place(slot).get().meta & LOST != 0
    }

    /// The slot to which what was live in this slot was copied, if it was.
    pub(super) fn moved_to(&self, slot: Slot) -> Option<Slot> {
        let s = self.place(slot).get();
        (s.meta & MOVED != 0).then_some(s.next)
    }

    pub(super) fn nr_slots(&self) -> u32 {
        self.chains.slots.len() as u32
    }

    pub(super) fn nr_buckets(&self) -> usize {
        self.chains.buckets.len()
    }

    /// The bucket whose chain holds the slots of this address.
    pub(super) fn bucket_of(&self, addr: Block) -> usize {
        self.chains.bucket(addr)
    }

    /// The slots of one bucket's chain.
    pub(super) fn chain(&self, bucket: usize) -> impl Iterator<Item = Slot> + '_ {
        let at = |at: Slot| (at != NONE).then_some(at);
        core::iter::successors(at(self.head(bucket)), move |&slot| at(self.place(slot).next()))
    }

    /// The sectors that were written to the slot, whatever has been superseded since.
    pub(super) fn written(&self, slot: Slot) -> u8 {
        self.place(slot).get().written()
    }

    /// Forgets what the slot holds, and where that was copied to.
    pub(super) fn remove(&mut self, slot: Slot) {
        let s = self.place(slot).get();
        if s.live() == 0 {
            self.place(slot).set_meta(s.meta & !MOVED);
            return;
        }
        let bucket = self.chains.bucket(s.addr());
        let mut prev = NONE;
        let mut at = self.head(bucket);
        while at != NONE && at != slot {
            prev = at;
            at = self.place(at).next();
        }
        if at == slot {
            self.link(bucket, prev, s.next);
        }
        self.place(slot).set_live(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn found(ix: &Index, addr: u64) -> Vec<(u32, u8)> {
        let mut v = Vec::new();
        ix.find(Block(addr), |s, m| v.push((s.0, m)));
        v.sort_unstable();
        v
    }

    #[test]
    fn a_sector_is_live_in_one_slot_only() {
        let mut ix = Index::new(8, Secret::new([1, 2])).unwrap();
        ix.insert(Slot(0), Block(5), 0xff, |_| false, |_| panic!());
        ix.insert(
            Slot(1),
            Block(5),
            0x0f,
            |_| false,
            |o| assert_eq!(o, Overlap { slot: Slot(0), dead: false, dirty: true }),
        );
        assert_eq!(found(&ix, 5), [(0, 0xf0), (1, 0x0f)]);
        ix.insert(Slot(2), Block(5), 0xff, |_| false, |o| assert!(o.dead));
        assert_eq!(found(&ix, 5), [(2, 0xff)]);
        assert_eq!(ix.get(Slot(0)).1, 0);
    }

    #[test]
    fn what_is_newer_in_the_log_stays() {
        let mut ix = Index::new(8, Secret::new([1, 2])).unwrap();
        ix.insert(Slot(3), Block(9), 0x3c, |_| false, |_| panic!());
        let mut lost = Vec::new();
        ix.insert(Slot(2), Block(9), 0xff, |s| s == Slot(3), |o| lost.push(o));
        assert_eq!(lost, [Overlap { slot: Slot(2), dead: false, dirty: true }]);
        assert_eq!(found(&ix, 9), [(2, 0xc3), (3, 0x3c)]);
        ix.insert(Slot(1), Block(9), 0x18, |_| true, |o| assert!(o.dead && o.slot == Slot(1)));
        assert_eq!(found(&ix, 9), [(2, 0xc3), (3, 0x3c)]);
    }

    #[test]
    fn removal_keeps_the_rest_of_the_chain() {
        let mut ix = Index::new(2, Secret::new([1, 2])).unwrap();
        ix.insert(Slot(0), Block(1), 0xff, |_| false, |_| ());
        ix.insert(Slot(1), Block(1 << 39), 0x01, |_| false, |_| ());
        ix.remove(Slot(0));
        assert_eq!(found(&ix, 1), []);
        assert_eq!(found(&ix, 1 << 39), [(1, 1)]);
        assert!(ix.mark_clean(Slot(1)));
        assert!(!ix.mark_clean(Slot(1)));
        assert!(!ix.mark_clean(Slot(0)));
    }

    /// Length of the longest chain of `addrs` in so many buckets.
    fn longest(secret: Secret, buckets: usize, addrs: impl Iterator<Item = u64>) -> u32 {
        let mut chains = std::vec![0u32; buckets];
        addrs.for_each(|addr| chains[secret.bucket(Block(addr), buckets)] += 1);
        chains.into_iter().max().unwrap()
    }

    fn secrets() -> impl Iterator<Item = Secret> {
        (1..=20u64)
            .map(|i| Secret::new([i, !i].map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))))
    }

    const BUCKETS: usize = 1 << 14;

    /// When as many addresses as there are buckets are drawn at random, 7 or 8 are the most that share one
    /// (Gonnet, 1981). So many would be a wonder.
    const WONDER: u32 = 16;

    #[test]
    fn who_knows_one_secret_cannot_make_chains_under_another() {
        let known = Secret::new([0x1234_5678_9abc_def1, 0xfedc_ba98_7654_3211]);
        let own: Vec<u64> = (0..)
            .filter(|&a| known.bucket(Block(a), BUCKETS) == known.bucket(Block(1), BUCKETS))
            .take(BUCKETS / 8)
            .collect();
        assert_eq!(longest(known, BUCKETS, own.iter().copied()), own.len() as u32);
        for secret in secrets() {
            let longest = longest(secret, BUCKETS, own.iter().copied());
            assert!(longest < WONDER / 2, "{longest} of {} addresses share a bucket", own.len());
        }
    }

    #[test]
    fn no_pattern_of_addresses_makes_long_chains() {
        // Rows with equal gaps; those that shared a bucket when the hash had no secret.
        let gaps = (0..26).map(|i| 1 << i).chain([3, 127, 1000, 32_768 + 1, 10_946, 28_657, 46_368]);
        let golden = |addr: u64| {
            ((addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).wrapping_mul(BUCKETS as u64) >> 32) as usize
        };
        let once: Vec<u64> = (0..).filter(|&a| golden(a) == 5).take(BUCKETS / 8).collect();
        for secret in secrets() {
            for gap in gaps.clone() {
                let row = (0..BUCKETS as u64).map(|i| i * gap);
                let longest = longest(secret, BUCKETS, row);
                assert!(longest < WONDER, "{longest} in a row with gaps of {gap}");
            }
            let longest = longest(secret, BUCKETS, once.iter().copied());
            assert!(longest < WONDER / 2, "{longest} of what was one chain");
        }
    }

    #[test]
    fn what_is_found_does_not_depend_on_the_secret() {
        let trace = |secret| {
            let mut ix = Index::new(64, secret).unwrap();
            let mut seen = Vec::new();
            for i in 0..256u32 {
                ix.remove(Slot(i % 64));
                let mask = (i % 7 * 37 + 1) as u8;
                ix.insert(
                    Slot(i % 64),
                    Block(u64::from(i * i % 23)),
                    mask,
                    |s| s.0 % 5 == 0,
                    |o| seen.push((o.slot, o.dead, 0)),
                );
                ix.chains().expect(Block(i.into()));
                ix.chains().warm(Block(i.into()));
                // In this order, too.
                ix.find(Block(u64::from(i % 23)), |s, live| seen.push((s, false, live)));
            }
            seen
        };
        let first = trace(Secret::new([1, 1]));
        assert!(secrets().all(|secret| trace(secret) == first));
        assert_eq!(trace(Secret::random()), first);
    }
}
