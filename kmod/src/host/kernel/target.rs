// SPDX-License-Identifier: GPL-2.0-only

//! A device-mapper target.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::bio::per_io_size;
use super::Ending;
use super::{bindings, Bio, Device};
use super::{Outcome, Returned, StatusKind, Target};
use core::ffi::{c_int, c_void};
use core::fmt::Write;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use kernel::ffi::{c_char, c_uint};
use kernel::prelude::*;

/// A bio while it is being mapped.
pub struct Mapping<'a, P> {
    bio: Bio<P>,
    map: PhantomData<&'a ()>,
}

impl<P> Mapping<'_, P> {
    /// Takes only the first `sectors` of it; device-mapper sends the rest as another bio. Not for flushes.
    pub fn accept(&mut self, sectors: u64) {
        if sectors < self.bio.sectors() {
            // SAFETY: Within map by the lifetime of `self`; `sectors` is less than it has.
            unsafe { bindings::dm_accept_partial_bio(self.bio.as_raw(), sectors as u32) }
        }
    }

    /// The bio, for keeping it beyond map.
    pub fn into_bio(self) -> Bio<P> {
        self.bio
    }
}

impl<P> Deref for Mapping<'_, P> {
    type Target = Bio<P>;
    fn deref(&self) -> &Bio<P> {
        &self.bio
    }
}

impl<P> DerefMut for Mapping<'_, P> {
    fn deref_mut(&mut self) -> &mut Bio<P> {
        &mut self.bio
    }
}

/// Text for userspace, cut off where its buffer ends.
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        // The last byte is reserved for the NUL that ends the text.
        let free = self.buffer.get_mut(self.len..).unwrap_or_default();
        let n = s.len().min(free.len().saturating_sub(1));
        for (to, from) in free.iter_mut().zip(s.as_bytes().iter().take(n)) {
            *to = *from;
        }
        self.len = self.len.saturating_add(n);
        Ok(())
    }
}

/// The words of a table line or a message.
pub struct Args<'a> {
    words: &'a [*mut c_char],
}

impl Args<'_> {
    /// All words; `None` for one that is not UTF-8.
    pub fn words(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        (0..self.words.len()).map(|i| self.c_str(i)?.to_str().ok())
    }

    /// Word `i`, unchanged.
    pub fn c_str(&self, i: usize) -> Option<&CStr> {
        let word = *self.words.get(i)?;
        // SAFETY: Device-mapper passes NUL-terminated words that live as long as the call.
        Some(unsafe { CStr::from_ptr(word.cast()) })
    }
}

/// The target under construction.
pub struct Construction<'a> {
    ti: NonNull<bindings::dm_target>,
    lifetime: PhantomData<&'a ()>,
}

impl Construction<'_> {
    /// Size of the target in sectors.
    pub fn sectors(&self) -> u64 {
        // SAFETY: Valid while it is being made.
        unsafe { (*self.ti.as_ptr()).len }
    }

    /// Lets the target raise events later.
    pub fn events(&self) -> Events {
        // Everything that a target's constructor made is dropped before the target itself.
        Events { ti: self.ti }
    }

    /// Opens an underlying device.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn device(&self, path: &CStr) -> Result<Device> {
        // SAFETY: A target's devices are dropped with everything else that its constructor made, before the
        // target itself.
        unsafe { Device::get(self.ti, path) }
    }
}

/// Tells userspace that something has happened to a target: by `dmsetup wait`, dmeventd and the device's
/// event number.
///
/// # Invariants
/// `ti` lives until this is dropped.
pub struct Events {
    ti: NonNull<bindings::dm_target>,
}

// SAFETY: Any context that may sleep can raise an event.
unsafe impl Send for Events {}
// SAFETY: As above; device-mapper has a lock for it.
unsafe impl Sync for Events {}

impl Events {
    /// Raises an event. Sleeps, for a mutex that all of device-mapper shares and whose holders may wait for
    /// memory: only for a thread that no I/O waits for.
    pub fn raise(&self) {
        // SAFETY: The target is alive by the invariant, and so is its table. If the table is not in use yet,
        // or not any more, there is no listener; device-mapper handles that case.
        unsafe { bindings::dm_table_event((*self.ti.as_ptr()).table) }
    }
}

/// The target, to which `dm_target.private` points.
unsafe fn target<'a, T: Target>(ti: *mut bindings::dm_target) -> &'a T {
    // SAFETY: Set by `ctr` to a `KBox<T>`, which `dtr` drops. This is called in between only.
    unsafe { &*(*ti).private.cast::<T>() }
}

unsafe extern "C" fn ctr<T: Target>(
    ti: *mut bindings::dm_target,
    argc: c_uint,
    argv: *mut *mut c_char,
) -> c_int {
    let Some(target) = NonNull::new(ti) else { return EINVAL.to_errno() };
    // SAFETY: Device-mapper passes `argc` words; with none, `argv` may be null.
    let words = if argc == 0 { &[] } else { unsafe { core::slice::from_raw_parts(argv, argc as usize) } };
    let construction = Construction { ti: target, lifetime: PhantomData };
    match T::new(&construction, &Args { words }) {
        Ok(t) => {
            // SAFETY: `ti` is valid while it is being made.
            unsafe {
                (*ti).private = KBox::into_raw(t).cast();
                bindings::wb_target_init(ti, per_io_size::<T::PerBio>() as c_uint);
            }
            0
        }
        Err((message, error)) => {
            // SAFETY: `ti` is valid while it is being made; the message is static.
            unsafe { (*ti).error = message.as_ptr().cast_mut().cast() };
            error.to_errno()
        }
    }
}

unsafe extern "C" fn dtr<T: Target>(ti: *mut bindings::dm_target) {
    // SAFETY: Between `ctr` and the end of this function.
    unsafe { target::<T>(ti) }.stop();
    // SAFETY: `private` is from `ctr`, and this is the last use of the target.
    drop(unsafe { KBox::<T>::from_raw((*ti).private.cast()) });
}

unsafe extern "C" fn map<T: Target>(ti: *mut bindings::dm_target, bio: *mut bindings::bio) -> c_int {
    let Some(bio) = NonNull::new(bio) else { return EIO.to_errno() };
    // SAFETY: Device-mapper hands over a clone with as much room as `ctr` asked for.
    let bio = unsafe {
        let start = bindings::wb_target_offset(ti, bindings::wb_bio_sector(bio.as_ptr()));
        bindings::wb_bio_set_sector(bio.as_ptr(), start);
        Bio::first(bio)
    };
    // SAFETY: Between `ctr` and `dtr`.
    match unsafe { target::<T>(ti) }.map(Mapping { bio, map: PhantomData }) {
        Outcome::Submitted => bindings::WB_MAPIO_SUBMITTED as c_int,
        Outcome::Remapped(bio) => {
            bio.into_raw();
            bindings::WB_MAPIO_REMAPPED as c_int
        }
    }
}

unsafe extern "C" fn end_io<T: Target>(
    ti: *mut bindings::dm_target,
    bio: *mut bindings::bio,
    status: *mut bindings::blk_status_t,
) -> c_int {
    let Some(bio) = NonNull::new(bio) else { return bindings::WB_ENDIO_DONE as c_int };
    // Another thread may end a bio that is kept at once, and then the target may be dropped while this is not
    // over.
    let _ending = Ending::begin();
    // SAFETY: The bio has been through `map`, and nothing else uses it now. The target has its devices until
    // `dtr`. `status` is valid for the call.
    let (bio, error) = unsafe { (Bio::<T::PerBio>::again(bio), bindings::wb_status_to_errno(*status)) };
    // SAFETY: Between `ctr` and `dtr`.
    match unsafe { target::<T>(ti) }.end_io(bio, kernel::error::to_result(error)) {
        Returned::Ends(bio, result) => {
            bio.into_raw();
            if let Err(e) = result {
                if error == 0 {
                    // SAFETY: `status` is valid for the call.
                    unsafe { *status = bindings::wb_errno_to_status(e.to_errno()) };
                }
            }
            bindings::WB_ENDIO_DONE as c_int
        }
        Returned::Kept => bindings::WB_ENDIO_INCOMPLETE as c_int,
    }
}

unsafe extern "C" fn postsuspend<T: Target>(ti: *mut bindings::dm_target) {
    // SAFETY: Between `ctr` and `dtr`.
    unsafe { target::<T>(ti) }.suspended();
}

unsafe extern "C" fn suspending<T: Target>(ti: *mut bindings::dm_target) {
    // SAFETY: Between `ctr` and `dtr`.
    unsafe { target::<T>(ti) }.suspending(true);
}

unsafe extern "C" fn not_suspending<T: Target>(ti: *mut bindings::dm_target) {
    // SAFETY: Between `ctr` and `dtr`.
    unsafe { target::<T>(ti) }.suspending(false);
}

unsafe extern "C" fn resume<T: Target>(ti: *mut bindings::dm_target) {
    // SAFETY: Between `ctr` and `dtr`, and so `ti` is valid.
    unsafe { target::<T>(ti).resume(bindings::wb_target_is_alone(ti)) }
}

unsafe extern "C" fn status<T: Target>(
    ti: *mut bindings::dm_target,
    kind: bindings::status_type_t,
    _flags: c_uint,
    result: *mut c_char,
    max: c_uint,
) {
    // SAFETY: Between `ctr` and `dtr`.
    let target = unsafe { target::<T>(ti) };
    // SAFETY: Device-mapper passes a buffer of `max` bytes.
    unsafe {
        write_text(result, max, |out| match kind {
            bindings::status_type_t_STATUSTYPE_INFO => target.status(StatusKind::Info, out),
            bindings::status_type_t_STATUSTYPE_TABLE => target.status(StatusKind::Table, out),
            _ => (),
        });
    }
}

unsafe extern "C" fn message<T: Target>(
    ti: *mut bindings::dm_target,
    argc: c_uint,
    argv: *mut *mut c_char,
    result: *mut c_char,
    max: c_uint,
) -> c_int {
    // SAFETY: Between `ctr` and `dtr`.
    let target = unsafe { target::<T>(ti) };
    let question = {
        // SAFETY: Device-mapper passes `argc` words, at least one.
        let words = if argc == 0 { &[] } else { unsafe { core::slice::from_raw_parts(argv, argc as usize) } };
        target.message(&Args { words })
    };
    match question {
        Ok(None) => 0,
        // SAFETY: Device-mapper passes a buffer of `max` bytes. The words of the message may lie in it, but
        // nothing refers to them any more.
        Ok(Some(question)) => unsafe { write_text(result, max, |out| target.answer(question, out)) },
        Err(e) => e.to_errno(),
    }
}

/// Lets `write` write a text into the buffer, and a NUL behind it. Returns 1: there is an answer.
///
/// # Safety
/// Nothing else uses the `max` bytes at `result`.
unsafe fn write_text(result: *mut c_char, max: c_uint, write: impl FnOnce(&mut Writer<'_>)) -> c_int {
    if max == 0 {
        return 1;
    }
    // SAFETY: By this function's contract; all bytes are initialised then.
    let buffer = unsafe {
        result.write_bytes(0, max as usize);
        core::slice::from_raw_parts_mut(result.cast::<u8>(), max as usize)
    };
    // The rest is zero.
    write(&mut Writer { buffer, len: 0 });
    1
}

unsafe extern "C" fn iterate_devices<T: Target>(
    ti: *mut bindings::dm_target,
    callout: bindings::iterate_devices_callout_fn,
    data: *mut c_void,
) -> c_int {
    // SAFETY: Between `ctr` and `dtr`.
    for (device, sectors) in unsafe { target::<T>(ti) }.devices() {
        // SAFETY: The device is the target's, and the rest is passed through.
        let ret = unsafe { bindings::wb_iterate_device(ti, callout, device.as_dm_dev(), sectors, data) };
        if ret != 0 {
            return ret;
        }
    }
    0
}

unsafe extern "C" fn io_hints<T: Target>(ti: *mut bindings::dm_target, limits: *mut bindings::queue_limits) {
    // SAFETY: Between `ctr` and `dtr`. Nothing else uses the limits that device-mapper passes.
    unsafe { bindings::wb_target_set_limits(limits, &target::<T>(ti).limits().into()) }
}

/// A registered kind of target; dropping it unregisters.
pub struct Registration<T: Target> {
    inner: KBox<bindings::target_type>,
    target: PhantomData<T>,
}

// SAFETY: Only device-mapper touches it between registration and unregistration.
unsafe impl<T: Target> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Target> Sync for Registration<T> {}

impl<T: Target> Registration<T> {
    /// Registers the kind of target.
    ///
    /// # Errors
    /// `EEXIST` when there is one of this name, `ENOMEM`.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: All zeroes is a valid `target_type`: null pointers and no functions.
        let zero: bindings::target_type = unsafe { core::mem::zeroed() };
        let mut inner = KBox::new(
            bindings::target_type {
                name: T::NAME.as_ptr().cast(),
                module: module.as_ptr().cast(),
                version: T::VERSION,
                // Without NOWAIT, io_uring and its like would hand every request to a thread of their own, at
                // a third of the speed. Without ALWAYS_WRITEABLE, a read-only table would be written to: by a
                // resume, by writeback.
                features: u64::from(bindings::DM_TARGET_NOWAIT | bindings::DM_TARGET_ALWAYS_WRITEABLE),
                ctr: Some(ctr::<T>),
                dtr: Some(dtr::<T>),
                map: Some(map::<T>),
                end_io: Some(end_io::<T>),
                presuspend: Some(suspending::<T>),
                presuspend_undo: Some(not_suspending::<T>),
                postsuspend: Some(postsuspend::<T>),
                resume: Some(resume::<T>),
                status: Some(status::<T>),
                message: Some(message::<T>),
                iterate_devices: Some(iterate_devices::<T>),
                io_hints: Some(io_hints::<T>),
                ..zero
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The `target_type` stays where it is until it is unregistered.
        kernel::error::to_result(unsafe { bindings::dm_register_target(&mut *inner) })?;
        Ok(Self { inner, target: PhantomData })
    }
}

impl<T: Target> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`. No target of this kind exists, because each holds a reference to the
        // module.
        unsafe { bindings::dm_unregister_target(&mut *self.inner) }
    }
}
