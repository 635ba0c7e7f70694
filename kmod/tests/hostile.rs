// SPDX-License-Identifier: GPL-2.0-only

//! Nothing read from a device is trusted: images that a crash has left are changed at random, with the checksums put
//! right again. What comes of it is an error, or an engine that works. Never a panic, never an endless loop.
//!
//! `WRITEBOOST_SEED` and `WRITEBOOST_RUNS` as in `crash.rs`.

mod sim;

use sim::rng::Rng;
use sim::volume::Sim;
use std::panic::{catch_unwind, AssertUnwindSafe};
use writeboost::engine::format::{Checkpoint, RecordHeader, Superblock, BLOCK, BLOCK_SECTORS, SECTOR};
use writeboost::engine::log::{Io, Refused, Wait};
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::Batch;
use writeboost::engine::replay::{Replay, Want};
use writeboost::engine::{Engine, Entry, Part};
use writeboost::os::crc32c;

const NR_BUFFERS: u8 = 3;

/// What came of an image.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Fate {
    Refused,
    Damaged,
    Works,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// Puts a checksum right: offset of the structure, its length, offset of the checksum in it.
fn fix(image: &mut [u8], at: usize, len: usize, crc_at: usize) {
    let b = &mut image[at..at + len];
    b[crc_at..crc_at + 4].fill(0);
    let crc = crc32c(0, b);
    b[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Offsets of all record headers.
fn headers(sb: &Superblock, image: &[u8]) -> Vec<usize> {
    let first = sb.first_block as usize;
    (first..first + (sb.nr_segments * sb.segment_blocks) as usize)
        .map(|b| b * BLOCK)
        .filter(|&at| {
            let offset = (at / BLOCK - first) as u32 % sb.segment_blocks;
            RecordHeader::decode(image[at..at + BLOCK].first_chunk().unwrap(), sb, offset).is_ok()
        })
        .collect()
}

/// A number that is near `x`, near a limit, or anything.
fn odd(rng: &mut Rng, x: u64) -> u64 {
    match rng.below(8) {
        0..=2 => x.wrapping_add(rng.below(5)).wrapping_sub(2),
        3 => x.wrapping_add(rng.below(200)).wrapping_sub(100),
        4 => rng.pick(&[0, 1, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 62) + 1, u64::MAX - 1, u64::MAX]),
        5 => rng.below(64),
        6 => x,
        _ => rng.next(),
    }
}

fn change(rng: &mut Rng, image: &mut [u8], at: usize, width: usize) {
    let mut b = [0; 8];
    b[..width].copy_from_slice(&image[at..at + width]);
    let x = odd(rng, u64::from_le_bytes(b));
    image[at..at + width].copy_from_slice(&x.to_le_bytes()[..width]);
}

fn mutate(rng: &mut Rng, sb: &Superblock, image: &mut [u8]) {
    let all = headers(sb, image);
    for _ in 0..rng.range(1, 6) {
        match rng.below(8) {
            0 => {
                let (at, width) = rng.pick(&[(40, 8), (48, 4), (52, 4), (56, 4), (64, 8), (192, 8), (8, 4)]);
                change(rng, image, at, width);
                fix(image, 0, SECTOR, 12);
            }
            1 | 2 => {
                let block = BLOCK * rng.range(1, 2) as usize;
                let (at, width) = rng.pick(&[
                    (24, 8),
                    (32, 8),
                    (32, 8),
                    (40, 8),
                    (40, 8),
                    (48, 8),
                    (56, 8),
                    (64, 4),
                    (64, 4),
                ]);
                change(rng, image, block + at, width);
                fix(image, block, SECTOR, 12);
            }
            3..=5 if !all.is_empty() => {
                let header = rng.pick(&all);
                let entry = 64 + 12 * rng.index(15);
                let (at, width) = rng.pick(&[
                    (16, 8),
                    (16, 8),
                    (24, 8),
                    (24, 8),
                    (32, 8),
                    (40, 8),
                    (48, 2),
                    (48, 2),
                    (entry, 5),
                    (entry + 5, 1),
                    (entry + 8, 4),
                ]);
                change(rng, image, header + at, width);
                fix(image, header, BLOCK, 4);
            }
            6 if !all.is_empty() => {
                // A header somewhere else, as its successor or predecessor perhaps.
                let from = rng.pick(&all);
                let to = if rng.one_in(2) {
                    rng.pick(&all)
                } else {
                    (sb.first_block + rng.below(u64::from(sb.nr_segments)) as u32 * sb.segment_blocks)
                        as usize
                        * BLOCK
                };
                image.copy_within(from..from + BLOCK, to);
                let other = rng.pick(&all);
                let seq = u64::from_le_bytes(image[other + 16..other + 24].try_into().unwrap());
                let seq = seq.wrapping_add(rng.below(3)).wrapping_sub(1);
                image[to + 16..to + 24].copy_from_slice(&seq.to_le_bytes());
                let durable = seq.saturating_sub(rng.range(1, 64));
                image[to + 32..to + 40].copy_from_slice(&durable.to_le_bytes());
                fix(image, to, BLOCK, 4);
            }
            7 if !all.is_empty() => {
                // The whole log is another epoch's, or its numbers are high.
                let add = odd(rng, 0) & !(u64::MAX << rng.below(64));
                let at = rng.pick(&[16, 24]);
                for &h in &all {
                    for at in if at == 16 { &[16, 32][..] } else { &[24][..] } {
                        let b = &mut image[h + at..h + at + 8];
                        let x = u64::from_le_bytes(b.try_into().unwrap()).wrapping_add(add);
                        b.copy_from_slice(&x.to_le_bytes());
                    }
                    fix(image, h, BLOCK, 4);
                }
                for block in [BLOCK, 2 * BLOCK] {
                    for at in if at == 16 { &[40, 48, 56][..] } else { &[32][..] } {
                        let b = &mut image[block + at..block + at + 8];
                        let x = u64::from_le_bytes(b.try_into().unwrap()).wrapping_add(add);
                        b.copy_from_slice(&x.to_le_bytes());
                    }
                    fix(image, block, SECTOR, 12);
                }
            }
            _ => {
                let at = rng.index(image.len());
                image[at] ^= 1 << rng.below(8);
            }
        }
    }
}

fn sector(image: &[u8], block: usize) -> &[u8; SECTOR] {
    image[block * BLOCK..].first_chunk().unwrap()
}

fn open(image: &[u8]) -> Result<(Superblock, Engine), Fate> {
    let sb = Superblock::decode(sector(image, 0)).map_err(|_| Fate::Refused)?;
    // Every host compares with the sizes of the devices before it allocates anything.
    if sb.cache_sectors() > (image.len() / SECTOR) as u64 {
        return Err(Fate::Refused);
    }
    let cp = Checkpoint::choose(sector(image, 1), sector(image, 2), &sb).map_err(|_| Fate::Refused)?;
    let mut replay = Replay::new(&sb, cp, NR_BUFFERS).unwrap();
    let mut reads = 0;
    while let Want::Read { slot, blocks } = replay.want() {
        assert!(blocks >= 1 && slot + blocks <= sb.nr_segments * sb.segment_blocks);
        let at = (sb.first_block + slot) as usize * BLOCK;
        replay.feed(&image[at..at + blocks as usize * BLOCK]).map_err(|_| Fate::Damaged)?;
        reads += 1;
        assert!(reads <= 4 * sb.nr_segments * sb.segment_blocks, "endless");
    }
    let (engine, cp) = replay.finish();
    // What is written must be accepted again, unless the count has really come to its end.
    let last = 1 << 62;
    assert!(
        Checkpoint::decode(&cp.encode(), &sb) == Ok(cp)
            || cp.generation.max(cp.epoch).max(cp.durable) >= last
    );
    Ok((sb, engine))
}

fn write_back(engine: &mut Engine, batch: &mut Batch) {
    engine.begin_batch(batch);
    while engine.plan_writeback(batch) {}
    batch.sort();
    for i in 0..batch.items().len() {
        let item = batch.items()[i];
        if engine.begin_item(batch, &item).is_some() {
            engine.pins().unpin(item.slot);
            engine.written_back(batch, &item);
        }
    }
    if engine.advance_tail(false).is_some() {
        engine.checkpointed(true);
    }
}

/// Uses an engine for a while: it must go on working.
fn exercise(rng: &mut Rng, sb: &Superblock, engine: &mut Engine) {
    let sectors = sb.backing_sectors;
    let mut batch = Batch::new((sb.nr_segments * sb.segment_blocks) as usize).unwrap();
    let mut header = [0; BLOCK];
    let mut written = 0;
    for _ in 0..400 {
        let sector = rng.below(sectors);
        match rng.below(3) {
            0 => match engine.lookup(sector, rng.range(1, 500).min(sectors - sector)) {
                Run::Backing(_) => (),
                Run::Cache { slot, .. } => {
                    engine.pins().unpin(slot);
                }
                Run::Pieces(pieces) => {
                    for p in pieces.as_slice() {
                        match p.ram {
                            Some((buffer, _)) => engine.unpin_buffer(buffer),
                            None => {
                                engine.pins().unpin(p.slot);
                            }
                        }
                    }
                }
            },
            1 => match engine.claim(rng.range(1, 20) as u32) {
                Ok(claim) => {
                    for i in 0..claim.blocks {
                        let sector = (sector + u64::from(i) * BLOCK_SECTORS) % sectors;
                        let part = Part::first_of(sector, (sectors - sector).min(8));
                        engine.stored(
                            &claim,
                            claim.slot + i,
                            Entry { addr: part.addr, mask: part.mask(), crc: 0 },
                        );
                    }
                    engine.copied(&claim);
                    written += 1;
                }
                Err(Refused::Wait(Wait::Space)) => {
                    engine.flush();
                    while let Some(io) = engine.poll() {
                        done(engine, io, &mut header);
                    }
                    write_back(engine, &mut batch);
                }
                Err(Refused::Wait(Wait::Progress)) => {
                    while let Some(io) = engine.poll() {
                        done(engine, io, &mut header);
                    }
                }
                Err(Refused::Failed) => panic!("failed"),
            },
            _ => {
                if rng.one_in(4) {
                    engine.flush();
                }
                if let Some(io) = engine.poll() {
                    done(engine, io, &mut header);
                }
            }
        }
    }
    assert!(written > 0, "no claim was ever granted: {:?}", engine.state());
    engine.flush();
    while let Some(io) = engine.poll() {
        done(engine, io, &mut header);
    }
    write_back(engine, &mut batch);
    assert_eq!(engine.state().dirty, 0);
}

fn done(engine: &mut Engine, io: Io, header: &mut [u8; BLOCK]) {
    match io {
        Io::Record { seq, fua, .. } => {
            engine.encode_header(seq, header);
            engine.record_done(seq, fua, true);
        }
        Io::Flush { upto } => engine.flush_done(upto, true),
    }
}

#[test]
fn no_image_makes_it_panic() {
    let seeds = match number("WRITEBOOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WRITEBOOST_RUNS").unwrap_or(60),
    };
    let many = seeds.end - seeds.start > 1;
    let mut fates = Vec::new();
    for seed in seeds {
        let one = || {
            let mut rng = Rng::new(seed ^ 0xb0b0);
            let mut sim = Sim::new(seed);
            for _ in 0..rng.below(3) {
                sim.image();
            }
            let (sb, good) = sim.image();
            (0..8)
                .map(|_| {
                    let mut image = good.clone();
                    mutate(&mut rng, &sb, &mut image);
                    match open(&image) {
                        Ok((sb, mut engine)) => {
                            exercise(&mut rng, &sb, &mut engine);
                            Fate::Works
                        }
                        Err(fate) => fate,
                    }
                })
                .collect::<Vec<_>>()
        };
        match catch_unwind(AssertUnwindSafe(one)) {
            Ok(some) => fates.extend(some),
            Err(_) => panic!("seed {seed}: WRITEBOOST_SEED={seed} repeats it"),
        }
    }
    let count = |fate| fates.iter().filter(|&&f| f == fate).count();
    let counts = [Fate::Refused, Fate::Damaged, Fate::Works].map(count);
    println!("refused, damaged, works: {counts:?}");
    assert!(!many || counts.iter().all(|&n| n > 0));
}
