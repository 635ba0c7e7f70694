// SPDX-License-Identifier: GPL-2.0-only

//! A machine that hibernates: the same life twice up to the snapshot. One copy is the image, the other one is
//! a system that uses the devices until the image comes back. If that system has written anything to the
//! cache device, the image must notice; otherwise it loses the writes that it accepts from then on.

mod sim;

use sim::host::{Host, SEGMENT_BLOCKS};
use sim::rng::Rng;
use writeboost::engine::sleep::{Changed, Comparison};
use writeboost::format::{Checkpoint, Held, Segment, Seq, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS};

/// Compares the image with the cache device.
fn compare(h: &Host) -> Result<(), Changed> {
    compare_without(h, &[])
}

/// The memory of the image comes back, and the volume goes on if nothing has changed.
fn go_on(h: &mut Host) -> Result<(), Changed> {
    let mut comparison = Comparison::default();
    let slots = checkpoint_sectors().map(|s| {
        let sector = h.cache.try_read(s, 1).ok();
        Held::of(sector.as_ref().map(|b| b.first_chunk().unwrap()), &h.sb)
    });
    comparison.checkpoints(&h.engine, &slots);
    for slot in h.engine.telling_slots().into_iter().flatten() {
        let block = h.cache.try_read(h.sector_of(slot), BLOCK_SECTORS).ok();
        comparison.block(&h.engine, slot, block.as_ref().and_then(|b| b.first_chunk::<BLOCK>()));
    }
    comparison.conclude(&mut h.engine)
}

/// The same, when the medium cannot return the blocks at these sectors.
fn compare_without(h: &Host, unreadable: &[u64]) -> Result<(), Changed> {
    let mut comparison = Comparison::default();
    let slot = |sector: u64| {
        let is_there = !unreadable.contains(&sector);
        Held::of(is_there.then(|| h.cache.sector(sector)).as_ref(), &h.sb)
    };
    comparison.checkpoints(&h.engine, &checkpoint_sectors().map(slot));
    for slot in h.engine.telling_slots().into_iter().flatten() {
        let block = h.cache.read(h.sector_of(slot), BLOCK_SECTORS);
        let is_there = !unreadable.contains(&h.sector_of(slot));
        comparison.block(&h.engine, slot, block.first_chunk::<BLOCK>().filter(|_| is_there));
    }
    comparison.verdict()
}

fn checkpoint_sectors() -> [u64; 4] {
    CHECKPOINT_BLOCKS.map(|block| block * BLOCK_SECTORS)
}

/// The first sectors of all places that are compared.
fn places(h: &Host) -> Vec<u64> {
    let slots = h.engine.telling_slots().into_iter().flatten().map(|slot| h.sector_of(slot));
    checkpoint_sectors().into_iter().chain(slots).collect()
}

/// The memory of `image` comes back on the disks as `other` has left them.
fn come_back(image: &mut Host, other: &Host) -> Result<(), Changed> {
    image.cache = other.cache.clone();
    image.backing = other.backing.clone();
    compare(image)
}

/// A life, twice.
fn twins(life: impl Fn() -> Host) -> (Host, Host) {
    let (image, other) = (life(), life());
    assert_eq!(image.engine.state(), other.engine.state());
    assert_eq!(compare(&image), Ok(()));
    (image, other)
}

fn some_writes() -> Host {
    let mut h = Host::new(16, 16_000);
    h.write(0, 20, 1);
    h.flush();
    h
}

#[test]
fn nobody_was_there() {
    let (mut image, other) = twins(some_writes);
    assert_eq!(come_back(&mut image, &other), Ok(()));
    image.write(100, 3, 7);
    image.flush();
    image.crash().unwrap();
    assert_eq!([image.read(0), image.read(100)], [1, 7]);
}

#[test]
fn writeback_that_goes_on_after_the_snapshot_is_noticed() {
    let (mut image, mut other) = twins(some_writes);
    let before = other.checkpoint();
    other.write_back();
    other.move_tail(true);
    let generation = other.checkpoint().generation;
    assert_eq!(generation, before.generation + 1);
    assert_eq!(
        come_back(&mut image, &other),
        Err(Changed::Checkpoint { expected: before.generation, found: Some(generation) })
    );
    // The reason for the check: an image that goes on all the same loses writes that it has acknowledged.
    image.write(100, 3, 7);
    image.flush();
    assert_eq!(image.read(100), 7);
    image.crash().unwrap();
    assert_eq!(image.read(100), 0);
}

#[test]
fn a_record_behind_the_head_is_noticed() {
    // The head has room, or is full, or has an open record.
    for (blocks, open) in [(3, 0), (15, 0), (3, 2), (14, 0), (3, 12)] {
        let (mut image, mut other) = twins(|| {
            let mut h = Host::new(16, 16_000);
            h.write(0, blocks, 1);
            h.flush();
            if open != 0 {
                h.write(50, open, 2);
            }
            h
        });
        let newest = other.checkpoint();
        other.write(100, 1, 3);
        other.flush();
        assert_eq!(other.checkpoint(), newest, "no checkpoint tells");
        assert_eq!(
            come_back(&mut image, &other),
            Err(Changed::Appended { found: Seq(2) }),
            "{blocks} {open}"
        );
    }
}

#[test]
fn another_resume_is_noticed_whatever_came_of_it() {
    let (mut image, mut other) = twins(some_writes);
    let expected = other.checkpoint().generation;
    other.resume().unwrap();
    let changed = Changed::Checkpoint { expected, found: Some(expected + 2) };
    assert_eq!(come_back(&mut image, &other), Err(changed));
    other.write(0, 30, 2);
    other.drain();
    assert!(come_back(&mut image, &other).is_err());
}

#[test]
fn another_format_is_noticed() {
    let (mut image, mut other) = twins(some_writes);
    let expected = other.checkpoint().generation;
    let first = Checkpoint::first(other.sb.nonce + 1);
    CHECKPOINT_BLOCKS.iter().for_each(|block| other.cache.poke(block * BLOCK_SECTORS, &[0; BLOCK]));
    other.cache.poke(first.block() * BLOCK_SECTORS, &first.encode());
    let changed = Changed::Checkpoint { expected, found: None };
    assert_eq!(come_back(&mut image, &other), Err(changed));
}

#[test]
fn an_older_state_of_the_device_is_noticed() {
    let newest = some_writes().engine.durable();
    let with_one_more = || {
        let mut h = some_writes();
        h.write(40, 3, 2);
        h.flush();
        h
    };
    // The checkpoint is the same, but the last record is not there.
    let mut image = with_one_more();
    assert_eq!(come_back(&mut image, &some_writes()), Err(Changed::Missing { expected: newest.next() }));
    // There is an older checkpoint.
    let mut image = with_one_more();
    image.drain();
    let expected = image.checkpoint().generation;
    let found = Some(some_writes().checkpoint().generation);
    assert_eq!(come_back(&mut image, &with_one_more()), Err(Changed::Checkpoint { expected, found }));
}

#[test]
fn a_checkpoint_with_the_right_number_must_be_the_same_in_all_else() {
    let (mut image, mut other) = twins(some_writes);
    let cp = other.checkpoint();
    for wrong in [
        Checkpoint { epoch: cp.epoch + 1, ..cp },
        Checkpoint { epoch_start: cp.epoch_start.next(), ..cp },
        Checkpoint { durable: cp.durable.next(), ..cp },
        Checkpoint { tail: cp.tail.next(), durable: cp.durable.next(), ..cp },
        Checkpoint { tail_segment: Segment(cp.tail_segment.0 + 1), ..cp },
    ] {
        other.write_checkpoint(&wrong);
        let changed = Changed::Checkpoint { expected: cp.generation, found: Some(cp.generation) };
        assert_eq!(come_back(&mut image, &other), Err(changed), "{wrong:?}");
    }
}

#[test]
fn one_unreadable_place_is_no_difference_and_two_are() {
    let mut image = some_writes();
    image.drain();
    image.write(100, 3, 1);
    image.flush();
    let places = places(&image);
    assert_eq!(
        places.len(),
        7,
        "the slots of checkpoints, the head, the segment behind it, and the last record"
    );
    for (i, &one) in places.iter().enumerate() {
        assert_eq!(compare_without(&image, &[one]), Ok(()), "place {i}");
        for &other in &places[..i] {
            assert!(compare_without(&image, &[one, other]).is_err(), "place {i} and sector {other}");
        }
    }
}

#[test]
fn a_lost_checkpoint_is_no_excuse_for_another_one() {
    let mut image = some_writes();
    for value in 2..6 {
        image.drain();
        image.write(30, 2, value);
        image.flush();
    }
    let newest = image.checkpoint();
    let sector = newest.block() * BLOCK_SECTORS;
    assert_eq!(compare_without(&image, &[sector]), Ok(()));
    let others = checkpoint_sectors().into_iter().filter(|&other| other != sector);
    let before = image.cache.clone();
    for generation in [newest.generation - 3, newest.generation + 1] {
        for other in others.clone() {
            image.cache = before.clone();
            others.clone().for_each(|other| image.cache.poke(other, &[0; BLOCK]));
            image.cache.poke(other, &Checkpoint { generation, ..newest }.encode());
            let changed = Changed::Checkpoint { expected: newest.generation, found: Some(generation) };
            assert_eq!(compare_without(&image, &[sector]), Err(changed));
        }
    }
    // Slots without a checkpoint could have held it.
    others.for_each(|other| image.cache.poke(other, &[0; BLOCK]));
    assert!(compare_without(&image, &[sector]).is_err());
}

/// The newest checkpoint is lost while the machine sleeps, and the first one that is written afterwards is
/// lost in a power cut.
#[test]
fn the_checkpoint_before_a_lost_one_is_kept_until_there_is_another() {
    for (times, is_asleep_again) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut image = some_writes();
        for value in 0..times {
            image.drain();
            image.write(100, 3, 1 + value);
            image.flush();
        }
        let newest = image.chosen();
        let sector = checkpoint_sectors()[newest.slot];
        image.cache.lose(sector);
        assert_eq!(go_on(&mut image), Ok(()));
        if is_asleep_again {
            assert_eq!(go_on(&mut image), Ok(()));
        }
        let before = image.chosen();
        assert_eq!(before.checkpoint.generation + 1, newest.checkpoint.generation);
        // Nothing is to be freed.
        let cp = image.engine.advance_tail(false).expect("the first that is done when it is awake");
        let next = image.engine.checkpoint_block() * BLOCK_SECTORS;
        assert!(![sector, checkpoint_sectors()[before.slot]].contains(&next));
        image.cache.poke(next, &cp.encode());
        image.engine.checkpointed(true);
        assert_eq!(image.engine.advance_tail(false), None, "one is enough");
        image.cache.lose(next);
        image.crash().unwrap();
        assert_eq!([image.read(0), image.read(100)], [1, times], "{times} {is_asleep_again}");
    }
}

#[test]
fn a_slot_that_another_one_stands_in_for_is_no_difference() {
    let mut image = some_writes();
    image.drain();
    image.write(100, 3, 1);
    image.flush();
    let places = places(&image);
    // A stand-in slot that was not needed yet.
    let unused = CHECKPOINT_BLOCKS[3] * BLOCK_SECTORS;
    let behind = places[5];
    assert!(compare_without(&image, &[unused, behind]).is_err());
    // The engine has found the slot unreadable at a resume.
    image.cache.lose(unused);
    image.resume().unwrap();
    let behind = image.engine.telling_slots()[1].map(|slot| image.sector_of(slot)).unwrap();
    assert_eq!(compare_without(&image, &[unused, behind]), Ok(()));
}

/// One step of a life.
fn step(h: &mut Host, rng: &mut Rng) {
    match rng.below(8) {
        0..=3 => {
            let (addr, blocks) = (rng.below(60), 1 + rng.below(u64::from(SEGMENT_BLOCKS) + 4));
            // A full cache refuses a part of it.
            let _ = h.write_sectors(addr * BLOCK_SECTORS, blocks * BLOCK_SECTORS, rng.below(1000));
        }
        4 => drop(h.flush()),
        5 => drop(h.pump()),
        6 => {
            h.flush();
            h.write_back();
        }
        _ => h.move_tail(rng.below(2) == 0),
    }
}

#[test]
fn whatever_is_written_to_the_cache_device_is_noticed() {
    let (mut noticed, mut unharmed) = (0, 0);
    for seed in 0..4000 {
        let life = || {
            let mut rng = Rng::new(seed);
            let mut h = Host::new(16, 1000);
            for _ in 0..rng.below(60) {
                step(&mut h, &mut rng);
            }
            if rng.below(4) == 0 {
                h.crash().unwrap();
            }
            // Nothing is under way at the snapshot. Data that are only in RAM may be sealed or not.
            if rng.below(2) == 0 {
                h.pump();
            }
            (h, rng)
        };
        let (mut image, _) = life();
        let (mut other, mut rng) = life();
        assert_eq!(compare(&image), Ok(()), "seed {seed}: what nobody has touched");
        let before = other.cache.clone();
        for _ in 0..1 + rng.below(4) {
            step(&mut other, &mut rng);
        }
        let all = |d: &sim::disk::Disk| d.read(0, other.sb.cache_sectors()).to_vec();
        let is_touched = all(&before) != all(&other.cache);
        let found = come_back(&mut image, &other);
        assert_eq!(found.is_err(), is_touched, "seed {seed}: {found:?}");
        // Places written before can be read; places not written before may have become unreadable.
        let is_same =
            |&sector: &u64| before.read(sector, BLOCK_SECTORS) == image.cache.read(sector, BLOCK_SECTORS);
        for sector in places(&image).into_iter().filter(is_same) {
            let found = compare_without(&image, &[sector]);
            // A device that has never had two checkpoints may have lost its only one.
            let is_only = image.checkpoint().generation == 1;
            assert!(
                found.is_err() == is_touched || (is_only && found.is_err()),
                "seed {seed}, without {sector}: {found:?}"
            );
        }
        noticed += u32::from(is_touched);
        unharmed += u32::from(!is_touched);
    }
    assert!(noticed > 1000 && unharmed > 500, "{noticed} {unharmed}");
}
