// SPDX-License-Identifier: GPL-2.0-only

//! Locks of the kernel, each at a fixed address.
//!
//! Macros make them, because the kernel's lock checker distinguishes locks by the place in the code that
//! makes them.

use core::pin::Pin;
use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::spinlock::SpinLockBackend;
use kernel::sync::lock::{Backend, Guard, Lock};

/// A lock of the kernel's.
pub struct Boxed<T, B: Backend>(Pin<KBox<Lock<T, B>>>);

/// A lock that is held for a short time. Its owner must not sleep.
pub type SpinLock<T> = Boxed<T, SpinLockBackend>;
/// A lock that may be held for long.
pub type Mutex<T> = Boxed<T, MutexBackend>;
/// The mutex is held as long as this exists.
pub type MutexGuard<'a, T> = Guard<'a, T, MutexBackend>;

impl<T, B: Backend> Boxed<T, B> {
    /// Makes a lock of `init`, which the macros below provide.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(init: impl PinInit<Lock<T, B>>) -> Result<Self> {
        Ok(Self(KBox::pin_init(init, GFP_KERNEL)?))
    }

    /// Locks it.
    pub fn lock(&self) -> Guard<'_, T, B> {
        self.0.lock()
    }
}

impl<T> Mutex<T> {
    /// Locks it if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

/// A [`Mutex`] around a value, with a name: a `Result`.
macro_rules! mutex {
    ($value:expr, $name:literal) => {
        $crate::host::Mutex::of(::kernel::sync::new_mutex!($value, $name))
    };
}
/// A [`SpinLock`] around a value, with a name: a `Result`.
macro_rules! spinlock {
    ($value:expr, $name:literal) => {
        $crate::host::SpinLock::of(::kernel::sync::new_spinlock!($value, $name))
    };
}
pub(crate) use {mutex, spinlock};
