// SPDX-License-Identifier: GPL-2.0-only

//! What sets how much is written back: options, which may change at any time, or the built-in policy.
//!
//! # Invariant: the dead man's rule
//! With `steering_timeout`, options about writeback count only as long as messages that set an option keep
//! coming. After a silence of that length, it is as if these options had not been given: the steering program
//! has died, and its last wishes may be wrong now.
//!
//! # Invariant: options set by hand
//! While options about writeback count that were set by hand, a daemon sets none of them.

use super::Volume;
use crate::host::{mutex, now_ms, Mutex, Result};
use crate::interface::message::Who;
use crate::interface::table::{is_steering, OptionError, Options};
use crate::policy::room::Wake;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The options of a volume, and when the last message came.
pub(super) struct Steering {
    options: Options,
    /// When the last message that sets an option came, in milliseconds since boot.
    heard_ms: AtomicU64,
    /// Whether the silence was too long at the last check.
    silent: AtomicBool,
    /// An option about writeback was set last by a daemon.
    is_daemon: AtomicBool,
    /// Held while an option is set: no other option is set between the check of what steers and the change.
    setting: Mutex<()>,
}

/// Why an option is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsteered {
    /// The option cannot be set so.
    Option(OptionError),
    /// A daemon wants to set it, and options about writeback were set by hand.
    ByHand,
}

impl fmt::Display for Unsteered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(e) => e.fmt(f),
            Self::ByHand => {
                f.write_str("options about writeback were set by hand, and a daemon leaves them alone")
            }
        }
    }
}

/// What is wanted of writeback; the built-in policy decides about each that is `None`.
#[derive(Default)]
pub(super) struct Policy {
    /// Utilisation of the backing device, in percent, below which writeback runs.
    pub threshold: Option<u32>,
    /// Segments that are written back together.
    pub batched: Option<u32>,
    /// Limit of the rate of writeback, in KiB a second.
    pub limit: Option<u32>,
}

impl Steering {
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self {
            options,
            heard_ms: AtomicU64::new(now_ms()),
            silent: AtomicBool::new(false),
            is_daemon: AtomicBool::new(false),
            setting: mutex!((), "writeboost_steering")?,
        })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A message that steers has come.
    pub fn heard(&self) {
        self.heard_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Whether the options about writeback were set by hand or by a daemon; nothing if none of them count.
    fn who(&self) -> Option<Who> {
        let who = if self.is_daemon.load(Ordering::Relaxed) { Who::Daemon } else { Who::Hand };
        self.options.steers().then_some(who)
    }

    fn is_expired(&self) -> bool {
        let timeout_ms = u64::from(self.options.steering_timeout()).saturating_mul(1000);
        // Read after the timeout: `steer` stores them in the opposite order.
        let silence_ms = now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        timeout_ms != 0 && silence_ms >= timeout_ms
    }
}

impl Volume {
    /// Sets an option that came by hand or from a daemon.
    ///
    /// # Errors
    /// [`Unsteered`]; then nothing has changed.
    pub fn steer(&self, key: &str, value: &str, by: Who) -> core::result::Result<(), Unsteered> {
        // A message that is refused does not count as heard.
        Options::check(key, value).map_err(Unsteered::Option)?;
        let _setting = self.steering.setting.lock();
        if is_steering(key) {
            if (by, self.steering.who()) == (Who::Daemon, Some(Who::Hand)) {
                return Err(Unsteered::ByHand);
            }
            self.steering.is_daemon.store(by == Who::Daemon, Ordering::Relaxed);
        }
        // Before the option is set; otherwise a timeout that is set after a long silence would have passed
        // already.
        self.steering.heard();
        self.options().set(key, value).map_err(Unsteered::Option)?;
        self.note_silence();
        self.wake(Wake::WRITEBACK);
        Ok(())
    }

    /// Whether the options about writeback were set by hand or by a daemon; nothing if none of them count.
    pub fn steered_by(&self) -> Option<Who> {
        self.steering.who()
    }

    /// Whether the silence was too long, so that the built-in policy decides.
    pub fn is_steering_expired(&self) -> bool {
        self.steering.is_expired()
    }

    /// Wakes the health thread when that has changed.
    pub(super) fn note_silence(&self) {
        let silent = self.is_steering_expired();
        if self.steering.silent.swap(silent, Ordering::Relaxed) != silent {
            self.wake(Wake::ALARM);
        }
    }

    /// What is wanted of writeback now.
    pub(super) fn policy(&self) -> Policy {
        if self.is_steering_expired() {
            return Policy::default();
        }
        let options = self.options();
        Policy {
            threshold: options.writeback_threshold(),
            batched: options.nr_max_batched_writeback(),
            limit: options.writeback_rate_limit(),
        }
    }
}
