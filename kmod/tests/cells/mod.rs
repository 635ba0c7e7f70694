// SPDX-License-Identifier: GPL-2.0-only

//! For `loom.rs`: memory that notices two threads using it at once, and a model of the kernel's events.
#![allow(dead_code)]

use writeboost::engine::replay::Replay;
use writeboost::engine::{Engine, Secret};
use writeboost::format::{Checkpoint, Superblock, BLOCK_SECTORS};
use writeboost::host::atomic::{AtomicU32, Ordering};

/// The secret of the index: the same in each run.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

pub use loom::{
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// Blocks per segment and number of segments: the fewest that the format allows.
pub const SEGMENT_BLOCKS: u32 = 16;
pub const NR_SEGMENTS: u32 = 16;

/// An engine with an empty log.
pub fn engine(backing_sectors: u64, nr_buffers: u8) -> Engine {
    let sectors = Superblock::min_cache_sectors(SEGMENT_BLOCKS);
    let sb = Superblock::new(sectors, backing_sectors, SEGMENT_BLOCKS, [7; 16], 99).unwrap();
    assert_eq!(sb.nr_segments, NR_SEGMENTS);
    Replay::with_secret(&sb, Checkpoint::first(sb.nonce), nr_buffers, Secret::new(SECRET)).unwrap().finish().0
}

/// Number of the block that `sector` lies in.
pub fn block_of(sector: u64) -> u64 {
    sector / BLOCK_SECTORS
}

/// Memory that one thread may write to, or several read, at a time. A thread that uses it together with a
/// writer fails the test. Under loom, so does a thread that uses it afterwards without being ordered behind
/// the writer.
pub struct Cell<T> {
    what: &'static str,
    watched: watched::Watched,
    // This lock is never waited for: one thread runs at a time, and none is stopped while it holds the lock.
    value: std::sync::Mutex<T>,
}

impl<T: Copy> Cell<T> {
    pub fn new(what: &'static str, value: T) -> Self {
        Self { what, watched: watched::Watched::new(), value: std::sync::Mutex::new(value) }
    }

    pub fn read(&self) -> T {
        self.watched.read(self.what, || *self.value.lock().unwrap())
    }

    pub fn write(&self, value: T) {
        self.watched.write(self.what, || *self.value.lock().unwrap() = value);
    }

    /// Reads where others may write, for the test itself.
    pub fn peek(&self) -> T {
        *self.value.lock().unwrap()
    }
}

mod watched {
    /// Loom knows which access happens before which, in whatever order they came.
    pub struct Watched(loom::cell::UnsafeCell<()>);

    impl Watched {
        pub fn new() -> Self {
            Self(loom::cell::UnsafeCell::new(()))
        }

        pub fn read<R>(&self, _: &str, f: impl FnOnce() -> R) -> R {
            self.0.with(|_| f())
        }

        pub fn write<R>(&self, _: &str, f: impl FnOnce() -> R) -> R {
            self.0.with_mut(|_| f())
        }
    }
}

/// `host::Event` in the kernel, as `wb_event_*` in `shim.c` implements it: a counter, and a queue with a lock
/// of its own, which is only taken when a thread is in the queue. Waiting has no timeout here, so that a
/// missed wake-up stops the test.
pub struct Event {
    count: AtomicU32,
    queue: Mutex<()>,
    /// Number of threads in the queue: `waitqueue_active` reads it without the lock.
    waiting: AtomicU32,
    wake: Condvar,
}

impl Event {
    pub fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            queue: Mutex::new(()),
            waiting: AtomicU32::new(0),
            wake: Condvar::new(),
        }
    }

    pub fn notify(&self) {
        // Release: `smp_mb__before_atomic`. A thread that sees the count sees what happened before it.
        self.count.fetch_add(1, Ordering::Release);
        // `smp_mb__after_atomic`.
        full_barrier();
        if self.waiting.load(Ordering::Relaxed) != 0 {
            let _queue = self.queue.lock().unwrap();
            self.wake.notify_all();
        }
    }

    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    pub fn wait(&self, seen: u32) {
        if self.count() != seen {
            return;
        }
        let mut queue = self.queue.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // `set_current_state` in `prepare_to_wait_event`.
        full_barrier();
        while self.count() == seen {
            queue = self.wake.wait(queue).unwrap();
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn full_barrier() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}
