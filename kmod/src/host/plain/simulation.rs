// SPDX-License-Identifier: GPL-2.0-only

//! A simulation: every thread is a task, one of them runs at a time, and a seed decides which one. So the
//! same seed gives the same course of events, to the last one.
//!
//! Time is virtual. It stands still while any task can run, and then jumps to the earliest moment that a task
//! waits for. So a minute of a volume that has nothing to do costs microseconds, and a test need not end
//! before a pause of ten seconds.
//!
//! Tasks take turns where a thread of the kernel may be held up by others: when it takes a lock, waits,
//! sleeps, or does I/O. Between two such places a task is alone, so that the order of single reads and writes
//! of atomics is not explored: that is for the model checkers.
//!
//! # Invariants
//! - One task runs at a time, in the thread that called [`simulate`]. No borrow of [`SIMULATION`] exists when
//!   another task goes on.
//! - A task that does not run is in exactly one of three states: in `ready`, in `contended`, or in neither
//!   and with `Task::waits`. The task that runs is in none of them.
//! - A task that waits without a time limit and that no task can ever wake is a failure: the simulation
//!   panics and lists the tasks that wait.

use super::context::Context;
use super::machine::Own;
use core::cell::RefCell;
use core::time::Duration;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::boxed::Box;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

/// Bytes of a task's stack. Parts that are never touched cost nothing.
const STACK: usize = 512 << 10;
/// The first moment, in microseconds since boot: like the time of [`super::now_ms`] it is never 0.
const FIRST_US: u64 = 100_000_000;
/// A task that only looks again and again waits for ever as well. Every simulation that ends does so before
/// this moment.
const LAST_US: u64 = FIRST_US + 48 * 3_600_000_000;
/// The duration of one turn, in microseconds: a task that looks at the clock again and again sees it move.
const TURN_US: u64 = 1;
/// A task that takes a lock lets others go first once in so many times.
const GIVES_WAY: u64 = 4;

/// A task, by its place in [`Simulation::tasks`].
pub(super) type Id = usize;

struct Task {
    name: String,
    coroutine: Option<Coroutine<(), (), (), DefaultStack>>,
    /// Where the task gives up its turn; null until it has had one.
    yielder: *const Yielder<(), ()>,
    context: Context,
    /// The task can do nothing before it is woken, or before this moment if there is one.
    waits: Option<Option<u64>>,
    /// For a task that waits for a lock: the number of turns of others when it last tried to take the lock.
    tried_at: u64,
    /// The task with the highest rank goes first, if `by_rank`.
    rank: u64,
}

/// Random numbers: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

struct Simulation {
    tasks: Vec<Option<Task>>,
    current: Id,
    ready: Vec<Id>,
    /// Tasks that wait for a lock. They are not told that it is free: they try again when others have had a
    /// turn.
    contended: Vec<Id>,
    timers: BTreeSet<(u64, Id)>,
    now_us: u64,
    /// Number of turns in which a task did more than try to take a lock.
    turns: u64,
    random: Random,
    /// The task with the highest rank goes first, instead of a random one. Some tasks are held up for long
    /// then.
    by_rank: bool,
    stacks: Vec<DefaultStack>,
}

std::thread_local! {
    static SIMULATION: RefCell<Option<Simulation>> = const { RefCell::new(None) };
    /// Stacks of tasks of earlier simulations.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

fn with<R>(f: impl FnOnce(&mut Simulation) -> R) -> R {
    SIMULATION.with_borrow_mut(|simulation| f(simulation.as_mut().expect("there is a simulation")))
}

/// Whether the caller is a task of a simulation.
pub(super) fn is_on() -> bool {
    SIMULATION.with_borrow(Option::is_some)
}

/// Microseconds since boot, in a simulation.
pub fn now_us() -> u64 {
    with(|s| s.now_us)
}

/// A random number that the seed decides.
pub(super) fn random() -> u64 {
    with(|s| s.random.next())
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            tasks: Vec::new(),
            current: 0,
            ready: Vec::new(),
            contended: Vec::new(),
            timers: BTreeSet::new(),
            now_us: FIRST_US,
            turns: 1,
            by_rank: random.below(3) == 0,
            random,
            stacks: STACKS.with_borrow_mut(core::mem::take),
        }
    }

    fn task(&mut self, id: Id) -> &mut Task {
        self.tasks[id].as_mut().expect("the task is there")
    }

    fn add(&mut self, name: &str, f: Box<dyn FnOnce()>) -> Id {
        let stack = self
            .stacks
            .pop()
            .unwrap_or_else(|| DefaultStack::new(STACK).expect("there is memory for a stack"));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            with(|s| {
                let id = s.current;
                s.task(id).yielder = yielder;
            });
            f();
        });
        let task = Task {
            name: name.into(),
            coroutine: Some(coroutine),
            yielder: core::ptr::null(),
            context: Context::default(),
            waits: None,
            tried_at: 0,
            rank: self.random.next(),
        };
        let id = match self.tasks.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.tasks.push(None);
                self.tasks.len() - 1
            }
        };
        self.tasks[id] = Some(task);
        self.ready.push(id);
        id
    }

    /// Makes a task ready if it waits.
    fn wake(&mut self, id: Id) {
        if let Some(until) = self.task(id).waits.take() {
            if let Some(until) = until {
                self.timers.remove(&(until, id));
            }
            self.ready.push(id);
        }
    }

    /// The task whose turn it is; none if no task will ever be ready again.
    fn next(&mut self) -> Option<Id> {
        loop {
            while let Some(&(until, id)) = self.timers.first().filter(|(until, _)| *until <= self.now_us) {
                self.timers.remove(&(until, id));
                self.task(id).waits = None;
                self.ready.push(id);
            }
            let turns = self.turns;
            for id in core::mem::take(&mut self.contended) {
                let list = if self.task(id).tried_at < turns { &mut self.ready } else { &mut self.contended };
                list.push(id);
            }
            if self.ready.is_empty() {
                self.now_us = self.timers.first()?.0;
                assert!(self.now_us < LAST_US, "for two days no task has come to an end: {}", self.show());
                continue;
            }
            let i = if self.by_rank {
                // Sometimes a task loses its rank.
                if self.random.below(32) == 0 {
                    let id = self.ready[self.random.below(self.ready.len())];
                    self.task(id).rank = self.random.next() >> 1;
                }
                (0..self.ready.len()).max_by_key(|&i| self.tasks[self.ready[i]].as_ref().map(|t| t.rank))?
            } else {
                self.random.below(self.ready.len())
            };
            return Some(self.ready.swap_remove(i));
        }
    }

    /// All tasks, and what each waits for.
    fn show(&self) -> String {
        use core::fmt::Write;
        let mut text = String::new();
        for (id, task) in self.tasks.iter().enumerate().filter_map(|(id, t)| Some((id, t.as_ref()?))) {
            let what = match task.waits {
                Some(Some(until)) => std::format!("until {until} us"),
                Some(None) => "for ever".into(),
                None if self.contended.contains(&id) => "for a lock".into(),
                None => "for nothing".into(),
            };
            let _ = write!(text, "\n  {id} {} waits {what}", task.name);
        }
        text
    }
}

/// The current task gives up its turn.
fn switch() {
    let yielder = with(|s| {
        let id = s.current;
        s.task(id).yielder
    });
    // SAFETY: The pointer is to the yielder that the coroutine of the current task was given when it began.
    // The yielder stays where it is until that coroutine ends, and the coroutine runs here: there is one task
    // at a time, and only tasks call this.
    unsafe { (*yielder).suspend(()) };
}

/// Others may go first.
pub(super) fn give_way() {
    with(|s| {
        let id = s.current;
        s.ready.push(id);
    });
    switch();
}

/// Others sometimes go first; called where a lock is taken.
pub(super) fn may_give_way() {
    if is_on() && with(|s| s.random.next() % GIVES_WAY == 0) {
        give_way();
    }
}

/// Others go first, because the caller has tried in vain to take a lock.
pub(super) fn contend() {
    with(|s| {
        let (id, turns) = (s.current, s.turns);
        s.task(id).tried_at = turns;
        s.contended.push(id);
    });
    switch();
}

/// The current task.
pub(super) fn current() -> Id {
    with(|s| s.current)
}

/// Waits until it is woken, or until `until_us`, if there is one, in microseconds since boot.
pub(super) fn wait(until_us: Option<u64>) {
    with(|s| {
        let id = s.current;
        s.task(id).waits = Some(until_us);
        if let Some(until) = until_us {
            s.timers.insert((until, id));
        }
    });
    switch();
}

/// Wakes a task, if it waits. In any context.
pub(super) fn wake(id: Id) {
    with(|s| s.wake(id));
}

/// Starts a task.
pub(super) fn spawn(name: &str, f: impl FnOnce() + 'static) {
    with(|s| s.add(name, Box::new(f)));
}

/// Clears up when a simulation ends.
struct Ends(Own);

impl Drop for Ends {
    fn drop(&mut self) {
        let simulation = SIMULATION.with_borrow_mut(Option::take);
        if let Some(mut simulation) = simulation {
            // After a panic, tasks are in the middle of something. They can neither go on nor be unwound,
            // because both need other tasks.
            simulation.tasks.drain(..).flatten().for_each(core::mem::forget);
            STACKS.with_borrow_mut(|stacks| *stacks = simulation.stacks);
        }
    }
}

/// Runs `f` as the first task of a simulation, whose course `seed` decides, and returns when all tasks have
/// ended.
///
/// # Panics
/// If any task does, and when one of them would have to wait for ever.
pub fn simulate<R: 'static>(seed: u64, f: impl FnOnce() -> R + 'static) -> R {
    let _ends = Ends(Own::begin());
    SIMULATION.with_borrow_mut(|s| *s = Some(Simulation::new(seed)));
    let result = Rc::new(RefCell::new(None));
    let to = result.clone();
    spawn("main", move || *to.borrow_mut() = Some(f()));
    loop {
        let turn = with(|s| {
            let id = s.next()?;
            s.current = id;
            s.now_us += TURN_US;
            let task = s.task(id);
            let tried_at = task.tried_at;
            Some((id, tried_at, task.coroutine.take()))
        });
        let Some((id, tried_at, Some(mut coroutine))) = turn else { break };
        with(|s| s.task(id).context.swap());
        let end = coroutine.resume(());
        with(|s| {
            s.task(id).context.swap();
            // A task that tries again in vain has not changed anything.
            if s.contended.last() != Some(&id) || tried_at == 0 {
                s.turns += 1;
            }
            if s.contended.last() != Some(&id) {
                s.task(id).tried_at = 0;
            }
        });
        match end {
            CoroutineResult::Yield(()) => with(|s| s.task(id).coroutine = Some(coroutine)),
            CoroutineResult::Return(()) => with(|s| {
                s.stacks.push(coroutine.into_stack());
                s.tasks[id] = None;
            }),
        }
    }
    let left = with(|s| if s.tasks.iter().all(Option::is_none) { None } else { Some(s.show()) });
    assert!(left.is_none(), "nobody can go on: {}", left.unwrap_or_default());
    let result = result.borrow_mut().take();
    result.expect("the first task has ended")
}

/// Lets others go first, in a simulation and otherwise.
pub fn pause() {
    if is_on() {
        give_way();
    } else {
        std::thread::yield_now();
    }
}

/// Sleeps for the time that a disk takes; only in a simulation.
pub fn take_us(us: u64) {
    if is_on() {
        wait(Some(now_us() + us));
    } else {
        std::thread::sleep(Duration::from_micros(us));
    }
}

/// How many turns the tasks of a simulation have had so far.
pub fn turns() -> u64 {
    with(|s| s.turns)
}

/// All tasks of a simulation, and what each waits for; for tests that find that it takes too long.
pub fn who_waits() -> String {
    with(|s| s.show())
}
