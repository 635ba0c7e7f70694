//! `cargo xtask crash`: the crash model of the engine, `kmod/tests/crash.rs`, for as long as one likes.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use xtask::cargo::cargo;
use xtask::progress::Progress;

use super::Crash;

/// How often a line says how far it is when stderr is not a terminal.
const EVERY: Duration = Duration::from_secs(20);

/// Crash states of random lives that `cargo xtask test` checks.
const STATES: u64 = 1_000_000;

/// Power cuts in lives of the real volume, in each run and in a full one.
const CUTS: u64 = 100_000;
const FULL_CUTS: u64 = 1_000_000;

/// Events in the small histories of which it tries all crashes.
const DEPTH: usize = 4;

/// The tests in `kmod/tests/crash.rs`.
const RANDOM: &str = "a_volume_survives_any_crash";
const SMALL: &str = "small_histories_survive_every_crash";

/// A seed that was not there before, short enough to be typed.
pub fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64 % 100_000_000_000
}

/// The crash model with its settings, as a test of which the name has to contain `filter`.
pub fn for_tests(seed: Option<u64>, filter: &str) -> Command {
    let mut command = cargo("test -p writeboost --test crash -- --nocapture");
    command
        .arg(filter)
        .env("WRITEBOOST_STATES", STATES.to_string())
        .env("WRITEBOOST_DEPTH", DEPTH.to_string())
        .env("WRITEBOOST_SEED", seed.unwrap_or_else(any_seed).to_string());
    command
}

/// Lives of the real volume, likewise.
pub fn lives_for_tests(seed: Option<u64>, filter: &str, full: bool) -> Command {
    let mut command = cargo("test -p writeboost --test lives -- --nocapture");
    // A filter for the file means all that is in it.
    command
        .arg(filter.strip_prefix("lives").unwrap_or(filter))
        .env("WRITEBOOST_IMAGES", if full { FULL_CUTS } else { CUTS }.to_string())
        // The same in each run, so that a failure comes from a change; a full run looks for new failures.
        .env("WRITEBOOST_SEED", seed.unwrap_or_else(|| if full { any_seed() } else { 1 }).to_string());
    command
}

/// Runs what `args` want.
pub fn run(args: Crash, progress: Progress) -> Result<ExitCode> {
    let mut build = cargo("test --quiet -p writeboost --test crash --no-run");
    if !build.stdout(Stdio::null()).status().context("cannot run cargo")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut command = cargo("test --quiet -p writeboost --test crash -- --nocapture --exact");
    command.env("WRITEBOOST_PROGRESS", "1");
    // Measured on two cores.
    let (what, test, seconds) = if let Some(case) = &args.case {
        command.env("WRITEBOOST_CASE", case);
        (format!("case {case}"), RANDOM, 1)
    } else if let Some(history) = &args.history {
        command.env("WRITEBOOST_HISTORY", history);
        ("all crashes of a history".into(), SMALL, 5)
    } else if let Some(depth) = args.small {
        command.env("WRITEBOOST_DEPTH", depth.to_string());
        (
            format!("all crashes of histories of up to {depth} events"),
            SMALL,
            6u64.saturating_pow(depth as u32) / 60,
        )
    } else {
        command.env("WRITEBOOST_STATES", args.states.to_string());
        command.env("WRITEBOOST_SEED", args.seed.unwrap_or_else(any_seed).to_string());
        (format!("{} crash states", args.states), RANDOM, args.states / 6000)
    };
    command.arg(test);
    if let Some(threads) = args.threads {
        command.env("WRITEBOOST_THREADS", threads.to_string());
    }
    let step = progress.step(what, Duration::from_secs(1 + seconds));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let (terminal, mut shown) = (std::io::stderr().is_terminal(), Instant::now());
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.contains(" per second") && line.contains(" states, ") {
            step.detail(&line);
            if !terminal && shown.elapsed() >= EVERY {
                progress.note(&line);
                shown = Instant::now();
            }
        } else if !line.trim().is_empty() && !line.starts_with("running ") && !line.starts_with("test result")
        {
            println!("{line}");
        }
    }
    if child.wait()?.success() {
        step.done();
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
