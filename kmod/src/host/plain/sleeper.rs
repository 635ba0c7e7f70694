// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation, played by tests. Outside of a simulation there is one machine in a process, so these tests must be alone in theirs.

use super::machine::machine;
use super::sync::locked;
use super::Sleeper;
use super::{Arc, Result};

/// A [`Sleeper`] is told of hibernation until this is dropped.
pub struct Asleep(Arc<dyn Sleeper>);

impl Asleep {
    /// Tells `sleeper` from now on, and at once when the machine is about to hibernate.
    ///
    /// # Errors
    /// None; the kernel's may have no memory.
    pub fn new(sleeper: Arc<dyn Sleeper>) -> Result<Self> {
        let machine = machine();
        let mut sleepers = locked(&machine.sleepers);
        sleepers.all.push(sleeper.clone());
        if sleepers.drowsy {
            sleeper.drowse();
        }
        Ok(Self(sleeper))
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        locked(&machine().sleepers).all.retain(|s| !Arc::ptr_eq(s, &self.0));
    }
}

/// The machine is about to hibernate, or this kernel to be replaced by an image.
pub fn drowse() {
    let machine = machine();
    let mut sleepers = locked(&machine.sleepers);
    sleepers.drowsy = true;
    sleepers.all.iter().for_each(|s| s.drowse());
}

/// User space is frozen. The latest first, for it may be on one of those before. When one cannot, the machine has to [`wake`] them
/// all.
pub fn rest() -> bool {
    locked(&machine().sleepers).all.iter().rev().all(|s| s.rest())
}

/// All tasks are frozen, and a snapshot follows; otherwise as [`rest`].
pub fn sleep() -> bool {
    locked(&machine().sleepers).all.iter().rev().all(|s| s.sleep())
}

/// This is the kernel that was to sleep.
pub fn stay() {
    locked(&machine().sleepers).all.iter().for_each(|s| s.stay());
}

/// This is the kernel that comes out of the image.
pub fn restored() {
    locked(&machine().sleepers).all.iter().for_each(|s| s.restored());
}

/// Tasks run again.
pub fn wake() {
    let machine = machine();
    let mut sleepers = locked(&machine.sleepers);
    sleepers.drowsy = false;
    sleepers.all.iter().for_each(|s| s.wake());
}

/// Whether it is the calling task that hibernates the machine, and writes its image: nobody does, here.
pub fn is_hibernating() -> bool {
    false
}
