// SPDX-License-Identifier: GPL-2.0-only

//! Reads: from RAM at once, from one device by sending the bio there, and the rest by workers.
//!
//! # Invariants
//! - Data from the cache device are served only if they have matched their checksum in a segment that was not
//!   opened again since the lookup: see [`checks`](crate::engine::checks). Nothing waits for a read: a read
//!   whose segment was opened again has *lost its segment*, and is looked up again.
//! - A read from the cache device is an error only when memory that no other party can change was looked at.
//!   The caller may change its own pages after the device has written to them and before they are checked,
//!   which is no fault of the device. So a worker reads the data again into pages of its own, checks them
//!   there, and copies.
//! - A clean block is on the backing device too. When it cannot be read from the cache device, the cache
//!   forgets it, and it is read from the backing device. A dirty block is never forgotten: an older version
//!   would come back.
//! - A bio in a queue belongs to the worker that takes it: the task that has put it there does not touch it
//!   any more.
//!
//! # Queues, and what waits for what
//! A bio that cannot be served by sending it to one device is put together by workers, block by block, in
//! memory of their own that was allocated beforehand. There are three queues, each of which is served in the
//! order in which bios came to it:
//!
//! - `checking`: large reads that have come well from the cache device, in an interrupt that must not take
//!   long. Their workers compare checksums and do no I/O, so this queue never stands still.
//! - `near`: parts of blocks, blocks in several places, reads whose memory the cache device would refuse for
//!   how it lies, and reads that came back wrong or have lost their segment. The workers read from RAM and
//!   from the cache device. When a block needs the backing device, the bio goes on to `far`.
//! - `far`: the workers read one block of the bio from the backing device and put the bio back to `near`. So
//!   a bio that needs the cache device only does not wait for the backing device, even when that does not
//!   answer for hours.
//!
//! Each queue has up to [`MOST_READERS`] workers, which do one I/O each at a time: one slow read holds up one
//! of them. A worker serves a bio for [`TURN`] blocks. Then the bio goes to the end of the queue, as it does
//! after each block that has made trouble. So a bio with `n` bios before it waits for `n * TURN` I/Os at
//! most, divided by the workers, however large the other bios are. A user that makes the device's data look
//! wrong, by writing to memory that is read to, has them read again at the turns of that bio only. When one
//! stretch of the cache device does not answer, each bio of that stretch in the queue takes a worker, for as
//! long as the device lets one block wait, and not for as long as it lets the bio wait.
//!
//! A read that has lost its segment comes to an end. The first time it was the bio of a user, which is as
//! slow as the limits of its owner make it. From then on it is read by I/O of our own, one block at a time.
//! To lose the segment again, the log has to come all the way round during one such I/O; and the lookup that
//! follows finds the block on the backing device, where nothing is lost, unless the block was written once
//! more meanwhile. So the read goes on only while, each time, the block is overwritten and the log comes
//! round faster than the device reads one block.

use super::errand::{Assemble, CacheRead};
use super::faults::{trouble, Kind};
use super::{Disks, Errand, Pool, Transfer, Transfers, Volume, MAPPED};
use crate::engine::checks::Verdict;
use crate::engine::read::{Piece, Pieces, Run};
use crate::engine::Part;
use crate::format::{Slot, Superblock, BLOCK, BLOCK_SECTORS, SECTOR};
use crate::host::{
    arc, crc32c, may_take_long, not_supported, now_ms, Arc, Bio, BioQueue, Cursor, Mapping, Outcome,
    QueueKind, Result, Returned, Serve, Service, EAGAIN, EIO,
};
use crate::interface::status::count;
use crate::policy::room::Wake;
use core::ffi::CStr;
use core::sync::atomic::Ordering;

/// Blocks of a bio that a worker reads before it takes the next bio.
const TURN: u32 = 4;
/// Blocks whose checksums are compared where a read ends, even in an interrupt: 64 KiB, some microseconds.
const CHECKED_AT_ONCE: u32 = 16;
/// Workers of the queue `checking`, which compares the checksums of larger reads.
pub(super) const CHECKERS: u32 = 8;
/// Workers of each of the other queues, each with a block of memory, at least and at most.
const LEAST_READERS: u32 = 4;
const MOST_READERS: u32 = 16;

/// One worker for each 64 segments, which are 32 MiB.
pub(super) fn nr_readers(sb: &Superblock) -> u32 {
    (sb.nr_segments / 64).clamp(LEAST_READERS, MOST_READERS)
}

/// A queue of reads, and the memory that its workers read to.
pub struct Readers {
    queue: Arc<BioQueue<Reader>>,
    transfers: Transfers,
}

impl Readers {
    /// Has a worker read what `bio` wants.
    pub(super) fn push(&self, bio: Bio<Errand>) {
        self.queue.push(bio);
    }

    pub(super) fn new(
        disks: &Disks,
        name: &'static CStr,
        kind: QueueKind,
        pool: Pool,
        workers: u32,
    ) -> Result<Self> {
        Ok(Self {
            queue: BioQueue::new(name, kind, workers)?,
            transfers: Transfers::new(disks, pool, workers)?,
        })
    }
}

/// What the workers of a queue do.
enum Task {
    Check,
    ReadNear,
    ReadFar,
}

/// The workers of one queue of a volume.
pub struct Reader {
    volume: Arc<Volume>,
    task: Task,
}

impl Reader {
    /// Starts the workers of all queues.
    pub(super) fn begin(volume: &Arc<Volume>) -> Result<[Service<Self>; 3]> {
        let reader = |task| arc(Self { volume: volume.clone(), task });
        let [check, near, far] = [reader(Task::Check)?, reader(Task::ReadNear)?, reader(Task::ReadFar)?];
        Ok([
            volume.checking.clone().begin(check),
            volume.near.queue.clone().begin(near),
            volume.far.queue.clone().begin(far),
        ])
    }
}

impl Serve for Reader {
    type PerBio = Errand;

    fn serve(&self, bio: Bio<Errand>) {
        match self.task {
            Task::Check => self.volume.check_late(bio),
            Task::ReadNear => self.volume.read_near(bio),
            Task::ReadFar => self.volume.read_far(bio),
        }
    }
}

/// The result of reading a part of a block.
enum Got {
    /// The data are where they should be.
    All,
    /// The data are somewhere else by now: another lookup finds them.
    Elsewhere,
    /// The backing device is needed for it, and was not asked.
    NeedsBacking,
}

impl Volume {
    /// Takes a read.
    pub fn read(&self, mut bio: Mapping<'_, Errand>) -> Outcome<Errand> {
        self.counts.add(MAPPED, 1);
        let (sector, sectors) = (bio.sector(), bio.sectors());
        let mut at = bio.start();
        // The workers hold the read, or end it when it has just turned out that another system has used the
        // devices.
        if self.flags.depth.serves_nothing() {
            bio.accept(sectors);
            return self.read_by_workers(bio, at, sector, sectors as u32, true);
        }
        let mut done = 0;
        while done < sectors {
            let (first, left) = (sector.saturating_add(done), sectors.saturating_sub(done));
            let part = Part::first_of(first, left);
            self.chains.warm(part.addr);
            let run = self.core.lock().engine.lookup(first, left);
            match run {
                Run::Backing(n) if done == 0 => {
                    bio.accept(n);
                    self.count_blocks(0, sector, n);
                    *bio.data() = Errand::BackingRead;
                    bio.remap(&self.disks.backing, sector);
                    return Outcome::Remapped(bio.into_bio());
                }
                Run::Cache { slot, blocks, generation } if done == 0 => {
                    let sectors = u64::from(blocks).saturating_mul(BLOCK_SECTORS);
                    bio.accept(sectors);
                    if !bio.fits(&self.disks.cache) {
                        return self.read_by_workers(bio, at, sector, sectors as u32, true);
                    }
                    self.count_blocks(count::HIT, sector, sectors);
                    let at = bio.start();
                    *bio.data() = Errand::CacheRead(CacheRead { at, slot, blocks, generation, sector });
                    bio.remap(&self.disks.cache, self.slot_sector(slot));
                    return Outcome::Remapped(bio.into_bio());
                }
                Run::Pieces(p) => {
                    let is_near = p.mask() == part.mask();
                    let is_in_ram = is_near && p.as_slice().iter().all(|p| p.ram.is_some());
                    if is_in_ram {
                        self.copy_from_ram(&bio, at, &part, &p);
                        bio.skip(&mut at, bytes(part.sectors));
                        done = done.saturating_add(part.sectors.into());
                    }
                    self.unpin(&p);
                    if !is_in_ram && done == 0 {
                        // A worker looks it up again, for this one block.
                        bio.accept(part.sectors.into());
                        return self.read_by_workers(bio, at, sector, part.sectors, is_near);
                    }
                    if !is_in_ram {
                        break;
                    }
                }
                Run::Backing(_) | Run::Cache { .. } => break,
            }
        }
        // What RAM holds is copied; the rest comes as another bio.
        bio.accept(done);
        self.count_blocks(count::HIT | count::IN_RAM, sector, done);
        bio.into_bio().end(Ok(()));
        Outcome::Submitted
    }

    /// Leaves a bio to workers. It wants `sectors` from `sector` on, and its data begin at `at`.
    fn read_by_workers(
        &self,
        mut bio: Mapping<'_, Errand>,
        at: Cursor,
        sector: u64,
        sectors: u32,
        is_near: bool,
    ) -> Outcome<Errand> {
        self.count_blocks(count::HIT, sector, sectors.into());
        *bio.data() = Errand::Assemble(Assemble { at, sector, left: sectors, again: false });
        let readers = if is_near { &self.near } else { &self.far };
        readers.push(bio.into_bio());
        Outcome::Submitted
    }

    /// Copies the pieces that are in RAM to the bio, whose part `part` begins at `at`.
    fn copy_from_ram(&self, bio: &Bio<Errand>, at: Cursor, part: &Part, pieces: &Pieces) {
        for p in pieces.as_slice() {
            let Some((buffer, block)) = p.ram else { continue };
            self.buffers[usize::from(buffer)].with(super::bytes(block), BLOCK, |from| {
                copy_sectors(bio, at, part, p.mask, from);
            });
        }
    }

    /// The pieces are not copied from RAM any more.
    fn unpin(&self, pieces: &Pieces) {
        let mut core = self.core.lock();
        let mut any = false;
        for (buffer, _) in pieces.as_slice().iter().filter_map(|p| p.ram) {
            core.engine.unpin_buffer(buffer);
            any = true;
        }
        // The head may wait for such a buffer.
        if any && !core.deferred.is_empty() {
            drop(core);
            self.wake(Wake::COMMIT);
        }
    }

    /// A bio has returned from the device that it was sent to, or was ended: checks data from the cache
    /// device. In any context.
    pub fn bio_returned(&self, mut bio: Bio<Errand>, result: Result) -> Returned<Errand> {
        let errand = core::mem::take(bio.data());
        // For a bio with REQ_NOWAIT, EAGAIN and EOPNOTSUPP are answers, not faults. Nor is an error of a
        // read-ahead a fault, for a device may have no time for it: device-mapper, for one, while it is
        // suspended.
        let would_wait = |e| (e == EAGAIN || e == not_supported()) && !bio.may_wait();
        let is_fault = result.is_err_and(|e| !bio.is_ahead() && !would_wait(e));
        match (errand, result) {
            (Errand::Bypass(bypassing), _) => return self.bypassed(bio, &bypassing, result, is_fault),
            (Errand::BackingRead, Err(e)) if is_fault => {
                self.disks.backing_doubts.add_by_read(e.to_errno(), now_ms());
                self.backing_read_failed();
            }
            (Errand::CacheRead(read), Err(e)) if is_fault => {
                self.disks.cache_doubts.add_by_read(e.to_errno(), now_ms());
                self.put_together(bio, &read, true);
                return Returned::Kept;
            }
            (Errand::CacheRead(read), Ok(())) if read.blocks > CHECKED_AT_ONCE && !may_take_long() => {
                *bio.data() = Errand::Check(read);
                self.checking.push(bio);
                return Returned::Kept;
            }
            (Errand::CacheRead(read), Ok(())) => {
                return match self.check(bio, &read) {
                    Some(bio) => Returned::Ends(bio, Ok(())),
                    None => Returned::Kept,
                }
            }
            _ => (),
        }
        Returned::Ends(bio, result)
    }

    /// Checks a read that came from the cache device. If it cannot be served as it is, workers have it now.
    /// In any context.
    fn check(&self, bio: Bio<Errand>, read: &CacheRead) -> Option<Bio<Errand>> {
        let mut at = read.at;
        let crcs = (0..read.blocks).map(|_| bio.crc32c(&mut at, BLOCK));
        let verdict = self.checks.judge(read.slot, read.generation, crcs);
        if verdict == Verdict::Intact {
            return Some(bio);
        }
        self.put_together(bio, read, verdict == Verdict::Wrong);
        None
    }

    fn check_late(&self, mut bio: Bio<Errand>) {
        let Errand::Check(read) = core::mem::take(bio.data()) else { return bio.end(Err(EIO)) };
        if let Some(bio) = self.check(bio, &read) {
            bio.end(Ok(()));
        }
    }

    /// Has workers read again what the cache device has returned; `again` if that was wrong. In any context.
    fn put_together(&self, mut bio: Bio<Errand>, read: &CacheRead, again: bool) {
        let &CacheRead { at, blocks, sector, .. } = read;
        let left = blocks.saturating_mul(BLOCK_SECTORS as u32);
        *bio.data() = Errand::Assemble(Assemble { at, sector, left, again });
        self.near.push(bio);
    }

    fn backing_read_failed(&self) {
        self.count_fault(Kind::BackingRead);
        if self.faults.may_log(Kind::BackingRead) {
            log_err!("{}: cannot read from the backing device", &*self.disks);
        }
    }

    pub(super) fn cache_read_failed(&self, slot: Slot) {
        self.count_fault(Kind::CacheRead);
        if self.faults.may_log(Kind::CacheRead) {
            log_err!(
                "{}: cannot read slot {} of the cache device: I/O error or wrong checksum",
                &*self.disks,
                slot
            );
        }
    }

    /// A worker's turn with a read.
    fn read_near(&self, bio: Bio<Errand>) {
        let Some(mut bio) = self.let_read(bio) else { return };
        let Errand::Assemble(mut rest) = *bio.data() else { return bio.end(Err(EIO)) };
        let got = self.near.transfers.with(|t| {
            for _ in 1..TURN {
                let got = self.read_next(t, &bio, &mut rest, false);
                if !matches!(got, Ok(Got::All)) || rest.left == 0 {
                    return got;
                }
            }
            self.read_next(t, &bio, &mut rest, false)
        });
        self.go_on_reading(bio, rest, got);
    }

    /// The turn of a worker that may wait for the backing device.
    fn read_far(&self, bio: Bio<Errand>) {
        let Some(mut bio) = self.let_read(bio) else { return };
        let Errand::Assemble(mut rest) = *bio.data() else { return bio.end(Err(EIO)) };
        let got = self.far.transfers.with(|t| self.read_next(t, &bio, &mut rest, true));
        self.go_on_reading(bio, rest, got);
    }

    /// After a turn: ends the bio, or puts it into the next queue.
    fn go_on_reading(&self, mut bio: Bio<Errand>, rest: Assemble, got: Result<Got>) {
        *bio.data() = Errand::Assemble(rest);
        match got {
            Err(e) => bio.end(Err(e)),
            Ok(Got::All) if rest.left == 0 => bio.end(Ok(())),
            Ok(Got::All | Got::Elsewhere) => self.near.push(bio),
            Ok(Got::NeedsBacking) => self.far.push(bio),
        }
    }

    /// Reads the next block that the bio wants.
    fn read_next(
        &self,
        t: &Arc<Transfer>,
        bio: &Bio<Errand>,
        rest: &mut Assemble,
        may_be_far: bool,
    ) -> Result<Got> {
        let part = Part::first_of(rest.sector, rest.left.into());
        let got = self.read_part(t, bio, rest, &part, may_be_far)?;
        if let Got::All = got {
            bio.skip(&mut rest.at, bytes(part.sectors));
            rest.sector = rest.sector.saturating_add(part.sectors.into());
            rest.left = rest.left.saturating_sub(part.sectors);
        }
        Ok(got)
    }

    /// Reads `part`, the next one of the rest, which lies within one block.
    fn read_part(
        &self,
        t: &Arc<Transfer>,
        bio: &Bio<Errand>,
        rest: &Assemble,
        part: &Part,
        may_be_far: bool,
    ) -> Result<Got> {
        let &Assemble { at, again, .. } = rest;
        let sector = part.addr.first_sector().saturating_add(part.first.into());
        let run = self.core.lock().engine.lookup(sector, part.sectors.into());
        let pieces = match run {
            Run::Backing(_) => Pieces::default(),
            Run::Cache { slot, generation, .. } => Pieces::one(slot, generation, part.mask()),
            Run::Pieces(p) => p,
        };
        // RAM first, so that no buffer is pinned while the worker waits for a device.
        self.copy_from_ram(bio, at, part, &pieces);
        self.unpin(&pieces);
        let missing = part.mask() & !pieces.mask();
        if missing != 0 && !may_be_far {
            return Ok(Got::NeedsBacking);
        }
        for p in pieces.as_slice().iter().filter(|p| p.ram.is_none()) {
            match self.read_slot(t, bio, at, part, p) {
                Verdict::Intact => {
                    self.faults.read_again.fetch_add(again.into(), Ordering::Relaxed);
                }
                Verdict::Gone => return Ok(Got::Elsewhere),
                Verdict::Wrong if self.is_elsewhere(p) => return Ok(Got::Elsewhere),
                Verdict::Wrong => return Err(EIO),
            }
        }
        if missing != 0 {
            // All of the part is read, but only the sectors that are nowhere else are copied.
            let part_of_page = (bytes(part.first), bytes(part.sectors));
            t.read(&self.disks, &self.disks.backing, sector, part_of_page, 0);
            t.finish().inspect_err(|_| self.backing_read_failed())?;
            t.pages.with(0, BLOCK, |from| copy_sectors(bio, at, part, missing, from));
        }
        Ok(Got::All)
    }

    /// Whether the piece, which cannot be read, can be had from another place: a new lookup finds it.
    fn is_elsewhere(&self, p: &Piece) -> bool {
        let elsewhere = self.core.lock().engine.forget(p.slot, p.generation, p.mask);
        if !elsewhere {
            self.note_trouble(trouble::CACHE_READ, true);
        }
        elsewhere
    }

    /// Reads a piece of `part` from the cache device to where `at` is in the bio.
    fn read_slot(&self, t: &Arc<Transfer>, bio: &Bio<Errand>, at: Cursor, part: &Part, p: &Piece) -> Verdict {
        for attempt in 0..2 {
            t.read(&self.disks, &self.disks.cache, self.slot_sector(p.slot), (0, BLOCK), 0);
            let is_read = t.finish().is_ok();
            let verdict = t.pages.with(0, BLOCK, |from| {
                match self.checks.judge(p.slot, p.generation, [crc32c(0, from)]) {
                    Verdict::Intact if is_read => copy_sectors(bio, at, part, p.mask, from),
                    Verdict::Gone => return Verdict::Gone,
                    _ => return Verdict::Wrong,
                }
                Verdict::Intact
            });
            match verdict {
                Some(Verdict::Intact) => {
                    self.faults.read_again.fetch_add(attempt, Ordering::Relaxed);
                    return Verdict::Intact;
                }
                Some(Verdict::Gone) => return Verdict::Gone,
                Some(Verdict::Wrong) | None => (),
            }
        }
        self.cache_read_failed(p.slot);
        Verdict::Wrong
    }
}

/// Copies the sectors `mask` of the block `from` to the bio, whose part `part` begins at `at`.
fn copy_sectors(bio: &Bio<Errand>, mut at: Cursor, part: &Part, mask: u8, from: &[u8]) {
    let Some(from) = from.get(bytes(part.first)..) else { return };
    if mask == part.mask() {
        bio.write(&mut at, &from[..from.len().min(bytes(part.sectors))]);
        return;
    }
    for (i, sector) in (part.first..).zip(from.chunks_exact(SECTOR)).take(part.sectors as usize) {
        if mask.wrapping_shr(i) & 1 != 0 {
            bio.write(&mut at, sector);
        } else {
            bio.skip(&mut at, SECTOR);
        }
    }
}

fn bytes(sectors: u32) -> usize {
    (sectors as usize).saturating_mul(SECTOR)
}
