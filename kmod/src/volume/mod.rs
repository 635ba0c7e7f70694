// SPDX-License-Identifier: GPL-2.0-only

//! A volume: the engine behind its lock, the buffers and devices it decides about, and the threads that do
//! what it decides.
//!
//! - `write`, `read`: what map does with a bio, and what is left of it to threads and workers.
//! - `commit`: the commit thread, which writes records and flushes, and ends the bios that wait for them.
//! - `writeback`, `reclaim`: the threads that make room.
//! - `resume`: from what is on the devices to a volume.
//! - `disks`: I/O of our own.
//! - `errand`: what a bio is under way for.
//! - `room`: whether there is room, and which event wakes which thread: the machine of `policy/room.rs`.
//! - `steering`: what sets how much is written back: the options, or the built-in policy.
//! - `sleep`: the machine hibernates.
//! - `faults`: what has gone wrong, and the health thread, which reports it.
//! - `silence`: whether the devices answer at all.
//! - `report`: the state of the segments, for display.
//!
//! Locks: `core` is a spinlock that is held for one call of the engine at a time and never while I/O is
//! submitted or data are copied. `writeback_busy` and `reclaim_busy` are held by their threads while these
//! work, so that a suspend can wait for them. Threads are woken in one place, `Volume::wake`, mostly for what
//! the machine in `core.room` says.

mod commit;
mod disks;
mod errand;
mod faults;
mod read;
mod reclaim;
mod report;
mod resume;
mod room;
mod silence;
mod sleep;
mod steering;
mod superblock;
mod write;
mod writeback;

pub use disks::{Disks, OwnTransfer, Pool, Transfer, Transfers};
pub use errand::Errand;
pub use faults::Kind;
pub use read::Reader;
pub use resume::open;
pub use steering::Unsteered;
use writeback::Pantry;

use crate::engine::audit::Broken;
use crate::engine::bypass::Bypass;
use crate::engine::checks::Checks;
use crate::engine::flight::Flights;
use crate::engine::map::Span;
use crate::engine::{Chains, Engine, State};
use crate::format::{Checkpoint, Segment, Seq, Slot, Superblock, BLOCK, BLOCK_SECTORS};
use crate::host::{
    arc, boxed, mutex, now_ms, spinlock, wait_for_io_ends, Arc, Asleep, BioList, BioQueue, BioStack, Box,
    Counters, Event, Events, List, Mutex, Pages, QueueKind, Result, Service, Shared, Sleep, SpinLock, Table,
    Thread, Work, EBUSY, EIO, LOOKS_FOR_BUGS,
};
use crate::interface::status::{count, Counters as Counted};
use crate::interface::table::Options;
use crate::policy::pace::{low_water, Moment, Pace};
use crate::policy::room::{Drain, Left, Room, Ticket, Wake};
use commit::{Attempts, AGAIN_BLOCKS};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use faults::Faults;
use read::{nr_readers, Readers, CHECKERS};
use room::Machine;
use silence::Silences;
use sleep::Depth;
use steering::Steering;

/// RAM buffers of a volume, each the size of a segment: at most 1/2048 of the cache, which is 2 bytes for
/// each block of 4 KiB. A small cache gets as many as keep a device busy. More buffers would absorb a longer
/// burst, but only as fast as it can be copied.
fn nr_buffers(sb: &Superblock) -> u8 {
    (sb.nr_segments / 2048).clamp(4, 16) as u8
}

/// Bytes of a number of blocks.
fn bytes(blocks: u32) -> usize {
    (blocks as usize).saturating_mul(BLOCK)
}

/// What the lock protects.
struct Core {
    engine: Engine,
    /// Delays writes while only writeback makes room.
    pace: Pace,
    /// Which thread makes room, when a write gives up, and which event wakes which thread. See `room`.
    room: Machine,
    /// Flushes and FUA writes whose data are in the log, until it is durable up to them.
    waiting: BioList<Errand>,
    /// Writes that found no room.
    deferred: BioList<Errand>,
    /// Reads of a volume that is blind: see `sleep`.
    held: BioList<Errand>,
}

impl Core {
    /// Returns the result of `f`, and whether `f` gave the commit thread something to do. Work that was there
    /// before is no reason to wake the commit thread: it may have to wait until that work can be done, and a
    /// thread that it wakes then must not wake it again.
    fn adds_work<R>(&mut self, f: impl FnOnce(&mut Engine) -> R) -> (R, bool) {
        let before = self.engine.has_work();
        let result = f(&mut self.engine);
        (result, !before && self.engine.has_work())
    }

    // Not inlined: the value is moved from the stack to its place.
    #[inline(never)]
    fn locked(engine: Engine) -> Result<SpinLock<Self>> {
        let (pace, waiting) = (Pace::default(), BioList::new());
        spinlock!(
            Self {
                engine,
                pace,
                room: Machine::default(),
                waiting,
                deferred: BioList::new(),
                held: BioList::new()
            },
            "writeboost"
        )
    }
}

impl Core {
    /// Whether segments run short.
    fn is_low(&self) -> bool {
        let state = self.engine.state();
        state.free_segments < low_water(state.nr_segments)
    }
}

/// What bios look at on their way, and what changes rarely. These fields have cache lines of their own, so
/// that no processor fetches them again because another processor has counted something or has taken a lock.
#[repr(align(128))]
struct Flags {
    /// What can be seen of the machine without the lock: see `room`.
    room: AtomicU32,
    /// No thread works for the volume any more.
    over: AtomicBool,
    /// Whether the machine hibernates.
    depth: Depth,
    /// The backing device does much at a time: see [`crate::engine::bypass`].
    wide: AtomicBool,
}

/// One volume.
pub struct Volume {
    disks: Arc<Disks>,
    steering: Steering,
    checks: Shared<Checks>,
    bypass: Shared<Bypass>,
    /// Writes that went around the cache and came back with an error: the log has to take them.
    bounced: BioStack<Errand>,
    /// No write goes around the cache before this time, in milliseconds since boot.
    bypass_from_ms: AtomicU64,
    chains: Shared<Chains>,
    /// First sector on the cache device of slot 0.
    first_sector: u64,
    segment_blocks: u32,
    buffers: Table<Pages>,
    /// What the commit thread has submitted.
    flights: Flights,
    /// The commit thread's memory for the records that it writes again.
    again: OwnTransfer,
    /// State of each submitted record and flush. The task that holds this lock is the only sender.
    attempts: Mutex<Attempts>,
    /// Flushes and FUA writes that wait for the commit that is under way.
    riders: BioStack<Errand>,
    /// Riders whose commit is over, and which are to be ended.
    arrived: BioStack<Errand>,
    core: SpinLock<Core>,
    /// The commit thread has something to do.
    commit: Event,
    /// Reads that came from the cache device and are too large to be checked in an interrupt.
    checking: Arc<BioQueue<Reader>>,
    /// Reads that are put together from what is in RAM and on the cache device.
    near: Readers,
    /// Reads that need the backing device for that.
    far: Readers,
    writeback: Event,
    reclaim: Event,
    /// Notified when durability, room or cleanliness has advanced, for tasks that wait for one of these.
    progress: Event,
    pantry: Pantry,
    writeback_busy: Mutex<()>,
    reclaim_busy: Mutex<()>,
    /// Number of tasks that wait for `reclaim_busy`: the mutex itself does not show them.
    reclaim_wanted: AtomicU32,
    /// For the checkpoint of a suspend; under `reclaim_busy`.
    spare: OwnTransfer,
    flags: Flags,
    /// Blocks written back so far, as soon as their own writes are done.
    written_back: Shared<AtomicU64>,
    /// The segments that are being written back: the first in the upper half, and how many.
    writing: AtomicU64,
    /// Blocks read and written, by the bits of [`count`]. Behind them [`FLUSHES`], [`MAPPED`] and [`AROUND`].
    counts: Counters,
    /// The values of `counts` when these were cleared last: they do not count any more.
    cleared: [AtomicU64; COUNTS],
    /// Whether the devices answer.
    silences: Silences,
    /// What has gone wrong.
    pub faults: Faults,
    /// There is something new to report in `faults`.
    alarm: Event,
}

/// A volume, and the threads and workers that serve it until [`Running::stop`].
pub struct Running {
    /// The volume.
    pub volume: Arc<Volume>,
    crew: Mutex<Crew>,
    _asleep: Asleep,
}

/// The threads and workers of a volume.
#[derive(Default)]
struct Crew {
    threads: List<Thread>,
    readers: List<Service<Reader>>,
}

// What each thread works with is allocated before the volume is live: a thread that waits for memory later
// may wait for memory that only its own work frees.
struct Committer(Arc<Volume>);
struct Writeback(Arc<Volume>, writeback::Tools);
struct Reclaimer(Arc<Volume>, reclaim::Tools);
struct Herald(Arc<Volume>, Events);

impl Work for Committer {
    fn run(&mut self) {
        Volume::run_commit(&self.0);
    }
}
impl Work for Writeback {
    fn run(&mut self) {
        self.0.run_writeback(&mut self.1);
    }
}
impl Work for Reclaimer {
    fn run(&mut self) {
        self.0.run_reclaim(&mut self.1);
    }
}
impl Work for Herald {
    fn run(&mut self) {
        self.0.run_health(&self.1);
    }
}

impl Volume {
    /// A volume for which no thread works yet.
    // Not inlined: much is moved from the stack to its place, and threads are started further down the same
    // stack.
    #[inline(never)]
    fn new(disks: Arc<Disks>, engine: Engine, options: Options) -> Result<Arc<Self>> {
        let nr_readers = nr_readers(engine.superblock());
        let segment_bytes = bytes(engine.superblock().segment_blocks);
        let buffers = Table::try_new(nr_buffers(engine.superblock()).into(), |_| Pages::new(segment_bytes))?;
        let flights = Flights::new(disks.cache_doubts.clone())?;
        arc(Self {
            steering: Steering::new(options)?,
            checks: engine.checks(),
            bypass: engine.bypass(),
            bounced: BioStack::new(),
            bypass_from_ms: AtomicU64::new(0),
            chains: engine.chains(),
            first_sector: engine.slot_sector(Slot(0)),
            segment_blocks: engine.superblock().segment_blocks,
            buffers,
            flights,
            again: Transfer::with_blocks(&disks, AGAIN_BLOCKS as usize)?,
            attempts: mutex!(Attempts::new()?, "writeboost_attempts")?,
            riders: BioStack::new(),
            arrived: BioStack::new(),
            core: Core::locked(engine)?,
            commit: Event::new()?,
            checking: BioQueue::new(c"wb_check", QueueKind::Check, CHECKERS)?,
            near: Readers::new(&disks, c"wb_near", QueueKind::Near, Pool::Near, nr_readers)?,
            far: Readers::new(&disks, c"wb_far", QueueKind::Far, Pool::Far, nr_readers)?,
            writeback: Event::new()?,
            reclaim: Event::new()?,
            progress: Event::new()?,
            pantry: Pantry::new()?,
            writeback_busy: mutex!((), "writeboost_writeback")?,
            reclaim_busy: mutex!((), "writeboost_reclaim")?,
            reclaim_wanted: AtomicU32::new(0),
            spare: Transfer::with_blocks(&disks, 1)?,
            flags: Flags {
                room: AtomicU32::new(Room::default().glance().word()),
                over: AtomicBool::new(false),
                depth: Depth::default(),
                wide: AtomicBool::new(false),
            },
            written_back: Shared::new(AtomicU64::new(0))?,
            writing: AtomicU64::new(0),
            counts: Counters::new(COUNTS as u32)?,
            cleared: Default::default(),
            silences: Silences::new()?,
            faults: Faults::default(),
            alarm: Event::new()?,
            disks,
        })
    }
}

/// Allocates what a thread works with.
// Not inlined: the value is moved from the stack to its place.
#[inline(never)]
fn work<W: Work>(make: impl FnOnce() -> Result<W>) -> Result<Box<W>> {
    boxed(make()?)
}

impl Running {
    /// Starts a volume on `disks` with what `engine` has replayed.
    ///
    /// # Errors
    /// `ENOMEM`, mostly.
    pub fn start(disks: Arc<Disks>, events: Events, engine: Engine, options: Options) -> Result<Self> {
        let volume = Volume::new(disks, engine, options)?;
        let crew = mutex!(Crew::default(), "writeboost_crew")?;
        // Dropping `running` stops the threads that have been started.
        let running = Self { volume: volume.clone(), crew, _asleep: Asleep::new(volume.clone())? };
        let mut crew = running.crew.lock();
        for service in Reader::begin(&volume)? {
            crew.readers.push(service)?;
        }
        let writeback = work(|| Ok(Writeback(volume.clone(), volume.writeback_tools()?)))?;
        let reclaim = work(|| Ok(Reclaimer(volume.clone(), volume.reclaim_tools()?)))?;
        let (commit, health) =
            (work(|| Ok(Committer(volume.clone())))?, work(|| Ok(Herald(volume.clone(), events)))?);
        // The commit thread is started first, and so is stopped last: the others wait for it.
        crew.threads.push(Thread::run(commit, c"wb_commit")?)?;
        crew.threads.push(Thread::run(health, c"wb_health")?)?;
        crew.threads.push(Thread::run(writeback, c"wb_writeback")?)?;
        crew.threads.push(Thread::run(reclaim, c"wb_reclaim")?)?;
        drop(crew);
        Ok(running)
    }

    /// Stops the threads and workers, ends the bios that the volume still has with an error, and waits until
    /// nothing is under way that could refer to the volume. There are such bios only when the device is
    /// removed by force.
    pub fn stop(&self) {
        let mut crew = self.crew.lock();
        while let Some(service) = crew.readers.pop() {
            drop(service);
        }
        while let Some(thread) = crew.threads.pop() {
            drop(thread);
        }
        self.volume.end_what_is_left();
        wait_for_io_ends();
        // A bio that returned before `synchronize` may have been put into `bounced` after `end_what_is_left`
        // had emptied it.
        self.volume.end_bounced();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Index of the counter of flushes and FUA writes taken; it is behind the counters of blocks.
const FLUSHES: u32 = count::NUMBER as u32;
/// Index of the counter of mapped bios other than flushes.
const MAPPED: u32 = FLUSHES + 1;
/// Index of the counter of blocks that were written around the cache.
const AROUND: u32 = MAPPED + 1;
const COUNTS: usize = AROUND as usize + 1;

impl Volume {
    /// Counts each block that the sectors lie in, with the bits `what` of [`count`]. `sectors` is not 0.
    fn count_blocks(&self, what: u32, sector: u64, sectors: u64) {
        let end = sector.saturating_add(sectors);
        let touched = end.div_ceil(BLOCK_SECTORS).saturating_sub(sector / BLOCK_SECTORS);
        let whole = (end / BLOCK_SECTORS).saturating_sub(sector.div_ceil(BLOCK_SECTORS));
        if whole != 0 {
            self.counts.add(what | count::FULL, whole);
        }
        if touched != whole {
            self.counts.add(what, touched.saturating_sub(whole));
        }
    }

    /// Bios other than flushes that were mapped so far. Writeback sees by this that the volume is idle.
    fn mapped(&self) -> u64 {
        self.counts.sum(MAPPED)
    }

    /// Value of counter `i` since the counters were cleared.
    fn counted(&self, i: u32) -> u64 {
        let cleared = self.cleared.get(i as usize).map_or(0, |c| c.load(Ordering::Relaxed));
        self.counts.sum(i).saturating_sub(cleared)
    }

    /// The counters of blocks.
    pub fn counters(&self) -> Counted {
        let mut counted = Counted::default();
        for (i, n) in (0..).zip(&mut counted.0) {
            *n = self.counted(i);
        }
        counted
    }

    /// Sets the counters to zero.
    pub fn clear_counters(&self) {
        for (i, cleared) in (0..).zip(&self.cleared) {
            cleared.store(self.counts.sum(i), Ordering::Relaxed);
        }
    }

    /// Flushes and FUA writes taken.
    pub fn flushes(&self) -> u64 {
        self.counted(FLUSHES)
    }

    /// Blocks written around the cache.
    pub fn blocks_written_around(&self) -> u64 {
        self.counted(AROUND)
    }

    /// Blocks written back since the volume was created.
    pub fn blocks_written_back(&self) -> u64 {
        self.written_back.load(Ordering::Relaxed)
    }

    /// Whether segments run short and only writeback makes room.
    pub fn is_full(&self) -> bool {
        self.glance().is_full()
    }

    /// How many segments are being written back.
    pub fn nr_writing(&self) -> u32 {
        self.writing().count
    }

    /// The segments that are being written back.
    fn writing(&self) -> Span {
        let writing = self.writing.load(Ordering::Relaxed);
        Span { first: Segment((writing >> 32) as u32), count: writing as u32 }
    }

    fn set_writing(&self, span: Span) {
        self.writing.store(u64::from(span.first.0) << 32 | u64::from(span.count), Ordering::Relaxed);
    }

    /// How the cache is doing.
    pub fn state(&self) -> State {
        self.core.lock().engine.state()
    }

    /// UUID of the volume.
    pub fn uuid(&self) -> [u8; 16] {
        self.core.lock().engine.superblock().uuid
    }

    /// Sectors of the cache device that are in use.
    pub fn cache_sectors(&self) -> u64 {
        self.core.lock().engine.superblock().cache_sectors()
    }

    /// First sector on the cache device of the block in `slot`; without the lock.
    fn slot_sector(&self, slot: Slot) -> u64 {
        u64::from(slot.0).saturating_mul(BLOCK_SECTORS).saturating_add(self.first_sector)
    }

    /// The devices.
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The options.
    pub fn options(&self) -> &Options {
        self.steering.options()
    }

    /// What the pace of writes depends on.
    fn moment(&self, engine: &Engine) -> Moment {
        let state = engine.state();
        Moment {
            now_ms: now_ms(),
            written: self.written_back.load(Ordering::Relaxed),
            free: state.free_segments,
            nr_segments: state.nr_segments,
        }
    }

    /// Makes everything durable that was written so far.
    ///
    /// # Errors
    /// `EIO` when the log has failed, `ERESTARTNOHAND` after a signal when `sleep` is interruptible.
    pub fn sync(&self, sleep: Sleep) -> Result {
        let seq = self.core.lock().engine.flush();
        self.wake(Wake::COMMIT);
        self.wait_durable(seq, sleep)
    }

    fn wait_durable(&self, seq: Seq, sleep: Sleep) -> Result {
        loop {
            let seen = self.progress.count();
            {
                let core = self.core.lock();
                if core.engine.durable() >= seq {
                    return Ok(());
                }
                if core.engine.failed() {
                    return Err(EIO);
                }
            }
            self.progress.wait(seen, 1000, sleep)?;
        }
    }

    /// Writes back everything that has been written so far, and waits until that has left the log: all of the
    /// log, if nothing is written meanwhile.
    ///
    /// # Errors
    /// `ERESTARTNOHAND` after a signal, `EBUSY` when the volume is suspended, `EIO` when it cannot be done:
    /// then dirty blocks stay dirty.
    pub fn drain(&self) -> Result {
        // Checked before the wait for `reclaim_busy`.
        if self.glance().is_leaving() {
            return Err(EBUSY);
        }
        let begun = {
            // With the mutex held no relocation is under way. Later relocations know of the drain, and of no
            // earlier failure.
            self.reclaim_wanted.fetch_add(1, Ordering::Relaxed);
            let _busy = self.reclaim_busy.lock();
            self.reclaim_wanted.fetch_sub(1, Ordering::Relaxed);
            let mut core = self.core.lock();
            // The goal excludes later writes, or the drain would never end while writes arrive. Relocation
            // rests during a drain, so what was written before lies in these records until it is written
            // back.
            let goal = core.engine.flush();
            self.tell(&mut core, |room| room.drain_begins(goal))
        };
        let Ok((ticket, wake)) = begun else { return Err(EBUSY) };
        self.wake(wake);
        let result = self.wait_drained(&ticket);
        self.happens(|room| room.drain_ends(ticket));
        result
    }

    fn wait_drained(&self, ticket: &Ticket) -> Result {
        loop {
            let seen = self.progress.count();
            let verdict = {
                let core = self.core.lock();
                let state = core.engine.state();
                let left = Left {
                    has_left: core.engine.has_left_log(ticket.goal()),
                    dirty: state.dirty,
                    failed: state.failed,
                    gone: self.flags.depth.is_gone(),
                };
                core.room.drain(ticket, &left)
            };
            match verdict {
                Drain::Done => return Ok(()),
                Drain::Failed => return Err(EIO),
                Drain::Busy => return Err(EBUSY),
                Drain::Waits(wake) => self.wake(wake),
            }
            self.progress.wait(seen, 200, Sleep::Interruptible)?;
        }
    }

    /// A suspend is going to come, or not after all.
    pub fn set_leaving(&self, leaving: bool) {
        self.happens(if leaving { Room::leaves } else { Room::stays });
    }

    /// All bios have ended: makes everything durable and lets the threads rest.
    pub fn suspend(&self) {
        if self.sync(Sleep::Busy).is_err() {
            log_err!("{}: what was written last is not on the cache device, which has failed", &*self.disks);
        }
        self.happens(Room::suspends);
        // A thread that works holds one of these mutexes, and checks for a suspend before its next step.
        drop(self.writeback_busy.lock());
        let _busy = self.reclaim_busy.lock();
        if self.flags.depth.is_resting() {
            // The machine hibernates: no checkpoint is written.
            return;
        }
        self.core.lock().engine.forgive_slots();
        // A volume may lie for years now. With this checkpoint, a record that rots meanwhile is seen to be
        // missing; without it, the record would look like the end of the log. A checkpoint may rot, too:
        // there are two that say how far the log is durable.
        loop {
            let checkpoint = self.core.lock().engine.note_durable();
            let Some(checkpoint) = checkpoint else { break };
            self.write_checkpoint_or_fail(&self.spare, &checkpoint);
        }
        self.blank_stale(&self.spare);
        if LOOKS_FOR_BUGS {
            let audit = self.audit();
            if let Err(broken) = audit {
                log_err!("{}: BUG: an invariant does not hold: {}", &*self.disks, broken);
            }
            debug_assert_eq!(audit, Ok(()));
        }
    }

    /// Checks the engine's invariants, with the lock held for as long as that takes.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn audit(&self) -> core::result::Result<(), Broken> {
        self.core.lock().engine.audit()
    }

    /// Whether writeback, relocation and the tail have to rest. The caller holds the mutex of that kind of
    /// work.
    fn rests(&self) -> bool {
        self.glance().is_suspended() || self.flags.depth.is_resting()
    }

    /// Writes a checkpoint. If that fails, the log has failed. Returns whether it succeeded.
    fn write_checkpoint_or_fail(&self, t: &Arc<Transfer>, checkpoint: &Checkpoint) -> bool {
        let ok = self.insist_on_checkpoint(t, checkpoint).is_ok();
        self.core.lock().engine.checkpointed(ok);
        if !ok {
            log_err!(
                "{}: cannot write a checkpoint to the cache device; no more writes are taken",
                &*self.disks
            );
        }
        ok
    }

    /// Ends the bios that wait for something, once no thread works any more.
    fn end_what_is_left(&self) {
        self.flags.over.store(true, Ordering::SeqCst);
        let (waiting, deferred, held) = {
            let mut core = self.core.lock();
            (core.waiting.take(), core.deferred.take(), core.held.take())
        };
        // Each bio ends with an error when it is dropped.
        drop([waiting, deferred, held, self.riders.take()]);
        self.end_bounced();
        // The commit of these bios has succeeded.
        self.end_arrived();
    }

    /// Ends the bounced writes, which no thread puts into the log any more. In any context.
    fn end_bounced(&self) {
        drop(self.bounced.take());
    }

    /// Bios come again.
    pub fn resume(&self, alone: bool) {
        self.steering.heard();
        self.happens(|room| room.resumes(alone));
    }
}
