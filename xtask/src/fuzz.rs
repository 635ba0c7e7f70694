//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, and keeps what is worth it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use writeboost_fuzz::TARGETS;
use xtask::lab::Fuzzer;
use xtask::progress::Progress;

use super::Fuzz;

/// Longest input of a target in bytes: what does not fit says nothing new.
fn max_len(target: &str) -> u32 {
    match target {
        "superblock" => 600,
        "headers" => 6200,
        "arguments" => 1024,
        _ => 4096,
    }
}

/// Most bytes and files of one target's inputs in the repository.
const KEPT_BYTES: u64 = 200 << 10;
const KEPT_FILES: usize = 150;

/// How far a target is, from libFuzzer's lines `#123 NEW cov: 4 ft: 5 corp: 6/7b ...`.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stat {
    runs: u64,
    coverage: u64,
    inputs: u64,
}

impl Stat {
    /// Takes over what a line says, if it is one of those.
    fn update(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix('#') else { return };
        let mut words = rest.split_ascii_whitespace();
        let Some(runs) = words.next().and_then(|n| n.parse().ok()) else { return };
        self.runs = runs;
        while let Some(word) = words.next() {
            let mut number = || words.next()?.split('/').next()?.parse().ok();
            match word {
                "cov:" => self.coverage = number().unwrap_or(self.coverage),
                "corp:" => self.inputs = number().unwrap_or(self.inputs),
                _ => (),
            }
        }
    }
}

struct Job {
    target: &'static str,
    child: Child,
    stat: Arc<Mutex<Stat>>,
    reader: thread::JoinHandle<()>,
}

/// Runs what `args` want.
pub fn run(args: Fuzz, progress: Progress) -> Result<ExitCode> {
    let targets = targets(args.target.as_deref())?;
    let fuzzer = Fuzzer::setup(progress)?;
    let time = Duration::from_secs(args.minutes * 60);
    let step = progress.step(format!("fuzzing {}", targets.join(", ")), time);
    let started = Instant::now();
    let mut jobs = Vec::new();
    for target in targets {
        jobs.push(start(&fuzzer, target, time)?);
    }
    while jobs.iter_mut().any(|job| matches!(job.child.try_wait(), Ok(None))) {
        thread::sleep(Duration::from_millis(500));
        let show = |job: &Job| {
            let stat = job.stat.lock().map(|s| s.clone()).unwrap_or_default();
            format!("{} {} runs, coverage {}", job.target, stat.runs, stat.coverage)
        };
        step.detail(&jobs.iter().map(show).collect::<Vec<_>>().join("; "));
    }
    let seconds = started.elapsed().as_secs_f64();
    let (mut found, mut lines) = (Vec::new(), Vec::new());
    for mut job in jobs {
        let status = job.child.wait()?;
        let _ = job.reader.join();
        let stat = job.stat.lock().map(|s| s.clone()).unwrap_or_default();
        lines.push(format!(
            "{:<12}{:>12} runs {:>8.0} per second {:>6} edges covered {:>6} inputs",
            job.target,
            stat.runs,
            stat.runs as f64 / seconds,
            stat.coverage,
            stat.inputs
        ));
        let inputs = found_since(&fuzzer, job.target, started)?;
        if !status.success() && inputs.is_empty() {
            bail!("{} has ended with {status}; see {}", job.target, fuzzer.log(job.target).display());
        }
        found.extend(inputs.into_iter().map(|path| (job.target, path)));
    }
    step.done();
    for line in lines {
        println!("{line}");
    }
    if found.is_empty() {
        println!("nothing was found");
        if args.keep {
            keep(&fuzzer, args.target.as_deref(), progress)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    for (target, path) in found {
        println!(
            "\n{target}: {} shows a fault; {} says which. To repeat it without the fuzzer:\n  \
             cp {} {}/found-NAME && cargo test -p writeboost-fuzz --test corpus {target}",
            path.display(),
            fuzzer.log(target).display(),
            path.display(),
            Fuzzer::committed(target).display(),
        );
    }
    Ok(ExitCode::FAILURE)
}

/// All targets, or the one of that name.
fn targets(name: Option<&str>) -> Result<Vec<&'static str>> {
    let all: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let Some(name) = name else { return Ok(all) };
    match all.iter().find(|t| **t == name) {
        Some(t) => Ok(vec![*t]),
        None => bail!("there is no fuzz target {name}; there are {}", all.join(", ")),
    }
}

/// The inputs that have shown a fault of a target since then.
fn found_since(fuzzer: &Fuzzer, target: &str, since: Instant) -> Result<Vec<PathBuf>> {
    let mut inputs = files(&fuzzer.found(target))?;
    inputs.retain(|path| {
        let age = fs::metadata(path).and_then(|m| m.modified()).map(|m| m.elapsed());
        age.is_ok_and(|age| age.unwrap_or_default() <= since.elapsed())
    });
    Ok(inputs)
}

fn start(fuzzer: &Fuzzer, target: &'static str, time: Duration) -> Result<Job> {
    let (corpus, found) = (fuzzer.corpus(target), fuzzer.found(target));
    for dir in [&corpus, &found] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    // What is new goes to the first directory; the one in the repository is only read.
    let mut command = fuzz_command(fuzzer, target);
    command
        .arg(format!("-max_total_time={}", time.as_secs()))
        // By the clock: that of a machine which has other things to do is no fault. What loops for ever is
        // found all the same.
        .arg("-timeout=1200")
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(&corpus)
        .arg(Fuzzer::committed(target))
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let output = child.stderr.take().context("the fuzzer has no output")?;
    let path = fuzzer.log(target);
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let stat = Arc::new(Mutex::new(Stat::default()));
    let seen = stat.clone();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            // The log is for people who look for a fault; a full disk is not one of the target's.
            let _ = writeln!(log, "{line}");
            if let Ok(mut stat) = seen.lock() {
                stat.update(&line);
            }
        }
    });
    Ok(Job { target, child, stat, reader })
}

/// The program of a target, at the lowest priority, with limits on what it may take.
fn fuzz_command(fuzzer: &Fuzzer, target: &str) -> Command {
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(fuzzer.program(target))
        .args(["-rss_limit_mb=1024", "-malloc_limit_mb=64"])
        .arg(format!("-max_len={}", max_len(target)))
        // Freed memory is kept, to see uses of it; that much is enough.
        .env("ASAN_OPTIONS", "quarantine_size_mb=16")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Replaces the inputs in the repository by as few as reach all that is reached. Those that people have given
/// a name stay; the fuzzer's are numbers.
fn keep(fuzzer: &Fuzzer, only: Option<&str>, progress: Progress) -> Result<()> {
    for (target, _) in TARGETS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let step = progress.step(format!("choosing inputs of {target}"), Duration::from_secs(60));
        let chosen = tempfile::tempdir()?;
        let committed = Fuzzer::committed(target);
        let mut merge = fuzz_command(fuzzer, target);
        merge.args(["-set_cover_merge=1", "-use_counters=0"]).arg(chosen.path());
        merge.arg(fuzzer.corpus(target)).arg(&committed);
        if !merge.status()?.success() {
            bail!("cannot choose among the inputs of {target}");
        }
        let chosen = files(chosen.path())?;
        let bytes = chosen.iter().map(|f| Ok(fs::metadata(f)?.len())).sum::<Result<u64>>()?;
        if bytes > KEPT_BYTES || chosen.len() > KEPT_FILES {
            bail!("{} inputs of {target} with {bytes} bytes are too many for the repository", chosen.len());
        }
        for old in files(&committed)?.iter().filter(|f| !name(f).contains('-')) {
            fs::remove_file(old)?;
        }
        for file in &chosen {
            // One that shows a fault has its name already.
            let content = fs::read(file)?;
            let mut known = files(&committed)?.into_iter();
            if !known.any(|k| fs::read(k).is_ok_and(|k| k == content)) {
                fs::write(committed.join(name(file)), content)?;
            }
        }
        step.done();
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut all = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_fuzzer() {
        let mut stat = Stat::default();
        stat.update(
            "#1470543\tREDUCE cov: 231 ft: 540 corp: 89/9361b lim: 600 exec/s: 13129 rss: 79Mb L: 68/461",
        );
        let first = Stat { runs: 1_470_543, coverage: 231, inputs: 89 };
        assert_eq!(stat, first);
        for other in ["INFO: Seed: 1", "", "#x", "\tNEW_FUNC[1/1]: 0x5 in f"] {
            stat.update(other);
            assert_eq!(stat, first);
        }
        stat.update("#1470600\tDONE   cov: 232");
        assert_eq!(stat, Stat { runs: 1_470_600, coverage: 232, inputs: 89 });
    }
}
