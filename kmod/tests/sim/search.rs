// SPDX-License-Identifier: GPL-2.0-only

//! Many runs of the crash model on all cores; and the smallest part of a failing run that still fails.

use super::case::Case;
use super::rng::Rng;
use super::volume::{Counts, Plan, Sim};
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });

/// Runs `f` and returns the message if it panics; nothing is printed meanwhile.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                other(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    result.map_err(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or("a panic".into(), |s| s.to_string()),
    })
}

/// The message and the place of a failure: the life, and the step in it.
#[derive(Debug, Clone)]
pub struct Failure {
    pub message: String,
    at: (usize, Option<usize>),
}

impl Failure {
    /// The message without its numbers: a smaller run with the same bug has other numbers.
    fn kind(&self) -> String {
        self.message.lines().next().unwrap_or("").chars().filter(|c| !c.is_ascii_digit()).collect()
    }
}

/// Runs a case.
pub fn run(case: &Case, trace: bool) -> (Counts, Option<Failure>) {
    let mut counts = Counts::default();
    let mut at = (0, None);
    let result = catch(|| {
        let mut sim = Sim::new(case.seed);
        sim.trace = trace;
        let result = catch_unwind(AssertUnwindSafe(|| sim.run(case)));
        (counts, at) = (sim.counts, sim.at);
        if let Err(payload) = result {
            std::panic::resume_unwind(payload);
        }
    });
    (counts, result.err().map(|message| Failure { message, at }))
}

/// The results of a search.
#[derive(Default)]
pub struct Outcome {
    pub counts: Counts,
    pub runs: u64,
    pub failed: Vec<(u64, Failure)>,
}

/// Runs seeds from `first` on until `states` crash states are checked, or some runs have failed.
pub fn search(first: u64, states: u64, threads: usize, progress: impl Fn(u64) + Sync) -> Outcome {
    let (next, done, stop) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let outcome = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) < states {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (counts, failure) = run(&Case::draw(seed), false);
                    let states = done.fetch_add(counts.states(), Ordering::Relaxed) + counts.states();
                    progress(states);
                    let mut o = outcome.lock().unwrap();
                    o.counts.add(&counts);
                    o.runs += 1;
                    if let Some(failure) = failure {
                        o.failed.push((seed, failure));
                        // A few failures say more than one: whether the failure is rare, and which run is
                        // short.
                        if o.failed.len() >= 4 {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

/// The smallest case that is found in this time and fails in the same way.
pub fn shrink(case: &Case, failure: &Failure, patience: Duration) -> (Case, Failure) {
    let until = Instant::now() + patience;
    let kind = failure.kind();
    let mut best = (cut(case, failure), failure.clone());
    let attempt = |best: &mut (Case, Failure), less: Case| {
        if less == best.0 || Instant::now() > until {
            return false;
        }
        let Some(failure) = run(&less, false).1.filter(|f| f.kind() == kind) else { return false };
        *best = (cut(&less, &failure), failure);
        true
    };
    loop {
        let before = best.0.clone();
        // Whole lives, the last but one first.
        for i in (0..best.0.lives.len()).rev() {
            if i < best.0.lives.len() {
                let less = best.0.without(|c| drop(c.lives.remove(i)));
                attempt(&mut best, less);
            }
        }
        for i in 0..best.0.lives.len() {
            if best.0.lives.get(i).is_some_and(|l| l.ending) {
                let less = best.0.without(|c| c.lives[i].ending = false);
                attempt(&mut best, less);
            }
        }
        // Steps: halves, quarters and so on of each life, down to single ones.
        for i in (0..best.0.lives.len()).rev() {
            let steps = |c: &Case| c.lives.get(i).map_or(0, |l| l.steps.len());
            let mut chunk = steps(&best.0);
            while chunk > 0 {
                let mut end = steps(&best.0);
                while end > 0 {
                    let start = end.saturating_sub(chunk);
                    let less = best.0.without(|c| drop(c.lives[i].steps.drain(start..end)));
                    attempt(&mut best, less);
                    end = start.min(steps(&best.0));
                }
                chunk /= 2;
            }
        }
        if best.0 == before || Instant::now() > until {
            return best;
        }
    }
}

/// Leaves out all steps after the failure.
fn cut(case: &Case, failure: &Failure) -> Case {
    let (life, step) = failure.at;
    let at_end = life == case.lives.len();
    case.without(|c| {
        c.drain &= at_end;
        match step {
            Some(step) => {
                c.lives.truncate(life + 1);
                c.lives[life].steps.truncate(step + 1);
                c.lives[life].ending = false;
            }
            None => c.lives.truncate(life + 1),
        }
    })
}

/// Prints the failure of a run, the command that repeats it, and the events of the smallest part that fails.
pub fn explain(seed: u64, failure: &Failure, patience: Duration) -> Case {
    let case = Case::draw(seed);
    println!("\nseed {seed} fails: {}", failure.message);
    println!("    cargo xtask crash --case {case}");
    if patience.is_zero() {
        return case;
    }
    let (small, failure) = shrink(&case, failure, patience);
    let (now, before) = (small.steps(), case.steps());
    println!(
        "{now} of its {before} steps, in {} lives, are enough for: {}",
        small.lives.len(),
        failure.message
    );
    println!("    cargo xtask crash --case {small}");
    if now <= 200 {
        show(&small);
    }
    small
}

/// Runs a case and prints its events.
pub fn show(case: &Case) -> Option<Failure> {
    println!("{:?}", Plan::draw(&mut Rng::new(case.seed)));
    let failure = run(case, true).1;
    match &failure {
        Some(f) => println!("  fails: {}", f.message),
        None => println!("  all is well"),
    }
    failure
}
