//! `cargo xtask demo`: the main job, from creating a volume to the backing device alone, with a power cut in
//! between.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use xtask::lab::{Kernel, Lab};
use xtask::progress::Progress;

/// Sizes of the two devices in MiB.
const HARD_DISK: u64 = 512;
const SSD: u64 = 512;
/// The power is cut once so many files of the second copy were fsync'd.
const CUT_AFTER: usize = 150;

/// Shows the main job on throw-away devices.
pub fn run(progress: Progress) -> Result<ExitCode> {
    let lab = Lab::setup(Kernel::UML, progress)?;
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("writeboost-demo-").tempdir()?;
    let disks = [(dir.path().join("hdd"), HARD_DISK), (dir.path().join("ssd"), SSD)];
    for (path, mib) in &disks {
        File::create(path)?.set_len(mib << 20).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let share = dir.path().join("share");
    fs::create_dir(&share)?;
    fs::write(share.join("devices.sh"), include_str!("devices.sh"))?;
    fs::write(share.join("copy.py"), include_str!("copy.py"))?;

    let show = Show::default();
    let guest = |show: &Show| {
        let show = show.clone();
        let mut guest = lab.guest().mem(4096).share(&share).on_line(move |line| show.line(line));
        for (path, _) in &disks {
            guest = guest.disk(path);
        }
        guest
    };

    show.heading("First boot: a machine with a slow disk and a fast one");
    let running = guest(&show).spawn(include_str!("first.sh"))?;
    while show.synced() < CUT_AFTER {
        if started.elapsed() > Duration::from_secs(240) {
            bail!("the first boot takes too long; its output:\n{}", running.output());
        }
        std::thread::sleep(Duration::from_millis(20));
        if running.has_ended() {
            running.wait()?.check()?;
            bail!("the first boot ended before the power could be cut");
        }
    }
    let outcome = running.kill()?;
    if !outcome.kernel_trouble().is_empty() {
        bail!("the guest's kernel is in trouble:\n{}", outcome.kernel_log);
    }
    let synced = show.synced();
    show.heading(&format!(
        "Power cut: the machine was killed (SIGKILL) while it wrote, after {synced} more files were fsync'd"
    ));
    write_manifest(&share.join("second.sha256"), &show.take_synced())?;

    show.heading("Second boot");
    guest(&show).run(include_str!("second.sh"))?.check()?;
    sum_up(&show, started)
}

/// Says what the boots have shown.
fn sum_up(show: &Show, started: Instant) -> Result<ExitCode> {
    let facts = show.facts();
    let fact = |name: &str| facts.get(name).copied().unwrap_or(f64::NAN);
    let (slow, fast) = (fact("SLOW"), fact("FAST"));
    let (slow_sync, fast_sync) = (fact("SLOWSYNC"), fact("FASTSYNC"));
    let checked = (fact("CHECKED first"), fact("CHECKED second"));
    if [slow, fast, slow_sync, fast_sync, checked.0, checked.1].iter().any(|x| !x.is_finite())
        || checked.0 < 5000.0
    {
        bail!("the demo did not measure what it should: {facts:?}");
    }
    show.heading("What you have seen");
    println!("  files copied, each tenth fsync'd   {slow:>8.0} /s on the hard disk alone");
    println!(
        "                                     {fast:>8.0} /s with the cache: {:.0} times as many",
        fast / slow
    );
    println!("  4 KiB writes, each fsync'd         {slow_sync:>8.0} /s on the hard disk alone");
    println!(
        "                                     {fast_sync:>8.0} /s with the cache: {:.0} times as many",
        fast_sync / slow_sync
    );
    println!(
        "  after the power cut                {:>8.0} files compared by SHA-256, none differs",
        checked.0 + checked.1
    );
    println!("  fsck                                  clean, on the volume and on the hard disk alone");
    println!("  this took                          {:>8.0} s", started.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn write_manifest(path: &Path, synced: &[(String, String)]) -> Result<()> {
    let mut file = File::create(path)?;
    for (digest, name) in synced {
        writeln!(file, "{digest}  {name}")?;
    }
    Ok(())
}

/// What the guests say, shown as it comes and remembered.
#[derive(Clone, Default)]
struct Show(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    synced: Vec<(String, String)>,
    facts: BTreeMap<String, f64>,
}

impl Show {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heading(&self, text: &str) {
        let (bold, normal) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{bold}{text}{normal}");
    }

    fn line(&self, line: &str) {
        let mut seen = self.seen();
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<f64>().ok());
        match words.as_slice() {
            ["synced", digest, path] => seen.synced.push(((*digest).to_owned(), (*path).to_owned())),
            ["SAY", ..] => println!("* {}", line.trim_start_matches("SAY ")),
            [name @ ("SLOW" | "FAST"), _, _] => {
                if let (Some(files), Some(seconds)) = (number(1), number(2)) {
                    let rate = files / seconds.max(0.01);
                    println!("    {files} files in {seconds} s: {rate:.0} files/s");
                    seen.facts.insert((*name).to_owned(), rate);
                }
            }
            [name @ ("SLOWSYNC" | "FASTSYNC"), _] => {
                if let Some(rate) = number(1) {
                    println!("    random 4 KiB writes, each fsync'd: {rate} /s");
                    seen.facts.insert((*name).to_owned(), rate);
                }
            }
            ["CHECKED", list, _] => {
                if let Some(files) = number(2) {
                    println!("    {files} files ({list}): all as they were");
                    seen.facts.insert(format!("CHECKED {list}"), files);
                }
            }
            [""] | [] => (),
            _ => println!("    {line}"),
        }
    }

    fn synced(&self) -> usize {
        self.seen().synced.len()
    }

    fn take_synced(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.seen().synced)
    }

    fn facts(&self) -> BTreeMap<String, f64> {
        self.seen().facts.clone()
    }
}
