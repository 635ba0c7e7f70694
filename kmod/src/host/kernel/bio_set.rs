// SPDX-License-Identifier: GPL-2.0-only

//! Bios of our own, from a pool that never fails.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use super::Pages;
use super::{bindings, Device};
use super::{EndIo, How};
use crate::policy::silence::Traffic;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A `struct bio_set` with its mempools.
///
/// # Invariants
/// It is initialised, and stays where it is.
pub struct BioSet(KBox<UnsafeCell<bindings::bio_set>>);

// SAFETY: A `bio_set` may be used from any thread.
unsafe impl Send for BioSet {}
// SAFETY: As above.
unsafe impl Sync for BioSet {}

impl BioSet {
    /// A pool that always has `reserve` bios, of as many pages as a bio can have.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(reserve: u32) -> Result<Self> {
        let set = KBox::<UnsafeCell<bindings::bio_set>>::new_uninit(GFP_KERNEL)?;
        let raw = KBox::into_raw(set);
        // SAFETY: `raw` is valid for writes and stays where it is. A `bio_set` must be zero before it is
        // initialised, and all zeroes are a valid value of it.
        let (set, error) = unsafe {
            raw.write_bytes(0, 1);
            let set = KBox::<UnsafeCell<bindings::bio_set>>::from_raw(raw.cast());
            let error = bindings::wb_bio_set_init(set.get(), reserve);
            (set, error)
        };
        kernel::error::to_result(error)?;
        Ok(Self(set))
    }

    fn submit<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        (pages, offset, len): (&Pages, usize, usize),
        write: Option<How>,
        (whom, tag): (&Arc<E>, usize),
    ) {
        if len == 0 || offset > pages.len() || len > pages.len().saturating_sub(offset) || len > MAX_BYTES {
            whom.end_io(tag, Err(EINVAL));
            return;
        }
        let data = Arc::into_raw(whom.clone());
        device.traffic().sent();
        // SAFETY: The bytes are within `pages`, which are from `wb_pages_alloc`. The submitter keeps the
        // pages and the device until `end_io`. `end` is made for `data` and for the device's traffic.
        unsafe {
            bindings::wb_bio_submit(
                self.0.get(),
                device.bdev(),
                sector,
                pages.at(offset).cast(),
                len as u32,
                write.is_some(),
                write.is_some_and(|how| how.fua),
                write.is_some_and(|how| how.background),
                Some(end::<E>),
                data.cast_mut().cast(),
                tag,
                core::ptr::from_ref(device.traffic()).cast(),
            );
        }
    }

    /// Reads `len` bytes at `sector` into `pages`, from `offset` on. `len` is at most [`MAX_BYTES`] and whole
    /// sectors. May sleep.
    pub fn read<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        part: (&Pages, usize, usize),
        whom: (&Arc<E>, usize),
    ) {
        self.submit(device, sector, part, None, whom);
    }

    /// Writes `len` bytes of `pages`, from `offset` on, to `sector`. `len` is at most [`MAX_BYTES`] and whole
    /// sectors. May sleep.
    pub fn write<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        part: (&Pages, usize, usize),
        how: How,
        whom: (&Arc<E>, usize),
    ) {
        self.submit(device, sector, part, Some(how), whom);
    }

    /// Flushes the device's write cache, either in the `background` or for a task that waits. May sleep.
    pub fn flush<E: EndIo + 'static>(
        &self,
        device: &Device,
        background: bool,
        (whom, tag): (&Arc<E>, usize),
    ) {
        let data = Arc::into_raw(whom.clone());
        device.traffic().sent();
        // SAFETY: The pool and the device are valid, and the submitter keeps the device until `end_io`. `end`
        // is made for `data` and for the device's traffic.
        unsafe {
            bindings::wb_bio_submit_flush(
                self.0.get(),
                device.bdev(),
                background,
                Some(end::<E>),
                data.cast_mut().cast(),
                tag,
                core::ptr::from_ref(device.traffic()).cast(),
            );
        }
    }
}

/// Most bytes of one bio: `BIO_MAX_VECS` pages.
pub const MAX_BYTES: usize = 256 * 4096;

unsafe extern "C" fn end<E: EndIo>(data: *mut c_void, tag: usize, sent_to: *const c_void, error: i32) {
    // SAFETY: It belongs to the device that the bio was sent to. The submitter keeps that device until
    // `end_io`, which was not called yet.
    unsafe { &*sent_to.cast::<Traffic>() }.returned();
    // SAFETY: `data` is from `Arc::into_raw` of an `Arc<E>` when the bio was submitted, and is taken back
    // once, here.
    let whom = unsafe { Arc::<E>::from_raw(data.cast()) };
    whom.end_io(tag, kernel::error::to_result(error));
}

impl Drop for BioSet {
    fn drop(&mut self) {
        // SAFETY: Initialised by `new`; all its bios have returned, for their owners outlive them.
        unsafe { bindings::wb_bio_set_exit(self.0.get()) }
    }
}
