//! `cargo xtask mutants`: deliberate bugs in the engine, each of which its tests must catch.
//!
//! A mutant is a file in `kmod/mutants`: a sentence that says what is wrong, and a patch without line
//! numbers, whose old lines must be found exactly once. It is applied to a copy of the engine in
//! `target/mutants`; the copy is built with the crash model, the directed tests and those of hibernation, and
//! these run until one of them fails. What makes room is no part of the engine: a mutant of that is built
//! with its own tests, which explore all its states. One of the volume is built with `kmod/tests/lives/`.
//! `docs/mutants.md` is the list.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use xtask::cargo::cargo;
use xtask::lab::checkout;
use xtask::progress::Progress;

use super::Mutants;

/// A test that hangs has caught the mutant too. None takes so much time of a CPU when it does not; how long
/// that is by the clock depends on what else the machine does.
const PATIENCE: Duration = Duration::from_secs(200);

/// The tests that are in the sources themselves.
const LIB: &str = "lib";

/// One stage: what its tests are called in reports, where they are, which of them, and how many states they
/// look at.
type Stage = (&'static str, &'static str, &'static str, &'static str);

/// Of the engine. Little of the model comes first, which catches most.
const ENGINE: [Stage; 7] = [
    ("full log", "crash", "writes_get_on_while_the_log_is_full", ""),
    ("crash model", "crash", "a_volume_survives_any_crash", "10000"),
    ("small histories", "crash", "small_histories_survive_every_crash", ""),
    ("directed test", "directed", "", ""),
    ("hibernation", "sleep", "", ""),
    LIVES[0],
    ("crash model", "crash", "a_volume_survives_any_crash", "200000"),
];

/// Of what drives the engine.
const LIVES: [Stage; 2] =
    [("lives", "lives", "the_volume_survives", "20000"), ("steering test", "steering", "", "")];

/// Of the state machine that decides what makes room. The engine's tests drive the engine only.
const ROOM: [Stage; 1] = [("states of room", LIB, "policy::room::", "")];

/// One deliberate bug.
#[derive(Debug, PartialEq)]
struct Mutant {
    name: String,
    /// What is wrong, in a sentence.
    bug: String,
    /// The file, from the root of the checkout.
    file: PathBuf,
    /// Old and new text of each hunk.
    hunks: Vec<(String, String)>,
}

impl Mutant {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let (bug, patch) = text.split_once("\n\n").context("it has no sentence before the patch")?;
        let mut lines = patch.lines();
        let file = lines.next().and_then(|l| l.strip_prefix("--- ")).context("the patch has no --- line")?;
        let same = lines.next().and_then(|l| l.strip_prefix("+++ "));
        ensure!(same == Some(file), "the +++ line does not name {file}");
        let mut hunks: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with("@@") {
                hunks.push(Default::default());
                continue;
            }
            let (old, new) = hunks.last_mut().context("the patch does not begin with @@")?;
            let (kind, rest) = line.split_at(line.len().min(1));
            if kind == "-" || kind == " " || kind.is_empty() {
                old.push_str(rest);
                old.push('\n');
            }
            if kind == "+" || kind == " " || kind.is_empty() {
                new.push_str(rest);
                new.push('\n');
            }
            ensure!(matches!(kind, "-" | "+" | " " | ""), "a line begins with {kind:?}");
        }
        ensure!(hunks.iter().any(|(old, new)| old != new), "the patch changes nothing");
        Ok(Self { name: name.into(), bug: bug.trim().into(), file: file.into(), hunks })
    }

    /// The tests that must catch it.
    fn stages(&self) -> &'static [Stage] {
        if self.file.ends_with("policy/room.rs") {
            &ROOM
        } else if self.file.starts_with("kmod/src/volume") {
            &LIVES
        } else {
            &ENGINE
        }
    }

    /// The file with the bug in it.
    fn apply(&self, source: &str) -> Result<String> {
        let mut text = source.to_owned();
        for (old, new) in &self.hunks {
            let found = text.matches(old.as_str()).count();
            if found != 1 {
                bail!(
                    "kmod/mutants/{}.patch no longer applies: {} has these lines {found} times:\n{old}\
                     put the bug into the code as it is now, or remove it here and from docs/mutants.md",
                    self.name,
                    self.file.display()
                );
            }
            text = text.replacen(old, new, 1);
        }
        Ok(text)
    }
}

fn all() -> Result<Vec<Mutant>> {
    let dir = checkout().join("kmod/mutants");
    let mut all = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|s| s.to_str()) else { continue };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.push(Mutant::parse(name, &text).with_context(|| format!("{} is no mutant", path.display()))?);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// What has become of a mutant.
struct Fate {
    name: String,
    /// What caught it, or why it lives.
    result: Result<String, String>,
    seconds: f64,
}

/// A copy of the engine with its tests, and where it is built.
struct Copy {
    dir: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(number: usize) -> Result<Self> {
        let base = checkout().join("target/mutants");
        let copy =
            Self { dir: base.join(format!("copy{number}")), target: base.join(format!("target{number}")) };
        let kmod = checkout().join("kmod");
        for part in ["src", "tests"] {
            let _ = fs::remove_dir_all(copy.dir.join(part));
            copy_tree(&kmod.join(part), &copy.dir.join(part))?;
        }
        let lock = checkout().join("Cargo.lock");
        if !copy.dir.join("Cargo.lock").exists() {
            fs::copy(lock, copy.dir.join("Cargo.lock"))?;
        }
        // What is quickest to build and to run; with the checks that the kernel has too.
        let manifest =
            "[package]\nname = \"writeboost\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
                        [dependencies]\ncrc32c = \"0.6\"\ncorosensei = \"0.3\"\n\n\
                        [profile.dev]\nopt-level = 1\ndebug = 0\n\n\
                        [profile.dev.package.crc32c]\nopt-level = 3\n";
        fs::write(copy.dir.join("Cargo.toml"), manifest)?;
        Ok(copy)
    }

    /// Builds one of the tests, or [`LIB`]. `None` when the compiler refuses.
    fn build(&self, name: &str) -> Result<Option<PathBuf>> {
        let (which, target) = match name {
            LIB => ("--lib".into(), "writeboost"),
            _ => (format!("--test {name}"), name),
        };
        let output = cargo("test --quiet --no-run --message-format json")
            .args(which.split(' '))
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", &self.target)
            .stderr(Stdio::null())
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            return Ok(None);
        }
        for line in output.stdout.split(|&b| b == b'\n') {
            let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            if let (Some(path), true) = (message["executable"].as_str(), message["target"]["name"] == target)
            {
                return Ok(Some(path.into()));
            }
        }
        bail!("cargo does not say where the test {name} is")
    }

    /// Builds the mutant and runs the tests until one fails.
    fn try_mutant(&self, mutant: &Mutant) -> Result<Result<String, String>> {
        let original = checkout().join(&mutant.file);
        let source =
            fs::read_to_string(&original).with_context(|| format!("cannot read {}", original.display()))?;
        let inside = mutant.file.strip_prefix("kmod").unwrap_or(&mutant.file);
        let place = self.dir.join(inside);
        let bad = match mutant.apply(&source) {
            Ok(bad) => bad,
            Err(error) => return Ok(Err(error.to_string())),
        };
        fs::write(&place, bad)?;
        let result = self.run_tests(mutant.stages());
        fs::write(&place, source)?;
        result
    }

    /// Runs the tests in turn, until one fails.
    fn run_tests(&self, stages: &[Stage]) -> Result<Result<String, String>> {
        for &(what, test, name, states) in stages {
            let Some(program) = self.build(test)? else { return Ok(Err("it does not compile".into())) };
            let mut command = Command::new(&program);
            command.arg("--nocapture").arg(name).stdin(Stdio::null());
            command.envs([("WRITEBOOST_THREADS", "1"), ("WRITEBOOST_SHRINK", "0"), ("RUST_BACKTRACE", "0")]);
            command.env("WRITEBOOST_DEPTH", "2").env_remove("WRITEBOOST_SEED");
            if !states.is_empty() {
                command.env("WRITEBOOST_STATES", states).env("WRITEBOOST_IMAGES", states);
            }
            let log = tempfile::tempfile()?;
            let child = command.stdout(log.try_clone()?).stderr(log.try_clone()?).spawn();
            let mut child = child.with_context(|| format!("cannot run {}", program.display()))?;
            let Some(success) = wait(&mut child)? else { return Ok(Ok(format!("{what}: it never ends"))) };
            if !success {
                return Ok(Ok(format!("{what}: {}", complaint(log)?)));
            }
        }
        Ok(Err("no test catches it".into()))
    }
}

/// Whether the child succeeds; `None` when it does not end.
fn wait(child: &mut Child) -> Result<Option<bool>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if cpu_time(child.id()).is_some_and(|t| t > PATIENCE) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The time that a process has been running on a CPU (proc(5)).
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything, come state (field 3) and so on; utime and stime are 14 and
    // 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // A tick is a hundredth of a second to all programs, whatever it is to the kernel.
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// What a test says that has failed: which one it is, and the first thing that it complains of.
fn complaint(mut log: fs::File) -> Result<String> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    log.rewind()?;
    log.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let mut failed = String::new();
    while let Some(line) = lines.next() {
        // Of the model: the run with its message, or the history with its.
        if let Some((_, message)) = line.split_once(" fails: ") {
            return Ok(message.into());
        }
        if let Some(name) = line.strip_prefix("thread '").and_then(|l| l.split('\'').next()) {
            let message = lines.next().unwrap_or("");
            if message.starts_with("after ") {
                return Ok(message.into());
            }
            failed = format!("{name}: {message}");
        }
    }
    Ok(if failed.is_empty() { "it dies".into() } else { failed })
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let (entry, path) = (entry?, to);
        let target = path.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Tries the mutants with `filter` in their names (as `mutant::NAME`), and prints each as a test. Says how
/// many were caught and how many live.
pub fn run_all(filter: &str, threads: Option<usize>) -> Result<(u64, u64)> {
    let mutants: Vec<_> =
        all()?.into_iter().filter(|m| format!("mutant::{}", m.name).contains(filter)).collect();
    if mutants.is_empty() {
        return Ok((0, 0));
    }
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = threads.unwrap_or_else(cores).min(mutants.len());
    let next = AtomicUsize::new(0);
    let worker = |number: usize| -> Result<Vec<Fate>> {
        let copy = Copy::new(number)?;
        ensure!(copy.build("crash")?.is_some(), "the engine's tests do not build in {}", copy.dir.display());
        let mut fates = Vec::new();
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let result = copy.try_mutant(mutant).with_context(|| format!("cannot try {}", mutant.name))?;
            let fate = Fate { name: mutant.name.clone(), result, seconds: started.elapsed().as_secs_f64() };
            match &fate.result {
                Ok(by) => println!("test mutant::{} ... ok ({:.0} s, {by})", fate.name, fate.seconds),
                Err(why) => println!("test mutant::{} ... FAILED ({}: {why})", fate.name, mutant.bug),
            }
            fates.push(fate);
        }
        Ok(fates)
    };
    let fates = std::thread::scope(|scope| -> Result<Vec<Fate>> {
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || worker(n))).collect();
        let mut fates = Vec::new();
        for w in workers {
            match w.join() {
                Ok(f) => fates.extend(f?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(fates)
    })?;
    let caught = fates.iter().filter(|f| f.result.is_ok()).count() as u64;
    Ok((caught, fates.len() as u64 - caught))
}

/// Runs what `args` want.
pub fn run(args: Mutants, progress: Progress) -> Result<ExitCode> {
    let mutants = all()?;
    if args.list {
        for m in &mutants {
            println!("{:32} {}", m.name, m.bug);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let step = progress.step("mutants of the engine", Duration::from_secs(240));
    let (caught, alive) = run_all(args.filter.as_deref().unwrap_or(""), args.threads.map(usize::from))?;
    step.done();
    if caught + alive == 0 {
        bail!(
            "no mutant has {:?} in its name; cargo xtask mutants --list shows them",
            args.filter.unwrap_or_default()
        );
    }
    println!("{caught} mutants caught, {alive} alive");
    Ok(if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_apply_and_are_in_the_list() {
        let list = fs::read_to_string(checkout().join("docs/mutants.md")).unwrap();
        // A list breaks its lines anywhere.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mutants = all().unwrap();
        assert!(mutants.len() >= 12, "{}", mutants.len());
        for m in &mutants {
            let source = fs::read_to_string(checkout().join(&m.file)).unwrap();
            assert_ne!(m.apply(&source).unwrap(), source, "{}", m.name);
            let entry = words(&format!("- `{}`: {} Caught by: ", m.name, m.bug));
            assert!(words(&list).contains(&entry), "{} is not in docs/mutants.md", m.name);
        }
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let named =
            list.lines().filter_map(|l| l.strip_prefix("- `")?.split('`').next()).filter(|n| is_name(n));
        let named = named.count();
        assert_eq!(named, mutants.len(), "docs/mutants.md names some that are not there");
    }

    #[test]
    fn what_makes_room_has_tests_of_its_own() {
        let of = |file: &str| {
            let text = format!("Wrong.\n\n--- {file}\n+++ {file}\n@@\n-one\n+two\n");
            Mutant::parse("name", &text).unwrap().stages()
        };
        assert_eq!(of("kmod/src/policy/room.rs"), ROOM);
        assert_eq!(of("kmod/src/policy/lost.rs"), ENGINE);
    }

    #[test]
    fn a_patch_must_fit_once() {
        let text = "Wrong.\n\n--- a.rs\n+++ a.rs\n@@\n one\n-two\n+three\n";
        let m = Mutant::parse("name", text).unwrap();
        assert_eq!(m.apply("zero\none\ntwo\n").unwrap(), "zero\none\nthree\n");
        assert!(m.apply("one\n").is_err());
        assert!(m.apply("one\ntwo\none\ntwo\n").is_err());
        for bad in ["", "Wrong.\n\n+++ a\n", "Wrong.\n\n--- a\n+++ b\n", "Wrong.\n\n--- a\n+++ a\n@@\n one\n"]
        {
            assert!(Mutant::parse("name", bad).is_err(), "{bad}");
        }
    }
}
