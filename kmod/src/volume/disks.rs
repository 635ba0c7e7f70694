// SPDX-License-Identifier: GPL-2.0-only

//! The two devices, and I/O of our own that a thread waits for.

use crate::engine::flight::{Doubts, Pending};
use crate::format::BLOCK;
use crate::host::{
    arc, now_ms, spinlock, wait_for_io_ends, Arc, BioSet, Device, EndIo, Error, Event, How, Pages, Result,
    Shared, Sleep, SpinLock, Table, ENOMEM,
};
use crate::policy::lost::Word;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Bios that are always there, even when memory is short: enough for each thread to go on.
const RESERVE: u32 = 4;
/// The same for the workers of a queue: with one, they can go on by turns.
const READERS_RESERVE: u32 = 1;

/// What bios of our own are for. When memory is short, a task that waits for a bio waits for others of its
/// own kind, never for a device that it does not need.
#[derive(Clone, Copy)]
pub enum Pool {
    /// Threads.
    Threads,
    /// Reads of users from the cache device.
    Near,
    /// Reads of users from the backing device.
    Far,
}

/// Bits of the kind of a tag: I/O of the backing device, a read.
const BACKING: u32 = 1;
const READ: u32 = 2;

/// The two devices.
pub struct Disks {
    /// Where the data belong.
    pub backing: Device,
    /// Where the log is.
    pub cache: Device,
    /// Bios of our own for threads, and for the other kinds of [`Pool`].
    pub bios: BioSet,
    near: BioSet,
    far: BioSet,
    /// A task waits for writeback.
    hurries: AtomicBool,
    /// Whether an error of the backing device may have lost what was written to it.
    pub backing_doubts: Shared<Doubts>,
    /// The same for the cache device.
    pub cache_doubts: Shared<Doubts>,
}

impl Disks {
    /// Takes the devices.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(backing: Device, cache: Device) -> Result<Arc<Self>> {
        arc(Self {
            backing,
            cache,
            bios: BioSet::new(RESERVE)?,
            near: BioSet::new(READERS_RESERVE)?,
            far: BioSet::new(READERS_RESERVE)?,
            hurries: AtomicBool::new(false),
            backing_doubts: Doubts::new()?,
            cache_doubts: Doubts::new()?,
        })
    }

    fn of(&self, pool: Pool) -> &BioSet {
        match pool {
            Pool::Threads => &self.bios,
            Pool::Near => &self.near,
            Pool::Far => &self.far,
        }
    }
}

impl Disks {
    /// Whether no task waits for what is written to the device: writeback has time, unless it hurries. What
    /// is written to the cache device always has a task that waits: an `fsync`, a write that needs room.
    fn is_background(&self, device: &Device) -> bool {
        device.id() == self.backing.id() && !self.hurries.load(Ordering::Relaxed)
    }

    /// A task waits for writeback, or none does any more.
    pub fn set_hurry(&self, hurries: bool) {
        self.hurries.store(hurries, Ordering::Relaxed);
    }
}

impl fmt::Display for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "backing {} cache {}",
            self.backing.name().to_str().unwrap_or("?"),
            self.cache.name().to_str().unwrap_or("?")
        )
    }
}

/// A piece of memory and the I/O that goes on with it. One thread submits and waits.
pub struct Transfer {
    /// The memory.
    pub pages: Pages,
    pool: Pool,
    pending: Pending,
    /// The error number of the I/O with each tag; 0 for no error.
    errors: Table<AtomicI32>,
    /// Blocks of memory that the writes with each tag come from and that are not counted yet.
    blocks: Table<AtomicU32>,
    /// The kind of each tag, as set by [`Transfer::is`]: all I/O with one tag that is under way at a time is
    /// of one kind and of one device.
    kinds: Table<AtomicU32>,
    /// Number of tags that a read with this tag is for.
    tags: Table<AtomicU32>,
    /// Number of blocks written.
    written: Shared<AtomicU64>,
    /// Told of a failure before anything else is.
    backing_doubts: Shared<Doubts>,
    cache_doubts: Shared<Doubts>,
    /// Notified when the last I/O that was under way has returned; several transfers of one thread may share
    /// it.
    landed: Arc<Event>,
}

impl Transfer {
    /// Memory of `blocks` blocks, for I/O with these devices; I/O other than flushes is tagged with a number
    /// below `blocks`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_blocks(disks: &Disks, blocks: usize) -> Result<OwnTransfer> {
        let written = Shared::new(AtomicU64::new(0))?;
        Ok(OwnTransfer(Self::made(disks, Pool::Threads, blocks, written, Self::event()?)?))
    }

    /// As [`Transfer::with_blocks`], for writeback. Counts in `written` the blocks whose writes have
    /// succeeded, and notifies `landed` when nothing is under way any more.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn counting(
        disks: &Disks,
        blocks: usize,
        written: Shared<AtomicU64>,
        landed: Arc<Event>,
    ) -> Result<OwnTransfer> {
        Ok(OwnTransfer(Self::made(disks, Pool::Threads, blocks, written, landed)?))
    }

    /// The event that several transfers may share.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn event() -> Result<Arc<Event>> {
        arc(Event::new()?)
    }

    fn made(
        disks: &Disks,
        pool: Pool,
        blocks: usize,
        written: Shared<AtomicU64>,
        landed: Arc<Event>,
    ) -> Result<Arc<Self>> {
        arc(Self {
            pages: Pages::new(blocks.checked_mul(BLOCK).ok_or(ENOMEM)?)?,
            pool,
            pending: Pending::new(),
            errors: Table::new(blocks.saturating_add(1), |_| AtomicI32::new(0))?,
            kinds: Table::new(blocks.saturating_add(1), |_| AtomicU32::new(0))?,
            tags: Table::new(blocks.saturating_add(1), |_| AtomicU32::new(1))?,
            blocks: Table::new(blocks.saturating_add(1), |_| AtomicU32::new(0))?,
            written,
            backing_doubts: disks.backing_doubts.clone(),
            cache_doubts: disks.cache_doubts.clone(),
            landed,
        })
    }

    /// Notes the kind of what is about to be sent with a tag: see [`Transfer::doubt`].
    fn is(&self, tag: usize, disks: &Disks, device: &Device, is_read: bool) {
        let is_backing = device.id() == disks.backing.id();
        let kind = if is_backing { BACKING } else { 0 } | if is_read { READ } else { 0 };
        self.kinds[tag].store(kind, Ordering::Relaxed);
    }

    /// An I/O tagged `tag` has failed: casts doubt on its device. In any context.
    fn doubt(&self, tag: usize, errno: i32) {
        // `blocks` cannot tell a write from a read here: the first of several writes with this tag has taken
        // the number.
        let kind = self.kinds[tag].load(Ordering::Relaxed);
        let doubts = if kind & BACKING != 0 { &self.backing_doubts } else { &self.cache_doubts };
        if kind & READ != 0 {
            doubts.add_by_read(errno, now_ms());
        } else {
            doubts.add();
        }
    }

    /// Forgets the failures of the I/O that has returned.
    pub fn reset(&self) {
        for error in self.errors.iter() {
            error.store(0, Ordering::Relaxed);
        }
    }

    /// Reads `len` bytes at `sector` into our pages from `offset` on.
    pub fn read(
        self: &Arc<Self>,
        disks: &Disks,
        device: &Device,
        sector: u64,
        (offset, len): (usize, usize),
        tag: usize,
    ) {
        self.pending.begin();
        self.is(tag, disks, device, true);
        disks.of(self.pool).read(device, sector, (&self.pages, offset, len), (self, tag));
    }

    /// As [`Transfer::read`], for `blocks` whole blocks, each of which has a tag of its own: from `tag` on.
    pub fn read_blocks(
        self: &Arc<Self>,
        disks: &Disks,
        device: &Device,
        sector: u64,
        (offset, blocks): (usize, usize),
        tag: usize,
    ) {
        self.tags[tag].store(blocks as u32, Ordering::Relaxed);
        self.read(disks, device, sector, (offset, blocks.saturating_mul(BLOCK)), tag);
    }

    /// Writes `len` bytes at `sector` from our pages from `offset` on.
    pub fn write(
        self: &Arc<Self>,
        disks: &Disks,
        device: &Device,
        sector: u64,
        (offset, len): (usize, usize),
        fua: bool,
        tag: usize,
    ) {
        self.pending.begin();
        self.is(tag, disks, device, false);
        // Several writes may have the same tag.
        self.blocks[tag]
            .fetch_add((offset % BLOCK).saturating_add(len).div_ceil(BLOCK) as u32, Ordering::Relaxed);
        let how = How { fua, background: disks.is_background(device) };
        disks.of(self.pool).write(device, sector, (&self.pages, offset, len), how, (self, tag));
    }

    /// Flushes the device's write cache.
    pub fn flush(self: &Arc<Self>, disks: &Disks, device: &Device) {
        self.pending.begin();
        self.is(self.flush_tag(), disks, device, false);
        disks.of(self.pool).flush(device, disks.is_background(device), (self, self.flush_tag()));
    }

    /// The tag of flushes.
    pub fn flush_tag(&self) -> usize {
        self.errors.len().saturating_sub(1)
    }

    /// Whether all I/O has returned.
    pub fn is_over(&self) -> bool {
        self.pending.is_over()
    }

    /// Waits until all I/O has returned.
    pub fn wait(&self) {
        loop {
            let seen = self.landed.count();
            if self.pending.is_over() {
                return;
            }
            // Only a signal is an error, and no signal ends this kind of sleep.
            let _ = self.landed.wait(seen, 1000, Sleep::Busy);
        }
    }

    /// Notes that an I/O tagged `tag` has failed. In any context.
    fn note(&self, tag: usize, errno: i32) {
        let Some(error) = self.errors.get(tag) else { return };
        let worst = |known| (known == 0 || Word::of(errno) < Word::of(known)).then_some(errno);
        // The update fails if the error noted there says as little or less about the medium; then that one is
        // kept.
        let _ = error.fetch_update(Ordering::Relaxed, Ordering::Relaxed, worst);
    }

    /// Forgets that the I/O tagged `tag` has failed, before it is tried again.
    pub fn forgive(&self, tag: usize) {
        self.errors[tag].store(0, Ordering::Relaxed);
    }

    /// Whether all I/O tagged `tag` since the last [`Transfer::reset`] has succeeded.
    pub fn is_ok(&self, tag: usize) -> bool {
        self.error(tag).is_none()
    }

    /// The error of the I/O tagged `tag` that has failed since the last [`Transfer::reset`]. When several
    /// have failed, it is the error that says least about the medium: see [`Word`].
    pub fn error(&self, tag: usize) -> Option<Error> {
        match self.errors[tag].load(Ordering::Relaxed) {
            0 => None,
            errno => Some(Error::from_errno(errno)),
        }
    }

    /// Waits, returns whether all I/O since the last [`Transfer::reset`] has succeeded, and resets.
    ///
    /// # Errors
    /// The worst failure, in the order of [`Transfer::error`].
    pub fn finish(&self) -> Result {
        self.wait();
        let worst =
            (0..self.errors.len()).filter_map(|tag| self.error(tag)).min_by_key(|e| Word::of(e.to_errno()));
        self.reset();
        worst.map_or(Ok(()), Err)
    }
}

/// The owner's hold on a [`Transfer`].
///
/// Each I/O has a hold too, and a thread that has waited for the I/O may go on before the end of I/O has let
/// go. The memory can only be freed where sleeping is allowed, so the thread sees to it that its own hold is
/// the last.
pub struct OwnTransfer(Arc<Transfer>);

impl Deref for OwnTransfer {
    type Target = Arc<Transfer>;
    fn deref(&self) -> &Arc<Transfer> {
        &self.0
    }
}

impl Drop for OwnTransfer {
    fn drop(&mut self) {
        wait_for_io_ends();
    }
}

/// Transfers of a block each, for workers to take and to give back.
pub struct Transfers {
    all: Table<Arc<Transfer>>,
    /// Bit `i` is set while transfer number `i` is not taken.
    free: SpinLock<u32>,
    /// A transfer was given back.
    given_back: Event,
}

impl Transfers {
    /// Makes `n` transfers, at most 32.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(disks: &Disks, pool: Pool, n: u32) -> Result<Self> {
        Ok(Self {
            all: Table::try_new(n as usize, |_| {
                Transfer::made(disks, pool, 1, Shared::new(AtomicU64::new(0))?, Transfer::event()?)
            })?,
            free: spinlock!(
                u32::MAX.wrapping_shr(u32::BITS.saturating_sub(n.max(1))),
                "writeboost_transfers"
            )?,
            given_back: Event::new()?,
        })
    }

    /// Lends a transfer to `f`. There are as many as workers, or nearly, so that this waits for other workers
    /// at most.
    pub fn with<R>(&self, f: impl FnOnce(&Arc<Transfer>) -> R) -> R {
        let i = loop {
            let seen = self.given_back.count();
            if let Some(i) = self.take() {
                break i;
            }
            // No signal ends this kind of sleep.
            let _ = self.given_back.wait(seen, 1000, Sleep::Busy);
        };
        let result = f(&self.all[i as usize]);
        *self.free.lock() |= 1u32.wrapping_shl(i);
        self.given_back.notify();
        result
    }

    fn take(&self) -> Option<u32> {
        let mut free = self.free.lock();
        let i = free.trailing_zeros();
        *free &= free.wrapping_sub(1);
        (i < u32::BITS).then_some(i)
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // As for an `OwnTransfer`, once for all of them.
        wait_for_io_ends();
    }
}

impl EndIo for Transfer {
    fn end_io(&self, tag: usize, result: Result) {
        // 0 for a read or a flush.
        let blocks = self.blocks[tag].swap(0, Ordering::Relaxed);
        let tags = self.tags[tag].swap(1, Ordering::Relaxed) as usize;
        if let Err(e) = result {
            (tag..tag.saturating_add(tags)).for_each(|tag| self.note(tag, e.to_errno()));
            self.doubt(tag, e.to_errno());
        } else {
            self.written.fetch_add(blocks.into(), Ordering::Relaxed);
        }
        if self.pending.end() {
            self.landed.notify();
        }
    }
}
