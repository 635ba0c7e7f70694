// SPDX-License-Identifier: GPL-2.0-only

//! Whether the cache device is as memory has left it: asked when the memory of a hibernated machine has come
//! back.
//!
//! The image of a hibernation holds an engine of the moment of the snapshot. That engine may go on only if
//! the log is where it was then. If anything was appended, or the tail has moved, records of this engine
//! would lie where no replay looks for them, or among others with the same numbers. Then everything that the
//! engine acknowledges would be lost by the next crash, silently.
//!
//! # Invariants
//! - The engine is asked when nothing of its own is under way. Then the newest checkpoint on the device is
//!   exactly the one that it has made last, for each checkpoint is written before anything that follows from
//!   it.
//! - Opening the volume writes a checkpoint with the next generation and epoch first, and formatting the
//!   device writes one with another nonce. So the checkpoints show both.
//! - A system that goes on from the same snapshot without a checkpoint begins with the record that the engine
//!   has not sent yet, in one of two places: where the engine would write it, or at the start of the next
//!   segment. So the record is seen there.
//! - A device that was put back to an older state has the newest checkpoint, or has not. If it has, it may
//!   lack records, and the last record that is known durable is looked for. (A record of this life: for those
//!   before, the resume has written a checkpoint.)
//! - One place that the medium cannot give back, other than checkpoint slots that have failed before, is no
//!   difference. What is written anew can be read, so no other system has written there since, and one that
//!   goes on is seen in another place, too. Two such places are a difference, for then nothing may be left
//!   that would tell.
//! - If that place was the newest checkpoint, the one before is all there is, and is not written before
//!   another one is durable. That one is made as soon as the machine is awake.

use super::Engine;
use crate::format::{Checkpoint, Held, RecordHeader, Seq, Slot, BLOCK, CHECKPOINT_BLOCKS, CHECKPOINT_SLOTS};
use core::fmt;

/// How the cache device differs from what memory has left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// There is another checkpoint, of generation `found`, or none.
    Checkpoint {
        /// Generation of the one that should be there.
        expected: u64,
        /// Generation of the checkpoint that is there, if any is valid.
        found: Option<u64>,
    },
    /// There is a record that this engine has not written.
    Appended {
        /// Its sequence number.
        found: Seq,
    },
    /// A durable record is not there.
    Missing {
        /// Its sequence number.
        expected: Seq,
    },
    /// The medium cannot give back the blocks that would tell.
    Unreadable,
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
            Self::Unreadable => write!(f, "several places cannot be read that would tell"),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Comparison {
    unreadable: u32,
    changed: Option<Changed>,
    /// The slot of the checkpoint before, if the newest one is lost.
    before: Option<usize>,
}

impl Comparison {
    /// Compares what the checkpoint slots hold.
    pub fn checkpoints(&mut self, engine: &Engine, slots: &[Held; CHECKPOINT_SLOTS]) {
        for (i, slot) in slots.iter().enumerate() {
            self.note(*slot == Held::Unreadable && !engine.places.has_failed(i), Ok(()));
        }
        let found = engine.compare_checkpoints(slots);
        self.before = found.ok().flatten();
        self.note(false, found.map(|_| ()));
    }

    /// Compares what `slot`, one of [`Engine::telling_slots`], holds; `None` when the medium cannot give it
    /// back.
    pub fn block(&mut self, engine: &Engine, slot: Slot, block: Option<&[u8; BLOCK]>) {
        self.note(block.is_none(), block.map_or(Ok(()), |block| engine.compare_block(slot, block)));
    }

    fn note(&mut self, is_unreadable: bool, found: Result<(), Changed>) {
        self.unreadable = self.unreadable.saturating_add(is_unreadable.into());
        self.changed = self.changed.or(found.err());
    }

    /// Whether the device is as it was.
    ///
    /// # Errors
    /// The first difference.
    pub fn verdict(&self) -> Result<(), Changed> {
        match self.changed {
            Some(changed) => Err(changed),
            None if self.unreadable > 1 => Err(Changed::Unreadable),
            None => Ok(()),
        }
    }

    /// Concludes that the device is as it was: the engine goes on with what is there.
    ///
    /// # Errors
    /// As [`Comparison::verdict`]; then the engine stays what it is.
    pub fn conclude(&self, engine: &mut Engine) -> Result<(), Changed> {
        self.verdict()?;
        if self.before.is_some_and(|slot| engine.places.lose(slot)) {
            engine.told = [engine.told[1], (Seq::NONE, Seq::NONE)];
        }
        Ok(())
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

    /// The slot of the checkpoint before, if the newest one is lost.
    fn compare_checkpoints(&self, slots: &[Held; CHECKPOINT_SLOTS]) -> Result<Option<usize>, Changed> {
        let expected = self.newest_checkpoint();
        // The log may have failed because the newest checkpoint could not be written, or there was no slot
        // for it. Then this checkpoint is there, or the one before is. The same holds when the medium has
        // lost it: a system that opens the volume then writes two others.
        let place = CHECKPOINT_BLOCKS.iter().position(|&block| block == self.checkpoint_block());
        let is_lost = place.is_some_and(|i| slots[i] == Held::Unreadable);
        let may_lack = self.failed || self.places.alone || self.places.is_lost;
        let is_before = |c: &Checkpoint| {
            (is_lost || may_lack && c.epoch == expected.epoch) && c.generation + 1 == expected.generation
        };
        let chosen = Checkpoint::choose(slots);
        match chosen.map(|c| c.checkpoint) {
            Ok(found) if found == expected || is_before(&found) => {
                Ok(chosen.ok().map(|c| c.slot).filter(|_| is_lost && found != expected))
            }
            found => Err(Changed::Checkpoint {
                expected: expected.generation,
                found: found.ok().map(|c| c.generation),
            }),
        }
    }

    /// The slots whose blocks [`Comparison::block`] has to be shown.
    pub fn telling_slots(&self) -> [Option<Slot>; 3] {
        let next = self.sent.next();
        let own = if next < self.next_seq {
            Some(self.records[next.in_window()].first)
        } else {
            (!self.head_is_full()).then(|| self.next_slot())
        };
        let behind = self.first_slot(self.next_segment(self.head));
        [own, Some(behind), self.last_durable()]
    }

    /// Slot of the last record that is known durable, if that is a record of this life and its place is still
    /// known.
    fn last_durable(&self) -> Option<Slot> {
        // The place in the ring may have been taken by the newest record.
        let known = self.durable >= self.epoch_start && !self.is_window_full();
        known.then(|| self.records[self.durable.in_window()].first)
    }

    fn compare_block(&self, slot: Slot, block: &[u8; BLOCK]) -> Result<(), Changed> {
        let found = RecordHeader::decode(block, &self.sb, slot.offset(self.sb.segment_blocks)).ok();
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

    /// From now on nothing is taken or acknowledged, and nothing written.
    pub fn give_up(&mut self) {
        self.failed = true;
    }
}
