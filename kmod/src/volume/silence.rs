// SPDX-License-Identifier: GPL-2.0-only

//! Whether the devices answer, and what is said when one does not.
//!
//! The health thread looks at them, once a second while they are used. It waits for no device, so that it can
//! report one that all other threads wait for.

use super::{Disks, Volume};
use crate::host::{mutex, now_ms, Device, Mutex, Result};
use crate::policy::silence::{News, Silence};

/// How often a device that has something to do is looked at, in milliseconds.
const BUSY_MS: u32 = 1000;
/// How often a device that has nothing to do is looked at.
const IDLE_MS: u32 = 5000;

/// The silence of each device.
pub(super) struct Silences {
    /// In the order of [`devices`].
    of: Mutex<[Silence; 2]>,
}

impl Silences {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { of: mutex!(<[Silence; 2]>::default(), "writeboost_silences")? })
    }
}

/// The devices and their names.
fn devices(disks: &Disks) -> [(&Device, &'static str); 2] {
    [(&disks.backing, "backing device"), (&disks.cache, "cache device")]
}

impl Volume {
    /// Looks whether the devices answer, and logs news. Returns whether there were any, and in how many
    /// milliseconds to look again.
    pub(super) fn listen(&self) -> (bool, u32) {
        let (mut is_news, mut again_ms) = (false, IDLE_MS);
        let mut silences = self.silences.of.lock();
        for (silence, (device, name)) in silences.iter_mut().zip(devices(&self.disks)) {
            let counts = device.traffic().counts();
            let news = silence.look(now_ms(), counts);
            if silence.is_used() {
                again_ms = BUSY_MS;
            }
            is_news |= news.is_some();
            let disks = &*self.disks;
            match news {
                Some(News::Silent(ms)) => log_err!(
                    "{}: the {} has not answered for {} s (requests that wait for it: {})",
                    disks,
                    name,
                    ms / 1000,
                    counts.awaited()
                ),
                Some(News::Answers(ms)) => {
                    log_info!("{}: the {} answers again, after {} s", disks, name, ms / 1000);
                }
                None => (),
            }
        }
        (is_news, again_ms)
    }

    /// For how many seconds the backing device and the cache device have not answered, though I/O waits for
    /// them.
    pub fn silent_s(&self) -> [u64; 2] {
        let silent_s = |silence: &Silence, device: &Device| {
            silence.silent_ms(now_ms(), device.traffic().counts()) / 1000
        };
        let [backing, cache] = &*self.silences.of.lock();
        [silent_s(backing, &self.disks.backing), silent_s(cache, &self.disks.cache)]
    }
}
