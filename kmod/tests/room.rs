// SPDX-License-Identifier: GPL-2.0-only

//! A whole volume that runs full while a device fails: which writes wait, which are refused, and how a drain
//! ends.
#![cfg(not(any(feature = "loom", feature = "races")))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use writeboost::host::plain::{
    now_ms, simulate, spawn, take_us, Disk, Mapped, MemoryDisk, Request, Result, StatusKind, Ticket, EBUSY,
    EIO,
};
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

type Volume = Mapped<Writeboost>;

const SECTOR: usize = 512;
/// 64 MiB and 9 MiB: without overwritten blocks relocation is never worth it.
const BACKING: u64 = 64 << 11;
const CACHE: usize = 9 << 11;
/// Sectors of one write.
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
        take_us(100);
        Self::fails(&self.reads)?;
        self.disk.read(sector, to)
    }
    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        take_us(100);
        Self::fails(&self.writes)?;
        self.disk.write(sector, from, fua)
    }
    fn flush(&self) -> Result {
        take_us(1000);
        Self::fails(&self.writes)?;
        self.disk.flush()
    }
}

struct World {
    backing: Arc<Failing>,
    cache: Arc<Failing>,
    volume: Arc<Volume>,
    /// Pieces written so far.
    written: u64,
}

impl World {
    fn new() -> Self {
        Self::with(Failing::new(BACKING as usize), Failing::new(CACHE))
    }

    fn with(backing: Arc<Failing>, cache: Arc<Failing>) -> Self {
        let volume = Mapped::create(
            &[("/dev/backing", backing.clone()), ("/dev/cache", cache.clone())],
            "/dev/backing /dev/cache 2 writeback_threshold 0",
        )
        .unwrap();
        volume.resume();
        Self { backing, cache, volume: Arc::new(volume), written: 0 }
    }

    fn piece(i: u64) -> Vec<u8> {
        vec![i as u8 + 1; PIECE as usize * SECTOR]
    }

    fn submit(&mut self) -> Ticket {
        self.written += 1;
        let i = self.written - 1;
        // In no order, so that they are not written back with one write.
        self.volume.submit(Request::write(i * 37 % 1000 * PIECE, &Self::piece(i)))
    }

    /// Writes until a write is refused. Returns how many milliseconds that write has waited.
    fn fill(&mut self) -> u64 {
        for _ in 0..CACHE as u64 / PIECE + 10 {
            let begun_ms = now_ms();
            match self.submit().wait() {
                Ok(_) => (),
                Err(e) => {
                    assert_eq!(e, EIO);
                    self.written -= 1;
                    return now_ms() - begun_ms;
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

    /// All acknowledged data are on the backing device.
    fn check(&self) {
        self.drain().unwrap();
        for i in 0..self.written {
            let mut found = vec![0; PIECE as usize * SECTOR];
            self.backing.disk.read(i * 37 % 1000 * PIECE, &mut found).unwrap();
            assert!(found == Self::piece(i), "piece {i}");
        }
        assert!(self.status("state 0"), "{}", self.volume.status(StatusKind::Info));
    }
}

#[test]
fn a_full_cache_before_a_dead_device_refuses_and_goes_on_when_it_is_back() {
    simulate(1, dead_device);
}

fn dead_device() {
    let mut w = World::new();
    w.backing.writes.store(true, Ordering::SeqCst);
    let waited = w.fill();
    assert!(waited < 9000, "it was known that the device writes nothing: {waited} ms");
    assert!(w.status("full 1") && w.status("state 1"));
    // The next write does not wait for room that will not come.
    let begun_ms = now_ms();
    assert_eq!(w.submit().wait(), Err(EIO));
    w.written -= 1;
    assert!(now_ms() - begun_ms < 5000, "{} ms", now_ms() - begun_ms);
    assert_eq!(w.drain(), Err(EIO));
    w.backing.writes.store(false, Ordering::SeqCst);
    // A resume forgets the earlier results: this write waits for room, and gets it.
    w.volume.suspend();
    w.volume.resume();
    w.submit().wait().unwrap();
    w.check();
}

#[test]
fn a_cache_that_cannot_be_read_is_waited_for_as_long_as_one_has_patience() {
    simulate(1, unreadable_cache);
}

fn unreadable_cache() {
    let mut w = World::new();
    w.volume.flush().unwrap();
    w.cache.reads.store(true, Ordering::SeqCst);
    let waited = w.fill();
    assert!(waited >= 9000, "it might have come back: {waited} ms");
    // As far as is known, the device may have been reset: data that cannot be read back are no longer
    // promised.
    w.cache.reads.store(false, Ordering::SeqCst);
    w.volume.suspend();
    w.volume.resume();
    if w.status("state 2") {
        let World { backing, cache, volume, .. } = w;
        drop(volume);
        let mut again = World::with(backing, cache);
        again.submit().wait().unwrap();
        return again.volume.flush().unwrap();
    }
    w.submit().wait().unwrap();
    w.check();
}

#[test]
fn a_suspend_does_not_wait_for_a_drain() {
    (1..100).for_each(|seed| simulate(seed, suspend_beside_drain));
}

fn suspend_beside_drain() {
    let mut w = World::new();
    for _ in 0..20 {
        w.submit().wait().unwrap();
    }
    for _ in 0..5 {
        let volume = w.volume.clone();
        let drain = spawn("drain", move || volume.message("drop_caches")).unwrap();
        w.volume.suspend();
        let said = drain.join();
        assert!(matches!(said, Ok(_) | Err(EBUSY)), "{said:?}");
        w.volume.resume();
    }
    w.check();
}
