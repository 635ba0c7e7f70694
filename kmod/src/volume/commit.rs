// SPDX-License-Identifier: GPL-2.0-only

//! The thread that writes records and flushes, and ends who waited for that.

use super::{Volume, FLYING, IDLE, LANDED, LOST};
use crate::dm::{BioList, EndIo};
use crate::engine::format::{BLOCK, WINDOW};
use crate::engine::log::Io;
use crate::engine::RESERVED_SEGMENTS;
use crate::os::{should_stop, Sleep};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The tag of a flush; records are tagged with twice their sequence number, plus one with FUA.
const FLUSH: usize = usize::MAX;

/// Segments that must be free before a write finds none: from here on reclaim is urgent.
pub(super) fn low_water(nr_segments: u32) -> u32 {
    // Above what is reserved: a small cache would never run short, and still be full.
    (nr_segments / 8).max(RESERVED_SEGMENTS + 2)
}

impl EndIo for Volume {
    fn end_io(&self, tag: usize, result: Result) {
        let flight =
            if tag == FLUSH { &self.flush } else { &self.flights[(tag as u64 / 2 % WINDOW) as usize] };
        flight.state.store(if result.is_ok() { LANDED } else { LOST }, Ordering::Release);
        self.commit.notify();
    }
}

impl Volume {
    pub(super) fn run_commit(this: &Arc<Self>) {
        loop {
            let seen = this.commit.count();
            let landed = this.land();
            let sent = Self::send(this);
            if landed {
                this.end_waiting();
            }
            this.retry_deferred();
            if landed || sent {
                this.progress.notify();
                continue;
            }
            let flying = this.flush.state.load(Ordering::Relaxed) == FLYING
                || this.flights.iter().any(|f| f.state.load(Ordering::Relaxed) == FLYING);
            if should_stop() {
                if !flying {
                    return;
                }
                let _ = this.commit.wait(seen, 100, Sleep::Busy);
            } else {
                let _ = this.commit.wait(seen, 10_000, Sleep::Idle);
            }
        }
    }

    /// Tells the engine of all bios that have returned.
    fn land(&self) -> bool {
        let mut any = false;
        let mut settle = |flight: &super::Flight, f: &mut dyn FnMut(&mut super::Core, u64, bool)| {
            let state = flight.state.load(Ordering::Acquire);
            if state == LANDED || state == LOST {
                let tag = flight.seq.load(Ordering::Relaxed);
                flight.state.store(IDLE, Ordering::Relaxed);
                f(&mut self.core.lock(), tag, state == LANDED);
                if state == LOST {
                    log_err!(
                        "{}: cannot write to the cache device: the volume refuses writes and flushes from now on; \
                         what was flushed before is safe",
                        &*self.disks
                    );
                }
                any = true;
            }
        };
        for flight in self.flights.iter() {
            settle(flight, &mut |core, tag, ok| core.engine.record_done(tag / 2, tag & 1 != 0, ok));
        }
        settle(&self.flush, &mut |core, upto, ok| core.engine.flush_done(upto, ok));
        any
    }

    /// Sends what the engine wants to be written.
    fn send(this: &Arc<Self>) -> bool {
        let mut any = false;
        loop {
            let (io, sector) = {
                let mut core = this.core.lock();
                let Some(io) = core.engine.poll() else { return any };
                let mut sector = 0;
                if let Io::Record { seq, slot, buffer, offset, .. } = io {
                    sector = core.engine.slot_sector(slot);
                    this.buffers[usize::from(buffer)].with_mut(offset as usize * BLOCK, BLOCK, |block| {
                        if let Some(block) = block.first_chunk_mut::<BLOCK>() {
                            core.engine.encode_header(seq, block);
                        }
                    });
                }
                (io, sector)
            };
            any = true;
            match io {
                Io::Record { seq, blocks, buffer, offset, fua, .. } => {
                    let tag = seq * 2 + u64::from(fua);
                    let flight = &this.flights[(seq % WINDOW) as usize];
                    flight.seq.store(tag, Ordering::Relaxed);
                    flight.state.store(FLYING, Ordering::Relaxed);
                    let part = (
                        &this.buffers[usize::from(buffer)],
                        offset as usize * BLOCK,
                        blocks as usize * BLOCK,
                    );
                    this.disks.bios.write(&this.disks.cache, sector, part, fua, (this, tag as usize));
                }
                Io::Flush { upto } => {
                    this.flush.seq.store(upto, Ordering::Relaxed);
                    this.flush.state.store(FLYING, Ordering::Relaxed);
                    this.disks.bios.flush(&this.disks.cache, (this, FLUSH));
                }
            }
        }
    }

    /// Ends the flushes and FUA writes whose data are durable, or all of them with an error when the log has failed.
    fn end_waiting(&self) {
        let mut done = BioList::new();
        let result = {
            let mut core = self.core.lock();
            if core.engine.failed() {
                done = core.waiting.take();
                Err(EIO)
            } else {
                let durable = core.engine.durable();
                while core.waiting.front().is_some_and(|p| p.seq <= durable) {
                    if let Some(bio) = core.waiting.pop() {
                        done.push(bio);
                    }
                }
                Ok(())
            }
        };
        while let Some(bio) = done.pop() {
            bio.end(result);
        }
    }

    /// Goes on with the writes that found no room.
    fn retry_deferred(&self) {
        loop {
            let bio = {
                let mut core = self.core.lock();
                match core.deferred.pop() {
                    Some(bio) => bio,
                    None => {
                        let state = core.engine.state();
                        if state.free_segments >= low_water(state.nr_segments) {
                            self.full.store(false, Ordering::Relaxed);
                        }
                        drop(core);
                        if state.free_segments < low_water(state.nr_segments) {
                            self.reclaim.notify();
                        }
                        return;
                    }
                }
            };
            if self.go_on_writing(bio, true) {
                continue;
            }
            if !self.gives_up() {
                return;
            }
            // It is in front again.
            let bio = self.core.lock().deferred.pop();
            if let Some(bio) = bio {
                bio.end(Err(EIO));
            }
        }
    }

    /// There is no room, and making room has failed: waiting would be for ever.
    fn gives_up(&self) -> bool {
        self.faults.stuck.load(Ordering::Relaxed)
            && self.full.load(Ordering::Relaxed)
            && self.core.lock().engine.is_full()
    }
}
