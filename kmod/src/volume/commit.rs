// SPDX-License-Identifier: GPL-2.0-only

//! The thread that writes records and flushes, and ends who waited for that.

use super::Volume;
use crate::dm::{BioList, EndIo};
use crate::engine::flight::Landing;
use crate::engine::format::BLOCK;
use crate::engine::log::Io;
use crate::engine::RESERVED_SEGMENTS;
use crate::os::{should_stop, Sleep};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Segments that must be free before a write finds none: from here on reclaim is urgent.
pub(super) fn low_water(nr_segments: u32) -> u32 {
    // Above what is reserved: a small cache would never run short, and still be full.
    (nr_segments / 8).max(RESERVED_SEGMENTS + 2)
}

impl EndIo for Volume {
    fn end_io(&self, tag: usize, result: Result) {
        self.flights.land(tag, result.is_ok());
        self.commit.notify();
    }
}

impl Volume {
    pub(super) fn run_commit(this: &Arc<Self>) {
        loop {
            let seen = this.commit.count();
            let landed = this.land();
            let sent = Self::send(this);
            // A checkpoint that could not be written makes the log fail, too, and lands nothing here.
            if landed || this.core.lock().engine.failed() {
                this.end_waiting();
            }
            this.retry_deferred();
            if landed || sent {
                this.progress.notify();
                continue;
            }
            if should_stop() {
                if !this.flights.is_flying() {
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
        self.flights.collect(|landing| {
            let ok = {
                let engine = &mut self.core.lock().engine;
                match landing {
                    Landing::Record { seq, fua, ok } => {
                        engine.record_done(seq, fua, ok);
                        ok
                    }
                    Landing::Flush { upto, ok } => {
                        engine.flush_done(upto, ok);
                        ok
                    }
                }
            };
            if !ok {
                log_err!(
                    "{}: cannot write to the cache device: the volume refuses writes and flushes from now on; \
                     what was flushed before is safe",
                    &*self.disks
                );
            }
            any = true;
        });
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
            let tag = this.flights.take_off(&io);
            match io {
                Io::Record { blocks, buffer, offset, fua, .. } => {
                    let part = (
                        &this.buffers[usize::from(buffer)],
                        offset as usize * BLOCK,
                        blocks as usize * BLOCK,
                    );
                    this.disks.bios.write(&this.disks.cache, sector, part, fua, (this, tag));
                }
                Io::Flush { .. } => this.disks.bios.flush(&this.disks.cache, (this, tag)),
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
