// SPDX-License-Identifier: GPL-2.0-only

//! Which of its four slots a checkpoint goes to.
//!
//! A disk writes a sector whole or not at all. But a write that is cut off by a power cut may leave a sector
//! that cannot be read, and some sectors can be neither read nor written any more. Two slots are in use, and
//! two more, elsewhere in the first MiB, stand in for those that fail.
//!
//! # Invariants
//! - The slot of the newest durable checkpoint is never written: it is there, whatever becomes of a write to
//!   another slot. So a checkpoint that finds no other slot is not written at all, and the log fails, which
//!   loses nothing.
//! - Of the slots that can be read, the one with the highest generation counts, wherever it is. No two
//!   checkpoints have the same generation: a resume from one slot while others cannot be read skips as many
//!   generations as these may have, twice ([`Chosen::doubtful`]), and as many epochs. Otherwise a checkpoint
//!   that can be read again one day, or the records of its epoch, would count.
//! - A resume makes two checkpoints durable, if there are two slots for them, before anything else is
//!   written: then either is enough, and both know the epoch. Checkpoints in other slots are older, and are
//!   blanked. Otherwise they would count when these two are lost, and bring back what was written back long
//!   ago. That remains possible only if both the blanking and these two fail.
//! - The same holds in the middle of a life. When a checkpoint is durable in another slot than its own, all
//!   slots are blanked but this one and that of the checkpoint before ([`Engine::stale_checkpoint`]): a
//!   failure may have been a short one, and the slot would keep for years what it had then. A suspend tries
//!   again where checkpoints belong ([`Engine::forgive_slots`]), for an older module looks there, too.

use super::Engine;
use crate::format::{Checkpoint, Chosen, Seq, CHECKPOINT_BLOCKS, CHECKPOINT_SLOTS};
use core::fmt;

/// The slots of one volume's checkpoints.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The slot of the newest checkpoint that is known durable.
    newest: Option<usize>,
    /// The slot of the checkpoint that was handed out last.
    pending: Option<usize>,
    /// How often each slot has failed.
    failures: [u8; CHECKPOINT_SLOTS],
    /// Slots that may not be blank.
    filled: [bool; CHECKPOINT_SLOTS],
    /// Each slot is not blanked before this generation: blanking has failed, and may take a device long.
    spared: [u64; CHECKPOINT_SLOTS],
    /// So many checkpoints may be made to bring the last two to where they belong.
    homeward: u8,
    /// The medium has lost the newest checkpoint since it was durable.
    pub(super) is_lost: bool,
    /// Only one slot can be written.
    pub(super) alone: bool,
}

impl Places {
    /// The slots as a resume has found them.
    pub(super) fn of(chosen: &Chosen) -> Self {
        Self {
            newest: Some(chosen.slot),
            failures: chosen.unreadable.map(u8::from),
            filled: chosen.filled,
            ..Self::default()
        }
    }

    /// The best slot for a checkpoint of this generation: the one of its turn, its stand-in, or any other but
    /// that of the newest checkpoint. Slots that have failed come last.
    fn pick(&self, generation: u64) -> usize {
        let turn = (generation % 2) as usize;
        [turn, turn + 2, 1 - turn, 3 - turn]
            .into_iter()
            .filter(|&i| Some(i) != self.newest)
            .min_by_key(|&i| self.failures[i])
            .unwrap_or(turn)
    }

    /// A checkpoint of this generation is handed out. The one before is durable, for one is made at a time,
    /// unless it was [abandoned](Self::abandon).
    pub(super) fn begin(&mut self, generation: u64) {
        self.newest = self.pending.or(self.newest);
        self.homeward = self.homeward.saturating_sub(1);
        self.is_lost = false;
        self.take(generation);
    }

    fn take(&mut self, generation: u64) {
        let i = self.pick(generation);
        self.filled[i] = true;
        self.pending = Some(i);
    }

    /// The checkpoint could not be written to its slot: the next attempt is made elsewhere.
    fn miss(&mut self, generation: u64) {
        if let Some(i) = self.pending {
            self.failures[i] = self.failures[i].saturating_add(1);
            self.take(generation);
        }
    }

    /// Whether slot `i` has failed, so that another one stands in for it.
    pub(super) fn has_failed(&self, i: usize) -> bool {
        self.failures[i] != 0
    }

    /// A filled slot that has neither of the last two checkpoints. Both are durable.
    fn stale(&self, generation: u64) -> Option<usize> {
        let last = [self.pending?, self.newest?];
        (0..CHECKPOINT_SLOTS).find(|i| self.filled[*i] && !last.contains(i) && self.spared[*i] <= generation)
    }

    /// Slot `i` is blank, or could not be written.
    fn blanked(&mut self, i: usize, generation: u64, ok: bool) {
        self.filled[i] = !ok;
        if !ok {
            self.failures[i] = self.failures[i].saturating_add(1);
            self.spared[i] = generation.saturating_add(1 << self.failures[i].min(16));
        }
    }

    fn are_home(&self) -> bool {
        [self.pending, self.newest].into_iter().flatten().all(|i| i < 2)
    }

    /// Whether a checkpoint would only bring the last two nearer to where they belong.
    pub(super) fn leads_home(&self) -> bool {
        self.homeward != 0 && !self.are_home()
    }

    /// The slots where checkpoints belong count as good again. Their stand-ins are then no better than they
    /// are.
    fn forgive(&mut self) {
        for (i, failures) in self.failures.iter_mut().enumerate() {
            *failures = (*failures).min(u8::from(i >= 2));
        }
        self.spared = [0; CHECKPOINT_SLOTS];
        // The first checkpoint may find the newest one in its own slot.
        self.homeward = 3;
    }

    /// The newest checkpoint, which was known durable, is lost: the one before it, in slot `before`, is the
    /// newest now. Returns whether that is new.
    pub(super) fn lose(&mut self, before: usize) -> bool {
        // Otherwise the loss is known already, or the checkpoint was never written.
        let Some(i) = self.pending.take() else { return false };
        self.failures[i] = self.failures[i].saturating_add(1);
        self.newest = Some(before);
        self.is_lost = true;
        true
    }

    /// The checkpoint will not be written at all.
    fn abandon(&mut self) {
        self.pending = None;
        self.alone = true;
    }
}

impl Engine {
    /// The block of the cache device for the checkpoint that was handed out last.
    pub fn checkpoint_block(&self) -> u64 {
        CHECKPOINT_BLOCKS[self.places.pending.unwrap_or_else(|| self.places.pick(self.generation))]
    }

    /// The write of the checkpoint has failed. It may succeed in another block: ask
    /// [`Engine::checkpoint_block`] again.
    pub fn checkpoint_missed(&mut self) {
        self.places.miss(self.generation);
    }

    /// The block of a checkpoint that is older than the last two, when no checkpoint is under way: write
    /// zeroes there, with FUA, and call [`Engine::checkpoint_blanked`]. To be asked after each checkpoint,
    /// until there is none; no other checkpoint may begin before.
    pub fn stale_checkpoint(&self) -> Option<u64> {
        if self.freeing.is_some() || self.failed {
            return None;
        }
        self.places.stale(self.generation).map(|i| CHECKPOINT_BLOCKS[i])
    }

    /// The block of [`Engine::stale_checkpoint`] is durably blank (`ok`), or could not be written: that is
    /// tried again some time.
    pub fn checkpoint_blanked(&mut self, block: u64, ok: bool) {
        if let Some(i) = CHECKPOINT_BLOCKS.iter().position(|&b| b == block) {
            self.places.blanked(i, self.generation, ok);
        }
    }

    /// A suspend begins: checkpoints go where they belong again, if these slots can be written, and
    /// [`Engine::note_durable`] makes as many as it takes. At most three: if the slots cannot be written,
    /// others stand in again.
    pub fn forgive_slots(&mut self) {
        self.places.forgive();
    }
}

/// No checkpoint can be written, and so nothing else may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritable;

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no checkpoint can be written")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    First,
    Second,
    /// The slots that are not in use.
    Blank,
    Done,
}

/// What a resume writes after its replay, before the engine is used: one sector after the other, each durable
/// before the next.
///
/// The cache device must have been flushed before.
#[derive(Debug)]
pub struct Opening {
    step: Step,
    checkpoint: Checkpoint,
    misses: usize,
}

impl Opening {
    /// For the checkpoint of [`super::replay::Replay::finish`].
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self { step: Step::First, checkpoint, misses: 0 }
    }

    /// What to write next, with FUA: a block of the cache device, and the checkpoint at its beginning, or
    /// zeroes. Then call [`Opening::written`].
    pub fn want(&self, engine: &Engine) -> Option<(u64, Option<Checkpoint>)> {
        match self.step {
            Step::First | Step::Second => Some((engine.checkpoint_block(), Some(self.checkpoint))),
            Step::Blank => engine.stale_checkpoint().map(|block| (block, None)),
            Step::Done => None,
        }
    }

    /// The sector of [`Opening::want`] is durable (`ok`), or could not be written.
    ///
    /// # Errors
    /// [`Unwritable`]: the volume must not be opened.
    pub fn written(&mut self, engine: &mut Engine, ok: bool) -> Result<(), Unwritable> {
        if let Step::Blank | Step::Done = self.step {
            // If the checkpoint cannot be blanked, it is older than two others all the same.
            if let Some(block) = engine.stale_checkpoint() {
                engine.checkpoint_blanked(block, ok);
            }
            return Ok(());
        }
        if !ok {
            self.misses += 1;
            // All slots but that of the newest checkpoint.
            if self.misses < CHECKPOINT_SLOTS - 1 {
                engine.checkpoint_missed();
                return Ok(());
            }
            if self.step == Step::First {
                return Err(Unwritable);
            }
            engine.places.abandon();
            engine.told = [engine.told[1], (Seq::NONE, Seq::NONE)];
            // The content of the other slots stays: it is all there is beside the one checkpoint.
            self.step = Step::Done;
            return Ok(());
        }
        self.misses = 0;
        if self.step == Step::First {
            self.step = Step::Second;
            self.checkpoint = engine.next_checkpoint();
        } else {
            self.step = Step::Blank;
        }
        Ok(())
    }
}
