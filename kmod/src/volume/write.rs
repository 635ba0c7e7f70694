// SPDX-License-Identifier: GPL-2.0-only

//! Writes and flushes.

use super::errand::{Bypassing, Write};
use super::{bytes, Core, Errand, Volume, AROUND, FLUSHES, MAPPED};
use crate::engine::bypass::{self, Tag};
use crate::engine::log::{Claim, Refused, Wait};
use crate::engine::{Entry, Part, Was};
use crate::format::{Block, Seq, BLOCK, BLOCK_SECTORS, SECTOR};
use crate::host::{crc32c, now_ms, Arc, Bio, Cursor, Mapping, Outcome, Result, Returned, EIO};
use crate::interface::status::count;
use crate::policy::room::Wake;
use core::sync::atomic::Ordering;

/// Blocks that are put into the index under one hold of the lock.
const AT_ONCE: usize = 16;
/// After a write around the cache has failed, no other one goes around it for so long, in milliseconds.
const BYPASS_AGAIN_MS: u64 = 10_000;

impl Volume {
    /// Takes a write.
    pub fn write(self: &Arc<Self>, mut bio: Mapping<'_, Errand>) -> Outcome<Errand> {
        self.counts.add(MAPPED, 1);
        if let Some((tag, blocks)) = self.may_bypass(&bio) {
            bio.accept(blocks.saturating_mul(BLOCK_SECTORS));
            return Outcome::Remapped(self.send_past(bio.into_bio(), tag));
        }
        self.go_on_writing(bio.into_bio(), false);
        Outcome::Submitted
    }

    /// Whether a write is better off around the cache, which is full, and for how many blocks: see
    /// [`crate::engine::bypass`].
    fn may_bypass(&self, bio: &Bio<Errand>) -> Option<(Tag, u64)> {
        if !self.flags.wide.load(Ordering::Relaxed) {
            return None;
        }
        let (sector, blocks) = (bio.sector(), bio.sectors() / BLOCK_SECTORS);
        let first = Block::of_sector(sector);
        let is_fit = sector % BLOCK_SECTORS == 0 && blocks >= bypass::LEAST;
        if !is_fit || now_ms() < self.bypass_from_ms.load(Ordering::Relaxed) {
            return None;
        }
        let tag = {
            let core = self.core.lock();
            // Otherwise the write would wait, or be delayed.
            let is_held_up = core.pace.is_on() || !core.deferred.is_empty() || core.engine.is_full();
            // Begun with the lock held. A task that puts the volume to rest takes the lock afterwards, and so
            // sees this bypass.
            let may = is_held_up && !self.flags.depth.is_resting() && core.engine.lets_bypass();
            if may {
                self.bypass.begin(first, blocks)
            } else {
                None
            }
        }?;
        let mut found = 0;
        while found < blocks {
            let next = first.plus(found);
            let n = blocks.saturating_sub(found).min(bypass::AT_ONCE);
            let absent = self.core.lock().engine.count_absent(next, n);
            found = found.saturating_add(absent);
            if absent < n {
                break;
            }
        }
        if found < bypass::LEAST {
            self.end_bypass(tag);
            return None;
        }
        self.bypass.shorten(tag, found);
        Some((tag, found))
    }

    /// Directs a write to the backing device.
    fn send_past(&self, mut bio: Bio<Errand>, tag: Tag) -> Bio<Errand> {
        let sector = bio.sector();
        *bio.data() = Errand::Bypass(Bypassing {
            tag,
            at: bio.start(),
            sector,
            blocks: (bio.sectors() / BLOCK_SECTORS) as u32,
            fua: bio.is_fua(),
            doubts: self.disks.backing_doubts.count(),
        });
        bio.set_fua(true);
        bio.remap(&self.disks.backing, sector);
        bio
    }

    fn end_bypass(&self, tag: Tag) {
        if self.bypass.end(tag) {
            self.wake(Wake::COMMIT);
            self.pantry.notify();
        }
    }

    /// A write is back from its way around the cache. In any context.
    pub(super) fn bypassed(
        &self,
        mut bio: Bio<Errand>,
        bypassing: &Bypassing,
        result: Result,
        is_fault: bool,
    ) -> Returned<Errand> {
        let &Bypassing { tag, at, sector, blocks, fua, doubts } = bypassing;
        // FUA may be a write and a flush, and what was written may have been forgotten in between.
        let is_doubtful = result.is_ok() && self.disks.backing_doubts.count() != doubts;
        if is_fault {
            // With this failure the device may have forgotten what was written back lately.
            self.disks.backing_doubts.add();
            self.bypass_from_ms.store(now_ms().saturating_add(BYPASS_AGAIN_MS), Ordering::Relaxed);
        }
        self.end_bypass(tag);
        if !is_fault && !is_doubtful {
            // Nothing of these blocks was in the cache. A write that goes to the log now is counted there.
            self.count_blocks(count::WRITE, sector, u64::from(blocks).saturating_mul(BLOCK_SECTORS));
            self.counts.add(AROUND, blocks.into());
            return Returned::Ends(bio, result);
        }
        // The bio is made what it was when it came, and waits for room like others.
        if is_fault {
            self.writeback_failed(Block::of_sector(sector));
        }
        bio.take_back(sector, at);
        bio.set_fua(fua);
        self.bounced.push(bio);
        // Checked after the push: either this context sees `over`, or the task that has set it sees the bio.
        if self.flags.over.load(Ordering::SeqCst) {
            self.end_bounced();
        }
        self.wake(Wake::COMMIT);
        Returned::Kept
    }

    /// Puts the rest of a write into the log. Returns whether the bio is finished with. If not, it waits in
    /// `deferred`, in front when it has `waited` already.
    pub(super) fn go_on_writing(self: &Arc<Self>, mut bio: Bio<Errand>, waited: bool) -> bool {
        let (sector, sectors, errand) = (bio.sector(), bio.sectors(), *bio.data());
        let mut write = match errand {
            Errand::Idle => Write { at: bio.start(), done: 0, seq: Seq::NONE },
            Errand::Write(write) => write,
            _ => {
                bio.end(Err(EIO));
                return true;
            }
        };
        while u64::from(write.done) != sectors {
            let done = u64::from(write.done);
            let (first, left) = (sector.saturating_add(done), sectors.saturating_sub(done));
            let mut core = self.core.lock();
            let claim = match self.claim(&mut core, first, left, waited, done == 0) {
                Ok(claim) => claim,
                Err(Refused::Wait(wait)) => {
                    *bio.data() = Errand::Write(write);
                    let wake = Self::defer(&mut core, bio, wait, waited);
                    drop(core);
                    self.wake(wake);
                    return false;
                }
                Err(Refused::Failed) => {
                    drop(core);
                    bio.end(Err(EIO));
                    return true;
                }
            };
            drop(core);
            let copied = self.copy(&bio, &mut write.at, first, left, &claim);
            write.done = write.done.saturating_add(copied as u32);
            write.seq = claim.seq;
        }
        if bio.is_fua() {
            self.end_when_durable(bio, write.seq);
        } else {
            bio.end(Ok(()));
        }
        true
    }

    /// Claims room for the `left` sectors of a write from `sector` on, or for some of them.
    ///
    /// # Errors
    /// [`Refused`]: the write has to wait, or the log has failed.
    fn claim(
        &self,
        core: &mut Core,
        sector: u64,
        left: u64,
        waited: bool,
        begins: bool,
    ) -> core::result::Result<Claim, Refused> {
        // No write overtakes one that waits. A write that has begun goes on, unless the volume has become
        // blind.
        let has_to_wait = (!waited && !core.deferred.is_empty())
            || (begins && !self.lets_in(core))
            || self.flags.depth.is_blind();
        if has_to_wait {
            return Err(Refused::Wait(Wait::Progress));
        }
        let (first, end) = (Block::of_sector(sector), sector.saturating_add(left).div_ceil(BLOCK_SECTORS));
        let blocks = Block(end).since(first).min(u32::MAX.into()) as u32;
        let claim = core.engine.claim_at(first, blocks)?;
        core.pace.took(claim.blocks);
        Ok(claim)
    }

    /// Lets a write wait, in front when it has waited already. Says who is to be woken.
    fn defer(core: &mut Core, bio: Bio<Errand>, wait: Wait, waited: bool) -> Wake {
        // The commit thread has to find out when to let the write in.
        let is_first = core.pace.is_on() && core.deferred.is_empty() && !waited;
        let mut wake = Wake::COMMIT.when(is_first);
        if wait == Wait::Space {
            wake |= core.room.write_waits(waited, core.engine.is_full(), now_ms());
        }
        if waited {
            core.deferred.push_front(bio);
        } else {
            core.deferred.push(bio);
        }
        wake
    }

    /// Whether a write may begin now, as far as the pace is concerned.
    fn lets_in(&self, core: &mut Core) -> bool {
        // After the log has failed a write is refused at once, not paced.
        !core.pace.is_on() || core.engine.failed() || core.pace.lets_in(&self.moment(&core.engine))
    }

    /// Copies the data for `claim`. The data begin at `sector`, and `left` sectors of them are there. Returns
    /// the number of sectors copied.
    fn copy(&self, bio: &Bio<Errand>, at: &mut Cursor, sector: u64, left: u64, claim: &Claim) -> u64 {
        let mut entries = [Entry::default(); AT_ONCE];
        let mut found = [0; count::WRITE as usize];
        let mut copied = 0;
        let (mut slot, mut block) = (claim.slot, claim.offset);
        let end = block.saturating_add(claim.blocks);
        while block < end {
            let n = end.saturating_sub(block).min(AT_ONCE as u32);
            let entries = &mut entries[..n as usize];
            for (entry, block) in entries.iter_mut().zip(block..) {
                let part = Part::first_of(sector.saturating_add(copied), left.saturating_sub(copied));
                self.chains.expect(part.addr);
                let crc = self.buffers[usize::from(claim.buffer)]
                    .with_mut(bytes(block), BLOCK, |to| fill(bio, at, &part, to));
                // The engine claims blocks within the buffer only.
                *entry = Entry { addr: part.addr, mask: part.mask(), crc: crc.unwrap_or(0) };
                copied = copied.saturating_add(part.sectors.into());
            }
            // Before the lock is taken, not while others wait for it.
            entries.iter().for_each(|entry| self.chains.warm(entry.addr));
            let mut core = self.core.lock();
            for (entry, slot) in entries.iter().zip(slot.onward()) {
                let was = core.engine.stored(claim, slot, *entry);
                // Added to the counters later, without the lock.
                if let Some(n) = found.get_mut(kind_of(was, entry) as usize) {
                    *n = u64::saturating_add(*n, 1);
                }
            }
            slot = slot.plus(n);
            block = block.saturating_add(n);
            if block == end {
                core.engine.copied(claim);
                let (work, paused) = (core.engine.has_work(), core.engine.is_paused());
                drop(core);
                if work {
                    self.wake(Wake::COMMIT);
                }
                if paused {
                    self.wake(Wake::PROGRESS);
                }
            }
        }
        for (kind, n) in (0..).zip(found).filter(|&(_, n)| n != 0) {
            self.counts.add(count::WRITE | kind, n);
        }
        copied
    }

    /// Takes a flush.
    pub fn flush(self: &Arc<Self>, bio: Bio<Errand>) {
        let seq = self.core.lock().engine.flush();
        self.end_when_durable(bio, seq);
    }

    fn end_when_durable(self: &Arc<Self>, mut bio: Bio<Errand>, seq: Seq) {
        *bio.data() = Errand::Flush(seq);
        self.counts.add(FLUSHES, 1);
        // In a plug, a commit would wait until the task is done with other things, and all that wait for the
        // commit with it.
        let may_send = bio.may_wait() && bio.submits_now() && self.glance().is_alone();
        let mut core = self.core.lock();
        if core.engine.failed() {
            drop(core);
            bio.end(Err(EIO));
        } else if core.engine.durable() >= seq && !self.flags.depth.is_blind() {
            drop(core);
            bio.end(Ok(()));
        } else {
            core.engine.want(seq);
            core.waiting.push(bio);
            let work = core.engine.has_work();
            drop(core);
            match (work, may_send) {
                (true, true) => Self::commit_now(self),
                (true, false) => self.wake(Wake::COMMIT),
                (false, _) => (),
            }
        }
    }
}

/// What a write of `entry` counts as, in bits of [`count`], when the block was where `was` says.
fn kind_of(was: Was, entry: &Entry) -> u32 {
    let found = match was {
        Was::Absent => 0,
        Was::OnDevice => count::HIT,
        Was::InRam => count::HIT | count::IN_RAM,
    };
    found | if entry.mask == u8::MAX { count::FULL } else { 0 }
}

/// Copies one part of a write to the block `to`, zeroes the rest of the block, and returns its CRC-32C.
fn fill(bio: &Bio<Errand>, at: &mut Cursor, part: &Part, to: &mut [u8]) -> u32 {
    let (before, rest) = to.split_at_mut((part.first as usize).saturating_mul(SECTOR).min(BLOCK));
    let len = (part.sectors as usize).saturating_mul(SECTOR).min(rest.len());
    let (data, behind) = rest.split_at_mut(len);
    before.fill(0);
    bio.read(at, data);
    behind.fill(0);
    crc32c(0, to)
}
