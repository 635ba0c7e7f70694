//! Logs of the device-mapper target log-writes: what a disk with a volatile cache could hold after a power
//! cut.
//!
//! The target logs a write when it is known to be stable: with FUA at once, otherwise when a flush that was
//! submitted after it has ended. So any beginning of its log is a state that a disk may be left in, and so is
//! any beginning with some of the writes that the next flush was for: a volatile cache may write what it
//! likes, in any order, torn.

use anyhow::{ensure, Context, Result};

use crate::random::Random;

/// `WRITE_LOG_MAGIC`, `WRITE_LOG_VERSION` and the flags in `drivers/md/dm-log-writes.c`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// Bytes of an entry's fields.
const ENTRY: usize = 32;

/// A log, decoded.
#[derive(Debug)]
pub struct Log {
    entries: Vec<Entry>,
    /// Bytes per sector of the log.
    sector: usize,
}

#[derive(Debug)]
struct Entry {
    /// Where on the disk, in bytes.
    at: usize,
    flags: u64,
    data: Vec<u8>,
    /// The number in a mark `N`, put there by `dmsetup message NAME 0 mark N`.
    mark: Option<u64>,
}

impl Entry {
    /// Whether it was in the log only because of the flush behind it.
    fn is_plain(&self) -> bool {
        self.flags & (FLUSH | FUA | DISCARD | MARK) == 0
    }
}

/// What is left after a power cut.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// The number of the last mark before the cut; 0 without one.
    pub mark: u64,
    /// How many entries of the log were stable.
    pub entries: usize,
    /// How many writes besides these are there in part or wholly.
    pub besides: usize,
}

impl Log {
    /// Decodes a log; `read` reads from the log device at a byte.
    pub fn read(mut read: impl FnMut(u64, usize) -> Result<Vec<u8>>) -> Result<Self> {
        let word = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap_or_default())
        };
        let head = read(0, 512)?;
        ensure!(word(&head, 0) == MAGIC && word(&head, 1) == VERSION, "this is no log of log-writes");
        let count = word(&head, 2);
        let sector = word(&head, 3) as u32 as usize;
        ensure!(sector.is_power_of_two() && (512..=4096).contains(&sector), "sectors of {sector} bytes");
        let mut at = sector as u64;
        let mut entries = Vec::new();
        for _ in 0..count {
            let bytes = read(at, sector)?;
            let (flags, data_len) = (word(&bytes, 2), word(&bytes, 3) as usize);
            at += sector as u64;
            let mark = if flags & MARK != 0 {
                let text = bytes.get(ENTRY..ENTRY + data_len).context("a mark is too long")?;
                std::str::from_utf8(text)?.trim_end_matches('\0').parse().ok()
            } else {
                None
            };
            let len = if flags & DISCARD != 0 { 0 } else { word(&bytes, 1) as usize * sector };
            let data = if len > 0 { read(at, len)? } else { Vec::new() };
            at += len as u64;
            entries.push(Entry { at: word(&bytes, 0) as usize * sector, flags, data, mark });
        }
        Ok(Self { entries, sector })
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes `disk`, which was blank when the log began, what it may be after a power cut at a moment that
    /// `random` chooses.
    pub fn cut(&self, disk: &mut [u8], random: &mut Random) -> Left {
        let entries = random.below(self.entries.len() as u64 + 1) as usize;
        let mut mark = 0;
        for entry in &self.entries[..entries] {
            mark = entry.mark.unwrap_or(mark);
            disk[entry.at..entry.at + entry.data.len()].copy_from_slice(&entry.data);
        }
        let mut besides = 0;
        // None, all, or any of what was written and not flushed.
        let chance = [0, 2, 4][random.below(3) as usize];
        for entry in self.entries[entries..].iter().take_while(|entry| entry.is_plain()) {
            if random.below(4) >= chance {
                continue;
            }
            besides += 1;
            let whole = random.below(4) != 0;
            for (i, sector) in entry.data.chunks(self.sector).enumerate() {
                if whole || random.below(2) == 0 {
                    disk[entry.at + i * self.sector..][..sector.len()].copy_from_slice(sector);
                }
            }
        }
        Left { mark, entries, besides }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, VERSION, entries.len() as u64, 512] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(512, 0);
        for (sector, flags, data) in entries {
            let is_mark = flags & MARK != 0;
            let sectors = if is_mark { 0 } else { data.len() as u64 / 512 };
            for word in [*sector, sectors, *flags, if is_mark { data.len() as u64 } else { 0 }] {
                bytes.extend(word.to_le_bytes());
            }
            if is_mark {
                bytes.extend(*data);
            }
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            if !is_mark {
                bytes.extend(*data);
            }
        }
        bytes
    }

    #[test]
    fn states_are_prefixes_with_something_besides() {
        let bytes = log(&[
            (0, FUA, &[1; 512]),
            (1, 0, &[2; 1024]),
            (0, FLUSH, &[]),
            (0, MARK, b"17"),
            (3, 0, &[3; 512]),
            (4, FUA, &[4; 512]),
        ]);
        let log = Log::read(|at, len| Ok(bytes[at as usize..at as usize + len].to_vec())).unwrap();
        assert_eq!(log.len(), 6);
        let (mut seen_torn, mut seen_besides) = (false, false);
        for seed in 0..500 {
            let mut disk = vec![0; 5 * 512];
            let left = log.cut(&mut disk, &mut Random::new(&[seed]));
            let first: Vec<u8> = disk.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!(left.mark, if left.entries >= 4 { 17 } else { 0 });
            assert_eq!(first[0], u8::from(left.entries >= 1), "FUA is never ahead");
            assert_eq!(first[4] == 4, left.entries >= 6, "nor is the second one");
            if left.entries >= 3 {
                assert_eq!(first[1..3], [2, 2], "what was flushed is there");
            }
            seen_torn |= first[1] != first[2];
            seen_besides |= left.entries == 4 && first[3] == 3;
        }
        assert!(seen_torn && seen_besides);
    }
}
