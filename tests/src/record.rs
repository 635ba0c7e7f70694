//! Records of the device-mapper target `record` (tests/targets), and what a power cut may leave of the disks.
//!
//! # What a disk promises
//!
//! At a moment in the record, of each device by itself:
//!
//! - A write is *stable* once it has ended and had FUA, or once it had ended when a flush of **the same
//!   device** was sent that has ended since.
//! - Every other write that was sent is *volatile*: each of its sectors may be on the disk or not, whatever
//!   else is, and whether the write has ended or not. A sector is never torn itself.
//! - Where writes overlap, a sector holds the newest stable one or any volatile one that was sent later, and
//!   what was written before that is gone.
//!
//! So a power cut leaves, on each device, the stable writes and any choice of sectors of the volatile ones.
//! That is all that SCSI, NVMe and Linux promise, and no more than that; real disks mostly leave less of a
//! mess. Both devices are cut at the same moment, because one record has the events of both in their order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure, Context, Result};

use crate::random::Random;

/// Bytes per sector.
const SECTOR: usize = 512;
/// Bytes of an entry without its data: `struct head` in `tests/targets/dm-record.c`.
const HEAD: usize = 32;

/// Devices in a record: numbers 0 and 1.
pub const DEVICES: usize = 2;

/// A record.
#[derive(Debug)]
pub struct Record {
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
enum Event {
    WriteSent { device: usize, id: u64, sector: u64, fua: bool, data: Vec<u8> },
    FlushSent { device: usize, id: u64 },
    Ended { id: u64, failed: bool },
    Mark { key: String, value: u64 },
}

/// What stands where in an entry's head.
mod kind {
    pub const WRITE_SENT: u32 = 1;
    pub const FLUSH_SENT: u32 = 2;
    pub const ENDED: u32 = 3;
    pub const MARK: u32 = 4;
    pub const FUA: u32 = 1;
    pub const FAILED: u32 = 2;
}

impl Record {
    /// Decodes what `/dev/dm-record` gives.
    ///
    /// # Errors
    /// When these bytes are no record.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at_checked(HEAD).context("the record ends within a head")?;
            let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
            let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
            let (kind, device, id, sector) = (half(0), half(4) as usize, word(8), word(16));
            let (flags, len) = (half(24), half(28) as usize);
            let (data, rest) = rest.split_at_checked(len).context("the record ends within its data")?;
            bytes = rest;
            ensure!(device < DEVICES, "the record has a device number {device}");
            events.push(match kind {
                kind::WRITE_SENT => {
                    ensure!(len > 0 && len % SECTOR == 0, "a write of {len} bytes");
                    let fua = flags & kind::FUA != 0;
                    Event::WriteSent { device, id, sector, fua, data: data.to_vec() }
                }
                kind::FLUSH_SENT => Event::FlushSent { device, id },
                kind::ENDED => Event::Ended { id, failed: flags & kind::FAILED != 0 },
                kind::MARK => {
                    let text = std::str::from_utf8(data)?.trim();
                    let (key, value) = text.split_once(' ').context("a mark is KEY NUMBER")?;
                    Event::Mark { key: key.to_owned(), value: value.parse().context("a mark's number")? }
                }
                _ => bail!("the record has an entry of kind {kind}"),
            });
        }
        Ok(Self { events })
    }

    /// How many events it has: a power cut can come before each of them, and after the last.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The boundaries: the moments right after something has become stable, by the end of a flush or of a
    /// write with FUA; each with whether the other device had volatile writes then. A cache that errs about
    /// what the other device has errs at these.
    #[must_use]
    pub fn boundaries(&self) -> Vec<(usize, bool)> {
        // Ids of each device's volatile writes: on their way, and ended; and what each flush on its way will
        // settle.
        let mut sent = [const { BTreeMap::new() }; DEVICES];
        let mut ended = [const { BTreeSet::new() }; DEVICES];
        let mut flushes = BTreeMap::new();
        let mut boundaries = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            let settled = match event {
                Event::WriteSent { device, id, fua, .. } => {
                    sent[*device].insert(*id, *fua);
                    None
                }
                Event::FlushSent { device, id } => {
                    flushes.insert(*id, (*device, ended[*device].clone()));
                    None
                }
                Event::Ended { id, .. } => {
                    if let Some((device, settled)) = flushes.remove(id) {
                        ended[device] = &ended[device] - &settled;
                        Some(device)
                    } else {
                        (0..DEVICES).find(|&device| match sent[device].remove(id) {
                            Some(fua) => fua || !ended[device].insert(*id),
                            None => false,
                        })
                    }
                }
                Event::Mark { .. } => None,
            };
            if let Some(device) = settled {
                let other =
                    (0..DEVICES).any(|d| d != device && (!sent[d].is_empty() || !ended[d].is_empty()));
                boundaries.push((at + 1, other));
            }
        }
        boundaries
    }
}

/// A write that is not stable.
#[derive(Debug)]
struct Volatile {
    id: u64,
    sector: u64,
    fua: bool,
    data: Vec<u8>,
    /// Of each sector, whether it can still get to the disk.
    open: Vec<bool>,
    /// After how many events it had ended.
    ended: Option<usize>,
}

/// One disk at the moment.
#[derive(Debug)]
struct Disk {
    stable: Vec<u8>,
    /// In the order in which they were sent.
    volatile: Vec<Volatile>,
    /// Flushes on their way: id, and after how many events each was sent.
    flushes: Vec<(u64, usize)>,
}

/// How much of what is volatile a power cut leaves, besides what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// What has ended, and nothing of what was on its way.
    Ended,
    /// So many of four writes, wholly or torn.
    Some(u64),
}

impl Leaves {
    fn any(random: &mut Random) -> Self {
        match random.below(7) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Ended,
            3 => Self::Some(1),
            4 => Self::Some(3),
            _ => Self::Some(2),
        }
    }
}

/// How many writes a cut found on their way and not stable, and what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Not stable.
    pub volatile: usize,
    /// Of them, on the disk in part or wholly.
    pub kept: usize,
    /// Of them, in part.
    pub torn: usize,
}

impl Disk {
    /// Makes a write stable. What was sent before it and overlaps is gone.
    fn settle(&mut self, index: usize) {
        let write = self.volatile.remove(index);
        let at = write.sector as usize * SECTOR;
        for (i, data) in write.data.chunks(SECTOR).enumerate().filter(|(i, _)| write.open[*i]) {
            self.stable[at + i * SECTOR..][..SECTOR].copy_from_slice(data);
        }
        let range = write.sector..write.sector + write.open.len() as u64;
        for earlier in &mut self.volatile[..index] {
            for (sector, open) in (earlier.sector..).zip(&mut earlier.open) {
                *open &= !range.contains(&sector);
            }
        }
    }

    /// Puts into `disk` what a power cut leaves now.
    fn cut(&self, disk: &mut [u8], leaves: Leaves, random: &mut Random) -> Fate {
        disk.copy_from_slice(&self.stable);
        let mut fate = Fate { volatile: self.volatile.len(), ..Fate::default() };
        for write in &self.volatile {
            let (kept, torn) = match leaves {
                Leaves::Nothing => (false, false),
                Leaves::Everything => (true, false),
                Leaves::Ended => (write.ended.is_some(), false),
                Leaves::Some(quarters) => (random.below(4) < quarters, random.below(3) == 0),
            };
            if !kept {
                continue;
            }
            fate.kept += 1;
            fate.torn += usize::from(torn && write.open.len() > 1);
            // Torn once, as by a disk that writes in order, or everywhere.
            let nr = write.open.len() as u64;
            let (once, end) = (random.below(2) == 0, random.below(nr + 1));
            for (i, data) in (0..).zip(write.data.chunks(SECTOR)) {
                let written = !torn || if once { i < end } else { random.below(2) == 0 };
                if written && write.open[i as usize] {
                    disk[(write.sector + i) as usize * SECTOR..][..SECTOR].copy_from_slice(data);
                }
            }
        }
        fate
    }
}

/// Goes through a record, from moment to moment.
#[derive(Debug)]
pub struct Player<'a> {
    record: &'a Record,
    at: usize,
    disks: [Disk; DEVICES],
    /// To which device each id belongs that is on its way.
    device: BTreeMap<u64, usize>,
    marks: BTreeMap<String, u64>,
}

impl<'a> Player<'a> {
    /// At the beginning of `record`, when the disks held `disks`, all of it stable.
    #[must_use]
    pub fn new(record: &'a Record, disks: [Vec<u8>; DEVICES]) -> Self {
        let disks = disks.map(|stable| Disk { stable, volatile: Vec::new(), flushes: Vec::new() });
        Self { record, at: 0, disks, device: BTreeMap::new(), marks: BTreeMap::new() }
    }

    /// The same, but what can be read is `visible`: the disks' caches hold what differs.
    ///
    /// # Errors
    /// When a disk has two sizes.
    pub fn with_caches(
        record: &'a Record,
        disks: [Vec<u8>; DEVICES],
        visible: &[Vec<u8>; DEVICES],
    ) -> Result<Self> {
        let mut player = Self::new(record, disks);
        for (disk, visible) in player.disks.iter_mut().zip(visible) {
            ensure!(disk.stable.len() == visible.len(), "what can be read of a disk has another size");
            for (sector, (stable, data)) in (0..).zip(disk.stable.chunks(SECTOR).zip(visible.chunks(SECTOR)))
            {
                if stable != data {
                    // Nothing else has the id 0.
                    let (data, open) = (data.to_vec(), vec![true]);
                    disk.volatile.push(Volatile { id: 0, sector, fua: false, data, open, ended: Some(0) });
                }
            }
        }
        Ok(player)
    }

    /// What the disks have at this moment as far as it is stable, and what can be read from them when the
    /// machine is reset and no power is lost: all that has ended as well.
    #[must_use]
    pub fn reset(&self) -> [(Vec<u8>, Vec<u8>); DEVICES] {
        let mut any = Random::new(&[]);
        self.disks.each_ref().map(|disk| {
            let mut visible = disk.stable.clone();
            disk.cut(&mut visible, Leaves::Ended, &mut any);
            (disk.stable.clone(), visible)
        })
    }

    /// Goes on until `to` events have happened.
    ///
    /// # Errors
    /// When the record cannot be what happened to these disks, or a disk has failed.
    pub fn go(&mut self, to: usize) -> Result<()> {
        for at in self.at..to.min(self.record.len()) {
            match &self.record.events[at] {
                Event::WriteSent { device, id, sector, fua, data } => {
                    let disk = &mut self.disks[*device];
                    let sectors = data.len() / SECTOR;
                    ensure!(
                        (*sector as usize + sectors) * SECTOR <= disk.stable.len(),
                        "a write of {sectors} sectors at {sector} is beyond the end of device {device}"
                    );
                    self.device.insert(*id, *device);
                    let open = vec![true; sectors];
                    let (id, sector, fua, data) = (*id, *sector, *fua, data.clone());
                    disk.volatile.push(Volatile { id, sector, fua, data, open, ended: None });
                }
                Event::FlushSent { device, id } => {
                    self.device.insert(*id, *device);
                    self.disks[*device].flushes.push((*id, at));
                }
                Event::Ended { id, failed } => {
                    ensure!(!failed, "a disk has failed while it was recorded");
                    let device = self.device.remove(id).context("something ended that was not sent")?;
                    self.ended(device, *id, at);
                }
                Event::Mark { key, value } => {
                    self.marks.insert(key.clone(), *value);
                }
            }
        }
        self.at = self.at.max(to);
        Ok(())
    }

    fn ended(&mut self, device: usize, id: u64, at: usize) {
        let disk = &mut self.disks[device];
        if let Some(index) = disk.flushes.iter().position(|flush| flush.0 == id) {
            let (_, sent) = disk.flushes.remove(index);
            // In the order in which they were sent, so that the newest remains.
            while let Some(index) =
                disk.volatile.iter().position(|write| write.ended.is_some_and(|ended| ended <= sent))
            {
                disk.settle(index);
            }
        } else if let Some(index) = disk.volatile.iter().position(|write| write.id == id) {
            disk.volatile[index].ended = Some(at + 1);
            if disk.volatile[index].fua {
                disk.settle(index);
            }
        }
    }

    /// The last number of each mark before this moment.
    #[must_use]
    pub fn marks(&self) -> &BTreeMap<String, u64> {
        &self.marks
    }

    /// Makes `disks` what a power cut at this moment may leave; `random` chooses. Each disk has its own fate.
    pub fn cut(&self, disks: &mut [Vec<u8>; DEVICES], random: &mut Random) -> [(Leaves, Fate); DEVICES] {
        let mut result = [(Leaves::Nothing, Fate::default()); DEVICES];
        for ((disk, content), result) in self.disks.iter().zip(disks).zip(&mut result) {
            let leaves = Leaves::any(random);
            *result = (leaves, disk.cut(content, leaves, random));
        }
        result
    }
}

/// The moments at which to cut: `count` of them, in their order. A quarter each is right after boundaries,
/// but at first those at which the other device had volatile writes; right after marks, when something has
/// just been promised; right before boundaries, when all is on its way; and anywhere. Where there are fewer
/// boundaries or marks than that, all of them are taken.
#[must_use]
pub fn moments(record: &Record, count: usize, random: &mut Random) -> Vec<usize> {
    // So many of `from`, one of each run of equal length.
    let mut spread = |from: &[usize], some: usize| -> Vec<usize> {
        let some = some.min(from.len());
        (0..some)
            .map(|i| {
                let (begin, end) = (i * from.len() / some, (i + 1) * from.len() / some);
                from[begin + random.below((end - begin) as u64) as usize]
            })
            .collect()
    };
    let boundaries = record.boundaries();
    let all: Vec<usize> = boundaries.iter().map(|(at, _)| *at).collect();
    let (crossed, quiet): (Vec<_>, Vec<_>) = boundaries.iter().partition(|(_, other)| *other);
    let [crossed, quiet] = [crossed, quiet].map(|some| some.iter().map(|(at, _)| *at).collect::<Vec<_>>());
    let marks: Vec<usize> =
        (1..=record.len()).filter(|at| matches!(record.events[at - 1], Event::Mark { .. })).collect();
    let quarter = count.div_ceil(4);
    let mut moments = spread(&crossed, quarter.div_ceil(2));
    moments.extend(spread(&quiet, quarter - moments.len()));
    if moments.len() < quarter {
        // Few were quiet: the others again, with another fate.
        moments.extend(spread(&crossed, quarter - moments.len()));
    }
    moments.extend(spread(&marks, count / 4));
    moments.extend(spread(&all, count / 4).iter().map(|at| at - 1));
    while moments.len() < count {
        moments.push(random.below(record.len() as u64 + 1) as usize);
    }
    moments.sort_unstable();
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u32, device: u32, id: u64, sector: u64, flags: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(device.to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes.extend(sector.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }
    fn write(device: u32, id: u64, sector: u64, fill: u8, sectors: usize) -> Vec<u8> {
        entry(kind::WRITE_SENT, device, id, sector, 0, &vec![fill; sectors * SECTOR])
    }
    fn fua(device: u32, id: u64, sector: u64, fill: u8) -> Vec<u8> {
        entry(kind::WRITE_SENT, device, id, sector, kind::FUA, &[fill; SECTOR])
    }
    fn flush(device: u32, id: u64) -> Vec<u8> {
        entry(kind::FLUSH_SENT, device, id, 0, 0, &[])
    }
    fn ended(id: u64) -> Vec<u8> {
        entry(kind::ENDED, 0, id, 0, 0, &[])
    }

    /// The first bytes of all sectors of both disks, in all states that are found after the whole of
    /// `events`.
    fn states(events: &[Vec<u8>]) -> std::collections::BTreeSet<Vec<u8>> {
        let record = Record::decode(&events.concat()).unwrap();
        let mut states = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            let mut player = Player::new(&record, [vec![0; 2 * SECTOR], vec![0; 2 * SECTOR]]);
            player.go(record.len()).unwrap();
            let mut disks = [vec![9; 2 * SECTOR], vec![9; 2 * SECTOR]];
            player.cut(&mut disks, &mut Random::new(&[seed]));
            states.insert(disks.iter().flat_map(|d| d.chunks(SECTOR)).map(|s| s[0]).collect());
        }
        states
    }
    fn all(states: &[[u8; 4]]) -> std::collections::BTreeSet<Vec<u8>> {
        states.iter().map(|state| state.to_vec()).collect()
    }

    #[test]
    fn unflushed_writes_are_there_or_not_and_torn() {
        let torn = all(&[[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]);
        assert_eq!(states(&[write(0, 1, 0, 1, 2)]), torn);
        assert_eq!(states(&[write(0, 1, 0, 1, 2), ended(1)]), torn);
        // A flush that was sent before the write had ended does not count, nor does one that has not ended.
        assert_eq!(states(&[write(0, 1, 0, 1, 2), flush(0, 2), ended(1), ended(2)]), torn);
        assert_eq!(states(&[write(0, 1, 0, 1, 2), ended(1), flush(0, 2)]), torn);
        // Nor does one of the other device.
        assert_eq!(states(&[write(0, 1, 0, 1, 2), ended(1), flush(1, 2), ended(2)]), torn);
    }

    #[test]
    fn flushed_and_fua_writes_are_there() {
        let flushed = [write(0, 1, 0, 1, 2), ended(1), flush(0, 2), ended(2)];
        assert_eq!(states(&flushed), all(&[[1, 1, 0, 0]]));
        assert_eq!(states(&[fua(1, 1, 1, 3)]), all(&[[0, 0, 0, 0], [0, 0, 0, 3]]));
        assert_eq!(states(&[fua(1, 1, 1, 3), ended(1)]), all(&[[0, 0, 0, 3]]));
        // FUA is about its own data.
        let both = [write(1, 1, 0, 1, 1), ended(1), fua(1, 2, 1, 3), ended(2)];
        assert_eq!(states(&both), all(&[[0, 0, 0, 3], [0, 0, 1, 3]]));
    }

    #[test]
    fn what_is_stable_is_not_replaced_by_what_was_there_before() {
        // The second is stable, the first was never flushed.
        let events = [write(0, 1, 0, 1, 2), ended(1), fua(0, 2, 0, 2), ended(2)];
        assert_eq!(states(&events), all(&[[2, 0, 0, 0], [2, 1, 0, 0]]));
        // The first is stable, the second may be there or not.
        let events = [write(0, 1, 0, 1, 1), ended(1), flush(0, 2), write(0, 3, 0, 2, 1), ended(3), ended(2)];
        assert_eq!(states(&events), all(&[[1, 0, 0, 0], [2, 0, 0, 0]]));
        // Both flushed: the newest.
        let events = [write(0, 1, 0, 1, 1), ended(1), write(0, 2, 0, 2, 1), ended(2), flush(0, 3), ended(3)];
        assert_eq!(states(&events), all(&[[2, 0, 0, 0]]));
    }

    #[test]
    fn a_reset_keeps_the_caches() {
        let first = [write(0, 1, 0, 1, 1), ended(1), write(0, 2, 1, 2, 1), fua(1, 3, 0, 3), ended(3)];
        let record = Record::decode(&first.concat()).unwrap();
        let blank = || [vec![0; 2 * SECTOR], vec![0; 2 * SECTOR]];
        let mut player = Player::new(&record, blank());
        player.go(record.len()).unwrap();
        let left = player.reset();
        let stable = left.each_ref().map(|(stable, _)| stable.clone());
        let visible = left.each_ref().map(|(_, visible)| visible.clone());
        let firsts = |disks: &[Vec<u8>; 2]| [disks[0][0], disks[0][SECTOR], disks[1][0], disks[1][SECTOR]];
        assert_eq!(firsts(&stable), [0, 0, 3, 0]);
        assert_eq!(firsts(&visible), [1, 0, 3, 0]);
        // The next record begins with a flush of the one disk or of the other.
        for (device, wanted) in [(0, vec![1]), (1, vec![0, 1])] {
            let record = Record::decode(&[flush(device, 1), ended(1)].concat()).unwrap();
            let mut found = std::collections::BTreeSet::new();
            for seed in 0..100 {
                let mut player = Player::with_caches(&record, stable.clone(), &visible).unwrap();
                player.go(record.len()).unwrap();
                let mut disks = blank();
                player.cut(&mut disks, &mut Random::new(&[seed]));
                assert_eq!(firsts(&disks)[1..], [0, 3, 0]);
                found.insert(disks[0][0]);
            }
            assert_eq!(Vec::from_iter(found), wanted);
        }
    }

    #[test]
    fn moments_are_at_boundaries_and_between() {
        let mut events = Vec::new();
        for n in 0..50 {
            events.extend([write(0, 2 * n, 0, 1, 1), ended(2 * n), flush(0, 2 * n + 1), ended(2 * n + 1)]);
        }
        events.push(entry(kind::MARK, 0, 0, 0, 0, b"durable 17\n"));
        let record = Record::decode(&events.concat()).unwrap();
        assert!(record.boundaries().iter().all(|(_, other)| !other), "the other device is idle");
        let boundaries: Vec<usize> = record.boundaries().iter().map(|(at, _)| *at).collect();
        assert_eq!(boundaries.len(), 50);
        for count in [1, 10, 100, 300] {
            let moments = moments(&record, count, &mut Random::new(&[1]));
            assert_eq!(moments.len(), count);
            assert!(moments.is_sorted());
            let at = boundaries.iter().filter(|at| moments.contains(at)).count();
            let before = boundaries.iter().filter(|&at| moments.contains(&(at - 1))).count();
            assert!(at >= 50.min(count / 4) && before >= 50.min(count / 4), "{at} of {count}");
            assert!(count < 4 || moments.contains(&record.len()), "the only mark");
        }
        let mut player = Player::new(&record, [vec![0; 512], vec![0; 512]]);
        player.go(record.len() - 1).unwrap();
        assert_eq!(player.marks().get("durable"), None);
        player.go(record.len()).unwrap();
        assert_eq!(player.marks().get("durable"), Some(&17));
    }

    #[test]
    fn boundaries_know_what_the_other_device_has() {
        let events = [
            fua(0, 1, 0, 1),
            ended(1),
            write(1, 2, 0, 1, 1),
            fua(0, 3, 0, 1),
            ended(3),
            ended(2),
            flush(1, 4),
            fua(0, 5, 0, 1),
            ended(5),
            ended(4),
            fua(0, 6, 0, 1),
            ended(6),
        ];
        let record = Record::decode(&events.concat()).unwrap();
        let wanted = [(2, false), (5, true), (9, true), (10, false), (12, false)];
        assert_eq!(record.boundaries(), wanted);
        for count in 1..20 {
            assert_eq!(moments(&record, count, &mut Random::new(&[1])).len(), count);
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(Record::decode(&[1; 40]).is_err());
        assert!(Record::decode(&write(0, 1, 0, 1, 1)[..100]).is_err());
        assert!(Record::decode(&write(7, 1, 0, 1, 1)).is_err());
        let record = Record::decode(&write(0, 1, 5, 1, 1)).unwrap();
        assert!(Player::new(&record, [vec![0; 512], vec![0; 512]]).go(1).is_err(), "beyond the end");
        let record = Record::decode(&ended(1)).unwrap();
        assert!(Player::new(&record, [vec![0; 512], vec![0; 512]]).go(1).is_err(), "never sent");
    }
}
