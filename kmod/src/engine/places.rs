// SPDX-License-Identifier: GPL-2.0-only

//! Which of its four slots a checkpoint goes to.
//!
//! A sector is what a disk writes whole or not at all; but a write that the power cuts off may leave one that cannot be read,
//! and some sectors can be neither read nor written any more. Two slots are in use, and two more, elsewhere in the first MiB,
//! stand in for those that fail.
//!
//! # Invariants
//! - The slot of the newest durable checkpoint is never written: whatever becomes of a write to another one, it is there. So a
//!   checkpoint that finds no other slot is not written at all, and the log fails, which loses nothing.
//! - Of the slots that can be read, the highest generation holds, wherever it is. No two checkpoints have the same generation: who
//!   goes on from one while others cannot be read leaves out as many numbers as these may have, twice ([`Chosen::doubtful`]), and of
//!   epochs as many. Else a checkpoint that can be read again one day, or the records of its epoch, would count.
//! - A resume makes two checkpoints durable, if there are two slots for them, before anything is written: then either is enough,
//!   and both know the epoch. What is in other slots is older, and blanked, or it would count when these two are lost, and
//!   bring back what was written back long ago. Only if that fails, and both others do, would it.
//! - So it is in the middle of a life: when a checkpoint is durable in another slot than its own, all are blanked but this one and
//!   the one before ([`Engine::stale_checkpoint`]). A failure may have been a short one, and the slot would keep for years what it
//!   had then. A suspend tries again where checkpoints belong ([`Engine::forgive_slots`]): there an older module looks, too.

use super::Engine;
use crate::format::{Checkpoint, Chosen, Seq, CHECKPOINT_BLOCKS, CHECKPOINT_SLOTS};
use core::fmt;

/// The slots of one volume's checkpoints.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// That of the newest checkpoint that is known durable.
    newest: Option<usize>,
    /// That of the one which was handed out last.
    pending: Option<usize>,
    /// How often each has failed.
    failures: [u8; CHECKPOINT_SLOTS],
    /// What may not be blank.
    filled: [bool; CHECKPOINT_SLOTS],
    /// Before this generation it is not blanked: that has failed, and may take a device long.
    spared: [u64; CHECKPOINT_SLOTS],
    /// So many checkpoints may be made to have the last two where they belong.
    homeward: u8,
    /// The medium has lost the newest one since.
    pub(super) is_lost: bool,
    /// There is one slot only that can be written.
    pub(super) alone: bool,
}

impl Places {
    /// As a resume has found them.
    pub(super) fn of(chosen: &Chosen) -> Self {
        Self {
            newest: Some(chosen.slot),
            failures: chosen.unreadable.map(u8::from),
            filled: chosen.filled,
            ..Self::default()
        }
    }

    /// The best slot for a checkpoint of this generation: the one of its turn, what stands in for that, or any other but that of
    /// the newest one. What has failed comes last.
    fn pick(&self, generation: u64) -> usize {
        let turn = (generation % 2) as usize;
        [turn, turn + 2, 1 - turn, 3 - turn]
            .into_iter()
            .filter(|&i| Some(i) != self.newest)
            .min_by_key(|&i| self.failures[i])
            .unwrap_or(turn)
    }

    /// A checkpoint of this generation is handed out. The one before is durable, for one is made at a time, unless it was
    /// [abandoned](Self::abandon).
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

    /// It could not be written where it belongs: the next attempt is made elsewhere.
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

    /// Whether a checkpoint would do nothing but bring the last two nearer to where they belong.
    pub(super) fn leads_home(&self) -> bool {
        self.homeward != 0 && !self.are_home()
    }

    /// The slots where checkpoints belong count as good again. What stands in for them is then no better than they are.
    fn forgive(&mut self) {
        for (i, failures) in self.failures.iter_mut().enumerate() {
            *failures = (*failures).min(u8::from(i >= 2));
        }
        self.spared = [0; CHECKPOINT_SLOTS];
        // The first may find the newest one in its own slot.
        self.homeward = 3;
    }

    /// The newest one, of which it was known that it is durable, is lost: that before it, in slot `before`, is the newest now.
    /// Says whether that is new.
    pub(super) fn lose(&mut self, before: usize) -> bool {
        // Otherwise it is known already, or it was never written.
        let Some(i) = self.pending.take() else { return false };
        self.failures[i] = self.failures[i].saturating_add(1);
        self.newest = Some(before);
        self.is_lost = true;
        true
    }

    /// It will not be written at all.
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

    /// Its write has failed. It may go well in another one: ask [`Engine::checkpoint_block`] again.
    pub fn checkpoint_missed(&mut self) {
        self.places.miss(self.generation);
    }

    /// The block of a checkpoint that is older than the last two, when no checkpoint is under way: write zeroes there, with FUA, and
    /// call [`Engine::checkpoint_blanked`]. To be asked behind each checkpoint, until there is none; no other may begin before.
    pub fn stale_checkpoint(&self) -> Option<u64> {
        if self.freeing.is_some() || self.failed {
            return None;
        }
        self.places.stale(self.generation).map(|i| CHECKPOINT_BLOCKS[i])
    }

    /// The block of [`Engine::stale_checkpoint`] is durably blank (`ok`), or could not be written: that is tried again some time.
    pub fn checkpoint_blanked(&mut self, block: u64, ok: bool) {
        if let Some(i) = CHECKPOINT_BLOCKS.iter().position(|&b| b == block) {
            self.places.blanked(i, self.generation, ok);
        }
    }

    /// A suspend begins: checkpoints go where they belong again, if that can be written, and [`Engine::note_durable`] makes as
    /// many as it takes. At most three: if it cannot be written, others stand in again.
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

/// What a resume writes behind its replay, before the engine is used: one sector after the other, each durable before the next.
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

    /// What to write next, with FUA: a block of the cache device, and the checkpoint at its beginning, or zeroes. Then call
    /// [`Opening::written`].
    pub fn want(&self, engine: &Engine) -> Option<(u64, Option<Checkpoint>)> {
        match self.step {
            Step::First | Step::Second => Some((engine.checkpoint_block(), Some(self.checkpoint))),
            Step::Blank => engine.stale_checkpoint().map(|block| (block, None)),
            Step::Done => None,
        }
    }

    /// It is durable (`ok`), or could not be written.
    ///
    /// # Errors
    /// [`Unwritable`]: the volume must not be opened.
    pub fn written(&mut self, engine: &mut Engine, ok: bool) -> Result<(), Unwritable> {
        if let Step::Blank | Step::Done = self.step {
            // If it cannot be blanked, it is older than two others all the same.
            if let Some(block) = engine.stale_checkpoint() {
                engine.checkpoint_blanked(block, ok);
            }
            return Ok(());
        }
        if !ok {
            self.misses += 1;
            // All but that of the newest one.
            if self.misses < CHECKPOINT_SLOTS - 1 {
                engine.checkpoint_missed();
                return Ok(());
            }
            if self.step == Step::First {
                return Err(Unwritable);
            }
            engine.places.abandon();
            engine.told = [engine.told[1], (Seq::NONE, Seq::NONE)];
            // What is in the other slots stays: it is all there is beside the one.
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
