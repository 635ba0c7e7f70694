// SPDX-License-Identifier: GPL-2.0-only

//! Random lives of the real volume, with all its threads, on disks with volatile caches that fail, hang and
//! are slow; and power cuts at random moments of these lives.
//!
//! Several threads write, flush and read, each its own part of the volume and one operation after the other,
//! while an administrator drains, steers and suspends, and things go wrong with the disks. Sometimes, in the
//! middle of some I/O, both disks are copied as they are at that moment, together with the I/O in flight: an
//! *image*. The life goes on and ends. Then the power is cut on each image: data that were not stable on a
//! disk are there in part. The volume is opened from the rest, and the contents found must obey the promises.
//!
//! The model of the engine (`crash.rs`) is faster; this test runs the code of `volume/` that the kernel runs.
//! That code decides which thread sends what and in which order, which waiters are told, when an attempt is
//! repeated, and when it is given up.
//!
//! A seed decides everything, to the last event. `WRITEBOOST_LIFE` repeats one run, `WRITEBOOST_SEED` says
//! where the search begins, `WRITEBOOST_IMAGES` is the least number of power cuts. A failing run is made
//! shorter before it is reported.
#![cfg(not(any(feature = "loom", feature = "races")))]

#[path = "../sim/disk.rs"]
#[allow(dead_code)]
mod disk;
mod history;
mod life;
#[path = "../sim/rng.rs"]
#[allow(dead_code)]
mod rng;
mod world;

use rng::Rng;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;
use writeboost::host::plain::simulate;

/// How much happens, and the seed that decides the course.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    seed: u64,
    lives: u64,
    writers: usize,
    /// Numbers per life: operations of each writer, at most; operations of the administrator; troubles;
    /// rotten sectors.
    ops: u64,
    admin: u64,
    troubles: u64,
    rot: u64,
}

impl Plan {
    fn any(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x5eed);
        Self {
            seed,
            lives: rng.range(1, 3),
            writers: rng.range(1, 3) as usize,
            ops: rng.range(20, 120),
            admin: rng.pick(&[0, 1, 4, 12]),
            troubles: rng.pick(&[0, 0, 1, 2, 6]),
            rot: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 3]),
        }
    }

    /// A plan as in the environment: a seed, or seven numbers.
    fn parse(text: &str) -> Self {
        let numbers: Vec<u64> = text.split(',').map(|n| n.trim().parse().expect("a number")).collect();
        if let &[seed] = &numbers[..] {
            return Self::any(seed);
        }
        let &[seed, lives, writers, ops, admin, troubles, rot] = &numbers[..] else {
            panic!("a seed, or seven numbers: {text}")
        };
        Self { seed, lives, writers: writers as usize, ops, admin, troubles, rot }
    }

    fn show(&self) -> String {
        let Self { seed, lives, writers, ops, admin, troubles, rot } = self;
        format!("{seed},{lives},{writers},{ops},{admin},{troubles},{rot}")
    }

    /// Returns the number of power cuts, or the failure.
    fn run(self) -> Result<u64, String> {
        let result = catch_unwind(AssertUnwindSafe(|| simulate(self.seed, move || life::live(&self))));
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
        })
    }

    /// Plans with less in them.
    fn shorter(self) -> Vec<Self> {
        let half = |n: u64| if n > 8 { n / 2 } else { n.saturating_sub(1) };
        let mut plans = vec![
            Self { lives: 1, ..self },
            Self { lives: self.lives.saturating_sub(1).max(1), ..self },
            Self { writers: 1, ..self },
            Self { writers: self.writers.saturating_sub(1).max(1), ..self },
            Self { admin: 0, ..self },
            Self { admin: half(self.admin), ..self },
            Self { troubles: 0, ..self },
            Self { troubles: half(self.troubles), ..self },
            Self { rot: 0, ..self },
            Self { ops: half(self.ops).max(1), ..self },
        ];
        plans.retain(|plan| *plan != self);
        plans
    }
}

/// The shortest failing plan that is found within a minute, and its failure. Less of one thing changes the
/// order of everything, so several seeds are tried for each.
fn shorten(mut plan: Plan, mut why: String) -> (Plan, String) {
    if setting("WRITEBOOST_SHRINK").is_some_and(|s| s == "0") {
        return (plan, why);
    }
    let started = Instant::now();
    'shorter: while started.elapsed().as_secs() < 60 {
        for shorter in plan.shorter() {
            for seed in std::iter::once(plan.seed).chain(1..40) {
                let shorter = Plan { seed, ..shorter };
                if let Err(new) = shorter.run() {
                    (plan, why) = (shorter, new);
                    continue 'shorter;
                }
            }
        }
        break;
    }
    (plan, why)
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|s| !s.is_empty())
}

#[test]
fn the_volume_survives() {
    if let Some(plan) = setting("WRITEBOOST_LIFE") {
        let plan = Plan::parse(&plan);
        println!("{:?}", plan.run());
        return;
    }
    let number = |name: &str, default: u64| setting(name).map_or(default, |s| s.parse().unwrap());
    let first = number("WRITEBOOST_SEED", 1);
    let wanted = number("WRITEBOOST_IMAGES", 2000);
    let started = Instant::now();
    let (next, images, failed) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let failure = Mutex::new(None);
    // Panics are caught, and reported at the end.
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..number("WRITEBOOST_THREADS", threads as u64) {
            scope.spawn(|| {
                while images.load(Ordering::Relaxed) < wanted && !failed.load(Ordering::Relaxed) {
                    let plan = Plan::any(next.fetch_add(1, Ordering::Relaxed));
                    match plan.run() {
                        Ok(n) => drop(images.fetch_add(n, Ordering::Relaxed)),
                        Err(why) => {
                            failed.store(true, Ordering::Relaxed);
                            *failure.lock().unwrap() = Some((plan, why));
                        }
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap().map(|(plan, why)| (plan, shorten(plan, why)));
    drop(std::panic::take_hook());
    if let Some((plan, (shorter, why))) = failure {
        panic!("WRITEBOOST_LIFE={} (from {}) repeats it: {why}", shorter.show(), plan.show());
    }
    let (images, lives) = (images.into_inner(), next.into_inner() - first);
    let rate = images as f64 / started.elapsed().as_secs_f64();
    println!("{images} power cuts of {lives} runs from seed {first}, {rate:.0} per second");
}
