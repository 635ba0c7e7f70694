// SPDX-License-Identifier: GPL-2.0-only

//! What only one volume of this process may have at a time.

use super::clock::sleep_ms;
use super::sync::locked;
use super::Key;
use super::{Result, EBUSY};
use std::sync::Mutex;
use std::vec::Vec;

static IN_USE: Mutex<Vec<Key>> = Mutex::new(Vec::new());

/// A hold on a [`Key`]; no other volume gets it before this is dropped.
pub struct InUse(Key);

impl InUse {
    /// Takes the key.
    ///
    /// # Errors
    /// `EBUSY` when somebody has it.
    pub fn new(key: Key) -> Result<Self> {
        let mut keys = locked(&IN_USE);
        if keys.contains(&key) {
            return Err(EBUSY);
        }
        keys.push(key);
        Ok(Self(key))
    }

    /// Takes the key as soon as nobody else has it.
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
        locked(&IN_USE).retain(|key| *key != self.0);
    }
}
