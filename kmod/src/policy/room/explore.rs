// SPDX-License-Identifier: GPL-2.0-only

//! Every state that the machine can get into, with a small world around it.
//!
//! The world has a log of [`UNITS`] units, two devices that fail and come back, four threads, a write that
//! waits for room, drains, and a device-mapper that suspends. It moves in small steps, in every order: steps
//! of the environment, and steps of threads that are awake. A thread is awake when it was woken since it has
//! looked last, or is at work. Nothing else wakes the commit thread and the tasks that wait for a drain.
//! Reclaim and writeback also look once in a while, as they do in a volume: [`Step::Tick`].
//!
//! The world knows more than the machine does: all attempts and their results. It judges the machine by them:
//! in each state ([`World::check`]), at each refusal of a write ([`World::refuse`]), and by the further
//! course of each state when the environment changes no more ([`settle`]).

use super::*;
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashSet;
use std::format;
use std::string::String;
use std::vec::Vec;

/// The size of the log. Segments run short when fewer than two units are free.
const UNITS: u8 = 3;
const NOW: u64 = 1 << 40;
/// Time passes in so many milliseconds.
const TICK_MS: u64 = PATIENCE_MS / 2;

/// Whether relocation can read the units that are in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reads {
    Well,
    /// Not before some of them are given up, which will be soon.
    Soon,
    Never,
}

/// The behaviour of the backing device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Backing {
    Well,
    /// It writes, and its flushes fail.
    NoFlush,
    Dead,
}

/// The result of a pass so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tried {
    Nothing,
    /// Something could not be read.
    NotRead,
    NotWritten,
    NotFlushed,
    Cleaned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pass {
    purpose: Purpose,
    /// It was begun in the background, without an urgent reason.
    early: bool,
    tried: Tried,
}

/// The last verdict on relocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Judged {
    /// Relocation makes room, or was not judged yet.
    Helps,
    Useless,
    /// The units in the way cannot be read, but will be given up soon.
    Salvages,
    Unreadable,
}

/// A drain, and the number of its units that are dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Drained {
    carried: u64,
    left: u8,
    /// Relocation has moved some of them.
    was_moved: bool,
    /// The pass that is under way was begun before the drain.
    pass_is_older: bool,
    /// A pass that was begun since has got nothing done.
    has_failed: bool,
}

impl Drained {
    fn ticket(self) -> Ticket {
        Ticket { goal: Seq::NONE, carried: self.carried }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    room: Room,
    // The environment.
    helps: bool,
    reads: Reads,
    backing: Backing,
    log_failed: bool,
    // The log: units that are dirty, and those that only the tail keeps. The others are free.
    dirty: u8,
    freeable: u8,
    // The threads that are awake, and those that wait.
    woken: Wake,
    writer: bool,
    drains: [Option<Drained>; 2],
    /// Relocation was judged to make room, and reads.
    moving: bool,
    /// Units that could not be read are left alone for a while.
    early: bool,
    pass: Option<Pass>,
    /// The hopes that writeback has seen last, and whether the device is left alone since it has failed.
    seen: Hopes,
    device_failed: bool,
    paused: bool,
    // State that the world knows and the machine may not know.
    judged: Judged,
    /// The backing device was tried since there was reason to hope, and has written nothing.
    found_dead: bool,
    /// Ticks since anything was cleaned, or since only writeback makes room.
    quiet: u8,
    /// The environment has changed, and no thread has had a reason to look.
    changed: bool,
}

/// The events of an exploration.
#[derive(Debug, Clone, Copy)]
struct Scope {
    name: &'static str,
    /// Drains at a time.
    drains: usize,
    suspends: bool,
    /// The backing device fails, or only its flushes do, and the cache device cannot be read; otherwise they
    /// work.
    backing_fails: bool,
    flushes_fail: bool,
    reads_fail: bool,
    log_fails: bool,
    /// Whether relocation is worth it changes.
    relocates: bool,
    /// Passes of background writeback, without need of room and without drains.
    background: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    // The environment.
    Helps(bool),
    Reads(Reads),
    Backing(Backing),
    LogFails,
    Write,
    Drain,
    Signal(usize),
    Leave,
    Stay,
    Suspend,
    Resume,
    Background,
    Tick,
    // Threads.
    Commit,
    Reclaim,
    Begin,
    Try,
    End,
    BreakOff,
    LookAtDrains,
}

const THREADS: [Step; 6] =
    [Step::Commit, Step::Reclaim, Step::Begin, Step::Try, Step::End, Step::LookAtDrains];

impl World {
    fn new() -> Self {
        Self {
            room: Room::default(),
            helps: true,
            reads: Reads::Well,
            backing: Backing::Well,
            log_failed: false,
            dirty: 0,
            freeable: 0,
            woken: Wake::NOBODY,
            writer: false,
            drains: [None; 2],
            moving: false,
            early: false,
            pass: None,
            seen: Hopes(0),
            device_failed: false,
            paused: false,
            judged: Judged::Helps,
            found_dead: false,
            quiet: 0,
            changed: false,
        }
    }

    fn free(&self) -> u8 {
        UNITS - self.dirty - self.freeable
    }

    fn is_low(&self) -> bool {
        self.free() < 2
    }

    fn wake(&mut self, who: Wake) {
        self.woken |= who;
    }

    /// A thread that looks sees everything that it was woken for.
    fn looks(&mut self, who: Wake) {
        self.woken = Wake(self.woken.0 & !who.0);
    }

    fn is_woken(&self, who: Wake) -> bool {
        self.woken.has(who)
    }

    fn hope(&mut self) {
        (self.found_dead, self.quiet) = (false, 0);
    }

    /// Makes equivalent states equal: numbers that are only compared, and how long ago something was.
    fn normal(mut self) -> Self {
        let now = self.room.hopes;
        let same = |hopes| Hopes((hopes == now).into());
        self.seen = same(self.seen);
        if let Some(pass) = &mut self.pass {
            let is_newest = pass.purpose.fulls == self.room.fulls;
            let hopes = same(pass.purpose.hopes);
            // The machine does not read the rest of it.
            pass.purpose = Purpose { hopes, fulls: is_newest.into(), ..Purpose::default() };
        }
        (self.room.hopes, self.room.fulls) = (Hopes(1), 1);
        for drain in self.drains.iter_mut().flatten() {
            drain.carried = (drain.carried == self.room.carried).into();
        }
        self.room.carried = 1;
        self.drains.sort_unstable();
        self.looks(Wake::ALARM);
        self
    }

    /// Units that a pass which begins now is for.
    fn planned(&self) -> u8 {
        if self.room.is_draining() {
            self.drains.iter().flatten().map(|drain| drain.left).max().unwrap_or(0).min(self.dirty)
        } else {
            self.dirty
        }
    }

    fn left(&self, drain: Drained) -> Left {
        Left {
            has_left: drain.left == 0 && self.freeable == 0,
            dirty: self.dirty.into(),
            failed: self.log_failed,
            gone: false,
        }
    }

    fn drain_stands(&self, drain: Drained) -> Drain {
        self.room.drain(&drain.ticket(), &self.left(drain))
    }

    /// Whether a step may happen now.
    fn may(&self, step: Step, scope: &Scope) -> bool {
        let runs = matches!(self.room.life, Life::Running { .. });
        let works = !self.room.glance().is_suspended();
        match step {
            Step::Helps(helps) => scope.relocates && helps != self.helps,
            Step::Reads(reads) => scope.reads_fail && reads != self.reads,
            Step::Backing(Backing::NoFlush) => scope.flushes_fail && self.backing != Backing::NoFlush,
            Step::Backing(backing) => scope.backing_fails && backing != self.backing,
            Step::LogFails => scope.log_fails && !self.log_failed,
            Step::Write => works && !self.writer && !self.log_failed,
            // A drain begins with `reclaim_busy` held, and so only while no relocation is under way.
            Step::Drain => runs && !self.moving && self.drains.iter().flatten().count() < scope.drains,
            Step::Signal(i) => self.drains[i].is_some(),
            Step::Leave => scope.suspends && runs,
            Step::Stay => matches!(self.room.life, Life::Leaving { .. }),
            // A suspend waits for all of these.
            Step::Suspend => {
                matches!(self.room.life, Life::Leaving { .. })
                    && !self.writer
                    && self.drains.iter().flatten().next().is_none()
            }
            Step::Resume => !works && self.pass.is_none() && !self.moving,
            Step::Background => scope.background && works && self.pass.is_none() && !self.must(),
            // A thread that is awake runs before time passes.
            Step::Tick => self.is_quiet(),
            Step::Commit => self.is_woken(Wake::COMMIT),
            Step::Reclaim => self.is_woken(Wake::RECLAIM) || self.moving,
            Step::Begin => self.is_woken(Wake::WRITEBACK) && self.pass.is_none(),
            Step::Try => {
                works && self.pass.is_some_and(|pass| pass.tried == Tried::Nothing) && self.planned() != 0
            }
            Step::End => {
                works && self.pass.is_some_and(|pass| pass.tried != Tried::Nothing || self.planned() == 0)
            }
            // `ends_pass`: an urgent pass ends when it is no longer urgent.
            Step::BreakOff => {
                let ends = |pass: Pass| !works || if self.must() { pass.early } else { true };
                self.pass.is_some_and(ends)
            }
            Step::LookAtDrains => self.is_woken(Wake::PROGRESS),
        }
    }

    /// The state after a step. An error says what is wrong with it.
    fn after(mut self, step: Step) -> Result<Self, String> {
        match step {
            Step::Helps(helps) => (self.helps, self.changed) = (helps, true),
            Step::Reads(reads) => (self.reads, self.changed) = (reads, true),
            Step::Backing(backing) => (self.backing, self.changed) = (backing, true),
            Step::LogFails => {
                self.log_failed = true;
                self.wake(Wake::COMMIT | Wake::PROGRESS);
            }
            Step::Write => self.write(),
            Step::Drain => self.begin_drain(),
            Step::Signal(i) => self.end_drain(i),
            Step::Leave => {
                let wake = self.room.leaves();
                self.wake(wake);
            }
            Step::Stay => {
                let wake = self.room.stays();
                self.wake(wake);
            }
            Step::Suspend => {
                let wake = self.room.suspends();
                self.wake(wake);
            }
            Step::Resume => {
                let wake = self.room.resumes(true);
                self.wake(wake);
                self.hope();
            }
            Step::Background => {
                let purpose = self.begin_pass();
                self.pass = Some(Pass { purpose, early: true, tried: Tried::Nothing });
            }
            Step::Tick => self.tick(),
            Step::Commit => self.commit()?,
            Step::Reclaim => self.reclaim(),
            Step::Begin => self.begin(),
            Step::Try => self.try_to_write(),
            Step::End => self.end_pass(true),
            Step::BreakOff => self.end_pass(false),
            Step::LookAtDrains => self.look_at_drains()?,
        }
        let world = self.normal();
        world.check()?;
        Ok(world)
    }

    fn write(&mut self) {
        if self.free() == 0 {
            self.writer = true;
            let wake = self.room.write_waits(false, true, NOW);
            self.wake(wake);
        } else {
            self.dirty += 1;
            // Its record is full.
            self.wake(Wake::COMMIT);
        }
    }

    fn begin_drain(&mut self) {
        let (ticket, wake) = self.room.drain_begins(Seq::NONE).unwrap();
        let place = self.drains.iter_mut().find(|drain| drain.is_none()).unwrap();
        *place = Some(Drained {
            carried: ticket.carried,
            left: self.dirty,
            was_moved: false,
            pass_is_older: self.pass.is_some(),
            has_failed: false,
        });
        // The drain looks at once.
        self.wake(wake | Wake::PROGRESS);
        self.found_dead = false;
    }

    fn end_drain(&mut self, i: usize) {
        if let Some(drain) = self.drains[i].take() {
            let wake = self.room.drain_ends(drain.ticket());
            self.wake(wake);
        }
    }

    fn look_at_drains(&mut self) -> Result<(), String> {
        self.looks(Wake::PROGRESS);
        for i in 0..self.drains.len() {
            let Some(drain) = self.drains[i] else { continue };
            match self.drain_stands(drain) {
                Drain::Waits(wake) => self.wake(wake),
                Drain::Done if drain.was_moved && self.dirty != 0 => {
                    return Err("a drain is done, and what it was for may be dirty".into());
                }
                Drain::Failed if !drain.has_failed && !self.log_failed => {
                    return Err("a drain fails, and nothing has failed since it began".into());
                }
                Drain::Done | Drain::Failed | Drain::Busy => self.end_drain(i),
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        if let Need::Full { outlook: Outlook::Helpless { since_ms, .. }, .. } = &mut self.room.need {
            *since_ms = (*since_ms - TICK_MS).max(NOW - PATIENCE_MS);
        }
        self.quiet = (self.quiet + 1).min((PATIENCE_MS / TICK_MS) as u8);
        (self.paused, self.early, self.changed) = (false, false, false);
        self.wake(Wake::RECLAIM | Wake::WRITEBACK);
    }

    /// `retry_deferred`.
    fn commit(&mut self) -> Result<(), String> {
        self.looks(Wake::COMMIT);
        if !self.is_low() {
            let wake = self.room.room_is_there();
            self.wake(wake);
        }
        if self.log_failed {
            self.writer = false;
        }
        if self.writer && self.free() != 0 {
            (self.writer, self.dirty) = (false, self.dirty + 1);
        }
        if self.writer {
            let wake = self.room.write_waits(true, true, NOW);
            self.wake(wake);
            if self.room.gives_up(true, NOW) {
                self.refuse()?;
            }
        } else if self.is_low() {
            self.wake(Wake::RECLAIM);
        }
        Ok(())
    }

    /// The write that waits is refused. That is right only if it waits in vain.
    fn refuse(&mut self) -> Result<(), String> {
        self.writer = false;
        match self.judged {
            Judged::Helps => return Err("a write is refused though relocation could help".into()),
            Judged::Salvages => return Err("a write is refused though blocks will be given up soon".into()),
            Judged::Useless | Judged::Unreadable => (),
        }
        if !self.found_dead && self.quiet < (PATIENCE_MS / TICK_MS) as u8 {
            return Err("a write is refused though nobody knows that writeback gets nothing done".into());
        }
        Ok(())
    }

    fn reclaim(&mut self) {
        if core::mem::take(&mut self.moving) {
            // The thread is still at the same work, and wake-ups since then count.
            self.relocate();
            return;
        }
        self.looks(Wake::RECLAIM);
        if self.room.glance().is_suspended() || self.log_failed {
            return;
        }
        if self.freeable != 0 {
            self.freeable = 0;
            self.wake(Wake::COMMIT | Wake::PROGRESS | Wake::RECLAIM);
        }
        if self.early {
            return;
        }
        if !self.is_low() {
            let wake = self.room.room_is_there();
            self.wake(wake);
            return;
        }
        let verdict = if self.helps { Relocation::MakesRoom } else { Relocation::Useless };
        let was_full = self.room.need.is_full();
        let (course, wake) = self.room.relocation_judged(verdict);
        self.wake(wake);
        self.judged = match (self.helps, self.judged) {
            (false, _) => Judged::Useless,
            // It is not known yet whether the units can be read by now.
            (true, Judged::Salvages | Judged::Unreadable) => self.judged,
            (true, _) => Judged::Helps,
        };
        self.moving = course == Course::CarryOn;
        self.became_full(was_full);
    }

    /// Relocation that was judged to make room has read, or has failed to.
    fn relocate(&mut self) {
        if self.room.glance().is_suspended() || self.log_failed {
            return;
        }
        let was_full = self.room.need.is_full();
        if self.reads != Reads::Well {
            self.early = true;
            let soon = self.reads == Reads::Soon;
            let wake = self.room.relocation_cannot_read(soon);
            self.wake(wake);
            self.judged = if soon { Judged::Salvages } else { Judged::Unreadable };
            self.became_full(was_full);
            return;
        }
        let wake = self.room.relocation_begins();
        self.wake(wake);
        // Two units become one at the head, and no drain sees their blocks any more.
        self.dirty = self.dirty.saturating_sub(1).max(1);
        for drain in self.drains.iter_mut().flatten() {
            drain.was_moved |= drain.left != 0;
            drain.left = 0;
        }
        (self.judged, self.freeable) = (Judged::Helps, 0);
        self.wake(Wake::COMMIT | Wake::PROGRESS | Wake::RECLAIM);
    }

    /// Earlier results of writeback say nothing.
    fn became_full(&mut self, was_full: bool) {
        if !was_full && self.room.need.is_full() {
            self.hope();
        }
    }

    fn begin(&mut self) {
        self.looks(Wake::WRITEBACK);
        if self.room.glance().is_suspended() || !self.must() {
            return;
        }
        let purpose = self.begin_pass();
        if !self.paused {
            let early = !purpose.urgent && purpose.drain.is_none();
            self.pass = Some(Pass { purpose, early, tried: Tried::Nothing });
        }
    }

    /// `has_to_write_back`.
    fn must(&self) -> bool {
        self.room.glance().must_write_back() || self.log_failed
    }

    fn begin_pass(&mut self) -> Purpose {
        let purpose = self.room.pass_begins();
        if core::mem::replace(&mut self.seen, purpose.hopes) != purpose.hopes {
            (self.device_failed, self.paused) = (false, false);
        }
        purpose
    }

    fn try_to_write(&mut self) {
        let Some(pass) = &mut self.pass else { return };
        pass.tried = match (self.reads, self.backing) {
            (Reads::Soon | Reads::Never, _) => Tried::NotRead,
            (Reads::Well, Backing::Dead) => Tried::NotWritten,
            (Reads::Well, Backing::NoFlush) => Tried::NotFlushed,
            (Reads::Well, Backing::Well) => Tried::Cleaned,
        };
        self.found_dead |= pass.tried == Tried::NotWritten;
        if pass.tried == Tried::Cleaned {
            self.dirty -= 1;
            self.freeable += 1;
            self.drains.iter_mut().flatten().for_each(|drain| drain.left = drain.left.saturating_sub(1));
            let wake = self.room.cleaned();
            self.wake(wake);
            self.hope();
        }
    }

    /// `conclude`, and the steps of the thread after it.
    fn end_pass(&mut self, over: bool) {
        let Some(pass) = self.pass.take() else { return };
        let is_stuck = matches!(pass.tried, Tried::NotRead | Tried::NotWritten | Tried::NotFlushed);
        let is_dead = matches!(pass.tried, Tried::NotWritten | Tried::NotFlushed);
        let found_nothing = pass.tried == Tried::Nothing;
        for drain in self.drains.iter_mut().flatten() {
            let is_older = core::mem::take(&mut drain.pass_is_older);
            drain.has_failed |= is_stuck && !is_older;
        }
        self.paused |= is_dead;
        self.found_dead &= pass.tried != Tried::NotFlushed;
        self.device_failed = is_dead || (self.device_failed && pass.tried != Tried::Cleaned);
        let ended = Ended {
            purpose: pass.purpose,
            over,
            found_nothing,
            is_stuck,
            has_written: matches!(pass.tried, Tried::NotFlushed | Tried::Cleaned),
            has_failed: is_dead,
            device_failed: self.device_failed,
        };
        let wake = self.room.pass_ends(&ended, NOW);
        self.wake(wake);
        if !found_nothing && !is_stuck {
            self.wake(Wake::RECLAIM | Wake::PROGRESS | Wake::WRITEBACK);
        }
    }

    /// Whether all threads now act only by the clock.
    fn is_quiet(&self) -> bool {
        self.woken == Wake::NOBODY && self.pass.is_none() && !self.moving
    }

    /// Conditions that hold in each state.
    fn check(&self) -> Result<(), String> {
        let waits = |drain: &Drained| matches!(self.drain_stands(*drain), Drain::Waits(_));
        let mut drains = self.drains.iter().flatten();
        if self.room.need == Need::Resting && !self.room.is_draining() && self.is_quiet() {
            return Err("relocation rests, and there is no drain".into());
        }
        if !matches!(self.room.life, Life::Running { .. }) {
            if drains.clone().any(waits) {
                return Err("a suspend waits for a drain".into());
            }
            if drains.next().is_some() && !self.is_woken(Wake::PROGRESS) {
                return Err("a suspend waits for a drain that nobody wakes".into());
            }
        }
        if self.is_quiet() {
            self.check_quiet()?;
        }
        Ok(())
    }

    /// All threads sleep: nothing may wait that could go on.
    fn check_quiet(&self) -> Result<(), String> {
        let mut drains = self.drains.iter().flatten().map(|drain| self.drain_stands(*drain));
        if drains.any(|drain| !matches!(drain, Drain::Waits(_))) {
            return Err("a drain is over, and nobody wakes it".into());
        }
        if !self.writer && !self.room.is_draining() {
            return Ok(());
        }
        if self.writer && (self.free() != 0 || self.log_failed || self.room.gives_up(true, NOW)) {
            return Err("a write could go on, or is to be refused, and nobody wakes the commit thread".into());
        }
        if self.freeable != 0 && !self.log_failed {
            return Err("the tail could move, and nobody wakes reclaim".into());
        }
        if self.changed {
            return Ok(());
        }
        let mut room = self.room;
        if self.writer && self.helps && self.reads == Reads::Well {
            let (course, _) = room.relocation_judged(Relocation::MakesRoom);
            if course == Course::CarryOn {
                return Err("relocation could make room, and nobody wakes reclaim".into());
            }
        }
        let can_write = self.reads == Reads::Well && self.backing == Backing::Well && !self.paused;
        if can_write && self.planned() != 0 {
            return Err("writeback could go on, and nobody wakes it".into());
        }
        Ok(())
    }

    /// Whether a write or a drain waits.
    fn is_awaited(&self) -> bool {
        self.writer || self.drains.iter().any(Option::is_some)
    }
}

/// A hash that is quick for many small numbers.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

type Worlds = HashSet<World, BuildHasherDefault<Quick>>;

/// How a state was reached: the state before it, and the step.
type Trace = Vec<(usize, Option<Step>)>;

fn steps(scope: &Scope) -> Vec<Step> {
    let mut steps = std::vec![
        Step::Helps(true),
        Step::Helps(false),
        Step::Reads(Reads::Well),
        Step::Reads(Reads::Soon),
        Step::Reads(Reads::Never),
        Step::Backing(Backing::Well),
        Step::Backing(Backing::NoFlush),
        Step::Backing(Backing::Dead),
        Step::LogFails,
        Step::Write,
        Step::Drain,
        Step::Leave,
        Step::Stay,
        Step::Suspend,
        Step::Resume,
        Step::Background,
        Step::Tick,
        Step::BreakOff,
    ];
    steps.extend((0..scope.drains).map(Step::Signal));
    steps.extend(THREADS);
    steps
}

fn told(states: &[World], trace: &Trace, mut at: usize, last: Option<Step>) -> String {
    let mut path = Vec::new();
    while let (before, Some(step)) = trace[at] {
        path.push(format!("{step:?} -> {:?} {:?}", states[at].room.need, states[at].room.writeback));
        at = before;
    }
    path.reverse();
    path.extend(last.map(|step| format!("{step:?}")));
    path.join("\n  ")
}

/// Explores all states. If one is wrong, says what is wrong with the first such state.
fn explore(scope: &Scope) -> Vec<World> {
    let begin = World::new().normal();
    let (mut states, mut trace): (Vec<World>, Trace) = (std::vec![begin], std::vec![(0, None)]);
    let mut known = Worlds::default();
    known.insert(begin);
    let steps = steps(scope);
    let mut at = 0;
    while let Some(&world) = states.get(at) {
        for &step in steps.iter().filter(|step| world.may(**step, scope)) {
            match world.after(step) {
                Ok(next) => {
                    if known.insert(next) {
                        states.push(next);
                        trace.push((at, Some(step)));
                    }
                }
                Err(wrong) => {
                    panic!("{}: {wrong}, after\n  {}", scope.name, told(&states, &trace, at, Some(step)))
                }
            }
        }
        at += 1;
        assert!(at < 30_000_000, "{}: too many states", scope.name);
    }
    // For `settle`.
    for order in orders() {
        settle(scope, &states, &trace, &order);
    }
    states
}

/// Orders in which the threads come to run.
fn orders() -> Vec<Vec<Step>> {
    let mut reversed = THREADS;
    reversed.reverse();
    [THREADS, reversed].map(Vec::from).into()
}

/// From each state on, when the environment changes no more and each thread that is awake comes to run,
/// nothing waits for ever.
fn settle(scope: &Scope, states: &[World], trace: &Trace, order: &[Step]) {
    let mut ends = Worlds::default();
    for (i, &state) in states.iter().enumerate() {
        let mut path = Vec::new();
        let mut world = state;
        while world.is_awaited() && !ends.contains(&world) {
            if matches!(world.room.life, Life::Suspended) {
                break;
            }
            if path.contains(&world) {
                panic!(
                    "{}: somebody waits for ever in {world:#?} after\n  {}",
                    scope.name,
                    told(states, trace, i, None)
                );
            }
            path.push(world);
            let quiet = world.is_quiet();
            for &step in order {
                if world.may(step, scope) {
                    world = world.after(step).unwrap();
                }
            }
            if quiet {
                // Units that will be given up soon are given up.
                world.reads = if world.reads == Reads::Soon { Reads::Well } else { world.reads };
                world = world.after(Step::Tick).unwrap();
            }
        }
        ends.extend(path);
    }
}

fn run(scope: Scope) {
    let states = explore(&scope).len();
    assert!(states > 100_000, "{}: only {states} states", scope.name);
}

/// Devices that fail in every way; only a write waits.
const ROOM: Scope = Scope {
    name: "room",
    drains: 0,
    suspends: false,
    backing_fails: true,
    flushes_fail: true,
    reads_fail: false,
    log_fails: false,
    relocates: true,
    background: true,
};

#[test]
fn room() {
    run(ROOM);
}

#[test]
fn blocks_that_cannot_be_read() {
    run(Scope { name: "unreadable", reads_fail: true, flushes_fail: false, background: false, ..ROOM });
}

#[test]
fn a_drain_and_room() {
    run(Scope { name: "a drain", drains: 1, flushes_fail: false, background: false, ..ROOM });
}

#[test]
fn drains_that_overlap() {
    let quiet = Scope { flushes_fail: false, background: false, relocates: false, ..ROOM };
    run(Scope { name: "two drains", drains: 2, ..quiet });
}

#[test]
fn suspends() {
    let quiet = Scope { flushes_fail: false, background: false, backing_fails: false, ..ROOM };
    run(Scope { name: "suspends", drains: 1, suspends: true, ..quiet });
}

#[test]
fn a_log_that_fails() {
    let quiet = Scope { flushes_fail: false, background: false, relocates: false, ..ROOM };
    run(Scope { name: "a log that fails", drains: 1, log_fails: true, ..quiet });
}
