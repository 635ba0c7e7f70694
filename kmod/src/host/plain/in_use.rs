// SPDX-License-Identifier: GPL-2.0-only

//! What only one volume of this process may have at a time.

use super::clock::sleep_ms;
use super::sync::locked;
use super::{Result, EBUSY};
use std::sync::Mutex;
use std::vec::Vec;

/// What only one volume may have at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A device, by what tells it from others that are open. Two paths to the same bytes are two devices: see
    /// [`Key::Uuid`] and [`Key::Nonce`].
    Device(usize),
    /// The UUID of a volume, by which its cache device is known under any path, and so is a copy of it.
    Uuid([u8; 16]),
    /// The nonce of a format, likewise: it is what tells records of one volume from those of another.
    Nonce(u64),
    /// The right to format. A device that is blank cannot be told from another path to it; with this, who comes second finds
    /// what the first has written.
    Format,
}

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
