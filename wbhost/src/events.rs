// SPDX-License-Identifier: GPL-2.0-only

//! Events of volumes: device-mapper reports that something has changed, and the status shows the change.
//!
//! An event that comes while another one is being examined is not missed, but of two changes of the same
//! value only the last may be seen.

use crate::{
    dm::Dm,
    host::Host,
    status::{Side, Silent, State, Status},
    volume::Volume,
    watch::Watch,
    Error,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// Volumes come and go without an event on some kernels, so they are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An event; serialised, this is printed by `--json`, a line for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it was seen, in UTC, in the format of RFC 3339.
    pub time: String,
    /// Name of the volume.
    pub volume: String,
    /// The change.
    #[serde(flatten)]
    pub what: What,
}

/// A change of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The volume is there: at the beginning, or because it was created.
    Active {
        /// Its health.
        state: State,
    },
    /// The volume is not there any more.
    Gone,
    /// Its health has changed.
    State {
        /// The health before.
        from: State,
        /// The health now.
        to: State,
        /// The faults: `none`, or words with commas between them.
        fault: String,
    },
    /// Something failed, whether or not that changes the state.
    Errors {
        /// The counter's name, as in `wbctl status --json`.
        counter: &'static str,
        /// The increase since it was last reported.
        more: u64,
        /// The number so far.
        total: u64,
    },
    /// The cache has run full: writes are only as fast as the backing device.
    Full,
    /// The cache has room again.
    Room,
    /// A device does not answer, or still does not.
    Silent {
        /// The device.
        device: Side,
        /// For how long it has not answered.
        seconds: u64,
    },
    /// The device answers again.
    Answers {
        /// The device.
        device: Side,
    },
    /// The steering program is silent, and the built-in policy has taken over.
    SteeringExpired,
    /// Writeback is steered again.
    SteeringHeard,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Active { state } => write!(f, "active, {}", state.word()),
            What::Gone => f.write_str("gone"),
            What::State { from, to, fault } => {
                write!(f, "{}, was {}", to.word(), from.word())?;
                if fault == "none" {
                    Ok(())
                } else {
                    write!(f, ": {fault}")
                }
            }
            What::Errors { counter, more, total } => write!(f, "{counter} {total}, {more} more"),
            What::Full => f.write_str("the cache is full: writes are as fast as the backing device"),
            What::Room => f.write_str("the cache has room again"),
            What::Silent { device, seconds } => Silent { side: *device, seconds: *seconds }.fmt(f),
            What::Answers { device } => write!(f, "{} answers again", device.name()),
            What::SteeringExpired => {
                f.write_str("whoever steers writeback is silent: the built-in policy has taken over")
            }
            What::SteeringHeard => f.write_str("writeback is steered again"),
        }
    }
}

/// The last reported state of a volume.
struct Told {
    /// Number of the device's events.
    event_nr: u32,
    status: Status,
}

/// Follows the events of volumes.
pub struct Events<'a> {
    host: &'a Host,
    watch: Watch,
    /// Only this volume; all if `None`.
    name: Option<String>,
    told: BTreeMap<String, Told>,
}

impl<'a> Events<'a> {
    /// Begins to follow the volume `name`, or all of them.
    ///
    /// # Errors
    /// [`Error::NoVolume`], [`Error::NoModule`], [`Error::Kernel`].
    pub fn new(host: &'a Host, name: Option<&str>) -> Result<Self, Error> {
        let dm = Dm::open(false)?;
        if let Some(name) = name {
            dm.find(name)?;
        }
        let watch = Watch::with(dm, Duration::ZERO);
        Ok(Self { host, watch, name: name.map(str::to_owned), told: BTreeMap::new() })
    }

    /// The changes since the last call; at the first call, the volumes that there are.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Failed`].
    pub fn look(&mut self) -> Result<Vec<Event>, Error> {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut events = Vec::new();
        let event = |volume: &str, what| Event { time: time.clone(), volume: volume.to_owned(), what };
        let look = self.watch.look()?;
        let gone = look.gone.iter().filter(|name| self.told.remove(*name).is_some());
        let gone: Vec<_> = gone.map(|name| event(name, What::Gone)).collect();
        let Some(dm) = self.watch.dm() else { return Ok(gone) };
        for mapped in look.there {
            if self.name.as_ref().is_some_and(|name| *name != mapped.name) {
                continue;
            }
            let name = mapped.name.clone();
            // Before the status: a change between the two is seen the next time.
            let event_nr = match dm.event_nr(&name) {
                Err(Error::NoVolume(_)) => continue,
                event_nr => event_nr?,
            };
            let told = self.told.get(&name);
            if told.is_some_and(|told| told.event_nr == event_nr) {
                continue;
            }
            let mapped = match dm.find(&name) {
                Err(Error::NoVolume(_)) => continue,
                mapped => mapped?,
            };
            let status = Volume::new(self.host, mapped)?.status;
            let what = match told {
                Some(told) => changes(&told.status, &status),
                None => vec![What::Active { state: status.state }],
            };
            events.extend(what.into_iter().map(|what| event(&name, what)));
            self.told.insert(name, Told { event_nr, status });
        }
        events.extend(gone);
        Ok(events)
    }

    /// Waits until there may be a change.
    ///
    /// # Errors
    /// Those of [`Dm::wait_for_event`].
    pub fn wait(&self) -> Result<(), Error> {
        self.watch.wait(LOOK_EVERY)
    }
}

/// The changes between two statuses.
fn changes(before: &Status, now: &Status) -> Vec<What> {
    let mut what = Vec::new();
    if (now.state, &now.fault) != (before.state, &before.fault) {
        let fault = now.fault.clone().unwrap_or_else(|| "none".to_owned());
        what.push(What::State { from: before.state, to: now.state, fault });
    }
    for (counter, before, now) in [
        ("read_errors", before.read_errors, now.read_errors),
        ("cache_write_errors", before.cache_write_errors, now.cache_write_errors),
        ("backing_read_errors", before.backing_read_errors, now.backing_read_errors),
        ("writeback_errors", before.writeback_errors, now.writeback_errors),
        ("lost_blocks", before.lost_blocks, now.lost_blocks),
    ] {
        let (before, total) = (before.unwrap_or(0), now.unwrap_or(0));
        if total > before {
            what.push(What::Errors { counter, more: total - before, total });
        }
    }
    match (before.full == Some(true), now.full == Some(true)) {
        (false, true) => what.push(What::Full),
        (true, false) => what.push(What::Room),
        _ => (),
    }
    what.extend(now.silent().map(|s| What::Silent { device: s.side, seconds: s.seconds }));
    let is_silent = |side| now.silent().any(|s| s.side == side);
    let answers = before.silent().filter(|s| !is_silent(s.side));
    what.extend(answers.map(|s| What::Answers { device: s.side }));
    match (before.steering_expired == Some(true), now.steering_expired == Some(true)) {
        (false, true) => what.push(What::SteeringExpired),
        (true, false) => what.push(What::SteeringHeard),
        _ => (),
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::example;

    fn status(named: &str) -> Status {
        Status::parse(&example([0; 7], 0, named)).unwrap()
    }

    #[test]
    fn what_has_changed() {
        let ok = status("state 0 fault 0 writeback_errors 0 full 0 steering_expired 0");
        assert_eq!(changes(&ok, &ok), []);
        let bad = status("state 1 fault 4 writeback_errors 3 full 1 steering_expired 1");
        let found = changes(&ok, &bad);
        let texts: Vec<_> = found.iter().map(What::to_string).collect();
        assert_eq!(texts[0], "degraded, was ok: backing_write");
        assert_eq!(texts[1], "writeback_errors 3, 3 more");
        assert_eq!(found[2..], [What::Full, What::SteeringExpired]);
        let found = changes(&bad, &ok);
        let fault = "none".to_owned();
        let state = What::State { from: State::Degraded, to: State::Ok, fault };
        assert_eq!(found, [state, What::Room, What::SteeringHeard]);
    }

    #[test]
    fn devices_fall_silent() {
        let of = |backing, cache| {
            status(&format!("state 0 fault 0 backing_silent_s {backing} cache_silent_s {cache}"))
        };
        let texts = |before, now| changes(&before, &now).iter().map(What::to_string).collect::<Vec<_>>();
        assert_eq!(texts(of(0, 0), of(29, 0)), [""; 0]);
        assert_eq!(texts(of(0, 0), of(30, 0)), ["the backing device has not answered for 30 s"]);
        let still =
            ["the backing device has not answered for 60 s", "the cache device has not answered for 31 s"];
        assert_eq!(texts(of(30, 0), of(60, 31)), still);
        assert_eq!(
            texts(of(60, 31), of(0, 33)),
            ["the cache device has not answered for 33 s", "the backing device answers again"]
        );
        let event = serde_json::to_value(What::Silent { device: Side::Cache, seconds: 31 }).unwrap();
        assert_eq!(event, serde_json::json!({"event": "silent", "device": "cache", "seconds": 31}));
    }

    #[test]
    fn as_json() {
        let what = What::Errors { counter: "read_errors", more: 1, total: 2 };
        let event = Event { time: "t".into(), volume: "v".into(), what };
        let json = serde_json::to_string(&event).unwrap();
        let want = r#"{"time":"t","volume":"v","event":"errors","counter":"read_errors","more":1,"total":2}"#;
        assert_eq!(json, want);
    }
}
