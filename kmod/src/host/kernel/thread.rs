// SPDX-License-Identifier: GPL-2.0-only

//! Kernel threads.

use super::Work;
use super::{bindings, sleep_ms};
use core::ffi::c_void;
use core::ptr::NonNull;
use kernel::prelude::*;

/// With `hurries`, the calling thread runs before other runnable threads; without, it is like them again. It
/// must not stay so for long.
pub fn hurry(hurries: bool) {
    // SAFETY: It is for the calling thread, and has no other preconditions.
    unsafe { bindings::wb_thread_hurry(hurries) }
}

/// Whether the calling [`Thread`] should return.
pub fn should_stop() -> bool {
    // SAFETY: Called in a thread made by `wb_thread_run` only, as `Work::run` is.
    unsafe { bindings::wb_thread_should_stop() }
}

/// A kernel thread; dropping it stops it and waits for it.
///
/// # Invariants
/// `work` is from `KBox::into_raw`, and `release` takes it back. Only the thread uses it until
/// `wb_thread_stop` has returned.
pub struct Thread {
    task: NonNull<bindings::task_struct>,
    work: *mut c_void,
    release: unsafe fn(*mut c_void),
}

// SAFETY: Any context that may sleep can stop the thread.
unsafe impl Send for Thread {}
// SAFETY: There is nothing to do with a shared reference.
unsafe impl Sync for Thread {}

impl Thread {
    /// Starts a thread named `name` that does `work`.
    ///
    /// # Errors
    /// The error of the kernel, mostly `ENOMEM`.
    pub fn run<W: Work + 'static>(work: KBox<W>, name: &CStr) -> Result<Self> {
        unsafe extern "C" fn main<W: Work>(data: *mut c_void) -> i32 {
            // SAFETY: By the invariant of `Thread` it is kept alive for as long as the thread is, and nothing
            // else uses it.
            let work = unsafe { &mut *data.cast::<W>() };
            work.run();
            // `kthread_stop` needs an existing thread, so the thread does not end before it is told to.
            while !should_stop() {
                sleep_ms(10);
            }
            0
        }
        unsafe fn release<W: Work>(data: *mut c_void) {
            // SAFETY: The caller gives back a pointer of `KBox::into_raw`, once.
            drop(unsafe { KBox::<W>::from_raw(data.cast()) });
        }
        let work = KBox::into_raw(work).cast::<c_void>();
        // SAFETY: `main` is made for the type of `work`, and the name is copied.
        let task = unsafe { bindings::wb_thread_run(Some(main::<W>), work, name.as_ptr().cast()) };
        match kernel::error::from_err_ptr(task).and_then(|task| NonNull::new(task).ok_or(ENOMEM)) {
            Ok(task) => Ok(Self { task, work, release: release::<W> }),
            Err(e) => {
                // SAFETY: No thread was made that could use it.
                unsafe { release::<W>(work) };
                Err(e)
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: The thread does not end before it is told to, so the task is still there.
        unsafe { bindings::wb_thread_stop(self.task.as_ptr()) };
        // The thread itself cannot do this: a thread that is stopped before its first run never runs. SAFETY:
        // By the invariant; the thread has ended.
        unsafe { (self.release)(self.work) };
    }
}
