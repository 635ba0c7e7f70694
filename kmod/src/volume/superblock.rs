// SPDX-License-Identifier: GPL-2.0-only

//! Which volume it is: finds the superblock on the cache device, or formats a blank one.
//!
//! # Invariants
//! - Before anything is written it is known that all is as it must be: the devices fit (`policy::limits`),
//!   the backing device is no cache device, and no volume of the same UUID or nonce is active. This check
//!   finds another path to an active cache device, and a copy of one, which would be written as the same log.
//! - A format overwrites nothing: all that lies before the segments is zero, or checkpoints of ours whose log
//!   is empty. A sector that cannot be read may hold anything.
//! - While one cache device is formatted no other is taken for blank: of two paths to the same device the
//!   second one finds what was written by the first.
//!
//! Two paths to one *backing* device cannot be told apart from two devices here, for there is nothing of ours
//! on it.

use super::resume::cannot_read;
use super::{Disks, Transfer};
use crate::format::{
    Checkpoint, Invalid, Start, Superblock, Uuid, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS,
    DEFAULT_SEGMENT_BLOCKS, MAX_SEGMENT_BLOCKS, SECTOR,
};
use crate::host::{
    random, Arc, Error, InUse, Key, OutOfMemory, Refusal, Result, Shared, EBUSY, EEXIST, EINVAL, ENOMEM,
};

// One bio reads what a format may overwrite.
const _: () = assert!(Start::BYTES <= MAX_SEGMENT_BLOCKS as usize * BLOCK);

/// A superblock, and the hold on its volume.
type Found = (Shared<Superblock>, [InUse; 2]);

/// Not on the stack, which has no room for several superblocks.
#[inline(never)]
fn decode(
    sector: &[u8; SECTOR],
) -> core::result::Result<core::result::Result<Shared<Superblock>, OutOfMemory>, Invalid> {
    Superblock::decode(sector).map(Shared::new)
}

fn no_memory<E: Into<Error>>(e: E) -> Refusal {
    (c"Not enough memory", e.into())
}

impl Disks {
    /// Takes the hold on the volume `sb`.
    fn hold(&self, sb: &Superblock) -> core::result::Result<[InUse; 2], Refusal> {
        let hold = |key| {
            InUse::new(key).map_err(|e| {
                if e != EBUSY {
                    return (c"Not enough memory", e);
                }
                log_err!(
                    "{}: refusing the cache device: volume {} is active already, so this is another path to \
                     its cache device, or a copy of it",
                    self,
                    Uuid(sb.uuid)
                );
                (c"A volume with this UUID is active already: see the kernel log", EEXIST)
            })
        };
        Ok([hold(Key::Uuid(sb.uuid))?, hold(Key::Nonce(sb.nonce))?])
    }

    /// Writes a new superblock last, so that a crash leaves either a blank device or a formatted one.
    // Not inlined: the frames together would take half of the kernel's stack.
    #[inline(never)]
    fn format(&self, t: &Arc<Transfer>) -> core::result::Result<Found, Refusal> {
        let (mut uuid, mut nonce) = ([0; 16], [0; 8]);
        random(&mut uuid);
        random(&mut nonce);
        // Version 4, variant 1: RFC 9562, 5.4.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let nonce = u64::from_le_bytes(nonce);
        let sb = Superblock::new(
            self.cache.sectors(),
            self.backing.sectors(),
            DEFAULT_SEGMENT_BLOCKS,
            uuid,
            nonce,
        )
        .map_err(|_| (c"The cache device is too small: it must have at least 9 MiB", EINVAL))?;
        let sb = Shared::new(sb).map_err(no_memory)?;
        let in_use = self.hold(&sb)?;
        let first = Checkpoint::first(nonce);
        // The other slots may hold checkpoints of an earlier volume of which only the superblock was blanked.
        CHECKPOINT_BLOCKS
            .into_iter()
            .filter(|&block| block != first.block())
            .try_for_each(|block| self.write_sector(t, block, |_| ()))
            .and_then(|()| self.write_sector(t, first.block(), |b| first.encode_into(b)))
            .and_then(|()| self.flush_cache(t))
            .and_then(|()| self.write_sector(t, 0, |b| sb.encode_into(b)))
            .and_then(|()| self.flush_cache(t))
            .map_err(|e| (c"Cannot write to the cache device", e))?;
        log_info!("{}: formatted a blank cache device", self);
        Ok((sb, in_use))
    }

    /// Whether the checkpoint `c`, which has no superblock, has a log behind it.
    #[inline(never)]
    fn has_log(&self, t: &Arc<Transfer>, c: &Checkpoint) -> Result<bool> {
        c.has_log(self.cache.sectors(), |sector| {
            t.read(self, &self.cache, sector, (0, BLOCK), 0);
            t.finish()?;
            Ok(t.pages.with(0, BLOCK, |b| c.is_before(b)) == Some(true))
        })
    }

    /// Refuses a cache device whose first sector is blank, unless a format would overwrite nothing.
    #[inline(never)]
    fn check_blank(&self, t: &Arc<Transfer>) -> core::result::Result<(), Refusal> {
        t.read(self, &self.cache, 0, (0, Start::BYTES), 0);
        t.finish().map_err(cannot_read)?;
        let start = t.pages.with(0, Start::BYTES, Start::of).ok_or((c"Not enough memory", ENOMEM))?;
        let has_log = match &start.orphan {
            Some(checkpoint) => self.has_log(t, checkpoint).map_err(cannot_read)?,
            None => false,
        };
        if has_log {
            log_err!(
                "{}: refusing the cache device, whose superblock is blank but which has a log behind it: put \
                 back a copy of the superblock, or zero the first {} bytes to give up what is in the log",
                self,
                Start::BYTES
            );
            return Err((c"The superblock of the cache device is gone: see the kernel log", EINVAL));
        }
        start.used.map_or(Ok(()), |sector| Err(self.not_blank(sector)))
    }

    fn not_blank(&self, sector: u64) -> Refusal {
        log_err!(
            "{}: refusing the cache device, which has something in its sector {} that is not of writeboost. \
             Are the backing device and the cache device exchanged? If nothing on it is needed: wbformat \
             --force, or zero its first {} bytes",
            self,
            sector,
            Start::BYTES
        );
        (c"The cache device is neither blank nor formatted for writeboost: see the kernel log", EINVAL)
    }

    /// Finds the superblock on the cache device, or formats a blank one; and takes the hold on the volume.
    ///
    /// # Errors
    /// Why not.
    #[inline(never)]
    pub(super) fn superblock(&self, t: &Arc<Transfer>) -> core::result::Result<Found, Refusal> {
        let mut format = None;
        let (sb, in_use) = loop {
            match self.read_sector(t, 0, decode).map_err(cannot_read)? {
                Ok(sb) => {
                    let sb = sb.map_err(no_memory)?;
                    let in_use = self.hold(&sb)?;
                    break (sb, in_use);
                }
                // Another task may be formatting it, by another path: look again.
                Err(Invalid::Blank) if format.is_none() => {
                    format = Some(InUse::wait_for(Key::Format).map_err(|e| (c"Interrupted", e))?);
                }
                Err(Invalid::Blank) => {
                    self.check_exchanged(t)?;
                    self.check_blank(t)?;
                    break self.format(t)?;
                }
                Err(Invalid::Magic) => return Err(self.not_blank(0)),
                Err(invalid) => {
                    log_err!("{}: refusing the cache device, for {}", self, invalid);
                    let words = match invalid {
                        Invalid::Version(_) => {
                            c"The cache device has a format that this module does not know: \
                              see the kernel log"
                        }
                        _ => c"The superblock of the cache device is damaged: see the kernel log",
                    };
                    return Err((words, EINVAL));
                }
            }
        };
        drop(format);
        if sb.backing_sectors != self.backing.sectors() {
            log_err!(
                "{}: the cache device belongs to a backing device of {} sectors, this one has {}",
                self,
                sb.backing_sectors,
                self.backing.sectors()
            );
            return Err((c"The cache device belongs to a backing device of another size", EINVAL));
        }
        if sb.cache_sectors() > self.cache.sectors() {
            return Err((c"The cache device is smaller than when it was formatted", EINVAL));
        }
        Ok((sb, in_use))
    }

    /// Refuses a backing device that is a cache device, when the cache device is about to be formatted: the
    /// two are exchanged, and what is dirty on it would be overwritten.
    ///
    /// Does not refuse it when the cache device has a superblock. Then the two are not exchanged, and the
    /// content of the volume is its users' own: a user may have made a cache device of it, and what is dirty
    /// must stay within reach.
    ///
    /// # Errors
    /// Why not.
    #[inline(never)]
    fn check_exchanged(&self, t: &Arc<Transfer>) -> core::result::Result<(), Refusal> {
        let len = SECTOR.saturating_mul(self.backing.sectors().min(BLOCK_SECTORS) as usize);
        t.read(self, &self.backing, 0, (0, len), 0);
        if t.finish().is_err() {
            // The device may have a bad sector there and be the right one all the same.
            return Ok(());
        }
        let is_cache = |b: &[u8]| b.first_chunk().is_some_and(Superblock::is_in);
        if t.pages.with(0, len, is_cache) != Some(true) {
            return Ok(());
        }
        log_err!(
            "{}: refusing the backing device, which is a cache device of writeboost. Are the two exchanged? \
             If it is none any more, and nothing on it is needed: zero its first {} bytes",
            self,
            BLOCK
        );
        Err((c"The backing device is a cache device of writeboost: see the kernel log", EINVAL))
    }
}
