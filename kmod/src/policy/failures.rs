// SPDX-License-Identifier: GPL-2.0-only

//! The blocks that could not be written back lately, and when each is tried again: later and later.

use super::retry::Pause;
use super::room::Purpose;
use crate::format::Block;
use crate::host::{OutOfMemory, Table};

/// The longest pause before a block that has failed is tried again, in milliseconds.
const LAST_PAUSE_MS: u64 = 60_000;
/// The longest pause of a device as a whole. It is shorter, because writes may be waiting for room when the
/// device is back.
pub const LAST_DEVICE_PAUSE_MS: u64 = 10_000;
/// The number of failed blocks that are remembered.
pub const MAX_BAD: usize = 256;

/// The failures of late, and when each is tried again.
#[derive(Debug)]
pub struct Failures {
    bad: Table<Bad>,
    len: usize,
    /// For the backing device as a whole.
    pub device: Pause,
    /// The device has written something in the last pass: single blocks fail, not the device.
    pub alive: bool,
    /// For all blocks, when more of them cannot be read from the cache device than are remembered.
    pub all: Pause,
    /// Nothing of a small batch could be written back. A large batch has to show whether the same holds for
    /// all blocks.
    pub widen: bool,
    /// Something has failed while several parts were under way. It is not known yet which of them.
    pub unclear: bool,
    /// The purpose of the last pass.
    pub purpose: Purpose,
}

/// A block that could not be written back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bad {
    addr: Block,
    pause: Pause,
    /// It could not be read from the cache device.
    pub unreadable: bool,
}

impl Failures {
    /// Nothing has failed.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self {
            bad: Table::new(MAX_BAD, |_| Bad::default())?,
            len: 0,
            device: Pause::default(),
            alive: false,
            all: Pause::default(),
            widen: false,
            unclear: false,
            purpose: Purpose::default(),
        })
    }

    /// Blocks that have failed and have not been written back since.
    pub fn bad(&self) -> &[Bad] {
        &self.bad[..self.len]
    }

    /// Whether anything has failed lately, so that parts are to be tried one after the other.
    pub fn any(&self) -> bool {
        self.len != 0 || self.device.has_failed() || self.widen || self.unclear
    }

    /// A pass begins. Returns whether it may: not while everything is left alone.
    pub fn begin(&mut self, purpose: &Purpose, now_ms: u64) -> bool {
        let before = core::mem::replace(&mut self.purpose, *purpose);
        if before.hopes != purpose.hopes {
            self.forget_pauses();
        }
        if purpose.urgent && !before.urgent {
            // Much may have become dirty since then.
            self.all = Pause::default();
        }
        !self.device.is_on(now_ms) && !self.all.is_on(now_ms)
    }

    /// Everything is tried at once, because a drain or a resume has asked for it.
    fn forget_pauses(&mut self) {
        self.bad.iter_mut().for_each(|bad| bad.pause = Pause::default());
        self.device = Pause::default();
        self.all = Pause::default();
    }

    fn find(&self, addr: Block) -> Option<usize> {
        self.bad[..self.len].iter().position(|b| b.addr == addr)
    }

    /// Whether it is too early to try the block again.
    pub fn is_early(&self, addr: Block, now: u64) -> bool {
        self.len != 0 && self.find(addr).is_some_and(|i| self.bad[i].pause.is_on(now))
    }

    /// The block has failed. When there are too many failed blocks to remember, the block is tried again
    /// sooner than it should be.
    pub fn add(&mut self, addr: Block, unreadable: bool, now: u64) {
        let i = match self.find(addr) {
            Some(i) => i,
            None if self.len < MAX_BAD => {
                self.len += 1;
                self.bad[self.len - 1] = Bad { addr, ..Bad::default() };
                self.len - 1
            }
            None => return,
        };
        self.bad[i].unreadable = unreadable;
        // A block may have several parts, each of which has failed.
        if !self.bad[i].pause.is_on(now) {
            self.bad[i].pause.begin(now, LAST_PAUSE_MS);
        }
    }

    /// The block is written back.
    pub fn remove(&mut self, addr: Block) {
        if let Some(i) = self.find(addr) {
            self.len -= 1;
            self.bad[i] = self.bad[self.len];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Seq;
    use crate::policy::room::Room;

    #[test]
    fn what_fails_is_tried_later_and_later() {
        let mut failures = Failures::new().unwrap();
        assert!(!failures.any());
        let mut now = 5;
        let mut pauses = std::vec::Vec::new();
        for _ in 0..8 {
            failures.add(Block(7), false, now);
            let end = (now..).find(|&at| !failures.is_early(Block(7), at)).unwrap();
            pauses.push(end - now);
            now = end;
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert!(failures.any() && failures.bad().len() == 1 && !failures.is_early(Block(8), now));
        failures.add(Block(7), true, now);
        assert!(failures.bad()[0].unreadable && failures.is_early(Block(7), now));
        failures.forget_pauses();
        assert!(!failures.is_early(Block(7), now) && failures.any());
        failures.remove(Block(7));
        failures.remove(Block(7));
        assert!(!failures.any());
    }

    #[test]
    fn all_is_tried_at_once_when_there_is_hope_or_need() {
        let mut room = Room::default();
        let _ = room.resumes(true);
        let mut failures = Failures::new().unwrap();
        assert!(failures.begin(&room.pass_begins(), 0), "nothing has failed");
        failures.device.begin(0, LAST_DEVICE_PAUSE_MS);
        assert!(!failures.begin(&room.pass_begins(), 999));
        assert!(failures.begin(&room.pass_begins(), 1000), "the pause is over");
        failures.device.begin(1000, LAST_DEVICE_PAUSE_MS);
        let _ = room.drain_begins(Seq(1));
        assert!(failures.begin(&room.pass_begins(), 1000), "somebody has asked for it");
        failures.all.begin(1000, LAST_DEVICE_PAUSE_MS);
        assert!(!failures.begin(&room.pass_begins(), 1000));
        let urgent = Purpose { urgent: true, ..room.pass_begins() };
        assert!(failures.begin(&urgent, 1000), "much may have become dirty since");
        failures.all.begin(1000, LAST_DEVICE_PAUSE_MS);
        assert!(!failures.begin(&urgent, 1000), "it is no news");
    }

    #[test]
    fn as_many_as_there_is_room_for() {
        let mut failures = Failures::new().unwrap();
        for addr in 0..MAX_BAD as u64 + 3 {
            failures.add(Block(addr), false, 0);
        }
        assert_eq!(failures.bad().len(), MAX_BAD);
        assert!(
            failures.is_early(Block(MAX_BAD as u64 - 1), 0) && !failures.is_early(Block(MAX_BAD as u64), 0)
        );
    }

    #[test]
    fn a_device_that_is_back_is_not_left_alone() {
        let mut failures = Failures::new().unwrap();
        failures.device.begin(100, LAST_DEVICE_PAUSE_MS);
        assert!(failures.any() && failures.device.is_on(1099) && !failures.device.is_on(1100));
        failures.device = Pause::default();
        assert!(!failures.any() && !failures.device.is_on(0));
    }
}
