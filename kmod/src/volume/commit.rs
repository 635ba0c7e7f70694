// SPDX-License-Identifier: GPL-2.0-only

//! Writing records and flushes, and ending the bios that wait for them.
//!
//! The commit thread does it. A task that flushes does not wait for the thread: if no sender is active, the
//! task sends the next bio itself. The bios that wait for a commit end as soon as it returns, in whatever
//! context that happens. So the thread is not in the way of an `fsync` on an idle volume; it only tells the
//! engine afterwards.
//!
//! An I/O that fails is tried again a few times before the log has failed. The engine is told of the final
//! result only. Until then the record counts as being written, its buffer stays as it is, and nothing is
//! reported as durable.
//!
//! # Invariants
//! - A record is repeated with the same bytes at the same place, so it does not matter what the first attempt
//!   has left there.
//! - No flush is believed that comes after a write or flush that failed: the device may have been reset, and
//!   may have dropped what it had in its cache. Before the flush is sent, every record that is not known
//!   durable is read back, compared with its checksums and written again, and no other record is under way
//!   meanwhile. If a record is not there any more, the log has failed. All that is before a record with FUA
//!   or a checkpoint is durable already, so these two are only repeated, when something failed while they
//!   were under way.
//! - `riders` wait for the commit that is under way, if there is one, and were put there before that commit
//!   was sent: for a record with FUA or a flush, of which there is one at a time. So the end of that commit
//!   may end them when it has succeeded. If there are many, it ends some of them and leaves the others in
//!   `arrived`, before the commit has landed. The commit of a bio in `arrived` is over and has succeeded.
//! - Only the commit thread sends more than one bio of ours before those that it has sent are really
//!   submitted. Any other sender could exhaust a pool and wait for itself.

use super::faults::{trouble, Kind};
use super::{bytes, Core, Errand, Transfer, Volume};
use crate::engine::flight::{Flights, Landing};
use crate::engine::log::Io;
use crate::format::{Checkpoint, RecordHeader, Seq, Slot, BLOCK, WINDOW};
use crate::host::{now_ms, should_stop, sleep_ms, Arc, Bio, BioList, EndIo, How, Result, Sleep, Table, EIO};
use crate::policy::retry::{Next, Retry};
use crate::policy::room::{Room, Wake};
use core::ops::Range;

/// So many riders are ended where their commit ends, which may be an interrupt, at about a microsecond each.
/// The commit thread ends the rest.
const MOST_AT_ONCE: usize = 64;

/// Blocks of memory for writing a record again: its header, and a piece of the data behind it.
pub(super) const AGAIN_BLOCKS: u32 = 64;

/// Slots of the next segment that are made ready with one hold of the lock.
const PREPARED_AT_ONCE: u32 = 16;

impl EndIo for Volume {
    fn end_io(&self, tag: usize, result: Result) {
        let ok = self.flights.is_believed(tag, result.is_ok());
        let mut are_left = false;
        if ok && Flights::is_commit(tag) {
            // Before the commit has landed: after that there may be another commit, with riders of its own.
            let mut riders = self.riders.take();
            (0..MOST_AT_ONCE).map_while(|_| riders.pop()).for_each(|bio| bio.end(Ok(())));
            are_left = !riders.is_empty();
            self.arrived.push_all(riders);
        }
        self.flights.land(tag, ok);
        if !self.flights.is_watched() || are_left {
            self.wake(Wake::COMMIT);
        }
    }
}

/// Takes a bio that waits until the log is durable up to `upto` at most, if there is one in front.
fn pop_waiting(core: &mut Core, upto: Seq) -> Option<Bio<Errand>> {
    core.waiting.front().filter(|errand| matches!(errand, Errand::Flush(seq) if *seq <= upto))?;
    core.waiting.pop()
}

/// An I/O that was submitted or will be, until the engine has been told of its end.
#[derive(Clone, Copy, Default)]
struct Attempt {
    io: Option<Io>,
    retry: Retry,
    /// When to submit it again, in milliseconds since boot.
    due: Option<u64>,
}

/// The attempts of all records, by number, and of the flush.
pub(super) struct Attempts {
    records: Table<Attempt>,
    flush: Attempt,
    /// Some attempts may have failed or be due. Saves a look at all of them each time.
    any: bool,
}

impl Attempts {
    pub(super) fn new() -> Result<Self> {
        let records = Table::new(WINDOW as usize, |_| Attempt::default())?;
        Ok(Self { records, flush: Attempt::default(), any: false })
    }

    fn of(&mut self, io: &Io) -> &mut Attempt {
        match *io {
            Io::Record { seq, .. } => &mut self.records[seq.in_window()],
            Io::Flush { .. } => &mut self.flush,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Attempt> {
        Iterator::chain(self.records.iter(), core::iter::once(&self.flush))
    }

    /// When the first attempt is to be submitted again, if one is.
    fn due(&self) -> Option<u64> {
        if self.any {
            self.all().filter_map(|a| a.due).min()
        } else {
            None
        }
    }

    /// Whether any attempt has failed and is not settled.
    fn any_failed(&mut self) -> bool {
        self.any = self.any && self.all().any(|a| a.retry.has_failed() || a.due.is_some());
        self.any
    }
}

impl Volume {
    /// Takes the flushes and FUA writes whose data are durable, or all of them with an error when the log has
    /// failed.
    fn take_done(&self, core: &mut Core) -> (BioList<Errand>, Result) {
        if core.engine.failed() {
            return (core.waiting.take(), Err(EIO));
        }
        let mut done = BioList::new();
        if self.flags.depth.is_blind() {
            return (done, Ok(()));
        }
        let durable = core.engine.durable();
        while let Some(bio) = pop_waiting(core, durable) {
            done.push(bio);
        }
        (done, Ok(()))
    }

    pub(super) fn run_commit(this: &Arc<Self>) {
        loop {
            let seen = this.commit.count();
            let (landed, sent, due) = {
                let mut attempts = this.attempts.lock();
                let landed = Self::land(this, &mut attempts) | Self::repeat(this, &mut attempts);
                let mut sent = false;
                while Self::send(this, &mut attempts) {
                    sent = true;
                }
                (landed, sent, attempts.due().filter(|_| !this.flags.depth.is_asleep()))
            };
            this.end_arrived();
            // Called each turn: a checkpoint that could not be written makes the log fail, too, and does not
            // land here.
            let (lets_in_at, next) = this.retry_deferred();
            if landed || sent {
                this.wake(Wake::PROGRESS);
            }
            if this.prepare(next) | landed | sent {
                continue;
            }
            let repeats = due.is_some();
            let due = Iterator::chain(due.into_iter(), lets_in_at);
            let pause = due.min().map(|due| due.saturating_sub(now_ms()).clamp(1, 10_000) as u32);
            if should_stop() {
                // A write that only waits to be let in does not count: no thread makes room any more.
                if !repeats && !this.flights.is_flying() {
                    return;
                }
                let _ = this.commit.wait(seen, pause.unwrap_or(100).min(100), Sleep::Busy);
            } else {
                let _ = this.commit.wait(seen, pause.unwrap_or(10_000), Sleep::Idle);
            }
        }
    }

    /// Collects all bios that have returned. Returns whether the engine was told of any.
    fn land(this: &Arc<Self>, attempts: &mut Attempts) -> bool {
        let mut any = false;
        this.flights.collect(|landing| {
            let (attempt, ok) = match landing {
                Landing::Record { seq, ok, .. } => (&mut attempts.records[seq.in_window()], ok),
                Landing::Flush { ok, .. } => (&mut attempts.flush, ok),
            };
            let settled = this.settle_or_wait(attempt, ok);
            attempts.any |= !settled;
            any |= settled;
        });
        if any && attempts.any {
            let is_there =
                attempts.any_failed() && this.flights.has_failed() || this.core.lock().engine.failed();
            this.note_trouble(trouble::CACHE_WRITE, is_there);
        }
        any
    }

    /// An attempt is over: tells the engine, or notes when to try again. Returns whether the engine was told.
    fn settle_or_wait(&self, attempt: &mut Attempt, ok: bool) -> bool {
        if ok {
            match attempt.io {
                Some(Io::Flush { .. }) => self.flights.committed(true),
                Some(Io::Record { fua: true, .. }) => self.flights.committed(false),
                _ => (),
            }
            self.settle(attempt, true);
            return true;
        }
        // If no write or flush has failed, only a read casts doubt on the attempt.
        let has_failed = self.flights.has_failed();
        if has_failed {
            self.count_fault(Kind::CacheWrite);
        }
        let is_over = self.core.lock().engine.failed();
        match attempt.retry.failed() {
            Next::Again(pause) if !is_over => {
                attempt.due = Some(now_ms().saturating_add(pause));
                if has_failed {
                    self.note_trouble(trouble::CACHE_WRITE, true);
                }
                return false;
            }
            Next::Over if !is_over && !has_failed => {
                self.flights.waive();
                *attempt = Attempt { io: attempt.io, retry: Retry::default(), due: Some(0) };
                return false;
            }
            Next::Again(_) | Next::Over => (),
        }
        self.settle(attempt, false);
        true
    }

    fn settle(&self, attempt: &mut Attempt, ok: bool) {
        let engine = &mut self.core.lock().engine;
        match core::mem::take(attempt).io {
            Some(Io::Record { seq, fua, .. }) => engine.record_done(seq, fua, ok),
            Some(Io::Flush { upto }) => engine.flush_done(upto, ok),
            None => (),
        }
    }

    /// Submits the attempts that are due once more. Returns whether the engine was told that one has failed
    /// for good.
    fn repeat(this: &Arc<Self>, attempts: &mut Attempts) -> bool {
        let Some(due) = attempts.due() else { return false };
        let now = now_ms();
        let failed = this.core.lock().engine.failed();
        if (due > now || this.flags.depth.is_asleep()) && !failed {
            return false;
        }
        let mut any = false;
        for attempt in attempts.records.iter_mut() {
            match (attempt.due, attempt.io) {
                (Some(_), _) if failed => {
                    this.settle(attempt, false);
                    any = true;
                }
                (Some(due), Some(io)) if due <= now => {
                    attempt.due = None;
                    Self::submit(this, &io);
                }
                _ => (),
            }
        }
        let attempt = &mut attempts.flush;
        match (attempt.due, attempt.io) {
            (Some(_), _) if failed => {
                this.settle(attempt, false);
                any = true;
            }
            // While a flush is to be repeated nothing else is sent: see `send`. So no record is added to
            // those that are written again.
            (Some(due), Some(io)) if due <= now && attempts.records.iter().all(|a| a.io.is_none()) => {
                attempt.due = None;
                match this.verify() {
                    Ok(true) => Self::submit(this, &io),
                    Ok(false) => {
                        this.settle(attempt, false);
                        any = true;
                    }
                    Err(_) => any |= this.settle_or_wait(attempt, false),
                }
            }
            _ => (),
        }
        any
    }

    /// Does what makes a flush believable: all that may have been lost is written again. Returns whether the
    /// flush can be sent.
    fn verify(&self) -> Result<bool> {
        if self.flights.waives() {
            if self.faults.may_log(Kind::CacheRead) {
                log_err!(
                    "{}: the cache device cannot be read, and so is flushed without a look at it",
                    &*self.disks
                );
            }
            return Ok(true);
        }
        let is_there = self.write_again()?;
        if is_there {
            self.flights.verified();
        }
        Ok(is_there)
    }

    /// Writes all records again that are on the cache device and not known durable, from what can be read
    /// there. Returns whether they were all there.
    ///
    /// # Errors
    /// `EIO` when the device still fails.
    fn write_again(&self) -> Result<bool> {
        let t = &self.again;
        let (sb, epoch, first) = {
            let core = self.core.lock();
            let e = &core.engine;
            (e.superblock().clone(), e.epoch(), e.durable().next())
        };
        // A failure from now on makes the next flush suspect again.
        self.flights.trust();
        let mut seq = first;
        loop {
            let place = self.core.lock().engine.volatile_record(seq);
            let Some((slot, blocks)) = place else {
                log_info!(
                    "{}: after an error, {} records were written again before they are flushed",
                    &*self.disks,
                    seq.since(first)
                );
                return Ok(true);
            };
            let (sector, len) = (self.slot_sector(slot), bytes(1));
            t.read(&self.disks, &self.disks.cache, sector, (0, len), 0);
            t.finish()?;
            let is_there = t.pages.with(0, len, |header| {
                let offset = slot.offset(sb.segment_blocks);
                let header = header.first_chunk().and_then(|b| RecordHeader::decode(b, &sb, offset).ok());
                header.is_some_and(|h| {
                    (h.seq, h.epoch, u32::from(h.blocks).saturating_add(1)) == (seq, epoch, blocks)
                })
            });
            if is_there != Some(true) || !self.write_data_again(slot, blocks)? {
                log_err!("{}: after an error, record {} is lost", &*self.disks, seq);
                return Ok(false);
            }
            t.write(&self.disks, &self.disks.cache, sector, (0, len), false, 0);
            t.finish()?;
            seq = seq.next();
        }
    }

    /// Writes again what is behind the header of the record of `blocks` blocks at `slot`; the header is at
    /// the beginning of `again`. Each piece is written as soon as it has matched its checksums: to write what
    /// is there does no harm, whatever comes behind it. Returns whether all of it has matched.
    ///
    /// # Errors
    /// `EIO` when the device still fails.
    fn write_data_again(&self, slot: Slot, blocks: u32) -> Result<bool> {
        let t = &self.again;
        let mut at = 1;
        while at < blocks {
            let n = blocks.saturating_sub(at).min(AGAIN_BLOCKS.saturating_sub(1));
            let (sector, part) = (self.slot_sector(slot.plus(at)), (bytes(1), bytes(n)));
            t.read(&self.disks, &self.disks.cache, sector, part, 0);
            t.finish()?;
            let first = at.saturating_sub(1) as usize;
            let is_there = t.pages.with(0, bytes(n.saturating_add(1)), |b| {
                let Some((header, data)) = b.split_first_chunk::<BLOCK>() else { return false };
                data.chunks_exact(BLOCK).zip(first..).all(|(block, i)| {
                    let entry = RecordHeader::entry(header, i);
                    entry.mask == 0 || entry.is_stored_as(block)
                })
            });
            if is_there != Some(true) {
                return Ok(false);
            }
            t.write(&self.disks, &self.disks.cache, sector, part, false, 0);
            t.finish()?;
            at = at.saturating_add(n);
        }
        Ok(true)
    }

    /// Sends the next thing that the engine wants to be written. Returns whether there was one.
    fn send(this: &Arc<Self>, attempts: &mut Attempts) -> bool {
        // Anything sent while a flush waits to be repeated would have to be written again, too.
        if attempts.flush.due.is_some() || this.flags.depth.is_asleep() {
            return false;
        }
        let io = {
            let mut core = this.core.lock();
            let Some(io) = core.engine.poll() else { return false };
            if let Io::Record { seq, buffer, offset, .. } = io {
                this.buffers[usize::from(buffer)].with_mut(bytes(offset), BLOCK, |block| {
                    if let Some(block) = block.first_chunk_mut::<BLOCK>() {
                        core.engine.encode_header(seq, block);
                    }
                });
            }
            if let Io::Record { seq: upto, fua: true, .. } | Io::Flush { upto } = io {
                while let Some(bio) = pop_waiting(&mut core, upto) {
                    this.riders.push(bio);
                }
            }
            io
        };
        let suspect = matches!(io, Io::Flush { .. }) && this.flights.is_suspect();
        attempts.any |= suspect;
        *attempts.of(&io) = Attempt { io: Some(io), retry: Retry::default(), due: suspect.then_some(0) };
        if !suspect {
            Self::submit(this, &io);
        }
        true
    }

    /// Sends the next bio of a commit that the calling task waits for, unless a sender is active. The thread
    /// sends what that leaves. May sleep.
    pub(super) fn commit_now(this: &Arc<Self>) {
        let Some(mut attempts) = this.attempts.try_lock() else {
            // The current sender may have polled before our request; let the thread poll again.
            this.wake(Wake::COMMIT);
            return;
        };
        // If the device is done at once, this task collects that, and the thread need not be woken.
        this.flights.watch();
        let mut landed = Self::land(this, &mut attempts);
        let sent = Self::send(this, &mut attempts);
        if this.flights.unwatch() {
            landed |= Self::land(this, &mut attempts);
        }
        let due = attempts.due();
        drop(attempts);
        let (done, more) = {
            let mut core = this.core.lock();
            (this.take_done(&mut core), core.engine.has_work() || !core.deferred.is_empty())
        };
        this.end_done(done);
        if landed || sent {
            this.wake(Wake::PROGRESS);
        }
        if more || due.is_some() {
            this.wake(Wake::COMMIT);
        }
    }

    fn submit(this: &Arc<Self>, io: &Io) {
        let tag = this.flights.take_off(io);
        let disks = &this.disks;
        match *io {
            Io::Record { slot, blocks, buffer, offset, fua, .. } => {
                let part = (&this.buffers[usize::from(buffer)], bytes(offset), bytes(blocks));
                disks.bios.write(
                    &disks.cache,
                    this.slot_sector(slot),
                    part,
                    How { fua, background: false },
                    (this, tag),
                );
            }
            Io::Flush { .. } => disks.bios.flush(&disks.cache, false, (this, tag)),
        }
    }

    /// Ends what [`Volume::take_done`] has taken.
    fn end_done(&self, (mut done, result): (BioList<Errand>, Result)) {
        if result.is_err() {
            self.note_trouble(trouble::CACHE_WRITE, true);
            let mut riders = self.riders.take();
            while let Some(bio) = riders.pop() {
                bio.end(result);
            }
        }
        while let Some(bio) = done.pop() {
            bio.end(result);
        }
    }

    /// Ends the riders that were too many for the end of their commit.
    pub(super) fn end_arrived(&self) {
        let mut arrived = self.arrived.take();
        while let Some(bio) = arrived.pop() {
            bio.end(Ok(()));
        }
    }

    /// Writes the checkpoint that the engine has handed out last, with FUA, and tries again a few times, each
    /// time where the engine says: in another slot than the time before, and never in that of the older
    /// checkpoint, which stays what it is.
    ///
    /// # Errors
    /// `EIO`.
    pub(super) fn insist_on_checkpoint(&self, t: &Arc<Transfer>, checkpoint: &Checkpoint) -> Result {
        let mut retry = Retry::default();
        loop {
            let doubts = self.flights.doubts();
            let before = doubts.count();
            let block = self.core.lock().engine.checkpoint_block();
            let result = match self.disks.write_sector(t, block, |b| checkpoint.encode_into(b)) {
                // As with a record with FUA: not believed if anything failed meanwhile.
                Ok(()) if doubts.count() != before => Err(EIO),
                result => result,
            };
            if result.is_ok() {
                if retry.has_failed() {
                    self.note_trouble(trouble::CACHE_WRITE, false);
                }
                return result;
            }
            self.note_trouble(trouble::CACHE_WRITE, true);
            self.count_fault(Kind::CacheWrite);
            self.core.lock().engine.checkpoint_missed();
            match retry.failed() {
                Next::Again(pause) => sleep_ms(pause as u32),
                Next::Over => return result,
            }
        }
    }

    /// Blanks the checkpoints that are older than the last two. The caller has written one, and still holds
    /// `reclaim_busy`. Each is tried once, for the blanking is not needed soon.
    pub(super) fn blank_stale(&self, t: &Arc<Transfer>) {
        let next = || self.core.lock().engine.stale_checkpoint();
        while let Some(block) = next() {
            let doubts = self.flights.doubts();
            let before = doubts.count();
            // As with a checkpoint: not believed if anything failed meanwhile.
            let ok = self.disks.write_sector(t, block, |_| ()).is_ok() && doubts.count() == before;
            if !ok {
                self.count_fault(Kind::CacheWrite);
            }
            self.core.lock().engine.checkpoint_blanked(block, ok);
        }
    }

    /// Makes the slots `next`, of the segment that comes next, ready, so that the write that opens the
    /// segment is not delayed by that, nor all others with it. Returns whether there were any.
    fn prepare(&self, next: Range<Slot>) -> bool {
        let any = !next.is_empty();
        if any {
            Slot::each(next).for_each(|slot| self.chains.warm_slot(slot));
            // These are the same slots, or those behind them, or none if the segment is open by now.
            self.core.lock().engine.prepare(PREPARED_AT_ONCE);
        }
        any
    }

    /// When to let the next write in that the pace delays, in milliseconds since boot.
    fn lets_in_at(&self, core: &Core) -> Option<u64> {
        if core.deferred.is_empty() {
            return None;
        }
        let moment = self.moment(&core.engine);
        core.pace.due_ms(&moment).map(|ms| moment.now_ms.saturating_add(ms))
    }

    /// Ends the bios whose data are durable, and goes on with the writes that found no room or that the pace
    /// delays. Returns when the next of these writes is to be let in, in milliseconds since boot, if the pace
    /// says so; and the slots that [`Volume::prepare`] can make ready.
    fn retry_deferred(self: &Arc<Self>) -> (Option<u64>, Range<Slot>) {
        let mut was_high = false;
        let mut bounced = self.bounced.take();
        while let Some(bio) = bounced.pop() {
            self.core.lock().deferred.push(bio);
        }
        loop {
            // All that this turn of the thread has to know, with one hold of the lock, for which all others
            // wait.
            let (done, bio, is_low, next, wake) = {
                let mut core = self.core.lock();
                let done = self.take_done(&mut core);
                let is_low = core.is_low();
                let mut wake = Wake::NOBODY;
                if !is_low {
                    wake = self.tell(&mut core, Room::room_is_there);
                    core.pace.end();
                }
                (done, core.deferred.pop(), is_low, core.engine.to_prepare(PREPARED_AT_ONCE), wake)
            };
            self.end_done(done);
            // The reclaim thread finds out whether only writeback makes room, before all room is taken.
            self.wake(wake | Wake::RECLAIM.when(is_low && (was_high || bio.is_none())));
            was_high = !is_low;
            let Some(bio) = bio else { return (None, next) };
            if self.go_on_writing(bio, true) {
                continue;
            }
            let bio = {
                let mut core = self.core.lock();
                if !core.room.gives_up(core.engine.is_full(), now_ms()) {
                    return (self.lets_in_at(&core), next);
                }
                // `go_on_writing` has put the bio in front again.
                core.deferred.pop()
            };
            if let Some(bio) = bio {
                bio.end(Err(EIO));
            }
        }
    }
}
