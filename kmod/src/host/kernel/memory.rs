// SPDX-License-Identifier: GPL-2.0-only

//! Memory that lives as long as a volume.

use super::bindings;
use crate::host::OutOfMemory;
use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A value with an allocation of its own.
pub type Box<T> = KBox<T>;

/// Moves `value` into an allocation of its own.
///
/// # Errors
/// `ENOMEM`.
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    Ok(KBox::new(value, GFP_KERNEL)?)
}

/// Moves the value out of its allocation.
pub fn unboxed<T>(value: Box<T>) -> T {
    KBox::into_inner(value)
}

/// Shares `value`.
///
/// # Errors
/// `ENOMEM`.
pub fn arc<T>(value: T) -> Result<Arc<T>> {
    Ok(Arc::new(value, GFP_KERNEL)?)
}

/// A sequence of values that can grow and shrink.
pub struct List<T>(KVec<T>);

impl<T> List<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self(KVec::new())
    }

    /// An empty list with memory for `n` values.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_capacity(n: usize) -> Result<Self> {
        Ok(Self(KVec::with_capacity(n, GFP_KERNEL)?))
    }

    /// Appends a value. Allocates only when the memory that the list has is used up.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, value: T) -> Result {
        Ok(self.0.push(value, GFP_KERNEL)?)
    }

    /// Appends a value if the list has memory for it already, and gives it back otherwise.
    ///
    /// # Errors
    /// The value.
    pub fn push_within_capacity(&mut self, value: T) -> core::result::Result<(), T> {
        self.0.push_within_capacity(value).map_err(|error| error.0)
    }

    /// Takes the last value.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// An array whose length is fixed when it is made. A large one takes only the pages that it needs, where
/// [`KVVec`] may take a power of two.
///
/// # Invariants
/// - `start` is from `wb_table_alloc` with `size` bytes, or dangling if that is 0.
/// - The first `len` elements are initialised, and there is room for them.
///
/// [`KVVec`]: kernel::alloc::KVVec
pub struct Table<T> {
    start: NonNull<T>,
    len: usize,
    size: usize,
}

// SAFETY: It owns its elements, as a vector does.
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T> Table<T> {
    /// Makes a table of `len` elements, each made by `f` from its index.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: usize, mut f: impl FnMut(usize) -> T) -> core::result::Result<Self, OutOfMemory> {
        Self::try_new(len, |i| Ok(f(i))).map_err(|_| OutOfMemory)
    }

    /// As [`Table::new`], for elements that may fail to be made.
    ///
    /// # Errors
    /// The error of `f`, or `ENOMEM`.
    pub fn try_new(len: usize, mut f: impl FnMut(usize) -> Result<T>) -> Result<Self> {
        const { assert!(align_of::<T>() <= align_of::<u64>(), "kmalloc aligns to no more than this") };
        let size = len.checked_mul(size_of::<T>()).ok_or(ENOMEM)?;
        let start = match size {
            0 => NonNull::dangling(),
            // SAFETY: It has no preconditions.
            _ => NonNull::new(unsafe { bindings::wb_table_alloc(size) }).ok_or(ENOMEM)?.cast(),
        };
        let mut table = Self { start, len: 0, size };
        for i in 0..len {
            let element = f(i)?;
            // SAFETY: There is room for `len` elements, aligned as is checked above.
            unsafe { table.start.add(i).write(element) };
            table.len = i.saturating_add(1);
        }
        Ok(table)
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants; nothing uses the elements any more.
        unsafe { core::ptr::drop_in_place(&raw mut **self) };
        if self.size != 0 {
            // SAFETY: By the invariants, and nothing uses it any more.
            unsafe { bindings::wb_table_free(self.start.as_ptr().cast(), self.size) };
        }
    }
}

impl<T> core::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table of {}", self.len())
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: By the invariants; a table whose `start` is dangling has no elements, or elements of size
        // 0.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: By the invariants; a table whose `start` is dangling has no elements, or elements of size
        // 0.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A value with several owners.
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Shares `value`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(value: T) -> core::result::Result<Self, OutOfMemory> {
        Ok(Self(Arc::new(value, GFP_KERNEL).map_err(|_| OutOfMemory)?))
    }
}

impl<T> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Error {
        ENOMEM
    }
}

/// Counters that only grow, and that many processors add to at the same time. Each processor has its own
/// copy, so that no cache line passes from one processor to another.
///
/// # Invariants
/// `start` is from `wb_counters_alloc` for `len` counters.
pub struct Counters {
    start: NonNull<c_void>,
    len: u32,
}

// SAFETY: Each processor adds to its own copy, in one step; reading needs no more than that.
unsafe impl Send for Counters {}
// SAFETY: As above.
unsafe impl Sync for Counters {}

impl Counters {
    /// `len` counters, all 0.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: u32) -> core::result::Result<Self, OutOfMemory> {
        // SAFETY: It has no preconditions but that the caller may sleep.
        let start = NonNull::new(unsafe { bindings::wb_counters_alloc(len) }).ok_or(OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Adds `n` to counter `i`, if there is one. In any context.
    pub fn add(&self, i: u32, n: u64) {
        if i < self.len {
            // SAFETY: There is such a counter, by the invariant.
            unsafe { bindings::wb_counters_add(self.start.as_ptr(), i, n) }
        }
    }

    /// The sum that was added to counter `i` so far: at least every addition that the caller can know of. It
    /// is never less than any sum that was returned before, and 0 if there is no such counter.
    pub fn sum(&self, i: u32) -> u64 {
        if i < self.len {
            // SAFETY: There is such a counter, by the invariant.
            unsafe { bindings::wb_counters_sum(self.start.as_ptr(), i) }
        } else {
            0
        }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: By the invariant, and nothing counts any more.
        unsafe { bindings::wb_counters_free(self.start.as_ptr()) }
    }
}

/// CRC-32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `crc`, which is 0 at the start.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is readable for its length.
    unsafe { bindings::wb_crc32c(crc, data.as_ptr().cast(), data.len()) }
}

/// Tells the processor to fetch `t` in the background.
pub fn prefetch<T>(t: &T) {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_prefetch((&raw const *t).cast()) }
}

/// Fills `data` with random bytes.
pub fn random(data: &mut [u8]) {
    // SAFETY: `data` is writable for its length.
    unsafe { bindings::wb_random(data.as_mut_ptr().cast(), data.len()) }
}

/// Whole zeroed pages of memory that several threads use at the same time, each its own part of it.
///
/// # Invariants
/// `start` is from `wb_pages_alloc` with `len` bytes.
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: It is only memory. The callers of `with_mut` see to it that no two threads touch the same part at
// the same time.
unsafe impl Send for Pages {}
// SAFETY: As above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize) -> Result<Self> {
        // SAFETY: It has no preconditions.
        let start = unsafe { bindings::wb_pages_alloc(len) };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(ENOMEM)?, len })
    }

    /// Lends `len` bytes from `offset` on to `f` for reading. `None` when they are not all in the pages.
    ///
    /// The callers see to it that no thread writes to these bytes meanwhile: the engine's claims and pins
    /// decide which thread may write.
    pub(crate) fn with<R>(&self, offset: usize, len: usize, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if offset > self.len || len > self.len.saturating_sub(offset) {
            return None;
        }
        // SAFETY: In range by the check above, and initialised, being zeroed at first. A thread that reads a
        // block of a buffer has pinned it, or has claimed it and finished writing, so that no thread writes
        // to it.
        Some(f(unsafe { core::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }))
    }

    /// Lends `len` bytes from `offset` on to `f` for writing. `None` when they are not all in the pages.
    ///
    /// The callers see to it that no other thread touches these bytes meanwhile: the engine's claims decide
    /// which thread may.
    pub(crate) fn with_mut<R>(&self, offset: usize, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if offset > self.len || len > self.len.saturating_sub(offset) {
            return None;
        }
        // SAFETY: In range by the check above, and initialised, being zeroed at first. The engine grants each
        // block of a buffer to one writer at a time, and no thread reads the block there before that writer
        // is done.
        Some(f(unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) }))
    }

    /// Address of the byte at `offset`, for a bio; within the pages.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.len);
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: From `wb_pages_alloc` with this length by the invariant, and nothing uses it any more.
        unsafe { bindings::wb_pages_free(self.start.as_ptr().cast(), self.len) }
    }
}
