// SPDX-License-Identifier: GPL-2.0-only

//! The scenarios in which logs like this one lose data, step by step, each with its fault.

mod sim;

use sim::disk::{AWAY, MEDIUM};
use sim::host::{checkpoint_sector, filled, Host, SEGMENT_BLOCKS};
use sim::rng::Rng;
use writeboost::engine::checks::Verdict;
use writeboost::engine::log::{Io, Refused, Wait};
use writeboost::engine::map::{Cell, Span};
use writeboost::engine::places::{Opening, Unwritable};
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::{Batch, Item, Planned, Relocation};
use writeboost::engine::replay::{self, Damage, Replay, Want, FEW};
use writeboost::engine::{Entry, RESERVED_SEGMENTS};
use writeboost::format::{
    Block, Checkpoint, Held, RecordHeader, Segment, Seq, Slot, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS,
    SECTOR, WINDOW,
};
use writeboost::host::crc32c;
use writeboost::policy::lost::{Around, Loss, Lost, Near, Sight, Word};
use writeboost::policy::writeback::{part_end, Lanes, Stage};

fn host() -> Host {
    Host::new(16, 16_000)
}

fn is_fua(io: &Io) -> bool {
    matches!(io, Io::Record { fua: true, .. })
}

// Leftovers.

#[test]
fn a_leftover_behind_a_gap_stays_unreachable() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    // Segment 1: record 2 is lost while it is written, and record 3, which fills the segment, reaches the
    // disk.
    h.write(100, 3, 2);
    h.engine.flush();
    assert_eq!(h.poll().len(), 1);
    h.write(200, 11, 3);
    let three = h.poll();
    assert!(matches!(three[..], [Io::Record { seq: Seq(3), fua: false, .. }]), "{three:?}");
    let (sector, bytes) = h.bytes_of(&three[0]);
    h.cache.write(sector, &bytes, true);
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(1));
    // This record is exactly as large as the lost one, and in the same place: the old record 3 lies right
    // behind it.
    h.write(300, 3, 4);
    h.flush();
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(2));
    assert_eq!([h.read(100), h.read(200), h.read(300)], [0, 0, 4]);
}

#[test]
fn a_spoilt_record_does_not_come_back_when_its_number_is_known_durable() {
    let mut h = host();
    h.write(0, 2, 1);
    h.flush();
    // The header of record 2 reaches the disk, its data do not.
    h.write(10, 3, 2);
    h.engine.flush();
    let io = h.poll();
    let (sector, bytes) = h.bytes_of(&io[0]);
    h.cache.write(sector, &bytes[..BLOCK], true);
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(1));
    h.write(10, 3, 3);
    h.write(20, 3, 3);
    h.flush();
    // At the first resume the epoch excludes it; at the next its number is older than the epoch.
    for _ in 0..4 {
        h.crash().unwrap();
        assert_eq!(h.engine.state().newest, Seq(2));
        assert_eq!([h.read(0), h.read(10), h.read(20)], [1, 3, 3]);
    }
    // The same holds when more follows in several epochs, some of it in the same way.
    for n in 4..10 {
        h.write(n * 10, 2, n);
        h.flush();
        h.write(0, 1, n);
        h.engine.flush();
        let io = h.poll();
        let (sector, bytes) = h.bytes_of(&io[0]);
        h.cache.write(sector, &bytes[..BLOCK], true);
        h.crash().unwrap();
    }
    h.resume().unwrap();
    assert_eq!(h.engine.state().newest, Seq(8));
    assert_eq!([h.read(0), h.read(10), h.read(40), h.read(90)], [1, 3, 4, 9]);
}

#[test]
fn only_an_acceptable_header_of_a_later_epoch_makes_another_one_a_leftover() {
    let mut h = host();
    for _ in 0..3 {
        h.crash().unwrap();
    }
    h.write(0, 2, 1);
    h.flush();
    h.write(10, 2, 2);
    h.flush();
    let epoch = h.engine.epoch();
    h.crash().unwrap();
    h.crash().unwrap();
    let cp = h.checkpoint();
    assert_eq!((cp.epoch, cp.epoch_start), (epoch + 2, Seq(3)));
    let block = 5u64.to_le_bytes().repeat(BLOCK / 8);
    for other in epoch - 1..=epoch + 2 {
        // The number of record 2 again, at the start of the next segment, for another block.
        let header = RecordHeader {
            nonce: cp.nonce,
            seq: Seq(2),
            epoch: other,
            durable: Seq(1),
            tail: Seq(1),
            blocks: 1,
        };
        let mut bytes = [0; BLOCK];
        header.encode(&mut bytes, |_| Entry { addr: Block(20), mask: 0xff, crc: crc32c(0, &block) });
        h.cache.poke(h.sector_of(Slot(SEGMENT_BLOCKS)), &bytes);
        h.cache.poke(h.sector_of(Slot(SEGMENT_BLOCKS + 1)), &block);
        let (replay, _) = h.replay().unwrap();
        h.engine = replay.finish().0;
        assert_eq!(h.engine.state().newest, Seq(2));
        let found = [h.read(10), h.read(20)];
        assert_eq!(found, if other == epoch + 1 { [0, 5] } else { [2, 0] }, "{other} beside {epoch}");
    }
}

// Replay.

#[test]
fn a_torn_checkpoint_leaves_the_one_before() {
    let mut h = host();
    for n in 0..8 {
        h.write(n * 15, 15, n + 1);
        h.pump();
    }
    h.flush();
    h.write_back();
    let cp = h.engine.advance_tail(false).unwrap();
    assert_ne!(cp.block(), h.checkpoint().block());
    h.cache.poke(cp.block() * BLOCK_SECTORS, &[0x5a; SECTOR]);
    h.crash().unwrap();
    assert_eq!(h.engine.state().tail, Seq(1));
    for n in 0..8 {
        assert_eq!(h.read(n * 15 + 14), n + 1);
    }
    let held = Held::of(Some(&[0x5a; SECTOR]), &h.sb);
    assert!(Checkpoint::choose(&[held; CHECKPOINT_BLOCKS.len()]).is_err());
}

#[test]
fn a_checkpoint_that_is_older_than_the_log_is_refused() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let older = h.checkpoint();
    h.crash().unwrap();
    // Durable, in an epoch that only the checkpoints of the resume know.
    h.write(20, 2, 2);
    h.flush();
    let newest = h.checkpoint();
    h.cache.poke(CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS, &[0x5a; SECTOR]);
    h.cache.poke(CHECKPOINT_BLOCKS[1] * BLOCK_SECTORS, &older.encode());
    assert!(h.checkpoint().epoch < newest.epoch);
    assert_eq!(h.crash(), Err(Damage::Outdated { expected: Seq(2) }));
}

#[test]
fn a_log_that_ends_too_early_is_refused() {
    let mut h = host();
    h.write(0, 2, 1);
    h.flush();
    let claims = h.write(10, 2, 2);
    h.flush();
    // The checkpoint of the resume knows both.
    h.crash().unwrap();
    h.cache.poke(h.sector_of(claims[0].slot.minus(1)), &[0; SECTOR]);
    assert_eq!(h.crash(), Err(Damage::Short { end: Seq(2), durable: Seq(2) }));
}

#[test]
fn a_header_knows_that_the_record_before_was_durable() {
    let mut h = host();
    h.write(0, 15, 1);
    let first = h.flush();
    h.write(20, 15, 2);
    h.flush();
    h.write(40, 15, 3);
    h.flush();
    let (sector, _) = h.bytes_of(&first[0]);
    // Record 1 is gone, and record 2 is not read: its segment is not the next one.
    h.cache.poke(sector, &[0; SECTOR]);
    assert_eq!(h.crash(), Ok(()), "no header and no checkpoint says otherwise");
    // But a later record in the place of the expected one says so.
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    h.write(20, 15, 2);
    let second = h.flush();
    let (_, bytes) = h.bytes_of(&second[0]);
    h.cache.poke(h.sector_of(Slot(0)), &bytes);
    assert_eq!(h.crash(), Err(Damage::Overwritten { expected: Seq(1), found: Seq(2) }));
}

#[test]
fn a_log_without_an_end_is_refused() {
    let mut h = host();
    for seq in 1..=16 {
        let header = RecordHeader {
            nonce: h.sb.nonce,
            seq: Seq(seq),
            epoch: h.checkpoint().epoch,
            durable: Seq(seq - 1),
            tail: Seq(1),
            blocks: 15,
        };
        let mut block = [0; BLOCK];
        header.encode(&mut block, |i| Entry { addr: Block(i as u64), mask: 0xff, crc: 0 });
        h.cache.poke(h.sector_of(Slot((seq as u32 - 1) * SEGMENT_BLOCKS)), &block);
    }
    assert_eq!(h.crash(), Err(Damage::Endless));
}

#[test]
fn data_are_checked_of_what_is_not_known_durable() {
    for (spoilt, newest) in [(1, Seq(3)), (2, Seq(1)), (3, Seq(2))] {
        let mut h = host();
        let mut slots = vec![Slot(0)];
        slots.push(h.write(0, 15, 1)[0].slot);
        h.flush();
        for n in 2..4 {
            slots.push(h.write(n * 20, 15, n)[0].slot);
            let io = h.poll();
            h.complete(&io[0]);
        }
        assert_eq!(h.engine.durable(), Seq(1));
        // All records reach the disk.
        h.cache.flush(h.cache.mark());
        let mut sector = h.cache.read(h.sector_of(slots[spoilt].plus(14)), 1).to_vec();
        sector[100] ^= 1;
        h.cache.poke(h.sector_of(slots[spoilt].plus(14)), &sector);
        h.crash().unwrap();
        assert_eq!(h.engine.state().newest, newest);
        if spoilt == 1 {
            // The data were promised and stay in the log; a reader notices the wrong checksum.
            let slot = slots[1].plus(14);
            let block = h.cache.read(h.sector_of(slot), BLOCK_SECTORS);
            assert_ne!(crc32c(0, &block), h.engine.checks().checksum(slot));
        }
    }
}

#[test]
fn a_full_log_is_resumed_and_makes_room() {
    let mut h = host();
    let mut n = 0;
    while h.write_sectors(n * 15 * BLOCK_SECTORS, 15 * BLOCK_SECTORS, n + 1).is_ok() {
        n += 1;
        h.pump();
    }
    assert_eq!(n, u64::from(16 - RESERVED_SEGMENTS));
    h.flush();
    for _ in 0..3 {
        h.crash().unwrap();
        assert_eq!(h.engine.state().dirty, n * 15);
        assert_eq!(h.engine.claim(1), Err(Refused::Wait(Wait::Space)));
        for i in 0..n {
            assert_eq!(h.read(i * 15 + 7), i + 1);
        }
    }
    h.write_back();
    assert_eq!(h.engine.claim(1), Err(Refused::Wait(Wait::Space)), "nothing is free before the checkpoint");
    h.move_tail(false);
    h.write(0, 15, 1000);
    assert_eq!([h.read(0), h.read(15)], [1000, 2]);
}

#[test]
fn a_torn_header_of_more_than_a_sector_is_none() {
    let mut h = Host::with_segments_of(64, 16, 16_000);
    // The record in the place of the torn one: as large, with the same data, of other blocks.
    let old = h.write(0, 63, 1)[0].slot;
    h.flush();
    h.write(40, 1, 2);
    h.drain();
    // Until the log comes round to that place.
    while h.checkpoint().tail_segment != Segment(0) {
        h.write(1000, 63, 3);
        h.drain();
    }
    assert_eq!(h.write(100, 63, 1)[0].slot, old);
    let io = h.poll();
    let (sector, bytes) = h.bytes_of(&io[0]);
    let mut torn = h.cache.read(sector, bytes.len() as u64 / SECTOR as u64).to_vec();
    assert_ne!(torn[SECTOR..BLOCK], bytes[SECTOR..BLOCK]);
    assert_eq!(torn[BLOCK..], bytes[BLOCK..]);
    torn[..SECTOR].copy_from_slice(&bytes[..SECTOR]);
    let newest = h.engine.durable();
    h.cache.write(sector, &torn, true);
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, newest);
    // One block of the old record has been written again since.
    assert_eq!([h.read(40), h.read(100)], [2, 0]);
}

#[test]
fn a_missing_record_is_not_jumped_over() {
    let mut h = host();
    h.write(0, 3, 1);
    h.flush();
    // Four records, none of which knows that another is durable; then a checkpoint that knows it of all but
    // the last.
    let lost = h.write(10, 11, 2)[0].slot;
    h.write(30, 15, 3);
    h.write(50, 15, 4);
    let io = h.poll();
    assert_eq!(io.len(), 3);
    h.complete(&io[0]);
    h.complete(&io[1]);
    h.engine.want(Seq(3));
    let flush = h.poll();
    assert!(matches!(flush[..], [Io::Flush { upto: Seq(3) }]), "{flush:?}");
    h.complete(&flush[0]);
    let cp = h.engine.note_durable().unwrap();
    h.write_checkpoint(&cp);
    h.complete(&io[2]);
    h.cache.flush(h.cache.mark());
    h.cache.poke(h.sector_of(lost.minus(1)), &[0x5a; SECTOR]);
    assert_eq!(h.crash(), Err(Damage::Short { end: Seq(2), durable: Seq(3) }));
}

#[test]
fn replay_reads_no_more_than_it_must() {
    let mut h = host();
    // Three records fill segment 0; behind the one in segment 1 there is a block, in which no record can
    // begin.
    for (addr, blocks) in [(0, 3), (10, 5), (20, 5), (40, 14), (60, 2), (70, 2)] {
        h.write(addr, blocks, 1);
        h.flush();
    }
    let (replay, reads) = h.replay().unwrap();
    assert_eq!(replay.progress(), (6, Seq(7)));
    // The header behind each record, else that of the next segment; and the data of the last record, which is
    // not known to be durable.
    let headers = [(0, 1), (4, 1), (10, 1), (16, 1), (32, 1), (35, 1), (38, 1), (48, 1)];
    assert_eq!(reads, [&headers[..], &[(36, 2)]].concat());
    h.crash().unwrap();
    // A segment of earlier epochs may end with a leftover. Where more records of those epochs can follow, the
    // start of the next segment decides.
    let ahead = [&headers[..1], &[(16, 1)], &headers[1..5], &[(48, 1)], &headers[5..]].concat();
    let (replay, reads) = h.replay().unwrap();
    assert_eq!((replay.progress(), &reads), ((6, Seq(7)), &ahead));
    h.write(80, 2, 2);
    h.flush();
    let (replay, reads) = h.replay().unwrap();
    assert_eq!(replay.progress(), (7, Seq(8)));
    assert_eq!(reads, [&ahead[..], &[(51, 1), (64, 1), (49, 2)]].concat());
    h.crash().unwrap();
    // The numbers of this epoch were not given before.
    assert_eq!(h.replay().unwrap().1, [&ahead[..], &[(51, 1), (64, 1)]].concat());
}

#[test]
fn damage_says_what_is_damaged() {
    for (damage, words) in [
        (
            Damage::Unreadable { end: Seq(39), durable: Seq(40), slot: Slot(17) },
            &["record 39", "slot 17", "up to 40"][..],
        ),
        (Damage::Short { end: Seq(41), durable: Seq(42) }, &["record 41 is missing", "up to 42"][..]),
        (Damage::Overwritten { expected: Seq(43), found: Seq(44) }, &["record 44", "where record 43"]),
        (Damage::Outdated { expected: Seq(45) }, &["newest checkpoint", "record 45"]),
        (Damage::Endless, &["no end"]),
        (Damage::Exhausted, &["higher than any log"]),
    ] {
        let text = damage.to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    }
}

#[test]
fn a_log_that_has_counted_too_far_is_refused() {
    // Half of the highest number that a checkpoint can hold: all numbers that follow fit too.
    let most = 1 << 61;
    let h = host();
    let now = h.checkpoint();
    for n in [most, most + 1] {
        for cp in [
            Checkpoint { generation: n, ..now },
            Checkpoint { epoch: n, ..now },
            Checkpoint { tail: Seq(n), durable: Seq(n - 1), ..now },
        ] {
            assert_eq!(Checkpoint::decode(&cp.encode(), &h.sb), Ok(cp));
            let mut replay = Replay::new(&h.sb, cp, 1).unwrap();
            let mut fed = Ok(());
            while fed.is_ok() && replay.want() != Want::Flush {
                fed = replay.feed(&[0; BLOCK]);
            }
            assert_eq!(fed, if n == most { Ok(()) } else { Err(Damage::Exhausted) }, "{cp:?}");
            assert_eq!(replay::is_empty(&h.sb, &cp, &[0; BLOCK]), n == most, "{cp:?}");
            if n == most {
                let next = replay.finish().1;
                assert_eq!(Checkpoint::decode(&next.encode(), &h.sb), Ok(next));
            }
        }
    }
}

/// Whether the log looks empty from its first block alone. A log with records must not look so.
fn looks_empty(h: &Host, cp: &Checkpoint) -> bool {
    let block = h.cache.read(h.sector_of(cp.tail_segment.first_slot(h.sb.segment_blocks)), BLOCK_SECTORS);
    replay::is_empty(&h.sb, cp, block[..].first_chunk().unwrap())
}

#[test]
fn an_empty_log_is_told_from_its_first_block() {
    let mut h = host();
    assert!(looks_empty(&h, &h.checkpoint()));
    h.write(0, 2, 1);
    let io = h.pump();
    assert!(io.is_empty() && looks_empty(&h, &h.checkpoint()), "nothing is on the device yet");
    h.flush();
    assert!(!looks_empty(&h, &h.checkpoint()), "there is a record");
    h.crash().unwrap();
    assert!(!looks_empty(&h, &h.checkpoint()), "the checkpoint knows of it");
    // The checkpoint would know, even if the record had gone.
    let known = h.checkpoint();
    assert_eq!((known.tail, known.durable), (Seq(1), Seq(1)));
    assert!(!replay::is_empty(&h.sb, &known, &[0; BLOCK]));
    // At the tail of a log that has come round lie old records.
    let mut leftovers = 0;
    for n in 0..40 {
        h.write(n, 15, 2 + n);
        h.flush();
        assert!(!looks_empty(&h, &h.checkpoint()));
        if n % 7 == 0 {
            h.crash().unwrap();
        }
        h.drain();
        let cp = h.checkpoint();
        assert!(looks_empty(&h, &cp));
        let block = h.cache.read(h.sector_of(cp.tail_segment.first_slot(SEGMENT_BLOCKS)), BLOCK_SECTORS);
        if let Ok(old) = RecordHeader::decode(block[..].first_chunk().unwrap(), &h.sb, 0) {
            assert!(old.seq < cp.tail);
            leftovers += 1;
            // A record of a later epoch is no leftover: it shows that the checkpoint is old.
            assert!(looks_empty(&h, &Checkpoint { epoch: old.epoch, ..cp }));
            assert!(!looks_empty(&h, &Checkpoint { epoch: old.epoch - 1, ..cp }));
        }
    }
    assert!(leftovers > 10, "{leftovers}");
}

// Commits.

#[test]
fn a_lone_fua_write_is_one_write_and_no_flush() {
    let mut h = host();
    for n in 1..5 {
        let seq = h.write(n, 1, n)[0].seq;
        h.engine.want(seq);
        let io = h.pump();
        assert!(matches!(io[..], [Io::Record { blocks: 2, fua: true, .. }]), "{io:?}");
        assert_eq!(h.engine.durable(), seq);
        assert_eq!(h.engine.state().partial_records, 1);
        h.crash().unwrap();
        assert_eq!(h.read(n), n);
    }
}

#[test]
fn fua_is_not_enough_when_older_records_are_not_durable() {
    let mut h = host();
    h.write(0, 15, 1);
    let first = h.poll();
    h.complete(&first[0]);
    let seq = h.write(20, 1, 2)[0].seq;
    h.engine.want(seq);
    let io = h.pump();
    assert!(matches!(io[..], [Io::Record { fua: false, .. }, Io::Flush { upto: Seq(2) }]), "{io:?}");
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(20)], [1, 2]);
}

#[test]
fn nobody_pays_for_a_flush_that_nobody_asked_for() {
    let mut h = host();
    for n in 1..=3 * WINDOW {
        h.write(n % 8, 1, n);
        // A number above the newest record means the newest record.
        h.engine.want(if n % 2 == 0 { Seq::MAX } else { Seq(n) });
        assert!(matches!(h.pump()[..], [Io::Record { fua: true, .. }]));
        assert_eq!(h.engine.durable(), h.engine.state().newest);
        h.write_back();
        h.move_tail(false);
    }
    assert_eq!(h.engine.state().partial_records + h.engine.state().newest.0 / 8, 3 * WINDOW);
    // A record is sent when it is full, and stays in the device's write cache.
    for n in 0..3 {
        h.write(100 * n, 15, 1);
        let io = h.pump();
        assert!(io.iter().all(|io| matches!(io, Io::Record { fua: false, .. })), "{io:?}");
    }
    assert_eq!(h.engine.durable(), Seq(3 * WINDOW));
}

#[test]
fn a_record_that_is_under_way_is_not_written_though_one_in_its_place_was() {
    let mut h = host();
    // As many records as the window has, and some more: each further one takes the place of one that was
    // written long ago.
    for n in 1..=WINDOW + 10 {
        h.write(0, 14, n);
        h.flush();
        h.write_back();
        h.move_tail(false);
    }
    for n in 0..10 {
        h.write(100, 1, n);
        let seq = h.engine.flush();
        let first = h.poll();
        assert!(matches!(first[..], [Io::Record { fua: true, .. }]), "{first:?}");
        assert!(h.engine.durable() < seq);
        // The next commit cannot go by FUA alone.
        h.write(200, 15, n);
        h.engine.flush();
        let more = h.poll();
        assert!(more.iter().all(|io| matches!(io, Io::Record { fua: false, .. })), "{more:?}");
        more.iter().for_each(|io| h.complete(io));
        assert_eq!(h.poll(), []);
        h.complete(&first[0]);
        assert_eq!(h.engine.durable(), seq);
        h.pump();
        assert_eq!(h.engine.durable(), h.engine.state().newest);
        h.write_back();
        h.move_tail(false);
    }
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(100), h.read(214)], [WINDOW + 10, 9, 9]);
}

#[test]
fn what_a_failed_flush_may_have_lost_can_be_written_again() {
    let mut h = host();
    for n in 1..4 {
        h.write(0, 2, n);
        h.flush();
        h.crash().unwrap();
    }
    let durable = h.engine.durable();
    h.write(0, 15, 10);
    h.write(20, 3, 11);
    h.engine.flush();
    let records = h.poll();
    assert!(records.len() == 2 && !records.iter().any(is_fua), "{records:?}");
    h.complete(&records[0]);
    let place = |io: &Io| match *io {
        Io::Record { slot, blocks, .. } => Some((slot, blocks)),
        Io::Flush { .. } => None,
    };
    let volatile =
        |h: &Host| (0..=durable.0 + WINDOW).map(|n| h.engine.volatile_record(Seq(n))).collect::<Vec<_>>();
    let mut expected = vec![None; (durable.0 + WINDOW) as usize + 1];
    expected[durable.0 as usize + 1] = place(&records[0]);
    assert_eq!(volatile(&h), expected, "neither what is durable nor what is under way");
    h.complete(&records[1]);
    expected[durable.0 as usize + 2] = place(&records[1]);
    assert_eq!(volatile(&h), expected);
    // The device loses these records, with or without saying so. It is written exactly what the engine gives
    // back.
    for (slot, blocks) in expected.iter().flatten() {
        let (sector, sectors) = (h.sector_of(*slot), u64::from(*blocks) * BLOCK_SECTORS);
        let record = h.cache.read(sector, sectors).to_vec();
        let header = record.first_chunk::<BLOCK>().unwrap();
        let decoded = RecordHeader::decode(header, &h.sb, slot.offset(SEGMENT_BLOCKS)).unwrap();
        assert_eq!((decoded.epoch, u32::from(decoded.blocks) + 1), (h.engine.epoch(), *blocks));
        h.cache.write(sector, &record, true);
    }
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(14), h.read(22)], [10, 10, 11]);
    assert!(volatile(&h).iter().all(Option::is_none));
}

#[test]
fn flushes_during_a_commit_share_the_next_one() {
    let mut h = host();
    h.write(0, 1, 1);
    h.engine.flush();
    let first = h.poll();
    assert!(first.len() == 1 && is_fua(&first[0]));
    let mut wanted = Vec::new();
    for n in 2..9 {
        h.write(n, 1, n);
        wanted.push(h.engine.flush());
        assert_eq!(h.poll(), []);
    }
    h.complete(&first[0]);
    let second = h.pump();
    assert!(matches!(second[..], [Io::Record { seq: Seq(2), blocks: 8, fua: true, .. }]), "{second:?}");
    assert!(wanted.iter().all(|&w| w <= h.engine.durable()));
}

#[test]
fn a_commit_leaves_open_what_it_does_not_need() {
    let mut h = host();
    let seq = h.write(0, 15, 1)[0].seq;
    let open = h.write(20, 1, 2)[0];
    h.engine.want(seq);
    assert!(matches!(h.pump()[..], [Io::Record { seq: Seq(1), fua: true, .. }]));
    let more = h.write(30, 1, 3)[0];
    assert_eq!((more.seq, more.slot), (open.seq, open.slot.plus(1)));
    h.flush();
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(20), h.read(30)], [1, 2, 3]);
}

#[test]
fn a_commit_waits_for_who_still_copies() {
    let mut h = host();
    let claim = h.engine.claim(1).unwrap();
    let seq = h.engine.flush();
    assert_eq!(h.poll(), []);
    assert!(h.engine.durable() < seq);
    h.copy(&claim, 0, 8, 5);
    assert_eq!(h.pump().len(), 1);
    assert_eq!(h.engine.durable(), seq);
}

#[test]
fn a_failed_record_acknowledges_nothing_any_more() {
    let mut h = host();
    h.write(0, 1, 1);
    h.flush();
    h.write(0, 1, 2);
    let seq = h.engine.flush();
    let io = h.poll();
    h.engine.record_done(seq, is_fua(&io[0]), false);
    assert!(h.engine.failed() && h.engine.check().is_err());
    assert_eq!(h.engine.claim(1), Err(Refused::Failed));
    assert_eq!(h.engine.poll(), None);
    assert!(h.engine.durable() < seq);
    assert!(h.engine.advance_tail(true).is_none());
    assert_eq!(h.read(0), 2, "what is in RAM can still be read");
    h.crash().unwrap();
    assert_eq!(h.read(0), 1);
}

#[test]
fn what_follows_a_failed_record_is_not_durable() {
    let mut h = host();
    for n in 0..3 {
        h.write(n * 15, 15, n + 1);
    }
    let seq = h.engine.flush();
    let io = h.poll();
    assert_eq!(io.len(), 3);
    h.complete(&io[2]);
    h.engine.record_done(Seq(2), false, false);
    h.complete(&io[0]);
    assert_eq!(h.engine.poll(), None);
    assert_eq!((h.engine.durable(), seq), (Seq::NONE, Seq(3)));
    h.cache.flush(h.cache.mark());
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(1));
}

#[test]
fn a_failed_flush_acknowledges_nothing_any_more() {
    let mut h = host();
    h.write(0, 15, 1);
    h.write(15, 15, 2);
    let seq = h.engine.flush();
    let io = h.poll();
    h.complete(&io[0]);
    h.complete(&io[1]);
    assert_eq!(h.poll(), [Io::Flush { upto: Seq(2) }]);
    h.engine.flush_done(Seq(2), false);
    assert!(h.engine.failed() && h.engine.durable() < seq);
    assert_eq!(h.engine.poll(), None);
}

#[test]
fn a_failed_checkpoint_frees_nothing() {
    let mut h = host();
    h.write(0, 30, 1);
    h.flush();
    h.write_back();
    assert!(h.engine.advance_tail(false).is_some());
    assert!(h.engine.advance_tail(false).is_none(), "one at a time");
    let free = h.engine.state().free_segments;
    h.engine.checkpointed(false);
    assert!(h.engine.failed());
    assert_eq!(h.engine.state().free_segments, free);
    // Planning must not run past the head, into segments that were never used.
    assert!(h.plan_writeback().items().is_empty());
    assert!(h.plan_writeback().segments() <= 1);
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(29)], [1, 1]);
}

// Limits.

#[test]
fn no_more_than_a_window_is_not_durable() {
    let mut h = Host::new(200, 100_000);
    let mut flying = Vec::new();
    let mut n = 0;
    // Nothing completes.
    while h.write_sectors(n * 15 * BLOCK_SECTORS, 15 * BLOCK_SECTORS, n + 1).is_ok() {
        n += 1;
        flying.extend(h.poll());
        if n == 3 {
            break;
        }
    }
    for io in std::mem::take(&mut flying) {
        h.complete(&io);
    }
    // Records land, but flushes do not return.
    let mut flushes = Vec::new();
    loop {
        match h.write_sectors(n * 15 * BLOCK_SECTORS, 15 * BLOCK_SECTORS, n + 1) {
            Ok(_) => n += 1,
            Err(e) => {
                assert_eq!(e, Refused::Wait(Wait::Progress));
                break;
            }
        }
        for io in h.poll() {
            match io {
                Io::Flush { .. } => flushes.push(io),
                Io::Record { .. } => h.complete(&io),
            }
        }
        assert!(n <= WINDOW);
    }
    assert_eq!((n, h.engine.durable()), (WINDOW, Seq::NONE));
    assert_eq!(flushes.len(), 1, "half of the window was not durable, and nobody asked");
    h.complete(&flushes[0]);
    assert!(h.engine.durable() > Seq(WINDOW / 2));
    h.write(0, 1, 1000);
    // Everything that landed replays: of the last record the data are checked.
    h.cache.flush(h.cache.mark());
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(WINDOW));
    assert_eq!([h.read(0), h.read((n - 1) * 15)], [1, n]);
}

#[test]
fn a_large_write_crosses_records_and_segments() {
    let mut h = host();
    h.write(1000, 4, 1);
    let claims = h.write_sectors(3, 50 * 8, 2).unwrap();
    let blocks: Vec<u32> = claims.iter().map(|c| c.blocks).collect();
    assert_eq!(blocks, [11, 15, 15, 10]);
    assert!(claims.windows(2).all(|c| c[0].seq.next() == c[1].seq));
    h.flush();
    h.crash().unwrap();
    assert_eq!(h.read_sectors(0, 3), [0; 3]);
    assert_eq!(h.read_sectors(3, 400), [2; 400]);
    assert_eq!(h.read_sectors(403, 5), [0; 5]);
    assert_eq!(h.read(1003), 1);
    // The part up to its second record stays, and the rest is lost.
    let mut h = host();
    h.write_sectors(3, 50 * 8, 2).unwrap();
    h.engine.flush();
    let io = h.poll();
    h.complete(&io[0]);
    h.complete(&io[1]);
    h.complete(&io[3]);
    h.cache.flush(h.cache.mark());
    h.crash().unwrap();
    assert_eq!(h.read_sectors(3, 400), [vec![2; 237], vec![0; 163]].concat());
}

#[test]
fn the_last_block_of_the_backing_device_may_be_short() {
    let mut h = Host::new(16, 83);
    h.write_sectors(79, 4, 1).unwrap();
    h.flush();
    h.write_sectors(81, 1, 2).unwrap();
    h.flush();
    for _ in 0..2 {
        assert_eq!(h.read_sectors(76, 7), [0, 0, 0, 1, 1, 2, 1]);
        h.crash().unwrap();
    }
    h.drain();
    assert_eq!(h.read_sectors(76, 7), [0, 0, 0, 1, 1, 2, 1]);
    h.crash().unwrap();
    assert_eq!(h.engine.state().dirty, 0);
    assert_eq!(h.read_sectors(76, 7), [0, 0, 0, 1, 1, 2, 1]);
}

#[test]
fn the_last_two_blocks_of_a_segment_hold_a_record() {
    for (blocks, slot) in [(12, 14), (13, 15), (14, SEGMENT_BLOCKS + 1)] {
        let mut h = host();
        h.write(0, blocks, 1);
        h.flush();
        assert_eq!(h.write(100, 1, 2)[0].slot, Slot(slot));
        h.flush();
        h.crash().unwrap();
        assert_eq!([h.read(0), h.read(blocks - 1), h.read(100)], [1, 1, 2]);
    }
}

#[test]
fn relocation_keeps_to_the_window_too() {
    let mut h = Host::new(200, 100_000);
    let mut flushes = Vec::new();
    for n in 0..WINDOW + 2 {
        h.write(n * 15, 15, n + 1);
        for io in h.poll() {
            match io {
                Io::Flush { .. } => flushes.push(io),
                Io::Record { .. } => h.complete(&io),
            }
        }
        if n == 2 {
            h.flush();
        }
    }
    assert_eq!((h.engine.durable(), flushes.len()), (Seq(3), 1));
    // There is room for one more record.
    relocate(&mut h).unwrap();
    assert_eq!(h.engine.state().newest, Seq(3 + WINDOW));
    assert_eq!(relocate(&mut h), Err(Wait::Progress));
    assert_eq!(h.engine.claim(1), Err(Refused::Wait(Wait::Progress)));
    h.complete(&flushes[0]);
    h.pump();
    relocate(&mut h).unwrap();
    h.flush();
    h.crash().unwrap();
    assert!((0..WINDOW + 2).all(|n| h.read(n * 15 + 14) == n + 1));
}

// Reclaim.

#[test]
fn writeback_goes_in_order_of_address() {
    let mut h = host();
    for addr in [700, 3, 500, 4, 100, 1500, 2] {
        h.write(addr, 1, addr);
    }
    h.flush();
    let addrs: Vec<u64> = h.plan_writeback().items().iter().map(|item| item.addr().0).collect();
    assert_eq!(addrs, [2, 3, 4, 100, 500, 700, 1500]);
}

#[test]
fn the_tail_waits_for_who_still_copies() {
    // A claim that fills its segment or not; with another one behind it in the next segment.
    for (blocks, more) in [(15, false), (15, true), (5, false)] {
        for whole in [false, true] {
            let mut h = host();
            h.write(0, 15, 1);
            h.flush();
            h.write_back();
            // Nothing in the claim's segment is dirty until it is copied.
            let claim = h.engine.claim(blocks).unwrap();
            let behind = more.then(|| h.engine.claim(1).unwrap());
            h.move_tail(whole);
            assert_eq!(h.engine.state().tail, claim.seq);
            h.copy(&claim, 800, u64::from(blocks) * BLOCK_SECTORS, 2);
            if let Some(behind) = behind {
                h.copy(&behind, 1600, BLOCK_SECTORS, 3);
            }
            h.flush();
            h.move_tail(whole);
            assert_eq!(h.engine.state().tail, claim.seq);
            h.crash().unwrap();
            assert_eq!([h.read(0), h.read(104), h.read(200)], [1, 2, if more { 3 } else { 0 }]);
        }
    }
}

#[test]
fn an_idle_head_stays_the_head_unless_all_is_drained() {
    let mut h = host();
    h.write(0, 5, 1);
    h.flush();
    h.write_back();
    assert!(h.engine.advance_tail(false).is_none());
    assert_eq!(h.write(10, 5, 2)[0].slot, Slot(7));
    h.drain();
    assert_eq!(h.write(20, 5, 3)[0].slot, Slot(SEGMENT_BLOCKS + 1));
}

/// Sends a record that cannot be written: the log fails.
fn fail_record(h: &mut Host) {
    let Io::Record { seq, fua, .. } = h.poll()[0] else { panic!("no record") };
    h.engine.record_done(seq, fua, false);
}

#[test]
fn checkpoints_go_one_at_a_time_and_end_with_the_log() {
    let mut h = host();
    for n in 0..4 {
        h.write(n * 15, 15, n + 1);
    }
    h.flush();
    let batch = h.plan_writeback();
    for item in batch.items() {
        h.write_item(&batch, item);
    }
    h.backing.flush(h.backing.mark());
    let (first, rest) = batch.items().split_at(15);
    first.iter().for_each(|item| h.engine.written_back(&batch, item));
    let cp = h.engine.advance_tail(false).unwrap();
    assert_eq!(cp.tail, Seq(2));
    // Meanwhile the tail could move further.
    rest.iter().for_each(|item| h.engine.written_back(&batch, item));
    h.write(100, 1, 5);
    h.flush();
    assert!(h.engine.advance_tail(false).is_none());
    assert!(h.engine.note_durable().is_none());
    h.write_checkpoint(&cp);
    h.engine.checkpointed(true);
    let free = h.engine.state().free_segments;
    let cp = h.engine.advance_tail(false).unwrap();
    assert_eq!(cp.tail, Seq(5));
    h.write_checkpoint(&cp);
    h.engine.checkpointed(true);
    assert_eq!(h.engine.state().free_segments, free + 3);
    // After a failure no checkpoint is written.
    h.write_back();
    h.write(110, 15, 6);
    h.flush();
    h.write(130, 1, 7);
    h.engine.flush();
    fail_record(&mut h);
    assert!(h.engine.advance_tail(true).is_none());
    assert!(h.engine.note_durable().is_none());
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(59), h.read(100), h.read(110), h.read(130)], [1, 4, 5, 6, 0]);
}

/// Plans a relocation, of `most` blocks at most.
fn plan_relocation(h: &Host, most: usize) -> Batch {
    let mut batch = Batch::new(200).unwrap();
    h.engine.begin_batch(&mut batch);
    while h.engine.plan_relocation(&mut batch) {}
    let mut left = most;
    batch.retain(|_, _| {
        let keep = left > 0;
        left -= usize::from(keep);
        keep
    });
    batch
}

#[test]
fn relocation_begins_only_what_it_can_end() {
    // With any amount of the head left.
    for filled in 1..=15 {
        let mut h = host();
        // Some segments full of blocks that stay, some with a block that is overwritten all the time; and the
        // reserve.
        for n in 0..11 {
            h.write(if n < 6 { n * 15 } else { 1000 }, 15, n);
            h.flush();
        }
        h.write(1000, filled, 11);
        h.flush();
        assert!(
            h.engine.state().free_segments == RESERVED_SEGMENTS && !plan_relocation(&h, 1).items().is_empty()
        );
        let verdicts: Vec<Relocation> =
            (1..=90).map(|n| h.engine.judge_relocation(&plan_relocation(&h, n))).collect();
        let room = |h: &Host| {
            let s = h.engine.state();
            s.free_segments * SEGMENT_BLOCKS + SEGMENT_BLOCKS - s.cursor
        };
        let (before, mut moved) = (room(&h), 0);
        let end = loop {
            match h.engine.claim_relocation(90 - moved) {
                Ok(claim) => {
                    moved += claim.blocks;
                    h.engine.copied(&claim);
                    h.pump();
                    // `is_worth` relies on this.
                    let taken = before - room(&h);
                    assert!(taken <= moved + 2 * moved.div_ceil(SEGMENT_BLOCKS - 1), "{taken} for {moved}");
                }
                Err(wait) => break wait,
            }
        };
        assert_eq!(end, Wait::Space);
        for (n, verdict) in (1..).zip(verdicts) {
            let right = if n <= moved { Relocation::MakesRoom } else { Relocation::Useless };
            assert_eq!(verdict, right, "{n} blocks, {filled} of the head are taken, room was for {moved}");
        }
    }
}

#[test]
fn relocation_waits_for_what_it_cannot_help() {
    // Nothing is durable.
    let mut h = host();
    h.write(0, 15, 1);
    h.pump();
    h.write(20, 15, 2);
    assert_eq!(h.engine.judge_relocation(&plan_relocation(&h, 99)), Relocation::Waits);
    // The oldest segment is only waiting to be freed.
    let mut h = host();
    h.write(0, 15, 1);
    h.write(20, 2, 1);
    h.write(0, 15, 2);
    h.flush();
    assert!(plan_relocation(&h, 99).items().len() >= 2);
    assert_eq!(h.engine.judge_relocation(&plan_relocation(&h, 99)), Relocation::Waits);
    h.move_tail(false);
    assert_eq!(h.engine.judge_relocation(&plan_relocation(&h, 99)), Relocation::MakesRoom);
    // The log has failed.
    let mut h = host();
    h.write(0, 15, 1);
    h.write(0, 14, 2);
    h.flush();
    assert_eq!(h.engine.judge_relocation(&plan_relocation(&h, 99)), Relocation::MakesRoom);
    h.write(0, 14, 3);
    h.engine.flush();
    fail_record(&mut h);
    assert_eq!(h.engine.judge_relocation(&plan_relocation(&h, 99)), Relocation::Waits);
}

#[test]
fn a_small_cache_fills_up_without_a_flush_and_makes_room() {
    let mut h = host();
    let mut n = 0;
    while h.write_sectors(n * 15 * BLOCK_SECTORS, 15 * BLOCK_SECTORS, n + 1).is_ok() {
        n += 1;
        h.pump();
    }
    h.pump();
    h.write_back();
    h.move_tail(false);
    assert!(h.engine.claim(1).is_ok());
}

#[test]
fn a_segment_waits_for_the_record_that_superseded_it() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    // Nothing of segment 0 is dirty any more, but if the power fails now, its blocks are the only copy.
    h.write(0, 15, 2);
    let io = h.poll();
    h.complete(&io[0]);
    assert_eq!(h.engine.state().dirty, 15);
    assert!(h.engine.advance_tail(false).is_none());
    // The engine has asked for a flush.
    assert_eq!(h.pump(), [Io::Flush { upto: Seq(2) }]);
    assert!(h.engine.advance_tail(false).is_some());
    h.crash().unwrap();
    assert_eq!(h.read(14), 2);
}

#[test]
fn a_segment_waits_for_who_was_newer_already_when_it_was_filled() {
    let mut h = host();
    let old = h.engine.claim(15).unwrap();
    let new = h.engine.claim(15).unwrap();
    h.copy(&new, 0, 120, 2);
    h.copy(&old, 0, 120, 1);
    assert_eq!(h.read(14), 2);
    // The older record becomes durable and has no live blocks; the newer one does not become durable.
    let io = h.poll();
    h.complete(&io[0]);
    h.engine.want(old.seq);
    let io = h.poll();
    assert!(matches!(io[..], [Io::Flush { upto: Seq(1) }]), "{io:?}");
    h.complete(&io[0]);
    assert_eq!(h.engine.durable(), Seq(1));
    assert!(h.engine.advance_tail(false).is_none());
    h.crash().unwrap();
    assert_eq!(h.read(14), 1);
}

#[test]
fn only_what_is_durable_is_written_back() {
    let mut h = host();
    h.write(0, 15, 1);
    let io = h.poll();
    h.complete(&io[0]);
    assert!(h.plan_writeback().items().is_empty());
    h.flush();
    assert_eq!(h.plan_writeback().items().len(), 15);
}

#[test]
fn all_that_is_durable_is_written_back_when_the_log_has_failed() {
    let mut h = host();
    h.write(0, 15, 1);
    h.write(100, 3, 2);
    h.flush();
    // In the same segment as the durable blocks, and some of these are newer.
    h.write(101, 4, 3);
    h.engine.flush();
    assert_eq!(h.plan_writeback().items().len(), 15, "a segment waits until all of it is durable");
    fail_record(&mut h);
    h.write_back();
    let backing = |h: &Host, addr: u64| u64::from(h.backing.stable(addr * BLOCK_SECTORS, 1)[0]);
    assert_eq!([0, 14, 100].map(|addr| backing(&h, addr)), [1, 1, 2]);
    // Blocks that are newer but not durable do not get there, and the blocks that they superseded are in the
    // log.
    assert_eq!([101, 102, 103, 104].map(|addr| backing(&h, addr)), [0; 4]);
    assert_eq!((h.engine.state().dirty, h.plan_writeback().items().len()), (4, 0));
    assert_eq!([100, 101, 104].map(|addr| h.read(addr)), [2, 3, 3]);
    h.crash().unwrap();
    assert_eq!([100, 101, 102, 103].map(|addr| h.read(addr)), [2, 2, 2, 0]);
}

#[test]
fn what_was_relocated_when_the_log_failed_is_written_back_from_where_it_was() {
    let mut h = host();
    h.write(0, 12, 1);
    h.flush();
    h.write(50, 15, 2);
    h.flush();
    relocate(&mut h).unwrap();
    // Some relocated blocks are superseded by blocks that are not durable either.
    h.write(3, 1, 4);
    h.write_sectors(4 * BLOCK_SECTORS, 2, 4).unwrap();
    h.engine.flush();
    assert!(h.plan_writeback().items().iter().all(|item| item.addr() >= Block(50)));
    fail_record(&mut h);
    let batch = h.plan_writeback();
    assert_eq!(batch.items().iter().filter(|item| item.addr() < Block(50)).count(), 11);
    h.write_back();
    let backing = |h: &Host, sector: u64| u64::from(h.backing.stable(sector, 1)[0]);
    assert_eq!([0, 11, 50].map(|addr| backing(&h, addr * BLOCK_SECTORS)), [1, 1, 2]);
    assert_eq!([3 * 8, 4 * 8, 4 * 8 + 2].map(|sector| backing(&h, sector)), [0, 0, 1]);
    assert_eq!((h.engine.state().dirty, h.plan_writeback().items().len()), (2, 0));
    assert_eq!([h.read(0), h.read(3)], [1, 4]);
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(3), h.read(4)], [1, 1, 1]);
}

#[test]
fn where_a_block_was_copied_to_is_forgotten_when_its_segment_is_opened_again() {
    let mut h = host();
    h.write(0, 12, 1);
    h.flush();
    h.write(50, 15, 2);
    h.flush();
    let old = h.slots_of(1)[0].0;
    relocate(&mut h).unwrap();
    let copy = h.slots_of(1)[0].0;
    assert_eq!((old, copy), (Slot(2), Slot(2 * SEGMENT_BLOCKS + 1)));
    h.drain();
    while h.write(200, 1, 3)[0].slot.segment(SEGMENT_BLOCKS) != Segment(15) {
        h.drain();
    }
    h.drain();
    // Once round the log. Now there is a header in the old place, and in the place of the copy a newer
    // version that is not durable.
    h.write(300, 1, 4);
    h.flush();
    h.write(400, 13, 4);
    h.write(500, 15, 4);
    h.flush();
    assert_eq!(h.write(1, 1, 5)[0].slot, copy);
    h.engine.flush();
    fail_record(&mut h);
    let batch = h.plan_writeback();
    assert_eq!(batch.items().len(), 29);
    assert!(batch.items().iter().all(|item| item.addr() != Block(1) && { item.slot } != old));
}

#[test]
fn writeback_for_a_drain_takes_no_segment_that_begins_later() {
    let mut h = host();
    for n in 0..2 {
        // A segment each.
        h.write(n * 100, 15, 1);
        h.flush();
    }
    let goal = h.engine.flush();
    let planned = |last| {
        let mut batch = Batch::new(100).unwrap();
        h.engine.begin_batch(&mut batch);
        while h.engine.plan_writeback(&mut batch, last) {}
        batch.items().iter().map(|item| item.addr().0).collect::<Vec<_>>()
    };
    assert_eq!(planned(goal).len(), 30);
    assert_eq!(planned(goal.before()), (0..15).collect::<Vec<_>>());
    assert!(planned(goal.before().before()).is_empty());
}

#[test]
fn an_item_of_a_segment_that_was_opened_again_is_left_alone() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let old = h.plan_writeback();
    h.write_item(&old, &old.items()[0]);
    h.write(0, 15, 2);
    h.flush();
    h.drain();
    // Segment 0 again, not durable: its slots have the same numbers and hold other blocks.
    let mut n = 2;
    loop {
        n += 1;
        let claims = h.write(100, 15, n);
        if claims[0].slot < Slot(SEGMENT_BLOCKS) {
            break;
        }
        h.drain();
    }
    let dirty = h.engine.state().dirty;
    for item in old.items() {
        assert_eq!(h.engine.begin_item(&old, item), None);
        h.engine.written_back(&old, item);
    }
    assert_eq!(h.engine.state().dirty, dirty);
}

/// A write bypasses the cache, if it may; then the newest checkpoint rots, and the power fails. Returns
/// whether there was such a write, and whether the log can be resumed then.
fn bypasses_and_the_newest_checkpoint_rots(h: &mut Host, addr: u64, n: u64) -> (bool, bool) {
    if !h.engine.lets_bypass() || h.engine.count_absent(Block(addr), 1) != 1 {
        return (false, false);
    }
    h.backing.write(addr * BLOCK_SECTORS, &filled(n, BLOCK_SECTORS), true);
    let mut twin = host();
    (twin.sb, twin.cache, twin.backing) = (h.sb.clone(), h.cache.clone(), h.backing.clone());
    twin.lose_power();
    let newest = twin.checkpoint().block() * BLOCK_SECTORS;
    twin.cache.poke(newest, &[0x5a; SECTOR]);
    let resumed = twin.resume().is_ok();
    if resumed {
        assert_eq!(twin.read(addr), n, "block {addr} is an old one again");
    }
    (true, resumed)
}

#[test]
fn what_bypassed_the_cache_does_not_come_back_old_by_the_other_checkpoint() {
    let mut rng = Rng::new(20);
    let (mut went, mut resumed) = (0, 0);
    for _ in 0..2 {
        let (mut h, mut n) = (host(), 0);
        let mut batch = Batch::new(256).unwrap();
        for _ in 0..250 {
            n += 1;
            // Most blocks are written once while the log comes round, so that the index has nothing newer.
            let addr = rng.below(60) * 15;
            let what = rng.below(8);
            match what {
                // The log is full most of the time.
                0..=3 => {
                    // Without room the write ends early.
                    let _ = h.write_sectors(addr * BLOCK_SECTORS, 15 * BLOCK_SECTORS, n);
                    h.flush();
                }
                4 => {
                    // Some segments become clean.
                    h.engine.begin_batch(&mut batch);
                    (0..rng.range(1, 4)).for_each(|_| _ = h.engine.plan_writeback(&mut batch, Seq::MAX));
                    batch.sort();
                    let items = batch.items().to_vec();
                    items.iter().for_each(|item| h.write_item(&batch, item));
                    h.backing.flush(h.backing.mark());
                    items.iter().for_each(|item| h.engine.written_back(&batch, item));
                }
                5 => {
                    if let Some(cp) = h.engine.advance_tail(rng.one_in(3)) {
                        h.write_checkpoint(&cp);
                        h.engine.checkpointed(true);
                    }
                }
                6 => _ = h.engine.prepare(rng.range(1, 16) as u32),
                // A clean block that cannot be read in the cache is read from the backing device.
                _ => match h.engine.lookup(addr * BLOCK_SECTORS, BLOCK_SECTORS) {
                    Run::Cache { slot, generation, .. } => _ = h.engine.forget(slot, generation, 0xff),
                    Run::Pieces(pieces) => {
                        let buffers = pieces.as_slice().iter().filter_map(|p| p.ram);
                        buffers.for_each(|(buffer, _)| h.engine.unpin_buffer(buffer));
                    }
                    Run::Backing(_) => (),
                },
            }
            // A forgotten block, or any.
            let probe = if what == 7 { addr } else { rng.below(60) * 15 };
            let (around, up) = bypasses_and_the_newest_checkpoint_rots(&mut h, probe, n);
            went += u32::from(around);
            resumed += u32::from(up);
        }
    }
    assert!(went > 150 && resumed > 100, "{went} went around, {resumed} logs were resumed");
}

/// A batch of the oldest segment, with its neighbours.
fn planned_with_neighbours(h: &Host, last: Seq) -> Batch {
    let mut batch = Batch::new(1000).unwrap();
    h.engine.begin_batch(&mut batch);
    assert!(h.engine.plan_writeback(&mut batch, last));
    batch.sort();
    while h.engine.plan_neighbours(&mut batch, last) {}
    batch.sort();
    batch
}

#[test]
fn what_lies_beside_the_oldest_is_written_back_along_with_it() {
    let mut h = host();
    for (addr, blocks) in [(100, 15), (80, 15), (120, 15), (95, 5), (115, 3), (200, 7)] {
        h.write(addr, blocks, 1);
        h.flush();
    }
    let goal = h.engine.durable();
    let segments = |h: &Host, last| {
        let batch = planned_with_neighbours(h, last);
        let all: Vec<_> =
            batch.items().iter().map(|item| (item.addr().0, item.slot.segment(SEGMENT_BLOCKS))).collect();
        (all.iter().map(|&(addr, _)| addr).collect::<Vec<_>>(), all)
    };
    // At most 16 blocks on either side: past blocks of other writes, up to a gap.
    let (addrs, all) = segments(&h, goal);
    assert_eq!(addrs, (84..118).collect::<Vec<_>>());
    assert!(all.iter().any(|&(_, segment)| segment > Segment(1)), "{all:?}");
    // Only blocks from before the drain: the neighbours came later.
    assert_eq!(segments(&h, Seq(1)).0, (100..115).collect::<Vec<_>>());
    // Neither blocks that are not durable, nor blocks of which the cache now has only a part.
    h.write(118, 2, 2);
    assert_eq!(segments(&h, Seq::MAX).0, addrs);
    // A superseded block is taken from its new place, once.
    h.write(110, 8, 3);
    h.flush();
    let (addrs, all) = segments(&h, Seq::MAX);
    assert_eq!(addrs, (84..126).collect::<Vec<_>>());
    assert_eq!(all.iter().filter(|&&(addr, _)| addr == 112).count(), 1);
    // All of the batch becomes clean, and stays so when the log comes round.
    let batch = planned_with_neighbours(&h, Seq::MAX);
    let dirty = h.engine.state().dirty;
    batch.items().iter().for_each(|item| h.write_item(&batch, item));
    h.backing.flush(h.backing.mark());
    batch.items().iter().for_each(|item| h.engine.written_back(&batch, item));
    assert_eq!(h.engine.state().dirty, dirty - batch.items().len() as u64);
}

#[test]
fn what_is_planned_already_is_no_neighbour() {
    let mut h = host();
    for addr in [100, 115, 130] {
        h.write(addr, 15, 1);
        h.flush();
    }
    let mut batch = Batch::new(1000).unwrap();
    h.engine.begin_batch(&mut batch);
    assert!(h.engine.plan_writeback(&mut batch, Seq::MAX));
    h.engine.continue_batch(&mut batch);
    assert!(h.engine.plan_writeback(&mut batch, Seq::MAX));
    batch.sort();
    while h.engine.plan_neighbours(&mut batch, Seq::MAX) {}
    batch.sort();
    let addrs: Vec<u64> = batch.items().iter().map(|item| item.addr().0).collect();
    assert_eq!(addrs, (115..145).collect::<Vec<_>>());
}

#[test]
fn planning_goes_on_behind_what_is_being_written_back() {
    let mut h = host();
    let plan = |h: &Host, batch: &mut Batch| {
        h.engine.continue_batch(batch);
        let more = h.engine.plan_writeback(batch, Seq::MAX);
        batch.sort();
        (more, batch.items().first().map(|item| item.addr().0))
    };
    // Five segments, and some of a sixth.
    for addr in 0..5 {
        h.write(addr * 100, 15, 1);
        h.flush();
    }
    h.write(500, 3, 1);
    h.flush();
    let mut batch = Batch::new(1000).unwrap();
    h.engine.begin_batch(&mut batch);
    let mut written: Vec<(Planned, Vec<Item>)> = Vec::new();
    for addr in [0, 100, 200] {
        assert_eq!(plan(&h, &mut batch), (true, Some(addr)));
        assert_eq!((batch.span().first, batch.span().count), (Segment((addr / 100) as u32), 1));
        for item in batch.items() {
            h.write_item(&batch, item);
        }
        written.push(((&batch).into(), batch.items().to_vec()));
    }
    // The first two become clean, and the tail passes them: planning continues where it was.
    h.backing.flush(h.backing.mark());
    for (planned, items) in &written[..2] {
        items.iter().for_each(|item| h.engine.written_back(*planned, item));
    }
    h.move_tail(false);
    assert_eq!(plan(&h, &mut batch), (true, Some(300)));
    assert_eq!(plan(&h, &mut batch), (true, Some(400)));
    assert_eq!(plan(&h, &mut batch), (true, Some(500)));
    assert_eq!(plan(&h, &mut batch), (false, None));
    // The tail has passed the last planned segment: planning begins at the tail.
    h.drain();
    for addr in 6..9 {
        h.write(addr * 100, 15, 1);
    }
    h.flush();
    assert_eq!(plan(&h, &mut batch), (true, Some(600)));
    assert_eq!(plan(&h, &mut batch), (true, Some(700)));
}

/// An item, the mask of its live sectors, and its data.
type Begun = (Item, u8, Vec<u8>);

/// The writeback that is under way, as in the kernel's host: in parts of several plans, which end in any
/// order.
struct Parts {
    lanes: Lanes,
    batch: Batch,
    plan: u32,
    at: usize,
    /// For each part: when it was planned, its items, their live sectors and their data.
    parts: Vec<(Planned, Vec<Begun>)>,
    unflushed: Vec<(Planned, Item)>,
}

impl Parts {
    fn new(h: &Host) -> Self {
        let mut batch = Batch::new(1000).unwrap();
        h.engine.begin_batch(&mut batch);
        let parts = (0..4).map(|_| Default::default()).collect();
        Self { lanes: Lanes::new(4, 8).unwrap(), batch, plan: 0, at: 0, parts, unflushed: Vec::new() }
    }

    fn read(&mut self, h: &mut Host, most: u64) {
        let Some(i) = self.lanes.to_read() else { return };
        if self.at == self.batch.items().len() {
            if self.lanes.is_idle() && self.unflushed.is_empty() {
                h.engine.begin_batch(&mut self.batch);
            } else {
                h.engine.continue_batch(&mut self.batch);
            }
            h.engine.plan_writeback(&mut self.batch, Seq::MAX);
            self.batch.sort();
            (self.at, self.plan) = (0, self.plan + 1);
        }
        let end = part_end(self.batch.items(), self.at, most as usize, 1);
        let planned = Planned::from(&self.batch);
        let mut items = Vec::new();
        for &item in &self.batch.items()[self.at..end] {
            if let Some(live) = h.engine.begin_item(planned, &item) {
                items.push((item, live, h.cache.read(h.sector_of(item.slot), BLOCK_SECTORS).to_vec()));
            }
        }
        self.at = end;
        self.lanes.begin(self.plan, !items.is_empty());
        self.parts[i] = (planned, items);
    }

    /// A part at this stage makes progress.
    fn step(&mut self, h: &mut Host, rng: &mut Rng, stage: Stage) {
        let all: Vec<_> = (0..self.lanes.len()).filter(|&i| self.lanes.stage(i) == stage).collect();
        if all.is_empty() {
            return;
        }
        let i = all[rng.index(all.len())];
        match stage {
            Stage::Reading => self.lanes.set(i, Stage::Ready),
            Stage::Ready => {
                if let Some(i) = self.lanes.to_write() {
                    self.lanes.set(i, Stage::Writing);
                }
            }
            _ => {
                let (planned, items) = std::mem::take(&mut self.parts[i]);
                for (item, live, data) in items {
                    for s in (0..BLOCK_SECTORS).filter(|s| live & 1 << s != 0) {
                        let bytes = &data[s as usize * SECTOR..][..SECTOR];
                        h.backing.write(item.addr().first_sector() + s, bytes, false);
                    }
                    self.unflushed.push((planned, item));
                }
                self.lanes.set(i, Stage::Free);
            }
        }
    }

    fn flush(&mut self, h: &mut Host) {
        h.backing.flush(h.backing.mark());
        for (planned, item) in self.unflushed.drain(..) {
            h.engine.written_back(planned, &item);
        }
        h.move_tail(false);
    }
}

#[test]
fn what_is_newer_stays_whatever_order_the_parts_end_in() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut h = host();
        let mut parts = Parts::new(&h);
        let mut newest = [0; 24];
        for n in 1..400 {
            let addr = rng.index(newest.len());
            if h.write_sectors(addr as u64 * BLOCK_SECTORS, BLOCK_SECTORS, n).is_ok() {
                newest[addr] = n;
            }
            if rng.one_in(2) {
                h.flush();
            }
            for _ in 0..rng.below(6) {
                match rng.below(6) {
                    0 | 1 => parts.read(&mut h, 1 + n % 7),
                    2 => parts.step(&mut h, &mut rng, Stage::Reading),
                    3 => parts.step(&mut h, &mut rng, Stage::Ready),
                    4 => parts.step(&mut h, &mut rng, Stage::Writing),
                    _ => parts.flush(&mut h),
                }
            }
        }
        while !parts.lanes.is_idle() {
            for stage in [Stage::Reading, Stage::Ready, Stage::Writing] {
                parts.step(&mut h, &mut rng, stage);
            }
        }
        parts.flush(&mut h);
        h.drain();
        for (addr, n) in newest.iter().enumerate() {
            let block = h.backing.stable(addr as u64 * BLOCK_SECTORS, BLOCK_SECTORS);
            assert_eq!(block[..8], u64::to_le_bytes(*n), "block {addr}, seed {seed}");
        }
    }
}

#[test]
fn writeback_follows_what_was_relocated_meanwhile() {
    let mut h = host();
    h.write(0, 14, 1);
    h.flush();
    h.write(50, 15, 2);
    h.flush();
    let batch = h.plan_writeback();
    for item in batch.items() {
        h.write_item(&batch, item);
    }
    relocate(&mut h).unwrap();
    let dirty = h.engine.state().dirty;
    h.backing.flush(h.backing.mark());
    for item in batch.items() {
        h.engine.written_back(&batch, item);
    }
    assert!(dirty != 0 && h.engine.state().dirty == 0);
    // The old place counts until the new one is durable.
    assert!(h.engine.advance_tail(true).is_none());
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(64)], [1, 2]);
}

/// Relocates the dirty blocks of the oldest segments.
fn relocate(h: &mut Host) -> Result<(), Wait> {
    relocate_but(h, None)
}

/// Relocates the blocks of the oldest segments; block `unreadable` is lost by that.
fn relocate_but(h: &mut Host, unreadable: Option<u64>) -> Result<(), Wait> {
    let mut batch = Batch::new(15).unwrap();
    h.engine.begin_batch(&mut batch);
    while h.engine.plan_relocation(&mut batch) {}
    batch.retain(|batch, item| h.engine.begin_item(batch, item).is_some());
    let mut done = 0;
    let mut result = Ok(());
    while done < batch.items().len() {
        let claim = match h.engine.claim_relocation((batch.items().len() - done) as u32) {
            Ok(claim) => claim,
            Err(wait) => {
                h.engine.cancel_relocation();
                result = Err(wait);
                break;
            }
        };
        for i in 0..claim.blocks {
            let item = &batch.items()[done];
            let mut block = h.cache.read(h.sector_of(item.slot), BLOCK_SECTORS).to_vec();
            let lost = (unreadable == Some(item.addr().0)).then(|| {
                block.fill(0);
                Entry::lost(&block)
            });
            let at = (claim.offset + i) as usize * BLOCK;
            h.buffers[usize::from(claim.buffer)][at..at + BLOCK].copy_from_slice(&block);
            h.engine.relocated(&claim, claim.slot.plus(i), &batch, item, lost);
            done += 1;
        }
        h.engine.copied(&claim);
    }
    result
}

#[test]
fn relocation_stops_claims_until_the_writers_are_done() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let claim = h.engine.claim(1).unwrap();
    assert!(!h.engine.is_paused());
    assert_eq!(h.engine.claim_relocation(15), Err(Wait::Progress));
    assert!(h.engine.is_paused());
    assert_eq!(h.engine.claim(1), Err(Refused::Wait(Wait::Progress)));
    h.copy(&claim, 0, 8, 2);
    relocate(&mut h).unwrap();
    assert!(!h.engine.is_paused());
    assert_eq!([h.read(0), h.read(1)], [2, 1]);
    h.flush();
    h.crash().unwrap();
    assert_eq!([h.read(0), h.read(1)], [2, 1]);
}

#[test]
fn writes_do_not_eat_up_what_is_reserved_for_relocation() {
    let mut h = host();
    let mut next = 0;
    // Writes a block that was not written before, or `addr`, if there is room for it.
    let mut write = |h: &mut Host, addr: Option<u64>| {
        let addr = addr.unwrap_or(next + 2);
        next += 1;
        let done = h.write_sectors(addr * BLOCK_SECTORS, BLOCK_SECTORS, next).is_ok();
        h.pump();
        done
    };
    // A fifth is overwritten all the time: relocation is worth it at first.
    for i in 0.. {
        if !write(&mut h, (i % 5 == 0).then_some(0)) {
            break;
        }
    }
    h.flush();
    let (mut rounds, mut opened) = (0, 0);
    loop {
        let mut batch = Batch::new(15).unwrap();
        h.engine.begin_batch(&mut batch);
        while h.engine.plan_relocation(&mut batch) {}
        if h.engine.judge_relocation(&batch) != Relocation::MakesRoom {
            break;
        }
        let before = h.engine.state();
        relocate(&mut h).unwrap();
        // The segment that relocation has opened is not for waiting writes, because the tail has not moved
        // yet.
        if h.engine.state().free_segments < before.free_segments {
            assert!(!write(&mut h, None), "{:?}", h.engine.state());
            opened += 1;
        }
        h.flush();
        h.move_tail(false);
        while write(&mut h, None) {}
        h.flush();
        let s = h.engine.state();
        let room = s.free_segments * SEGMENT_BLOCKS + SEGMENT_BLOCKS - s.cursor;
        assert!(room >= RESERVED_SEGMENTS * SEGMENT_BLOCKS, "{room} blocks after {rounds} rounds: {s:?}");
        rounds += 1;
        assert!(rounds < 1000, "relocation never ends");
    }
    assert!(rounds > 4 && opened > 4, "{opened} of {rounds} rounds opened a segment");
    assert!(h.engine.is_full());
    // Only writeback makes room now, and it does.
    h.write_back();
    h.move_tail(false);
    assert!(write(&mut h, None));
}

#[test]
fn the_head_does_not_wait_for_who_reads() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    h.resume().unwrap();
    h.write_back();
    let (slot, generation) = match h.engine.lookup(3 * BLOCK_SECTORS, BLOCK_SECTORS) {
        Run::Cache { slot, generation, .. } => (slot, generation),
        other => panic!("{other:?}"),
    };
    let read = |h: &Host| crc32c(0, &h.cache.read(h.sector_of(slot), BLOCK_SECTORS));
    let checks = h.engine.checks();
    let old = read(&h);
    h.move_tail(true);
    assert_eq!(checks.judge(slot, generation, [old]), Verdict::Intact, "what is free goes on serving reads");
    assert_eq!(checks.judge(slot, generation, [old ^ 1]), Verdict::Wrong);
    // Once round the log, up to the segment of the block.
    for n in 1..16 {
        h.write(n * 15, 15, n + 1);
        h.drain();
    }
    assert_eq!(checks.judge(slot, generation, [old]), Verdict::Intact, "the head is right before it");
    let claim = h.engine.claim(15).unwrap();
    assert_eq!(claim.slot, slot.minus(3), "it is the head's now, whoever reads there");
    // Nothing is stored yet, and the data that were read are still right; but that could not be known for
    // much longer.
    assert_eq!(checks.judge(slot, generation, [old]), Verdict::Gone);
    h.copy(&claim, 500 * BLOCK_SECTORS, 15 * BLOCK_SECTORS, 99);
    h.flush();
    // The block that is there now is whole, but not the one that was read.
    assert_ne!(read(&h), old);
    assert_eq!(checks.judge(slot, generation, [read(&h)]), Verdict::Gone);
    assert!(h.engine.forget(slot, generation, 0xff), "it is elsewhere");
    assert_eq!([h.read(3), h.read(503)], [1, 99], "and what is there now is not forgotten");
}

#[test]
fn relocation_leaves_out_what_was_reclaimed_while_it_read() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let mut batch = Batch::new(15).unwrap();
    h.engine.begin_batch(&mut batch);
    while h.engine.plan_relocation(&mut batch) {}
    assert!(batch.items().is_empty(), "the head is left alone");
    h.write(20, 1, 1);
    h.flush();
    h.engine.begin_batch(&mut batch);
    while h.engine.plan_relocation(&mut batch) {}
    batch.retain(|batch, item| h.engine.begin_item(batch, item) == Some(0xff));
    assert_eq!(batch.items().len(), 15);
    // Meanwhile everything is written back, and the log comes round.
    h.drain();
    for n in 2..16 {
        h.write(n * 15, 15, n + 1);
        h.flush();
        h.write_back();
        h.move_tail(false);
    }
    assert!(batch.items().iter().all(|item| h.engine.holds_item(&batch, item)));
    // The claim itself opens the very segment that the items lie in.
    let claim = h.engine.claim_relocation(15).unwrap();
    assert_eq!(claim.slot, { batch.items()[0].slot });
    assert!(!batch.items().iter().any(|item| h.engine.holds_item(&batch, item)));
    for (i, item) in (0..).zip(batch.items()) {
        h.engine.relocated(&claim, claim.slot.plus(i), &batch, item, Some(7));
    }
    h.engine.copied(&claim);
    assert_eq!(h.engine.state().dirty, 0, "nothing was moved");
    assert_eq!(h.read(3), 1);
    // The newer, dirty block that is there by now is not mistaken for the item either.
    let item = &batch.items()[14];
    let mut n = 500;
    loop {
        n += 15;
        h.write(n, 15, n);
        h.flush();
        if h.slots_of(n + 14)[0].0 == { item.slot } {
            break;
        }
        h.write_back();
        h.move_tail(false);
    }
    let dirty = h.engine.state().dirty;
    assert!(dirty >= 15);
    let claim = h.engine.claim_relocation(1).unwrap();
    assert!(!h.engine.relocated(&claim, claim.slot, &batch, item, None));
    h.engine.copied(&claim);
    assert_eq!((h.engine.state().dirty, h.slots_of(n + 14)[0].0), (dirty, item.slot));
}

#[test]
fn a_lost_block_lets_the_tail_pass_and_never_comes_back() {
    let mut h = host();
    h.write(0, 15, 1);
    h.write(20, 2, 1);
    h.flush();
    let (slot, _) = h.slots_of(3)[0];
    h.cache.poke(h.sector_of(slot), &[0x5a; 4 * SECTOR]);
    relocate_but(&mut h, Some(3)).unwrap();
    // The record with the block is not known to be durable, so a replay reads all its data.
    h.flush();
    let newest = h.engine.state().newest;
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, newest, "all of it is there");
    h.move_tail(false);
    assert!(h.engine.state().tail > Seq::FIRST, "it has passed");
    for _ in 0..3 {
        assert_eq!(h.engine.state().dirty, 17);
        assert_eq!([h.read(2), h.read(4), h.read(20)], [1; 3]);
        let (slot, live) = h.slots_of(3)[0];
        assert_eq!(live, 0xff);
        let block = h.cache.read(h.sector_of(slot), BLOCK_SECTORS).to_vec();
        let stored = h.engine.checks().checksum(slot);
        assert_ne!(crc32c(0, &block), stored, "nobody may take it for good");
        assert_eq!(Entry::lost(&block), stored);
        h.crash().unwrap();
        assert_eq!(h.engine.state().newest, newest);
    }
    // A write heals it, sector by sector.
    h.write_sectors(3 * BLOCK_SECTORS, 3, 7).unwrap();
    h.flush();
    assert_eq!(h.read_sectors(3 * BLOCK_SECTORS, 3), [7; 3]);
    let lost: Vec<u8> = h.slots_of(3).iter().map(|&(_, live)| live).collect();
    assert!(lost.contains(&0xf8) && lost.contains(&0x07), "{lost:?}");
    h.write(3, 1, 8);
    h.drain();
    h.crash().unwrap();
    assert_eq!(h.read(3), 8);
}

#[test]
fn a_lost_block_is_not_read_from_ram() {
    let mut h = host();
    h.write(0, 15, 1);
    h.write(20, 2, 1);
    h.flush();
    let (slot, _) = h.slots_of(3)[0];
    h.cache.poke(h.sector_of(slot), &[0x5a; 4 * SECTOR]);
    relocate_but(&mut h, Some(3)).unwrap();
    // Its record is not written yet: data in RAM have no checksum that is compared.
    let at = 3 * BLOCK_SECTORS;
    match h.engine.lookup(at, 12 * BLOCK_SECTORS) {
        // The blocks behind it must not be read from the device either.
        Run::Cache { blocks: 1, .. } => (),
        other => panic!("{other:?}"),
    }
    assert_eq!([h.read(2), h.read(4)], [1, 1]);
    h.write_sectors(at, 3, 7).unwrap();
    match h.engine.lookup(at, BLOCK_SECTORS) {
        Run::Pieces(pieces) => {
            for p in pieces.as_slice() {
                assert_eq!(p.ram.is_some(), p.mask == 0x07, "{p:?}");
                if let Some((buffer, _)) = p.ram {
                    h.engine.unpin_buffer(buffer);
                }
            }
        }
        other => panic!("{other:?}"),
    }
    h.write(3, 1, 8);
    assert_eq!(h.read(3), 8);
    h.drain();
}

#[test]
fn what_is_not_whole_is_not_taken_for_lost() {
    let block = [7; BLOCK];
    let good = Entry { addr: Block(1), mask: 1, crc: crc32c(0, &block) };
    let lost = Entry { crc: Entry::lost(&block), ..good };
    assert!(good.is_stored_as(&block) && lost.is_stored_as(&block));
    let torn = [8; BLOCK];
    assert!(!good.is_stored_as(&torn) && !lost.is_stored_as(&torn));
}

#[test]
fn a_record_that_rots_after_a_suspend_is_missed() {
    for suspend in [true, false] {
        let mut h = host();
        h.write(0, 2, 1);
        h.flush();
        let claims = h.write(10, 2, 2);
        h.flush();
        if suspend {
            let cp = h.engine.note_durable().unwrap();
            assert!(h.engine.note_durable().is_none(), "one at a time");
            h.write_checkpoint(&cp);
            h.engine.checkpointed(true);
            h.note();
            assert!(h.engine.note_durable().is_none(), "it is noted already");
        }
        h.cache.poke(h.sector_of(claims[0].slot.minus(1)), &[0x5a; SECTOR]);
        // One of the checkpoints may rot as well.
        for block in CHECKPOINT_BLOCKS.into_iter().filter(|_| suspend) {
            let mut h = twin(&h);
            h.cache.lose(block * BLOCK_SECTORS);
            assert_eq!(h.crash(), Err(Damage::Short { end: Seq(2), durable: Seq(2) }), "block {block}");
        }
        // Without the checkpoint of the suspend it cannot be known.
        let end = if suspend { Err(Damage::Short { end: Seq(2), durable: Seq(2) }) } else { Ok(()) };
        assert_eq!(h.crash(), end);
    }
}

#[test]
fn a_clean_block_can_be_forgotten_and_a_dirty_one_not() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let (slot, generation) = match h.engine.lookup(3 * BLOCK_SECTORS, BLOCK_SECTORS) {
        Run::Pieces(p) => (p.as_slice()[0].slot, p.as_slice()[0].generation),
        other => panic!("{other:?}"),
    };
    assert!(!h.engine.forget(slot, generation, 0xff));
    assert_eq!(h.slots_of(3), [(slot, 0xff)]);
    h.write_back();
    assert!(h.engine.forget(slot, generation, 0xff));
    assert!(matches!(h.engine.lookup(3 * BLOCK_SECTORS, BLOCK_SECTORS), Run::Backing(_)));
    assert_eq!([h.read(2), h.read(3), h.read(4)], [1; 3]);
    // From now on it is like any clean slot.
    h.write(3, 1, 2);
    h.drain();
    h.crash().unwrap();
    assert_eq!(h.read(3), 2);
}

#[test]
fn a_drained_log_is_empty_and_stays_so() {
    let mut h = host();
    h.write(0, 20, 1);
    h.drain();
    let tail = h.engine.state().tail;
    for _ in 0..3 {
        h.crash().unwrap();
        let s = h.engine.state();
        assert_eq!((s.dirty, s.free_segments, s.tail, s.newest), (0, 16, tail, tail.before()));
    }
    for n in 2..200 {
        h.write(n % 30, 20, n);
        h.flush();
        if n % 7 == 0 {
            h.crash().unwrap();
        }
        h.drain();
    }
    h.crash().unwrap();
    assert_eq!(h.read(199 % 30 + 19), 199);
    let slot = |i: usize| h.cache.sector(CHECKPOINT_BLOCKS[i] * BLOCK_SECTORS);
    assert!(Checkpoint::decode(&slot(0), &h.sb).is_ok() && Checkpoint::decode(&slot(1), &h.sb).is_ok());
}

#[test]
fn pieces_say_which_sectors_they_have() {
    let mut h = host();
    h.write_sectors(2, 2, 1).unwrap();
    h.write_sectors(5, 1, 2).unwrap();
    let Run::Pieces(pieces) = h.engine.lookup(0, 8) else { panic!("nothing is found") };
    assert_eq!(pieces.mask(), 0b0010_1100);
    assert_eq!(pieces.as_slice().iter().map(|p| p.mask.count_ones()).sum::<u32>(), 3);
    for p in pieces.as_slice() {
        h.engine.unpin_buffer(p.ram.unwrap().0);
    }
    // Only the sectors of the request.
    let Run::Pieces(pieces) = h.engine.lookup(3, 3) else { panic!("nothing is found") };
    assert_eq!(pieces.mask(), 0b0010_1000);
    for p in pieces.as_slice() {
        h.engine.unpin_buffer(p.ram.unwrap().0);
    }
    // A run on the backing device ends before the next block that is cached, even in part.
    h.write_sectors(50, 1, 3).unwrap();
    assert_eq!(h.engine.lookup(8, 200), Run::Backing(40));
    assert_eq!(h.engine.lookup(10, 200), Run::Backing(38));
    assert_eq!(h.engine.lookup(10, 5), Run::Backing(5));
}

#[test]
fn a_run_is_as_long_as_it_can_be_and_no_longer() {
    let mut h = host();
    let run = |h: &mut Host, addr: u64, blocks: u64| match h.engine.lookup(addr * BLOCK_SECTORS, blocks * 8) {
        Run::Cache { slot, blocks, .. } => (slot.0, blocks),
        other => panic!("{other:?}"),
    };
    // Blocks 0 to 29 fill two segments, which lie one behind the other.
    h.write(0, 30, 1);
    h.flush();
    h.resume().unwrap();
    assert_eq!(run(&mut h, 0, 4), (1, 4));
    assert_eq!(run(&mut h, 0, 30), (1, 15), "more than one segment has no generation");
    assert_eq!(run(&mut h, 11, 30), (12, 4));
    assert_eq!(run(&mut h, 15, 15), (17, 15));
    assert_eq!(run(&mut h, 14, 1), (15, 1));
    // A run ends at a block that is missing, elsewhere, or there only in part.
    h.write(8, 1, 2);
    h.write_sectors(24 * BLOCK_SECTORS + 3, 2, 3).unwrap();
    assert_eq!(run(&mut h, 5, 10), (6, 3));
    assert_eq!(run(&mut h, 9, 6), (10, 6));
    assert_eq!(run(&mut h, 20, 10), (22, 4));
    let at = 28 * BLOCK_SECTORS;
    assert_eq!(h.read_sectors(at, 24), [vec![1; 16], vec![0; 8]].concat());
    // A run on the backing device is searched only as far as a bounded time allows.
    assert_eq!(h.engine.lookup(100 * BLOCK_SECTORS, 1000 * BLOCK_SECTORS), Run::Backing(256 * BLOCK_SECTORS));
}

// Blocks that cannot be read.

#[test]
fn only_a_clean_block_is_looked_for_elsewhere() {
    let mut h = host();
    h.write(7, 1, 1);
    h.flush();
    h.resume().unwrap();
    let slot_of = |h: &mut Host| match h.engine.lookup(7 * BLOCK_SECTORS, BLOCK_SECTORS) {
        Run::Cache { slot, generation, .. } => (slot, generation),
        other => panic!("{other:?}"),
    };
    let (slot, generation) = slot_of(&mut h);
    assert!(!h.engine.forget(slot, generation, 0xff), "an older version would come back");
    h.write_back();
    assert_eq!(slot_of(&mut h), (slot, generation));
    assert!(h.engine.forget(slot, generation, 0xff));
    assert!(matches!(h.engine.lookup(7 * BLOCK_SECTORS, BLOCK_SECTORS), Run::Backing(_)));
    assert_eq!(h.read(7), 1);
    // A later write counts.
    h.write(7, 1, 2);
    assert!(h.engine.forget(slot, generation, 0xff));
    assert_eq!(h.read(7), 2);
}

#[test]
fn what_was_superseded_while_it_could_not_be_read_is_looked_for_again() {
    let mut h = host();
    h.write(7, 1, 1);
    h.flush();
    let (slot, generation) = match h.engine.lookup(7 * BLOCK_SECTORS, BLOCK_SECTORS) {
        Run::Pieces(p) => (p.as_slice()[0].slot, p.as_slice()[0].generation),
        other => panic!("{other:?}"),
    };
    // A read of sectors 2 to 5 is under way; 4 and 5 are written meanwhile.
    h.write_sectors(7 * BLOCK_SECTORS + 4, 2, 2).unwrap();
    assert!(h.engine.forget(slot, generation, 0b0011_1100), "half of it is elsewhere by now");
    assert!(h.engine.forget(slot, generation, 0b0011_0000));
    assert!(!h.engine.forget(slot, generation, 0b0000_1100), "it is nowhere else");
    assert!(!h.engine.forget(slot, generation, 0b1100_1111));
    // None of this has changed anything.
    assert_eq!(h.read_sectors(7 * BLOCK_SECTORS, 8), [1, 1, 1, 1, 2, 2, 1, 1]);
    // All sectors of a clean block are on the backing device, whichever were to be read.
    h.flush();
    h.write_back();
    assert!(h.engine.forget(slot, generation, 0b0000_1100));
    assert_eq!(h.slots_of(7).iter().map(|&(_, live)| live).collect::<Vec<_>>(), [0b0011_0000]);
    assert_eq!(h.read_sectors(7 * BLOCK_SECTORS, 8), [1, 1, 1, 1, 2, 2, 1, 1]);
}

#[test]
fn a_buffer_is_kept_for_as_many_readers_as_it_has() {
    let mut h = host();
    let pin = |h: &mut Host, addr: u64| match h.engine.lookup(addr * BLOCK_SECTORS, BLOCK_SECTORS) {
        Run::Pieces(pieces) => pieces.as_slice()[0].ram.unwrap().0,
        other => panic!("{other:?}"),
    };
    h.write(0, 15, 1);
    let buffers = [pin(&mut h, 0), pin(&mut h, 0)];
    h.flush();
    // All other buffers are read from, too.
    let mut others = Vec::new();
    for n in 1..h.buffers.len() as u64 {
        h.write(n * 15, 15, n + 1);
        others.push(pin(&mut h, n * 15));
        h.flush();
    }
    others.sort_unstable();
    others.dedup();
    assert_eq!((others.len(), others.contains(&buffers[0])), (h.buffers.len() - 1, false));
    let refused = Err(Refused::Wait(Wait::Progress));
    assert_eq!(h.engine.claim(1), refused);
    h.engine.unpin_buffer(buffers[0]);
    assert_eq!(h.engine.claim(1), refused, "one of two is still there");
    h.engine.unpin_buffer(buffers[1]);
    assert_eq!(h.engine.claim(1).unwrap().buffer, buffers[0]);
}

#[test]
fn the_buffer_of_the_newest_segment_is_used_again() {
    let mut h = host();
    let buffers = [1, 2, 3].map(|n| {
        let claim = h.write(n * 15, 15, n)[0];
        h.flush();
        claim.buffer
    });
    assert_eq!(buffers, [buffers[0]; 3]);
}

// The map of the segments.

/// The map with a cell for each segment, when the segments of `writing` are being written back.
fn map(h: &Host, writing: Span) -> String {
    let map: String = (0..h.sb.nr_segments)
        .map(|segment| {
            let (kind, dirty) = h.engine.kind(Segment(segment), writing);
            let mut cell = Cell::default();
            cell.add(kind, dirty, h.sb.segment_blocks);
            cell.shown().char()
        })
        .collect();
    let free = map.chars().filter(|&c| c == '.').count();
    assert_eq!(free as u32, h.engine.state().free_segments, "{map}");
    map
}

#[test]
fn the_map_shows_what_a_segment_is() {
    let none = Span::default();
    let mut h = host();
    assert_eq!(map(&h, none), "................");
    h.write(0, 15, 1);
    h.write(100, 15, 1);
    assert_eq!(map(&h, none), "oo..............", "nothing is durable");
    h.flush();
    assert_eq!(map(&h, none), "9o..............", "the head is open all the same");
    h.write(200, 5, 1);
    // Ten blocks of the segment behind the first five, and five in the next segment.
    h.write(0, 15, 2);
    h.flush();
    assert_eq!(map(&h, none), "-99o............", "segment 0 is overwritten");
    // Nine blocks, and one in the next segment.
    h.write(100, 10, 2);
    h.flush();
    assert_eq!(map(&h, none), "-398o...........");
    assert_eq!(map(&h, Span { first: Segment(1), count: 2 }), "-ww8o...........");
    assert_eq!(map(&h, Span { first: Segment(15), count: 4 }), "-ww8o...........", "the log comes round");
    h.write_back();
    assert_eq!(map(&h, none), "----o...........");
    let checkpoint = h.engine.advance_tail(true).unwrap();
    assert_eq!(map(&h, none), "-----...........", "free when the checkpoint is durable");
    h.write_checkpoint(&checkpoint);
    h.engine.checkpointed(true);
    assert_eq!(map(&h, none), "................");
}

#[test]
fn a_cell_shows_what_matters_most_of_its_segments() {
    use writeboost::engine::map::Kind;
    let cell = |segments: &[(Kind, u32)]| {
        let mut cell = Cell::default();
        segments.iter().for_each(|&(kind, dirty)| cell.add(kind, dirty, 128));
        cell.shown().char()
    };
    assert_eq!(cell(&[]), '.');
    assert_eq!(cell(&[(Kind::Free, 0), (Kind::Clean, 0)]), '-');
    assert_eq!(cell(&[(Kind::Free, 0), (Kind::Dirty, 1), (Kind::Clean, 0)]), '1');
    assert_eq!(cell(&[(Kind::Dirty, 127), (Kind::Dirty, 127)]), '9');
    assert_eq!(cell(&[(Kind::Dirty, 128), (Kind::Free, 0)]), '5');
    assert_eq!(cell(&[(Kind::Dirty, 127), (Kind::Writing, 1)]), 'w');
    assert_eq!(cell(&[(Kind::Open, 0), (Kind::Writing, 1), (Kind::Dirty, 9)]), 'o');
}

#[test]
fn what_the_next_segment_held_is_forgotten_ahead_and_piece_by_piece() {
    let mut h = host();
    // A segment for each write, once round the log, and everything is clean.
    for i in 0..16 {
        h.write(i * 100, 15, i + 1);
        h.drain();
    }
    assert_eq!(h.slots_of(3), [(Slot(4), 0xff)]);
    assert_eq!(h.engine.to_prepare(100), Slot(0)..Slot(SEGMENT_BLOCKS));
    assert!(h.engine.prepare(5));
    // The header and four blocks.
    assert!((0..4).all(|addr| h.slots_of(addr).is_empty()));
    assert_eq!(h.slots_of(4), [(Slot(5), 0xff)]);
    assert_eq!(h.engine.to_prepare(3), Slot(5)..Slot(8));
    assert!(h.engine.prepare(100) && !h.engine.prepare(100));
    assert!((0..15).all(|addr| h.slots_of(addr).is_empty()));
    assert_eq!((h.read(0), h.read(14), h.slots_of(100).len()), (1, 1, 1));
    // The segment is opened, and the one behind it is next. That one is opened while it still holds blocks.
    assert_eq!(h.write(1700, 15, 20)[0].slot, Slot(1));
    assert_eq!(h.engine.to_prepare(100), Slot(SEGMENT_BLOCKS)..Slot(2 * SEGMENT_BLOCKS));
    assert!(h.engine.prepare(1) && h.slots_of(100).len() == 1);
    assert_eq!(h.write(1800, 15, 21)[0].slot, Slot(SEGMENT_BLOCKS + 1));
    assert!((100..115).all(|addr| h.slots_of(addr).is_empty()));
    assert_eq!(h.engine.to_prepare(1), Slot(2 * SEGMENT_BLOCKS)..Slot(2 * SEGMENT_BLOCKS + 1));
    h.flush();
    h.crash().unwrap();
    assert_eq!((h.read(100), h.read(200), h.read(1700), h.read(1814)), (2, 3, 20, 21));
}

// Unreadable sectors.

/// The first sector of the header that begins a segment.
fn beginning(h: &Host, segment: u32) -> u64 {
    h.sector_of(Segment(segment).first_slot(SEGMENT_BLOCKS))
}

#[test]
fn one_unreadable_sector_anywhere_but_in_a_header_costs_nothing() {
    let mut h = host();
    // So that both checkpoints are of this life: a lone checkpoint knows only of its own epoch.
    h.write(900, 3, 9);
    h.flush();
    h.drain();
    let first = h.write(0, 15, 1)[0].slot.minus(1);
    assert_eq!(first.offset(SEGMENT_BLOCKS), 0);
    h.flush();
    h.write(100, 3, 2);
    h.flush();
    // This record is in flight when the power fails.
    h.write(200, 3, 3);
    h.engine.flush();
    let io = h.poll()[0];
    let (sector, bytes) = h.bytes_of(&io);
    let header_only = bytes[..BLOCK].to_vec();
    h.lose_power();
    let bad: Vec<u64> = vec![
        CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS,
        CHECKPOINT_BLOCKS[1] * BLOCK_SECTORS,
        // The header of the record in flight, its data, and the beginning of the next segment.
        sector,
        sector + BLOCK_SECTORS + 3,
        h.sector_of(first.plus(2 * SEGMENT_BLOCKS)),
        // Data of a record that is known durable.
        h.sector_of(first.plus(4)) + 5,
    ];
    for bad in bad {
        let mut h = Host { cache: h.cache.clone(), backing: h.backing.clone(), ..host() };
        h.cache.poke(sector, &header_only);
        h.cache.lose(bad);
        h.resume().unwrap_or_else(|e| panic!("sector {bad}: {e}"));
        assert_eq!(h.engine.state().newest, Seq(3), "sector {bad}");
        assert_eq!([h.read(100), h.read(102), h.read(200)], [2, 2, 0], "sector {bad}");
        h.write(300, 3, 4);
        h.flush();
        h.crash().unwrap();
        assert_eq!([h.read(100), h.read(200), h.read(300)], [2, 0, 4], "sector {bad}");
    }
}

#[test]
fn what_was_drained_before_a_suspend_stays_out_of_the_log_whichever_checkpoint_is_lost() {
    let mut h = host();
    h.write(0, 20, 1);
    h.drain();
    h.note();
    h.lose_power();
    // A user writes to the backing device directly.
    let mine = 7u64.to_le_bytes().repeat(BLOCK / 8);
    h.backing.poke(3 * BLOCK_SECTORS, &mine);
    for slot in [0, 1] {
        let mut h = Host { cache: h.cache.clone(), backing: h.backing.clone(), ..host() };
        h.cache.lose(CHECKPOINT_BLOCKS[slot] * BLOCK_SECTORS);
        h.resume().unwrap();
        assert_eq!((h.engine.state().dirty, h.read(3)), (0, 7), "slot {slot}");
    }
}

fn twin(h: &Host) -> Host {
    Host { cache: h.cache.clone(), backing: h.backing.clone(), ..host() }
}

/// Writes, drains and crashes, so that the log goes around and the tail moves many times.
fn live_on(h: &mut Host, what: &str) {
    for n in 0..60 {
        h.write(100 + n % 7 * 30, 15, 1000 + n);
        h.flush();
        if n % 5 == 0 {
            h.drain();
        }
        if n % 11 == 0 {
            h.crash().unwrap_or_else(|e| panic!("{what}, round {n}: {e}"));
        }
    }
    h.crash().unwrap_or_else(|e| panic!("{what}: {e}"));
    for n in 53..60 {
        assert_eq!(h.read(100 + n % 7 * 30), 1000 + n, "{what}");
    }
}

#[test]
fn any_two_checkpoint_slots_are_enough() {
    let mut h = host();
    // The tail is not where it was at the resume.
    h.write(0, 15, 1);
    h.write(20, 15, 2);
    h.flush();
    h.drain();
    h.write(40, 15, 3);
    h.flush();
    h.note();
    h.lose_power();
    let blocks = CHECKPOINT_BLOCKS.map(|block| block * BLOCK_SECTORS);
    // One of the two slots in use, and any other one.
    for used in [0, 1] {
        for other in 0..blocks.len() {
            if other == 1 - used {
                continue;
            }
            let what = format!("slots {used} and {other}");
            let mut h = twin(&h);
            h.cache.kill(blocks[used]);
            h.cache.kill(blocks[other]);
            h.resume().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!([h.read(0), h.read(20), h.read(40)], [1, 2, 3], "{what}");
            live_on(&mut h, &what);
            assert_eq!([h.read(0), h.read(20), h.read(40)], [1, 2, 3], "{what}");
        }
    }
}

#[test]
fn a_slot_that_cannot_be_written_any_more_is_left_alone() {
    for dead in [0, 1] {
        let mut h = host();
        h.write(0, 15, 1);
        h.flush();
        // In the middle of a life; the slot can be read until then.
        h.cache.kill(CHECKPOINT_BLOCKS[dead] * BLOCK_SECTORS);
        for n in 0..4 {
            h.write(20, 15, 2 + n);
            h.drain();
        }
        h.note();
        h.crash().unwrap();
        assert_eq!([h.read(0), h.read(20)], [1, 5]);
        live_on(&mut h, &format!("slot {dead}"));
    }
}

/// Each write of a resume in turn is the last event, and its block cannot be read any more.
#[test]
fn a_resume_never_writes_to_the_only_checkpoint() {
    let mut start = host();
    start.write(0, 15, 1);
    start.flush();
    start.note();
    start.lose_power();
    // No slot, one or two slots are lost before.
    for lost in [&[][..], &[0], &[1], &[0, 2], &[1, 3]] {
        for last in 0.. {
            let mut h = twin(&start);
            lost.iter().for_each(|&i| h.cache.kill(CHECKPOINT_BLOCKS[i] * BLOCK_SECTORS));
            let (replay, _) = h.replay().unwrap();
            let (engine, cp) = replay.finish();
            h.engine = engine;
            let mut opening = Opening::new(cp);
            let mut writes = 0;
            let cut = loop {
                let Some((block, checkpoint)) = opening.want(&h.engine) else { break None };
                if writes == last {
                    break Some(block);
                }
                let ok = h.cache.try_write(block * BLOCK_SECTORS, &checkpoint_sector(checkpoint));
                opening.written(&mut h.engine, ok).unwrap();
                writes += 1;
            };
            if let Some(block) = cut {
                h.cache.lose(block * BLOCK_SECTORS);
            }
            h.resume().unwrap_or_else(|e| panic!("{lost:?}, write {last}: {e}"));
            assert_eq!((h.read(0), h.engine.state().newest), (1, Seq(1)), "{lost:?}, write {last}");
            live_on(&mut h, &format!("{lost:?}, write {last}"));
            if cut.is_none() {
                assert!(last >= 2);
                break;
            }
        }
    }
}

#[test]
fn with_a_single_slot_it_opens_and_keeps_what_it_has() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    h.note();
    h.lose_power();
    let newest = h.chosen().slot;
    // Besides that of the newest checkpoint, one slot can be written.
    let only = (newest + 2) % 4;
    let dead = (0..4).filter(|i| ![newest, only].contains(i));
    dead.for_each(|i| h.cache.kill(CHECKPOINT_BLOCKS[i] * BLOCK_SECTORS));
    h.resume().unwrap();
    h.lose_power();
    h.cache.kill(CHECKPOINT_BLOCKS[newest] * BLOCK_SECTORS);
    let chosen = h.chosen();
    // That slot had the newest checkpoint again, and is gone. The other one knows its epoch, and the records
    // of the log.
    assert_eq!(chosen.slot, only);
    let (replay, _) = h.replay().unwrap();
    let (engine, cp) = replay.finish();
    h.engine = engine;
    assert_eq!(h.open(cp), Err(Unwritable));
    assert_eq!((h.checkpoint(), h.read(0)), (chosen.checkpoint, 1));
}

/// The newest checkpoint and the first record of its epoch are lost; the second record is there, and is a
/// leftover.
#[test]
fn an_epoch_of_which_nothing_is_known_is_not_begun_again() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    let older = CHECKPOINT_BLOCKS.map(|block| h.cache.sector(block * BLOCK_SECTORS));
    let epoch = h.checkpoint().epoch;
    h.crash().unwrap();
    h.write(20, 2, 2);
    h.engine.flush();
    assert_eq!(h.poll().len(), 1);
    // This record fills the segment.
    h.write(30, u64::from(SEGMENT_BLOCKS) - 4, 3);
    h.engine.flush();
    let io = h.poll();
    let (sector, leftover) = h.bytes_of(&io[0]);
    h.lose_power();
    h.cache.poke(sector, &leftover);
    // One of the two checkpoints of the resume was durable, and rots.
    h.cache.poke(CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS, &older[0]);
    h.cache.lose(CHECKPOINT_BLOCKS[1] * BLOCK_SECTORS);
    assert_eq!(h.checkpoint().epoch, epoch);
    h.resume().unwrap();
    assert_eq!((h.read(0), h.read(20), h.read(30)), (1, 0, 0));
    assert!(h.checkpoint().epoch > epoch + 1);
    h.write(20, 2, 4);
    h.flush();
    h.crash().unwrap();
    assert_eq!((h.read(20), h.read(30)), (4, 0));
}

/// A checkpoint that was unreadable when its successor was written can be read again.
#[test]
fn a_checkpoint_that_comes_back_is_older_than_what_was_written_since() {
    let mut h = host();
    let older = h.cache.sector(CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS);
    h.crash().unwrap();
    h.lose_power();
    h.cache.poke(CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS, &older);
    h.cache.kill(CHECKPOINT_BLOCKS[1] * BLOCK_SECTORS);
    let (engine, cp) = h.replay().unwrap().0.finish();
    h.engine = engine;
    // The power fails after the first checkpoint of the resume.
    let (block, checkpoint) = Opening::new(cp).want(&h.engine).unwrap();
    assert_eq!(block, CHECKPOINT_BLOCKS[3]);
    h.cache.poke(block * BLOCK_SECTORS, &checkpoint_sector(checkpoint));
    let h = Host { cache: twin(&h).cache.healed(), ..twin(&h) };
    assert_eq!(h.checkpoint(), cp);
}

/// Whether any slot holds a checkpoint.
fn has_checkpoint(h: &Host) -> bool {
    let slots = CHECKPOINT_BLOCKS.map(|block| {
        let sector = h.cache.try_read(block * BLOCK_SECTORS, 1);
        Held::of(sector.as_ref().ok().map(|b| b.first_chunk().unwrap()), &h.sb)
    });
    Checkpoint::choose(&slots).is_ok()
}

#[test]
fn older_checkpoints_do_not_stay_behind() {
    let mut h = host();
    h.write(0, 15, 1);
    h.flush();
    h.cache.kill(CHECKPOINT_BLOCKS[0] * BLOCK_SECTORS);
    h.crash().unwrap();
    h.drain();
    let in_use = |h: &Host| h.chosen().filled;
    assert_eq!(in_use(&h), [true, true, true, false], "one of them cannot be read");
    // The slot can be read again, and has its old contents.
    let mut h = Host { cache: twin(&h).cache.healed(), backing: h.backing.clone(), ..host() };
    h.crash().unwrap();
    assert_eq!(h.engine.state().dirty, 0);
    assert_eq!(in_use(&h), [true, true, false, false]);
    // Both slots are lost: no other slot is mistaken for a checkpoint.
    CHECKPOINT_BLOCKS[..2].iter().for_each(|block| h.cache.lose(block * BLOCK_SECTORS));
    assert!(!has_checkpoint(&h));
}

/// The tail moves, and the first attempt to write the checkpoint fails, though it may be there.
fn move_tail_with_a_blip(h: &mut Host, n: u64, is_there: bool) {
    h.write(0, 15, n);
    h.flush();
    h.write_back();
    let cp = h.engine.advance_tail(true).unwrap();
    if is_there {
        h.cache.poke(h.engine.checkpoint_block() * BLOCK_SECTORS, &cp.encode());
    }
    h.engine.checkpoint_missed();
    h.write_checkpoint(&cp);
    h.engine.checkpointed(true);
    h.blank_stale();
}

/// The slots that are not blank.
fn in_use(h: &Host) -> [bool; 4] {
    CHECKPOINT_BLOCKS.map(|block| h.cache.sector(block * BLOCK_SECTORS) != [0; SECTOR])
}

#[test]
fn no_slot_keeps_a_checkpoint_from_before_it_failed_once() {
    for is_there in [false, true] {
        let mut h = host();
        for n in 1..3 {
            move_tail_with_a_blip(&mut h, n, is_there);
            assert_eq!(in_use(&h).iter().filter(|is| **is).count(), 2, "blip {n}: {:?}", in_use(&h));
        }
        assert_eq!(in_use(&h), [false, false, true, true]);
        for n in 3..8 {
            h.write(20, 15, n);
            h.drain();
        }
        assert_eq!(in_use(&h), [false, false, true, true]);
        // A suspend moves the checkpoints back to the first two slots, where all versions look.
        let mut asleep = twin(&h);
        std::mem::swap(&mut asleep.engine, &mut h.engine);
        asleep.note();
        assert_eq!(in_use(&asleep), [true, true, false, false]);
        // With both slots lost, nothing is mistaken for a checkpoint.
        [2, 3].iter().for_each(|&i| h.cache.lose(CHECKPOINT_BLOCKS[i] * BLOCK_SECTORS));
        assert!(!has_checkpoint(&h));
    }
}

#[test]
fn a_slot_that_cannot_be_blanked_is_tried_again_and_not_each_time() {
    let mut h = host();
    move_tail_with_a_blip(&mut h, 1, false);
    let generation = h.checkpoint().generation;
    let old = ((generation % 2) as usize, CHECKPOINT_BLOCKS[(generation % 2) as usize]);
    // As if blanking had failed.
    let stale = Checkpoint { generation: generation - 2, ..h.checkpoint() };
    h.cache.poke(old.1 * BLOCK_SECTORS, &stale.encode());
    h.engine.checkpoint_blanked(old.1, false);
    assert_eq!(h.engine.stale_checkpoint(), None);
    let mut rounds = 0;
    while in_use(&h)[old.0] {
        rounds += 1;
        assert!(rounds < 10);
        h.write(20, 15, rounds);
        h.drain();
    }
    assert!(rounds > 1, "not at once");
}

#[test]
fn a_suspend_ends_though_a_slot_is_dead() {
    for dead in [&[0][..], &[1], &[0, 1], &[0, 3]] {
        let mut h = host();
        h.write(0, 15, 1);
        h.flush();
        dead.iter().for_each(|&i| h.cache.kill(CHECKPOINT_BLOCKS[i] * BLOCK_SECTORS));
        for n in 2..6 {
            h.write(0, 15, n);
            h.flush();
            let before = h.engine.state().newest;
            h.note();
            h.note();
            h.crash().unwrap();
            assert_eq!((h.engine.state().newest, h.read(0)), (before, n), "{dead:?}");
        }
        live_on(&mut h, &format!("{dead:?}"));
    }
}

#[test]
fn a_header_that_is_lost_inside_the_log_is_named() {
    let mut h = host();
    h.write(0, 15, 1);
    h.write(100, 15, 2);
    h.write(200, 3, 3);
    h.flush();
    h.write(300, 3, 4);
    h.flush();
    h.lose_power();
    for (bad, end) in [(0, Seq(1)), (SEGMENT_BLOCKS, Seq(2)), (2 * SEGMENT_BLOCKS, Seq(3))] {
        let mut h = Host { cache: h.cache.clone(), backing: h.backing.clone(), ..host() };
        h.cache.lose(h.sector_of(Slot(bad)) + 7);
        let damage = h.resume().unwrap_err();
        let Damage::Unreadable { end: found, slot, durable } = damage else { panic!("{damage:?}") };
        assert_eq!((found, slot), (end, Slot(bad)));
        assert!(durable >= end && damage.to_string().contains(&format!("slot {bad},")), "{damage}");
    }
}

/// If more is lost than a power cut leaves, it cannot be known whether durable records are lost there, or the
/// log had ended.
#[test]
fn a_log_that_goes_into_a_large_area_that_is_lost_has_no_end() {
    let mut h = Host::new(40, 16_000);
    h.write(0, 15, 1);
    h.flush();
    h.lose_power();
    let sound = h.cache.clone();
    let next = beginning(&h, 1);
    let mut lose = |blocks: u32, apart: u64| {
        h.cache = sound.clone();
        (0..u64::from(blocks)).for_each(|i| h.cache.lose(next + i * apart * BLOCK_SECTORS));
        let (mut reads, mut lost) = (0, 0);
        let mut replay = Replay::new(&h.sb, h.chosen(), 4).unwrap();
        let end = loop {
            let Want::Read { slot, blocks } = replay.want() else { break Ok(()) };
            reads += 1;
            let fed = match h.cache.try_read(h.sector_of(slot), u64::from(blocks) * BLOCK_SECTORS) {
                Ok(b) => replay.feed(&b),
                Err(_) => {
                    lost += 1;
                    replay.feed_unreadable(Loss::Lost)
                }
            };
            if let Err(damage) = fed {
                break Err(damage);
            }
        };
        assert!(reads < 5000);
        (end, lost)
    };
    for apart in [1, 3, 16] {
        assert_eq!(lose(FEW, apart).0, Ok(()), "{apart} blocks apart");
        let (end, lost) = lose(38, apart);
        assert_eq!(
            end,
            Err(Damage::Area { end: Seq(2), slot: Slot(SEGMENT_BLOCKS) }),
            "{apart} blocks apart"
        );
        assert!(lost <= FEW + 1, "{lost} reads that fail");
    }
}

/// dm-integrity reports this for everything that was never written, and without a journal for everything that
/// was in flight.
#[test]
fn any_number_of_blocks_behind_the_log_may_not_match() {
    const MISMATCH: i32 = 84;
    for segments in [4, 39] {
        let mut h = Host::new(40, 16_000);
        h.write(0, 15, 1);
        h.flush();
        h.lose_power();
        let (first, end) = (beginning(&h, 1), beginning(&h, 1 + segments));
        h.cache.go_away(first..end, MISMATCH);
        h.resume().unwrap_or_else(|e| panic!("{segments} segments: {e}"));
        assert_eq!([h.read(0), h.read(14)], [1, 1]);
        // After a write it matches.
        h.cache.come_back();
        h.write(100, 15, 2);
        h.flush();
        h.crash().unwrap();
        assert_eq!([h.read(0), h.read(100)], [1, 2]);
    }
    // Among the unreadable blocks there is a record that knows that the first of them was durable.
    let mut h = Host::new(40, 16_000);
    (0..6).for_each(|i| {
        h.write(100 * i, 15, i + 1);
        h.flush();
    });
    h.lose_power();
    h.cache.go_away(beginning(&h, 1)..beginning(&h, 5), MISMATCH);
    let damage = h.resume().unwrap_err();
    assert!(matches!(damage, Damage::Unreadable { end: Seq(2), durable: Seq(2..), .. }), "{damage:?}");
}

/// Lost data of earlier records say nothing about the log's end.
#[test]
fn what_is_looked_through_behind_the_log_ends_at_its_tail() {
    let mut h = Host::new(20, 16_000);
    (0..6).for_each(|i| {
        h.write(100 * i, 15, i + 1);
        h.flush();
    });
    h.lose_power();
    for segment in 0..5 {
        (1..11).for_each(|i| h.cache.lose(beginning(&h, segment) + i * BLOCK_SECTORS));
    }
    h.cache.lose(beginning(&h, 6));
    h.resume().unwrap();
    assert_eq!((h.engine.state().newest, h.read(514)), (Seq(6), 6));
}

/// Segment 0 holds record 1, and the header of record 2 with or without its data, from a life that a crash
/// has ended.
fn with_a_second_record(whole: bool) -> Host {
    let mut h = host();
    h.write(0, 2, 1);
    h.flush();
    h.write(10, 3, 2);
    h.engine.flush();
    let io = h.poll()[0];
    let (sector, bytes) = h.bytes_of(&io);
    let len = if whole { bytes.len() } else { BLOCK };
    h.cache.write(sector, &bytes[..len], true);
    h.crash().unwrap();
    assert_eq!(h.engine.state().newest, Seq(if whole { 2 } else { 1 }));
    h
}

#[test]
fn where_a_later_record_cannot_be_read_one_that_was_spoilt_does_not_come_back() {
    let mut h = with_a_second_record(false);
    // The number of record 2 is given again, in the next segment.
    h.write(20, 3, 3);
    h.flush();
    h.crash().unwrap();
    assert_eq!([h.read(10), h.read(20)], [0, 3]);
    h.lose_power();
    h.cache.lose(beginning(&h, 1));
    assert!(matches!(h.resume(), Err(Damage::Unreadable { end: Seq(2), durable: Seq(2), .. })));
}

#[test]
fn where_nothing_can_be_read_behind_the_log_what_is_whole_counts() {
    let mut h = with_a_second_record(true);
    for _ in 0..3 {
        h.crash().unwrap();
    }
    h.cache.lose(beginning(&h, 1));
    h.crash().unwrap();
    assert_eq!((h.engine.state().newest, h.read(0), h.read(10)), (Seq(2), 1, 2));
}

/// Looks at the dirty blocks of the oldest segments as relocation in the kernel's host does: reads them, and
/// asks whether the unreadable ones are lost. Returns the answer for each of these.
fn look(h: &Host, lost: &mut Lost, now_ms: u64) -> Vec<bool> {
    let checks = h.engine.checks();
    let nr = h.sb.nr_segments;
    let near = |slot: Slot| {
        let segment = slot.segment(SEGMENT_BLOCKS);
        let around = Around::look(slot, nr * SEGMENT_BLOCKS, |place| {
            match h.cache.try_read(h.sector_of(place), BLOCK_SECTORS) {
                Err(errno) => Sight::Error(Word::of(errno)),
                Ok(b) if crc32c(0, &b) == checks.checksum(place) => Sight::Right,
                Ok(_) => Sight::Readable,
            }
        });
        let see = |segment: Segment| match (
            h.cache.try_read(beginning(h, segment.0), BLOCK_SECTORS),
            h.engine.record_at(segment),
        ) {
            (Err(errno), _) => Sight::Error(Word::of(errno)),
            (Ok(_), None) => Sight::Readable,
            (Ok(b), Some(seq)) if RecordHeader::is_of(b[..].first_chunk().unwrap(), h.sb.nonce, seq) => {
                Sight::Right
            }
            _ => Sight::Wrong,
        };
        let beside = [see(segment.before(nr)), see(segment.next(nr))];
        Near { own: see(segment), beside, around }
    };
    lost.begin(now_ms);
    let batch = plan_relocation(h, 100);
    let mut found = Vec::new();
    for item in batch.items() {
        let sight = match h.cache.try_read(h.sector_of(item.slot), BLOCK_SECTORS) {
            Err(errno) => Sight::Error(Word::of(errno)),
            Ok(b) if crc32c(0, &b) == checks.checksum(item.slot) => continue,
            Ok(_) => Sight::Wrong,
        };
        let crc = checks.checksum(item.slot);
        let near = near(item.slot);
        found.push(lost.wants(item.slot, crc) && lost.look(item.slot, crc, sight, &near));
    }
    lost.end(now_ms);
    found
}

/// Four full segments, and one block in a fifth: all of it is durable.
fn four_segments_and_some() -> Host {
    let mut h = host();
    for i in 0..4 {
        h.write(i * 100, 15, i + 1);
        h.flush();
    }
    h.write(900, 1, 9);
    h.flush();
    h
}

/// Each disk in turn has a chunk, and headers are on the other disks. A locked disk that reports the medium's
/// error for all its blocks has lost nothing. Its part is a whole chunk, a chunk at a time, or the rest of a
/// chunk.
#[test]
fn a_disk_that_is_locked_has_lost_nothing() {
    let mut h = four_segments_and_some();
    let sound = h.cache.clone();
    for part in [1..16, 1..9, 8..16, 4..12] {
        h.cache = sound.clone();
        let slots = SEGMENT_BLOCKS + part.start..SEGMENT_BLOCKS + part.end;
        slots.for_each(|slot| h.cache.lose(h.sector_of(Slot(slot))));
        let mut lost = Lost::new(100).unwrap();
        for second in 0..3600 {
            lost.hurry(second * 1000);
            let found = look(&h, &mut lost, second * 1000);
            assert!(!found.is_empty() && !found.contains(&true), "{part:?} after {second} s");
        }
    }
}

#[test]
fn what_is_away_is_never_given_up_and_what_the_medium_has_lost_is_in_minutes() {
    let mut h = four_segments_and_some();
    let region = beginning(&h, 1)..beginning(&h, 3);
    let parts =
        [region.clone(), region.start + BLOCK_SECTORS..region.end, region.start + 8..region.start + 16];
    for (part, errno) in parts.iter().flat_map(|p| AWAY.map(|e| (p.clone(), e))) {
        h.cache.go_away(part.clone(), errno);
        let mut lost = Lost::new(100).unwrap();
        for second in 0..3600 {
            lost.hurry(second * 1000);
            let found = look(&h, &mut lost, second * 1000);
            assert!(!found.is_empty() && !found.contains(&true), "{part:?}, error {errno}, after {second} s");
        }
        h.cache.come_back();
        assert!(look(&h, &mut lost, 3_600_000).is_empty());
    }
    // One block is lost, and a block beside it is away for a while: nothing can be concluded then. After that
    // it takes minutes.
    h.cache.lose(beginning(&h, 2) + 3 * BLOCK_SECTORS);
    assert_eq!(h.cache.try_read(beginning(&h, 2) + 3 * BLOCK_SECTORS, 8).err(), Some(MEDIUM));
    let mut lost = Lost::new(100).unwrap();
    let mut second = 0;
    loop {
        match second {
            100 => h.cache.go_away(beginning(&h, 3)..beginning(&h, 3) + 1, AWAY[2]),
            110 => h.cache.come_back(),
            _ => (),
        }
        if !lost.is_early(second * 1000) && look(&h, &mut lost, second * 1000) == [true] {
            break;
        }
        second += 1;
    }
    assert!((400..430).contains(&second), "after {second} s");
}
