// SPDX-License-Identifier: GPL-2.0-only

//! Changes of an image that know its structure: numbers near those that are there and near limits,
//! records that are repeated, moved, lost or of another epoch, a log that has wrapped.

use crate::image::{Fix, Image, Item, Poke, Record};
use crate::rng::Rng;
use writeboost::format::Seq;

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

fn change(rng: &mut Rng, x: &mut u64) {
    *x = odd(rng, *x);
}

fn change32(rng: &mut Rng, x: &mut u32) {
    *x = odd(rng, (*x).into()) as u32;
}

/// One change.
pub fn image(rng: &mut Rng, image: &mut Image) {
    if image.items.is_empty() || rng.one_in(8) {
        return script(rng, image);
    }
    let at = rng.index(image.items.len());
    match rng.below(12) {
        0 => {
            image.items.remove(at);
        }
        1 => {
            let item = image.items[at].clone();
            let to = rng.index(image.items.len() + 1);
            image.items.insert(to, item);
        }
        2 => {
            let to = rng.index(image.items.len());
            image.items.swap(at, to);
        }
        3 => shift(rng, image),
        4 => poke(rng, image),
        5 => checkpoint(rng, image),
        6 => copy(rng, image, at),
        _ => item(rng, &mut image.items[at]),
    }
}

fn item(rng: &mut Rng, item: &mut Item) {
    match item {
        Item::Superblock { nr_segments, segment_blocks, backing_sectors, nonce } => match rng.below(5) {
            0 => *nr_segments = 16 + rng.below(20) as u32,
            1 => *segment_blocks = 16 << rng.below(5),
            2 => change32(rng, nr_segments),
            3 => change(rng, backing_sectors),
            _ => change(rng, nonce),
        },
        Item::Checkpoint(slot, cp) => match rng.below(7) {
            0 => *slot ^= 1,
            1 => change(rng, &mut cp.generation),
            2 => change(rng, &mut cp.epoch),
            3 => change(rng, &mut cp.epoch_start.0),
            4 => change(rng, &mut cp.tail.0),
            5 => change(rng, &mut cp.durable.0),
            _ => change32(rng, &mut cp.tail_segment.0),
        },
        Item::Record(r) => record(rng, r),
        Item::Poke(p) => match rng.below(4) {
            0 => change(rng, &mut p.block),
            1 => change(rng, &mut p.offset),
            2 => p.fix = rng.pick(&[Fix::Nothing, Fix::Sector, Fix::Record]),
            _ => p.bytes = odd(rng, 0).to_le_bytes()[..rng.range(1, 8) as usize].to_vec(),
        },
    }
}

fn record(rng: &mut Rng, r: &mut Record) {
    match rng.below(11) {
        0 => change32(rng, &mut r.slot),
        1 => change(rng, &mut r.seq),
        2 => change(rng, &mut r.epoch),
        3 => r.durable = r.seq.wrapping_sub(rng.range(1, 65)),
        4 => change(rng, &mut r.tail),
        5 => r.torn ^= 1 << (rng.below(16) + rng.pick(&[0, 0, 32])),
        6 => {
            let n = rng.index(r.entries.len() + 1);
            r.entries.truncate(n);
        }
        7 if r.entries.len() < 255 => r.entries.push((rng.below(64), 0xff)),
        _ => {
            if !r.entries.is_empty() {
                let i = rng.index(r.entries.len());
                let e = &mut r.entries[i];
                match rng.below(3) {
                    0 => e.1 = rng.next() as u8,
                    1 => e.0 = rng.below(16),
                    _ => change(rng, &mut e.0),
                }
            }
        }
    }
}

/// All numbers of one kind become larger: another epoch's log, or one that has gone on for long.
fn shift(rng: &mut Rng, image: &mut Image) {
    let add = odd(rng, 0) & !(u64::MAX << rng.below(64));
    let of_seq = rng.one_in(2);
    for item in &mut image.items {
        let numbers = match item {
            Item::Record(r) if of_seq => vec![&mut r.seq, &mut r.durable, &mut r.tail],
            Item::Record(r) => vec![&mut r.epoch],
            Item::Checkpoint(_, cp) if of_seq => {
                vec![&mut cp.epoch_start.0, &mut cp.tail.0, &mut cp.durable.0]
            }
            Item::Checkpoint(_, cp) => vec![&mut cp.epoch],
            _ => Vec::new(),
        };
        for n in numbers {
            *n = n.wrapping_add(add);
        }
    }
}

fn poke(rng: &mut Rng, image: &mut Image) {
    let some = image.items[rng.index(image.items.len())].clone();
    let (block, fix) = match some {
        Item::Superblock { .. } => (0, Fix::Sector),
        Item::Checkpoint(slot, _) => (1 + u64::from(slot), Fix::Sector),
        Item::Record(r) => (256 + u64::from(r.slot) + rng.below(2), Fix::Record),
        Item::Poke(p) => (p.block, p.fix),
    };
    let offset = if rng.one_in(2) { rng.below(32) * 4 } else { rng.below(4096) };
    let bytes = odd(rng, 0).to_le_bytes()[..rng.range(1, 8) as usize].to_vec();
    image.items.push(Item::Poke(Poke { block, offset, fix, bytes }));
}

/// The checkpoint that there should be: of an epoch that begins behind the last record, or somewhere in the
/// log.
fn checkpoint(rng: &mut Rng, image: &mut Image) {
    let records: Vec<_> = image
        .items
        .iter()
        .filter_map(|i| match i {
            Item::Record(r) => Some((r.seq, r.epoch)),
            _ => None,
        })
        .collect();
    if records.is_empty() {
        return;
    }
    let (seq, epoch) = rng.pick(&records);
    for item in &mut image.items {
        if let Item::Checkpoint(_, cp) = item {
            let start = if rng.one_in(2) { seq } else { seq.wrapping_add(1) };
            cp.epoch_start = Seq(start);
            cp.epoch = if start == seq { epoch } else { epoch.wrapping_add(1) };
            if rng.one_in(2) {
                cp.durable = Seq(start.wrapping_sub(1));
            }
        }
    }
}

/// A header somewhere else, as its successor or predecessor perhaps.
fn copy(rng: &mut Rng, image: &mut Image, at: usize) {
    let Item::Record(mut r) = image.items[at].clone() else { return };
    let other = image.items[rng.index(image.items.len())].clone();
    if let Item::Record(other) = other {
        r.seq = other.seq.wrapping_add(rng.below(3)).wrapping_sub(1);
        r.epoch = if rng.one_in(2) { other.epoch } else { odd(rng, other.epoch) };
        r.slot = match rng.below(3) {
            0 => other.slot,
            1 => other.slot.wrapping_add(1 + other.entries.len() as u32),
            _ => (other.slot / 16 + rng.below(3) as u32).wrapping_mul(16),
        };
        r.durable = r.seq.saturating_sub(rng.range(1, 64));
    }
    let to = rng.index(image.items.len() + 1);
    image.items.insert(to, Item::Record(r));
}

fn script(rng: &mut Rng, image: &mut Image) {
    let s = &mut image.script;
    match rng.below(4) {
        0 if !s.is_empty() => {
            let i = rng.index(s.len());
            s[i] = rng.next() as u8;
        }
        1 if !s.is_empty() => {
            let n = rng.index(s.len());
            s.truncate(n);
        }
        _ => s.extend((0..rng.range(1, 12)).map(|_| rng.next() as u8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_image_can_be_changed_and_told() {
        let mut rng = Rng::new(1);
        for _ in 0..300 {
            let input: Vec<_> = (0..rng.below(400)).map(|_| (rng.next() & rng.next()) as u8).collect();
            let mut some = Image::read(&input);
            for _ in 0..200 {
                image(&mut rng, &mut some);
            }
            // Neither grows without end.
            some.items.truncate(500);
            assert_eq!(Image::read(&some.write()), some);
        }
    }
}
