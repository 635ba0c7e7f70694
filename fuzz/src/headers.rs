// SPDX-License-Identifier: GPL-2.0-only

//! Checkpoints and record headers, as they are and with magic, version, nonce and checksum put right.

use crate::bytes::Source;
use crate::fix_checksum;
use writeboost::engine::replay;
use writeboost::format::{
    Checkpoint, Held, RecordHeader, Seq, Superblock, BLOCK, BLOCK_SECTORS, MAX_ENTRIES, SECTOR, WINDOW,
};

const NONCE: u64 = 0x1122_3344_5566_7788;

/// The input is a few numbers that choose the volume, then two checkpoints, then a record header.
pub fn run(input: &[u8]) {
    let mut input = Source(input);
    let segment_blocks = 16 << (input.byte() % 5);
    let nr_segments = 16 + input.number() % 1000;
    let backing_sectors = 1 + input.number() % (1 << 43);
    let cache_sectors = (256 + nr_segments * u64::from(segment_blocks)) * BLOCK_SECTORS;
    let sb = Superblock::new(cache_sectors, backing_sectors, segment_blocks, [1; 16], NONCE).unwrap();
    let offset = input.byte().into();
    let length = usize::from(input.byte()) * 4;
    let sectors = [0, 1].map(|_| checkpoint(&sb, input.bytes(length)));
    choice(&sb, &sectors);
    let header = record(&sb, input.0, offset);
    for s in &sectors {
        if let Ok(cp) = Checkpoint::decode(s, &sb) {
            // Only with a record behind its end has such a log anything in it.
            if replay::is_empty(&sb, &cp, &header) {
                assert!(cp.durable < cp.tail);
            }
        }
    }
}

fn checkpoint(sb: &Superblock, input: &[u8]) -> [u8; SECTOR] {
    let mut b = [0; SECTOR];
    let n = input.len().min(SECTOR);
    b[..n].copy_from_slice(&input[..n]);
    check_checkpoint(sb, &b);
    b[..8].copy_from_slice(b"WBoostCP");
    b[8..12].copy_from_slice(&1u32.to_le_bytes());
    b[16..24].copy_from_slice(&NONCE.to_le_bytes());
    fix_checksum(&mut b, 12);
    check_checkpoint(sb, &b);
    b
}

fn check_checkpoint(sb: &Superblock, b: &[u8; SECTOR]) {
    let cp = match Checkpoint::decode(b, sb) {
        Ok(cp) => cp,
        Err(e) => return assert!(e.to_string().len() < 200),
    };
    let mut same = *b;
    same[68..].fill(0);
    fix_checksum(&mut same, 12);
    assert_eq!(cp.encode(), same, "it is written as it was read");
    assert_eq!(Checkpoint::decode(&same, sb), Ok(cp));
    assert!(cp.tail_segment.0 < sb.nr_segments && cp.tail >= Seq::FIRST && cp.tail <= cp.durable.next());
    assert!([1, 2].contains(&cp.block()));
}

fn choice(sb: &Superblock, s: &[[u8; SECTOR]; 2]) {
    let slots = [Some(&s[0]), Some(&s[1]), None, Some(&[0; SECTOR])].map(|s| Held::of(s, sb));
    let newest = slots.iter().filter_map(Held::checkpoint).map(|cp| cp.generation).max();
    match Checkpoint::choose(&slots) {
        Ok(chosen) => {
            assert_eq!(Some(chosen.checkpoint.generation), newest);
            assert_eq!(slots[chosen.slot].checkpoint(), Some(&chosen.checkpoint));
            assert!(chosen.doubtful < 4 && chosen.filled[chosen.slot] && !chosen.filled[3]);
            assert_eq!(chosen.unreadable, [false, false, true, false]);
        }
        Err(_) => assert_eq!(newest, None),
    }
}

fn record(sb: &Superblock, input: &[u8], offset: u32) -> [u8; BLOCK] {
    let mut b = [0; BLOCK];
    let n = input.len().min(BLOCK);
    b[..n].copy_from_slice(&input[..n]);
    check_record(sb, &b, offset);
    b[..4].copy_from_slice(b"WBrc");
    b[8..16].copy_from_slice(&NONCE.to_le_bytes());
    fix_checksum(&mut b, 4);
    check_record(sb, &b, offset);
    b
}

fn check_record(sb: &Superblock, b: &[u8; BLOCK], offset: u32) {
    let h = match RecordHeader::decode(b, sb, offset) {
        Ok(h) => h,
        Err(e) => return assert!(e.to_string().len() < 200),
    };
    let blocks = usize::from(h.blocks);
    assert!((1..=MAX_ENTRIES).contains(&blocks) && offset + 1 + u32::from(h.blocks) <= sb.segment_blocks);
    assert!(h.durable < h.seq && h.seq.since(h.durable) <= WINDOW);
    let mut same = *b;
    same[50..64].fill(0);
    for i in 0..blocks {
        same[64 + 12 * i + 6..][..2].fill(0);
        let e = RecordHeader::entry(b, i);
        for sector in (0..BLOCK_SECTORS).filter(|s| e.mask & 1 << s != 0) {
            assert!(e.addr.first_sector() + sector < sb.backing_sectors);
        }
    }
    same[64 + 12 * blocks..].fill(0);
    fix_checksum(&mut same, 4);
    let mut again = [0xaa; BLOCK];
    h.encode(&mut again, |i| RecordHeader::entry(b, i));
    assert!(again == same, "it is written as it was read");
    assert_eq!(RecordHeader::decode(&again, sb, offset), Ok(h));
}
