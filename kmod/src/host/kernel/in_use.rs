// SPDX-License-Identifier: GPL-2.0-only

//! Keys: resources that only one volume of this machine may have at a time.

use super::event::sleep_interruptible_ms;
use super::Key;
use kernel::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init` before the target is registered, and so before any use.
    unsafe(uninit) static IN_USE: Mutex<KVec<Key>> = KVec::new();
}

/// Called once, before the target is registered.
pub(super) fn init() {
    // SAFETY: Called once.
    unsafe { IN_USE.init() };
}

/// A hold on a [`Key`]; no other volume gets it before this is dropped.
pub struct InUse(Key);

impl InUse {
    /// Takes the key.
    ///
    /// # Errors
    /// `EBUSY` when another volume has it, `ENOMEM`.
    pub fn new(key: Key) -> Result<Self> {
        let mut keys = IN_USE.lock();
        if keys.contains(&key) {
            return Err(EBUSY);
        }
        keys.push(key, GFP_KERNEL)?;
        Ok(Self(key))
    }

    /// Waits until no other volume has the key, and takes it.
    ///
    /// # Errors
    /// `ERESTARTNOHAND` after a signal, `ENOMEM`.
    pub fn wait_for(key: Key) -> Result<Self> {
        loop {
            match Self::new(key) {
                Err(EBUSY) => sleep_interruptible_ms(10)?,
                result => return result,
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.lock().retain(|key| *key != self.0);
    }
}
