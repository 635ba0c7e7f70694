// SPDX-License-Identifier: GPL-2.0-only

//! The two disks of a volume and their troubles: they are slow, they fail, and they hang. Sometimes a copy of
//! both is kept of one moment in the middle of some I/O; the power will be cut on that copy.

use crate::disk::{Disk as Simulated, AWAY};
use crate::history::History;
use crate::rng::Rng;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use writeboost::host::plain::{now_ms, pause, take_us, Disk, Error, MemoryDisk, Result};
use writeboost::policy::limits::{Limits, Shape};

pub const SECTOR: usize = 512;
pub const BACKING: usize = 0;
pub const CACHE: usize = 1;

/// Where the segments of a cache disk begin.
const SEGMENTS: u64 = 256 * 8;
/// For how many milliseconds a disk cannot be read, at most, while its reads end with resets.
const SOON_MS: u64 = 4000;
/// The number of recent writes that are remembered.
const RECENT: usize = 32;
/// Most images of a life.
const IMAGES: usize = 16;

/// The operation of an I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Flush,
}

/// The way in which an I/O goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It ends with this error, which says nothing about the medium.
    Fails(i32),
    /// As above, and the disk forgets data that are not stable: it was reset.
    Resets(i32),
    /// It takes until the end of the trouble.
    Hangs,
}

/// Something is wrong with a disk for a while.
#[derive(Debug, Clone)]
pub struct Trouble {
    disk: usize,
    ops: Vec<Op>,
    /// Reads and writes of these sectors.
    sectors: Range<u64>,
    how: How,
    /// One I/O in so many.
    one_in: u64,
    until_ms: u64,
}

impl Trouble {
    /// Some trouble, on a disk of so many sectors, for that long from now on.
    pub fn any(rng: &mut Rng, disk: usize, sectors: u64, ms: u64) -> Self {
        use Op::{Flush, Read, Write};
        let all = 0..sectors;
        let from = rng.below(sectors);
        let some = from..(from + 1 + rng.below(sectors / 4)).min(sectors);
        let errno = rng.pick(&AWAY);
        Self {
            disk,
            ops: match rng.below(5) {
                0 => vec![Read],
                1 => vec![Write],
                2 => vec![Flush],
                3 => vec![Write, Flush],
                _ => vec![Read, Write, Flush],
            },
            sectors: if rng.one_in(2) { all } else { some },
            how: rng.pick(&[How::Fails(errno), How::Resets(errno), How::Resets(errno), How::Hangs]),
            one_in: rng.pick(&[1, 1, 2, 10]),
            until_ms: now_ms() + ms,
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        now_ms() >= self.until_ms
    }

    fn concerns(&self, disk: usize, op: Op, sectors: &Range<u64>) -> bool {
        let is_there =
            op == Op::Flush || (self.sectors.start < sectors.end && sectors.start < self.sectors.end);
        self.disk == disk && self.ops.contains(&op) && is_there && now_ms() < self.until_ms
    }
}

/// Both disks as they were at one moment, and the promises by then.
pub struct Image {
    pub disks: [Simulated; 2],
    in_flight: [Vec<(u64, Vec<u8>)>; 2],
    pub histories: Vec<History>,
}

impl Image {
    /// The image of disks without I/O under way.
    pub fn of(disks: [Simulated; 2], histories: Vec<History>) -> Self {
        Self { disks, in_flight: Default::default(), histories }
    }

    /// The power is cut, or the host dies and the disks go on.
    pub fn end(&mut self, rng: &mut Rng) {
        for (disk, in_flight) in self.disks.iter_mut().zip(&self.in_flight) {
            if rng.one_in(4) {
                disk.orphan(rng, in_flight);
            } else {
                disk.cut(rng, in_flight);
            }
        }
        // Blocks of the backing disk that were being written may be unreadable now. The sectors that were
        // written are in the log; other sectors of the same block are not.
        self.disks[BACKING] = self.disks[BACKING].clone().healed();
    }
}

/// The state of the disks. Everything that happens at one moment happens with this locked.
pub struct World {
    pub disks: [Simulated; 2],
    /// Writes that have begun and not ended, by number, and the number of the next one.
    in_flight: [Vec<(u64, u64, Vec<u8>)>; 2],
    pub next: u64,
    pub histories: Vec<History>,
    pub images: Vec<Image>,
    /// One I/O in so many makes an image.
    every: u64,
    pub troubles: Vec<Trouble>,
    /// When an I/O of each disk last failed or hung, in milliseconds since boot.
    pub wrong_ms: [u64; 2],
    /// When a read of each disk last failed.
    read_failed_ms: [u64; 2],
    /// Whether a write or flush of the cache disk has failed, or the disk was reset: then the log may have
    /// failed for good, too.
    log_may_fail: bool,
    /// Whether the cache disk has ever forgotten something: data that were not stable are gone then, and
    /// cannot be read.
    pub forgot: bool,
    /// Whether memory has come out of an image: if the cache disk cannot be read then, the volume serves no
    /// requests any more.
    pub restored: bool,
    /// The places of recent writes to segments of the cache disk.
    recent: VecDeque<Range<u64>>,
    /// The longest time of a write to the first MiB of the cache disk, where checkpoints are, in
    /// microseconds.
    checkpoint_us: u64,
    /// The number of rotten places of the cache disk.
    pub rotten: usize,
    rng: Rng,
}

impl World {
    pub fn new(disks: [Simulated; 2], histories: Vec<History>, every: u64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            disks,
            in_flight: Default::default(),
            next: 0,
            histories,
            images: Vec::new(),
            every,
            troubles: Vec::new(),
            wrong_ms: [0; 2],
            read_failed_ms: [0; 2],
            log_may_fail: false,
            forgot: false,
            restored: false,
            recent: VecDeque::new(),
            checkpoint_us: rng.pick(&[2000, 2000, 400_000]),
            rotten: 0,
            rng,
        }
    }

    /// The medium of the cache disk loses something in its segments: either it reports an error, or a bit is
    /// flipped. Then there are no images, because a record that is not known to be durable, and is damaged,
    /// ends the log.
    pub fn rot(&mut self, rng: &mut Rng) {
        // In the place of a recent write: data elsewhere would hardly ever be needed.
        if self.recent.is_empty() {
            return;
        }
        let sectors = self.recent[rng.index(self.recent.len())].clone();
        let sector = rng.range(sectors.start, sectors.end - 1);
        let disk = &mut self.disks[CACHE];
        if rng.one_in(2) {
            disk.lose(sector);
        } else {
            let mut bytes = disk.sector(sector);
            let bit = rng.index(SECTOR * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.poke(sector, &bytes);
        }
        note(&format!("sector {sector} of the cache disk rots"));
        self.rotten += 1;
        self.every = u64::MAX;
        self.images.clear();
    }

    /// A moment in the middle of some I/O.
    fn moment(&mut self) {
        if self.images.len() < IMAGES && self.rng.one_in(self.every) {
            let in_flight = self
                .in_flight
                .each_ref()
                .map(|writes| writes.iter().map(|(_, sector, data)| (*sector, data.clone())).collect());
            self.images.push(Image {
                disks: self.disks.clone(),
                in_flight,
                histories: self.histories.clone(),
            });
        }
    }

    /// Something goes wrong. A disk that is reset by a read can be read again soon: see `Flights::waive`.
    pub fn begin(&mut self, mut trouble: Trouble) {
        let resets = |t: &Trouble| matches!(t.how, How::Resets(_));
        let reads = |t: &Trouble| t.disk == trouble.disk && t.ops.contains(&Op::Read) && t.how != How::Hangs;
        let was_reset = self.troubles.iter().any(|t| reads(t) && resets(t));
        let is_read = reads(&trouble);
        let soon_ms = now_ms() + SOON_MS;
        if is_read && (resets(&trouble) || was_reset) {
            trouble.until_ms = trouble.until_ms.min(soon_ms);
        }
        if is_read && resets(&trouble) {
            self.troubles.iter_mut().filter(|t| reads(t)).for_each(|t| t.until_ms = t.until_ms.min(soon_ms));
        }
        self.troubles.push(trouble);
    }

    /// Whether something was wrong with a disk at that time or later.
    pub fn was_wrong_since(&self, ms: u64) -> bool {
        self.wrong_ms.iter().any(|&wrong_ms| wrong_ms >= ms)
    }

    /// Whether a read may fail without an error of a disk.
    pub fn is_damaged(&self) -> bool {
        self.forgot || self.rotten != 0 || self.may_be_gone()
    }

    /// Whether the cache disk may not have been readable when memory came out of an image.
    fn may_be_gone(&self) -> bool {
        self.restored && self.wrong_ms[CACHE] != 0
    }

    /// Whether the volume may refuse everything, for good.
    pub fn may_have_failed(&self) -> bool {
        self.log_may_fail || self.may_be_gone()
    }

    /// The trouble of an I/O, if it has any.
    fn trouble(&mut self, disk: usize, op: Op, sectors: &Range<u64>, hangs: bool) -> Option<Trouble> {
        let rng = &mut self.rng;
        let is = |t: &&Trouble| (t.how == How::Hangs) == hangs && t.concerns(disk, op, sectors);
        self.troubles.iter().filter(is).find(|t| rng.one_in(t.one_in)).cloned()
    }
}

/// Reports an event, when a single run is being examined.
pub fn note(text: &str) {
    if std::env::var_os("WRITEBOOST_LOG").is_some() {
        eprintln!("{} ms: {text}", now_ms());
    }
}

/// One of the two disks.
pub struct Half {
    pub world: Arc<Mutex<World>>,
    pub number: usize,
    pub sectors: u64,
    pub logical_block: u32,
}

impl Half {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Waits as long as the I/O takes.
    fn take_time(&self, op: Op, sectors: &Range<u64>) {
        let (hangs, us) = {
            let mut world = self.world();
            let hangs = world.trouble(self.number, op, sectors, true);
            let is_checkpoint = self.number == CACHE && op == Op::Write && sectors.end <= SEGMENTS;
            let most = match op {
                Op::Read => 200,
                _ if is_checkpoint => world.checkpoint_us,
                _ => 2000,
            };
            (hangs, world.rng.below(most))
        };
        if let Some(trouble) = hangs {
            // Until the end of the trouble.
            self.world().wrong_ms[self.number] = trouble.until_ms;
            take_us(trouble.until_ms.saturating_sub(now_ms()) * 1000);
        }
        if us % 4 == 0 {
            pause();
        } else {
            take_us(us);
        }
    }

    /// The error of this I/O, if it fails.
    fn fails(&self, world: &mut World, op: Op, sectors: &Range<u64>) -> Option<Error> {
        let trouble = world.trouble(self.number, op, sectors, false)?;
        world.wrong_ms[self.number] = now_ms();
        let may_forget = op != Op::Read || matches!(trouble.how, How::Resets(_));
        world.log_may_fail |= self.number == CACHE && may_forget;
        note(&format!("disk {} {op:?} {sectors:?} {:?}", self.number, trouble.how));
        // Where reads fail all the time, not each of them counts as a reset.
        let is_told = op != Op::Read || now_ms() > world.read_failed_ms[self.number] + 1100;
        if op == Op::Read {
            world.read_failed_ms[self.number] = now_ms();
        }
        let World { disks, rng, forgot, .. } = world;
        let errno = match trouble.how {
            How::Resets(errno) => {
                if is_told {
                    disks[self.number].forget(rng);
                    *forgot |= self.number == CACHE;
                }
                errno
            }
            How::Fails(errno) => errno,
            How::Hangs => return None,
        };
        Some(Error::from_errno(-errno))
    }
}

impl Disk for Half {
    fn shape(&self) -> Shape {
        Shape { sectors: self.sectors, logical_block: self.logical_block, zoned: false, read_only: false }
    }

    fn limits(&self) -> Limits {
        Limits { logical_block: self.logical_block, ..MemoryDisk::new(1).limits() }
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        let n = (to.len() / SECTOR) as u64;
        let sectors = sector..sector + n;
        self.take_time(Op::Read, &sectors);
        let mut world = self.world();
        if let Some(error) = self.fails(&mut world, Op::Read, &sectors) {
            return Err(error);
        }
        let read = world.disks[self.number].try_read(sector, n);
        to.copy_from_slice(&read.map_err(|errno| Error::from_errno(-errno))?);
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        let sectors = sector..sector + (from.len() / SECTOR) as u64;
        let id = {
            let mut world = self.world();
            world.next += 1;
            let id = world.next;
            world.in_flight[self.number].push((id, sector, from.to_vec()));
            world.moment();
            id
        };
        // Others may end before.
        self.take_time(Op::Write, &sectors);
        let mut world = self.world();
        world.in_flight[self.number].retain(|write| write.0 != id);
        if self.number == CACHE && sector >= SEGMENTS {
            world.recent.truncate(RECENT - 1);
            world.recent.push_front(sectors.clone());
        }
        let error = self.fails(&mut world, Op::Write, &sectors);
        let World { disks, rng, .. } = &mut *world;
        if error.is_some() {
            disks[self.number].tear(rng, sector, from);
            world.forgot |= self.number == CACHE;
        } else {
            disks[self.number].write(sector, from, fua);
        }
        world.moment();
        error.map_or(Ok(()), Err)
    }

    fn flush(&self) -> Result {
        let mark = self.world().disks[self.number].mark();
        self.take_time(Op::Flush, &(0..0));
        let mut world = self.world();
        world.moment();
        if let Some(error) = self.fails(&mut world, Op::Flush, &(0..0)) {
            return Err(error);
        }
        world.disks[self.number].flush(mark);
        world.moment();
        Ok(())
    }
}
