//! `cargo xtask races`: what threads of a volume do at the same time, under the model checker loom,
//! `kmod/tests/loom.rs`, and in many orders of a simulation, `kmod/tests/races.rs`; and deliberate bugs that
//! these must find.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use xtask::cargo::cargo;
use xtask::lab::checkout;
use xtask::progress::Progress;

use super::Races;

/// The checkers, each a feature of the engine's crate and a test of that name.
pub const CHECKERS: [&str; 2] = ["loom", "races"];

/// How long a checker may take over a mutant.
const PATIENCE: Duration = Duration::from_secs(600);

/// A deliberate bug.
struct Mutant {
    /// What is wrong.
    what: &'static str,
    /// The checker that must find it.
    by: &'static str,
    /// Relative to `kmod/`.
    file: &'static str,
    /// What stands there once, and what stands there instead.
    from: &'static str,
    to: &'static str,
}

const fn mutant(
    by: &'static str,
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { what, by, file, from, to }
}

const CHECKS: &str = "src/engine/checks.rs";
const COMMIT: &str = "src/volume/commit.rs";
const FLIGHT: &str = "src/engine/flight.rs";
const LOG: &str = "src/engine/log.rs";
const READ: &str = "src/engine/read.rs";
const RECLAIM: &str = "src/engine/reclaim.rs";

const MUTANTS: &[Mutant] = &[
    mutant(
        "loom",
        "a checksum is seen before the generation that came before it",
        CHECKS,
        "store(crc, Ordering::Release)",
        "store(crc, Ordering::Relaxed)",
    ),
    mutant(
        "loom",
        "who sees a new checksum does not acquire the generation",
        CHECKS,
        "self.checksums[slot.index()].load(Ordering::Acquire)",
        "self.checksums[slot.index()].load(Ordering::Relaxed)",
    ),
    mutant(
        "loom",
        "the generation is compared before the checksum",
        CHECKS,
        "        let match_all = slot.onward().zip(crcs).all(|(slot, crc)| self.checksum(slot) == crc);
        // Behind the checksums: see the invariants.
        if self.generation(slot) != generation {",
        "        let now = self.generation(slot);
        let match_all = slot.onward().zip(crcs).all(|(slot, crc)| self.checksum(slot) == crc);
        if now != generation {",
    ),
    mutant(
        "loom",
        "the end of a record's bio does not release what it did",
        FLIGHT,
        "if ok { LANDED } else { LOST }, Ordering::Release",
        "if ok { LANDED } else { LOST }, Ordering::Relaxed",
    ),
    mutant(
        "loom",
        "the commit thread does not acquire what a bio did",
        FLIGHT,
        "self.state.load(Ordering::Acquire)",
        "self.state.load(Ordering::Relaxed)",
    ),
    mutant(
        "loom",
        "a flight is told of again and again",
        FLIGHT,
        "self.state.store(IDLE, Ordering::Relaxed);\n",
        "",
    ),
    mutant(
        "loom",
        "what lands between the last look of who sends and his last word is left to nobody",
        FLIGHT,
        "self.watch.swap(0, Ordering::AcqRel) & SEEN != 0",
        "let seen = self.watch.load(Ordering::Acquire) & SEEN != 0; self.watch.store(0, Ordering::Release); \
         seen",
    ),
    mutant(
        "loom",
        "who sends does not acquire what has landed meanwhile",
        FLIGHT,
        "self.watch.swap(0, Ordering::AcqRel)",
        "self.watch.swap(0, Ordering::Relaxed)",
    ),
    mutant(
        "loom",
        "the end of a thread's own I/O does not release what it did",
        FLIGHT,
        "self.0.fetch_sub(1, Ordering::Release) == 1",
        "self.0.fetch_sub(1, Ordering::Relaxed) == 1",
    ),
    mutant(
        "loom",
        "a thread does not acquire what its I/O did",
        FLIGHT,
        "self.0.load(Ordering::Acquire) == 0",
        "self.0.load(Ordering::Relaxed) == 0",
    ),
    mutant(
        "loom",
        "the first of several I/Os wakes the thread, not the last",
        FLIGHT,
        "Ordering::Release) == 1\n    }\n\n    /// Whether all are over",
        "Ordering::Release) == 2\n    }\n\n    /// Whether all are over",
    ),
    mutant(
        "loom",
        "an event is seen before what it is about (wb_event_notify in shim.c without its first barrier)",
        "tests/cells/mod.rs",
        "self.count.fetch_add(1, Ordering::Release);",
        "self.count.fetch_add(1, Ordering::Relaxed);",
    ),
    mutant(
        "loom",
        "who is about to wait is not seen, and does not see the event \
         (wb_event_notify in shim.c without its second barrier)",
        "tests/cells/mod.rs",
        "        // `smp_mb__after_atomic`.
        full_barrier();
",
        "",
    ),
    mutant(
        "loom",
        "who is about to wait looks before he can be seen (prepare_to_wait_event without its barrier)",
        "tests/cells/mod.rs",
        "        // `set_current_state` in `prepare_to_wait_event`.
        full_barrier();
",
        "",
    ),
    mutant(
        "loom",
        "the generation of a segment changes when its checksums were overwritten",
        LOG,
        "self.checks.open(next);",
        "self.checks.open(self.head);",
    ),
    mutant(
        "loom",
        "a thread does not look whether the segment of its item was opened again",
        RECLAIM,
        "self.segments[self.segment_of(item.slot).index()].first_seq < planned.into().0",
        "self.segments[self.segment_of(item.slot).index()].first_seq < planned.into().0 || !self.failed",
    ),
    mutant(
        "loom",
        "a buffer gets another segment while it is read",
        LOG,
        "b.pins == 0 && b.segment",
        "b.segment",
    ),
    mutant(
        "loom",
        "a record is sent while data are copied into it",
        LOG,
        "&& !accepting && writers == 0)",
        "&& !accepting && writers != u16::MAX)",
    ),
    mutant(
        "races",
        "a read from RAM is not pinned",
        READ,
        "self.buffers[usize::from(buffer)].pins += 1;",
        "self.buffers[usize::from(buffer)].pins += u32::from(self.buffers[usize::from(buffer)].pins == 0);",
    ),
    mutant(
        "races",
        "a buffer gets another segment while it is read",
        LOG,
        "b.pins == 0 && b.segment",
        "b.segment",
    ),
    mutant(
        "races",
        "a buffer gets another segment before its records are written",
        LOG,
        "Some(s) != head && segments[s.index()].pending == 0",
        "Some(s) != head",
    ),
    mutant(
        "races",
        "a record is sent while data are copied into it",
        LOG,
        "&& !accepting && writers == 0)",
        "&& !accepting && writers != u16::MAX)",
    ),
    mutant(
        "races",
        "a commit that has landed ends those who wait for the next one",
        COMMIT,
        "        let mut are_left = false;
        if ok && Flights::is_commit(tag) {",
        "        let mut are_left = false;
        self.flights.land(tag, ok);
        if ok && Flights::is_commit(tag) {",
    ),
    mutant(
        "races",
        "who waits rides with a record without FUA",
        COMMIT,
        "Io::Record { seq: upto, fua: true, .. } | Io::Flush { upto } = io",
        "Io::Record { seq: upto, .. } | Io::Flush { upto } = io",
    ),
    mutant(
        "loom",
        "what is to be sent is left to somebody who is sending, and has looked already",
        "tests/loom.rs",
        "Err(_) => true,",
        "Err(_) => false,",
    ),
    mutant(
        "races",
        "relocated data come behind a write that is being copied",
        RECLAIM,
        "self.failed || self.has_writers() ||",
        "self.failed ||",
    ),
];

/// The tests of one checker, of which the names have to contain `filter`.
pub fn checker(name: &str, seed: Option<u64>, filter: &str) -> Command {
    let mut command = cargo(&words(name));
    command.args(["--", "--nocapture", filter]);
    if let Some(seed) = seed {
        command.env("WRITEBOOST_SEED", seed.to_string());
    }
    command
}

fn words(name: &str) -> String {
    format!("test --quiet --profile races -p writeboost --features {name} --test {name}")
}

/// Runs what `args` want.
pub fn run(args: Races, progress: Progress) -> Result<ExitCode> {
    let mut ok = true;
    if args.mutants {
        ok = mutants(args.filter.as_deref().unwrap_or(""), progress)?.1 == 0;
    } else {
        for name in CHECKERS {
            let mut command = checker(name, args.seed, args.filter.as_deref().unwrap_or(""));
            if let Some(runs) = args.runs {
                command.env("WRITEBOOST_RUNS", runs.to_string());
            }
            ok &= command.status().context("cannot run cargo")?.success();
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks that each mutant with `filter` in its name is found; reports as tests do, and says how many were
/// and were not.
pub fn mutants(filter: &str, progress: Progress) -> Result<(u64, u64)> {
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|m| name_of(m).contains(filter)).collect();
    let step = progress.step(
        format!("{} deliberate races", chosen.len()),
        Duration::from_secs(30 + 12 * chosen.len() as u64),
    );
    let copy = Copy::new()?;
    let mut failed = 0;
    for mutant in &chosen {
        let name = name_of(mutant);
        step.detail(&name);
        let started = Instant::now();
        let caught = copy.catches(mutant)?;
        let seconds = started.elapsed().as_secs_f64();
        match caught {
            Caught::Yes => println!("test {name} ... ok, caught after {seconds:.1} s"),
            Caught::No(why) => {
                failed += 1;
                println!("test {name} ... FAILED: {why}");
                println!("cargo xtask races --mutants {name:?} repeats it");
            }
        }
    }
    step.done();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let passed = chosen.len() as u64 - failed;
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok((passed, failed))
}

fn name_of(mutant: &Mutant) -> String {
    format!("races::mutant: {} ({})", mutant.what, mutant.by)
}

enum Caught {
    Yes,
    No(String),
}

/// A copy of the engine's crate, to be damaged.
struct Copy {
    dir: PathBuf,
}

impl Copy {
    fn new() -> Result<Self> {
        let dir = checkout().join("target/race-mutants");
        let workspace = fs::read_to_string(checkout().join("Cargo.toml"))?;
        let members = workspace.lines().find(|line| line.starts_with("members =")).context("no members")?;
        let defaults = workspace
            .lines()
            .find(|line| line.starts_with("default-members ="))
            .context("no default members")?;
        let mut alone = workspace.replace(members, "members = [\"kmod\"]").replace(defaults, "");
        // What is said of packages that are not here.
        alone = alone.replace("[profile.dev.package.writeboost-tests]\nopt-level = 2\n", "");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        fs::write(dir.join("Cargo.toml"), alone)?;
        fs::copy(checkout().join("Cargo.lock"), dir.join("Cargo.lock"))?;
        let copy = Self { dir };
        copy.restore(Path::new("kmod"))?;
        Ok(copy)
    }

    /// Makes `part` of the copy what it is in the checkout; files that are already are not touched.
    fn restore(&self, part: &Path) -> Result<()> {
        let from = checkout().join(part);
        if from.is_dir() {
            for entry in fs::read_dir(&from)? {
                let name = entry?.file_name();
                if name != "target" {
                    self.restore(&part.join(name))?;
                }
            }
            return Ok(());
        }
        let to = self.dir.join(part);
        let content = fs::read(&from)?;
        if fs::read(&to).is_ok_and(|have| have == content) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))
    }

    fn cargo(&self, words: &str) -> Command {
        let mut command = cargo(words);
        // Not the checkout's: cargo takes a package at the same place in another workspace for the same one.
        command.current_dir(&self.dir).env("CARGO_TARGET_DIR", self.dir.join("target"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn catches(&self, mutant: &Mutant) -> Result<Caught> {
        let file = Path::new("kmod").join(mutant.file);
        let source = fs::read_to_string(checkout().join(&file))?;
        ensure!(
            source.matches(mutant.from).count() == 1,
            "{} has {:?} not once: bring the mutants in xtask/src/races.rs up to date",
            file.display(),
            mutant.from
        );
        fs::write(self.dir.join(&file), source.replace(mutant.from, mutant.to))?;
        let result = self.run(mutant);
        self.restore(&file)?;
        result
    }

    fn run(&self, mutant: &Mutant) -> Result<Caught> {
        let words = words(mutant.by);
        // Warnings about what is not used any more are no failure, errors are.
        let built = self.cargo(&format!("{words} --no-run")).status().context("cannot run cargo")?;
        if !built.success() {
            return Ok(Caught::No("it does not compile".to_owned()));
        }
        let mut command = Command::new("timeout");
        let cargo = self.cargo(&words);
        // It ends what cargo has started, too.
        command.arg(PATIENCE.as_secs().to_string()).arg(cargo.get_program()).args(cargo.get_args());
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(match command.status().context("cannot run timeout")?.code() {
            Some(0) => Caught::No("it survived".to_owned()),
            Some(124) => Caught::No(format!("no verdict after {} s", PATIENCE.as_secs())),
            _ => Caught::Yes,
        })
    }
}
