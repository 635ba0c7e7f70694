// SPDX-License-Identifier: GPL-2.0-only

//! Whether there is room, which thread makes it, when a write is refused, when a drain is over, and which
//! threads each of these wakes: one machine.
//!
//! The volume tells the machine what happened, as a method of [`Room`] that changes it. The answer is which
//! threads to wake ([`Wake`]), and sometimes a verdict. Other methods only answer questions. The machine
//! lives behind the lock of the volume's core, so its events have one order. It knows no clock: where time
//! matters, `now_ms` is an argument.
//!
//! # The parts of the state
//! - `Life`: whether bios come, and whether a suspend is on its way.
//! - `Need`: whether segments run short, and which thread makes room then.
//! - `Outlook`: while only writeback makes room, whether writeback gets anything done. It exists only then.
//! - `Writeback`: the result of the last pass of writeback that was begun since there was reason to hope.
//! - `Drains`: which drains are under way, and for which records.
//!
//! # Invariants
//! 1. **A drain ends or fails.** Relocation rests while a drain is under way, because relocation would carry
//!    blocks behind the records that the drain is for. It rests no longer than writeback is hopeful.
//!    Writeback that is `Writeback::Stuck` ends each drain with an error. A pass that was begun before the
//!    drain says nothing about the drain: such a pass does not count.
//! 2. **A drain tells the truth.** A relocation during a drain makes the end of that drain an error, unless
//!    nothing at all is dirty.
//! 3. **A write is refused only when waiting would be in vain.** The machine is then in `Need::Full`:
//!    relocation has judged that it makes no room, or cannot read. And writeback, tried since the cache ran
//!    full, has written nothing, or for [`PATIENCE_MS`] got nothing done. The results of writeback from
//!    before the cache ran full do not count, because little was dirty then.
//! 4. **A suspend waits for nothing that can take long.** From `Life::Leaving` on no drain begins, and each
//!    drain that waits ends at once.
//! 5. **No wake-up is lost.** If an event brings about something that a thread waits for, the thread is in
//!    the answer to that event.

use super::retry::LASTS_MS;
use crate::engine::reclaim::Relocation;
use crate::format::Seq;
use core::num::NonZeroU32;
use core::ops::{BitOr, BitOrAssign};

/// A write that waits for room is refused when for so many milliseconds neither relocation nor writeback has
/// got anything done. Writes to the cache device are repeated for the same time.
pub const PATIENCE_MS: u64 = LASTS_MS;

/// The threads to be woken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[must_use = "whoever is to be woken waits until somebody does it"]
pub struct Wake(u8);

impl Wake {
    /// No thread.
    pub const NOBODY: Self = Self(0);
    /// The commit thread: writes may go on, or are to be refused.
    pub const COMMIT: Self = Self(1);
    /// The thread that moves the tail and relocates.
    pub const RECLAIM: Self = Self(2);
    /// The thread that writes back.
    pub const WRITEBACK: Self = Self(4);
    /// The tasks that wait for something to become durable or clean, or for a drain.
    pub const PROGRESS: Self = Self(8);
    /// The thread that reports the volume's state.
    pub const ALARM: Self = Self(16);

    /// These threads if `is` is true, and none otherwise.
    pub const fn when(self, is: bool) -> Self {
        if is {
            self
        } else {
            Self::NOBODY
        }
    }

    /// Whether all threads of `who` are among these.
    pub const fn has(self, who: Self) -> bool {
        self.0 & who.0 == who.0
    }
}

impl BitOr for Wake {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Wake {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The stage of the device's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Life {
    /// Bios come. The volume is all of its device if it is `alone`: nothing else holds bios while map is
    /// called.
    Running { alone: bool },
    /// A suspend is on its way. It waits for bios and messages.
    Leaving { alone: bool },
    /// No bios come, and no thread works.
    Suspended,
}

/// Whether segments run short, and which thread makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Need {
    /// There are enough free segments.
    Enough,
    /// Segments run short, and relocation makes room.
    Relocating,
    /// Segments run short, and relocation, which could make room, rests for a drain.
    Resting,
    /// Segments run short, and only writeback makes room.
    Full { why: Why, outlook: Outlook },
}

/// Why relocation makes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Why {
    /// It is not worth it: nearly all is dirty, or there is no room to begin with.
    NotWorthIt,
    /// It cannot read the blocks that are in the way, and it is not known how long that will be so.
    CannotRead,
    /// It cannot read the blocks that are in the way, but they will be given up within [`PATIENCE_MS`]: then
    /// relocation can make room.
    Salvages,
}

/// The prospects of writeback while only writeback makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outlook {
    /// Writeback gets something done, or has not been tried yet.
    Hopeful,
    /// Writeback has got nothing done since then, in milliseconds since boot. The backing device is `dead` if
    /// it has written nothing at all the last time it was tried.
    Helpless { since_ms: u64, dead: bool },
}

/// The result of the last pass of writeback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writeback {
    /// It gets something done, or that is not known.
    Hopeful,
    /// It has found nothing to do.
    Done,
    /// It has got nothing done, and something has failed.
    Stuck,
}

/// Drains that are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Drains {
    count: NonZeroU32,
    /// The newest record that one of the drains is for.
    goal: Seq,
}

/// How often there was reason to hope that writes which have failed would go well now: by a drain, or a
/// resume. A change makes writeback try everything at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hopes(u64);

/// A drain that is under way. It is given back to [`Room::drain_ends`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    goal: Seq,
    carried: u64,
}

impl Ticket {
    /// The newest record that the drain is for.
    pub fn goal(&self) -> Seq {
        self.goal
    }
}

/// A suspend is on its way, or the volume is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The state of the log that a drain depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Left {
    /// The durable tail is past all records that the drain is for.
    pub has_left: bool,
    /// Dirty blocks in the log.
    pub dirty: u64,
    /// The log has failed: it never becomes empty.
    pub failed: bool,
    /// The devices have another user now: nothing is written back any more.
    pub gone: bool,
}

/// The state of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// It is not over; these threads make it go on.
    Waits(Wake),
    /// All its records are written back.
    Done,
    /// Something could not be written back, or it is not known whether everything was.
    Failed,
    /// A suspend must not wait for the drain.
    Busy,
}

/// The next step of relocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It goes on.
    CarryOn,
    /// It could make room, but rests for a drain.
    Rest,
    /// It makes no room, so writeback has to.
    LeaveIt,
    /// It waits for the tail.
    Wait,
}

/// The purpose of a pass of writeback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Purpose {
    /// Writes wait for room, or will soon, and relocation makes none.
    pub urgent: bool,
    /// The newest record that drains are for, if there are any drains.
    pub drain: Option<Seq>,
    /// The machine's hopes when the pass began.
    pub hopes: Hopes,
    /// How often the cache had run full by then.
    pub fulls: u64,
}

/// The result of a pass of writeback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// The purpose of the pass.
    pub purpose: Purpose,
    /// The pass has looked at everything that it was for, and was not broken off.
    pub over: bool,
    /// It has found nothing to do.
    pub found_nothing: bool,
    /// It has got nothing done, and something has failed now or lately.
    pub is_stuck: bool,
    /// Something was written, whether or not it became clean.
    pub has_written: bool,
    /// A write or a flush was tried and has failed.
    pub has_failed: bool,
    /// The device has failed, in this pass or in an earlier one, and has written nothing since.
    pub device_failed: bool,
}

/// The part of the machine's state that is read without the lock, in one word. [`Room::glance`] makes it; the
/// volume stores it under the lock whenever the machine changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance(u32);

impl Glance {
    const FULL: u32 = 1;
    const DRAINING: u32 = 2;
    const ALONE: u32 = 4;
    const LEAVING: u32 = 8;
    const SUSPENDED: u32 = 16;

    /// Decodes a [`Glance::word`].
    pub const fn of(word: u32) -> Self {
        Self(word)
    }

    /// The whole state as one word.
    pub const fn word(self) -> u32 {
        self.0
    }

    const fn is(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Segments run short and only writeback makes room.
    pub const fn is_full(self) -> bool {
        self.is(Self::FULL)
    }

    /// A drain is under way.
    pub const fn is_draining(self) -> bool {
        self.is(Self::DRAINING)
    }

    /// Writeback has to work, whatever the options say, because room is short or a drain is under way.
    pub const fn must_write_back(self) -> bool {
        self.is(Self::FULL | Self::DRAINING)
    }

    /// The volume is all of its device, and bios come.
    pub const fn is_alone(self) -> bool {
        self.is(Self::ALONE)
    }

    /// A suspend is on its way, or the volume is suspended.
    pub const fn is_leaving(self) -> bool {
        self.is(Self::LEAVING | Self::SUSPENDED)
    }

    /// The volume is suspended.
    pub const fn is_suspended(self) -> bool {
        self.is(Self::SUSPENDED)
    }
}

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Room {
    life: Life,
    need: Need,
    writeback: Writeback,
    drains: Option<Drains>,
    hopes: Hopes,
    /// The number of times that the cache ran full, so that only writeback could make room.
    fulls: u64,
    /// How often relocation has moved something during a drain, behind the records that the drain is for.
    carried: u64,
}

/// A volume that is not resumed yet.
impl Default for Room {
    fn default() -> Self {
        Self {
            life: Life::Suspended,
            need: Need::Enough,
            writeback: Writeback::Hopeful,
            drains: None,
            hopes: Hopes(0),
            fulls: 0,
            carried: 0,
        }
    }
}

/// Life.
impl Room {
    /// Bios come again. The devices may be different ones now.
    pub fn resumes(&mut self, alone: bool) -> Wake {
        self.life = Life::Running { alone };
        self.hopes = Hopes(self.hopes.0.wrapping_add(1));
        self.hope();
        Wake::WRITEBACK | Wake::RECLAIM | Wake::PROGRESS
    }

    /// There is going to be a suspend.
    pub fn leaves(&mut self) -> Wake {
        if let Life::Running { alone } = self.life {
            self.life = Life::Leaving { alone };
        }
        Wake::PROGRESS
    }

    /// There is going to be no suspend after all.
    pub fn stays(&mut self) -> Wake {
        if let Life::Leaving { alone } = self.life {
            self.life = Life::Running { alone };
        }
        Wake::PROGRESS
    }

    /// All bios and messages have ended: no thread works from now on.
    pub fn suspends(&mut self) -> Wake {
        self.life = Life::Suspended;
        Wake::NOBODY
    }
}

/// Room.
impl Room {
    /// There are enough free segments.
    pub fn room_is_there(&mut self) -> Wake {
        self.needs(Need::Enough)
    }

    /// Segments run short. `verdict` says, judged by the state of the log, whether relocation makes room.
    pub fn relocation_judged(&mut self, verdict: Relocation) -> (Course, Wake) {
        match verdict {
            Relocation::MakesRoom if self.is_draining() && !self.is_stuck() => {
                // A drain waits until the oldest segments are written back, and must not lose sight of the
                // blocks in them. Relocation rests only until the drain is over, or gets nothing done: no
                // write is refused meanwhile.
                (Course::Rest, self.needs(Need::Resting) | Wake::WRITEBACK)
            }
            Relocation::MakesRoom => {
                self.carried = self.carried.wrapping_add(self.is_draining().into());
                let wake = match self.need {
                    // It is not known yet whether the blocks that were unreadable can be read now.
                    Need::Full { why: Why::CannotRead | Why::Salvages, .. } => Wake::NOBODY,
                    // No write is refused while relocation reads.
                    _ => self.needs(Need::Relocating),
                };
                // Writes that were delayed may go on at once.
                (Course::CarryOn, wake | Wake::COMMIT)
            }
            Relocation::Useless => (Course::LeaveIt, self.leave_to_writeback(Why::NotWorthIt)),
            Relocation::Waits => {
                if matches!(self.need, Need::Enough | Need::Resting) {
                    self.need = Need::Relocating;
                }
                (Course::Wait, Wake::NOBODY)
            }
        }
    }

    /// Relocation has read the blocks that it moves, and moves them.
    pub fn relocation_begins(&mut self) -> Wake {
        self.needs(Need::Relocating)
    }

    /// Relocation cannot read the blocks that are in the way. With `soon` they will be given up within
    /// [`PATIENCE_MS`]; without, it is not known when.
    pub fn relocation_cannot_read(&mut self, soon: bool) -> Wake {
        self.leave_to_writeback(if soon { Why::Salvages } else { Why::CannotRead })
    }

    /// A write finds no room; not for the first time, if it has `waited`. `is_full` says whether the log is
    /// still full.
    pub fn write_waits(&self, waited: bool, is_full: bool, now_ms: u64) -> Wake {
        // A writeback that is stuck wakes the writes that have waited, so those need not wake writeback.
        Wake::RECLAIM
            | Wake::WRITEBACK.when(!waited || !self.is_stuck())
            | Wake::COMMIT.when(self.gives_up(is_full, now_ms))
    }

    /// Whether a write that finds no room is refused, because it would wait for ever: relocation is not worth
    /// it or cannot read, and the backing device writes nothing or nothing can be read for it. A suspend
    /// would wait with such a write, and repairing the cache device may need that suspend.
    pub fn gives_up(&self, is_full: bool, now_ms: u64) -> bool {
        match self.need {
            Need::Full { why: Why::Salvages, .. } => false,
            Need::Full { outlook: Outlook::Helpless { since_ms, dead }, .. } => {
                is_full && (dead || now_ms.saturating_sub(since_ms) >= PATIENCE_MS)
            }
            Need::Full { .. } | Need::Enough | Need::Relocating | Need::Resting => false,
        }
    }

    fn needs(&mut self, need: Need) -> Wake {
        let was_full = core::mem::replace(&mut self.need, need).is_full();
        Wake::ALARM.when(was_full != need.is_full())
    }

    fn leave_to_writeback(&mut self, reason: Why) -> Wake {
        if let Need::Full { why, .. } = &mut self.need {
            let before = core::mem::replace(why, reason);
            // Writes that have waited only until blocks are given up are to be refused.
            let gives_up = before == Why::Salvages && reason != Why::Salvages;
            // When writeback gets nothing done either, relocation and writeback would wake each other without
            // end.
            return Wake::WRITEBACK.when(!self.is_stuck()) | Wake::COMMIT.when(gives_up);
        }
        // A pass that got nothing done when little was dirty and writeback was not needed says nothing. If
        // the device is still dead, the next pass shows it.
        self.hope();
        self.fulls = self.fulls.wrapping_add(1);
        self.needs(Need::Full { why: reason, outlook: Outlook::Hopeful }) | Wake::WRITEBACK
    }
}

impl Need {
    const fn is_full(self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Writeback.
impl Room {
    /// The purpose of a pass that begins now.
    pub fn pass_begins(&self) -> Purpose {
        Purpose {
            urgent: matches!(self.need, Need::Resting | Need::Full { .. }),
            drain: self.drains.map(|drains| drains.goal),
            hopes: self.hopes,
            fulls: self.fulls,
        }
    }

    /// Something is clean now: a write that waits for room may have to wait for long, but not in vain.
    pub fn cleaned(&mut self) -> Wake {
        self.hope();
        Wake::RECLAIM | Wake::PROGRESS
    }

    /// A pass is over, or was broken off.
    pub fn pass_ends(&mut self, pass: &Ended, now_ms: u64) -> Wake {
        // A pass that was begun before a drain, or before a resume, says nothing about the hopes since.
        let counts = pass.purpose.hopes == self.hopes;
        // A pass that was begun before it was needed does not show that the device writes nothing.
        let was_needed = counts && pass.purpose.fulls == self.fulls;
        let before = self.writeback;
        if pass.over && counts {
            self.writeback = match (pass.is_stuck, pass.found_nothing) {
                (true, _) => Writeback::Stuck,
                (false, true) => Writeback::Done,
                (false, false) => Writeback::Hopeful,
            };
        }
        if let Need::Full { outlook, .. } = &mut self.need {
            *outlook = outlook.after(pass, was_needed, now_ms);
        }
        // A drain that waits wakes writeback whenever it looks, so a pass that has changed nothing must not
        // wake the drain. A write that waits for room may have to give up.
        Wake::PROGRESS.when(self.writeback != before) | Wake::COMMIT.when(pass.is_stuck)
    }

    /// Whether the last pass has got nothing done, and something has failed.
    pub fn is_stuck(&self) -> bool {
        self.writeback == Writeback::Stuck
    }

    /// Earlier hopelessness is forgotten: something goes well, may go well now, or is to be tried again.
    fn hope(&mut self) {
        if self.writeback == Writeback::Stuck {
            self.writeback = Writeback::Hopeful;
        }
        if let Need::Full { outlook, .. } = &mut self.need {
            *outlook = Outlook::Hopeful;
        }
    }
}

impl Outlook {
    /// The outlook after a pass. The pass says whether the device is dead only if it was begun when it
    /// `was_needed`, and has tried to write something.
    fn after(self, pass: &Ended, was_needed: bool, now_ms: u64) -> Self {
        let (since, was_dead) = match self {
            Self::Hopeful => (None, false),
            Self::Helpless { since_ms, dead } => (Some(since_ms), dead),
        };
        let has_tried = pass.has_written || pass.has_failed;
        // If only the flush has failed, a write that waits for room keeps its patience.
        let dead = if was_needed && has_tried { pass.device_failed && !pass.has_written } else { was_dead };
        let is_helpless = if pass.over { pass.is_stuck } else { since.is_some() };
        if dead || is_helpless {
            Self::Helpless { since_ms: since.unwrap_or(now_ms), dead }
        } else {
            Self::Hopeful
        }
    }
}

/// Drains.
impl Room {
    /// A task wants all records up to `goal` to be written back. No relocation is under way; later ones know
    /// of the drain.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn drain_begins(&mut self, goal: Seq) -> Result<(Ticket, Wake), Busy> {
        let Life::Running { .. } = self.life else { return Err(Busy) };
        self.drains = Some(match self.drains {
            None => Drains { count: NonZeroU32::MIN, goal },
            Some(Drains { count, goal: other }) => {
                Drains { count: count.saturating_add(1), goal: goal.max(other) }
            }
        });
        self.hopes = Hopes(self.hopes.0.wrapping_add(1));
        self.writeback = Writeback::Hopeful;
        if let Need::Full { outlook: Outlook::Helpless { dead, .. }, .. } = &mut self.need {
            *dead = false;
        }
        Ok((Ticket { goal, carried: self.carried }, Wake::COMMIT))
    }

    /// The state of the drain.
    pub fn drain(&self, ticket: &Ticket, left: &Left) -> Drain {
        if !matches!(self.life, Life::Running { .. }) {
            // A suspend waits for the drain, and everything else waits for the suspend.
            return Drain::Busy;
        }
        if left.has_left {
            // When writeback gets nothing done, relocation does not rest. The tail says nothing about the
            // blocks that relocation has moved.
            let all = left.dirty == 0 || self.carried == ticket.carried;
            return if all { Drain::Done } else { Drain::Failed };
        }
        // A log that has failed never becomes empty, but its durable records can be written back all the
        // same.
        let is_over = left.failed && (self.writeback != Writeback::Hopeful || left.gone);
        if is_over || self.is_stuck() {
            return Drain::Failed;
        }
        Drain::Waits(Wake::WRITEBACK | Wake::RECLAIM)
    }

    /// The drain is over, however it ended. Relocation that rested for it goes on, and so does writeback that
    /// worked only for it.
    pub fn drain_ends(&mut self, ticket: Ticket) -> Wake {
        let Ticket { .. } = ticket;
        self.drains = self.drains.and_then(|Drains { count, goal }| {
            let count = NonZeroU32::new(count.get().saturating_sub(1))?;
            Some(Drains { count, goal })
        });
        match self.need {
            _ if self.is_draining() => Wake::NOBODY,
            Need::Enough | Need::Relocating => Wake::NOBODY,
            Need::Resting => {
                self.need = Need::Relocating;
                Wake::RECLAIM
            }
            Need::Full { .. } => Wake::WRITEBACK,
        }
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.drains.is_some()
    }
}

/// Access for others.
impl Room {
    /// The state that is read without the lock.
    pub fn glance(&self) -> Glance {
        let life = match self.life {
            Life::Running { alone: true } => Glance::ALONE,
            Life::Running { alone: false } => 0,
            Life::Leaving { alone: true } => Glance::LEAVING | Glance::ALONE,
            Life::Leaving { alone: false } => Glance::LEAVING,
            Life::Suspended => Glance::SUSPENDED,
        };
        let full = if self.need.is_full() { Glance::FULL } else { 0 };
        let draining = if self.is_draining() { Glance::DRAINING } else { 0 };
        Glance(life | full | draining)
    }
}

#[cfg(test)]
mod explore;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    /// A volume at work.
    fn running() -> Room {
        let mut room = Room::default();
        let _ = room.resumes(true);
        room
    }

    /// A volume that is full, because relocation is not worth it.
    fn full() -> Room {
        let mut room = running();
        let (course, wake) = room.relocation_judged(Relocation::Useless);
        assert!(course == Course::LeaveIt && wake.has(Wake::WRITEBACK | Wake::ALARM));
        room
    }

    fn drain(room: &mut Room, goal: u64) -> Ticket {
        room.drain_begins(Seq(goal)).unwrap().0
    }

    /// A pass that was begun now, and has got nothing done.
    fn stuck(room: &Room) -> Ended {
        Ended { purpose: room.pass_begins(), over: true, is_stuck: true, ..Ended::default() }
    }

    /// The same, because the device writes nothing.
    fn dead(room: &Room) -> Ended {
        Ended { has_failed: true, device_failed: true, ..stuck(room) }
    }

    fn ends(room: &mut Room, pass: Ended, now_ms: u64) -> Wake {
        room.pass_ends(&pass, now_ms)
    }

    #[test]
    fn a_write_waits_while_relocation_makes_room() {
        let mut room = running();
        let (course, wake) = room.relocation_judged(Relocation::MakesRoom);
        assert_eq!((course, wake), (Course::CarryOn, Wake::COMMIT));
        assert_eq!(room.relocation_begins(), Wake::NOBODY);
        let pass = dead(&room);
        assert!(ends(&mut room, pass, NOW).has(Wake::COMMIT));
        assert!(!room.gives_up(true, NOW + 10 * PATIENCE_MS) && !room.glance().is_full());
        assert!(!room.pass_begins().urgent);
    }

    #[test]
    fn a_device_that_writes_nothing_is_not_waited_for() {
        let mut room = full();
        assert!(room.pass_begins().urgent && !room.gives_up(true, NOW));
        let pass = dead(&room);
        assert_eq!(ends(&mut room, pass, NOW), Wake::PROGRESS | Wake::COMMIT);
        assert!(room.gives_up(true, NOW) && !room.gives_up(false, NOW), "there is room after all");
        assert!(room.write_waits(true, true, NOW).has(Wake::COMMIT | Wake::RECLAIM));
        assert!(!room.write_waits(true, true, NOW).has(Wake::WRITEBACK), "it is stuck");
        assert!(room.write_waits(false, true, NOW).has(Wake::WRITEBACK), "it may work by now");
        // Something goes well.
        assert_eq!(room.cleaned(), Wake::RECLAIM | Wake::PROGRESS);
        assert!(!room.gives_up(true, NOW + PATIENCE_MS) && room.glance().is_full());
    }

    #[test]
    fn one_that_writes_but_gets_nothing_done_is_waited_for_as_long_as_one_has_patience() {
        let mut room = full();
        for at in [0, 4000, 8000] {
            let pass = stuck(&room);
            let _ = ends(&mut room, pass, NOW + at);
        }
        assert!(!room.gives_up(true, NOW + PATIENCE_MS - 1) && room.gives_up(true, NOW + PATIENCE_MS));
        // A pass that was broken off changes nothing.
        let broken = Ended { purpose: room.pass_begins(), ..Ended::default() };
        let _ = ends(&mut room, broken, NOW + PATIENCE_MS);
        assert!(room.gives_up(true, NOW + PATIENCE_MS));
        // When only the flush fails, the device is not dead the first time, but not well either.
        let pass = Ended { has_written: true, ..dead(&room) };
        let _ = ends(&mut room, pass, NOW + 9000);
        assert!(!room.gives_up(true, NOW + 9000) && room.gives_up(true, NOW + PATIENCE_MS));
        let pass = Ended { is_stuck: false, ..stuck(&room) };
        let _ = ends(&mut room, pass, NOW + PATIENCE_MS);
        assert!(!room.gives_up(true, NOW + 2 * PATIENCE_MS));
    }

    #[test]
    fn what_writeback_did_before_it_was_needed_does_not_count() {
        let mut room = running();
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert!(room.is_stuck());
        let (_, wake) = room.relocation_judged(Relocation::Useless);
        assert!(wake.has(Wake::WRITEBACK) && !room.is_stuck() && !room.gives_up(true, NOW + PATIENCE_MS));
        // From now on its passes count, and it is not woken in vain.
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert_eq!(room.relocation_judged(Relocation::Useless), (Course::LeaveIt, Wake::NOBODY));
        assert!(room.gives_up(true, NOW));
    }

    #[test]
    fn only_what_was_tried_since_the_cache_ran_full_says_that_the_device_is_dead() {
        // The device failed a while ago, and is back.
        let mut room = running();
        let begun = room.pass_begins();
        let (_, _) = room.relocation_judged(Relocation::Useless);
        // A pass of background writeback ends early, because one that makes room is needed. It has tried
        // nothing.
        let pass = Ended { purpose: begun, device_failed: true, ..Ended::default() };
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.gives_up(true, NOW + PATIENCE_MS));
        // The pass has tried something, but before the cache ran full.
        let pass = Ended { has_failed: true, is_stuck: true, over: true, ..pass };
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.gives_up(true, NOW) && room.gives_up(true, NOW + PATIENCE_MS));
        // Everything that there is to write back has failed lately, and is left alone.
        let mut room = full();
        let pass = Ended { device_failed: true, ..stuck(&room) };
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.gives_up(true, NOW) && room.gives_up(true, NOW + PATIENCE_MS));
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert!(room.gives_up(true, NOW), "now it was tried");
        // There is nothing to write back, which is no failure.
        let pass = Ended { is_stuck: false, has_failed: false, ..pass };
        let _ = ends(&mut room, pass, NOW);
        assert!(room.gives_up(true, NOW), "what was tried counts until something else is");
    }

    #[test]
    fn blocks_that_will_be_given_up_are_waited_for() {
        let mut room = running();
        let _ = room.relocation_judged(Relocation::MakesRoom);
        assert!(room.relocation_cannot_read(true).has(Wake::WRITEBACK | Wake::ALARM));
        let pass = stuck(&room);
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.gives_up(true, NOW + PATIENCE_MS), "they will be given up soon");
        // It does not matter either that the backing device writes nothing: relocation will need only the
        // cache device.
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.gives_up(true, NOW));
        assert_eq!(room.relocation_cannot_read(true), Wake::NOBODY);
        assert_eq!(room.relocation_cannot_read(false), Wake::COMMIT, "a write that waits is to be refused");
        assert!(room.gives_up(true, NOW + PATIENCE_MS), "nobody knows when");
        let _ = room.relocation_cannot_read(true);
        assert_eq!(room.relocation_judged(Relocation::Useless), (Course::LeaveIt, Wake::COMMIT));
        assert!(room.gives_up(true, NOW + PATIENCE_MS), "it is no use if they are");
        let _ = room.relocation_cannot_read(false);
        let _ = room.relocation_judged(Relocation::MakesRoom);
        assert!(room.gives_up(true, NOW + PATIENCE_MS), "not read yet");
        assert_eq!(room.relocation_begins(), Wake::ALARM);
        assert!(!room.gives_up(true, NOW + PATIENCE_MS));
    }

    #[test]
    fn no_write_is_refused_while_relocation_reads_what_is_worth_it_by_now() {
        let mut room = full();
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert!(room.gives_up(true, NOW));
        // This wakes the commit thread, which would refuse the waiting write if the machine still gave up.
        let (course, wake) = room.relocation_judged(Relocation::MakesRoom);
        assert_eq!((course, wake), (Course::CarryOn, Wake::COMMIT | Wake::ALARM));
        assert!(!room.gives_up(true, NOW));
        // Relocation could not read after all: writeback is tried anew.
        assert!(room.relocation_cannot_read(false).has(Wake::WRITEBACK | Wake::ALARM));
        assert!(!room.gives_up(true, NOW));
    }

    #[test]
    fn room_ends_it_and_the_next_time_is_a_new_beginning() {
        let mut room = full();
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        assert_eq!(room.room_is_there(), Wake::ALARM);
        assert_eq!(room.room_is_there(), Wake::NOBODY);
        assert!(!room.gives_up(true, NOW) && !room.pass_begins().urgent);
        let _ = room.relocation_judged(Relocation::Useless);
        assert!(!room.gives_up(true, NOW + PATIENCE_MS));
    }

    #[test]
    fn relocation_rests_for_a_drain_that_gets_on() {
        let mut room = full();
        let ticket = drain(&mut room, 7);
        let (course, wake) = room.relocation_judged(Relocation::MakesRoom);
        assert!(course == Course::Rest && wake.has(Wake::WRITEBACK | Wake::ALARM));
        let purpose = Purpose { urgent: true, drain: Some(Seq(7)), hopes: room.hopes, fulls: 1 };
        assert_eq!(room.pass_begins(), purpose);
        let left = Left { dirty: 5, ..Left::default() };
        assert_eq!(room.drain(&ticket, &left), Drain::Waits(Wake::WRITEBACK | Wake::RECLAIM));
        let gone = Left { has_left: true, ..left };
        assert_eq!(room.drain(&ticket, &gone), Drain::Done, "what is dirty was written since");
        let _ = room.drain_ends(ticket);
        assert_eq!(room.relocation_judged(Relocation::MakesRoom).0, Course::CarryOn);
        assert!(!room.is_draining());
    }

    #[test]
    fn relocation_that_rests_is_woken_when_the_last_drain_is_over() {
        let mut room = running();
        let (one, other) = (drain(&mut room, 7), drain(&mut room, 8));
        assert_eq!(room.relocation_judged(Relocation::MakesRoom).0, Course::Rest);
        // A signal may have ended it: nothing else knows of that.
        assert_eq!(room.drain_ends(other), Wake::NOBODY);
        assert!(room.pass_begins().urgent);
        assert_eq!(room.drain_ends(one), Wake::RECLAIM);
        assert!(!room.pass_begins().urgent);
        let ticket = drain(&mut room, 9);
        assert_eq!(room.drain_ends(ticket), Wake::NOBODY, "it did not rest");
    }

    #[test]
    fn writeback_that_found_nothing_to_do_for_a_drain_is_woken_behind_it() {
        let mut room = full();
        let ticket = drain(&mut room, 7);
        let pass = Ended { found_nothing: true, is_stuck: false, ..stuck(&room) };
        let _ = ends(&mut room, pass, NOW);
        assert_eq!(room.drain_ends(ticket), Wake::WRITEBACK, "there is more than the drain was for");
        assert_eq!(room.pass_begins().drain, None);
    }

    #[test]
    fn a_drain_that_gets_nothing_done_fails_and_what_was_carried_is_no_success() {
        let mut room = running();
        let ticket = drain(&mut room, 7);
        let pass = stuck(&room);
        assert!(ends(&mut room, pass, NOW).has(Wake::PROGRESS));
        assert_eq!(room.drain(&ticket, &Left::default()), Drain::Failed);
        // Before the task has looked, relocation goes on, and moves the tail past the goal.
        assert_eq!(room.relocation_judged(Relocation::MakesRoom).0, Course::CarryOn);
        let left = Left { has_left: true, dirty: 1, ..Left::default() };
        assert_eq!(room.drain(&ticket, &left), Drain::Failed);
        assert_eq!(room.drain(&ticket, &Left { dirty: 0, ..left }), Drain::Done, "nothing is dirty");
        let another = drain(&mut room, 9);
        assert_eq!(room.drain(&another, &left), Drain::Done, "nothing was carried since");
        let _ = room.drain_ends(ticket);
        assert!(room.is_draining());
        let _ = room.drain_ends(another);
        assert!(!room.is_draining());
    }

    #[test]
    fn a_pass_that_was_begun_before_a_drain_says_nothing_about_it() {
        let mut room = full();
        let before = dead(&room);
        let ticket = drain(&mut room, 7);
        let _ = ends(&mut room, before, NOW);
        assert!(!room.is_stuck() && !room.gives_up(true, NOW));
        assert!(matches!(room.drain(&ticket, &Left::default()), Drain::Waits(_)));
        // But nothing was done in the pass, and a write waits.
        assert!(room.gives_up(true, NOW + PATIENCE_MS));
        let pass = Ended { is_stuck: false, found_nothing: true, ..stuck(&room) };
        let _ = ends(&mut room, pass, NOW);
        assert!(matches!(room.drain(&ticket, &Left::default()), Drain::Waits(_)), "for the tail");
        assert_eq!(room.drain(&ticket, &Left { failed: true, ..Left::default() }), Drain::Failed);
    }

    #[test]
    fn a_drain_of_a_log_that_has_failed_writes_back_what_it_can() {
        let mut room = running();
        let ticket = drain(&mut room, 7);
        let left = Left { failed: true, dirty: 3, ..Left::default() };
        assert!(matches!(room.drain(&ticket, &left), Drain::Waits(_)));
        assert_eq!(room.drain(&ticket, &Left { gone: true, ..left }), Drain::Failed);
        let pass = Ended { purpose: room.pass_begins(), over: true, ..Ended::default() };
        let _ = ends(&mut room, pass, NOW);
        assert!(matches!(room.drain(&ticket, &left), Drain::Waits(_)), "there may be more");
        let _ = ends(&mut room, Ended { found_nothing: true, ..pass }, NOW);
        assert_eq!(room.drain(&ticket, &left), Drain::Failed);
    }

    #[test]
    fn a_suspend_waits_for_no_drain() {
        let mut room = Room::default();
        assert_eq!(room.drain_begins(Seq(1)), Err(Busy), "not resumed yet");
        let _ = room.resumes(true);
        let ticket = drain(&mut room, 1);
        assert!(room.leaves().has(Wake::PROGRESS) && room.glance().is_leaving());
        assert_eq!(room.drain(&ticket, &Left { has_left: true, ..Left::default() }), Drain::Busy);
        assert_eq!(room.drain_begins(Seq(2)), Err(Busy));
        let _ = room.stays();
        assert!(matches!(room.drain(&ticket, &Left::default()), Drain::Waits(_)), "not after all");
        let _ = room.leaves();
        let _ = room.suspends();
        assert_eq!(room.drain(&ticket, &Left::default()), Drain::Busy);
        // Device-mapper may call these once more.
        let _ = (room.leaves(), room.stays());
        assert!(room.glance().is_suspended() && room.glance().is_leaving() && !room.glance().is_alone());
    }

    #[test]
    fn a_resume_forgets_old_verdicts() {
        let mut room = full();
        let pass = dead(&room);
        let _ = ends(&mut room, pass, NOW);
        let _ = room.suspends();
        assert!(room.resumes(false).has(Wake::WRITEBACK | Wake::RECLAIM | Wake::PROGRESS));
        assert!(!room.gives_up(true, NOW + PATIENCE_MS) && !room.is_stuck() && room.glance().is_full());
        assert_ne!(room.pass_begins().hopes, pass.purpose.hopes, "all is tried at once");
        let _ = ends(&mut room, pass, NOW);
        assert!(!room.is_stuck() && !room.gives_up(true, NOW), "it is of before");
    }

    #[test]
    fn what_is_seen_at_a_glance() {
        let mut room = running();
        let alone = room.glance();
        assert!(alone.is_alone() && !alone.is_leaving() && !alone.must_write_back());
        assert_eq!(Glance::of(alone.word()), alone);
        let ticket = drain(&mut room, 1);
        assert!(room.glance().is_draining() && room.glance().must_write_back() && !room.glance().is_full());
        let _ = room.drain_ends(ticket);
        let _ = room.relocation_judged(Relocation::Useless);
        assert!(room.glance().is_full() && room.glance().must_write_back());
        let _ = room.leaves();
        assert!(room.glance().is_alone() && room.glance().is_leaving() && !room.glance().is_suspended());
        let _ = room.resumes(false);
        assert!(!room.glance().is_alone() && !room.glance().is_leaving());
    }
}
