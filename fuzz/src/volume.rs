// SPDX-License-Identifier: GPL-2.0-only

//! The volume on a hostile cache device: opened, and then used, with all its threads, in a simulation. No I/O
//! of the volume may leave the devices. A refused cache device stays as it was. The volume must hold the same
//! before and after whatever it does by itself.
//!
//! The devices never fail. So a block cannot be read only if it does not match its checksum, and nothing else
//! ends with an error.
//!
//! A sector is known here by its first bytes. A sector whose block does not match its checksum is `None`: a
//! read of it is an error, and it is never written back.

use crate::bytes::Source;
use crate::device::Device;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use writeboost::engine::replay::is_empty;
use writeboost::format::{
    Block, Checkpoint, Chosen, Held, RecordHeader, Seq, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS,
    SECTOR,
};
use writeboost::host::plain::{
    crc32c, damaged, simulate, take_us, Disk, Mapped, MemoryDisk, Result as Io, StatusKind, EINVAL,
};
use writeboost::interface::status::Status;
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

/// What came of an image.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Fate {
    /// Superblock or checkpoints are none, or do not fit the device.
    Refused,
    /// The log is damaged.
    Damaged,
    /// There is a volume, and it worked.
    Works,
}

/// Counts from which a volume is not resumed. Only a forged log has them.
const MOST: u64 = 1 << 61;
/// Sectors of the backing device if no superblock says how many.
const SOME_SECTORS: u64 = 4099;
/// How long an I/O takes, in microseconds.
const IO_US: u64 = 20;

/// What a sector holds; `None` when it cannot be read.
type Content = Option<u64>;

/// What the sectors of a block hold; those behind the end of the backing device are zero.
type Contents = [Content; BLOCK_SECTORS as usize];

/// What sector `s` of a block holds.
fn content(block: &[u8], s: usize) -> u64 {
    let words = block[s * SECTOR..].chunks_exact(8).take(3);
    words.fold(0, |n, w| n.rotate_left(21) ^ u64::from_le_bytes(w.try_into().unwrap()))
}

/// The contents of a sector of the backing device at first. No two sectors hold the same.
fn initial(sector: u64) -> Vec<u8> {
    (sector + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(SECTOR / 8)
}

/// The sectors of a mask.
fn sectors(mask: u8) -> impl Iterator<Item = usize> {
    (0..BLOCK_SECTORS as usize).filter(move |s| mask & 1 << s != 0)
}

/// A disk that does all it is asked for, and asserts that this lies within the sectors of the volume.
struct Tray {
    device: Mutex<Device>,
    sectors: u64,
    /// The end of the sectors that belong to the volume.
    end: u64,
    /// Blocks read, and writes.
    read: AtomicU64,
    writes: AtomicU64,
}

impl Tray {
    fn new(device: Device, end: Option<u64>) -> Arc<Self> {
        let (sectors, read, writes) = (device.sectors(), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { device: Mutex::new(device), sectors, end: end.unwrap_or(sectors), read, writes })
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }

    fn check(&self, sector: u64, bytes: usize) {
        take_us(IO_US);
        let end = sector + (bytes / SECTOR) as u64;
        assert!(
            end <= self.end,
            "I/O from sector {sector} to {end}: the volume's sectors end at {}",
            self.end
        );
    }
}

impl Disk for Tray {
    fn shape(&self) -> Shape {
        Shape { sectors: self.sectors, ..MemoryDisk::new(1).shape() }
    }

    fn limits(&self) -> Limits {
        MemoryDisk::new(1).limits()
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Io {
        self.check(sector, to.len());
        self.read.fetch_add(to.len().div_ceil(BLOCK) as u64, Ordering::Relaxed);
        self.device().read(sector, to);
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], _fua: bool) -> Io {
        self.check(sector, from.len());
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.device().write(sector, from);
        Ok(())
    }

    fn flush(&self) -> Io {
        Ok(())
    }
}

/// The superblock of an image, and the checkpoint that is chosen, as far as it has them.
fn start(cache: &Device) -> Option<(Superblock, Option<Chosen>)> {
    let sb = Superblock::decode(&cache.sector(0)).ok().filter(|sb| sb.cache_sectors() <= cache.sectors())?;
    let slots = CHECKPOINT_BLOCKS.map(|block| Held::of(Some(&cache.sector(block)), &sb));
    Some((sb, Checkpoint::choose(&slots).ok()))
}

/// The two devices of a volume.
struct Trays {
    cache: Arc<Tray>,
    backing: Arc<Tray>,
}

/// An open volume, and what its devices must hold.
struct Volume {
    trays: Trays,
    sb: Superblock,
    /// `None` while the volume is being opened again.
    mapped: Option<Mapped<Writeboost>>,
    /// Its status when it was opened last.
    opened: Status,
    /// The blocks that are watched, and what they must hold.
    expected: BTreeMap<Block, Contents>,
    /// What a sector may hold instead after a crash: all that it has held since all was durable.
    older: BTreeMap<u64, Vec<Content>>,
    /// Blocks written.
    written: u64,
    /// There are records that no code of ours writes: of epochs that were still to come when the volume was
    /// opened first, or with numbers from before their epoch.
    forged: bool,
}

/// Opens the volume on a cache device, and returns its status then.
///
/// # Errors
/// The fate of a cache device on which no volume can be opened.
pub fn open(cache: Device) -> Result<Status, Fate> {
    simulate(0, || {
        let volume = Volume::open(cache)?;
        let opened = volume.opened.clone();
        volume.remove();
        Ok(opened)
    })
}

/// Opens the volume on a cache device and uses it: does what the script says, at most `most` things, and then
/// everything that must always be possible. The script decides the course of the simulation, too.
pub fn live(cache: Device, script: &[u8], most: usize) -> Fate {
    let script = script.to_vec();
    simulate(crc32c(0, &script).into(), move || match Volume::open(cache) {
        Ok(mut volume) => {
            volume.run(&script, most);
            volume.finish();
            volume.remove();
            Fate::Works
        }
        Err(fate) => fate,
    })
}

impl Trays {
    /// Creates the device on the disks as they are, checks its first status, and resumes it. Returns the
    /// device, that status and the superblock.
    fn create(&self) -> Result<(Mapped<Writeboost>, Status, Superblock), Fate> {
        let start = start(&self.cache.device());
        self.cache.read.store(0, Ordering::Relaxed);
        self.cache.writes.store(0, Ordering::Relaxed);
        let disks: [(&str, Arc<dyn Disk>); 2] =
            [("backing", self.backing.clone()), ("cache", self.cache.clone())];
        let created = Mapped::create(&disks, "backing cache");
        let is_there_nothing = start.as_ref().is_some_and(|(sb, chosen)| {
            let first = |cp: &Checkpoint| {
                sb.slot_sector(cp.tail_segment.first_slot(sb.segment_blocks)) / BLOCK_SECTORS
            };
            chosen.as_ref().is_some_and(|chosen| {
                is_empty(sb, &chosen.checkpoint, self.cache.device().block(first(&chosen.checkpoint)))
            })
        });
        let mapped = match created {
            Ok(mapped) => mapped,
            Err((why, error)) => {
                let writes = self.cache.writes.load(Ordering::Relaxed);
                assert_eq!(writes, 0, "the refused cache device was written to: {why}");
                assert!(!is_there_nothing, "an empty log is refused: {why}");
                assert!([EINVAL, damaged()].contains(&error), "{why} ({error:?}), and no device has failed");
                return Err(if error == damaged() { Fate::Damaged } else { Fate::Refused });
            }
        };
        let status = status_of(&mapped);
        let sb = self.check_opened(start, &status);
        assert!(!is_there_nothing || status.dirty_blocks == 0, "the empty log is not empty: {status:?}");
        mapped.resume();
        Ok((mapped, status, sb))
    }

    /// Asserts that the volume is in the state of the log that it was opened from. Returns its superblock.
    fn check_opened(&self, before: Option<(Superblock, Option<Chosen>)>, status: &Status) -> Superblock {
        let (sb, after) = self::start(&self.cache.device()).expect("the superblock of an open volume");
        let after = after.expect("the checkpoint of an open volume").checkpoint;
        let free = status.named.free_segments.unwrap();
        assert!(
            status.dirty_blocks <= status.cache_blocks && (1..=status.segments).contains(&free),
            "{status:?}"
        );
        let [newest, flushed, written_back] =
            [status.current_id, status.last_flushed_id, status.last_writeback_id].map(Seq);
        assert!(flushed == newest && written_back <= newest, "{status:?}");
        // The checkpoint could be read again: otherwise an older one would be in its place here.
        assert_eq!((after.durable, after.epoch_start), (newest, newest.next()));
        assert_eq!(after.tail, written_back.next());
        if let Some((old, chosen)) = before {
            let Chosen { checkpoint: cp, doubtful, .. } = chosen.expect("there was a checkpoint");
            assert!(sb == old && newest >= cp.durable && after.tail == cp.tail, "{status:?} from {cp:?}");
            let doubtful = u64::from(doubtful);
            // A resume writes the checkpoint to two slots.
            let is_next = (cp.generation + 2 + 2 * doubtful, cp.epoch + 1 + doubtful);
            assert_eq!((after.generation, after.epoch), is_next);
            // The replay may read each segment's start and one block behind each record twice, and data
            // once. Some of the blocks that it reads ahead may be read for nothing.
            let slots = u64::from(sb.nr_segments) * u64::from(sb.segment_blocks);
            let read = self.cache.read.load(Ordering::Relaxed);
            assert!(read <= 8 * slots + 1000, "{read} blocks are read of {slots}");
        } else {
            let Checkpoint { generation, epoch, .. } = after;
            let empty = Checkpoint { generation, epoch, ..Checkpoint::first(sb.nonce) };
            assert_eq!((after, status.dirty_blocks), (empty, 0), "the cache device was formatted");
        }
        sb
    }
}

impl Volume {
    /// Opens a volume on `cache`, if there is one that can be opened.
    fn open(cache: Device) -> Result<Self, Fate> {
        let start = start(&cache);
        let sb = start.as_ref().map(|(sb, _)| sb);
        let mut backing = Device::new(sb.map_or(SOME_SECTORS, |sb| sb.backing_sectors));
        let records = sb.map(|sb| Records::of(sb, &cache)).unwrap_or_default();
        let watched = records.watched(Block::of_sector(backing.sectors() - 1));
        // The backing device is filled where the test looks at it.
        for &addr in &watched {
            for s in addr.first_sector()..addr.next().first_sector().min(backing.sectors()) {
                backing.write(s, &initial(s));
            }
        }
        let before: BTreeMap<Block, [u8; BLOCK]> =
            watched.iter().map(|&a| (a, *backing.block(a.0))).collect();
        let end = sb.map(Superblock::cache_sectors);
        let forged = records.forged(start.as_ref().and_then(|(_, chosen)| chosen.as_ref()));
        let trays = Trays { backing: Tray::new(backing, None), cache: Tray::new(cache, end) };
        let (mapped, opened, sb) = trays.create()?;
        let mut volume = Self {
            trays,
            sb,
            mapped: Some(mapped),
            opened,
            expected: BTreeMap::new(),
            older: BTreeMap::new(),
            written: 0,
            forged,
        };
        for addr in watched {
            let held = volume.read_block(addr);
            for (s, held) in held.into_iter().enumerate() {
                // Some record or the backing device holds this, or some record of the block is torn.
                let may_be = |held| records.hold(addr, s, held) || content(&before[&addr], s) == held;
                let is_right = held.map_or_else(|| records.has_torn(addr), may_be);
                assert!(is_right, "sector {s} of block {addr} is {held:?}, which was never written there");
            }
            volume.expected.insert(addr, held);
        }
        Ok(volume)
    }

    fn mapped(&self) -> &Mapped<Writeboost> {
        self.mapped.as_ref().expect("it is open")
    }

    fn remove(mut self) {
        self.mapped.take().expect("it is open").remove();
    }

    /// Whether the result of opening the volume again is certain. A program that knows the nonce can prepare
    /// records that are only looked at in a later epoch, and counts that have come to their end.
    fn is_predictable(&self) -> bool {
        let Some((_, Some(Chosen { checkpoint: cp, .. }))) = start(&self.trays.cache.device()) else {
            return false;
        };
        let far = MOST - 2 * u64::from(self.sb.nr_segments * self.sb.segment_blocks) - 1000;
        !self.forged && cp.generation.max(cp.epoch).max(cp.durable.0) < far
    }

    /// Opens the volume again, as after a crash: each sector that was written since all was durable may hold
    /// what was written or not. Returns whether it has done so: only if the result is certain.
    fn crash(&mut self) -> bool {
        if !self.is_predictable() {
            return false;
        }
        self.mapped.take().expect("it is open").kill();
        let created = self.trays.create();
        let (mapped, opened, sb) = created.expect("superblock, checkpoints and log are its own");
        assert_eq!(sb, self.sb);
        (self.mapped, self.opened) = (Some(mapped), opened);
        let older = std::mem::take(&mut self.older);
        let mut expected = std::mem::take(&mut self.expected);
        for (&addr, held) in &mut expected {
            let found = self.read_block(addr);
            for (s, (held, found)) in (addr.first_sector()..).zip(held.iter_mut().zip(found)) {
                let may_be = found == *held || older.get(&s).is_some_and(|older| older.contains(&found));
                assert!(may_be, "sector {s} was {held:?}, and is {found:?} after a crash");
                *held = found;
            }
        }
        self.expected = expected;
        true
    }

    /// First sector of a block and how many it has.
    fn sectors_of(&self, addr: Block) -> (u64, u64) {
        let first = addr.first_sector();
        (first, (self.sb.backing_sectors - first).min(BLOCK_SECTORS))
    }

    fn read_block(&self, addr: Block) -> Contents {
        let (first, n) = self.sectors_of(addr);
        let mut held = [Some(0); BLOCK_SECTORS as usize];
        let whole = self.mapped().read(first, n);
        for (s, held) in (0..n).zip(&mut held) {
            *held = match &whole {
                Ok(block) => Some(content(block, s as usize)),
                Err(_) => self.mapped().read(first + s, 1).ok().map(|sector| content(&sector, 0)),
            };
        }
        held
    }

    /// How many sectors cannot be read: they are dirty, and their slots do not match their checksums.
    fn unreadable(&self) -> u64 {
        self.expected.values().flatten().filter(|held| held.is_none()).count() as u64
    }

    fn check_content(&self) {
        for (addr, held) in &self.expected {
            assert_eq!(self.read_block(*addr), *held, "block {addr}");
        }
    }

    /// A sector near one that the image has, or any.
    fn draw(&self, from: &mut Source<'_>) -> u64 {
        let n = Block(from.number());
        let near = self.expected.range(n..).next().or(self.expected.first_key_value()).map_or(n, |(a, _)| *a);
        near.0.wrapping_mul(BLOCK_SECTORS).wrapping_add(from.byte().into()) % self.sb.backing_sectors
    }

    fn run(&mut self, script: &[u8], most: usize) {
        let mut from = Source(script);
        let mut n = 0;
        while !from.is_empty() && n < most {
            n += 1;
            match from.byte() % 11 {
                0..=2 => {
                    let sector = self.draw(&mut from);
                    let sectors = (1 + u64::from(from.byte())).min(self.sb.backing_sectors - sector);
                    self.write(sector, sectors, n as u64);
                }
                3 => {
                    let sector = self.draw(&mut from);
                    let sectors = (1 + u64::from(from.byte())).min(self.sb.backing_sectors - sector);
                    self.read(sector, sectors);
                }
                4 => self.flush(),
                // A pause, in which the volume writes back by itself.
                5 => take_us(3_000_000),
                6 => self.drain(),
                7 => self.steer(from.byte()),
                8 => {
                    self.mapped().suspend();
                    self.older.clear();
                    self.mapped().resume();
                }
                9 => {
                    let sector = self.draw(&mut from);
                    self.rot(Block::of_sector(sector));
                }
                _ => {
                    if n % 2 == 0 {
                        self.flush();
                    }
                    self.crash();
                }
            }
        }
    }

    /// Everything that must always be possible.
    fn finish(&mut self) {
        self.check_content();
        self.flush();
        self.crash();
        let before = self.written;
        self.write(0, 1, before + 1);
        self.flush();
        self.drain();
        let status = status_of(self.mapped());
        let unreadable = self.unreadable();
        // Each slot that is still dirty has at least one sector that cannot be read.
        assert!(
            status.dirty_blocks <= unreadable && (status.dirty_blocks == 0) == (unreadable == 0),
            "{status:?}"
        );
        assert!(
            unreadable != 0 || (self.written > before && status.last_writeback_id == status.current_id),
            "{status:?}"
        );
        self.check_content();
        for (addr, held) in &self.expected {
            let backing = self.trays.backing.device();
            let backing = backing.block(addr.0);
            for (s, held) in held.iter().enumerate() {
                let of = || content(&initial(addr.first_sector() + s as u64), 0);
                let is_behind = s as u64 >= self.sectors_of(*addr).1;
                let is_right = is_behind || content(backing, s) == held.unwrap_or_else(of);
                assert!(
                    is_right,
                    "sector {s} of block {addr}, {held:?}, is something else on the backing device"
                );
            }
        }
        let is_anew = self.crash();
        assert!(!is_anew || unreadable != 0 || self.opened.dirty_blocks == 0, "{:?}", self.opened);
    }

    /// Writes sectors. That fails only for want of room, while dirty blocks that cannot be read take it.
    fn write(&mut self, sector: u64, sectors: u64, n: u64) {
        let mut data = vec![0; sectors as usize * SECTOR];
        for (sector, b) in (sector..).zip(data.chunks_exact_mut(SECTOR)) {
            for (b, word) in b.chunks_exact_mut(8).zip([u64::MAX - n, self.written, sector]) {
                b.copy_from_slice(&word.to_le_bytes());
            }
        }
        let end = Block::of_sector(sector + sectors - 1).next();
        let addrs = (Block::of_sector(sector).0..end.0).map(Block);
        for addr in addrs.clone() {
            if !self.expected.contains_key(&addr) {
                let held = self.read_block(addr);
                self.expected.insert(addr, held);
            }
        }
        let result = self.mapped().write(sector, &data);
        assert!(result.is_ok() || self.unreadable() != 0, "no room ({result:?}), and nothing is in the way");
        for addr in addrs {
            self.written += 1;
            let found = result.is_err().then(|| self.read_block(addr));
            let held = self.expected.get_mut(&addr).expect("it is watched");
            for s in 0..BLOCK_SECTORS {
                let at = addr.first_sector() + s;
                if !(sector..sector + sectors).contains(&at) {
                    continue;
                }
                let (held, new) = (&mut held[s as usize], Some(content(&data, (at - sector) as usize)));
                self.older.entry(at).or_default().extend([*held, new]);
                // A write that failed may have been done in part.
                let now = found.map_or(new, |found| found[s as usize]);
                assert!(now == new || now == *held, "sector {at} is {now:?}, neither {held:?} nor {new:?}");
                *held = now;
            }
        }
    }

    /// Reads sectors. The read fails if one of them cannot be read, and only then.
    fn read(&self, sector: u64, sectors: u64) {
        let expected =
            |s: u64| self.expected.get(&Block::of_sector(s)).map(|b| b[(s % BLOCK_SECTORS) as usize]);
        match self.mapped().read(sector, sectors) {
            Ok(data) => {
                for (i, s) in (sector..sector + sectors).enumerate() {
                    let found = Some(content(&data, i));
                    assert!(expected(s).is_none_or(|held| held == found), "sector {s}");
                }
            }
            Err(error) => {
                let is_known = (sector..sector + sectors).any(|s| expected(s) == Some(None));
                assert!(is_known, "a read fails ({error:?}), and all of it can be read");
            }
        }
    }

    fn flush(&mut self) {
        self.mapped().flush().expect("no device has failed");
        self.older.clear();
    }

    /// Drains: everything dirty that can be read is written back.
    fn drain(&self) {
        let result = self.mapped().message("drop_caches");
        assert_eq!(result.is_ok(), self.unreadable() == 0, "{result:?}: {:?}", status_of(self.mapped()));
    }

    /// Sends a message: an option of writeback, or the request to give up blocks that cannot be read.
    fn steer(&self, how: u8) {
        let messages = [
            "give_up",
            "writeback_threshold 0",
            "give_up",
            "writeback_threshold 100",
            "give_up",
            "nr_max_batched_writeback 1",
            "give_up",
            "writeback_rate_limit 400",
        ];
        let message = messages[usize::from(how % 8)];
        self.mapped().message(message).unwrap_or_else(|e| panic!("{message}: {e:?}"));
        if message == "give_up" {
            take_us(10_000_000);
        }
    }

    /// Changes all copies of a block on the cache device. If nothing is dirty, the volume holds the same.
    fn rot(&self, addr: Block) {
        self.drain();
        if self.unreadable() != 0 {
            return;
        }
        let before = self.read_block(addr);
        let records = Records::of(&self.sb, &self.trays.cache.device());
        for block in records.places(addr) {
            let mut device = self.trays.cache.device();
            let is_header = device.block(block).starts_with(b"WBrc");
            device.block_mut(block).filter(|_| !is_header).into_iter().for_each(|b| b[100] ^= 1);
        }
        assert_eq!(self.read_block(addr), before, "block {addr} was not clean");
    }
}

/// The status of a volume.
fn status_of(mapped: &Mapped<Writeboost>) -> Status {
    let line = mapped.status(StatusKind::Info);
    Status::parse(&line, |key, value| panic!("{key} {value} in {line}")).unwrap()
}

/// A block that some record on the device says it holds.
struct Entry {
    mask: u8,
    /// Which block of the cache device it is.
    block: u64,
    /// What its sectors hold; `None` if the block does not match its checksum.
    contents: Option<[u64; BLOCK_SECTORS as usize]>,
}

/// All records on a cache device, whether or not they are part of the log.
#[derive(Default)]
struct Records {
    headers: Vec<RecordHeader>,
    /// By their addresses.
    entries: BTreeMap<Block, Vec<Entry>>,
}

impl Records {
    fn of(sb: &Superblock, cache: &Device) -> Self {
        let mut records = Self::default();
        let end = sb.cache_sectors() / BLOCK_SECTORS;
        for first in cache.written().into_iter().filter(|block| (sb.first_block.into()..end).contains(block))
        {
            let offset = (first - u64::from(sb.first_block)) % u64::from(sb.segment_blocks);
            let header = cache.block(first);
            let Ok(h) = RecordHeader::decode(header, sb, offset as u32) else { continue };
            records.headers.push(h);
            for i in 0..h.blocks.into() {
                let e = RecordHeader::entry(header, i);
                let block = first + 1 + i as u64;
                let data = cache.block(block);
                let is_right = crc32c(0, data) == e.crc;
                let contents = is_right.then(|| core::array::from_fn(|s| content(data, s)));
                let entry = Entry { mask: e.mask, block, contents };
                records.entries.entry(e.addr).or_default().push(entry);
            }
        }
        records
    }

    /// The blocks that some record may hold, and the first and the last of the volume.
    fn watched(&self, last: Block) -> Vec<Block> {
        let mut all: Vec<_> = self.entries.keys().copied().chain([Block(0), last]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn of_block(&self, addr: Block) -> impl Iterator<Item = &Entry> {
        self.entries.get(&addr).into_iter().flatten()
    }

    /// Whether some record holds this in a sector of a block.
    fn hold(&self, addr: Block, s: usize, held: u64) -> bool {
        self.of_block(addr)
            .any(|e| sectors(e.mask).any(|of| of == s) && e.contents.is_some_and(|c| c[s] == held))
    }

    /// Whether some record has a torn copy of a block: one that does not match its checksum.
    fn has_torn(&self, addr: Block) -> bool {
        self.of_block(addr).any(|e| e.mask != 0 && e.contents.is_none())
    }

    /// The blocks of the cache device that hold a block.
    fn places(&self, addr: Block) -> impl Iterator<Item = u64> + '_ {
        self.of_block(addr).map(|e| e.block)
    }

    /// Whether there are records that no code of ours writes behind this checkpoint. No epoch has records
    /// from before it began.
    fn forged(&self, chosen: Option<&Chosen>) -> bool {
        chosen.is_some_and(|Chosen { checkpoint: cp, .. }| {
            let mut headers = self.headers.iter();
            headers.any(|h| h.epoch > cp.epoch || h.epoch == cp.epoch && h.seq < cp.epoch_start)
        })
    }
}
