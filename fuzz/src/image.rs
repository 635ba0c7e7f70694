// SPDX-License-Identifier: GPL-2.0-only

//! What is on a cache device, told in few bytes: the structures of the format with their checksums right, and
//! whatever is put over them. Every input tells of some image, and most changes of an input give one that is
//! nearly valid, which is how the fuzzer gets behind the checksums.
//!
//! An input does not depend on how the engine lays out its log: it shows the same image in years, and so is
//! worth keeping. Numbers are told by how much they differ from what would come next.

use crate::bytes::{Sink, Source};
use crate::device::{Device, SLOTS};
use crate::fix_checksum;
use writeboost::format::{
    Block, Checkpoint, Entry, RecordHeader, Segment, Seq, Superblock, BACKING_ID_LEN, BLOCK, BLOCK_SECTORS,
    CHECKPOINT_BLOCKS, FIRST_BLOCK, MAX_ENTRIES, NAME_LEN, SECTOR,
};
use writeboost::host::crc32c;

/// Most structures of one image.
const MOST: usize = 2000;
/// Most bytes of a [`Poke`].
const MOST_POKED: usize = 64;

/// A record: one that some engine wrote, or one that none did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Slot of its header.
    pub slot: u32,
    /// Sequence number.
    pub seq: u64,
    /// Epoch.
    pub epoch: u64,
    /// What it knows durable.
    pub durable: u64,
    /// Tail.
    pub tail: u64,
    /// Bit `i`, up to 31, says that the data of entry `i` are not what its checksum says; bit 32 + `i` that
    /// it stands for a lost block.
    pub torn: u64,
    /// Address and mask of each entry.
    pub entries: Vec<(u64, u8)>,
}

/// Which checksum is put right after bytes were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fix {
    /// None.
    Nothing,
    /// That of a superblock or checkpoint in this block.
    Sector,
    /// That of a record header in this block.
    Record,
}

/// Bytes that are put over whatever is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poke {
    /// Block of the device.
    pub block: u64,
    /// Offset in the block.
    pub offset: u64,
    /// What is put right afterwards.
    pub fix: Fix,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// One thing after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The superblock.
    Superblock {
        /// Segments.
        nr_segments: u32,
        /// Blocks per segment.
        segment_blocks: u32,
        /// Sectors of the backing device.
        backing_sectors: u64,
        /// The nonce that everything has.
        nonce: u64,
    },
    /// A checkpoint slot, 0 to 3, and what is written there.
    Checkpoint(u8, Checkpoint),
    /// A record.
    Record(Record),
    /// Damage.
    Poke(Poke),
}

/// An image, and what is to be done with the volume if it can be resumed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// What is written to the device, in this order.
    pub items: Vec<Item>,
    /// Bytes that say what the volume is asked to do: see [`crate::volume`].
    pub script: Vec<u8>,
}

/// What the numbers of the next item are compared with.
struct Before {
    segment_blocks: u32,
    checkpoint: Checkpoint,
    seq: u64,
    epoch: u64,
    tail: u64,
    addr: u64,
    /// First slot behind the last record.
    end: u32,
}

impl Before {
    fn new() -> Self {
        let checkpoint = Checkpoint::first(0);
        Self { segment_blocks: 16, checkpoint, seq: 0, epoch: 1, tail: 1, addr: 0, end: 0 }
    }

    /// Start of the segment behind the one that the last record ends in.
    fn next_segment(&self) -> u32 {
        let blocks = self.segment_blocks.max(1);
        self.end.div_ceil(blocks).saturating_mul(blocks)
    }

    fn after(&mut self, r: &Record) {
        (self.seq, self.epoch, self.tail) = (r.seq, r.epoch, r.tail);
        self.end = r.slot.saturating_add(1 + r.entries.len() as u32);
        self.addr = r.entries.last().map_or(self.addr, |e| e.0);
    }
}

const END: u8 = 0;
const SUPERBLOCK: u8 = 1;
const CHECKPOINT: u8 = 2;
/// Right behind the last record.
const RECORD: u8 = 3;
/// At the start of the next segment.
const RECORD_NEXT: u8 = 4;
/// Anywhere.
const RECORD_AT: u8 = 5;
const POKE: u8 = 6;

impl Image {
    /// What an input tells.
    pub fn read(input: &[u8]) -> Self {
        let mut from = Source(input);
        let mut before = Before::new();
        let mut items = Vec::new();
        while items.len() < MOST {
            items.push(match from.byte() % 7 {
                SUPERBLOCK => {
                    let nr_segments = from.near(16) as u32;
                    let segment_blocks = from.near(16) as u32;
                    let (backing_sectors, nonce) = (from.number(), from.number());
                    before.segment_blocks = segment_blocks;
                    Item::Superblock { nr_segments, segment_blocks, backing_sectors, nonce }
                }
                CHECKPOINT => {
                    let b = before.checkpoint;
                    let slot = from.byte() & 3;
                    let tail = from.near(b.tail.0);
                    let cp = Checkpoint {
                        nonce: from.number(),
                        generation: from.near(b.generation),
                        epoch: from.near(b.epoch),
                        epoch_start: Seq(from.near(b.epoch_start.0)),
                        tail: Seq(tail),
                        durable: Seq(from.near(tail)),
                        tail_segment: Segment(from.near(b.tail_segment.0.into()) as u32),
                    };
                    before.checkpoint = cp;
                    Item::Checkpoint(slot, cp)
                }
                kind @ (RECORD | RECORD_NEXT | RECORD_AT) => {
                    let slot = match kind {
                        RECORD => before.end,
                        RECORD_NEXT => before.next_segment(),
                        _ => from.number() as u32,
                    };
                    let seq = from.near(before.seq.wrapping_add(1));
                    let epoch = from.near(before.epoch);
                    let durable = from.near(seq.wrapping_sub(1));
                    let tail = from.near(before.tail);
                    let torn = from.number();
                    let mut addr = before.addr;
                    let entries = (0..usize::from(from.byte()).min(MAX_ENTRIES))
                        .map(|_| {
                            addr = from.near(addr.wrapping_add(1));
                            (addr, from.byte())
                        })
                        .collect();
                    let r = Record { slot, seq, epoch, durable, tail, torn, entries };
                    before.after(&r);
                    Item::Record(r)
                }
                POKE => {
                    let (block, offset) = (from.number(), from.number());
                    let fix = [Fix::Nothing, Fix::Sector, Fix::Record][usize::from(from.byte() % 3)];
                    let n = usize::from(from.byte()).min(MOST_POKED);
                    Item::Poke(Poke { block, offset, fix, bytes: from.bytes(n).to_vec() })
                }
                _ => break,
            });
        }
        Self { items, script: from.0.to_vec() }
    }

    /// The input that tells this.
    pub fn write(&self) -> Vec<u8> {
        let mut to = Sink::default();
        let mut before = Before::new();
        for item in self.items.iter().take(MOST) {
            match item {
                Item::Superblock { nr_segments, segment_blocks, backing_sectors, nonce } => {
                    to.byte(SUPERBLOCK);
                    to.near((*nr_segments).into(), 16);
                    to.near((*segment_blocks).into(), 16);
                    to.number(*backing_sectors);
                    to.number(*nonce);
                    before.segment_blocks = *segment_blocks;
                }
                Item::Checkpoint(slot, cp) => {
                    let b = before.checkpoint;
                    to.byte(CHECKPOINT);
                    to.byte(*slot);
                    to.near(cp.tail.0, b.tail.0);
                    to.number(cp.nonce);
                    to.near(cp.generation, b.generation);
                    to.near(cp.epoch, b.epoch);
                    to.near(cp.epoch_start.0, b.epoch_start.0);
                    to.near(cp.durable.0, cp.tail.0);
                    to.near(cp.tail_segment.0.into(), b.tail_segment.0.into());
                    before.checkpoint = *cp;
                }
                Item::Record(r) => {
                    if r.slot == before.end {
                        to.byte(RECORD);
                    } else if r.slot == before.next_segment() {
                        to.byte(RECORD_NEXT);
                    } else {
                        to.byte(RECORD_AT);
                        to.number(r.slot.into());
                    }
                    to.near(r.seq, before.seq.wrapping_add(1));
                    to.near(r.epoch, before.epoch);
                    to.near(r.durable, r.seq.wrapping_sub(1));
                    to.near(r.tail, before.tail);
                    to.number(r.torn);
                    to.byte(r.entries.len() as u8);
                    let mut addr = before.addr;
                    for e in &r.entries {
                        to.near(e.0, addr.wrapping_add(1));
                        to.byte(e.1);
                        addr = e.0;
                    }
                    before.after(r);
                }
                Item::Poke(p) => {
                    to.byte(POKE);
                    to.number(p.block);
                    to.number(p.offset);
                    to.byte(p.fix as u8);
                    to.byte(p.bytes.len() as u8);
                    to.bytes(&p.bytes);
                }
            }
        }
        if self.items.len() < MOST {
            to.byte(END);
        }
        to.bytes(&self.script);
        to.0
    }

    /// The device with all of that on it.
    pub fn build(&self) -> Device {
        let mut device = Device::default();
        let mut all_nonce = 0;
        for item in &self.items {
            match item {
                Item::Superblock { nr_segments, segment_blocks, backing_sectors, nonce } => {
                    let sb = Superblock {
                        uuid: [1; 16],
                        nonce: *nonce,
                        backing_sectors: *backing_sectors,
                        nr_segments: *nr_segments,
                        segment_blocks: *segment_blocks,
                        first_block: FIRST_BLOCK,
                        name: [0; NAME_LEN],
                        backing_id: [0; BACKING_ID_LEN],
                    };
                    all_nonce = *nonce;
                    device.write_block(0, &sb.encode());
                }
                Item::Checkpoint(slot, cp) => {
                    let cp = Checkpoint { nonce: all_nonce ^ cp.nonce, ..*cp };
                    device.write_block(CHECKPOINT_BLOCKS[usize::from(slot & 3)], &cp.encode());
                }
                Item::Record(r) => r.write(all_nonce, &mut device),
                Item::Poke(p) => p.write(&mut device),
            }
        }
        device
    }

    /// Tells an image of which the bytes are there. Data are others afterwards, right where they were right.
    pub fn of(sb: &Superblock, bytes: &[u8]) -> Self {
        let block = |b: usize| -> &[u8; BLOCK] { bytes[b * BLOCK..].first_chunk().unwrap() };
        let mut items = vec![Item::Superblock {
            nr_segments: sb.nr_segments,
            segment_blocks: sb.segment_blocks,
            backing_sectors: sb.backing_sectors,
            nonce: sb.nonce,
        }];
        for (slot, at) in CHECKPOINT_BLOCKS.into_iter().enumerate() {
            let sector = block(at as usize)[..SECTOR].first_chunk().unwrap();
            if let Ok(cp) = Checkpoint::decode(sector, sb) {
                items.push(Item::Checkpoint(slot as u8, Checkpoint { nonce: 0, ..cp }));
            }
        }
        for slot in 0..sb.nr_segments * sb.segment_blocks {
            let at = (sb.first_block + slot) as usize;
            let Ok(h) = RecordHeader::decode(block(at), sb, slot % sb.segment_blocks) else { continue };
            let entries: Vec<_> = (0..h.blocks.into()).map(|i| RecordHeader::entry(block(at), i)).collect();
            let torn = entries.iter().enumerate().fold(0, |torn, (i, e)| {
                let data = block(at + 1 + i);
                let right = e.mask == 0 || crc32c(0, data) == e.crc;
                let lost = !right && e.is_stored_as(data);
                torn | bit(!right && !lost, i) | bit(lost, i) << 32
            });
            items.push(Item::Record(Record {
                slot,
                seq: h.seq.0,
                epoch: h.epoch,
                durable: h.durable.0,
                tail: h.tail.0,
                torn,
                entries: entries.iter().map(|e| (e.addr.0, e.mask)).collect(),
            }));
        }
        Self { items, script: Vec::new() }
    }
}

/// What a sector of a block holds that record `seq` wrote: never the same twice.
fn sector_data(seq: u64, addr: u64, sector: usize) -> [u8; SECTOR] {
    let mut b = [0; SECTOR];
    for (at, n) in [(0, seq), (8, addr), (16, sector as u64 + 1)] {
        b[at..at + 8].copy_from_slice(&n.to_le_bytes());
    }
    b
}

/// Bit `i` of the lower half of a mask, if it is to be set.
fn bit(set: bool, i: usize) -> u64 {
    u64::from(set && i < 32) << (i % 32)
}

impl Record {
    fn write(&self, nonce: u64, device: &mut Device) {
        if self.slot >= SLOTS || self.entries.is_empty() {
            return;
        }
        let first = u64::from(FIRST_BLOCK) + u64::from(self.slot);
        let mut encoded = Vec::new();
        for (i, &(addr, mask)) in self.entries.iter().enumerate() {
            let mut data = [0; BLOCK];
            for s in (0..BLOCK_SECTORS as usize).filter(|s| mask & 1 << s != 0) {
                data[s * SECTOR..][..SECTOR].copy_from_slice(&sector_data(self.seq, addr, s));
            }
            let lost = self.torn >> 32 & bit(true, i) != 0;
            let crc = if lost { Entry::lost(&data) } else { crc32c(0, &data) };
            encoded.push(Entry { addr: Block(addr), mask, crc });
            if self.torn & bit(true, i) != 0 {
                data.fill(0xee);
            }
            if let Some(b) = device.block_mut(first + 1 + i as u64) {
                b.copy_from_slice(&data);
            }
        }
        let h = RecordHeader {
            nonce,
            seq: Seq(self.seq),
            epoch: self.epoch,
            durable: Seq(self.durable),
            tail: Seq(self.tail),
            blocks: self.entries.len() as u16,
        };
        let mut block = [0; BLOCK];
        h.encode(&mut block, |i| encoded[i]);
        device.write_block(first, &block);
    }
}

impl Poke {
    fn write(&self, device: &mut Device) {
        let Some(block) = device.block_mut(self.block) else { return };
        let at = (self.offset % BLOCK as u64) as usize;
        let n = self.bytes.len().min(BLOCK - at);
        block[at..at + n].copy_from_slice(&self.bytes[..n]);
        match self.fix {
            Fix::Nothing => (),
            Fix::Sector => fix_checksum(&mut block[..SECTOR], 12),
            Fix::Record => fix_checksum(block, 4),
        }
    }
}
