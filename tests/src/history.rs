//! Histories: writes with numbers, of which each follows from a seed, and the check that a volume is a prefix
//! of one.
//!
//! One writer makes them one after the other, so that each has completed before the next is submitted. A
//! power cut ends an *epoch*: the checker finds how many writes are there, N, and the next epoch begins with
//! N + 1. Its writes differ from those of the same numbers that were lost with the power, so that these are
//! noticed if they ever come back.

use anyhow::{bail, ensure, Result};

use crate::device::{Buffer, Device};
use crate::random::{mix, Random};

/// Bytes per sector.
pub const SECTOR: usize = 512;
/// Sectors per block of the cache. A block of one write is there wholly or not at all.
pub const BLOCK_SECTORS: u64 = 8;
/// Most sectors of one write.
pub const MOST: u64 = 256;

/// What each written sector begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"wbtest\0\x01");
/// Bytes of the number, the epoch and the address behind the magic, and of the magic.
const HEADER: usize = 32;

/// A history on the first sectors of a device.
#[derive(Debug, Clone)]
pub struct History {
    /// What everything follows from.
    pub seed: u64,
    /// Sectors that are written to: from `first` on, so many.
    pub sectors: u64,
    /// Where they begin on the device.
    pub first: u64,
    /// What first sector and length of each write are multiples of, in sectors.
    pub align: u64,
    /// The number of each epoch's first write; that of the first epoch is 1.
    pub epochs: Vec<u64>,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// From 1.
    pub number: u64,
    /// The epoch it was made in.
    pub epoch: u64,
    /// First sector, relative to the history's.
    pub first: u64,
    /// Sectors.
    pub sectors: u64,
}

/// How a write is followed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Not at all.
    Nothing,
    /// It was written so that it is durable by itself.
    Durable,
    /// By a flush.
    Sync,
}

impl History {
    /// The epoch that write `number` belongs to.
    fn epoch(&self, number: u64) -> u64 {
        self.epochs.iter().rposition(|&first| first <= number).unwrap_or(0) as u64
    }

    /// The write `number`.
    #[must_use]
    pub fn write(&self, number: u64) -> Write {
        let epoch = self.epoch(number);
        let mut random = Random::new(&[self.seed, epoch, number]);
        let units = self.sectors / self.align;
        let most = MOST / self.align;
        // Mostly single blocks, as databases write; some odd pieces; some that are large.
        let (length, grain) = match random.below(10) {
            0..=5 => (BLOCK_SECTORS.max(self.align) / self.align, BLOCK_SECTORS.max(self.align) / self.align),
            6 | 7 => (1 + random.below(16.min(most)), 1),
            8 => (1 + random.below(most), 1),
            _ => (BLOCK_SECTORS.max(self.align) / self.align * (1 + random.below(8)), 1),
        };
        let length = length.min(units);
        // Half of them to an eighth of the place, so that much is overwritten soon.
        let span = if random.below(2) == 0 { units / 8 } else { units };
        let first = random.below((span.max(length) - length + 1).max(1)) / grain * grain;
        Write { number, epoch, first: first * self.align, sectors: length * self.align }
    }

    /// What follows on write `number` when one in `every` is made durable; 0 for none.
    #[must_use]
    pub fn then(&self, number: u64, every: u64) -> Then {
        let mut random = Random::new(&[self.seed, mix(number)]);
        if every == 0 || random.below(every) != 0 {
            return Then::Nothing;
        }
        if random.below(3) == 0 {
            Then::Durable
        } else {
            Then::Sync
        }
    }

    /// What the write puts into sector `sector`.
    fn content(&self, write: &Write, sector: u64, bytes: &mut [u8]) {
        for (at, word) in [MAGIC, write.number, write.epoch, sector].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        Random::new(&[self.seed, write.epoch, write.number, sector]).fill(&mut bytes[HEADER..]);
    }

    /// Makes the writes from number `from` on until `last`, or for ever, and says of each that is known
    /// durable so by `report`.
    pub fn make(
        &self,
        device: &Device,
        (from, last): (u64, Option<u64>),
        every: u64,
        mut report: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = Buffer::new(MOST as usize * SECTOR);
        for number in from..=last.unwrap_or(u64::MAX) {
            let write = self.write(number);
            let bytes = buffer.first_mut(write.sectors as usize * SECTOR);
            for (i, bytes) in (0..).zip(bytes.chunks_mut(SECTOR)) {
                self.content(&write, write.first + i, bytes);
            }
            let then = self.then(number, every);
            device.write(bytes, (self.first + write.first) * SECTOR as u64, then == Then::Durable)?;
            if then == Then::Sync {
                device.sync()?;
            }
            if then != Then::Nothing {
                report(number)?;
            }
        }
        Ok(())
    }

    /// Checks that the device holds a prefix of the history that reaches at least to write `durable`, and
    /// nothing else. Answers with the number of its last write. Reads all of it in order, and after that
    /// `reads` times a random part.
    pub fn check(&self, device: &Device, durable: u64, reads: u64) -> Result<u64> {
        let mut content = vec![0; self.sectors as usize * SECTOR];
        let mut buffer = Buffer::new(1 << 20);
        for (i, chunk) in content.chunks_mut(1 << 20).enumerate() {
            let buffer = buffer.first_mut(chunk.len());
            device.read(buffer, self.first * SECTOR as u64 + ((i as u64) << 20))?;
            chunk.copy_from_slice(buffer);
        }
        let last = self.check_content(&content, durable)?;
        let mut random = Random::new(&[self.seed, last, reads]);
        let units = self.sectors / self.align;
        for _ in 0..reads {
            let length = 1 + random.below(units.min(MOST / self.align));
            let first = random.below(units - length + 1) * self.align;
            let expected = &content[first as usize * SECTOR..][..(length * self.align) as usize * SECTOR];
            let buffer = buffer.first_mut(expected.len());
            device.read(buffer, (self.first + first) * SECTOR as u64)?;
            ensure!(
                *buffer == *expected,
                "{} sectors at {first} are not what they were a moment ago",
                length * self.align
            );
        }
        Ok(last)
    }

    /// As [`History::check`], of the content itself.
    pub fn check_content(&self, content: &[u8], durable: u64) -> Result<u64> {
        let found: Vec<u64> = (0..)
            .zip(content.chunks(SECTOR))
            .map(|(sector, bytes)| self.identify(sector, bytes))
            .collect::<Result<_>>()?;
        let last = found.iter().copied().max().unwrap_or(0);
        // Which write each sector has after all writes before the last one. The last one of an earlier epoch
        // may have been torn by the cut that ended it, and then the sector has what was there before.
        let mut expected = vec![(0, 0); found.len()];
        for number in 1..last {
            let write = self.write(number);
            let ends_epoch = self.epochs.contains(&(number + 1));
            for (now, before) in &mut expected[write.first as usize..(write.first + write.sectors) as usize] {
                *before = if ends_epoch { *now } else { number };
                *now = number;
            }
        }
        let torn = (last > 0).then(|| self.write(last));
        let of_last = |sector: u64| {
            torn.is_some_and(|write| (write.first..write.first + write.sectors).contains(&sector))
        };
        // The last write may be there in part, by blocks; whatever else is not as it should be breaks the
        // promise.
        for sector in 0..self.sectors {
            let (is, (was, before)) = (found[sector as usize], expected[sector as usize]);
            ensure!(
                is == was || is == before || is == last && of_last(sector),
                "sector {sector} has write {is} and not {was}, although write {last} is there: no prefix"
            );
            let before = sector.wrapping_sub(1);
            if sector % BLOCK_SECTORS != 0 && of_last(sector) && of_last(before) {
                ensure!(
                    (is == last) == (found[before as usize] == last),
                    "write {last} is torn within a block, at sector {sector}"
                );
            }
        }
        ensure!(last >= durable, "write {durable} was durable, and the last one that is there is {last}");
        // A write that was durable is there wholly. One that ended an earlier epoch was judged then: it may
        // have been torn by the cut, and found so, and nothing since may have survived.
        if let Some(write) = torn.filter(|_| last == durable && !self.epochs.contains(&(last + 1))) {
            let whole = (write.first..write.first + write.sectors).all(|s| found[s as usize] == last);
            ensure!(whole, "write {durable} was durable, and is there in part only");
        }
        Ok(last)
    }

    /// The number of the write that the sector's content comes from; 0 for none.
    fn identify(&self, sector: u64, bytes: &[u8]) -> Result<u64> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(0);
        }
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap_or_default());
        if word(0) != MAGIC {
            bail!("sector {sector} has garbage: {:02x?}", &bytes[..HEADER]);
        }
        let (number, epoch, address) = (word(1), word(2), word(3));
        ensure!(
            address == sector,
            "sector {sector} has what was written to sector {address}, by write {number}"
        );
        ensure!(
            number > 0 && self.epoch(number) == epoch,
            "sector {sector} has write {number} of epoch {epoch}, which was lost and must not come back"
        );
        let write = self.write(number);
        ensure!(
            (write.first..write.first + write.sectors).contains(&sector),
            "sector {sector} claims to be of write {number}, which wrote elsewhere"
        );
        let mut expected = [0; SECTOR];
        self.content(&write, sector, &mut expected);
        ensure!(bytes == expected, "sector {sector} begins like write {number} and goes on otherwise");
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History { seed: 5, sectors: 512, first: 0, align: 1, epochs: vec![1] }
    }

    /// What a device has after the writes that `take` wants, those of each history one after the other.
    fn content(parts: &[(&History, std::ops::RangeInclusive<u64>)]) -> Vec<u8> {
        let mut content = vec![0; 512 * SECTOR];
        for (history, numbers) in parts {
            for number in numbers.clone() {
                put(history, number, &mut content);
            }
        }
        content
    }

    fn put(history: &History, number: u64, content: &mut [u8]) {
        let write = history.write(number);
        for sector in write.first..write.first + write.sectors {
            history.content(&write, sector, &mut content[sector as usize * SECTOR..][..SECTOR]);
        }
    }

    #[test]
    fn writes_stay_inside() {
        for align in [1, 8] {
            let history = History { align, ..history() };
            for number in 1..10_000 {
                let write = history.write(number);
                assert!(
                    write.sectors > 0 && write.sectors <= MOST && write.first + write.sectors <= 512,
                    "{write:?}"
                );
                assert_eq!((write.first % align, write.sectors % align), (0, 0), "{write:?}");
            }
        }
    }

    #[test]
    fn every_prefix_is_one() {
        let history = history();
        assert_eq!(history.check_content(&content(&[]), 0).ok(), Some(0));
        for last in 1..60 {
            let content = content(&[(&history, 1..=last)]);
            assert_eq!(history.check_content(&content, last).ok(), Some(last));
            assert!(history.check_content(&content, last + 1).is_err(), "more was promised");
        }
    }

    #[test]
    fn holes_garbage_and_old_lives_are_none() {
        let history = history();
        let error = |content: &[u8]| history.check_content(content, 0).unwrap_err().to_string();
        // One write is missing, and the next one is elsewhere.
        let apart = |n: u64| {
            let (a, b) = (history.write(n), history.write(n + 1));
            a.first + a.sectors <= b.first || b.first + b.sectors <= a.first
        };
        let missing = (40..).find(|&n| apart(n)).unwrap();
        let hole = content(&[(&history, 1..=missing - 1), (&history, missing + 1..=missing + 1)]);
        assert!(error(&hole).contains("no prefix"), "{}", error(&hole));
        let mut garbage = content(&[(&history, 1..=50)]);
        let at = history.write(50).first as usize * SECTOR;
        garbage[at + 100] ^= 1;
        assert!(error(&garbage).contains("goes on otherwise"));
        garbage[at] ^= 1;
        assert!(error(&garbage).contains("garbage"));
        // After a cut at 40, something of the first life comes back.
        let second = History { epochs: vec![1, 41], ..history.clone() };
        let mut mixed = content(&[(&second, 1..=60)]);
        assert_eq!(second.check_content(&mixed, 60).ok(), Some(60));
        put(&history, 45, &mut mixed);
        let error = second.check_content(&mixed, 0).unwrap_err().to_string();
        assert!(error.contains("must not come back"), "{error}");
    }

    #[test]
    fn the_last_write_may_be_torn_between_blocks_only() {
        let history = history();
        let number = (1..).find(|&n| history.write(n).sectors > 32).unwrap();
        let before = content(&[(&history, 1..=number - 1)]);
        let after = content(&[(&history, 1..=number)]);
        let write = history.write(number);
        let block = (write.first / 8 + 1) * 8;
        for (cut, fine) in [(block, true), (block + 8, true), (block + 3, false)] {
            let at = cut as usize * SECTOR;
            let torn = [&after[..at], &before[at..]].concat();
            assert_eq!(history.check_content(&torn, number - 1).is_ok(), fine, "{cut}");
            assert!(history.check_content(&torn, number).is_err(), "it was durable");
            if fine {
                // A write that a cut has torn stays torn, as far as the next life does not write there.
                let mut later = torn;
                let second = History { epochs: vec![1, number + 1], ..history.clone() };
                assert_eq!(second.check_content(&later, number).ok(), Some(number), "nothing of it survived");
                put(&second, number + 1, &mut later);
                assert_eq!(second.check_content(&later, 0).ok(), Some(number + 1));
                assert!(history.check_content(&later, 0).is_err());
            }
        }
    }
}
