// SPDX-License-Identifier: GPL-2.0-only

//! A whole volume that runs full while a device fails: who waits, who is refused, and what a drain says.
#![cfg(not(any(feature = "loom", feature = "races")))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use writeboost::host::plain::{Disk, Mapped, MemoryDisk, Request, Result, StatusKind, Ticket, EBUSY, EIO};
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

type Volume = Mapped<Writeboost>;

const SECTOR: usize = 512;
/// 64 MiB and 9 MiB: with nothing overwritten relocation is never worth it.
const BACKING: u64 = 64 << 11;
const CACHE: usize = 9 << 11;
/// So much is written at a time.
const PIECE: u64 = 128;

/// A disk that fails when it is told to.
struct Failing {
    disk: MemoryDisk,
    writes: AtomicBool,
    reads: AtomicBool,
}

impl Failing {
    fn new(sectors: usize) -> Arc<Self> {
        let (writes, reads) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { disk: MemoryDisk::new(sectors), writes, reads })
    }

    fn fails(what: &AtomicBool) -> Result {
        if what.load(Ordering::SeqCst) {
            return Err(EIO);
        }
        Ok(())
    }
}

impl Disk for Failing {
    fn shape(&self) -> Shape {
        self.disk.shape()
    }
    fn limits(&self) -> Limits {
        self.disk.limits()
    }
    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        Self::fails(&self.reads)?;
        self.disk.read(sector, to)
    }
    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        Self::fails(&self.writes)?;
        self.disk.write(sector, from, fua)
    }
    fn flush(&self) -> Result {
        Self::fails(&self.writes)?;
        self.disk.flush()
    }
}

struct World {
    backing: Arc<Failing>,
    cache: Arc<Failing>,
    volume: Volume,
    /// Pieces written so far.
    written: u64,
}

impl World {
    fn new() -> Self {
        let (backing, cache) = (Failing::new(BACKING as usize), Failing::new(CACHE));
        let volume = Mapped::create(
            &[("/dev/backing", backing.clone()), ("/dev/cache", cache.clone())],
            "/dev/backing /dev/cache 2 writeback_threshold 0",
        )
        .unwrap();
        volume.resume();
        Self { backing, cache, volume, written: 0 }
    }

    fn piece(i: u64) -> Vec<u8> {
        vec![i as u8 + 1; PIECE as usize * SECTOR]
    }

    fn submit(&mut self) -> Ticket {
        self.written += 1;
        let i = self.written - 1;
        // In no order, or they were written back with one write.
        self.volume.submit(Request::write(i * 37 % 1000 * PIECE, &Self::piece(i)))
    }

    /// Writes until a write is refused. Says how long that one has waited.
    fn fill(&mut self) -> Duration {
        for _ in 0..CACHE as u64 / PIECE + 10 {
            let begun = Instant::now();
            match self.submit().wait() {
                Ok(_) => (),
                Err(e) => {
                    assert_eq!(e, EIO);
                    self.written -= 1;
                    return begun.elapsed();
                }
            }
        }
        panic!("they all fit: {}", self.volume.status(StatusKind::Info));
    }

    fn status(&self, word: &str) -> bool {
        format!(" {} ", self.volume.status(StatusKind::Info)).contains(&format!(" {word} "))
    }

    fn drain(&self) -> Result {
        self.volume.message("drop_caches").map(|_| ())
    }

    /// All that was acknowledged is on the backing device.
    fn check(&self) {
        self.drain().unwrap();
        for i in 0..self.written {
            let mut found = vec![0; PIECE as usize * SECTOR];
            self.backing.disk.read(i * 37 % 1000 * PIECE, &mut found).unwrap();
            assert!(found == Self::piece(i), "piece {i}");
        }
        assert!(self.status("state ok"), "{}", self.volume.status(StatusKind::Info));
    }
}

#[test]
fn a_full_cache_before_a_dead_device_refuses_and_goes_on_when_it_is_back() {
    let mut w = World::new();
    w.backing.writes.store(true, Ordering::SeqCst);
    let waited = w.fill();
    assert!(waited < Duration::from_secs(9), "it was known that the device writes nothing: {waited:?}");
    assert!(w.status("full 1") && w.status("state degraded"));
    // Nobody waits any more for what will not come.
    let begun = Instant::now();
    assert_eq!(w.submit().wait(), Err(EIO));
    w.written -= 1;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(w.drain(), Err(EIO));
    w.backing.writes.store(false, Ordering::SeqCst);
    // A resume forgets what was found: this one waits for room, and gets it.
    w.volume.suspend();
    w.volume.resume();
    w.submit().wait().unwrap();
    w.check();
}

#[test]
fn a_cache_that_cannot_be_read_is_waited_for_as_long_as_one_has_patience() {
    let mut w = World::new();
    w.volume.flush().unwrap();
    w.cache.reads.store(true, Ordering::SeqCst);
    let waited = w.fill();
    assert!(waited >= Duration::from_secs(9), "it might have come back: {waited:?}");
    w.cache.reads.store(false, Ordering::SeqCst);
    w.volume.suspend();
    w.volume.resume();
    w.submit().wait().unwrap();
    w.check();
}

#[test]
fn a_suspend_does_not_wait_for_a_drain() {
    let mut w = World::new();
    for _ in 0..20 {
        w.submit().wait().unwrap();
    }
    let volume = &w.volume;
    for _ in 0..5 {
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| volume.message("drop_caches"));
            volume.suspend();
            let said = drain.join().unwrap();
            assert!(matches!(said, Ok(_) | Err(EBUSY)), "{said:?}");
        });
        volume.resume();
    }
    w.check();
}
