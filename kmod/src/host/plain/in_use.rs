// SPDX-License-Identifier: GPL-2.0-only

//! Keys: resources that only one volume of this machine may have at a time.

use super::clock::sleep_ms;
use super::machine::machine;
use super::sync::locked;
use super::Key;
use super::{Result, EBUSY};

/// A hold on a [`Key`]; no other volume gets it before this is dropped.
pub struct InUse(Key);

impl InUse {
    /// Takes the key.
    ///
    /// # Errors
    /// `EBUSY` when another volume has it.
    pub fn new(key: Key) -> Result<Self> {
        let machine = machine();
        let mut keys = locked(&machine.in_use);
        if keys.contains(&key) {
            return Err(EBUSY);
        }
        keys.push(key);
        Ok(Self(key))
    }

    /// Waits until no other volume has the key, and takes it.
    ///
    /// # Errors
    /// None; the kernel's has `ERESTARTNOHAND` after a signal.
    pub fn wait_for(key: Key) -> Result<Self> {
        loop {
            match Self::new(key) {
                Err(EBUSY) => sleep_ms(10),
                result => return result,
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        locked(&machine().in_use).retain(|key| *key != self.0);
    }
}
