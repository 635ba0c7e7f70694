// SPDX-License-Identifier: GPL-2.0-only

//! Round trips, and input that decoders refuse.

use super::*;
use std::string::ToString;

fn sb() -> Superblock {
    let mut sb = Superblock::new(64 << 11, 1_000_001, 128, [7; 16], 42).unwrap();
    sb.set_name("perflv").unwrap();
    sb.set_backing_id("wwid:naa.5000").unwrap();
    sb
}

#[test]
fn superblock_round_trip_and_every_flipped_bit_is_seen() {
    let good = sb().encode();
    assert_eq!(Superblock::decode(&good), Ok(sb()));
    for bit in 0..SECTOR * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&bad).is_err(), "bit {bit}");
    }
    assert_eq!(Superblock::decode(&[0; SECTOR]), Err(Invalid::Blank));
}

#[test]
fn superblock_limits() {
    let min = Superblock::min_cache_sectors(128);
    assert!(Superblock::new(min, 8, 128, [0; 16], 0).is_ok());
    assert_eq!(Superblock::new(min - 1, 8, 128, [0; 16], 0), Err(Invalid::Field("nr_segments")));
    assert_eq!(Superblock::new(min, 0, 128, [0; 16], 0), Err(Invalid::Field("backing_sectors")));
    assert_eq!(Superblock::new(min, 8, 100, [0; 16], 0), Err(Invalid::Field("segment_blocks")));
    let most = MAX_BACKING_BLOCKS * BLOCK_SECTORS;
    assert!(Superblock::new(min, most, 128, [0; 16], 0).is_ok());
    assert_eq!(Superblock::new(min, most + 1, 128, [0; 16], 0), Err(Invalid::Field("backing_sectors")));
    // Slots up to the highest usable number of 32 bits.
    let huge = Superblock::new(1 << 40, 8, 128, [0; 16], 0).unwrap();
    assert_eq!(huge.nr_segments, (1 << 25) - 1);
    assert_eq!(Superblock::decode(&huge.encode()).as_ref(), Ok(&huge));
    let larger = Superblock { nr_segments: huge.nr_segments + 1, ..huge };
    assert_eq!(Superblock::decode(&larger.encode()), Err(Invalid::Field("nr_segments")));
}

#[test]
fn a_cache_device_is_used_up_to_its_last_whole_segment() {
    for segment_blocks in [16, 32, 64, 128, 256] {
        let segment = u64::from(segment_blocks) * BLOCK_SECTORS;
        let min = Superblock::min_cache_sectors(segment_blocks);
        assert_eq!(min, 2048 + 16 * segment);
        for more in [0, 1, segment - 1, segment, 5 * segment + 7] {
            let sb = Superblock::new(min + more, 8, segment_blocks, [0; 16], 0).unwrap();
            let used = min + more / segment * segment;
            assert_eq!(sb.cache_sectors(), used, "{segment_blocks} {more}");
            assert_eq!(sb.slot_sector(Slot(0)), 2048);
            assert_eq!(sb.slot_sector(Slot(sb.nr_segments * segment_blocks)), used);
        }
    }
}

#[test]
fn texts_are_what_was_set_up_to_the_last_byte() {
    let mut sb = Superblock::decode(&sb().encode()).unwrap();
    assert_eq!((sb.name(), sb.backing_id()), ("perflv", "wwid:naa.5000"));
    let (name, id) = ("n".repeat(NAME_LEN), "i".repeat(BACKING_ID_LEN));
    sb.set_name(&name).unwrap();
    sb.set_backing_id(&id).unwrap();
    let mut sb = Superblock::decode(&sb.encode()).unwrap();
    assert_eq!((sb.name(), sb.backing_id()), (&name[..], &id[..]));
    assert_eq!(sb.set_name(&(name.clone() + "n")), Err(Invalid::Field("name")));
    assert_eq!(sb.set_backing_id(&(id.clone() + "i")), Err(Invalid::Field("backing_id")));
    assert_eq!((sb.name(), sb.backing_id()), (&name[..], &id[..]));
    sb.set_name("").unwrap();
    assert_eq!(sb.name(), "");
}

#[test]
fn what_is_wrong_is_said() {
    for (invalid, words) in [
        (Invalid::Blank, &["blank"][..]),
        (Invalid::Magic, &["magic"]),
        (Invalid::Version(7), &["version 7", "version 1:"]),
        (Invalid::Checksum, &["checksum", "torn"]),
        (Invalid::Field("tail"), &["tail"]),
    ] {
        let text = invalid.to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    }
}

#[test]
fn text_that_a_terminal_would_obey_is_refused() {
    for (at, field) in [(64, "name"), (192, "backing_id")] {
        for text in [&b"a\x1b[2J"[..], b"a\nb", b"\xc2\x9b2J", b"a\0b", b"\xff"] {
            let mut b = sb().encode();
            b[at..at + 16].fill(0);
            put(&mut b, at, text);
            seal_sector(&mut b);
            assert_eq!(Superblock::decode(&b), Err(Invalid::Field(field)), "{text:?}");
        }
    }
    assert_eq!(sb().set_name("a\x1b[2J"), Err(Invalid::Field("name")));
    assert!(sb().set_backing_id("file:/srv/\u{e4} b.img").is_ok());
}

#[test]
fn checkpoint_round_trip_and_choice() {
    let sb = sb();
    let mut a = Checkpoint::first(42);
    a.generation = 6;
    a.durable = Seq(9);
    let b = Checkpoint { generation: 7, tail: Seq(10), ..a };
    assert_eq!(Checkpoint::decode(&a.encode(), &sb), Ok(a));
    let held = |sector: [u8; SECTOR]| Held::of(Some(&sector), &sb);
    let (blank, unreadable) = (held([0; SECTOR]), Held::of(None, &sb));
    assert_eq!([blank, unreadable], [Held::Blank, Held::Unreadable]);
    let choose = |slots: [Held; 2]| {
        let [a, b] = slots;
        let chosen = Checkpoint::choose(&[a, b, blank, blank])?;
        // The result does not depend on the slots.
        for slots in [[b, a, blank, blank], [blank, a, blank, b]] {
            let elsewhere = Checkpoint::choose(&slots).unwrap();
            assert_eq!(slots[elsewhere.slot].checkpoint(), Some(&chosen.checkpoint));
            assert_eq!((elsewhere.checkpoint, elsewhere.doubtful), (chosen.checkpoint, chosen.doubtful));
        }
        Ok::<_, Invalid>((chosen.checkpoint, chosen.slot, chosen.doubtful))
    };
    let is_a = held(a.encode());
    assert_eq!(choose([is_a, held(b.encode())]), Ok((b, 1, 0)));
    let mut torn = b.encode();
    torn[100] ^= 1;
    let is_torn = held(torn);
    assert_eq!(choose([is_a, is_torn]), Ok((a, 0, 1)));
    assert_eq!(choose([unreadable, is_a]), Ok((a, 1, 1)));
    // A checkpoint that was written is gone.
    assert_eq!(choose([blank, is_a]), Ok((a, 1, 1)));
    let first = Checkpoint::first(42);
    assert_eq!(choose([held(first.encode()), blank]), Ok((first, 0, 0)));
    assert_eq!(choose([blank; 2]), Err(Invalid::Blank));
    assert_eq!(choose([unreadable, is_torn]), Err(Checkpoint::decode(&torn, &sb).unwrap_err()));
    let lost = Checkpoint::choose(&[unreadable, is_torn, is_a, unreadable]).unwrap();
    assert_eq!((lost.slot, lost.doubtful, lost.unreadable), (2, 3, [true, false, false, true]));
    let foreign = Checkpoint { nonce: 1, ..a };
    assert_eq!(Checkpoint::decode(&foreign.encode(), &sb), Err(Invalid::Field("nonce")));
    // A checkpoint without a superblock still counts; a torn one does not.
    assert_eq!(Checkpoint::orphan(&foreign.encode()), Some(foreign));
    assert_eq!(Checkpoint::orphan(&torn), None);
    assert_eq!(Checkpoint::orphan(&sb.encode()), None);
}

#[test]
fn what_a_format_may_overwrite() {
    let blank = std::vec![0; Start::BYTES];
    assert_eq!(Start::of(&blank), Start { orphan: None, used: None });
    // Data at any place: where ext4, LVM, btrfs and swap have some, and in the last byte.
    for byte in
        [1024 + 56, 512, 65536 + 64, 4086, CHECKPOINT_BLOCKS[0] as usize * BLOCK + 700, Start::BYTES - 1]
    {
        let mut b = blank.clone();
        b[byte] = 1;
        assert_eq!(Start::of(&b), Start { orphan: None, used: Some((byte / SECTOR) as u64) }, "{byte}");
        b[0] = 1;
        assert_eq!(Start::of(&b).used, Some(0));
    }
    let slot = |g: u64| CHECKPOINT_BLOCKS[g as usize % 4] as usize * BLOCK;
    let mut b = blank.clone();
    put(&mut b, slot(0), &Checkpoint::first(42).encode());
    assert_eq!(Start::of(&b), Start { orphan: Some(Checkpoint::first(42)), used: None });
    for generations in [[7, 8], [8, 7]] {
        for g in generations {
            put(&mut b, slot(g), &Checkpoint { generation: g, ..Checkpoint::first(42) }.encode());
        }
        assert_eq!(Start::of(&b).orphan.map(|c| c.generation), Some(8));
    }
    // A checkpoint that is torn, or in another place, does not count.
    b[slot(7) + 16] ^= 1;
    assert_eq!(Start::of(&b).used, Some((slot(7) / SECTOR) as u64));
    b[slot(7)..slot(7) + SECTOR].fill(0);
    put(&mut b, 3 * BLOCK, &Checkpoint::first(42).encode());
    assert_eq!(Start::of(&b).used, Some(24));
    // A smaller device.
    assert_eq!(Start::of(&b[..2 * BLOCK]).used, None);
    assert_eq!(Start::of(&[0; 100]), Start { orphan: None, used: None });
}

#[test]
fn uuids_are_shown_in_groups() {
    let mut b = [0; 16];
    (0..16).for_each(|i| b[i] = 0xa0 + i as u8);
    assert_eq!(Uuid(b).to_string(), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
}

#[test]
fn a_device_with_a_superblock_is_known_by_it() {
    let mut b = sb().encode();
    assert!(Superblock::is_in(&b));
    // Of any version, and damaged.
    for byte in [8, 12, 100] {
        b[byte] ^= 1;
        assert!(Superblock::is_in(&b) && Superblock::decode(&b).is_err());
    }
    assert!(!Superblock::is_in(&[0; SECTOR]) && !Superblock::is_in(&Checkpoint::first(1).encode()));
}

#[test]
fn checkpoint_limits() {
    let sb = sb();
    let most = 1 << 62;
    let good = Checkpoint { tail: Seq(5), durable: Seq(7), ..Checkpoint::first(42) };
    let check = |cp: Checkpoint, field: Option<&'static str>| {
        let expected = field.map_or(Ok(cp), |f| Err(Invalid::Field(f)));
        assert_eq!(Checkpoint::decode(&cp.encode(), &sb), expected);
    };
    for cp in [
        Checkpoint { tail: Seq(1), durable: Seq(0), ..good },
        Checkpoint { tail: Seq(8), ..good },
        Checkpoint { durable: Seq(most), ..good },
        Checkpoint { tail: Seq(most), durable: Seq(most), ..good },
        Checkpoint { epoch_start: Seq(1), epoch: 0, generation: 0, ..good },
        Checkpoint { epoch_start: Seq(most), ..good },
        Checkpoint { epoch: most, ..good },
        Checkpoint { generation: most, ..good },
        Checkpoint { tail_segment: Segment(sb.nr_segments - 1), ..good },
    ] {
        check(cp, None);
    }
    for cp in [
        Checkpoint { tail: Seq(0), ..good },
        Checkpoint { tail: Seq(9), ..good },
        Checkpoint { durable: Seq(most + 1), ..good },
        Checkpoint { durable: Seq(u64::MAX), ..good },
        Checkpoint { tail: Seq(most + 1), durable: Seq(most), ..good },
        Checkpoint { tail: Seq(u64::MAX), durable: Seq(most), ..good },
    ] {
        check(cp, Some("tail"));
    }
    for cp in [
        Checkpoint { epoch_start: Seq(0), ..good },
        Checkpoint { epoch_start: Seq(most + 1), ..good },
        Checkpoint { epoch: most + 1, ..good },
        Checkpoint { generation: most + 1, ..good },
        Checkpoint { epoch_start: Seq(u64::MAX), epoch: u64::MAX, generation: u64::MAX, ..good },
    ] {
        check(cp, Some("epoch"));
    }
    check(Checkpoint { tail_segment: Segment(sb.nr_segments), ..good }, Some("tail_segment"));
}

#[test]
fn record_header_round_trip_and_ranges() {
    let sb = sb();
    let h = RecordHeader { nonce: 42, seq: Seq(70), epoch: 3, durable: Seq(60), tail: Seq(2), blocks: 127 };
    let entry =
        |i: usize| Entry { addr: Block(i as u64 * 900), mask: 0xff >> (i % 8), crc: i as u32 ^ 0xdead_beef };
    let mut b = [0xaa; BLOCK];
    h.encode(&mut b, entry);
    assert_eq!(RecordHeader::decode(&b, &sb, 0), Ok(h));
    for i in 0..127 {
        assert_eq!(RecordHeader::entry(&b, i), entry(i));
    }
    assert_eq!(RecordHeader::decode(&b, &sb, 1), Err(Invalid::Field("blocks")));
    // The end of a segment of 128 blocks, where a record of so many blocks still fits or not.
    for (blocks, offset, fits) in [(0, 0, false), (1, 126, true), (1, 127, false), (1, 128, false)] {
        RecordHeader { blocks, ..h }.encode(&mut b, entry);
        assert_eq!(RecordHeader::decode(&b, &sb, offset).is_ok(), fits, "{blocks} at {offset}");
    }
    for (durable, good) in [(5, false), (6, true), (69, true), (70, false), (71, false)] {
        let h = RecordHeader { durable: Seq(durable), ..h };
        h.encode(&mut b, entry);
        let expected = if good { Ok(h) } else { Err(Invalid::Field("durable")) };
        assert_eq!(RecordHeader::decode(&b, &sb, 0), expected);
    }
    // 1,000,001 sectors: block 125,000 has one sector only.
    h.encode(&mut b, |_| Entry { addr: Block(125_000), mask: 1, crc: 0 });
    assert!(RecordHeader::decode(&b, &sb, 0).is_ok());
    h.encode(&mut b, |_| Entry { addr: Block(125_000), mask: 2, crc: 0 });
    assert_eq!(RecordHeader::decode(&b, &sb, 0), Err(Invalid::Field("mask")));
    h.encode(&mut b, |_| Entry { addr: Block(125_001), mask: 1, crc: 0 });
    assert_eq!(RecordHeader::decode(&b, &sb, 0), Err(Invalid::Field("addr")));
    // Without a superblock only format and sequence number are checked.
    assert!(RecordHeader::is_of(&b, 42, Seq(70)));
    assert!(!RecordHeader::is_of(&b, 41, Seq(70)) && !RecordHeader::is_of(&b, 42, Seq(71)));
    for at in [0, BLOCK - 1] {
        b[at] ^= 1;
        assert!(!RecordHeader::is_of(&b, 42, Seq(70)));
        b[at] ^= 1;
    }
    let mut other = b;
    other[..4].copy_from_slice(b"WBrd");
    let crc = crc_without(&other, RECORD_CRC);
    put(&mut other, RECORD_CRC, &crc.to_le_bytes());
    assert!(!RecordHeader::is_of(&other, 42, Seq(70)));
}
