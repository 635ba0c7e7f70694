// SPDX-License-Identifier: GPL-2.0-only

//! Whether the cache device is as memory has left it: asked when the memory of a hibernated machine has come back.
//!
//! The image of a hibernation holds an engine of the moment of the snapshot. It may go on only if the log is where it was then.
//! If anything was appended, or the tail has moved, records of this engine would lie where no replay looks for them, or among
//! others with the same numbers, and everything that it acknowledges would be lost by the next crash, silently.
//!
//! # Invariants
//! - The engine is asked when nothing of its own is under way. Then the newest checkpoint on the device is exactly the one that
//!   it has made last, for each one is written before anything that follows from it.
//! - Whoever opens the volume writes a checkpoint with the next generation and epoch first, and whoever formats the device one
//!   with another nonce. So they are all seen in the checkpoints.
//! - Whoever goes on from the same snapshot without a checkpoint begins with the record that the engine has not sent yet, in
//!   one of two places: where the engine would write it, or at the start of the next segment. So he is seen there.
//! - A device that was put back to an older state has the newest checkpoint, or has not; if it has, it may lack records, and
//!   the last one that is known durable is looked for. (One of this life: of those before, the resume has a checkpoint.)

use super::format::{Checkpoint, RecordHeader, BLOCK, CHECKPOINT_SLOTS, SECTOR, WINDOW};
use super::Engine;
use core::fmt;

/// How the cache device differs from what memory has left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// There is another checkpoint, of this generation, or none.
    Checkpoint {
        /// Generation of the one that should be there.
        expected: u64,
        /// Of the one that is, if any is valid.
        found: Option<u64>,
    },
    /// There is a record that this engine has not written.
    Appended {
        /// Its sequence number.
        found: u64,
    },
    /// A durable record is not there.
    Missing {
        /// Its sequence number.
        expected: u64,
    },
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Checkpoint { expected, found: Some(found) } if found != expected => {
                write!(f, "the newest checkpoint is number {found}, and was number {expected}")
            }
            Self::Checkpoint { expected, found: Some(_) } => {
                write!(f, "checkpoint {expected} is another one than it was")
            }
            Self::Checkpoint { expected, found: None } => {
                write!(f, "there is no checkpoint of this volume, and there was number {expected}")
            }
            Self::Appended { found } => write!(f, "somebody else has written record {found}"),
            Self::Missing { expected } => write!(f, "record {expected}, which was durable, is not there"),
        }
    }
}

impl Engine {
    /// The newest checkpoint, which is durable unless one is under way or has failed.
    pub(super) fn newest_checkpoint(&self) -> Checkpoint {
        Checkpoint {
            nonce: self.sb.nonce,
            generation: self.generation,
            epoch: self.epoch,
            epoch_start: self.epoch_start,
            tail: self.tail_seq,
            durable: self.noted,
            tail_segment: self.tail,
        }
    }

    /// Compares what the checkpoint slots hold.
    ///
    /// # Errors
    /// [`Changed::Checkpoint`].
    pub fn compare_checkpoints(&self, slots: &[[u8; SECTOR]; CHECKPOINT_SLOTS]) -> Result<(), Changed> {
        let expected = self.newest_checkpoint();
        // The log may have failed because it could not be written, or there was no slot for it: then it is there, or the one
        // before is.
        let may_lack = self.failed || self.places.alone;
        let is_before =
            |c: &Checkpoint| may_lack && c.epoch == expected.epoch && c.generation + 1 == expected.generation;
        match Checkpoint::choose(slots, &self.sb).map(|c| c.checkpoint) {
            Ok(found) if found == expected || is_before(&found) => Ok(()),
            found => Err(Changed::Checkpoint {
                expected: expected.generation,
                found: found.ok().map(|c| c.generation),
            }),
        }
    }

    /// The slots whose blocks [`Engine::compare_block`] has to be shown.
    pub fn telling_slots(&self) -> [Option<u32>; 3] {
        let next = self.sent + 1;
        let own = if next < self.next_seq {
            Some(self.records[(next % WINDOW) as usize].first)
        } else {
            (!self.head_is_full()).then(|| self.head * self.sb.segment_blocks + self.head_next)
        };
        let behind = self.next_segment(self.head) * self.sb.segment_blocks;
        [own, Some(behind), self.last_durable()]
    }

    /// Where the last record lies that is known durable, if that is one of this life which is still known.
    fn last_durable(&self) -> Option<u32> {
        // The place in the ring may have been taken by the newest record.
        let known = self.durable >= self.epoch_start && self.next_seq <= self.durable + WINDOW;
        known.then(|| self.records[(self.durable % WINDOW) as usize].first)
    }

    /// Compares what `slot`, one of [`Engine::telling_slots`], holds.
    ///
    /// # Errors
    /// [`Changed::Appended`], [`Changed::Missing`].
    pub fn compare_block(&self, slot: u32, block: &[u8; BLOCK]) -> Result<(), Changed> {
        let found = RecordHeader::decode(block, &self.sb, slot % self.sb.segment_blocks).ok();
        if let Some(h) = found.filter(|h| h.epoch >= self.epoch && h.seq > self.sent) {
            return Err(Changed::Appended { found: h.seq });
        }
        if self.last_durable() == Some(slot)
            && found.is_none_or(|h| (h.seq, h.epoch) != (self.durable, self.epoch))
        {
            return Err(Changed::Missing { expected: self.durable });
        }
        Ok(())
    }

    /// Nothing is taken or acknowledged any more, and nothing written.
    pub fn give_up(&mut self) {
        self.failed = true;
    }
}
