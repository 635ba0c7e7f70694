// SPDX-License-Identifier: GPL-2.0-only

//! The arguments of `wbstat`, and the loops: on a terminal, and for scripts.

use crate::{
    app::{Action, App, Dialog},
    print::{self, Format},
    sample::{begin_recording, read_recording, record, Live, Sample},
    ui::{self, Look},
};
use anyhow::{Context, Result};
use clap::Parser;
use nix::{
    errno::Errno,
    poll::{poll, PollFd, PollFlags, PollTimeout},
};
use ratatui::{
    crossterm::event::{self, Event},
    DefaultTerminal,
};
use signal_hook::consts::{SIGHUP, SIGTERM};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, IsTerminal, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

const AFTER_HELP: &str = "\
Keys are shown with '?'. Colour is left out with --no-color or NO_COLOR, block characters with --ascii, on
the console of Linux, on a vt100 and without UTF-8.

Exit codes:
    0  done
    1  failed: not root, or a file cannot be read or written
    2  wrong usage";

/// Shows writeboost volumes live: how they are, how full, how dirty, how fast, what they are doing.
#[derive(Debug, Clone, Parser)]
#[command(name = "wbstat", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Seconds between samples
    #[arg(long, short, default_value_t = 1.0, value_parser = interval)]
    pub interval: f64,
    /// One sample as text, after one interval
    #[arg(long)]
    pub once: bool,
    /// A line of JSON for each sample, until interrupted
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// A line of CSV for each sample and volume, until interrupted
    #[arg(long)]
    pub csv: bool,
    /// Also write all samples to this file
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Show what was recorded in this file, at the speed at which it was
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// No colours
    #[arg(long)]
    pub no_color: bool,
    /// Only ASCII characters
    #[arg(long)]
    pub ascii: bool,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.1..=3600.0).contains(&s) => Ok(s),
        _ => Err("an interval is from 0.1 to 3600 seconds".to_owned()),
    }
}

/// Where samples come from.
enum Source {
    Live(Live),
    /// The samples, and the number of the next one.
    Recorded(Vec<Sample>, usize),
}

impl Source {
    /// The next sample; `None` at the end of a recording.
    fn next(&mut self) -> Result<Option<Sample>> {
        match self {
            Source::Live(live) => Ok(Some(live.sample()?)),
            Source::Recorded(samples, next) => {
                let sample = samples.get(*next).cloned();
                *next += usize::from(sample.is_some());
                Ok(sample)
            }
        }
    }

    /// The time to wait for the sample after this one.
    fn wait(&self, interval: f64) -> Duration {
        match self {
            Source::Live(_) => Duration::from_secs_f64(interval),
            Source::Recorded(samples, next) => {
                match (next.checked_sub(1).and_then(|i| samples.get(i)), samples.get(*next)) {
                    (Some(a), Some(b)) => Duration::from_millis(b.at_ms - a.at_ms),
                    _ => Duration::from_secs_f64(interval),
                }
            }
        }
    }
}

/// Runs the program.
pub fn run(args: &Args) -> ExitCode {
    match execute(args) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output is gone.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("wbstat: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(args: &Args) -> Result<()> {
    let mut source = match &args.replay {
        Some(path) => {
            let name = path.display();
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            Source::Recorded(read_recording(BufReader::new(file)).with_context(|| name.to_string())?, 0)
        }
        None => Source::Live(Live::new()),
    };
    let mut recording = match &args.record {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            let mut out = BufWriter::new(file);
            begin_recording(&mut out)?;
            Some(out)
        }
        None => None,
    };
    let format = match (args.json, args.csv) {
        (true, _) => Some(Format::Json),
        (_, true) => Some(Format::Csv),
        _ if args.once => Some(Format::Text),
        _ => None,
    };
    // On the terminal, errors are shown until they are over; but missing rights are an error at once.
    let first = source.next()?.context("there is no sample")?;
    if let Some(out) = &mut recording {
        record(out, &first)?;
    }
    match format {
        Some(format) => print_samples(args, format, &mut source, first, recording.as_mut()),
        None if !io::stdout().is_terminal() => {
            anyhow::bail!("stdout is no terminal; --once, --json and --csv are for that")
        }
        None => {
            let stop = Arc::new(AtomicBool::new(false));
            for signal in [SIGTERM, SIGHUP] {
                signal_hook::flag::register(signal, stop.clone())?;
            }
            end_with_terminal()?;
            on_terminal(|terminal| show(args, terminal, &mut source, first, recording.as_mut(), &stop))
        }
    }
}

/// Runs `f` with the terminal, and restores the terminal afterwards, also after a panic.
///
/// # Errors
/// Those of `f`, and that the terminal cannot be used.
pub fn on_terminal<R>(f: impl FnOnce(&mut DefaultTerminal) -> Result<R>) -> Result<R> {
    // After this call a panic restores the terminal, too.
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = f(&mut terminal);
    ratatui::restore();
    result
}

/// Ends the program as soon as its terminal is gone, as when a connection is cut. A program that waits for
/// keys would otherwise be told for ever that there is something to read, and read nothing.
fn end_with_terminal() -> Result<()> {
    // The terminal that keys come from.
    let tty = if io::stdin().is_terminal() {
        io::stdin().as_fd().try_clone_to_owned()?
    } else {
        File::open("/dev/tty").context("there is no terminal that keys could come from")?.into()
    };
    thread::Builder::new().name("terminal".to_owned()).spawn(move || loop {
        let mut fds = [PollFd::new(tty.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(n) if n > 0 => std::process::exit(1),
            Ok(_) | Err(Errno::EINTR) => (),
            Err(_) => return,
        }
    })?;
    Ok(())
}

fn print_samples(
    args: &Args,
    format: Format,
    source: &mut Source,
    first: Sample,
    mut recording: Option<&mut BufWriter<File>>,
) -> Result<()> {
    let mut out = io::stdout().lock();
    if format == Format::Csv {
        writeln!(out, "{}", print::COLUMNS)?;
    }
    let mut before = first;
    loop {
        // A recording is printed as fast as the script can read it.
        if matches!(source, Source::Live(_)) {
            thread::sleep(source.wait(args.interval));
        }
        let Some(now) = source.next()? else { return Ok(()) };
        if let Some(out) = &mut recording {
            record(out, &now)?;
        }
        if now.volumes.is_empty() && format == Format::Text {
            writeln!(out, "There is no writeboost volume; `wbctl create` makes one.")?;
        }
        out.write_all(print::sample(format, &before, &now).as_bytes())?;
        out.flush()?;
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// The dashboard.
fn show(
    args: &Args,
    terminal: &mut DefaultTerminal,
    source: &mut Source,
    first: Sample,
    mut recording: Option<&mut BufWriter<File>>,
    stop: &AtomicBool,
) -> Result<()> {
    let look = look(args);
    let mut app = App::new(args.interval, args.replay.is_some());
    app.see(&first);
    let mut next = Instant::now() + source.wait(app.interval_s);
    terminal.draw(|frame| ui::draw(frame, &app, look))?;
    while !stop.load(Ordering::Relaxed) {
        let mut changed = false;
        // A signal is noticed within this time.
        let wait = next.saturating_duration_since(Instant::now()).min(Duration::from_millis(500));
        if event::poll(wait)? {
            changed = true;
            match event::read()? {
                Event::Key(key) => match app.key(key) {
                    Action::Quit => return Ok(()),
                    Action::Look => next = Instant::now() + Duration::from_secs_f64(app.interval_s),
                    Action::Set { volume, key, value } => {
                        if let Source::Live(live) = source {
                            let text = match live.set(&volume, key, &value) {
                                Ok(()) => format!("{volume}: {key} is {value} now."),
                                Err(e) => e.to_string(),
                            };
                            app.dialog = Some(Dialog::Told(text));
                            next = Instant::now();
                        }
                    }
                    Action::None => (),
                },
                Event::Resize(..) => (),
                _ => changed = false,
            }
        }
        let replays_paused = app.paused && app.replay;
        if Instant::now() >= next && !replays_paused {
            changed = true;
            match source.next() {
                Ok(Some(sample)) => {
                    app.see(&sample);
                    if let Some(out) = &mut recording {
                        record(out, &sample)?;
                    }
                }
                // The last sample stays.
                Ok(None) => (),
                Err(e) => app.fail(format!("{e:#}")),
            }
            next = Instant::now() + source.wait(app.interval_s);
        }
        if changed {
            terminal.draw(|frame| ui::draw(frame, &app, look))?;
        }
    }
    Ok(())
}

/// The abilities of the terminal, by the environment variables.
fn look(args: &Args) -> Look {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let term = variable("TERM");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable).into_iter().find(|v| !v.is_empty());
    let utf8 = locale.is_some_and(|l| {
        let l = l.to_ascii_lowercase();
        l.contains("utf-8") || l.contains("utf8")
    });
    let plain = ["linux", "dumb", "unknown", ""].contains(&term.as_str()) || term.starts_with("vt");
    let mono = ["dumb", ""].contains(&term.as_str()) || term.starts_with("vt1") || term.starts_with("vt2");
    Look {
        colour: !args.no_color && variable("NO_COLOR").is_empty() && !mono,
        ascii: args.ascii || !utf8 || plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let parse = |words: &[&str]| Args::try_parse_from([&["wbstat"], words].concat());
        assert_eq!(parse(&["--interval", "0.5"]).unwrap().interval, 0.5);
        for bad in [
            &["--interval", "0"][..],
            &["--interval", "x"],
            &["--json", "--csv"],
            &["--record", "a", "--replay", "b"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
