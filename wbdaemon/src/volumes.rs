// SPDX-License-Identifier: GPL-2.0-only

//! The volumes of this machine: finding them, observing them, and steering those that the configuration wants
//! steered.
//!
//! # Invariants
//! - Nothing is sent to a volume before the dead man's rule is set there: if this daemon dies, the kernel's
//!   built-in policy takes over within `steering_timeout_s`.
//! - Options set by hand are left alone. The dead man's rule is lifted then, because it would undo them.
//! - A volume whose steering ends while the daemon runs is given back to the built-in policy.

use crate::{
    config::Config,
    control::{Controller, Decision, Observation},
};
use log::{debug, error, info, warn};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use wbhost::{
    disk::{DiskReader, DiskStat},
    dm::{Dm, Mapped},
    host::{DevNo, Host},
    status::SteeredBy,
    volume::Volume,
    watch::Watch,
    Error,
};
use writeboost::{
    format::BLOCK_SECTORS,
    interface::{
        message::{Message, Who},
        table::DEFAULT,
    },
};

/// The options that the daemon sets.
const THRESHOLD: &str = "writeback_threshold";
const BATCHED: &str = "nr_max_batched_writeback";
const LIMIT: &str = "writeback_rate_limit";
const TIMEOUT: &str = "steering_timeout";
const STEERED: [&str; 3] = [THRESHOLD, BATCHED, LIMIT];

/// Volumes may come and go without an event, so all devices are looked through this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The part that decides how much is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// This daemon.
    Daemon,
    /// The options are set by hand, and the daemon leaves them alone.
    ByHand,
    /// The kernel's built-in policy, because the configuration says so, or the volume cannot be steered.
    Off,
}

impl Steering {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Steering::Daemon => "wbdaemon",
            Steering::ByHand => "by hand",
            Steering::Off => "built-in policy",
        }
    }
}

/// The state of a volume.
#[derive(Debug)]
pub struct Steered {
    /// The volume at the last look.
    pub volume: Volume,
    /// The observation since the look before; `None` after the first look.
    pub observation: Option<Observation>,
    /// The last decision.
    pub decision: Option<Decision>,
    /// The part that decides.
    pub steering: Steering,
    controller: Controller,
    disks: Option<Disks>,
    before: Look,
    /// The last settings that were sent, and the time of the last message.
    said: Option<Decision>,
    said_at: Option<Instant>,
    /// The last failure, so that it is reported once.
    trouble: Option<String>,
}

/// One look at a volume.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    backing: DiskStat,
    own: DiskStat,
    misses: u64,
    written_back: u64,
}

/// All volumes.
pub struct Volumes {
    host: Host,
    watch: Watch,
    known: BTreeMap<String, Steered>,
    /// Only looks, and sends nothing.
    dry_run: bool,
    trouble: Option<String>,
}

impl Volumes {
    /// No volumes yet. With `dry_run` nothing is ever sent to a volume.
    pub fn new(host: Host, dry_run: bool) -> Self {
        let watch = Watch::new(LOOK_EVERY);
        Self { host, watch, known: BTreeMap::new(), dry_run, trouble: None }
    }

    /// The volumes by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Steered)> {
        self.known.iter()
    }

    /// Why looking for volumes fails, if it does.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The number of volumes that this daemon steers.
    pub fn nr_steered(&self) -> usize {
        self.known.values().filter(|s| s.steering == Steering::Daemon).count()
    }

    /// Looks at every volume and steers it. A failure with one volume is logged and does not keep the others
    /// waiting.
    pub fn step(&mut self, config: &Config) {
        match self.watch.look() {
            Ok(look) => {
                if self.trouble.take().is_some() {
                    info!("device-mapper answers again");
                }
                for name in look.gone.iter().filter(|name| self.known.remove(*name).is_some()) {
                    info!(volume = name.as_str(); "{name} is gone");
                }
                for mapped in look.there {
                    self.look_at(mapped, config);
                }
            }
            Err(e) => {
                let e = e.to_string();
                if self.trouble.as_ref() != Some(&e) {
                    warn!("cannot look for volumes, trying again: {e}");
                    self.trouble = Some(e);
                }
            }
        }
    }

    fn look_at(&mut self, mapped: Mapped, config: &Config) {
        let name = mapped.name.clone();
        let Some(dm) = self.watch.dm() else { return };
        let device = mapped.device;
        let before = self.known.get(&name).map(|s| &s.volume);
        let volume = Volume::again(&self.host, mapped, before).map_err(|e| e.to_string());
        let seen = volume.and_then(|volume| {
            let numbers = numbers(&volume, device)?;
            let open = self.known.get_mut(&name).and_then(|s| s.disks.take());
            let disks = match open.filter(|d| d.numbers == numbers) {
                Some(disks) => disks,
                None => Disks::open(&self.host, numbers)?,
            };
            Ok((look(&volume, disks.read()?), volume, disks))
        });
        let (look, volume, disks) = match seen {
            Ok(seen) => seen,
            Err(what) => {
                match self.known.get_mut(&name) {
                    Some(steered) => steered.note(&name, Some(what)),
                    // This is reported again the next time: there is no entry yet that could remember it.
                    None => warn!(volume = name.as_str(); "{name}: {what}"),
                }
                return;
            }
        };
        if volume.suspended {
            // A suspended volume would not answer before it is resumed.
            return;
        }
        // A volume that could not report its UUID just now counts as the same one.
        let is_another = |s: &Steered| match (&s.volume.status.uuid, &volume.status.uuid) {
            (Some(before), Some(now)) => before != now,
            _ => false,
        };
        if self.known.get(&name).is_some_and(is_another) {
            info!(volume = name.as_str(); "{name} is another volume now");
            self.known.remove(&name);
        }
        let steered = self.known.entry(name.clone()).or_insert_with(|| {
            info!(
                volume = name.as_str(), backing = volume.backing.device.as_str(),
                cache = volume.cache.device.as_str();
                "found {name}: {} with {} as its cache", volume.backing.device, volume.cache.device
            );
            let tuning = config.tuning(&name).unwrap_or_else(|_| config.steering.clone());
            Steered::new(volume.clone(), look.clone(), Controller::new(tuning))
        });
        steered.disks = Some(disks);
        steered.see(volume, look);
        let wanted = config.steers(&name);
        steered.steer(&name, dm, wanted, config, self.dry_run);
    }

    /// There is a new configuration: the policy of each volume may have changed.
    pub fn reconfigure(&mut self, config: &Config) {
        for (name, steered) in &mut self.known {
            if let Ok(tuning) = config.tuning(name) {
                steered.controller = Controller::new(tuning);
            }
        }
    }

    /// Gives all volumes back to the built-in policy.
    pub fn release(&mut self) {
        let Some(dm) = self.watch.dm() else { return };
        for (name, steered) in &mut self.known {
            if steered.steering == Steering::Daemon && !self.dry_run {
                match give_back(dm, name) {
                    Ok(()) => info!(volume = name.as_str(); "{name}: the built-in policy takes over"),
                    Err(e) => error!(volume = name.as_str(); "{name}: {e}"),
                }
                steered.steering = Steering::Off;
            }
        }
    }
}

/// The devices whose statistics are read: the backing device and the volume itself.
#[derive(Debug)]
struct Disks {
    numbers: [DevNo; 2],
    readers: [DiskReader; 2],
}

/// Their numbers.
fn numbers(volume: &Volume, own: DevNo) -> Result<[DevNo; 2], String> {
    let backing = DevNo::parse(&volume.backing.number)
        .ok_or_else(|| format!("the table has {} for its backing device", volume.backing.number))?;
    Ok([backing, own])
}

impl Disks {
    fn open(host: &Host, numbers: [DevNo; 2]) -> Result<Self, String> {
        let open = |dev: DevNo| {
            DiskReader::open(host, dev).map_err(|e| format!("cannot read the statistics of {dev}: {e}"))
        };
        Ok(Self { numbers, readers: [open(numbers[0])?, open(numbers[1])?] })
    }

    fn read(&self) -> Result<[DiskStat; 2], String> {
        let read = |reader: &DiskReader| {
            reader.read().map_err(|e| format!("cannot read the statistics of its devices: {e}"))
        };
        Ok([read(&self.readers[0])?, read(&self.readers[1])?])
    }
}

fn look(volume: &Volume, [backing, own]: [DiskStat; 2]) -> Look {
    let counters = &volume.status.counters;
    Look {
        at: Instant::now(),
        backing,
        own,
        misses: counters.reads() - counters.read_hits(),
        written_back: volume.status.written_back_blocks.unwrap_or(0),
    }
}

/// Sets an option, marked as set by a daemon.
fn tell(dm: &Dm, name: &str, key: &str, value: &str) -> Result<(), Error> {
    dm.message(name, &Message::Set { key, value, by: Who::Daemon }.to_string())
}

/// Resets all options, so that the built-in policy decides. The dead man's rule is lifted last.
fn give_back(dm: &Dm, name: &str) -> Result<(), Error> {
    for key in STEERED.iter().chain([&TIMEOUT]) {
        tell(dm, name, key, DEFAULT)?;
    }
    Ok(())
}

impl Steered {
    fn new(volume: Volume, look: Look, controller: Controller) -> Self {
        Self {
            volume,
            observation: None,
            decision: None,
            steering: Steering::Off,
            controller,
            disks: None,
            before: look,
            said: None,
            said_at: None,
            trouble: None,
        }
    }

    /// Stores a new look.
    fn see(&mut self, volume: Volume, look: Look) {
        let past = look.at - self.before.at;
        // The first look has nothing to compare with.
        self.observation = (!past.is_zero()).then(|| self.observe(&volume, &look, past));
        self.volume = volume;
        self.before = look;
    }

    fn observe(&self, volume: &Volume, look: &Look, past: Duration) -> Observation {
        let seconds = past.as_secs_f64();
        let (backing, own) = (look.backing.since(&self.before.backing), look.own.since(&self.before.own));
        let status = &volume.status;
        Observation {
            seconds,
            utilisation: backing.busy_ms as f64 / 1000.0 / seconds,
            reads_per_s: backing.reads as f64 / seconds,
            writes_per_s: backing.writes as f64 / seconds,
            read_latency_ms: (backing.reads > 0).then(|| backing.read_ms as f64 / backing.reads as f64),
            queue_length: backing.queue_ms as f64 / 1000.0 / seconds,
            cache_blocks: status.cache_blocks,
            segments: status.segments,
            free_segments: status.free_segments.unwrap_or(0),
            dirty_blocks: status.dirty_blocks,
            written_back_blocks: look.written_back.saturating_sub(self.before.written_back),
            user_written_blocks: own.write_sectors / BLOCK_SECTORS,
            read_misses: look.misses.saturating_sub(self.before.misses),
            full: status.full == Some(true),
        }
    }

    /// Decides, and sends the settings if they change, or if silence would let the timeout expire.
    fn steer(&mut self, name: &str, dm: &Dm, wanted: bool, config: &Config, dry_run: bool) {
        let Some(observation) = &self.observation else { return };
        let decision = self.controller.step(observation);
        self.decision = Some(decision);
        debug!(volume = name; "{name}: {observation:?} -> {decision:?}");
        let now = match (wanted, self.is_set_by_hand()) {
            (false, _) => Steering::Off,
            (true, true) => Steering::ByHand,
            (true, false) => Steering::Daemon,
        };
        if now != self.steering {
            info!(volume = name, steering = now.word(); "{name} is steered: {}", now.word());
        }
        let before = std::mem::replace(&mut self.steering, now);
        if dry_run {
            if self.said != Some(decision) {
                info!(volume = name; "{name}: would say {}", words(&decision));
                self.said = Some(decision);
            }
            return;
        }
        let result = match (before, now) {
            (Steering::Daemon, Steering::Off) => give_back(dm, name),
            (Steering::Daemon, Steering::ByHand) => {
                warn!(
                    volume = name;
                    "{name}: somebody has set its options, which are left alone from now on; `wbctl set \
                     {name} {THRESHOLD} {DEFAULT}`, and the same with {BATCHED} and {LIMIT}, lets wbdaemon \
                     steer again"
                );
                tell(dm, name, TIMEOUT, DEFAULT)
            }
            (_, Steering::Daemon) => self.say(name, dm, decision, config),
            _ => Ok(()),
        };
        if now != Steering::Daemon {
            (self.said, self.said_at) = (None, None);
        }
        self.note(name, result.err().map(|e| e.to_string()));
    }

    /// Whether options about writeback are set by hand. Those set by a daemon are ours, perhaps from an
    /// earlier run.
    fn is_set_by_hand(&mut self) -> bool {
        match self.volume.status.steered_by {
            SteeredBy::Hand => true,
            SteeredBy::Daemon => false,
            // The table is new, or all options were reset: the settings sent before are gone.
            SteeredBy::Nobody | SteeredBy::Unknown => {
                self.said = None;
                false
            }
        }
    }

    fn say(&mut self, name: &str, dm: &Dm, decision: Decision, config: &Config) -> Result<(), Error> {
        let timeout = Duration::from_secs(config.steering_timeout_s.into());
        let is_due = self.said_at.is_none_or(|at| at.elapsed() * 3 >= timeout);
        let timeout_set = self.volume.status.options.get(TIMEOUT).and_then(|v| v.as_u64());
        if self.said.is_none() || timeout_set != Some(config.steering_timeout_s.into()) {
            tell(dm, name, TIMEOUT, &config.steering_timeout_s.to_string())?;
        }
        let before = self.said.map(|said| pairs(&said));
        for (i, (key, value)) in pairs(&decision).into_iter().enumerate() {
            // A single message is enough to be heard.
            let must = is_due && i == 0;
            if must || before.is_none_or(|b| b[i].1 != value) {
                tell(dm, name, key, &value.to_string())?;
                self.said_at = Some(Instant::now());
            }
        }
        self.said = Some(decision);
        Ok(())
    }

    /// Logs a failure, unless it is the same as before, and the end of a failure.
    fn note(&mut self, name: &str, trouble: Option<String>) {
        if trouble == self.trouble {
            return;
        }
        match &trouble {
            Some(what) => {
                error!(volume = name; "{name}: {what}");
                // It is unknown which settings the volume has.
                self.said = None;
            }
            None => info!(volume = name; "{name}: all is well again"),
        }
        self.trouble = trouble;
    }
}

/// Options and values of a decision.
pub(crate) fn pairs(decision: &Decision) -> [(&'static str, u32); 3] {
    [
        (THRESHOLD, decision.writeback_threshold),
        (BATCHED, decision.nr_max_batched_writeback),
        (LIMIT, decision.writeback_rate_limit),
    ]
}

/// A decision for people.
pub fn words(decision: &Decision) -> String {
    pairs(decision).map(|(key, value)| format!("{key} {value}")).join(", ")
}

#[cfg(test)]
impl Steered {
    /// A volume after one look.
    pub(crate) fn example() -> Self {
        let mapped = Mapped {
            name: "v".into(),
            device: DevNo { major: 253, minor: 0 },
            sectors: 8,
            open_count: 0,
            suspended: false,
            table: "9999:16 9999:3 0".into(),
            status: wbhost::status::example(
                [0, 1024, 8, 1, 1, 0, 256],
                1,
                "state 1 writeback_errors 3 written_back 2 flushes 5",
            ),
            uuid: None,
        };
        let volume = Volume::new(&Host::default(), mapped).unwrap();
        let (disk, at) = (DiskStat::default(), Instant::now());
        let look = Look { at, backing: disk, own: disk, misses: 0, written_back: 0 };
        Self::new(volume, look, Controller::new(crate::control::Tuning::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(limit: u32) -> Decision {
        Decision { writeback_threshold: 100, nr_max_batched_writeback: 8, writeback_rate_limit: limit }
    }

    #[test]
    fn who_has_set_the_options() {
        let mut steered = Steered::example();
        for (by, is_by_hand, is_remembered) in [
            (SteeredBy::Nobody, false, false),
            (SteeredBy::Unknown, false, false),
            (SteeredBy::Hand, true, true),
            (SteeredBy::Daemon, false, true),
        ] {
            steered.volume.status.steered_by = by;
            steered.said = Some(decision(64));
            assert_eq!(
                (steered.is_set_by_hand(), steered.said.is_some()),
                (is_by_hand, is_remembered),
                "{by:?}"
            );
        }
    }

    #[test]
    fn what_is_seen() {
        let mut steered = Steered::example();
        let mut look = steered.before.clone();
        look.at += Duration::from_secs(2);
        look.backing =
            DiskStat { reads: 10, read_ms: 50, busy_ms: 1000, queue_ms: 3000, ..DiskStat::default() };
        look.own.write_sectors = 80;
        (look.misses, look.written_back) = (4, 6);
        let volume = steered.volume.clone();
        steered.see(volume, look);
        let o = steered.observation.unwrap();
        assert_eq!((o.seconds, o.utilisation, o.reads_per_s, o.read_latency_ms), (2.0, 0.5, 5.0, Some(5.0)));
        assert_eq!(
            (o.queue_length, o.user_written_blocks, o.read_misses, o.written_back_blocks),
            (1.5, 10, 4, 6)
        );
    }

    #[test]
    fn words_of_a_decision() {
        let text = words(&decision(64));
        assert_eq!(text, "writeback_threshold 100, nr_max_batched_writeback 8, writeback_rate_limit 64");
    }
}
