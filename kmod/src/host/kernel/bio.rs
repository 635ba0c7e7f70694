// SPDX-License-Identifier: GPL-2.0-only

//! A bio that device-mapper has handed to a target.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use super::Op;
use super::{bindings, Device};
use crate::policy::silence::Traffic;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// A place within the data of a bio.
#[derive(Clone, Copy)]
pub struct Cursor(bindings::bvec_iter);

/// The data that are kept beside each bio.
pub(super) struct Beside<P> {
    /// Counts the bios at the device that this one was sent to. Null when it was not sent, or has returned.
    sent_to: *const Traffic,
    /// The target's own data.
    data: P,
}

/// A clone that device-mapper made for the target, with the target's own data `P` beside it. The owner of a
/// `Bio` must end it; dropping it ends it with an I/O error.
///
/// # Invariants
/// `bio` is such a clone, its [`Beside`] is initialised, and nothing else uses it. `sent_to` is null, or
/// belongs to one of the target's devices.
pub struct Bio<P> {
    bio: NonNull<bindings::bio>,
    data: PhantomData<P>,
}

// SAFETY: A bio may be used from any thread, by one thread at a time.
unsafe impl<P: Send> Send for Bio<P> {}

/// The room that is needed beside each bio: a [`Beside`], and behind it the bio's place in a queue.
pub(super) const fn per_io_size<P>() -> usize {
    const { assert!(size_of::<Beside<P>>() % align_of::<u64>() == 0, "what follows must be aligned") };
    core::mem::size_of::<Beside<P>>().saturating_add(bindings::WB_BIO_WORK_SIZE as usize)
}

impl<P: Copy + Default> Bio<P> {
    /// # Safety
    /// `bio` was passed to `map` of a target whose `per_io_data_size` is [`per_io_size`].
    pub(super) unsafe fn first(bio: NonNull<bindings::bio>) -> Self {
        let b = Self { bio, data: PhantomData };
        // SAFETY: There is room for it, aligned as `per_io_data_size` is for all targets (64 bits suffice for
        // `P`).
        unsafe { b.beside().write(Beside { sent_to: core::ptr::null(), data: P::default() }) };
        b
    }
}

/// The [`Beside`] of the bio.
///
/// # Safety
/// `bio` is a clone of device-mapper's with room for it.
unsafe fn beside<P>(bio: *mut bindings::bio) -> *mut Beside<P> {
    // SAFETY: By this function's contract.
    unsafe { bindings::dm_per_bio_data(bio, per_io_size::<P>()).cast() }
}

impl<P> Bio<P> {
    /// # Safety
    /// As for [`Bio::first`], which was called for this bio before. If the bio was sent to a device it has
    /// returned, and the target still has its devices.
    pub(super) unsafe fn again(bio: NonNull<bindings::bio>) -> Self {
        let b = Self { bio, data: PhantomData };
        // SAFETY: Initialised by `first`, and nothing else uses the bio.
        let sent_to = unsafe { core::mem::replace(&mut (*b.beside()).sent_to, core::ptr::null()) };
        // SAFETY: By the invariant.
        if let Some(traffic) = unsafe { sent_to.as_ref() } {
            traffic.returned();
        }
        b
    }

    fn beside(&self) -> *mut Beside<P> {
        // SAFETY: By the invariant.
        unsafe { beside(self.bio.as_ptr()) }
    }

    /// The target's own data of this bio.
    pub fn data(&mut self) -> &mut P {
        // SAFETY: Initialised by the invariant, and nothing else uses the bio.
        unsafe { &mut (*self.beside()).data }
    }

    pub(super) fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).bio.as_ptr()
    }

    pub(super) fn as_raw(&self) -> *mut bindings::bio {
        self.bio.as_ptr()
    }

    /// Its operation.
    pub fn op(&self) -> Op {
        // SAFETY: Valid by the invariant.
        match unsafe { bindings::wb_bio_op(self.bio.as_ptr()) } {
            bindings::wb_op_WB_OP_READ => Op::Read,
            bindings::wb_op_WB_OP_WRITE => Op::Write,
            bindings::wb_op_WB_OP_FLUSH => Op::Flush,
            _ => Op::Other,
        }
    }

    /// Whether a write must be on stable storage before it ends.
    pub fn is_fua(&self) -> bool {
        // SAFETY: Valid by the invariant.
        unsafe { bindings::wb_bio_is_fua(self.bio.as_ptr()) }
    }

    /// Whether its submitter may be made to wait.
    pub fn may_wait(&self) -> bool {
        // SAFETY: Valid by the invariant.
        unsafe { bindings::wb_bio_may_wait(self.bio.as_ptr()) }
    }

    /// Whether no task waits for it: it is a read-ahead, and its end may be an error for any reason.
    pub fn is_ahead(&self) -> bool {
        // SAFETY: Valid by the invariant.
        unsafe { bindings::wb_bio_is_ahead(self.bio.as_ptr()) }
    }

    /// Whether a bio that is submitted now, within map, goes to its device as soon as map is over: it is not
    /// held in a plug, and its task is not one that others may keep from running.
    pub fn submits_now(&self) -> bool {
        // SAFETY: It has no preconditions.
        unsafe { bindings::wb_submits_now() }
    }

    /// First sector, from the start of the target.
    pub fn sector(&self) -> u64 {
        // SAFETY: Valid by the invariant.
        unsafe { bindings::wb_bio_sector(self.bio.as_ptr()) }
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        // SAFETY: Valid by the invariant.
        u64::from(unsafe { bindings::wb_bio_bytes(self.bio.as_ptr()) }) >> 9
    }

    /// The start of its data.
    pub fn start(&self) -> Cursor {
        // SAFETY: Valid by the invariant.
        Cursor(unsafe { bindings::wb_bio_iter(self.bio.as_ptr()) })
    }

    /// Copies the data at the cursor into `to`, and moves the cursor behind them.
    pub fn read(&self, at: &mut Cursor, to: &mut [u8]) {
        self.copy(at, to.as_mut_ptr(), to.len(), false);
    }

    /// Copies `from` to the place of the cursor, and moves the cursor behind it.
    pub fn write(&self, at: &mut Cursor, from: &[u8]) {
        // With `to_bio` the buffer is only read.
        self.copy(at, from.as_ptr().cast_mut(), from.len(), true);
    }

    fn copy(&self, at: &mut Cursor, buffer: *mut u8, len: usize, to_bio: bool) {
        let len = len.min(at.0.bi_size as usize);
        // SAFETY: The bio is valid by the invariant, the cursor was made from it and has at least `len` bytes
        // left, and `buffer` is that long.
        unsafe {
            bindings::wb_bio_copy(self.bio.as_ptr(), &mut at.0, buffer.cast::<c_void>(), len as u32, to_bio);
        }
    }

    /// Moves the cursor `len` bytes on.
    pub fn skip(&self, at: &mut Cursor, len: usize) {
        let len = len.min(at.0.bi_size as usize);
        // SAFETY: As in `copy`.
        unsafe { bindings::wb_bio_skip(self.bio.as_ptr(), &mut at.0, len as u32) }
    }

    /// CRC-32C of the `len` bytes at the cursor, and moves it behind them.
    pub fn crc32c(&self, at: &mut Cursor, len: usize) -> u32 {
        let len = len.min(at.0.bi_size as usize);
        // SAFETY: As in `copy`.
        unsafe { bindings::wb_bio_crc32c(self.bio.as_ptr(), &mut at.0, len as u32, 0) }
    }

    /// Whether `device` accepts the bio as it lies in memory. Otherwise the device would refuse it.
    pub fn fits(&self, device: &Device) -> bool {
        // SAFETY: The bio is valid by the invariant, and so is the block device.
        unsafe { bindings::wb_bio_fits(self.bio.as_ptr(), device.bdev()) }
    }

    /// Directs it to `sector` of `device`, which is one of the target's. The bio still has to be returned to
    /// device-mapper as remapped.
    pub fn remap(&mut self, device: &Device, sector: u64) {
        device.traffic().sent();
        // SAFETY: Initialised by the invariant, and nothing else uses the bio.
        unsafe { (*self.beside()).sent_to = device.traffic() };
        // SAFETY: The bio is valid by the invariant, and so is the block device.
        unsafe { bindings::wb_bio_remap(self.bio.as_ptr(), device.bdev(), sector) }
    }

    /// Whether it must be on stable storage before it ends, if it is a write.
    pub fn set_fua(&mut self, fua: bool) {
        // SAFETY: Valid by the invariant, and nothing else uses the bio.
        unsafe { bindings::wb_bio_set_fua(self.bio.as_ptr(), fua) }
    }

    /// Restores a bio that has returned to its state when it came: at `sector` of the target, and with the
    /// data from `start` on.
    pub fn take_back(&mut self, sector: u64, start: Cursor) {
        // SAFETY: Valid by the invariant, and nothing else uses the bio; the cursor was made from it.
        unsafe { bindings::wb_bio_rewind(self.bio.as_ptr(), &start.0, sector) }
    }

    /// Ends it.
    pub fn end(self, result: Result) {
        let error = result.err().map_or(0, |e| e.to_errno());
        // SAFETY: Valid by the invariant, and not used any more.
        unsafe { bindings::wb_bio_end(self.into_raw(), error) }
    }
}

impl<P> Drop for Bio<P> {
    fn drop(&mut self) {
        // SAFETY: Valid by the invariant, and not used any more.
        unsafe { bindings::wb_bio_end(self.bio.as_ptr(), EIO.to_errno()) }
    }
}

/// Bios in the order in which they came, linked through themselves.
///
/// # Invariants
/// `first` to `last` is a list of bios that the list owns; both are null when it is empty.
pub struct BioList<P> {
    first: *mut bindings::bio,
    last: *mut bindings::bio,
    data: PhantomData<P>,
}

// SAFETY: As for `Bio`.
unsafe impl<P: Send> Send for BioList<P> {}

impl<P> BioList<P> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { first: core::ptr::null_mut(), last: core::ptr::null_mut(), data: PhantomData }
    }

    /// Whether the list has no bio.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Appends a bio.
    pub fn push(&mut self, bio: Bio<P>) {
        let bio = bio.into_raw();
        // SAFETY: The bio is ours now, and so is the last one of the list by the invariant.
        unsafe {
            bindings::wb_bio_set_next(bio, core::ptr::null_mut());
            if self.last.is_null() {
                self.first = bio;
            } else {
                bindings::wb_bio_set_next(self.last, bio);
            }
        }
        self.last = bio;
    }

    /// Puts a bio in front.
    pub fn push_front(&mut self, bio: Bio<P>) {
        let bio = bio.into_raw();
        // SAFETY: The bio is ours now.
        unsafe { bindings::wb_bio_set_next(bio, self.first) };
        if self.first.is_null() {
            self.last = bio;
        }
        self.first = bio;
    }

    /// Takes the first bio.
    pub fn pop(&mut self) -> Option<Bio<P>> {
        let bio = NonNull::new(self.first)?;
        // SAFETY: The list's bios are valid and ours by the invariant.
        unsafe {
            self.first = bindings::wb_bio_next(bio.as_ptr());
            bindings::wb_bio_set_next(bio.as_ptr(), core::ptr::null_mut());
        }
        if self.first.is_null() {
            self.last = core::ptr::null_mut();
        }
        Some(Bio { bio, data: PhantomData })
    }

    /// The own data of the first bio.
    pub fn front(&mut self) -> Option<&mut P> {
        let bio = NonNull::new(self.first)?;
        // SAFETY: The list's bios are valid and ours by the invariant, their data initialised.
        unsafe { Some(&mut (*beside(bio.as_ptr())).data) }
    }

    /// Takes all bios.
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

impl<P> Drop for BioList<P> {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

/// Bios that devices have returned and that are to be ended later. Any context may put a bio there, also one
/// that must not take a lock; one thread takes them all.
///
/// # Invariants
/// `first` is the beginning of a list of bios that the stack owns, linked through themselves; null when it is
/// empty.
pub struct BioStack<P> {
    first: AtomicPtr<bindings::bio>,
    data: PhantomData<Bio<P>>,
}

// SAFETY: As for `Bio`; `take` takes all bios in one step.
unsafe impl<P: Send> Sync for BioStack<P> {}

impl<P> BioStack<P> {
    /// An empty stack.
    pub const fn new() -> Self {
        Self { first: AtomicPtr::new(core::ptr::null_mut()), data: PhantomData }
    }

    /// Puts a bio on the stack. In any context.
    pub fn push(&self, bio: Bio<P>) {
        // SAFETY: The bio is ours.
        unsafe { bindings::wb_bio_take_back(bio.as_raw()) };
        let mut list = BioList::new();
        list.push(bio);
        self.push_all(list);
    }

    /// Puts all bios of a list on the stack; the list was taken from such a stack. In any context.
    pub fn push_all(&self, list: BioList<P>) {
        let list = ManuallyDrop::new(list);
        if list.first.is_null() {
            return;
        }
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: The bios are ours until the exchange below gives them away.
            unsafe { bindings::wb_bio_set_next(list.last, first) };
            // Release: a thread that takes the bios sees the rest of the list.
            match self.first.compare_exchange_weak(first, list.first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Takes all bios, the latest first.
    pub fn take(&self) -> BioList<P> {
        let first = self.first.swap(core::ptr::null_mut(), Ordering::Acquire);
        let mut last = first;
        let mut next = first;
        while !next.is_null() {
            last = next;
            // SAFETY: A bio of the list, which is ours since the exchange.
            next = unsafe { bindings::wb_bio_next(next) };
        }
        BioList { first, last, data: PhantomData }
    }
}

impl<P> Drop for BioStack<P> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
