// SPDX-License-Identifier: GPL-2.0-only

//! The host for userspace: the standard library.

use super::OutOfMemory;
use core::ops::{Deref, DerefMut};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::{sync::Arc, vec::Vec};

// Under a model checker the very same code runs on atomics that it watches: `tests/loom.rs`, `tests/shuttle.rs`.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub use core::sync::atomic;
#[cfg(feature = "loom")]
pub use loom::sync::atomic;
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use shuttle::sync::atomic;

/// An array whose length is fixed when it is made.
#[derive(Debug)]
pub struct Table<T>(Vec<T>);

impl<T> Table<T> {
    /// Makes a table of `len` elements, each made by `f` from its index.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: usize, mut f: impl FnMut(usize) -> T) -> Result<Self, OutOfMemory> {
        let mut v = Vec::new();
        v.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
        v.extend((0..len).map(&mut f));
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

    /// What was added to counter `i` so far: all that the caller can know of, and perhaps more. Never less than what anybody was
    /// told before, and 0 if there is no such counter.
    pub fn sum(&self, i: u32) -> u64 {
        self.0.get(i as usize).map_or(0, |counter| counter.load(atomic::Ordering::Relaxed))
    }
}

/// Would let the processor fetch what is at `t` while it does other things. Not here: it takes `unsafe`.
pub fn prefetch<T>(_: &T) {}

/// Fills `data` with random bytes.
pub fn random(data: &mut [u8]) {
    for bytes in data.chunks_mut(8) {
        // What keeps the standard library's hash tables from being attacked.
        let word = RandomState::new().build_hasher().finish().to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// CRC-32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `crc`, which is 0 at the start.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(any(feature = "loom", feature = "shuttle")))]
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
        // There is no fourth one.
        counters.add(3, 1);
        assert_eq!([0, 1, 2, 3].map(|i| counters.sum(i)), [3000, 3000, 0, 0]);
    }
}
