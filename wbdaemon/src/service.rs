// SPDX-License-Identifier: GPL-2.0-only

//! The service: looks at volumes and steers them, again and again, until it is told to end.

use crate::{
    config::{self, Config, ConfigError, Listen},
    instance::{self, Instance},
    metrics::Page,
    server::{Exporter, Shared},
    volumes::{words, Steering, Volumes},
};
use log::{error, info, warn};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use wbhost::host::Host;

/// Exit code: another daemon steers.
const EXIT_ANOTHER: u8 = 3;

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The configuration's file; if none is given, [`config::PATH`] if it exists.
    pub config: Option<PathBuf>,
    /// Looks, decides, prints the decisions and ends.
    pub once: bool,
    /// Sets nothing.
    pub dry_run: bool,
}

impl Run {
    /// Reads the configuration. With `must`, the default file has to exist, too.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read_config(&self, must: bool) -> Result<Config, ConfigError> {
        match &self.config {
            Some(path) => Config::read(path, true),
            None => Config::read(config::PATH.as_ref(), must),
        }
    }
}

/// Runs until it is told to end.
pub fn run(run: &Run, config: Config) -> ExitCode {
    match Service::new(run, config).and_then(|mut service| service.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Another(e)) => {
            error!("{e}");
            ExitCode::from(EXIT_ANOTHER)
        }
        Err(Failure::Io(e)) => {
            error!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Why the service ends without a request.
enum Failure {
    /// Another daemon steers.
    Another(io::Error),
    /// Anything else.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The meaning of an error of [`Instance`].
fn of_instance(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::ResourceBusy => Failure::Another(e),
        _ => Failure::Io(e),
    }
}

struct Service<'a> {
    run: &'a Run,
    config: Config,
    /// Held from before the first message to a volume; a daemon that only looks needs none.
    instance: Option<Instance>,
    volumes: Volumes,
    page: Shared,
    exporter: Option<Exporter>,
    signals: mpsc::Receiver<i32>,
}

impl<'a> Service<'a> {
    fn new(run: &'a Run, config: Config) -> Result<Self, Failure> {
        let instance = match run.dry_run {
            true => None,
            false => Some(Instance::take(instance::PATH.as_ref()).map_err(of_instance)?),
        };
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let (send, receive) = mpsc::channel();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if send.send(signal).is_err() {
                    break;
                }
            }
        })?;
        let volumes = Volumes::new(Host::default(), run.dry_run);
        let page = Shared::default();
        let mut service = Self { run, config, instance, volumes, page, exporter: None, signals: receive };
        // With `once` the program ends before a client could ask.
        if !run.once {
            service.listen()?;
        }
        Ok(service)
    }

    fn run(&mut self) -> Result<(), Failure> {
        let interval = |config: &Config| Duration::from_secs_f64(config.interval_s);
        self.step()?;
        if self.run.once {
            // The first look has nothing to compare with.
            thread::sleep(interval(&self.config));
            self.step()?;
            if let Some(trouble) = self.volumes.trouble() {
                return Err(io::Error::other(format!("cannot look for volumes: {trouble}")).into());
            }
            self.print();
            return Ok(());
        }
        tell(&[NotifyState::Ready]);
        let mut next = Instant::now() + interval(&self.config);
        loop {
            match self.signals.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(SIGHUP) => self.reload(),
                Ok(_) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.step()?;
                    // After the machine has slept, missed ticks are skipped.
                    next = (next + interval(&self.config)).max(Instant::now());
                }
            }
        }
        tell(&[NotifyState::Stopping]);
        self.volumes.release();
        info!("ends");
        Ok(())
    }

    fn step(&mut self) -> Result<(), Failure> {
        if let Some(instance) = &mut self.instance {
            // If another daemon steers already, the volumes are its own: nothing is given back.
            instance.check().map_err(of_instance)?;
        }
        self.volumes.step(&self.config);
        if self.exporter.is_some() {
            self.page.set(Page::of(self.volumes.iter()));
        }
        let status =
            format!("{} volumes, {} steered", self.volumes.iter().count(), self.volumes.nr_steered());
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        Ok(())
    }

    /// Listens where the configuration says. A failure changes nothing.
    fn listen(&mut self) -> io::Result<()> {
        let wanted: Option<Listen> = self.config.metrics.listen().map_err(io::Error::other)?;
        if self.exporter.as_ref().map(Exporter::listen) == wanted.as_ref() {
            return Ok(());
        }
        // Otherwise a new listener on the same port would find the port in use.
        self.exporter = None;
        if let Some(listen) = wanted {
            self.page.set(Page::of(self.volumes.iter()));
            let exporter = Exporter::new(listen, self.page.clone());
            self.exporter = Some(exporter.map_err(|e| {
                io::Error::new(e.kind(), format!("cannot listen at {}: {e}", self.config.metrics.listen))
            })?);
        }
        Ok(())
    }

    /// Reads the configuration again. A faulty one changes nothing, and steering goes on in any case.
    fn reload(&mut self) {
        tell(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading)]);
        match self.run.read_config(false) {
            Ok(config) => {
                self.config = config;
                self.volumes.reconfigure(&self.config);
                if let Err(e) = self.listen() {
                    warn!("{e}; there are no metrics until the configuration is read again");
                }
                info!("has read its configuration again");
            }
            Err(e) => error!("{e}; the configuration stays as it is"),
        }
        tell(&[NotifyState::Ready]);
    }

    /// Prints observations and decisions, for people.
    fn print(&self) {
        if self.volumes.iter().next().is_none() {
            println!("There is no writeboost volume; `wbctl create` makes one.");
        }
        for (name, steered) in self.volumes.iter() {
            let said =
                if steered.steering == Steering::Daemon && !self.run.dry_run { "said" } else { "would say" };
            if let (Some(o), Some(d)) = (&steered.observation, &steered.decision) {
                println!(
                    "{name}: backing device {:.0} % busy, {:.0} reads/s, {:.0} writes/s; {} of {} segments \
                     free, {} blocks dirty; steered: {}; {said}: {}",
                    o.utilisation * 100.0,
                    o.reads_per_s,
                    o.writes_per_s,
                    o.free_segments,
                    o.segments,
                    o.dirty_blocks,
                    steered.steering.word(),
                    words(d)
                );
            }
        }
    }
}

/// Tells the service manager, if there is one.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
