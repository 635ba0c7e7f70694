// SPDX-License-Identifier: GPL-2.0-only

//! The host for userspace: the standard library.

use super::OutOfMemory;
use core::ops::{Deref, DerefMut};
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

/// CRC-32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `crc`, which is 0 at the start.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, data)
}
