// SPDX-License-Identifier: GPL-2.0-only

//! Locks of the kernel, each in a place of its own.
//!
//! They are made by macros, for the kernel's lock checker tells locks apart by where in the code they are made.

use core::pin::Pin;
use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::spinlock::SpinLockBackend;
use kernel::sync::lock::{Backend, Guard, Lock};

/// One of them.
pub struct Boxed<T, B: Backend>(Pin<KBox<Lock<T, B>>>);

/// It is held for a short time, and by nobody who sleeps.
pub type SpinLock<T> = Boxed<T, SpinLockBackend>;
/// It may be held for long.
pub type Mutex<T> = Boxed<T, MutexBackend>;
/// While it is there the mutex is held.
pub type MutexGuard<'a, T> = Guard<'a, T, MutexBackend>;

impl<T, B: Backend> Boxed<T, B> {
    /// What `init` makes: see the macros below.
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
    /// Locks it unless somebody else has it.
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
