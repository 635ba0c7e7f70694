// SPDX-License-Identifier: GPL-2.0-only

//! Threads.

use super::clock::Waiter;
use super::memory::Box;
use super::Work;
use super::{Result, ENOMEM};
use core::cell::Cell;
use core::ffi::CStr;
use core::sync::atomic::Ordering;
use std::io::Write;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

/// The thread that calls this is to run before others that can, or is like them. Here it is as good as any other.
pub fn hurry(_hurries: bool) {}

/// Whether the [`Thread`] that asks should return.
pub fn should_stop() -> bool {
    Waiter::mine().stop.load(Ordering::SeqCst)
}

std::thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread of the host's. A panic in it ends the process, as it would take the machine with it: those who wait for the
/// thread would wait for ever.
pub(super) fn spawn<R: Send + 'static>(
    name: &str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(std::boxed::Box::new(move |info| {
            if !IS_OURS.get() {
                return before(info);
            }
            // Past what keeps a test's output from being seen.
            let trace = std::backtrace::Backtrace::capture();
            let name = std::thread::current().name().map(std::string::String::from).unwrap_or_default();
            let _ = std::writeln!(std::io::stderr(), "thread {name}: {info}\n{trace}");
            std::process::abort();
        }));
    });
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            IS_OURS.set(true);
            f()
        })
        .map_err(|_| ENOMEM)
}

/// A thread; dropping it stops it and waits for it.
pub struct Thread {
    waiter: Arc<Waiter>,
    thread: Option<JoinHandle<std::boxed::Box<dyn Work>>>,
}

impl Thread {
    /// Starts a thread named `name` that does `work`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn run<W: Work + 'static>(work: Box<W>, name: &CStr) -> Result<Self> {
        let waiter = Waiter::new();
        let mine = waiter.clone();
        let mut work = Box::into_std(work);
        let thread = spawn(&name.to_string_lossy(), move || {
            mine.be_mine();
            work.run();
            // Whoever stops the thread drops it.
            work as std::boxed::Box<dyn Work>
        })?;
        Ok(Self { waiter, thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.waiter.stop.store(true, Ordering::SeqCst);
        self.waiter.wake();
        // It does not panic: see `spawn`.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
