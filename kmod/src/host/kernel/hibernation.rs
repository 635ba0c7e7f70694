// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's notifications of hibernation.

use super::bindings;
use super::Sleeper;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Called once, before anything is registered.
pub(super) fn init() {
    // SAFETY: Called once.
    unsafe { SLEEPERS.init() };
}

struct Sleepers {
    all: KVec<Arc<dyn Sleeper>>,
    drowsy: bool,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init_module` before anything is registered, and so before any use.
    unsafe(uninit) static SLEEPERS: Mutex<Sleepers> = Sleepers { all: KVec::new(), drowsy: false };
}

/// A [`Sleeper`] is told of hibernation until this is dropped.
pub struct Asleep(Arc<dyn Sleeper>);

impl Asleep {
    /// Registers `sleeper`. If the machine is about to hibernate already, it is told at once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(sleeper: Arc<dyn Sleeper>) -> Result<Self> {
        let mut sleepers = SLEEPERS.lock();
        sleepers.all.push(sleeper.clone(), GFP_KERNEL)?;
        if sleepers.drowsy {
            sleeper.drowse();
        }
        Ok(Self(sleeper))
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        SLEEPERS.lock().all.retain(|s| !Arc::ptr_eq(s, &self.0));
    }
}

extern "C" fn drowse() {
    let mut sleepers = SLEEPERS.lock();
    sleepers.drowsy = true;
    sleepers.all.iter().for_each(|s| s.drowse());
}

// The latest first, because its devices may be on a volume that was registered before. If one cannot rest,
// all are woken, also those that do not sleep.
extern "C" fn rest() -> bool {
    SLEEPERS.lock().all.iter().rev().all(|s| s.rest())
}

extern "C" fn sleep() -> bool {
    SLEEPERS.lock().all.iter().rev().all(|s| s.sleep())
}

extern "C" fn stay() {
    SLEEPERS.lock().all.iter().for_each(|s| s.stay());
}

extern "C" fn restored() {
    SLEEPERS.lock().all.iter().for_each(|s| s.restored());
}

extern "C" fn wake() {
    let mut sleepers = SLEEPERS.lock();
    sleepers.drowsy = false;
    sleepers.all.iter().for_each(|s| s.wake());
}

static SLEEP_OPS: bindings::wb_sleep_ops = bindings::wb_sleep_ops {
    drowse: Some(drowse),
    rest: Some(rest),
    sleep: Some(sleep),
    stay: Some(stay),
    restored: Some(restored),
    wake: Some(wake),
};

/// The kernel tells the module of hibernation until this is dropped.
pub struct Hibernation(());

impl Hibernation {
    /// Asks the kernel for notifications.
    ///
    /// # Errors
    /// `ENOMEM`, mostly.
    pub fn new() -> Result<Self> {
        // SAFETY: The functions in `SLEEP_OPS` exist as long as the module does, and the drop below ends the
        // calls before that. `init_module` was called before.
        kernel::error::to_result(unsafe { bindings::wb_sleep_init(&raw const SLEEP_OPS) })?;
        Ok(Self(()))
    }
}

impl Drop for Hibernation {
    fn drop(&mut self) {
        // SAFETY: Once, after the `wb_sleep_init` of `new`.
        unsafe { bindings::wb_sleep_exit() }
    }
}

/// Whether the current task is the one that hibernates the machine and writes its image.
pub fn is_hibernating() -> bool {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_task_hibernates() }
}
