// SPDX-License-Identifier: GPL-2.0-only

//! Reads: from RAM at once, from one device by sending the bio there, from several places through the reader thread.
//!
//! # Invariants
//! - Nothing from the cache device is served unless it has matched its checksum.
//! - A read from the cache device is an error only when memory that nobody else can change was looked at. What a device
//!   put into the caller's own pages may be changed there by the caller before it is checked, which is no fault of the
//!   device: the reader thread reads it again into pages of its own, checks it there, and copies.
//! - A slot keeps what it holds, and its checksum, until that is done: its segment stays pinned.
//! - A block that is clean is on the backing device too. When it cannot be read from the cache device, it is forgotten
//!   there, and read from the backing device. A dirty one is never: an older version would come back.

use super::faults::{trouble, Kind};
use super::{until_made, PerBio, Sent, Transfer, Volume, HIT, IN_RAM};
use crate::dm::{Bio, Cursor, Mapping, Outcome, Returned};
use crate::engine::format::{BLOCK, BLOCK_SECTORS, SECTOR};
use crate::engine::read::{Pieces, Run};
use crate::engine::Part;
use crate::os::{crc32c, not_supported, should_stop, Sleep};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

impl Volume {
    /// Takes a read.
    pub fn read(&self, mut bio: Mapping<'_, PerBio>) -> Outcome<PerBio> {
        let (sector, sectors) = (bio.sector(), bio.sectors());
        let mut at = bio.start();
        let mut done = 0;
        while done < sectors {
            let part = Part::first_of(sector + done, sectors - done);
            self.chains.warm(part.addr);
            let run = self.core.lock().engine.lookup(sector + done, sectors - done);
            match run {
                Run::Backing(n) if done == 0 => {
                    bio.accept(n);
                    self.count(0, &bio);
                    bio.data().sent = Sent::Backing;
                    bio.remap(&self.disks.backing, sector);
                    return Outcome::Remapped(bio.into_bio());
                }
                Run::Cache { slot, blocks } if done == 0 => {
                    bio.accept(u64::from(blocks) * BLOCK_SECTORS);
                    self.count(HIT, &bio);
                    let start = bio.start();
                    let data = bio.data();
                    data.at = Some(start);
                    data.slot = slot;
                    data.blocks = blocks;
                    data.sector = sector;
                    data.sent = Sent::Cache;
                    bio.remap(&self.disks.cache, self.slot_sector(slot));
                    return Outcome::Remapped(bio.into_bio());
                }
                Run::Pieces(p) if p.mask() == part.mask() && p.as_slice().iter().all(|p| p.ram.is_some()) => {
                    let start = at;
                    for piece in p.as_slice() {
                        at = start;
                        self.copy_from_ram(&bio, &mut at, &part, piece.mask, piece.ram);
                    }
                    self.unpin(&p);
                    done += u64::from(part.sectors);
                }
                other => {
                    match other {
                        Run::Cache { slot, .. } => self.unpin_slot(slot),
                        Run::Pieces(p) => self.unpin(&p),
                        Run::Backing(_) => (),
                    }
                    if done == 0 {
                        // The reader thread looks it up again, one block of it.
                        bio.accept(part.sectors.into());
                        self.count(HIT, &bio);
                        self.core.lock().reads.push(bio.into_bio());
                        self.reader.notify();
                        return Outcome::Submitted;
                    }
                    break;
                }
            }
        }
        // What could be had from RAM is there; the rest comes as another bio.
        bio.accept(done);
        self.count(HIT | IN_RAM, &bio);
        bio.into_bio().end(Ok(()));
        Outcome::Submitted
    }

    /// Copies the sectors `mask` of the block to the bio, whose part `part` begins at `at`, and moves `at` behind it.
    fn copy_from_ram(
        &self,
        bio: &Bio<PerBio>,
        at: &mut crate::dm::Cursor,
        part: &Part,
        mask: u8,
        ram: Option<(u8, u32)>,
    ) {
        let Some((buffer, block)) = ram else { return };
        self.buffers[usize::from(buffer)].with(block as usize * BLOCK, BLOCK, |from| {
            copy_sectors(bio, at, part, mask, from);
        });
    }

    pub(super) fn unpin_slot(&self, slot: u32) {
        if self.pins.unpin(slot) {
            // The head may wait for this segment.
            self.commit.notify();
        }
    }

    fn unpin(&self, pieces: &Pieces) {
        let mut ram = false;
        for p in pieces.as_slice() {
            match p.ram {
                Some((buffer, _)) => {
                    self.core.lock().engine.unpin_buffer(buffer);
                    ram = true;
                }
                None => self.unpin_slot(p.slot),
            }
        }
        if ram && !self.core.lock().deferred.is_empty() {
            self.commit.notify();
        }
    }

    /// A bio has returned or was ended: checks what came from the cache device. In any context.
    pub fn end_io(&self, mut bio: Bio<PerBio>, result: Result) -> Returned<PerBio> {
        let data = bio.data();
        let (start, slot, blocks) = (data.at, data.slot, data.blocks);
        let sent = core::mem::take(&mut data.sent);
        // Who must not wait is told that he would have to, or that he cannot be told, which is no error.
        let would_wait = |e| (e == EAGAIN || e == not_supported()) && !bio.may_wait();
        match (sent, result) {
            (Sent::Backing, Err(e)) if !would_wait(e) => {
                self.fault(Kind::BackingRead);
                if self.faults.may_log(Kind::BackingRead) {
                    log_err!("{}: cannot read from the backing device", &*self.disks);
                }
            }
            (Sent::Cache, Err(e)) if would_wait(e) => self.unpin_slot(slot),
            (Sent::Cache, result) => {
                let is_intact = |mut at: Cursor| {
                    (slot..slot + blocks).all(|s| bio.crc32c(&mut at, BLOCK) == self.pins.checksum(s))
                };
                if result.is_err() || !start.is_some_and(is_intact) {
                    // The slots stay pinned.
                    self.returned.push(bio);
                    self.reader.notify();
                    return Returned::Kept;
                }
                self.unpin_slot(slot);
            }
            _ => (),
        }
        Returned::Ends(bio, result)
    }

    pub(super) fn cache_read_failed(&self, slot: u32) {
        self.fault(Kind::CacheRead);
        if self.faults.may_log(Kind::CacheRead) {
            log_err!(
                "{}: cannot read slot {} of the cache device: I/O error or wrong checksum",
                &*self.disks,
                slot
            );
        }
    }

    pub(super) fn run_reader(&self) {
        let Some(transfer) = until_made(&self.reader, || Transfer::new(2)) else { return };
        while !should_stop() {
            let seen = self.reader.count();
            let mut returned = self.returned.take();
            while let Some(bio) = returned.pop() {
                self.read_again(&transfer, bio);
            }
            let next = self.core.lock().reads.pop();
            match next {
                Some(bio) => {
                    let part = Part::first_of(bio.sector(), bio.sectors());
                    let result = self.read_part(&transfer, &bio, bio.start(), &part);
                    bio.end(result);
                }
                None => {
                    let _ = self.reader.wait(seen, 10_000, Sleep::Idle);
                }
            }
        }
    }

    /// Reads once more what did not come well from the cache device, block by block.
    fn read_again(&self, t: &Arc<Transfer>, mut bio: Bio<PerBio>) {
        let &mut PerBio { at, slot, blocks, sector, .. } = bio.data();
        let mut result = Ok(());
        if let Some(mut at) = at {
            for i in 0..blocks {
                let part = Part::first_of(sector + u64::from(i) * BLOCK_SECTORS, BLOCK_SECTORS);
                result = match self.read_slot(t, &bio, at, &part, slot + i, part.mask()) {
                    Ok(()) => {
                        self.faults.read_again.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    }
                    Err(_) if self.is_elsewhere(slot + i, part.mask()) => self.read_part(t, &bio, at, &part),
                    e => e,
                };
                if result.is_err() {
                    break;
                }
                bio.skip(&mut at, BLOCK);
            }
        }
        self.unpin_slot(slot);
        bio.end(result);
    }

    /// Whether the sectors `mask` of the block in `slot`, which is pinned and cannot be read, can be had from another
    /// place: a new lookup finds it.
    fn is_elsewhere(&self, slot: u32, mask: u8) -> bool {
        let elsewhere = self.core.lock().engine.forget(slot, mask);
        if !elsewhere {
            self.trouble(trouble::CACHE_READ, true);
        }
        elsewhere
    }

    /// Reads `part`, which lies within one block, to where `start` is in the bio.
    fn read_part(&self, t: &Arc<Transfer>, bio: &Bio<PerBio>, start: Cursor, part: &Part) -> Result {
        loop {
            match self.try_to_read_part(t, bio, start, part) {
                // Each time something is forgotten or superseded, which ends.
                Ok(false) => (),
                Ok(true) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Says whether it is read; if not, it can be had from another place.
    fn try_to_read_part(
        &self,
        t: &Arc<Transfer>,
        bio: &Bio<PerBio>,
        start: Cursor,
        part: &Part,
    ) -> Result<bool> {
        let sector = part.addr * BLOCK_SECTORS + u64::from(part.first);
        let run = self.core.lock().engine.lookup(sector, part.sectors.into());
        let from_cache = |slot, mask| match self.read_slot(t, bio, start, part, slot, mask) {
            Err(_) if self.is_elsewhere(slot, mask) => Ok(false),
            result => result.map(|()| true),
        };
        let pieces = match run {
            Run::Backing(_) => Pieces::default(),
            Run::Cache { slot, .. } => {
                let result = from_cache(slot, part.mask());
                self.unpin_slot(slot);
                return result;
            }
            Run::Pieces(p) => p,
        };
        let mut result = Ok(true);
        for p in pieces.as_slice() {
            match p.ram {
                Some(_) => self.copy_from_ram(bio, &mut { start }, part, p.mask, p.ram),
                None if result == Ok(true) => result = from_cache(p.slot, p.mask),
                None => (),
            }
        }
        let rest = part.mask() & !pieces.mask();
        if rest != 0 && result == Ok(true) {
            // All of the part is read, and only what is nowhere else is copied.
            let (offset, len) = (part.first as usize * SECTOR, part.sectors as usize * SECTOR);
            t.read(&self.disks, &self.disks.backing, sector, (offset, len), 0);
            match t.finish() {
                Ok(()) => {
                    t.pages.with(0, BLOCK, |from| copy_sectors(bio, &mut { start }, part, rest, from));
                }
                Err(e) => {
                    self.fault(Kind::BackingRead);
                    result = Err(e);
                }
            }
        }
        self.unpin(&pieces);
        result
    }

    /// Reads the sectors `mask` of `part` from `slot`, which is pinned, to where `start` is in the bio.
    fn read_slot(
        &self,
        t: &Arc<Transfer>,
        bio: &Bio<PerBio>,
        start: Cursor,
        part: &Part,
        slot: u32,
        mask: u8,
    ) -> Result {
        for attempt in 0..2 {
            t.read(&self.disks, &self.disks.cache, self.slot_sector(slot), (BLOCK, BLOCK), 1);
            let ok = t.finish().is_ok()
                && t.pages.with(BLOCK, BLOCK, |from| {
                    let ok = crc32c(0, from) == self.pins.checksum(slot);
                    if ok {
                        copy_sectors(bio, &mut { start }, part, mask, from);
                    }
                    ok
                }) == Some(true);
            if ok {
                self.faults.read_again.fetch_add(attempt, Ordering::Relaxed);
                return Ok(());
            }
        }
        self.cache_read_failed(slot);
        Err(EIO)
    }
}

/// Copies the sectors `mask` of the block `from` to the bio, whose part `part` begins at `at`, and moves `at` behind it.
fn copy_sectors(bio: &Bio<PerBio>, at: &mut crate::dm::Cursor, part: &Part, mask: u8, from: &[u8]) {
    if mask == part.mask() {
        let begin = part.first as usize * SECTOR;
        bio.write(at, &from[begin..begin + part.sectors as usize * SECTOR]);
        return;
    }
    for i in part.first..part.first + part.sectors {
        if mask & 1 << i != 0 {
            bio.write(at, &from[i as usize * SECTOR..(i as usize + 1) * SECTOR]);
        } else {
            bio.skip(at, SECTOR);
        }
    }
}
