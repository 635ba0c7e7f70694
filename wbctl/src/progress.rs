// SPDX-License-Identifier: GPL-2.0-only

//! The output of a command that takes a while: a progress bar, and words about the step that it waits for.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    sync::{
        atomic::AtomicBool,
        mpsc::{self, RecvTimeoutError, Sender},
        Arc, Mutex,
    },
    thread,
    time::{Duration, Instant},
};
use wbhost::{
    status::{Side, Status},
    Error,
};
use writeboost::format::BLOCK;

/// The time after which a user wants to know what the command waits for.
const LONG: Duration = Duration::from_secs(10);

/// A flag that becomes true on Ctrl-C and when the process is told to end.
///
/// # Errors
/// [`Error::Failed`].
pub fn on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|e| Error::Failed(format!("cannot watch for signals: {e}")))?;
    }
    Ok(stop)
}

/// Reports the step that a command waits for, when the step takes longer than it should: words on stderr
/// after ten seconds, twenty, forty and so on.
pub struct Waiting {
    step: Arc<Mutex<String>>,
    /// When this is dropped, the thread that reports ends.
    _end: Sender<()>,
}

impl Waiting {
    /// For the volume `name`; there is no step yet.
    pub fn new(name: &str) -> Self {
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

    /// From now on the command waits for this step.
    pub fn step(&self, what: String) {
        if let Ok(mut step) = self.step.lock() {
            *step = what;
        }
    }
}

/// A progress bar, on a terminal only. Also words, on any output, about devices that make the command wait.
pub struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Vec<Side>,
}

impl Bar {
    /// A bar that is not shown yet, and never if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { bar: None, quiet, told: Vec::new() }
    }

    /// Shows the progress of the volume `name`.
    pub fn show(&mut self, name: &str, status: &Status) {
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
            let template = "{bar:32} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  \
                            {binary_bytes_per_sec}  {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let left = left * BLOCK as u64;
        // Writes go on meanwhile, so more may be left than at the beginning.
        if left > bar.length().unwrap_or(0) {
            bar.set_length(left);
        }
        bar.set_position(bar.length().unwrap_or(0) - left);
    }

    /// Removes the bar.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
