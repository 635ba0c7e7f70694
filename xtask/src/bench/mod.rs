//! `cargo xtask bench`: writeboost and its peers on the same work, in one run, and a report of it.
//!
//! Each load has a guest of its own, with one CPU that no other guest has: on the kernel of the lab whose
//! CRC-32C is the x86 kernel's. In it the targets take turns, each made anew, in another order in every
//! round. Only what was measured in one run is compared; what is shown is the median of the rounds, with the
//! lowest and the highest.

mod loads;
mod report;
mod result;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use xtask::lab::{checkout, CWriteboost, Kernel, Lab, DEVICES};
use xtask::progress::{Progress, Step};

use self::loads::{Bed, Load, Work, C_WRITEBOOST, LOADS};
use self::result::{Figures, Unit};
use super::Bench;

/// Rounds of a normal run, and of a quick one.
const ROUNDS: u32 = 3;
const QUICK_ROUNDS: u32 = 1;

/// All rounds of one target on one load, by unit.
pub type Rounds = BTreeMap<Unit, Vec<f64>>;

/// What was measured of a load, by target.
pub struct Measured {
    pub load: &'static Load,
    pub targets: BTreeMap<&'static str, Rounds>,
}

/// What a run is about.
pub struct Run {
    pub kernel: String,
    pub rounds: u32,
    pub quick: bool,
    pub seconds: u64,
    pub commit: String,
    /// What there is to say about the C dm-writeboost.
    pub c_writeboost: String,
}

/// Measures what `args` want.
pub fn run(args: Bench, progress: Progress) -> Result<ExitCode> {
    let wanted = |load: &&'static Load| {
        args.only.is_empty() || args.only.iter().any(|o| load.name.contains(o.as_str()))
    };
    let chosen: Vec<&'static Load> = LOADS.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let names: Vec<_> = LOADS.iter().map(|load| load.name).collect();
        bail!("no load has {} in its name; there are {}", args.only.join(" or "), names.join(", "));
    }
    let rounds = args.rounds.unwrap_or(if args.quick { QUICK_ROUNDS } else { ROUNDS });
    let lab = Lab::setup(Kernel::UML, progress)?;
    let c_writeboost = lab.c_writeboost()?;
    let started = Instant::now();
    let typical: u64 = chosen.iter().map(|load| seconds(load, rounds, args.quick)).sum();
    let step = progress.step(format!("measuring {} loads", chosen.len()), Duration::from_secs(typical));
    let mut all = Vec::new();
    for load in chosen {
        step.detail(load.name);
        all.push(measure(&lab, load, &c_writeboost, rounds, args.quick, &step)?);
    }
    step.done();
    let run = Run {
        kernel: lab.release().to_owned(),
        rounds,
        quick: args.quick,
        seconds: started.elapsed().as_secs(),
        commit: commit(),
        c_writeboost: match c_writeboost {
            CWriteboost::Built(version, _) => format!("dm-writeboost in C is Debian's {version}."),
            CWriteboost::Fails(version, why) => {
                format!(
                    "dm-writeboost in C is missing: Debian's {version} does not build for this kernel \
                     ({why})."
                )
            }
        },
    };
    let dir = checkout().join("target/bench");
    report::print(&all);
    let written = report::write(&dir, &run, &all)?;
    if args.keep {
        report::keep(&checkout().join("docs"), &run, &all)?;
    }
    if let Some(path) = &args.json {
        fs::write(path, report::json(&run, &all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("\n{} has tables and plots; this took {} min", written.display(), run.seconds.div_ceil(60));
    Ok(ExitCode::SUCCESS)
}

/// How long one round of fio may take.
fn runtime(load: &Load, quick: bool) -> u32 {
    match load.work {
        Work::Fio { seconds, .. } if quick => (seconds / 5).max(1),
        Work::Fio { seconds, .. } => seconds,
        Work::Memory { .. } => 8,
        Work::Copy { .. } => 30,
        // Mostly the drain, and how slowly some get to be filled.
        Work::Resume { .. } => 30,
    }
}

fn rounds_of(load: &Load, rounds: u32) -> u32 {
    rounds.min(load.most_rounds)
}

/// How long a load takes, about.
fn seconds(load: &Load, rounds: u32, quick: bool) -> u64 {
    let each = u64::from(runtime(load, quick)) + 2;
    4 + each * load.targets.len() as u64 * u64::from(rounds_of(load, rounds))
}

/// The command of the guest's script that runs a load once on a target.
fn command(load: &Load, round: u32, target: &str, quick: bool) -> String {
    match load.work {
        Work::Fio { prepare, args, .. } => format!(
            "run {round} {target} {} -- --ioengine=io_uring --norandommap --randrepeat=1 --randseed={} \
             --time_based --group_reporting --runtime={} {args}",
            prepare.unwrap_or("-"),
            round + 1,
            runtime(load, quick)
        ),
        Work::Memory { mib } => format!("memory {round} {target} {mib}"),
        Work::Copy { mib } => format!("copy {round} {target} {mib}"),
        Work::Resume { fill, drain } => format!("resume {round} {target} {drain} {fill}"),
    }
}

/// Runs one load in a guest.
fn measure(
    lab: &Lab,
    load: &'static Load,
    c_writeboost: &CWriteboost,
    rounds: u32,
    quick: bool,
    step: &Step,
) -> Result<Measured> {
    let share = tempfile::Builder::new().prefix("writeboost-bench-").tempdir()?;
    let out = share.path().join("out");
    fs::create_dir(&out)?;
    let rounds = rounds_of(load, rounds);
    let mut order: Vec<&'static str> = load.targets.to_vec();
    match c_writeboost {
        CWriteboost::Built(_, module) => drop(fs::copy(module, share.path().join("c-writeboost.ko"))?),
        CWriteboost::Fails(..) => order.retain(|target| *target != C_WRITEBOOST),
    }
    if let Bed::Model(..) = load.bed {
        let module = lab.build_module(&checkout().join("tests/model"), "blk-model.ko")?;
        fs::copy(module, share.path().join("blk-model.ko"))?;
    }
    let mut script = format!("{DEVICES}\n{}\n{}\n", include_str!("guest.sh"), load.bed.command());
    let mut runs = Vec::new();
    for round in 0..rounds {
        for &target in &order {
            runs.push((round, target));
            script += &command(load, round, target, quick);
            script.push('\n');
        }
        // No target is always the first one, or the one after the same neighbour.
        order.rotate_left(1);
        if round % 2 == 1 {
            order.reverse();
        }
    }
    let log = checkout().join(format!("target/bench/{}.log", load.name));
    fs::create_dir_all(log.parent().context("no parent")?)?;
    let patience = Duration::from_secs(seconds(load, rounds, quick) * 5 + 300);
    let name = load.name;
    let progress = step.detailer();
    let outcome = lab
        .guest()
        // The largest SSD model has 6 GiB, all of which is touched, and the hard disk model 2.
        .mem(10240)
        .share(share.path())
        .timeout(patience)
        .log_to(&log)
        .on_line(move |line| progress(&format!("{name}: {line}")))
        .run(&script)?;
    outcome.check().with_context(|| format!("{name}; the kernel's log is in {}", log.display()))?;
    let mut targets = BTreeMap::<&'static str, Rounds>::new();
    for (round, target) in runs {
        let figures = read(&out, &format!("{round}.{target}"), load)?;
        let all = targets.entry(target).or_default();
        for (unit, value) in figures {
            all.entry(unit).or_default().push(value);
        }
    }
    Ok(Measured { load, targets })
}

fn read(dir: &Path, name: &str, load: &Load) -> Result<Figures> {
    let mut figures = match load.work {
        Work::Fio { .. } => result::of_fio(dir, name),
        Work::Memory { .. } => result::of_memory(dir, name, load.bed.cache_mib()),
        Work::Copy { mib } => result::of_copy(dir, name, mib),
        Work::Resume { .. } => result::of_times(dir, name),
    }
    .with_context(|| format!("{} of {name}", load.name))?;
    figures.retain(|unit, _| load.figures.iter().any(|figure| figure.unit == *unit));
    Ok(figures)
}

/// The commit that was measured, where git knows.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).current_dir(checkout()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--", "kmod"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} and changes"),
    }
}
