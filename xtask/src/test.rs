//! `cargo xtask test`: all tests there are, and one line at the end that says how many passed.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use xtask::cargo::cargo;
use xtask::lab::{checkout, clippy_module, Flavour, Kernel, Lab, SUPPORTED};
use xtask::progress::Progress;

use super::{crash, mutants, races, tidy, Test};

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// From a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`, as cargo's and our own tests print
    /// it.
    fn parse(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let number = |what: &str| {
            numbers.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
        };
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn show(self) -> String {
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// What a run has to do besides the lab's tests, in seconds on two cores: the checks, the host's tests, the
/// crash model and the model checkers; and what a full one adds.
const HOST_SECONDS: u64 = 300;
const FULL_HOST_SECONDS: u64 = 420;

/// One run of the lab's tests.
struct LabRun {
    kernel: Kernel,
    /// Everything, and not only what there is time for every day.
    full: bool,
    /// How many times as long they take as on `uml`.
    slow: u64,
}

impl LabRun {
    /// All that `args` want.
    fn all(args: &Test) -> Vec<Self> {
        let kernel = args.kernel.unwrap_or(Kernel::UML);
        let mut all = vec![Self { kernel, full: args.full, slow: 1 }];
        if args.full && args.kernel.is_none() {
            all.push(Self { kernel: Kernel::Uml(Flavour::Debug, None), full: false, slow: 3 });
        }
        all
    }

    fn command(&self, args: &Test) -> Command {
        let mut lab = cargo("test -p writeboost-tests --test lab --");
        lab.arg(args.filter.as_deref().unwrap_or("")).env("WRITEBOOST_KERNEL", self.kernel.to_string());
        if self.full {
            lab.env("WRITEBOOST_FULL", "1");
        }
        if args.quick {
            lab.env("WRITEBOOST_QUICK", "1");
        }
        if let Some(seed) = args.seed {
            lab.env("WRITEBOOST_SEED", seed.to_string());
        }
        lab
    }

    /// How many tests there are, and how many seconds they take.
    fn plan(&self, args: &Test) -> Result<(u64, u64)> {
        let output = self.command(args).env("WRITEBOOST_PLAN", "1").output().context("cannot run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (tests, seconds) = text.lines().find_map(parse_plan).with_context(|| {
            format!("the lab's tests have no plan: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        Ok((tests, seconds * self.slow))
    }
}

/// From a line `plan: 41 tests, about 900 s`.
fn parse_plan(line: &str) -> Option<(u64, u64)> {
    let (tests, seconds) = line.strip_prefix("plan: ")?.strip_suffix(" s")?.split_once(" tests, about ")?;
    Some((tests.parse().ok()?, seconds.parse().ok()?))
}

/// Says how long it will take.
fn announce(labs: &[LabRun], args: &Test) -> Result<()> {
    let mut seconds = HOST_SECONDS + FULL_HOST_SECONDS;
    for lab in labs {
        let (tests, takes) = lab.plan(args)?;
        println!("{tests} tests on {}: about {} min", lab.kernel, takes.div_ceil(60));
        seconds += takes;
    }
    println!(
        "all of it takes about {} h {:02} min on two cores, and an hour more the first time, \
         for kernels to be built",
        seconds / 3600,
        seconds % 3600 / 60
    );
    Ok(())
}

/// Runs what `args` want.
pub fn run(args: Test, progress: Progress) -> Result<ExitCode> {
    let started = Instant::now();
    let labs = LabRun::all(&args);
    if args.full {
        announce(&labs, &args)?;
    }
    set_up(&labs, &args, progress)?;
    let mut total = Count::default();
    let filter = args.filter.as_deref().unwrap_or("");
    if !args.quick {
        total.add(checks(filter, progress)?);
    }
    total.add(on_this_machine(&args, filter)?);
    if args.full {
        println!("\n== deliberate races");
        let (passed, failed) = races::mutants(filter, progress)?;
        total.add(Count { passed, failed, skipped: 0 });
    }
    for lab in labs {
        let what = format!("the lab's tests on {}", lab.kernel);
        total.add(tests(&what, lab.command(&args))?);
    }

    let seconds = started.elapsed().as_secs();
    println!("\nall of this took {} min {} s", seconds / 60, seconds % 60);
    let ran = total.passed + total.failed > 0;
    if !ran {
        eprintln!("error: no test has {filter:?} in its name");
    }
    // The last line, in a form that both people and scripts know.
    println!("{}", total.show());
    Ok(if ran && total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the lab ready, for these runs and for tests that choose a kernel by themselves. This comes first,
/// because it also installs the C libraries that the tools are linked with.
fn set_up(labs: &[LabRun], args: &Test, progress: Progress) -> Result<()> {
    for lab in labs {
        Lab::setup(lab.kernel, progress)?;
    }
    if !args.quick && args.filter.is_none() {
        for &series in SUPPORTED {
            Lab::setup(Kernel::Debian(Some(series)), progress)?;
        }
    }
    Ok(())
}

/// Everything that looks at the sources and runs nothing of them.
fn checks(filter: &str, progress: Progress) -> Result<Count> {
    let mut total = Count::default();
    for (name, words, variable) in [
        ("check::format", "fmt --all --check", None),
        ("check::clippy", "clippy --quiet --workspace --all-targets -- -D warnings", None),
        ("check::doc", "doc --quiet --workspace --no-deps", Some(("RUSTDOCFLAGS", "-D warnings"))),
    ] {
        if name.contains(filter) {
            let mut command = cargo(words);
            command.envs(variable);
            total.add(check(name, command)?);
        }
    }
    if "check::format_kmod".contains(filter) {
        // What only the kernel compiles: cargo does not know of it.
        let mut command = Command::new("rustfmt");
        command.current_dir(checkout()).args(["--check", "--edition", "2021", "kmod/src/writeboost_main.rs"]);
        total.add(check("check::format_kmod", command)?);
    }
    if "check::clippy_kmod".contains(filter) {
        // In what only Kbuild compiles code runs in interrupts: a panic there takes the machine with it.
        total.add(report("check::clippy_kmod", clippy_module(Kernel::UML, progress)?));
    }
    if "check::width".contains(filter) {
        total.add(report("check::width", tidy::width()?));
    }
    if "check::shell".contains(filter) {
        total.add(report("check::shell", tidy::shell(progress)?));
    }
    Ok(total)
}

/// All tests that need no guest, but for deliberate races.
fn on_this_machine(args: &Test, filter: &str) -> Result<Count> {
    let mut total = Count::default();
    let mut host =
        cargo("test --no-fail-fast --workspace --lib --bins --tests --exclude writeboost-tests --");
    host.arg(filter);
    total.add(tests("the host's tests", host)?);
    if !args.quick {
        total.add(tests("the crash model", crash::for_tests(args.seed, filter))?);
        total.add(tests("lives of the volume", crash::lives_for_tests(args.seed, filter, args.full))?);
        println!("\n== bugs that the engine's tests must catch");
        let (passed, failed) = mutants::run_all(filter, None)?;
        total.add(Count { passed, failed, skipped: 0 });
    }
    let mut doc = cargo("test --no-fail-fast --workspace --doc --exclude writeboost-tests --");
    doc.arg(filter);
    total.add(tests("the examples in the documentation", doc)?);
    let mut helpers = cargo("test --no-fail-fast -p writeboost-tests --lib --");
    helpers.arg(filter);
    total.add(tests("the tests of the tests", helpers)?);
    if !args.quick {
        for name in races::CHECKERS {
            total.add(tests(&format!("races under {name}"), races::checker(name, None, filter))?);
        }
    }
    Ok(total)
}

/// A check by a command counts as a test. Its output is shown when it fails.
fn check(name: &str, mut command: Command) -> Result<Count> {
    let output = command.output().context("cannot run cargo")?;
    let found = [output.stdout, output.stderr].concat();
    Ok(report(name, (!output.status.success()).then(|| String::from_utf8_lossy(&found).into_owned())))
}

/// A check counts as a test, and fails when it has found something.
fn report(name: &str, found: Option<String>) -> Count {
    let (word, passed) = if found.is_none() { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {name} ... {word}");
    if let Some(found) = found {
        println!("{}", found.trim_end());
    }
    Count { passed, failed: 1 - passed, skipped: 0 }
}

/// Runs tests, shows their output as it comes, and adds up their results. Tests that end without a result,
/// because they do not build or die, count as one that failed.
fn tests(what: &str, mut command: Command) -> Result<Count> {
    println!("\n== {what}");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut total = Count::default();
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(count) = Count::parse(&line) {
            total.add(count);
        }
    }
    let status = child.wait()?;
    if !status.success() && total.failed == 0 {
        println!("test {what} ... FAILED ({status})");
        total.failed += 1;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        assert_eq!(parse_plan("plan: 41 tests, about 900 s"), Some((41, 900)));
        assert_eq!(parse_plan("running 3 tests"), None);
    }

    #[test]
    fn results() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; \
                    finished in 0.23s";
        let count = Count { passed: 12, failed: 2, skipped: 1 };
        assert_eq!(Count::parse(line), Some(count));
        assert_eq!(count.show(), "12 passed, 2 failed, 1 skipped");
        assert_eq!(Count { skipped: 0, ..count }.show(), "12 passed, 2 failed");
        for other in ["test a::b ... ok", "test result: what", "running 3 tests", ""] {
            assert_eq!(Count::parse(other), None);
        }
    }
}
