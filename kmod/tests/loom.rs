// SPDX-License-Identifier: GPL-2.0-only

//! The communication between threads and the end of I/O without the engine's lock, in every order that loom
//! finds: all interleavings with up to as many preemptions as each test says, and all values that weakly
//! ordered memory may show.
//!
//! The engine is the module's own source, on loom's atomics. Waiting has no timeouts: a missed wake-up is a
//! deadlock, which loom reports. `LOOM_LOG=trace` shows the steps of a run that fails.

mod cells;

use cells::{block_of, engine, thread, Arc, Cell, Event, Mutex, NR_SEGMENTS, SEGMENT_BLOCKS};
use loom::model::Builder;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use writeboost::engine::checks::{Checks, Verdict};
use writeboost::engine::flight::{Doubts, Flights, Landing, Pending};
use writeboost::engine::log::{Claim, Io};
use writeboost::engine::read::Run;
use writeboost::engine::reclaim::Batch;
use writeboost::engine::{Engine, Entry};
use writeboost::format::{Block, Seq, Slot, BLOCK, BLOCK_SECTORS};
use writeboost::host::Shared;

/// Checks `f` in all orders with at most `preemptions` preemptions, and prints their number.
fn check(what: &str, preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let runs = std::sync::Arc::new(AtomicU64::new(0));
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    let started = Instant::now();
    builder.check({
        let runs = runs.clone();
        move || {
            runs.fetch_add(1, Ordering::Relaxed);
            f();
        }
    });
    println!("{what}: {} orders in {:.1} s", runs.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
}

/// A record that [`Engine::poll`] might hand out.
fn record(seq: u64) -> Io {
    Io::Record { seq: Seq(seq), slot: Slot(0), blocks: 2, buffer: 0, offset: 0, fua: seq % 2 == 1 }
}

// Two records and a flush end while the commit thread looks. It collects each end once, sees the effects of
// each I/O, and never sleeps over an end.
#[test]
fn landings() {
    check("landings", Some(2), || {
        let flights = Arc::new(Flights::new(Doubts::new().unwrap()).unwrap());
        let commit = Arc::new(Event::new());
        // The effect of an I/O on memory: the device reads the buffer, the bio is given back.
        let bios: [Arc<Cell<u32>>; 2] = std::array::from_fn(|_| Arc::new(Cell::new("a bio", 0)));
        let io = [record(1), Io::Flush { upto: Seq(7) }];
        let ends: Vec<_> = io
            .iter()
            .zip(&bios)
            .map(|(io, bio)| {
                let tag = flights.take_off(io);
                let (flights, commit, bio) = (flights.clone(), commit.clone(), bio.clone());
                thread::spawn(move || {
                    bio.write(1);
                    flights.land(tag, true);
                    commit.notify();
                })
            })
            .collect();
        let mut landed = Vec::new();
        while landed.len() < 2 {
            let seen = commit.count();
            let before = landed.len();
            flights.collect(|landing| landed.push(landing));
            for landing in &landed[before..] {
                match *landing {
                    Landing::Record { seq, fua, ok } => {
                        assert_eq!((seq, fua, ok), (Seq(1), true, true));
                        assert_eq!(bios[0].read(), 1);
                    }
                    Landing::Flush { upto, ok } => {
                        assert_eq!((upto, ok), (Seq(7), true));
                        assert_eq!(bios[1].read(), 1);
                    }
                }
            }
            if landed.len() == before {
                commit.wait(seen);
            }
        }
        assert!(!flights.is_flying());
        for end in ends {
            end.join().unwrap();
        }
    });
}

// The task that sends collects the I/Os that are over at once, and leaves the others to the thread. No end is
// forgotten.
#[test]
fn who_sends_watches() {
    check("who sends watches", Some(3), || {
        let flights = Arc::new(Flights::new(Doubts::new().unwrap()).unwrap());
        let commit = Arc::new(Event::new());
        let bio = Arc::new(Cell::new("a bio", 0));
        flights.watch();
        let tag = flights.take_off(&record(1));
        let end = {
            let (flights, commit, bio) = (flights.clone(), commit.clone(), bio.clone());
            thread::spawn(move || {
                bio.write(1);
                flights.land(tag, true);
                if !flights.is_watched() {
                    commit.notify();
                }
            })
        };
        let mut landed = Vec::new();
        // The task's last look, before the thread sleeps.
        let mut seen = commit.count();
        if flights.unwatch() {
            flights.collect(|landing| landed.push(landing));
            assert_eq!(landed.len(), 1, "what was seen is there");
        }
        while landed.is_empty() {
            commit.wait(seen);
            seen = commit.count();
            flights.collect(|landing| landed.push(landing));
        }
        assert_eq!(landed, [Landing::Record { seq: Seq(1), fua: true, ok: true }]);
        assert_eq!(bio.read(), 1);
        end.join().unwrap();
    });
}

// An entry of the table is used again, as by record `seq + WINDOW`, as soon as it is free.
#[test]
fn a_flight_is_used_again() {
    check("a flight is used again", Some(3), || {
        let flights = Arc::new(Flights::new(Doubts::new().unwrap()).unwrap());
        let commit = Arc::new(Event::new());
        let bio = Arc::new(Cell::new("a bio", 0));
        for seq in [3, 3 + writeboost::format::WINDOW] {
            let tag = flights.take_off(&record(seq));
            bio.write(seq);
            let end = {
                let (flights, commit, bio) = (flights.clone(), commit.clone(), bio.clone());
                thread::spawn(move || {
                    assert_eq!(bio.read(), seq);
                    flights.land(tag, seq == 3);
                    commit.notify();
                })
            };
            let mut landed = None;
            while landed.is_none() {
                let seen = commit.count();
                flights.collect(|landing| landed = Some(landing));
                if landed.is_none() {
                    commit.wait(seen);
                }
            }
            assert_eq!(landed, Some(Landing::Record { seq: Seq(seq), fua: true, ok: seq == 3 }));
            // No join: it would establish the order that the flight has to establish.
            bio.write(0);
            drop(end);
        }
    });
}

// A thread waits for several reads. Afterwards it may read the memory that they have filled.
#[test]
fn pending() {
    check("pending", Some(3), || {
        let pending = Arc::new(Pending::new());
        let landed = Arc::new(Event::new());
        let pages: Vec<_> = (0..2).map(|_| Arc::new(Cell::new("a page", 0))).collect();
        for page in &pages {
            pending.begin();
            let (pending, landed, page) = (pending.clone(), landed.clone(), page.clone());
            thread::spawn(move || {
                page.write(5);
                if pending.end() {
                    landed.notify();
                }
            });
        }
        loop {
            let seen = landed.count();
            if pending.is_over() {
                break;
            }
            landed.wait(seen);
        }
        for page in pages {
            assert_eq!(page.read(), 5);
        }
    });
}

/// A volume in which only the engine is behind a lock. Each block holds one number.
struct Volume {
    engine: Mutex<Engine>,
    checks: Shared<Checks>,
    buffers: Vec<Vec<Cell<u32>>>,
    /// Accesses are not watched: a device is read and written in any order.
    cache: Vec<std::sync::atomic::AtomicU32>,
    /// Locked while a task sends.
    attempts: Mutex<()>,
    commit: Event,
}

const NR_BUFFERS: u8 = 2;
const BLOCKS: u64 = 512;

impl Volume {
    fn new() -> Self {
        let engine = engine(BLOCKS * BLOCK_SECTORS, NR_BUFFERS);
        let buffer = || (0..SEGMENT_BLOCKS).map(|_| Cell::new("a block of a buffer", 0)).collect();
        Self {
            checks: engine.checks(),
            engine: Mutex::new(engine),
            buffers: (0..NR_BUFFERS).map(|_| buffer()).collect(),
            cache: (0..NR_SEGMENTS * SEGMENT_BLOCKS).map(|_| 0.into()).collect(),
            attempts: Mutex::new(()),
            commit: Event::new(),
        }
    }

    /// Copies `n` into all blocks of the claim, whose first block is block `addr`, and stores them.
    fn copy(&self, claim: &Claim, addr: u64, n: u32) {
        for i in 0..claim.blocks {
            self.buffers[usize::from(claim.buffer)][(claim.offset + i) as usize].write(n);
        }
        let mut engine = self.engine.lock().unwrap();
        for i in 0..claim.blocks {
            let entry = Entry { addr: Block(addr + u64::from(i)), mask: 0xff, crc: n };
            engine.stored(claim, claim.slot.plus(i), entry);
        }
        engine.copied(claim);
    }

    /// Sends all that the engine wants written. Returns whether there was anything.
    fn send(&self) -> bool {
        let mut any = false;
        loop {
            let Some(io) = self.engine.lock().unwrap().poll() else { return any };
            any = true;
            match io {
                Io::Record { seq, slot, blocks, buffer, offset, fua } => {
                    let mut header = [0; BLOCK];
                    self.engine.lock().unwrap().encode_header(seq, &mut header);
                    for i in 1..blocks {
                        let data = self.buffers[usize::from(buffer)][(offset + i) as usize].read();
                        assert_eq!(
                            writeboost::format::RecordHeader::entry(&header, i as usize - 1).crc,
                            data,
                            "a torn record is sent"
                        );
                        self.cache[slot.plus(i).index()].store(data, Ordering::SeqCst);
                    }
                    self.engine.lock().unwrap().record_done(seq, fua, true);
                }
                Io::Flush { upto } => self.engine.lock().unwrap().flush_done(upto, true),
            }
        }
    }

    /// The contents of a slot on the cache device at this moment.
    fn on_device(&self, slot: Slot) -> u32 {
        self.cache[slot.index()].load(Ordering::SeqCst)
    }

    /// Fills whole segments, writes them and, without reading anything, calls them written back.
    fn fill(&self, segments: std::ops::Range<u32>) {
        for n in segments {
            let claim = self.engine.lock().unwrap().claim(SEGMENT_BLOCKS).unwrap();
            assert_eq!(claim.blocks, SEGMENT_BLOCKS - 1);
            self.copy(&claim, u64::from(n) * 16, n + 1);
            self.send();
        }
        self.engine.lock().unwrap().flush();
        self.send();
    }

    /// Makes everything in the log clean and its segments free; they keep their contents.
    fn clean(&self) {
        let mut batch = Batch::new((NR_SEGMENTS * SEGMENT_BLOCKS) as usize).unwrap();
        let mut engine = self.engine.lock().unwrap();
        engine.begin_batch(&mut batch);
        while engine.plan_writeback(&mut batch, Seq::MAX) {}
        for item in batch.items() {
            engine.begin_item(&batch, item).unwrap();
            engine.written_back(&batch, item);
        }
        engine.advance_tail(true).unwrap();
        engine.checkpointed(true);
    }
}

// A read from the cache device meets a write that wants the same segment. The write does not wait for the
// read. Whatever data the reader has got, and whatever it sees of the write, it never takes the new data for
// the old ones.
#[test]
fn what_is_read_while_its_segment_is_opened_again_is_not_served() {
    check("a read and its segment's next life", Some(2), || {
        let volume = Arc::new(Volume::new());
        // Once around: behind the head comes a segment that is free, but still serves reads.
        volume.fill(0..11);
        volume.clean();
        volume.fill(11..16);
        let (slot, generation) = match volume.engine.lock().unwrap().lookup(0, BLOCK_SECTORS) {
            Run::Cache { slot, generation, .. } => (slot, generation),
            other => panic!("{other:?}"),
        };
        let old = volume.checks.checksum(slot);
        assert_eq!((old, volume.on_device(slot)), (1, 1));
        let reader = {
            let volume = volume.clone();
            thread::spawn(move || {
                // A point at which other threads can run.
                volume.commit.count();
                let found = volume.on_device(slot);
                let verdict = volume.checks.judge(slot, generation, [found]);
                assert!(verdict != Verdict::Intact || found == old, "{found} is taken for {old}");
                if verdict == Verdict::Gone {
                    // Another lookup finds the block in its present place.
                    let run = volume.engine.lock().unwrap().lookup(0, BLOCK_SECTORS);
                    assert!(!matches!(
                        run,
                        Run::Cache { slot: s, generation: g, .. } if s == slot && g == generation
                    ));
                }
            })
        };
        let claim = volume.engine.lock().unwrap().claim(SEGMENT_BLOCKS).unwrap();
        assert_eq!(claim.slot.segment(SEGMENT_BLOCKS), slot.segment(SEGMENT_BLOCKS));
        volume.copy(&claim, 100, 99);
        volume.send();
        reader.join().unwrap();
        assert_eq!(volume.on_device(slot), 99);
        assert_eq!(volume.checks.judge(slot, generation, [99]), Verdict::Gone);
    });
}

// The same for a thread of our own, which checks behind the lock whether the item that it has read is still
// the planned one.
#[test]
fn an_item_whose_segment_is_opened_again_is_left_out() {
    check("an item and its segment's next life", Some(2), || {
        let volume = Arc::new(Volume::new());
        volume.fill(0..11);
        let mut batch = Batch::new((NR_SEGMENTS * SEGMENT_BLOCKS) as usize).unwrap();
        {
            let engine = volume.engine.lock().unwrap();
            engine.begin_batch(&mut batch);
            while engine.plan_writeback(&mut batch, Seq::MAX) {}
        }
        let item = batch.items()[0];
        assert!(volume.engine.lock().unwrap().begin_item(&batch, &item).is_some());
        // Another thread has moved it meanwhile, and the log has come round.
        volume.clean();
        volume.fill(11..16);
        let mover = {
            let volume = volume.clone();
            thread::spawn(move || {
                volume.commit.count();
                let found = volume.on_device(item.slot);
                let ok = found == volume.checks.checksum(item.slot);
                if ok && volume.engine.lock().unwrap().holds_item(&batch, &item) {
                    assert_eq!(found, 1, "another block's data are moved");
                }
            })
        };
        let claim = volume.engine.lock().unwrap().claim(SEGMENT_BLOCKS).unwrap();
        volume.copy(&claim, 100, 99);
        volume.send();
        mover.join().unwrap();
    });
}

// Two writers copy into one record, side by side, while the commit thread wants to send it. It is sent when
// both are done. Whichever of the three sends, none of them waits for a record that no thread sends.
#[test]
fn a_record_is_sent_when_its_writers_are_done() {
    check("claim, copy, seal, commit", Some(2), || {
        let volume = Arc::new(Volume::new());
        let writers: Vec<_> = (0..2u32)
            .map(|i| {
                let volume = volume.clone();
                thread::spawn(move || {
                    let claim = volume.engine.lock().unwrap().claim(2).unwrap();
                    volume.copy(&claim, 4 * u64::from(i), 10 + i);
                    volume.engine.lock().unwrap().flush();
                    let look = match volume.attempts.try_lock() {
                        // The end of its I/O wakes the thread.
                        Ok(_attempts) => volume.send(),
                        Err(_) => true,
                    };
                    if look {
                        volume.commit.notify();
                    }
                })
            })
            .collect();
        loop {
            let seen = volume.commit.count();
            let sent = {
                let _attempts = volume.attempts.lock().unwrap();
                let sent = volume.send();
                // A point at which other threads can run: loom switches at no point between the end of one
                // lock and that of another.
                volume.commit.count();
                sent
            };
            let state = volume.engine.lock().unwrap().state();
            if state.durable == state.newest && state.dirty == 4 {
                break;
            }
            if !sent {
                volume.commit.wait(seen);
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
        let mut engine = volume.engine.lock().unwrap();
        for (addr, n) in [(0, 10), (1, 10), (4, 11), (5, 11)] {
            match engine.lookup(addr * BLOCK_SECTORS, BLOCK_SECTORS) {
                Run::Pieces(p) => {
                    let p = p.as_slice()[0];
                    assert_eq!(volume.on_device(p.slot), n, "block {}", block_of(addr * 8));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

// A read copies from a RAM buffer that a write wants for another segment.
#[test]
fn a_buffer_is_not_reused_while_it_is_read() {
    check("unpin and reuse of a buffer", Some(2), || {
        let volume = Arc::new(Volume::new());
        // Both buffers are read from, and so both stay; the read of the second one never ends.
        let [(buffer, block), _] = [0, 1].map(|n| {
            volume.fill(n..n + 1);
            match volume.engine.lock().unwrap().lookup(u64::from(n) * 16 * BLOCK_SECTORS, BLOCK_SECTORS) {
                Run::Pieces(p) => p.as_slice()[0].ram.unwrap(),
                other => panic!("{other:?}"),
            }
        });
        let reader = {
            let volume = volume.clone();
            thread::spawn(move || {
                assert_eq!(volume.buffers[usize::from(buffer)][block as usize].read(), 1);
                volume.engine.lock().unwrap().unpin_buffer(buffer);
                volume.commit.notify();
            })
        };
        let claim = loop {
            let seen = volume.commit.count();
            if let Ok(claim) = volume.engine.lock().unwrap().claim(SEGMENT_BLOCKS) {
                break claim;
            }
            volume.commit.wait(seen);
        };
        assert_eq!(claim.buffer, buffer);
        volume.copy(&claim, 0, 50);
        volume.send();
        reader.join().unwrap();
    });
}
