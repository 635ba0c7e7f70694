// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation, played by tests. Outside of a simulation a process is one machine, so a test that hibernates
//! must be the only one in its process.

use super::machine::machine;
use super::sync::locked;
use super::Sleeper;
use super::{Arc, Result};

/// A [`Sleeper`] is told of hibernation until this is dropped.
pub struct Asleep(Arc<dyn Sleeper>);

impl Asleep {
    /// Registers `sleeper`. If the machine is about to hibernate already, it is told at once.
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

/// The machine is about to hibernate, or an image is about to replace this kernel.
pub fn drowse() {
    let machine = machine();
    let mut sleepers = locked(&machine.sleepers);
    sleepers.drowsy = true;
    sleepers.all.iter().for_each(|s| s.drowse());
}

/// User space is frozen. The latest sleeper comes first, because its devices may be on a volume that was
/// registered before. If one cannot rest, the machine has to [`wake`] them all.
pub fn rest() -> bool {
    locked(&machine().sleepers).all.iter().rev().all(|s| s.rest())
}

/// All tasks are frozen, and a snapshot follows; otherwise as [`rest`].
pub fn sleep() -> bool {
    locked(&machine().sleepers).all.iter().rev().all(|s| s.sleep())
}

/// This is the kernel that was told to sleep.
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

/// Whether the calling task hibernates the machine and writes its image. Here no task does.
pub fn is_hibernating() -> bool {
    false
}
