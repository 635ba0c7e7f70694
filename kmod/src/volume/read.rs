// SPDX-License-Identifier: GPL-2.0-only

//! Reads: from RAM at once, from one device by sending the bio there, from several places through the reader thread.

use super::{until_made, PerBio, Transfer, Volume, HIT, IN_RAM};
use crate::dm::{Bio, Mapping, Outcome};
use crate::engine::format::{BLOCK, BLOCK_SECTORS, SECTOR};
use crate::engine::read::{Pieces, Run};
use crate::engine::Part;
use crate::os::{crc32c, should_stop, Sleep};
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
            let run = self.core.lock().engine.lookup(sector + done, sectors - done);
            match run {
                Run::Backing(n) if done == 0 => {
                    bio.accept(n);
                    self.count(0, &bio);
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

    /// A bio that was remapped has returned: checks what came from the cache device. In any context.
    pub fn end_io(&self, bio: &mut Bio<PerBio>, result: Result) -> Result {
        let (start, slot, blocks) = {
            let data = bio.data();
            (data.at, data.slot, core::mem::replace(&mut data.blocks, 0))
        };
        if blocks == 0 {
            return result;
        }
        let mut ok = result.is_ok();
        if let (true, Some(mut at)) = (ok, start) {
            ok = (slot..slot + blocks).all(|s| bio.crc32c(&mut at, BLOCK) == self.pins.checksum(s));
        }
        self.unpin_slot(slot);
        if ok {
            return Ok(());
        }
        self.cache_read_failed(slot, blocks);
        Err(EIO)
    }

    pub(super) fn cache_read_failed(&self, slot: u32, blocks: u32) {
        self.faults.cache_reads.fetch_add(1, Ordering::Relaxed);
        if self.may_log() {
            log_err!(
                "{}: cannot read slots {} to {} of the cache device: I/O error or wrong checksum",
                &*self.disks,
                slot,
                slot + blocks - 1
            );
        }
    }

    pub(super) fn run_reader(&self) {
        let Some(transfer) = until_made(&self.reader, || Transfer::new(2)) else { return };
        while !should_stop() {
            let seen = self.reader.count();
            let next = self.core.lock().reads.pop();
            match next {
                Some(bio) => {
                    let result = self.read_block(&transfer, &bio);
                    bio.end(result);
                }
                None => {
                    let _ = self.reader.wait(seen, 10_000, Sleep::Idle);
                }
            }
        }
    }

    /// Reads a bio that lies within one block.
    fn read_block(&self, t: &Arc<Transfer>, bio: &Bio<PerBio>) -> Result {
        let part = Part::first_of(bio.sector(), bio.sectors());
        let run = self.core.lock().engine.lookup(bio.sector(), bio.sectors());
        let start = bio.start();
        let pieces = match run {
            Run::Backing(_) => Pieces::default(),
            Run::Cache { slot, .. } => {
                let result = self.read_slot(t, bio, &part, slot, part.mask());
                self.unpin_slot(slot);
                return result;
            }
            Run::Pieces(p) => p,
        };
        let mut result = Ok(());
        for p in pieces.as_slice() {
            match p.ram {
                Some(_) => self.copy_from_ram(bio, &mut { start }, &part, p.mask, p.ram),
                None => result = result.and(self.read_slot(t, bio, &part, p.slot, p.mask)),
            }
        }
        let rest = part.mask() & !pieces.mask();
        if rest != 0 && result.is_ok() {
            // All of the part is read, and only what is nowhere else is copied.
            let (offset, len) = (part.first as usize * SECTOR, part.sectors as usize * SECTOR);
            t.read(&self.disks, &self.disks.backing, bio.sector(), (offset, len), 0);
            result = t.finish();
            if result.is_ok() {
                t.pages.with(0, BLOCK, |from| copy_sectors(bio, &mut { start }, &part, rest, from));
            }
        }
        self.unpin(&pieces);
        result
    }

    fn read_slot(&self, t: &Arc<Transfer>, bio: &Bio<PerBio>, part: &Part, slot: u32, mask: u8) -> Result {
        t.read(&self.disks, &self.disks.cache, self.slot_sector(slot), (BLOCK, BLOCK), 1);
        let ok = t.finish().is_ok()
            && t.pages.with(BLOCK, BLOCK, |from| {
                let ok = crc32c(0, from) == self.pins.checksum(slot);
                if ok {
                    copy_sectors(bio, &mut bio.start(), part, mask, from);
                }
                ok
            }) == Some(true);
        if ok {
            return Ok(());
        }
        self.cache_read_failed(slot, 1);
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
