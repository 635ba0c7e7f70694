// SPDX-License-Identifier: GPL-2.0-only

//! What decides how much is written back: options, which may change at any time, or the built-in policy.
//!
//! # Invariant: the dead man's rule
//! With `steering_timeout`, options about writeback count only as long as messages that set an option keep coming. When
//! there was none for so long, it is as if they had not been given: whoever steers has died, and what it wanted then may be
//! wrong now.
//!
//! # Invariant: what was set by hand
//! While options about writeback count that were set by hand, a daemon sets none of them.

use super::Volume;
use crate::host::{mutex, now_ms, Mutex, Result};
use crate::interface::message::Who;
use crate::interface::table::{is_steering, OptionError, Options};
use crate::policy::room::Wake;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The options of a volume, and when they were last heard of.
pub(super) struct Steering {
    options: Options,
    /// In milliseconds since boot.
    heard_ms: AtomicU64,
    /// Whether it was silent for too long the last time that somebody looked.
    silent: AtomicBool,
    /// Who has set an option about writeback last is a daemon.
    is_daemon: AtomicBool,
    /// Held while an option is set: nobody else sets one between a look who steers and that.
    setting: Mutex<()>,
}

/// Why an option is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsteered {
    /// It cannot be.
    Option(OptionError),
    /// A daemon wants to, and options about writeback were set by hand.
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

/// What is wanted of writeback; the built-in policy decides about what is `None`.
#[derive(Default)]
pub(super) struct Policy {
    /// Percent of utilisation of the backing device below which it runs.
    pub threshold: Option<u32>,
    /// Segments that are written back together.
    pub batched: Option<u32>,
    /// KiB a second that it may do.
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

    /// Somebody steers.
    pub fn heard(&self) {
        self.heard_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Who has set the options about writeback, if any of them count.
    fn who(&self) -> Option<Who> {
        let who = if self.is_daemon.load(Ordering::Relaxed) { Who::Daemon } else { Who::Hand };
        self.options.steers().then_some(who)
    }

    fn is_expired(&self) -> bool {
        let timeout_ms = u64::from(self.options.steering_timeout()).saturating_mul(1000);
        // Whoever sets it first is heard only then.
        let silence_ms = now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        timeout_ms != 0 && silence_ms >= timeout_ms
    }
}

impl Volume {
    /// Sets an option, for whoever steers.
    ///
    /// # Errors
    /// [`Unsteered`]; then nothing has changed.
    pub fn steer(&self, key: &str, value: &str, by: Who) -> core::result::Result<(), Unsteered> {
        // What is refused is not heard.
        Options::check(key, value).map_err(Unsteered::Option)?;
        let _setting = self.steering.setting.lock();
        if is_steering(key) {
            if (by, self.steering.who()) == (Who::Daemon, Some(Who::Hand)) {
                return Err(Unsteered::ByHand);
            }
            self.steering.is_daemon.store(by == Who::Daemon, Ordering::Relaxed);
        }
        // First, or a timeout that is set after a long silence would have passed already.
        self.steering.heard();
        self.options().set(key, value).map_err(Unsteered::Option)?;
        self.note_silence();
        self.wake(Wake::WRITEBACK);
        Ok(())
    }

    /// Who has set the options about writeback, if any of them count.
    pub fn steered_by(&self) -> Option<Who> {
        self.steering.who()
    }

    /// Whether whoever steers was silent for too long, so that the built-in policy decides.
    pub fn is_steering_expired(&self) -> bool {
        self.steering.is_expired()
    }

    /// Tells the world when that has changed.
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
