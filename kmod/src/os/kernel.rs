// SPDX-License-Identifier: GPL-2.0-only

//! The host for the kernel: its allocators, and beyond what the engine needs the threads and events of a volume.

use super::OutOfMemory;
use crate::dm::bindings;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::{PhantomData, PhantomPinned};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::Arc;

pub use core::sync::atomic;

/// An array whose length is fixed when it is made. A large one takes the pages that it needs, where [`KVVec`] may take a power of
/// two.
///
/// # Invariants
/// - `start` is from `wb_table_alloc` with `size` bytes, or dangling if that is 0.
/// - The first `len` elements are initialised, and there is room for them.
///
/// [`KVVec`]: kernel::alloc::KVVec
pub struct Table<T> {
    start: NonNull<T>,
    len: usize,
    size: usize,
}

// SAFETY: It owns its elements, as a vector does.
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T> Table<T> {
    /// Makes a table of `len` elements, each made by `f` from its index.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: usize, mut f: impl FnMut(usize) -> T) -> core::result::Result<Self, OutOfMemory> {
        Self::try_new(len, |i| Ok(f(i))).map_err(|_| OutOfMemory)
    }

    /// As [`Table::new`], for elements that may fail to be made.
    ///
    /// # Errors
    /// What `f` says, or `ENOMEM`.
    pub fn try_new(len: usize, mut f: impl FnMut(usize) -> Result<T>) -> Result<Self> {
        const { assert!(align_of::<T>() <= align_of::<u64>(), "kmalloc aligns to no more than this") };
        let size = len.checked_mul(size_of::<T>()).ok_or(ENOMEM)?;
        let start = match size {
            0 => NonNull::dangling(),
            // SAFETY: It has no preconditions.
            _ => NonNull::new(unsafe { bindings::wb_table_alloc(size) }).ok_or(ENOMEM)?.cast(),
        };
        let mut table = Self { start, len: 0, size };
        for i in 0..len {
            let element = f(i)?;
            // SAFETY: There is room for `len` elements, aligned as is checked above.
            unsafe { table.start.add(i).write(element) };
            table.len = i.saturating_add(1);
        }
        Ok(table)
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants; nobody uses the elements any more.
        unsafe { core::ptr::drop_in_place(&raw mut **self) };
        if self.size != 0 {
            // SAFETY: By the invariants, and nothing uses it any more.
            unsafe { bindings::wb_table_free(self.start.as_ptr().cast(), self.size) };
        }
    }
}

impl<T> core::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table of {}", self.len())
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: By the invariants; what is dangling has no elements, or such of no size.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: By the invariants; what is dangling has no elements, or such of no size.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A value with several owners.
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Shares `value`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(value: T) -> core::result::Result<Self, OutOfMemory> {
        Ok(Self(Arc::new(value, GFP_KERNEL).map_err(|_| OutOfMemory)?))
    }
}

impl<T> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Error {
        ENOMEM
    }
}

/// Counters that only grow, and that many processors add to at the same time: each has its own, so that no line of memory passes
/// from one to the other.
///
/// # Invariants
/// `start` is from `wb_counters_alloc` for `len` counters.
pub struct Counters {
    start: NonNull<c_void>,
    len: u32,
}

// SAFETY: Each processor adds to its own, in one step; reading needs no more than that.
unsafe impl Send for Counters {}
// SAFETY: As above.
unsafe impl Sync for Counters {}

impl Counters {
    /// `len` counters, all 0.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no room for it.
    pub fn new(len: u32) -> core::result::Result<Self, OutOfMemory> {
        // SAFETY: It has no preconditions but that the caller may sleep.
        let start = NonNull::new(unsafe { bindings::wb_counters_alloc(len) }).ok_or(OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Adds `n` to counter `i`, if there is one. In any context.
    pub fn add(&self, i: u32, n: u64) {
        if i < self.len {
            // SAFETY: There is such a counter, by the invariant.
            unsafe { bindings::wb_counters_add(self.start.as_ptr(), i, n) }
        }
    }

    /// What was added to counter `i` so far: all that the caller can know of, and perhaps more. Never less than what anybody was
    /// told before, and 0 if there is no such counter.
    pub fn sum(&self, i: u32) -> u64 {
        if i < self.len {
            // SAFETY: There is such a counter, by the invariant.
            unsafe { bindings::wb_counters_sum(self.start.as_ptr(), i) }
        } else {
            0
        }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: By the invariant, and nobody counts any more.
        unsafe { bindings::wb_counters_free(self.start.as_ptr()) }
    }
}

/// CRC-32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `crc`, which is 0 at the start.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is readable for its length.
    unsafe { bindings::wb_crc32c(crc, data.as_ptr().cast(), data.len()) }
}

/// Lets the processor fetch what is at `t` while it does other things.
pub fn prefetch<T>(t: &T) {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_prefetch((&raw const *t).cast()) }
}

/// Fills `data` with random bytes.
pub fn random(data: &mut [u8]) {
    // SAFETY: `data` is writable for its length.
    unsafe { bindings::wb_random(data.as_mut_ptr().cast(), data.len()) }
}

/// The operation is not supported. Not every kernel that is supported names it in its `kernel` crate.
pub fn not_supported() -> Error {
    Error::from_errno((kernel::bindings::EOPNOTSUPP as i32).wrapping_neg())
}

/// What is on the device is damaged. As [`not_supported`].
pub fn damaged() -> Error {
    Error::from_errno((kernel::bindings::EUCLEAN as i32).wrapping_neg())
}

/// Milliseconds since boot.
pub fn now_ms() -> u64 {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_now_ms() }
}

/// Sleeps.
pub fn sleep_ms(ms: u32) {
    // SAFETY: It has no preconditions but that the caller may sleep.
    unsafe { kernel::bindings::msleep(ms) }
}

/// Sleeps, but not on after a signal.
///
/// # Errors
/// `ERESTARTNOHAND`: `EINTR` for a caller who handles the signal; if there is none, the system call begins again. So it does after
/// a hibernation, for which tasks are stopped as by a signal.
fn sleep_interruptible_ms(ms: u32) -> Result {
    // SAFETY: It has no preconditions but that the caller may sleep.
    if unsafe { bindings::wb_sleep_interruptible(ms) } {
        Ok(())
    } else {
        Err(ERESTARTNOHAND)
    }
}

/// Whether the caller keeps nobody but its own task waiting when it takes long: not in an interrupt.
pub fn may_take_long() -> bool {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_may_take_long() }
}

/// An end of I/O, while it is under way: see [`synchronize`].
pub struct Ending {
    idx: i32,
    /// It is over in the context in which it began.
    context: PhantomData<*mut ()>,
}

impl Ending {
    /// It begins. In any context.
    pub fn begin() -> Self {
        // SAFETY: It has no preconditions.
        Self { idx: unsafe { bindings::wb_end_begin() }, context: PhantomData }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // SAFETY: `begin` has said this number, in this context.
        unsafe { bindings::wb_end_over(self.idx) }
    }
}

/// Waits until every end of I/O that was under way when it was called is over: those of bios of our own, and whatever has an
/// [`Ending`].
pub fn synchronize() {
    // SAFETY: It has no preconditions but that the caller may sleep.
    unsafe { bindings::wb_synchronize() }
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init_module` before the target is registered, and so before any use.
    unsafe(uninit) static IN_USE: Mutex<KVec<Key>> = KVec::new();
}

/// Initialises what is global to the module; called once, before anything else.
pub fn init_module() {
    // SAFETY: Called once.
    unsafe { IN_USE.init() };
    // SAFETY: Called once.
    unsafe { SLEEPERS.init() };
}

/// Somebody who has to know when the machine hibernates. Called one at a time, where one may sleep.
pub trait Sleeper: Send + Sync {
    /// The machine is about to hibernate, or this kernel to be replaced by an image; tasks still run.
    fn drowse(&self);
    /// User space rests, and devices work: whatever takes long ends. False when that cannot be had, and then the machine does not
    /// hibernate.
    fn rest(&self) -> bool;
    /// All other tasks rest. When this has returned true, nothing is written to any device before [`Sleeper::wake`]; false when
    /// that cannot be had, and then the machine does not hibernate. Whether memory is that of an image is not known from then on.
    fn sleep(&self) -> bool;
    /// It is not: this is the kernel that was told to sleep.
    fn stay(&self);
    /// It is, and devices work, but for those that need a task: these still rest.
    fn restored(&self);
    /// Tasks run again, or will soon. Also called without any of the others before.
    fn wake(&self);
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
    /// Tells `sleeper` from now on, and at once when the machine is about to hibernate.
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

// The latest first, for it may be on one of those before. When one cannot, all are woken, whether they sleep or not.
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
    /// Asks the kernel for that.
    ///
    /// # Errors
    /// `ENOMEM`, mostly.
    pub fn new() -> Result<Self> {
        // SAFETY: What it calls is there for as long as the module, and the drop below ends that before; `init_module` was
        // called before.
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

/// Whether it is the current task that hibernates the machine, and writes its image.
pub fn is_hibernating() -> bool {
    // SAFETY: It has no preconditions.
    unsafe { bindings::wb_task_hibernates() }
}

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

/// A hold on a [`Key`]; no other volume gets it before this is dropped.
pub struct InUse(Key);

impl InUse {
    /// Takes the key.
    ///
    /// # Errors
    /// `EBUSY` when somebody has it, `ENOMEM`.
    pub fn new(key: Key) -> Result<Self> {
        let mut keys = IN_USE.lock();
        if keys.contains(&key) {
            return Err(EBUSY);
        }
        keys.push(key, GFP_KERNEL)?;
        Ok(Self(key))
    }

    /// Takes the key as soon as nobody else has it.
    ///
    /// # Errors
    /// `ERESTARTNOHAND` after a signal, `ENOMEM`.
    pub fn wait_for(key: Key) -> Result<Self> {
        loop {
            match Self::new(key) {
                Err(EBUSY) => sleep_interruptible_ms(10)?,
                result => return result,
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.lock().retain(|key| *key != self.0);
    }
}

/// How to wait for an [`Event`].
#[derive(Clone, Copy)]
pub enum Sleep {
    /// A [`Thread`] with nothing to do: also ends when the thread should stop.
    Idle,
    /// Somebody waits for I/O.
    Busy,
    /// Somebody waits who may be sent a signal.
    Interruptible,
}

/// Something that happens again and again, and that several may wait for without missing it.
#[pin_data]
pub struct Event {
    #[pin]
    inner: UnsafeCell<bindings::wb_event>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A `wb_event` is an atomic counter and a wait queue, which has its own lock.
unsafe impl Send for Event {}
// SAFETY: As above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that has not happened yet.
    pub fn new() -> impl PinInit<Self> {
        let init = |slot: *mut Self| {
            // SAFETY: `slot` is valid for writes; the inner event is initialised in place and never moved.
            unsafe { bindings::wb_event_init(UnsafeCell::raw_get(&raw const (*slot).inner)) };
            Ok(())
        };
        // SAFETY: The initialiser initialises the only field that has a value, and does not fail.
        unsafe { pin_init::pin_init_from_closure(init) }
    }

    /// It happens. In any context.
    pub fn notify(&self) {
        // SAFETY: The event was initialised by `new`.
        unsafe { bindings::wb_event_notify(self.inner.get()) }
    }

    /// How often it has happened: look at it first, then at what the event is about, then wait.
    pub fn count(&self) -> i32 {
        // SAFETY: The event was initialised by `new`.
        unsafe { bindings::wb_event_count(self.inner.get()) }
    }

    /// Waits until it has happened since the count was `seen`, at most `timeout_ms` milliseconds.
    ///
    /// # Errors
    /// `ERESTARTNOHAND` after a signal, when [`Sleep::Interruptible`].
    pub fn wait(&self, seen: i32, timeout_ms: u32, sleep: Sleep) -> Result {
        let sleep = match sleep {
            Sleep::Idle => bindings::wb_sleep_WB_SLEEP_IDLE,
            Sleep::Busy => bindings::wb_sleep_WB_SLEEP_BUSY,
            Sleep::Interruptible => bindings::wb_sleep_WB_SLEEP_INTERRUPTIBLE,
        };
        // SAFETY: The event was initialised by `new`.
        kernel::error::to_result(unsafe {
            bindings::wb_event_wait(self.inner.get(), seen, timeout_ms, sleep)
        })
    }
}

/// What a [`Thread`] does, and all that it works with: made before the thread is, so that it never waits for memory.
pub trait Work: Send {
    /// Runs in the thread until [`should_stop`].
    fn run(&mut self);
}

/// The thread that calls this is to run before others that can, or is like them. It is not to be so for long.
pub fn hurry(hurries: bool) {
    // SAFETY: It is for the calling thread, and has no other preconditions.
    unsafe { bindings::wb_thread_hurry(hurries) }
}

/// Whether the [`Thread`] that asks should return.
pub fn should_stop() -> bool {
    // SAFETY: Called in a thread made by `wb_thread_run` only, as `Work::run` is.
    unsafe { bindings::wb_thread_should_stop() }
}

/// A kernel thread; dropping it stops it and waits for it.
///
/// # Invariants
/// `work` is from `KBox::into_raw`, and `release` takes it back. Only the thread uses it until `wb_thread_stop` has returned.
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
    /// Whatever the kernel says, `ENOMEM` mostly.
    pub fn run<W: Work + 'static>(work: KBox<W>, name: &CStr) -> Result<Self> {
        unsafe extern "C" fn main<W: Work>(data: *mut c_void) -> i32 {
            // SAFETY: By the invariant of `Thread` it is kept alive for as long as the thread is, and nobody else uses it.
            let work = unsafe { &mut *data.cast::<W>() };
            work.run();
            // `kthread_stop` needs the thread to be there, so it does not end before it is told to.
            while !should_stop() {
                sleep_ms(10);
            }
            0
        }
        unsafe fn release<W: Work>(data: *mut c_void) {
            // SAFETY: The caller gives back what `KBox::into_raw` has said, once.
            drop(unsafe { KBox::<W>::from_raw(data.cast()) });
        }
        let work = KBox::into_raw(work).cast::<c_void>();
        // SAFETY: `main` takes what `work` is, and the name is copied.
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
        // Not by the thread itself: one that is stopped before it has run for the first time never does.
        // SAFETY: By the invariant; the thread has ended.
        unsafe { (self.release)(self.work) };
    }
}

/// Whole zeroed pages of memory that several threads use at the same time, each its own part of it.
///
/// # Invariants
/// `start` is from `wb_pages_alloc` with `len` bytes.
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: It is only memory; who may touch which part of it is up to the callers of `slice`.
unsafe impl Send for Pages {}
// SAFETY: As above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize) -> Result<Self> {
        // SAFETY: It has no preconditions.
        let start = unsafe { bindings::wb_pages_alloc(len) };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(ENOMEM)?, len })
    }

    /// Lends `len` bytes from `offset` on to `f` for reading. `None` when they are not all in the pages.
    ///
    /// The callers see to it that nobody writes to these bytes meanwhile: the engine's claims and pins say who may.
    pub fn with<R>(&self, offset: usize, len: usize, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if offset > self.len || len > self.len.saturating_sub(offset) {
            return None;
        }
        // SAFETY: In range by the check above, and initialised, being zeroed at first. Who reads a block of a buffer has
        // pinned it, or claimed it and is done writing, so that nobody writes to it.
        Some(f(unsafe { core::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }))
    }

    /// Lends `len` bytes from `offset` on to `f` for writing. `None` when they are not all in the pages.
    ///
    /// The callers see to it that nobody else touches these bytes meanwhile: the engine's claims say who may.
    pub fn with_mut<R>(&self, offset: usize, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if offset > self.len || len > self.len.saturating_sub(offset) {
            return None;
        }
        // SAFETY: In range by the check above, and initialised, being zeroed at first. The engine grants each block
        // of a buffer to one writer at a time, and nobody looks for it there before that writer is done.
        Some(f(unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) }))
    }

    /// Address of the byte at `offset`, for a bio; within the pages.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.len);
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: From `wb_pages_alloc` with this length by the invariant, and nothing uses it any more.
        unsafe { bindings::wb_pages_free(self.start.as_ptr().cast(), self.len) }
    }
}
