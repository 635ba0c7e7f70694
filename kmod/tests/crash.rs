// SPDX-License-Identifier: GPL-2.0-only

//! The crash model: random lives of a volume, with crashes at random moments.
//!
//! `cargo xtask crash` is its command line. It sets `WRITEBOOST_STATES`, the number of crash states to check,
//! `WRITEBOOST_SEED`, the first seed, `WRITEBOOST_THREADS`, and `WRITEBOOST_CASE`, a single run to be shown.

mod sim;

use sim::case::Case;
use sim::search::{explain, search, show};
use sim::small::{self, History};
use sim::volume::{Counts, Sim};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Crash states that plain `cargo test` checks.
const FEW: u64 = 10_000;

/// Events of a history for which plain `cargo test` tries all crashes.
const SHALLOW: usize = 3;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not what it should be: {value:?}")))
}

fn threads() -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    setting("WRITEBOOST_THREADS").unwrap_or_else(cores)
}

/// Prints lines for `cargo xtask` to show.
fn progress(states: u64) -> impl Fn(u64) + Sync {
    let (wanted, started) = (std::env::var_os("WRITEBOOST_PROGRESS").is_some(), Instant::now());
    let last = Mutex::new(started);
    move |done| {
        let mut last = last.lock().unwrap();
        if wanted && last.elapsed() >= Duration::from_secs(1) {
            *last = Instant::now();
            let rate = done as f64 / started.elapsed().as_secs_f64();
            println!("{done} of {states} states, {rate:.0} per second");
        }
    }
}

#[test]
fn a_volume_survives_any_crash() {
    if let Some(case) = setting::<String>("WRITEBOOST_CASE") {
        let case: Case = case.parse().unwrap_or_else(|e: String| panic!("{e}"));
        assert!(show(&case).is_none(), "it fails");
        return;
    }
    let first = setting("WRITEBOOST_SEED").unwrap_or(0);
    let states = setting("WRITEBOOST_STATES").unwrap_or(FEW);
    let threads = threads();
    let started = Instant::now();
    let outcome = search(first, states, threads, progress(states));
    let (c, seconds) = (outcome.counts, started.elapsed().as_secs_f64());
    println!("{c:?}");
    println!(
        "{} crash states of {} runs from seed {first}, {:.0} per second on {threads} threads, {} failed",
        c.states(),
        outcome.runs,
        c.states() as f64 / seconds,
        outcome.failed.len()
    );
    // The run with the fewest steps before its failure is made smaller most quickly.
    let shortest = outcome.failed.iter().min_by_key(|(seed, _)| Case::draw(*seed).steps());
    if let Some((seed, failure)) = shortest {
        explain(*seed, failure, Duration::from_secs(setting("WRITEBOOST_SHRINK").unwrap_or(60)));
        let seeds: Vec<_> =
            outcome.failed.iter().map(|(seed, f)| format!("{seed} ({})", f.message)).collect();
        panic!("failed: seeds {}", seeds.join(", "));
    }
    // An event that never happens is not tested.
    if states >= FEW {
        let Counts { undone, relocated, space_waits, failures, drains, crashes_in_replay, probes, .. } = c;
        let ends = [undone, failures, drains, crashes_in_replay, probes];
        let ways = [relocated, space_waits, c.fua_records, c.rushes, c.dead, c.blanked];
        assert!(ends.iter().chain(&ways).all(|&n| n != 0), "{c:?}");
    }
}

#[test]
fn small_histories_survive_every_crash() {
    let show = |what: &str, t: &small::Totals| {
        println!(
            "{what}: {} histories, not all crashes at the end of {}, {} images, {} crash states",
            t.histories, t.reduced, t.images, t.states
        );
    };
    let started = Instant::now();
    let result = match setting::<String>("WRITEBOOST_HISTORY") {
        Some(history) => small::one(&history.parse().unwrap_or_else(|e: String| panic!("{e}"))),
        None => small::all(setting("WRITEBOOST_DEPTH").unwrap_or(SHALLOW), threads(), show),
    };
    match result {
        Ok(t) => {
            show("all", &t);
            let rate = t.states as f64 / started.elapsed().as_secs_f64();
            println!(
                "{rate:.0} crash states per second; at the end of {} histories not all crashes",
                t.reduced
            );
        }
        Err((history, message)) => {
            println!("it repeats with: cargo xtask crash --history '{history}'");
            panic!("after {history}: {message}");
        }
    }
}

#[test]
fn writes_get_on_while_the_log_is_full() {
    let (mut longest, mut all) = (0, Counts::default());
    for seed in 0..12 {
        let (n, counts) = Sim::crowd(seed, 100_000);
        println!("seed {seed}: {n} steps, {counts:?}");
        longest = longest.max(n);
        all.add(&counts);
    }
    assert!(all.space_waits > 1000 && all.relocated > 1000 && all.written_back > 1000, "{all:?}");
    assert!(longest < 40_000, "no write got room in {longest} steps");
}

#[test]
fn a_case_is_a_text() {
    for text in ["4711", "4711/0:3,7,19-22/2:5e/d", "4711/", "4711/1:e/"] {
        let case: Case = text.parse().unwrap();
        assert_eq!(case.to_string(), text);
        assert_eq!(case.to_string().parse(), Ok(case));
    }
    for text in ["", "x", "1/2", "1/0:x/", "1/0:1-y/d", "1/0:1", "1/0:1-99999999/"] {
        assert!(text.parse::<Case>().is_err(), "{text}");
    }
    let history: History = "full tail big flush".parse().unwrap();
    assert_eq!(history.to_string(), "full tail big flush");
    assert!("full tale".parse::<History>().is_err() && "".parse::<History>().is_err());
}
