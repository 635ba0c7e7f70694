// SPDX-License-Identifier: GPL-2.0-only

//! Threads.

use super::clock::Waiter;
use super::memory::Box;
use super::simulation;
use super::sync::{locked, Condvar};
use super::Work;
use super::{Result, ENOMEM};
use core::cell::Cell;
use core::ffi::CStr;
use core::sync::atomic::Ordering;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

/// In the kernel this makes the calling thread run before other runnable threads. Here it does nothing.
pub fn hurry(_hurries: bool) {}

/// Whether the calling [`Thread`] should return.
pub fn should_stop() -> bool {
    Waiter::mine().stop.load(Ordering::SeqCst)
}

std::thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// The place for the result of a thread.
struct End<R> {
    result: Mutex<Option<R>>,
    is_there: Condvar,
}

/// A thread that another one can wait for.
pub struct JoinHandle<R> {
    end: Arc<End<R>>,
    /// None in a simulation.
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<R> JoinHandle<R> {
    /// Waits until the thread has returned, and returns its result.
    pub fn join(self) -> R {
        if let Some(thread) = self.thread {
            // The thread does not panic: see `spawn`.
            let _ = thread.join();
        }
        let mut result = locked(&self.end.result);
        loop {
            match result.take() {
                Some(result) => return result,
                None => result = self.end.is_there.wait(&self.end.result, result),
            }
        }
    }
}

/// Starts a thread; in a simulation, a task of it. A panic in it ends the process, as it would end the
/// machine: threads that wait for this one would wait for ever.
///
/// # Errors
/// `ENOMEM`.
pub fn spawn<R: Send + 'static>(name: &str, f: impl FnOnce() -> R + Send + 'static) -> Result<JoinHandle<R>> {
    let end = Arc::new(End { result: Mutex::new(None), is_there: Condvar::default() });
    let to = end.clone();
    let work = move || {
        let result = f();
        *locked(&to.result) = Some(result);
        to.is_there.notify_all();
    };
    let thread = if simulation::is_on() {
        simulation::spawn(name, work);
        None
    } else {
        Some(spawn_thread(name, work)?)
    };
    Ok(JoinHandle { end, thread })
}

fn spawn_thread(name: &str, f: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(std::boxed::Box::new(move |info| {
            if !IS_OURS.get() {
                return before(info);
            }
            // Straight to the standard error output, which a test's capture does not hide.
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
            f();
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
            // The thread that stops this one drops the work.
            work as std::boxed::Box<dyn Work>
        })?;
        Ok(Self { waiter, thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.waiter.stop.store(true, Ordering::SeqCst);
        self.waiter.wake();
        drop(self.thread.take().map(JoinHandle::join));
    }
}
