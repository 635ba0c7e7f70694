// SPDX-License-Identifier: GPL-2.0-only

//! Memory: tables, shared values, counters, and the pages that I/O uses.

use super::machine::machine;
use super::simulation;
use super::sync::locked;
use super::{atomic, Error, Result, ENOMEM};
use crate::host::OutOfMemory;
use core::alloc::Layout;
use core::cell::RefCell;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::vec::Vec;

pub use std::sync::Arc;

/// From now on there is memory for so many pieces; `None`, as at first, is without limit. The limit is for
/// memory that the target asks the host for; the host itself always gets the memory that it needs.
pub fn limit_memory(pieces: Option<u64>) {
    *locked(&machine().memory) = pieces;
}

/// Takes memory for one piece.
fn take_memory() -> Result<(), OutOfMemory> {
    match &mut *locked(&machine().memory) {
        None => Ok(()),
        Some(0) => Err(OutOfMemory),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
    }
}

/// Shares `value`.
///
/// # Errors
/// `ENOMEM`.
pub fn arc<T>(value: T) -> Result<Arc<T>> {
    take_memory()?;
    Ok(Arc::new(value))
}

/// A value with an allocation of its own.
#[derive(Debug)]
pub struct Box<T>(std::boxed::Box<T>);

/// Moves `value` into an allocation of its own.
///
/// # Errors
/// `ENOMEM`.
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    take_memory()?;
    Ok(Box(std::boxed::Box::new(value)))
}

/// Moves the value out of its allocation.
pub fn unboxed<T>(place: Box<T>) -> T {
    *place.0
}

impl<T> Box<T> {
    pub(super) fn into_std(this: Self) -> std::boxed::Box<T> {
        this.0
    }
}

impl<T> Deref for Box<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Box<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// An array that grows.
#[derive(Debug)]
pub struct List<T>(std::vec::Vec<T>);

impl<T> List<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(std::vec::Vec::new())
    }

    /// An empty one with room for `n` elements.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_capacity(n: usize) -> Result<Self> {
        let mut v = std::vec::Vec::new();
        take_memory()?;
        v.try_reserve_exact(n).map_err(|_| ENOMEM)?;
        Ok(Self(v))
    }

    /// Appends an element.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, element: T) -> Result {
        take_memory()?;
        self.0.try_reserve(1).map_err(|_| ENOMEM)?;
        self.0.push(element);
        Ok(())
    }

    /// Appends an element if there is room for it.
    ///
    /// # Errors
    /// The element.
    pub fn push_within_capacity(&mut self, element: T) -> Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(element);
        }
        self.0.push(element);
        Ok(())
    }

    /// Takes the last element.
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

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut List<T> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

/// An array whose length is fixed when it is made.
#[derive(Debug)]
pub struct Table<T>(std::vec::Vec<T>);

impl<T> Table<T> {
    /// Makes a table of `len` elements, each made by `f` from its index.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: usize, mut f: impl FnMut(usize) -> T) -> Result<Self, OutOfMemory> {
        let mut v = std::vec::Vec::new();
        take_memory()?;
        v.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
        v.extend((0..len).map(&mut f));
        Ok(Self(v))
    }

    /// As [`Table::new`], for elements that may fail to be made.
    ///
    /// # Errors
    /// The error of `f`, or `ENOMEM`.
    pub fn try_new(len: usize, mut f: impl FnMut(usize) -> Result<T>) -> Result<Self> {
        let mut v = std::vec::Vec::new();
        take_memory()?;
        v.try_reserve_exact(len).map_err(|_| Error::from(OutOfMemory))?;
        for i in 0..len {
            v.push(f(i)?);
        }
        Ok(Self(v))
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// A value with several owners.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Shares `value`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(value: T) -> Result<Self, OutOfMemory> {
        take_memory()?;
        Ok(Self(Arc::new(value)))
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

/// Counters that only grow, and that many threads add to at the same time.
#[derive(Debug)]
pub struct Counters(Table<atomic::AtomicU64>);

impl Counters {
    /// `len` counters, all 0.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: u32) -> Result<Self, OutOfMemory> {
        Ok(Self(Table::new(len as usize, |_| atomic::AtomicU64::new(0))?))
    }

    /// Adds `n` to counter `i`, if there is one.
    pub fn add(&self, i: u32, n: u64) {
        if let Some(counter) = self.0.get(i as usize) {
            counter.fetch_add(n, atomic::Ordering::Relaxed);
        }
    }

    /// The sum that was added to counter `i` so far: at least every addition that the caller can know of. It
    /// is never less than any sum that was returned before, and 0 if there is no such counter.
    pub fn sum(&self, i: u32) -> u64 {
        self.0.get(i as usize).map_or(0, |counter| counter.load(atomic::Ordering::Relaxed))
    }
}

/// In the kernel this tells the processor to fetch the value in the background. Here it does nothing: nothing
/// depends on it.
pub fn prefetch<T>(_: &T) {}

/// Fills `data` with random bytes.
pub fn random(data: &mut [u8]) {
    for bytes in data.chunks_mut(8) {
        let word = if simulation::is_on() {
            simulation::random()
        } else {
            // The random state that protects the standard library's hash tables from attacks.
            RandomState::new().build_hasher().finish()
        };
        let word = word.to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// CRC-32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `crc`, which is 0 at the start.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, data)
}

/// Alignment of pages, in bytes.
const PAGE: usize = 4096;

/// The memory of [`Pages`].
///
/// # Invariants
/// - `start` is from `alloc_zeroed` with `layout`, or dangling if that has no size.
/// - Behind `used` everything is zero.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// Bytes from the start; every part that was ever lent for writing lies within them.
    used: AtomicUsize,
    /// The parts that threads use now.
    #[cfg(feature = "races")]
    meetings: std::sync::Mutex<Vec<(usize, usize, bool)>>,
}

/// Without the feature no meetings are checked.
#[cfg(not(feature = "races"))]
struct Alone;

/// A thread uses a part of some memory while this exists. Others sometimes go first at its beginning and at
/// its end.
#[cfg(feature = "races")]
struct Meeting<'a>(&'a Memory, (usize, usize, bool));

#[cfg(feature = "races")]
impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        simulation::may_give_way();
        let mut meetings = locked(&self.0.meetings);
        if let Some(i) = meetings.iter().position(|meeting| *meeting == self.1) {
            meetings.swap_remove(i);
        }
    }
}

std::thread_local! {
    /// Memory of dropped volumes, kept for later ones: a simulation makes thousands of volumes, which use
    /// little of their memory.
    static GONE: RefCell<HashMap<usize, Vec<Memory>>> = RefCell::new(HashMap::new());
}
/// Most pieces of memory of one size that are kept.
const MOST_GONE: usize = 64;

impl Memory {
    /// Asserts that no other thread uses these bytes, unless all of them only read.
    #[cfg(feature = "races")]
    fn meet(&self, offset: usize, len: usize, writes: bool) -> Meeting<'_> {
        let mine = (offset, len, writes);
        let mut meetings = locked(&self.meetings);
        let other = meetings
            .iter()
            .find(|other| (writes || other.2) && other.0 < offset + len && offset < other.0 + other.1);
        assert!(other.is_none(), "two meet in memory: {mine:?} and {other:?} (offset, length, writes)");
        meetings.push(mine);
        drop(meetings);
        simulation::may_give_way();
        Meeting(self, mine)
    }

    #[cfg(not(feature = "races"))]
    fn meet(&self, _: usize, _: usize, _: bool) -> Alone {
        Alone
    }

    fn with(start: NonNull<u8>, layout: Layout, used: AtomicUsize) -> Self {
        Self {
            start,
            layout,
            used,
            #[cfg(feature = "races")]
            meetings: std::sync::Mutex::default(),
        }
    }

    fn new(layout: Layout) -> Result<Self> {
        take_memory()?;
        let gone = if simulation::is_on() {
            GONE.with_borrow_mut(|gone| gone.get_mut(&layout.size())?.pop())
        } else {
            None
        };
        if let Some(mut memory) = gone {
            let used = core::mem::take(memory.used.get_mut());
            // SAFETY: It is initialised, and nothing else uses it.
            unsafe { core::slice::from_raw_parts_mut(memory.start.as_ptr(), used) }.fill(0);
            return Ok(memory);
        }
        let start = match layout.size() {
            0 => NonNull::dangling(),
            // SAFETY: It has a size.
            _ => NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(ENOMEM)?,
        };
        Ok(Self::with(start, layout, AtomicUsize::new(0)))
    }
}

// SAFETY: It is only memory. The callers of `Pages::with` and `Pages::with_mut` see to it that no two threads
// touch the same part at the same time.
unsafe impl Send for Memory {}
// SAFETY: As above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        let (start, layout, used) = (self.start, self.layout, AtomicUsize::new(*self.used.get_mut()));
        let is_kept = layout.size() != 0
            && simulation::is_on()
            && GONE.with_borrow_mut(|gone| {
                let gone = gone.entry(layout.size()).or_default();
                let is_kept = gone.len() < MOST_GONE;
                if is_kept {
                    gone.push(Self::with(start, layout, used));
                }
                is_kept
            });
        if layout.size() != 0 && !is_kept {
            // SAFETY: By the invariant, and nothing uses it any more.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

/// Whole zeroed pages of memory that several threads use at the same time, each its own part of it.
pub struct Pages(Arc<Memory>);

impl Pages {
    /// Allocates `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize) -> Result<Self> {
        let layout = Layout::from_size_align(len, PAGE).map_err(|_| ENOMEM)?;
        Ok(Self(Arc::new(Memory::new(layout)?)))
    }

    /// Lends `len` bytes from `offset` on to `f` for reading. `None` when they are not all in the pages.
    ///
    /// The callers see to it that no thread writes to these bytes meanwhile: the engine's claims and pins
    /// decide which thread may write.
    pub(crate) fn with<R>(&self, offset: usize, len: usize, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if offset > self.len() || len > self.len() - offset {
            return None;
        }
        let _meeting = self.0.meet(offset, len, false);
        // SAFETY: In range by the check above, and initialised, being zeroed at first. A thread that reads a
        // block of a buffer has pinned it, or has claimed it and finished writing, so that no thread writes
        // to it. The bytes of a bio are its owner's.
        Some(f(unsafe { core::slice::from_raw_parts(self.0.start.as_ptr().add(offset), len) }))
    }

    /// Lends `len` bytes from `offset` on to `f` for writing. `None` when they are not all in the pages.
    ///
    /// The callers see to it that no other thread touches these bytes meanwhile: the engine's claims decide
    /// which thread may.
    pub(crate) fn with_mut<R>(&self, offset: usize, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if offset > self.len() || len > self.len() - offset {
            return None;
        }
        self.0.used.fetch_max(offset + len, Ordering::Relaxed);
        let _meeting = self.0.meet(offset, len, true);
        // SAFETY: In range by the check above, and initialised, being zeroed at first. The engine grants each
        // block of a buffer to one writer at a time, and no thread reads the block there before that writer
        // is done. The bytes of a bio are its owner's.
        Some(f(unsafe { core::slice::from_raw_parts_mut(self.0.start.as_ptr().add(offset), len) }))
    }

    /// Another reference to the same pages, for a bio: the pages exist until the last reference is dropped.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.layout.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "loom"))]
    fn counters_count_what_all_threads_add() {
        let counters = Counters::new(3).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let counters = &counters;
                scope.spawn(move || {
                    for i in 0..1000 {
                        counters.add(i % 2, thread);
                    }
                });
            }
        });
        // There is no counter 3.
        counters.add(3, 1);
        assert_eq!([0, 1, 2, 3].map(|i| counters.sum(i)), [3000, 3000, 0, 0]);
    }

    #[test]
    fn pages_are_zero_and_lend_what_they_have() {
        let pages = Pages::new(5000).unwrap();
        assert_eq!(pages.with(0, 5000, |b| b.iter().all(|&b| b == 0)), Some(true));
        pages.share().with_mut(4096, 904, |b| b.fill(7));
        assert_eq!(pages.with(4095, 2, |b| [b[0], b[1]]), Some([0, 7]));
        assert_eq!(pages.with(5000, 0, <[u8]>::len), Some(0));
        for (offset, len) in [(5000, 1), (5001, 0), (0, 5001), (1, usize::MAX)] {
            assert_eq!(pages.with(offset, len, |_| ()), None);
            assert_eq!(pages.with_mut(offset, len, |_| ()), None);
        }
        assert_eq!(Pages::new(0).unwrap().with(0, 0, <[u8]>::len), Some(0));
    }
}
