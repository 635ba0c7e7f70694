//! What the user sees while a slow step runs: a spinner with the time on a terminal, plain lines elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a step says that it is still running when stderr is not a terminal.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Lines of a log that an error shows; the log itself is named beside them.
const TAIL: usize = 40;

/// Where progress goes. One per process is enough.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Terminal,
    Plain,
    Silent,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Progress on stderr, as a spinner when that is a terminal and as lines when it is not.
    pub fn new() -> Self {
        let mode = if std::io::stderr().is_terminal() { Mode::Terminal } else { Mode::Plain };
        Self { mode }
    }

    /// No progress at all, for callers that show their own.
    pub fn silent() -> Self {
        Self { mode: Mode::Silent }
    }

    /// Starts a step that takes more than a few seconds. `typical` is how long it took on two cores.
    pub fn step(&self, what: impl Into<String>, typical: Duration) -> Step {
        Step::start(self.mode, what.into(), typical)
    }

    /// One line that is worth knowing, such as which kernel was chosen.
    pub fn note(&self, text: impl AsRef<str>) {
        if self.mode != Mode::Silent {
            eprintln!("{}", text.as_ref());
        }
    }
}

/// A step in progress. Dropping it without [`Step::done`] says that it failed.
#[derive(Debug)]
pub struct Step {
    mode: Mode,
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    /// Closed when the step ends, which stops the heartbeat.
    heartbeat: Option<mpsc::Sender<()>>,
    finished: bool,
}

impl Step {
    fn start(mode: Mode, what: String, typical: Duration) -> Self {
        let started = Instant::now();
        let typical = format!("typically {}", HumanDuration(typical));
        let (mut bar, mut heartbeat) = (None, None);
        match mode {
            Mode::Terminal => {
                let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let spinner = ProgressBar::new_spinner().with_style(style);
                spinner.set_prefix(format!("{what} ({typical})"));
                spinner.enable_steady_tick(Duration::from_millis(200));
                bar = Some(spinner);
            }
            Mode::Plain => {
                eprintln!("{what} ({typical}) ...");
                let (stop, stopped) = mpsc::channel();
                let what = what.clone();
                thread::spawn(move || {
                    while stopped.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                        eprintln!("{what}: {} so far ({typical})", HumanDuration(started.elapsed()));
                    }
                });
                heartbeat = Some(stop);
            }
            Mode::Silent => {}
        }
        Self { mode, what, started, bar, heartbeat, finished: false }
    }

    /// Shows what the step is busy with; only a terminal sees it.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// The same for another thread.
    pub fn detailer(&self) -> impl Fn(&str) + Send + 'static {
        let bar = self.bar.clone();
        move |text| {
            if let Some(bar) = &bar {
                bar.set_message(text.trim().to_owned());
            }
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.finish("done in");
    }

    fn finish(&mut self, how: &str) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.heartbeat = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.mode != Mode::Silent {
            eprintln!("{}: {how} {:.1} s", self.what, self.started.elapsed().as_secs_f64());
        }
    }

    /// Runs `command` with its output in `log`, its latest line beside the spinner, and the end of it in the
    /// error.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let lines = self.run_collect(command, log)?;
        if let Some(lines) = lines {
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            bail!("{tail}\n{} failed; all of its output is in {}", self.what, log.display());
        }
        Ok(())
    }

    /// As [`Step::run`], but a failure is `Ok(Some(every line))` for the caller to show.
    pub fn run_collect(&self, command: &mut Command, log: &Path) -> Result<Option<Vec<String>>> {
        if let Some(parent) = log.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let mut log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        writeln!(log_file, "+ {command:?}")?;
        // Both streams go through one pipe, so that the order of lines is kept.
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        // The command keeps the writing end; without this the pipe would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut lines = Vec::new();
        let mut reader = BufReader::new(File::from(reader));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            log_file.write_all(&line)?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.detail(&text);
            lines.push(text);
            line.clear();
        }
        let status = child.wait()?;
        Ok((!status.success()).then_some(lines))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.finish("failed after");
    }
}
