// SPDX-License-Identifier: GPL-2.0-only

//! The superblock: the first sector of a device, as it is and with magic, version and checksum put right.

use crate::fix_checksum;
use writeboost::format::{Invalid, Slot, Superblock, BLOCK_SECTORS, FIRST_BLOCK, MAX_BACKING_BLOCKS, SECTOR};

/// Bytes without meaning: zero when we write them, anything when we read them.
const FREE: [std::ops::Range<usize>; 2] = [60..64, 448..512];

/// The input is the sector; what is missing of it is zero.
pub fn run(input: &[u8]) {
    let mut b = [0; SECTOR];
    let n = input.len().min(SECTOR);
    b[..n].copy_from_slice(&input[..n]);
    check(&b);
    b[..8].copy_from_slice(b"WBoostSB");
    b[8..12].copy_from_slice(&1u32.to_le_bytes());
    fix_checksum(&mut b, 12);
    check(&b);
}

fn check(b: &[u8; SECTOR]) {
    let sb = match Superblock::decode(b) {
        Ok(sb) => sb,
        Err(e) => {
            assert_eq!(e == Invalid::Blank, b.iter().all(|&x| x == 0));
            assert!(e.to_string().len() < 200);
            return;
        }
    };
    let mut same = *b;
    for free in FREE {
        same[free].fill(0);
    }
    fix_checksum(&mut same, 12);
    assert_eq!(sb.encode(), same, "it is written as it was read");
    assert_eq!(Superblock::decode(&same).as_ref(), Ok(&sb));

    // What the host allocates and where it reads follow from these.
    let slots = u64::from(sb.nr_segments) * u64::from(sb.segment_blocks);
    assert!(slots <= u64::from(u32::MAX) && sb.first_block == FIRST_BLOCK);
    assert!(sb.backing_sectors > 0 && sb.backing_sectors <= MAX_BACKING_BLOCKS * BLOCK_SECTORS);
    let last = sb.slot_sector(Slot((slots - 1) as u32));
    assert_eq!(last + BLOCK_SECTORS, sb.cache_sectors());
    assert!(sb.cache_sectors() >= Superblock::min_cache_sectors(sb.segment_blocks));
    // A device that it fits is laid out just so.
    let new = Superblock::new(sb.cache_sectors(), sb.backing_sectors, sb.segment_blocks, sb.uuid, sb.nonce)
        .unwrap();
    assert_eq!(new.nr_segments, sb.nr_segments);
    // They are shown on terminals.
    let mut again = new;
    again.set_name(sb.name()).unwrap();
    again.set_backing_id(sb.backing_id()).unwrap();
    assert_eq!(again, sb);
    assert!(!sb.name().chars().chain(sb.backing_id().chars()).any(char::is_control));
}
