// SPDX-License-Identifier: GPL-2.0-only

//! What the end of an I/O leaves for the thread that waits for it. I/O ends in any context, where the
//! engine's lock cannot be taken. This and [`super::checks`] are all that passes without the lock.
//!
//! # Invariants
//! - A flight is the commit thread's until it takes off, then the I/O's until it has landed, then the
//!   thread's again: no state of it is ever written by both.
//! - Code that is told that an I/O is over sees all that the I/O did: releases pair with acquires.
//! - The end of an I/O leaves its result here and then wakes the thread, and the thread counts wake-ups
//!   before it looks: so nothing lies here unseen while the thread sleeps. Exception: an I/O that ends while
//!   a watcher is registered does not wake the thread. The watcher clears `WATCHED` and then looks again.
//!   Both use one atomic word, one after the other: either the end of the I/O sees that there is no watcher,
//!   or the watcher sees that something has ended.
//! - When a write or flush has failed, or a read in a way that says nothing of the medium, the device may
//!   have been reset, and have dropped what it had in its cache. So no flush that returns later is believed
//!   until what may have been dropped is written again. Nor is a record with FUA that was under way, for FUA
//!   may be a write and a flush.

use super::log::Io;
use crate::format::{Seq, WINDOW};
use crate::host::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::host::{OutOfMemory, Shared, Table};
use crate::policy::lost::Word;
use crate::policy::seldom::Seldom;

/// The tag of a flush; records are tagged with twice their sequence number, plus one with FUA.
const FLUSH: usize = usize::MAX;

/// One I/O of the commit thread.
#[derive(Debug)]
struct Flight {
    /// A record's tag, or the record up to which a flush makes the log durable. Only the thread touches it.
    what: AtomicU64,
    state: AtomicU32,
    /// The number of doubts when the I/O was submitted.
    doubts: AtomicU32,
}

const IDLE: u32 = 0;
const FLYING: u32 = 1;
const LANDED: u32 = 2;
const LOST: u32 = 3;

impl Flight {
    fn new() -> Self {
        Self { what: AtomicU64::new(0), state: AtomicU32::new(IDLE), doubts: AtomicU32::new(0) }
    }

    fn take_off(&self, what: u64, doubts: u32) {
        self.what.store(what, Ordering::Relaxed);
        self.doubts.store(doubts, Ordering::Relaxed);
        // The I/O is submitted afterwards, which orders this store.
        self.state.store(FLYING, Ordering::Relaxed);
    }

    /// Returns, once, the I/O that has landed, and whether it is believed to have succeeded.
    fn collect(&self) -> Option<(u64, bool)> {
        // Acquire: pairs with `Flights::land`.
        let state = self.state.load(Ordering::Acquire);
        if state != LANDED && state != LOST {
            return None;
        }
        self.state.store(IDLE, Ordering::Relaxed);
        Some((self.what.load(Ordering::Relaxed), state == LANDED))
    }
}

/// An I/O of [`super::Engine::poll`] that is over, and whether it is believed to have succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// For [`super::Engine::record_done`].
    Record {
        /// The record.
        seq: Seq,
        /// Whether it was written with FUA.
        fua: bool,
        /// Whether it is believed to have succeeded.
        ok: bool,
    },
    /// For [`super::Engine::flush_done`].
    Flush {
        /// The log is durable up to this record if the flush is believed.
        upto: Seq,
        /// Whether it is believed to have succeeded.
        ok: bool,
    },
}

/// All I/Os of the commit thread: one for each record that is not yet durable, and one flush.
#[derive(Debug)]
pub struct Flights {
    records: Table<Flight>,
    flush: Flight,
    trust: Trust,
    /// Number of failed writes and flushes when all that they may have cost was last written again; and when
    /// that began.
    verified: AtomicU32,
    verifies: AtomicU32,
    /// Doubts by reads do not count for the next commit: see [`Flights::waive`].
    waives: AtomicU32,
    /// [`WATCHED`] and [`SEEN`].
    watch: AtomicU32,
}

/// A sender is registered as the watcher: it looks itself whether something has landed.
const WATCHED: u32 = 1;
/// Something has landed since the watcher was registered.
const SEEN: u32 = 2;

/// How often a device has failed: what it had in its cache then may be lost. Only an error tells of a reset,
/// and it may be the error of a read.
#[derive(Debug)]
pub struct Doubts {
    count: AtomicU32,
    /// Number of the doubts by writes and flushes.
    failures: AtomicU32,
    by_reads: Seldom,
}

/// Reads cast one doubt in so many milliseconds at most. A place that cannot be read may be read again and
/// again; if each attempt cast a doubt, no flush would ever be believed.
const BY_READS_MS: u64 = 1000;

impl Doubts {
    /// No doubts yet.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new() -> Result<Shared<Self>, OutOfMemory> {
        let [count, failures] = [0, 0].map(AtomicU32::new);
        Shared::new(Self { count, failures, by_reads: Seldom::default() })
    }

    /// A write or a flush has failed. In any context, before the failure is reported.
    pub fn add(&self) {
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A read has failed with this error number, `now_ms` milliseconds since boot. In any context, before the
    /// failure is reported.
    pub fn add_by_read(&self, errno: i32, now_ms: u64) {
        // A device that answers that its medium cannot give the data back has not been reset.
        if Word::of(errno) == Word::Away && self.by_reads.may(now_ms, BY_READS_MS) {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Number of doubts.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Number of doubts by writes and flushes.
    fn failures(&self) -> u32 {
        self.failures.load(Ordering::SeqCst)
    }
}

/// Whether a flush of a device would be believed: only if nothing has failed since the data that it is for
/// were written.
///
/// # Invariant
/// The data that a flush makes durable were written after the last failure before that flush, or are known
/// not to be in doubt. So the order is: [`Trust::renew`], then the writes, then a flush, which counts if
/// there is no new doubt when it returns.
#[derive(Debug)]
pub struct Trust {
    doubts: Shared<Doubts>,
    /// The number of doubts when what they may have cost was last written again.
    settled: AtomicU32,
}

impl Trust {
    /// Trusts the device: no failure so far matters.
    pub fn new(doubts: Shared<Doubts>) -> Self {
        let settled = AtomicU32::new(doubts.count());
        Self { doubts, settled }
    }

    /// For code that writes to the device.
    pub fn doubts(&self) -> Shared<Doubts> {
        self.doubts.clone()
    }

    /// All that may have been lost so far is about to be written again.
    pub fn renew(&self) {
        self.settled.store(self.doubts.count(), Ordering::SeqCst);
    }

    /// Whether no flush would be believed.
    pub fn is_suspect(&self) -> bool {
        self.doubts.count() != self.settled.load(Ordering::SeqCst)
    }
}

impl Flights {
    /// Nothing is in flight to a cache device whose doubts are `doubts`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(doubts: Shared<Doubts>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            records: Table::new(WINDOW as usize, |_| Flight::new())?,
            flush: Flight::new(),
            verified: AtomicU32::new(doubts.failures()),
            verifies: AtomicU32::new(doubts.failures()),
            waives: AtomicU32::new(0),
            trust: Trust::new(doubts),
            watch: AtomicU32::new(0),
        })
    }

    fn of(&self, tag: usize) -> &Flight {
        if tag == FLUSH {
            &self.flush
        } else {
            // The engine has at most `WINDOW` records that are not durable, in a row.
            &self.records[(tag as u64 / 2 % WINDOW) as usize]
        }
    }

    /// The thread is about to submit `io`. Returns the tag to pass to [`Flights::land`].
    pub fn take_off(&self, io: &Io) -> usize {
        let (tag, what) = match *io {
            Io::Record { seq, fua, .. } => {
                let tag = seq.0 * 2 + u64::from(fua);
                (tag as usize, tag)
            }
            Io::Flush { upto } => (FLUSH, upto.0),
        };
        self.of(tag).take_off(what, self.trust.doubts.count());
        tag
    }

    /// For other code that writes to the cache device.
    pub fn doubts(&self) -> Shared<Doubts> {
        self.trust.doubts()
    }

    /// Whether the I/O tagged `tag` is believed to have succeeded. It has returned with success or not, as
    /// `ok` says. In any context, once for each I/O.
    pub fn is_believed(&self, tag: usize, ok: bool) -> bool {
        if !ok {
            self.trust.doubts.add();
            return false;
        }
        let is_doubtful = match tag {
            FLUSH => self.is_suspect(),
            // All records before it were durable when it was sent, so only the failures since then count.
            _ => {
                let before = self.of(tag).doubts.load(Ordering::Relaxed);
                Self::is_commit(tag) && self.trust.doubts.count() != before
            }
        };
        !is_doubtful || (self.waives() && !self.has_failed())
    }

    /// Whether the I/O tagged `tag` is a commit: a flush, or a record with FUA.
    pub fn is_commit(tag: usize) -> bool {
        // `FLUSH` is odd.
        tag & 1 != 0
    }

    /// What may have been lost so far is about to be written again.
    pub fn trust(&self) {
        self.verifies.store(self.trust.doubts.failures(), Ordering::SeqCst);
        self.trust.renew();
    }

    /// All that may have been lost when [`Flights::trust`] was called was there, and is written again.
    pub fn verified(&self) {
        self.verified.store(self.verifies.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether a write or a flush has failed, and what that may have cost is not known to be there.
    pub fn has_failed(&self) -> bool {
        self.trust.doubts.failures() != self.verified.load(Ordering::SeqCst)
    }

    /// Only reads have failed, and for so long that nothing can be read back: their doubts do not count for
    /// the next commit. A device that a read error has reset, that has forgotten something, and that can be
    /// written since but not read, has not been seen; one that cannot be read for a while has.
    pub fn waive(&self) {
        self.waives.store(1, Ordering::SeqCst);
    }

    /// Whether doubts by reads do not count.
    pub fn waives(&self) -> bool {
        self.waives.load(Ordering::SeqCst) != 0
    }

    /// A commit is believed, by a flush or without one. Failures before a flush was sent do not matter any
    /// more.
    pub fn committed(&self, by_flush: bool) {
        if self.waives.swap(0, Ordering::SeqCst) != 0 && by_flush {
            self.trust.settled.store(self.flush.doubts.load(Ordering::Relaxed), Ordering::SeqCst);
        }
    }

    /// Whether no flush would be believed.
    pub fn is_suspect(&self) -> bool {
        self.trust.is_suspect()
    }

    /// The I/O tagged `tag` is over, and `ok` if it is believed. In any context; the caller wakes the thread
    /// afterwards.
    pub fn land(&self, tag: usize, ok: bool) {
        // Release: what the I/O did is done before the result is seen.
        self.of(tag).state.store(if ok { LANDED } else { LOST }, Ordering::Release);
    }

    /// Whether the thread need not be woken for the I/O that has just landed. In any context, after
    /// [`Flights::land`].
    pub fn is_watched(&self) -> bool {
        // Release and acquire: pairs with `unwatch`, which sees what has landed.
        self.watch.fetch_or(SEEN, Ordering::AcqRel) & WATCHED != 0
    }

    /// The caller is about to send an I/O, and will look itself whether it is over at once. One caller at a
    /// time.
    pub fn watch(&self) {
        self.watch.store(WATCHED, Ordering::Release);
    }

    /// The caller watches no more. Returns whether anything has landed meanwhile; the caller has to collect
    /// it.
    pub fn unwatch(&self) -> bool {
        self.watch.swap(0, Ordering::AcqRel) & SEEN != 0
    }

    /// Calls `f` for each I/O that has landed since the last call. For the thread, or the sender that stands
    /// in for it.
    pub fn collect(&self, mut f: impl FnMut(Landing)) {
        for flight in self.records.iter() {
            if let Some((tag, ok)) = flight.collect() {
                f(Landing::Record { seq: Seq(tag / 2), fua: tag & 1 != 0, ok });
            }
        }
        if let Some((upto, ok)) = self.flush.collect() {
            f(Landing::Flush { upto: Seq(upto), ok });
        }
    }

    /// Whether an I/O has taken off and has not landed.
    pub fn is_flying(&self) -> bool {
        let flying = |f: &Flight| f.state.load(Ordering::Relaxed) == FLYING;
        flying(&self.flush) || self.records.iter().any(flying)
    }
}

/// Number of I/Os under way that one thread waits for together.
#[derive(Debug)]
pub struct Pending(AtomicU32);

impl Pending {
    /// None.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The thread is about to submit one more.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One I/O is over. In any context. Returns whether it was the last, and the thread is to be woken.
    pub fn end(&self) -> bool {
        // Release: what the I/O did is done before it is counted.
        self.0.fetch_sub(1, Ordering::Release) == 1
    }

    /// Whether all are over. For the thread only.
    pub fn is_over(&self) -> bool {
        // Acquire: pairs with `end`. A count that falls to 0 has seen every `end`, which all are
        // read-modify-writes.
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

// What happens in one thread; `tests/loom.rs` and `tests/races.rs` cover the rest.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Slot;
    use std::vec::Vec;

    fn collected(flights: &Flights) -> Vec<Landing> {
        let mut all = Vec::new();
        flights.collect(|landing| all.push(landing));
        all
    }

    fn record(seq: u64, fua: bool) -> Io {
        Io::Record { seq: Seq(seq), slot: Slot(1), blocks: 2, buffer: 3, offset: 4, fua }
    }

    #[test]
    fn all_that_may_be_under_way_is_told_of_once() {
        let flights = Flights::new(Doubts::new().unwrap()).unwrap();
        assert!(!flights.is_flying() && collected(&flights).is_empty());
        for first in [1, WINDOW - 1, 1 << 40] {
            let is_fua = |seq| seq % 3 == 0;
            let is_ok = |seq| seq % 5 != 0;
            let tags: Vec<(u64, usize)> = (first..first + WINDOW)
                .map(|seq| (seq, flights.take_off(&record(seq, is_fua(seq)))))
                .collect();
            let flush = flights.take_off(&Io::Flush { upto: Seq(first) });
            assert!(collected(&flights).is_empty());
            // From the last to the first.
            for &(seq, tag) in tags.iter().rev() {
                assert!(flights.is_flying());
                flights.land(tag, is_ok(seq));
                assert_eq!(
                    collected(&flights),
                    [Landing::Record { seq: Seq(seq), fua: is_fua(seq), ok: is_ok(seq) }],
                    "{first}"
                );
                assert!(collected(&flights).is_empty());
            }
            assert!(flights.is_flying());
            for ok in [true, false] {
                flights.land(flush, ok);
                assert!(!flights.is_flying());
                assert_eq!(collected(&flights), [Landing::Flush { upto: Seq(first), ok }]);
                assert_eq!(flights.take_off(&Io::Flush { upto: Seq(first) }), flush);
            }
            flights.land(flush, true);
            assert_eq!(collected(&flights).len(), 1);
        }
    }

    #[test]
    fn no_commit_is_believed_that_returns_after_a_failure() {
        let flights = Flights::new(Doubts::new().unwrap()).unwrap();
        let [plain, fua, flush] = [record(1, false), record(2, true), Io::Flush { upto: Seq(1) }];
        // What is under way when another record, or a checkpoint, fails.
        for checkpoint in [false, true] {
            let tags = [&plain, &fua, &flush].map(|io| flights.take_off(io));
            assert_eq!(tags.map(Flights::is_commit), [false, true, true]);
            assert_eq!(tags.map(|tag| flights.is_believed(tag, true)), [true; 3]);
            if checkpoint {
                flights.doubts().add();
            } else {
                assert!(!flights.is_believed(flights.take_off(&record(3, false)), false));
            }
            assert_eq!(tags.map(|tag| flights.is_believed(tag, true)), [true, false, false]);
            // A record with FUA that is sent afterwards makes itself durable. A flush does that for others.
            assert!(flights.is_suspect());
            let tags = [&plain, &fua, &flush].map(|io| flights.take_off(io));
            assert_eq!(tags.map(|tag| flights.is_believed(tag, true)), [true, true, false]);
            flights.trust();
            assert!(!flights.is_suspect() && flights.is_believed(tags[2], true));
        }
    }

    #[test]
    fn reads_cast_doubt_until_that_is_no_use() {
        let flights = Flights::new(Doubts::new().unwrap()).unwrap();
        let flush = Io::Flush { upto: Seq(4) };
        let (eio, enodata) = (5, 61);
        flights.doubts().add_by_read(enodata, 1000);
        assert!(flights.is_believed(flights.take_off(&flush), true), "the medium has answered");
        flights.doubts().add_by_read(eio, 1000);
        let fua = record(3, true);
        assert!(flights.is_believed(flights.take_off(&fua), true));
        // FUA may be a write and a flush.
        let tag = flights.take_off(&fua);
        flights.doubts().add_by_read(eio, 2000);
        assert!(!flights.is_believed(tag, true));
        flights.waive();
        assert!(flights.is_believed(tag, true));
        flights.committed(false);
        assert!(!flights.waives());
        assert!(flights.is_suspect() && !flights.has_failed());
        assert!(!flights.is_believed(flights.take_off(&flush), true));
        // The records can be read back.
        flights.trust();
        flights.verified();
        assert!(flights.is_believed(flights.take_off(&flush), true));
        // They cannot be read back, and reads go on to fail.
        flights.doubts().add_by_read(eio, 3000);
        flights.waive();
        let tag = flights.take_off(&flush);
        flights.doubts().add_by_read(eio, 4000);
        assert!(flights.is_believed(tag, true));
        flights.committed(true);
        assert!(flights.is_suspect() && !flights.waives(), "the last one was not before it was sent");
        // A write that fails counts, also while doubts by reads are waived.
        flights.waive();
        let tag = flights.take_off(&flush);
        flights.doubts().add();
        assert!(flights.has_failed() && !flights.is_believed(tag, true));
        flights.trust();
        assert!(flights.has_failed(), "it is not known yet what is there");
        flights.verified();
        assert!(!flights.has_failed());
    }

    #[test]
    fn the_last_of_several_wakes_who_waits() {
        let pending = Pending::default();
        assert!(pending.is_over());
        pending.begin();
        pending.begin();
        assert!(!pending.end() && !pending.is_over());
        assert!(pending.end() && pending.is_over());
    }
}
