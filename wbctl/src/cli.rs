// SPDX-License-Identifier: GPL-2.0-only

//! The arguments of `wbctl` and what it prints.

use crate::{
    create::{self, Create, Created},
    dm::Dm,
    drain::{self, Drained},
    events::Watch,
    options::{self, Setting},
    remove::{self, Removed},
    status::{Side, State, Status},
    volume::Volume,
    Error,
};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{
        atomic::AtomicBool,
        mpsc::{self, RecvTimeoutError, Sender},
        Arc, Mutex,
    },
    thread,
    time::{Duration, Instant},
};
use wbformat::{host::Host, size};
use writeboost::format::{BLOCK, SECTOR};

/// After so long somebody wants to know what is being waited for.
const LONG: Duration = Duration::from_secs(10);

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed: a device cannot be opened, read or written, or you are not root
    2  wrong usage, or the two devices are the same or overlap
    3  refused: a device or the volume is mounted or otherwise in use
    4  refused: the cache device holds something that is not ours
    5  refused: the cache device holds a volume that is damaged
    6  refused: too small, not of the size that the volume has, or a device that cannot be used: read-only, zoned
    7  refused: the cache device belongs to another backing device
    8  there is no such volume
    9  a device of this name, or this volume, is active already
   10  the kernel module is not there
   11  the kernel refused; its reason is in the message
  130  interrupted

Whenever it refuses, nothing is changed.";

/// Creates, inspects, drains and removes writeboost volumes.
#[derive(Debug, Parser)]
#[command(name = "wbctl", version, after_help = EXIT_CODES)]
pub struct Args {
    /// Print the result, or the error, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make /dev/mapper/NAME of a backing and a cache device
    ///
    /// A blank cache device is formatted; one that holds a volume of this backing device is resumed with all that it
    /// holds; anything else is refused.
    #[command(after_help = EXIT_CODES)]
    Create {
        /// Name of the volume
        name: String,
        /// The large, slow device, with its data
        backing: PathBuf,
        /// The small, fast device
        cache: PathBuf,
        /// An option of the target; can be repeated
        #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE", value_parser = create::parse_option)]
        options: Vec<(String, String)>,
        /// Once: resume though it cannot be told whether BACKING is the right one. Twice: though it is another one
        #[arg(long, short, action = clap::ArgAction::Count)]
        force: u8,
    },
    /// Take a volume down
    ///
    /// What is dirty stays on the cache device; `wbctl create` with the same devices resumes it.
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// Name of the volume
        name: String,
        /// Write everything back first, so that the backing device has all of it
        #[arg(long)]
        drain: bool,
    },
    /// List the active volumes
    #[command(after_help = EXIT_CODES)]
    List,
    /// Show how a volume is doing
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Name of the volume
        name: String,
    },
    /// Change an option of a volume while it is in use
    ///
    /// It stays so until the volume is removed. `wbctl get NAME` shows what there is, and within which ranges.
    #[command(after_help = EXIT_CODES)]
    Set {
        /// Name of the volume
        name: String,
        /// Name of the option
        key: String,
        /// A number, or `default` to let the built-in policy decide
        value: String,
    },
    /// Show the options of a volume, or the value of one
    #[command(after_help = EXIT_CODES)]
    Get {
        /// Name of the volume
        name: String,
        /// Name of the option; its value alone is printed
        key: Option<String>,
    },
    /// Show which volumes there are and, with --follow, what happens to them
    ///
    /// A line for each: a device fails, the cache runs full, either recovers, whoever steers writeback falls silent.
    #[command(after_help = EXIT_CODES)]
    Events {
        /// Name of a volume; all if none
        name: Option<String>,
        /// Go on until interrupted
        #[arg(long, short)]
        follow: bool,
    },
    /// Write everything back; the volume stays in use
    ///
    /// What is written meanwhile may be dirty afterwards.
    ///
    /// Ctrl-C stops it at any moment without harm.
    #[command(after_help = EXIT_CODES)]
    Drain {
        /// Name of the volume
        name: String,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    match execute(&Host::default(), args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wbctl: {error}");
            if args.json {
                let error = serde_json::json!({"error": error.to_string(), "exit_code": error.exit_code()});
                print!("{}", json(&error));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Carries it out; returns what to print.
fn execute(host: &Host, args: &Args) -> Result<String, Error> {
    fn show<T: Serialize>(as_json: bool, value: &T, text: impl Fn(&T) -> String) -> String {
        if as_json {
            json(value)
        } else {
            text(value)
        }
    }
    match &args.command {
        Command::Create { name, backing, cache, options, force } => {
            let args_of = Create {
                name: name.clone(),
                backing: backing.clone(),
                cache: cache.clone(),
                options: options.clone(),
                force: *force,
            };
            let waiting = Waiting::new(name);
            let created = create::create(host, &args_of, &|step| waiting.step(step))?;
            drop(waiting);
            for note in &created.notes {
                eprintln!("wbctl: note: {note}");
            }
            Ok(show(args.json, &created, created_text))
        }
        Command::Remove { name, drain } => {
            let stop = if *drain { on_signals()? } else { Arc::default() };
            let mut bar = Bar::new(args.json);
            let waiting = Waiting::new(name);
            if !*drain {
                waiting.step(
                    "the kernel, which ends what is under way (dmesg says whether a device is silent)"
                        .to_owned(),
                );
            }
            let removed = remove::remove(host, name, *drain, &stop, &mut |status| bar.show(name, status));
            bar.clear();
            Ok(show(args.json, &removed?, removed_text))
        }
        Command::List => {
            let mut volumes = Vec::new();
            let active = match Dm::open(false) {
                Ok(dm) => dm.list()?,
                // No device-mapper, no volumes: that is an answer, not a failure.
                Err(Error::NoModule(_)) => Vec::new(),
                Err(e) => return Err(e),
            };
            for mapped in active {
                volumes.push(Volume::new(host, mapped)?);
            }
            Ok(show(args.json, &volumes, |v| list_text(v)))
        }
        Command::Status { name } => {
            let volume = Volume::new(host, Dm::open(false)?.find(name)?)?;
            Ok(show(args.json, &volume, status_text))
        }
        Command::Set { name, key, value } => {
            let setting = options::set(host, name, key, value)?;
            Ok(show(args.json, &setting, |s| format!("{name}: {} {}\n", s.name, s.word())))
        }
        Command::Get { name, key } => {
            let settings = options::get(host, name, key.as_deref())?;
            Ok(match (key, settings.as_slice()) {
                (Some(_), [one]) => show(args.json, one, |s| format!("{}\n", s.word())),
                _ => show(args.json, &settings, |s| settings_text(s)),
            })
        }
        Command::Events { name, follow } => {
            let mut watch = Watch::new(host, name.as_deref())?;
            loop {
                let mut text = String::new();
                for event in watch.look()? {
                    text.push_str(&if args.json {
                        json_line(&event)
                    } else {
                        format!("{} {}: {}\n", event.time, event.volume, event.what)
                    });
                }
                if !follow {
                    return Ok(text);
                }
                let mut out = std::io::stdout();
                if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                    // Nobody reads it any more.
                    return Ok(String::new());
                }
                watch.wait()?;
            }
        }
        Command::Drain { name } => {
            let stop = on_signals()?;
            let mut bar = Bar::new(args.json);
            let drained = drain::drain(host, name, &stop, &mut |status| bar.show(name, status));
            bar.clear();
            Ok(show(args.json, &drained?, drained_text))
        }
    }
}

/// A flag that becomes true on Ctrl-C and when the process is told to end.
fn on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|e| Error::Failed(format!("cannot watch for signals: {e}")))?;
    }
    Ok(stop)
}

/// What is being waited for, when that takes longer than it should: words on stderr after ten seconds, twenty, forty and so on.
struct Waiting {
    step: Arc<Mutex<String>>,
    /// When it goes, the thread that says so ends.
    _end: Sender<()>,
}

impl Waiting {
    /// For the volume `name`; it waits for nothing yet.
    fn new(name: &str) -> Self {
        let step = Arc::new(Mutex::new(String::new()));
        let (end, ended) = mpsc::channel();
        let (name, what) = (name.to_owned(), step.clone());
        thread::spawn(move || {
            let begin = Instant::now();
            let mut due = LONG;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(due.saturating_sub(begin.elapsed()))
            {
                let what = what.lock().map(|what| what.clone()).unwrap_or_default();
                if !what.is_empty() {
                    eprintln!("wbctl: {name}: after {} s still waiting for {what}", due.as_secs());
                }
                due *= 2;
            }
        });
        Self { step, _end: end }
    }

    /// From now on it is waited for this.
    fn step(&self, what: String) {
        if let Ok(mut step) = self.step.lock() {
            *step = what;
        }
    }
}

/// A progress bar; on nothing but a terminal. And words, on anything, about devices that make it wait.
struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Vec<Side>,
}

impl Bar {
    fn new(quiet: bool) -> Self {
        Self { bar: None, quiet, told: Vec::new() }
    }

    /// Shows how far the volume `name` is.
    fn show(&mut self, name: &str, status: &Status) {
        self.show_left(status.dirty_blocks);
        let silent: Vec<_> = status.silent().collect();
        for news in silent.iter().filter(|s| !self.told.contains(&s.side)) {
            self.say(&format!("wbctl: {name}: {news}; waiting for it"));
        }
        let is_silent = |side: &Side| silent.iter().any(|s| s.side == *side);
        for side in self.told.iter().filter(|side| !is_silent(side)) {
            self.say(&format!("wbctl: {name}: {} answers again", side.name()));
        }
        self.told = silent.iter().map(|s| s.side).collect();
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows that `left` blocks are dirty.
    fn show_left(&mut self, left: u64) {
        if self.quiet || self.bar.is_none() && left == 0 {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(left * BLOCK as u64);
            let template = "{bar:32} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let left = left * BLOCK as u64;
        // Writes go on meanwhile: there may be more to do than there was.
        if left > bar.length().unwrap_or(0) {
            bar.set_length(left);
        }
        bar.set_position(bar.length().unwrap_or(0) - left);
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn json(value: &impl Serialize) -> String {
    // Only maps with keys that are not strings fail, and there are none.
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

fn json_line(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string(value).unwrap_or_default())
}

fn blocks(n: u64) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} block{s} ({})", size::human(n * BLOCK as u64))
}

fn created_text(c: &Created) -> String {
    let what = match (c.formatted, c.dirty_blocks) {
        (true, _) => "a new volume".to_owned(),
        (false, Some(0)) => "resumed, nothing is dirty".to_owned(),
        (false, Some(n)) => format!("resumed, {} dirty", blocks(n)),
        (false, None) => "resumed".to_owned(),
    };
    format!("{}: {}, {what}\n", c.device.display(), size::human(c.size_sectors * SECTOR as u64))
}

fn removed_text(r: &Removed) -> String {
    match r.dirty_blocks {
        0 => format!("Removed {}: {} has all of its data\n", r.name, r.backing),
        n => format!(
            "Removed {}: {} of its data are only on {}; {} alone is out of date. To resume it:\n  {}\n",
            r.name,
            blocks(n),
            r.cache,
            r.backing,
            r.resume_command
        ),
    }
}

fn drained_text(d: &Drained) -> String {
    let now = match d.dirty_blocks_after {
        0 => "nothing is dirty now".to_owned(),
        n => format!("{} were written meanwhile and are dirty now", blocks(n)),
    };
    format!("Drained {}: {} in {:.1} s, {now}\n", d.name, blocks(d.dirty_blocks_before), d.seconds)
}

/// The state in a word: that of a device that does not answer, when nothing is wrong otherwise.
fn state_word(s: &Status) -> &'static str {
    match s.state {
        State::Ok if s.silent().next().is_some() => "silent",
        state => state.word(),
    }
}

fn list_text(volumes: &[Volume]) -> String {
    let mut rows = vec![["NAME", "STATE", "SIZE", "DIRTY", "BACKING", "CACHE"].map(str::to_owned)];
    rows.extend(volumes.iter().map(|v| {
        [
            v.name.clone(),
            state_word(&v.status).to_owned(),
            size::human(v.size_bytes),
            size::human(v.dirty_bytes),
            v.backing.device.clone(),
            v.cache.device.clone(),
        ]
    }));
    let width = |i: usize| rows.iter().map(|r| r[i].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..6).map(width).collect();
    let line = |r: &[String; 6]| {
        let cells: Vec<_> = r.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn settings_text(settings: &[Setting]) -> String {
    let mut out = String::new();
    for s in settings {
        let unit = if s.unit.is_empty() { String::new() } else { format!(" {}", s.unit) };
        out.push_str(&format!("{:<26}{:<9}{} to {}{unit}: {}\n", s.name, s.word(), s.min, s.max, s.summary));
    }
    out
}

fn status_text(v: &Volume) -> String {
    let s = &v.status;
    let count = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
    let hits = |n: u64, percent: Option<f64>| match percent {
        Some(p) => format!("{n}, {p:.1} % in the cache"),
        None => n.to_string(),
    };
    let mut out = format!("{}: {}{}", v.name, s.state.word(), if v.suspended { ", suspended" } else { "" });
    for silent in s.silent() {
        out.push_str(&format!(", but {silent}"));
    }
    out.push('\n');
    let silence = |silent_s: Option<u64>| match silent_s {
        None | Some(0) => String::new(),
        Some(s) => format!(", no answer for {s} s"),
    };
    let mut line = |key: &str, value: String| out.push_str(&format!("  {key:<9}{value}\n"));
    line(
        "device",
        format!(
            "{} ({}), {}, opened {} times",
            v.device.display(),
            v.number,
            size::human(v.size_bytes),
            v.open_count
        ),
    );
    line("uuid", s.uuid.clone().unwrap_or("?".to_owned()));
    line("backing", format!("{} ({}){}", v.backing.device, v.backing.number, silence(s.backing_silent_s)));
    line(
        "cache",
        format!(
            "{} ({}), {} segments, {}{}",
            v.cache.device,
            v.cache.number,
            s.segments,
            blocks(s.cache_blocks),
            silence(s.cache_silent_s)
        ),
    );
    line("dirty", format!("{}, {:.1} % of the cache", blocks(s.dirty_blocks), v.dirty_percent));
    line("free", format!("{} of {} segments", count(s.free_segments), s.segments));
    if s.full == Some(true) {
        line("full", "writes are as fast as the backing device".to_owned());
    }
    line(
        "log",
        format!(
            "newest {}, on the cache device {}, written back {}, partial {}",
            s.current_id, s.last_flushed_id, s.last_writeback_id, s.partial_flushed
        ),
    );
    line("reads", hits(s.counters.reads(), v.read_hit_percent));
    line("writes", hits(s.counters.writes(), v.write_hit_percent));
    line(
        "errors",
        format!(
            "cache {} in reads, {} in writes; backing {} in reads, {} in writes",
            count(s.read_errors),
            count(s.cache_write_errors),
            count(s.backing_read_errors),
            count(s.writeback_errors)
        ),
    );
    for (key, map) in [("options", &s.options), ("other", &s.other)] {
        if !map.is_empty() {
            let pairs: Vec<_> =
                map.iter().map(|(k, v)| format!("{k} {}", v.to_string().trim_matches('"'))).collect();
            line(key, pairs.join(", "));
        }
    }
    if s.lost_blocks.is_some_and(|n| n > 0) {
        line("lost", format!("{}, until they are written again", blocks(s.lost_blocks.unwrap_or(0))));
    }
    for advice in s.advice() {
        out.push_str(&format!("{advice}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::Mapped;
    use clap::CommandFactory;
    use wbformat::host::DevNo;

    fn volume() -> Volume {
        let mapped = Mapped {
            name: "perflv".into(),
            device: DevNo { major: 253, minor: 0 },
            sectors: 2 << 20,
            open_count: 1,
            suspended: false,
            table: "9999:16 9999:3 2 writeback_threshold 70".into(),
            status: format!(
                "0 1024 8 1 1 0 256 {} 0 2 writeback_threshold 70 4 state ok free_segments 6",
                "1 ".repeat(16)
            ),
        };
        Volume::new(&Host::default(), mapped).unwrap()
    }

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("wbctl create v /dev/a /dev/b --opt x=1 -o y=2 --force --json").unwrap();
        assert!(args.json);
        let Command::Create { options, force, .. } = args.command else { panic!() };
        assert_eq!((options.len(), force), (2, 1));
        assert!(parse("wbctl create v /dev/a").is_err());
        assert!(parse("wbctl create v /dev/a /dev/b --opt x").is_err());
        assert!(parse("wbctl remove v --drain").is_ok());
        assert!(parse("wbctl set v writeback_threshold").is_err());
        assert!(parse("wbctl set v writeback_threshold default").is_ok());
        assert!(parse("wbctl get v").is_ok() && parse("wbctl events --follow").is_ok());
        assert!(parse("wbctl --json list").is_ok());
    }

    #[test]
    fn texts() {
        let v = volume();
        let text = status_text(&v);
        for words in [
            "perflv: ok",
            "9999:16",
            "256 blocks (1 MiB), 25.0 %",
            "6 of 8 segments",
            "writeback_threshold 70",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        let list = list_text(&[v]);
        assert_eq!(list.lines().count(), 2);
        assert!(list.contains("1 GiB"), "{list}");
        let mut v = volume();
        (v.status.backing_silent_s, v.status.cache_silent_s) = (Some(3), Some(42));
        let text = status_text(&v);
        for words in [
            "perflv: ok, but the cache device has not answered for 42 s\n",
            "9999:16 (9999:16), no answer for 3 s\n",
            "no answer for 42 s\n",
            "neither data nor errors",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert!(list_text(&[v]).contains(" silent "));
    }

    #[test]
    fn json_has_all_fields() {
        let json = serde_json::to_value(volume()).unwrap();
        assert_eq!(json["dirty_bytes"], 1 << 20);
        assert_eq!(json["dirty_percent"], 25.0);
        assert_eq!(json["backing"]["number"], "9999:16");
        assert_eq!(json["counters"]["read_hit_device_full"], 1);
        assert_eq!(json["options"]["writeback_threshold"], 70);
        assert!(json["writeback_errors"].is_null());
    }
}
