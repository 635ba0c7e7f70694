//! All that tests have in common: the lab, a test's guests and their disks, and the log that is kept of each.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure, Context, Result};
use tempfile::TempDir;
use xtask::lab::{checkout, Flavour, Guest, Kernel, Lab, NeverBooted, Outcome, Running, DEVICES};
use xtask::progress::Progress;

/// Functions for the scripts of guests.
const PRELUDE: &str = include_str!("scripts/prelude.sh");
/// Programs in Python for these scripts: files of the share.
const PROGRAMS: &[(&str, &str)] = &[
    ("discard.py", include_str!("scripts/python/discard.py")),
    ("fail_nth.py", include_str!("scripts/python/fail_nth.py")),
    ("flood.py", include_str!("scripts/python/flood.py")),
    ("interrupt.py", include_str!("scripts/python/interrupt.py")),
    ("pieces.py", include_str!("scripts/python/pieces.py")),
    ("places.py", include_str!("scripts/python/places.py")),
    ("unreadable.py", include_str!("scripts/python/unreadable.py")),
];
/// How often an emulated machine that dies before any program has run in it gets another chance. The emulator
/// is known for that when its processors change code under each other, which kernels do all the time while
/// they boot.
const BOOTS_AGAIN: u32 = 2;

/// A test.
#[derive(Clone)]
pub struct Test {
    /// Its name, `THEME::WHAT`.
    pub name: Cow<'static, str>,
    /// About how long it takes, on two cores.
    pub seconds: u32,
    /// The same of a full run, where that has more to do.
    pub full_seconds: u32,
    /// When it is run.
    pub level: Level,
    /// What it does.
    pub body: Body,
}

impl Test {
    /// The same test, which has more to do in a full run and takes so many seconds there.
    pub const fn full_takes(mut self, seconds: u32) -> Self {
        self.full_seconds = seconds;
        self
    }
}

/// How much is run: each level has what the ones before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every few minutes: `cargo xtask test --quick`.
    Quick,
    /// Before a change goes out: `cargo xtask test`.
    Normal,
    /// Before a release, and when there is time: `cargo xtask test --full`.
    Full,
}

/// What a test does.
#[derive(Clone, Copy)]
pub enum Body {
    /// Boots one guest, which runs this script behind the prelude.
    Script(&'static str),
    /// The same, in a guest that has the target `fault` (`tests/targets/dm-fault.c`).
    Failing(&'static str),
    /// Anything else.
    Code(fn(&Bench) -> Result<()>),
    /// Anything else, on Debian's kernel of this series.
    Debian(xtask::lab::Series, fn(&Bench) -> Result<()>),
    /// Anything else, on the kernel that finds bugs by itself and can make allocations fail.
    Debug(fn(&Bench) -> Result<()>),
}

/// What is set up once for all tests.
pub struct Setup {
    kernel: Kernel,
    lab: OnceLock<Lab>,
    /// What is run: the tests of this level and the ones below.
    pub level: Level,
    seed: u64,
    logs: PathBuf,
}

/// What a test has while it runs.
pub struct Bench<'a> {
    name: &'a str,
    lab: &'a Lab,
    /// Of each guest.
    cpus: u32,
    /// Whether it is worth while to measure how fast something is.
    fast: bool,
    /// Whether there is time for everything: a test may have more to do then.
    pub full: bool,
    /// Whether the kernel looks for bugs by itself: what a test repeats only to meet rare moments it repeats
    /// less often there.
    debug: bool,
    /// What everything random follows from.
    pub seed: u64,
    dir: TempDir,
    log: PathBuf,
}

impl Setup {
    /// Reads the environment and, if `boot`, makes the lab ready.
    pub fn new(boot: bool) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let kernel = match variable("WRITEBOOST_KERNEL") {
            Some(name) => name.parse().context("WRITEBOOST_KERNEL")?,
            None => Kernel::UML,
        };
        let level = match (variable("WRITEBOOST_QUICK"), variable("WRITEBOOST_FULL")) {
            (None, None) => Level::Normal,
            (Some(_), None) => Level::Quick,
            (None, Some(_)) => Level::Full,
            (Some(_), Some(_)) => bail!("WRITEBOOST_QUICK and WRITEBOOST_FULL exclude each other"),
        };
        let seed = match variable("WRITEBOOST_SEED") {
            Some(seed) => seed.parse().context("WRITEBOOST_SEED is a number")?,
            None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        };
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lab");
        fs::create_dir_all(&logs)?;
        let lab = OnceLock::new();
        if boot {
            println!("kernel {kernel}, WRITEBOOST_SEED={seed}, logs in {}", logs.display());
            let _ = lab.set(Lab::setup(kernel, Progress::new())?);
        }
        Ok(Self { kernel, lab, level, seed, logs })
    }

    /// How long the test takes at this level, in seconds.
    pub fn seconds(&self, test: &Test) -> u32 {
        if self.level == Level::Full {
            test.full_seconds
        } else {
            test.seconds
        }
    }

    /// Whether the test is not for this run: it has no time for it, or the test boots a kernel of its own, so
    /// that one on another kernel than the usual one would only repeat it.
    pub fn leaves_out(&self, test: &Test) -> bool {
        let repeats = self.kernel != Kernel::UML && matches!(test.body, Body::Debian(..) | Body::Debug(_));
        test.level > self.level || repeats
    }

    /// Runs a test.
    pub fn run(&self, test: &Test) -> Result<()> {
        let log = self.logs.join(format!("{}.log", test.name.replace("::", "-")));
        File::create(&log)?;
        // A kernel for several CPUs is booted for the sake of races.
        let cpus = if matches!(self.kernel, Kernel::Uml(Flavour::Smp | Flavour::Debug, _)) { 2 } else { 1 };
        let fast = matches!(self.kernel, Kernel::Uml(Flavour::Up, _));
        let other;
        let lab = match test.body {
            Body::Debian(series, _) => {
                other = Lab::setup(Kernel::Debian(Some(series)), Progress::new())?;
                &other
            }
            Body::Debug(_) => {
                other = Lab::setup(Kernel::Uml(Flavour::Debug, None), Progress::new())?;
                &other
            }
            _ => self.lab.get().with_context(|| format!("{} is not set up", self.kernel))?,
        };
        let full = self.level == Level::Full;
        let debug = matches!(self.kernel, Kernel::Uml(Flavour::Debug, _));
        let cx = Bench { name: &test.name, lab, cpus, fast, full, debug, seed: self.seed, dir: room()?, log };
        let started = Instant::now();
        let attempt = || match test.body {
            Body::Script(script) => cx.guest().and_then(|guest| cx.run(guest, script)).map(drop),
            Body::Failing(script) => cx.failing_guest().and_then(|guest| cx.run(guest, script)).map(drop),
            Body::Code(code) | Body::Debian(_, code) | Body::Debug(code) => code(&cx),
        };
        let mut result = attempt();
        for _ in 0..BOOTS_AGAIN {
            match &result {
                Err(error) if !lab.is_uml() && error.is::<NeverBooted>() => {
                    cx.report("the emulated machine died while it booted: once more");
                    result = attempt();
                }
                _ => break,
            }
        }
        let how = if result.is_ok() { "passed" } else { "failed" };
        cx.note(&format!("{how} after {:.1} s", started.elapsed().as_secs_f64()));
        result.with_context(|| {
            let kernel = match self.kernel {
                Kernel::UML => String::new(),
                kernel => format!(" --kernel {kernel}"),
            };
            let command = repeat(test, full, &kernel, self.seed);
            format!("{command} repeats it; all output is in {}", cx.log.display())
        })
    }
}

/// The command that runs `test` again as it was.
fn repeat(test: &Test, full: bool, kernel: &str, seed: u64) -> String {
    // What is the same in every run needs no more than its name.
    let full =
        if test.level == Level::Full || full && test.full_seconds != test.seconds { " --full" } else { "" };
    format!("cargo xtask test{full}{kernel} --seed {seed} {}", test.name)
}

/// A directory for disks: in RAM where there is such a place, because guests sync a lot.
fn room() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("writeboost-test-");
    let shm = Path::new("/dev/shm");
    Ok(if shm.is_dir() {
        builder.tempdir_in(shm).or_else(|_| builder.tempdir())?
    } else {
        builder.tempdir()?
    })
}

impl Bench<'_> {
    /// A guest with these disks, in their order.
    pub fn guest_with(&self, disks: &[PathBuf]) -> Result<Guest<'_>> {
        Ok(disks.iter().fold(self.guest()?, Guest::disk))
    }

    /// A guest with what every test has: 2 GiB of memory, and a share with `wbtest` and the programs in
    /// Python in it.
    pub fn guest(&self) -> Result<Guest<'_>> {
        let share = self.share();
        if !share.is_dir() {
            fs::create_dir(&share)?;
            fs::copy(env!("CARGO_BIN_EXE_wbtest"), share.join("wbtest"))?;
            for (name, text) in PROGRAMS {
                fs::write(share.join(name), text)?;
            }
        }
        Ok(self.lab.guest().cpus(self.cpus).share(share).timeout(self.patience(600)))
    }

    /// The same, with the module `dm-fault.ko` in the share: `faulty` in the prelude loads it.
    pub fn failing_guest(&self) -> Result<Guest<'_>> {
        let guest = self.guest()?;
        let module = self.module(&checkout().join("tests/targets"), "dm-fault.ko")?;
        fs::copy(module, self.share().join("dm-fault.ko"))?;
        Ok(guest)
    }

    /// How long a guest may take for what takes `seconds` at most on a fast kernel: those for races and for
    /// debugging are several times slower, a file system under KASAN more than that, and so is an emulated
    /// machine.
    pub fn patience(&self, seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds)) * if self.fast && self.lab.is_uml() { 1 } else { 5 }
    }

    /// How often a test does what it does `times` in a normal run: a quarter of that on the kernel that looks
    /// for bugs by itself, which finds them in what is done, and not in how often it is.
    pub fn repeats(&self, times: u32) -> u32 {
        if self.debug {
            times.div_ceil(4)
        } else {
            times
        }
    }

    /// Builds a module that only this test needs, and answers with its path.
    pub fn module(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        self.lab.build_module(dir, name)
    }

    /// The directory that its guests have at /mnt/share.
    pub fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    /// Where its log is, which stays.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Makes the file `name`, `mib` MiB of zeros, to be a disk.
    pub fn disk(&self, name: &str, mib: u64) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        File::create(&path)?.set_len(mib << 20)?;
        Ok(path)
    }

    /// A line for the person who runs the tests, also when all is well.
    pub fn report(&self, line: &str) {
        println!("     {}: {line}", self.name);
        self.note(line);
    }

    /// Writes a line into the test's log.
    pub fn note(&self, line: &str) {
        let file = OpenOptions::new().append(true).open(&self.log);
        // Only the log suffers.
        let _ = file.and_then(|mut file| writeln!(file, "== {line}"));
    }

    /// Runs `script` behind the prelude, and fails when it or the guest's kernel does.
    pub fn run(&self, guest: Guest<'_>, script: &str) -> Result<Outcome> {
        self.run_provoking(guest, script, &[])
    }

    /// The same, but what has one of `provoked` in it is what the kernel is meant to report.
    pub fn run_provoking(&self, guest: Guest<'_>, script: &str, provoked: &[&str]) -> Result<Outcome> {
        let running = self.spawn(guest, script)?;
        self.finish_provoked(running.wait(), provoked)
    }

    /// Boots a guest with `script` behind the prelude.
    pub fn spawn(&self, guest: Guest<'_>, script: &str) -> Result<Running> {
        self.note(&format!("boots {}", self.lab.release()));
        guest.spawn(&format!("SEED={} FAST={}\n{DEVICES}\n{PRELUDE}\n{script}", self.seed, self.fast))
    }

    /// Cuts the guest's power, and fails when its kernel had trouble before.
    pub fn cut(&self, running: Running) -> Result<Outcome> {
        let outcome = running.kill()?;
        self.keep(&outcome)?;
        self.healthy(&outcome, &[])?;
        Ok(outcome)
    }

    /// What became of a guest that was to end by itself.
    pub fn finish(&self, ended: Result<Outcome>) -> Result<Outcome> {
        self.finish_provoked(ended, &[])
    }

    fn finish_provoked(&self, ended: Result<Outcome>, provoked: &[&str]) -> Result<Outcome> {
        let outcome = ended.inspect_err(|error| self.note(&format!("{error:#}")))?;
        self.keep(&outcome)?;
        self.healthy(&outcome, provoked)?;
        for line in outcome.output.lines().filter_map(|line| line.strip_prefix("REPORT ")) {
            self.report(line);
        }
        if outcome.status != 0 {
            bail!("the guest's script ended with {}; its output:\n{}", outcome.status, tail(&outcome.output));
        }
        Ok(outcome)
    }

    fn healthy(&self, outcome: &Outcome, provoked: &[&str]) -> Result<()> {
        let mut trouble = outcome.kernel_trouble();
        trouble.retain(|line| !provoked.iter().any(|sign| line.contains(sign)));
        ensure!(
            trouble.is_empty(),
            "the guest's kernel is in trouble:\n{}\nits log:\n{}\nthe script's output:\n{}",
            trouble.join("\n"),
            tail(&outcome.kernel_log),
            tail(&outcome.output)
        );
        Ok(())
    }

    fn keep(&self, outcome: &Outcome) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.log)?;
        writeln!(file, "== output, status {}\n{}", outcome.status, outcome.output)?;
        Ok(writeln!(file, "== kernel's log\n{}", outcome.kernel_log)?)
    }
}

/// The end of a text, for an error message; the log has all of it.
fn tail(text: &str) -> String {
    const LINES: usize = 80;
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    let dots = if left_out > 0 { format!("... {left_out} lines ...\n") } else { String::new() };
    format!("{dots}{}", lines[left_out..].join("\n"))
}

/// The text of files in `scripts/`, one behind the other.
macro_rules! shell {
    ($($file:literal),+) => {
        concat!($(include_str!(concat!("scripts/", $file, ".sh"))),+)
    };
}
pub(crate) use shell;

/// `KIND(MODULE::NAME, SECONDS, QUICK[, "HELPERS"]...)`, where KIND is [`script`] or [`failing`]: a test
/// whose script is `scripts/MODULE/NAME.sh`, behind `scripts/helpers/HELPERS.sh`.
macro_rules! from_file {
    ($kind:ident($module:ident::$name:ident, $seconds:literal, $quick:literal $(, $helpers:literal)*)) => {
        $kind(
            concat!(stringify!($module), "::", stringify!($name)),
            $seconds,
            $quick,
            concat!(
                $(include_str!(concat!("scripts/helpers/", $helpers, ".sh")),)*
                include_str!(concat!("scripts/", stringify!($module), "/", stringify!($name), ".sh"))
            ),
        )
    };
}
pub(crate) use from_file;

/// A test that is one script, run every few minutes if `quick`.
pub const fn script(name: &'static str, seconds: u32, quick: bool, script: &'static str) -> Test {
    test(name, seconds, level(quick), Body::Script(script))
}

/// A test that is one script, in which disks fail with the status that it wants.
pub const fn failing(name: &'static str, seconds: u32, quick: bool, script: &'static str) -> Test {
    test(name, seconds, level(quick), Body::Failing(script))
}

/// A test that is more than a script.
pub const fn code(name: &'static str, seconds: u32, quick: bool, code: fn(&Bench) -> Result<()>) -> Test {
    test(name, seconds, level(quick), Body::Code(code))
}

const fn level(quick: bool) -> Level {
    if quick {
        Level::Quick
    } else {
        Level::Normal
    }
}

/// Any test, run from `level` on.
pub const fn test(name: &'static str, seconds: u32, level: Level, body: Body) -> Test {
    Test { name: Cow::Borrowed(name), seconds, full_seconds: seconds, level, body }
}
