// SPDX-License-Identifier: GPL-2.0-only

//! Locks, events, and the ends of I/O.

use super::clock::{now_ms, Waiter};
use super::context::{assert_may_sleep, assert_may_wait_for_io_ends, Ends, Spinning};
use super::machine::machine;
use super::simulation;
use super::Result;
use super::Sleep;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicI32, Ordering};
use core::time::Duration;
use std::sync::{Arc, PoisonError, TryLockError};
use std::vec::Vec;

pub use std::sync::MutexGuard;

/// Takes a mutex of the host's own if it is free. A poisoned one is taken too: a thread that panics leaves
/// nothing half done.
fn try_locked<T>(mutex: &std::sync::Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Locks a mutex of the host's own, in any context.
pub(super) fn locked<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    if !simulation::is_on() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    loop {
        match try_locked(mutex) {
            Some(guard) => return guard,
            None => simulation::contend(),
        }
    }
}

/// The threads that wait for a condition of the data behind a mutex of the host's own.
#[derive(Default)]
pub(super) struct Condvar {
    threads: std::sync::Condvar,
    /// The waiting tasks in a simulation.
    tasks: std::sync::Mutex<Vec<simulation::Id>>,
}

impl Condvar {
    /// Wakes all that wait. In any context.
    pub(super) fn notify_all(&self) {
        if simulation::is_on() {
            core::mem::take(&mut *locked(&self.tasks)).into_iter().for_each(simulation::wake);
        } else {
            self.threads.notify_all();
        }
    }

    /// Wakes one of those that wait. In any context.
    pub(super) fn notify_one(&self) {
        if simulation::is_on() {
            let mut tasks = locked(&self.tasks);
            if !tasks.is_empty() {
                let i = simulation::random() as usize % tasks.len();
                simulation::wake(tasks.swap_remove(i));
            }
        } else {
            self.threads.notify_one();
        }
    }

    /// Waits until it is woken.
    pub(super) fn wait<'a, T>(
        &self,
        mutex: &'a std::sync::Mutex<T>,
        guard: MutexGuard<'a, T>,
    ) -> MutexGuard<'a, T> {
        if simulation::is_on() {
            return self.wait_as_task(mutex, guard, None);
        }
        self.threads.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is woken, at most `ms` milliseconds.
    pub(super) fn wait_ms<'a, T>(
        &self,
        mutex: &'a std::sync::Mutex<T>,
        guard: MutexGuard<'a, T>,
        ms: u64,
    ) -> MutexGuard<'a, T> {
        if simulation::is_on() {
            let until_us = simulation::now_us().saturating_add(ms.saturating_mul(1000));
            return self.wait_as_task(mutex, guard, Some(until_us));
        }
        let wait = self.threads.wait_timeout(guard, Duration::from_millis(ms));
        wait.unwrap_or_else(PoisonError::into_inner).0
    }

    fn wait_as_task<'a, T>(
        &self,
        mutex: &'a std::sync::Mutex<T>,
        guard: MutexGuard<'a, T>,
        until_us: Option<u64>,
    ) -> MutexGuard<'a, T> {
        let me = simulation::current();
        locked(&self.tasks).push(me);
        // No other task runs before the wait has begun.
        drop(guard);
        simulation::wait(until_us);
        locked(&self.tasks).retain(|task| *task != me);
        locked(mutex)
    }
}

/// A lock that is held for a moment: its owner must not sleep, nor take another one.
pub struct SpinLock<T>(std::sync::Mutex<T>);

impl<T> SpinLock<T> {
    /// Puts `value` behind a lock; `spinlock!` gives it a name, too.
    ///
    /// # Errors
    /// None; the kernel's may fail.
    pub fn new(value: T) -> Result<Self> {
        Ok(Self(std::sync::Mutex::new(value)))
    }

    /// Waits until the lock is free.
    #[track_caller]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        simulation::may_give_way();
        // First, so that a thread that locks twice panics instead of waiting for itself.
        let spinning = Spinning::begin();
        SpinLockGuard { guard: locked(&self.0), _spinning: spinning }
    }
}

/// The hold on a [`SpinLock`].
pub struct SpinLockGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    _spinning: Spinning,
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A lock whose owner may sleep.
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Puts `value` behind a lock; `mutex!` gives it a name, too.
    ///
    /// # Errors
    /// None; the kernel's may fail.
    pub fn new(value: T) -> Result<Self> {
        Ok(Self(std::sync::Mutex::new(value)))
    }

    /// Sleeps until the lock is free.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        assert_may_sleep();
        simulation::may_give_way();
        locked(&self.0)
    }

    /// Takes it if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        assert_may_sleep();
        simulation::may_give_way();
        try_locked(&self.0)
    }
}

/// A [`SpinLock`] with a name.
macro_rules! spinlock {
    ($value:expr, $name:literal $(,)?) => {
        $crate::host::SpinLock::new($value)
    };
}
pub(crate) use spinlock;

/// A [`Mutex`] with a name.
macro_rules! mutex {
    ($value:expr, $name:literal $(,)?) => {
        $crate::host::Mutex::new($value)
    };
}
pub(crate) use mutex;

/// Something that happens again and again. Several threads may wait for it, and miss nothing.
pub struct Event {
    count: AtomicI32,
    waiters: std::sync::Mutex<Vec<Arc<Waiter>>>,
}

impl Event {
    /// An event that has not happened yet.
    ///
    /// # Errors
    /// None; the kernel's may fail.
    pub fn new() -> Result<Self> {
        Ok(Self { count: AtomicI32::new(0), waiters: std::sync::Mutex::new(Vec::new()) })
    }

    /// Counts one more occurrence and wakes all threads that wait. In any context.
    pub fn notify(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        // A thread that is not in the list yet looks at the count afterwards.
        locked(&self.waiters).iter().for_each(|waiter| waiter.wake());
    }

    /// How often the event has happened. A thread reads this count first, then looks at the state that the
    /// event is about, then waits.
    pub fn count(&self) -> i32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until the event has happened since the count was `seen`, at most `timeout_ms` milliseconds.
    ///
    /// # Errors
    /// None; the kernel's has `ERESTARTNOHAND` after a signal, when [`Sleep::Interruptible`].
    #[track_caller]
    pub fn wait(&self, seen: i32, timeout_ms: u32, sleep: Sleep) -> Result {
        assert_may_sleep();
        if self.count() != seen {
            return Ok(());
        }
        let me = Waiter::mine();
        locked(&self.waiters).push(me.clone());
        me.wait_until(now_ms() + u64::from(timeout_ms), || {
            self.count() != seen || (sleep == Sleep::Idle && me.stop.load(Ordering::SeqCst))
        });
        locked(&self.waiters).retain(|waiter| !Arc::ptr_eq(waiter, &me));
        Ok(())
    }
}

/// The ends of I/O that are under way, by the phase in which they have begun. None begins in the phase that
/// is over.
#[derive(Default)]
pub(super) struct Phases {
    phase: usize,
    under_way: [u64; 2],
}

/// An end of I/O, while it is under way: see [`wait_for_io_ends`]. A thread may have several.
pub struct Ending {
    phase: usize,
    _ends: Ends,
    /// It ends in the thread in which it began.
    context: PhantomData<*mut ()>,
}

impl Ending {
    /// Begins one. In any context.
    pub fn begin() -> Self {
        let machine = machine();
        let mut phases = locked(&machine.phases);
        let phase = phases.phase;
        phases.under_way[phase] += 1;
        Self { phase, _ends: Ends::begin(), context: PhantomData }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let machine = machine();
        let mut phases = locked(&machine.phases);
        phases.under_way[self.phase] -= 1;
        if phases.under_way[self.phase] == 0 {
            machine.phase_over.notify_all();
        }
    }
}

/// Waits until every end of I/O that was under way at the call is over: those of bios of our own, and every
/// [`Ending`].
#[track_caller]
pub fn wait_for_io_ends() {
    assert_may_wait_for_io_ends();
    let machine = machine();
    let _one = locked(&machine.synchronizes);
    let mut phases = locked(&machine.phases);
    // No end of the other phase is under way: the call before this one has waited for them. So all are in
    // this phase.
    let old = phases.phase;
    phases.phase = 1 - old;
    while phases.under_way[old] != 0 {
        phases = machine.phase_over.wait(&machine.phases, phases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    #[test]
    fn who_synchronizes_waits_for_what_has_begun_and_for_nothing_else() {
        let (begun, has_begun) = mpsc::channel();
        let (ends, may_end) = mpsc::channel::<()>();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let ending = std::thread::spawn(move || {
            let _outer = Ending::begin();
            drop(Ending::begin());
            begun.send(()).unwrap();
            may_end.recv().unwrap();
            is_over.store(true, Ordering::SeqCst);
        });
        has_begun.recv().unwrap();
        let waits = std::thread::spawn(wait_for_io_ends);
        // That thread may not have begun yet, and may then wait for one of these. This does no harm.
        for _ in 0..10 {
            drop(Ending::begin());
            std::thread::sleep(core::time::Duration::from_millis(1));
        }
        assert!(!waits.is_finished());
        ends.send(()).unwrap();
        waits.join().unwrap();
        assert!(over.load(Ordering::SeqCst));
        ending.join().unwrap();
    }

    #[test]
    fn an_event_is_not_missed() {
        let event = Arc::new(Event::new().unwrap());
        let seen = event.count();
        event.notify();
        event.wait(seen, u32::MAX, Sleep::Busy).unwrap();
        let seen = event.count();
        let other = event.clone();
        let thread = std::thread::spawn(move || other.wait(seen, u32::MAX, Sleep::Busy).unwrap());
        event.notify();
        thread.join().unwrap();
        event.wait(event.count(), 1, Sleep::Busy).unwrap();
        assert!(locked(&event.waiters).is_empty());
    }
}
