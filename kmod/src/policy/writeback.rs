// SPDX-License-Identifier: GPL-2.0-only

//! Which blocks writeback may call clean, and how much of it is under way at a time.
//!
//! A backing device has a cache that it may lose. It reports that by nothing but an error of the write, or of
//! the flush, during which it was reset. Writes that went well before that are then as doubtful as the one
//! that failed.
//!
//! # Invariants
//! - Blocks that are called clean were written after the last failure that came before the flush which made
//!   them durable, and no failure came before that flush returned.
//! - After a flush that has failed, nothing that was written since the one before counts as written.

use super::limits::Limits;
use crate::engine::flight::{Doubts, Trust};
use crate::engine::reclaim::Item;
use crate::format::{Block, Slot, BLOCK, BLOCK_SECTORS};
use crate::host::{OutOfMemory, Shared, Table};

/// Most blocks of a part: 1 MiB, the most that one bio can carry.
pub const PART: usize = 256;
/// Memory for parts that is always there, for a cache of so many slots: 1/5461 of it, 768 KiB at least and 32
/// MiB at most, in `LEAST_PARTS` parts or more.
const PARTS_SHARE: (u64, u64) = (3, 1 << 14);
const LEAST_PARTS: u64 = 3;
const LEAST_IN_PARTS: u64 = LEAST_PARTS * PART as u64 / 4;
const MOST_IN_PARTS: u64 = 32 * PART as u64;
/// Most parts, those included for which memory is allocated only as long as they are of use.
pub const MOST_PARTS: usize = 32;
/// Blocks of a part at first, before it is known how long a part takes.
pub const FIRST_PART: usize = 32;
/// Fewest blocks of a part.
pub const LEAST_PART: usize = 16;
/// How long the writes of a part may take, in milliseconds: the longest time that a suspend, or a write that
/// needs room, waits for one part.
const PART_MS: u64 = 350;
/// The shortest time of measuring before another number of parts is tried, and the time for which a number
/// that was of no use is not tried again, in milliseconds.
const EPOCH_MS: u64 = 50;
const HOLD_MS: u64 = 2000;
/// A flush costs at most one in so many parts of the time, unless the blocks that wait for it are older than
/// `OLDEST_MS`. There is no flush while they are younger than `YOUNGEST_MS`.
const FLUSH_SHARE: u64 = 20;
const OLDEST_MS: u64 = 400;
const YOUNGEST_MS: u64 = 40;

/// How often the blocks of a round are written, at most, before they are left for later: a device that fails
/// again and again is not to be kept busy with the same blocks.
const MOST_PASSES: u32 = 5;

/// The writes to the backing device between two flushes.
///
/// First [`Round::begin`], then all writes; when all of them have returned, [`Round::written`] says how to go
/// on.
#[derive(Debug)]
pub struct Round {
    trust: Trust,
    passes: u32,
}

/// The next step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Everything is to be written once more, except blocks that cannot be written.
    Write,
    /// The device is to be flushed.
    Flush,
    /// Nothing of the round is clean: all of it stays dirty.
    Leave,
}

impl Round {
    /// For a device whose failed writes and flushes are reported to `doubts`.
    pub fn new(doubts: Shared<Doubts>) -> Self {
        Self { trust: Trust::new(doubts), passes: 0 }
    }

    /// All writes of a new round are about to be sent.
    pub fn begin(&mut self) {
        self.passes = 1;
        self.trust.renew();
    }

    /// All writes have returned. [`Next::Write`] counts as begun.
    pub fn written(&mut self) -> Next {
        if !self.trust.is_suspect() {
            return Next::Flush;
        }
        if self.passes >= MOST_PASSES {
            return Next::Leave;
        }
        self.passes += 1;
        self.trust.renew();
        Next::Write
    }

    /// The flush has returned. Returns whether the blocks that were written well are clean now.
    pub fn flushed(&self, ok: bool) -> bool {
        ok && !self.trust.is_suspect()
    }
}

/// The number of parts that there always is memory for, for a cache of so many slots, and the number of
/// blocks of each at most.
pub fn parts_of(nr_slots: u64) -> (usize, usize) {
    let (some, of) = PARTS_SHARE;
    let blocks = (nr_slots / of * some).clamp(LEAST_IN_PARTS, MOST_IN_PARTS);
    let parts = (blocks / PART as u64).max(LEAST_PARTS);
    (parts as usize, (blocks / parts).min(PART as u64) as usize)
}

/// The length of parts, and how many of them are written at a time.
///
/// A part is as long as can be written within `PART_MS`. Then another one is tried beside it, and more of
/// them. Their number stays if more gets written by that; otherwise it is not tried again for a while.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    part: usize,
    depth: usize,
    /// The longest part, and the most parts.
    longest: usize,
    most: usize,
    /// Since when written blocks are counted, and how many there were.
    since_ms: u64,
    blocks: u64,
    /// A part has waited meanwhile until another one was written.
    held: bool,
    /// When the depth was raised: blocks a second before that, and the depth then.
    before: Option<(u64, usize)>,
    hold_until_ms: u64,
    /// Blocks a second, as far as is known.
    rate: u64,
    /// The device writes several parts at a time nearly as fast as one.
    wide: bool,
    /// How long parts take that are sent while no other, or while one other is under way: an average, and how
    /// many there were.
    alone: Average,
    beside: Average,
}

/// An average of the last few values, in 1/256 of their unit.
#[derive(Debug, Clone, Copy, Default)]
struct Average {
    value: u64,
    count: u32,
}

impl Average {
    fn add(&mut self, x: u64) {
        let (new, weight) = (x.min(1 << 32) * 256, u64::from(self.count.min(7)));
        self.value = (self.value * weight + new) / (weight + 1);
        self.count = self.count.saturating_add(1);
    }

    fn is_known(&self) -> bool {
        self.count >= 8
    }
}

impl Flow {
    /// With memory for so many parts of so many blocks. One of the parts is reserved for reading.
    pub fn new((most, longest): (usize, usize)) -> Self {
        Self {
            part: FIRST_PART,
            depth: 1,
            longest,
            most: most.saturating_sub(1).max(1),
            since_ms: 0,
            blocks: 0,
            held: false,
            before: None,
            hold_until_ms: 0,
            rate: 0,
            wide: false,
            alone: Average::default(),
            beside: Average::default(),
        }
    }

    /// There is memory for so many parts now.
    pub fn set_most(&mut self, parts: usize) {
        self.most = parts.saturating_sub(1).max(1);
        self.depth = self.depth.min(self.most);
    }

    /// Whether more parts than there is memory for would be of use.
    pub fn wants_more(&self) -> bool {
        self.wide && self.depth == self.most
    }

    /// Whether the device writes several parts at a time nearly as fast as one: an array, or a volume on a
    /// network.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// Blocks of the next part.
    pub fn part(&self) -> usize {
        self.part
    }

    /// The number of parts that may be written at a time.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Blocks that are written in a second; 0 when that is not known.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Nothing was under way before this moment.
    pub fn begin(&mut self, now_ms: u64) {
        (self.since_ms, self.blocks, self.held, self.before) = (now_ms, 0, false, None);
    }

    /// A part is ready, and waits until fewer are being written.
    pub fn held_back(&mut self) {
        self.held = true;
    }

    /// A device that does one thing after the other takes twice as long for a part when it has another one to
    /// write. A device that does not is wide. The times of parts decide, not the number of parts that get
    /// written: that depends on how many there are to write.
    fn compare(&mut self, blocks: usize, others: usize, ms: u64) {
        if blocks * 2 < self.part {
            return;
        }
        match others {
            0 => self.alone.add(ms),
            1 => self.beside.add(ms),
            _ => return,
        }
        let known = self.alone.is_known() && self.beside.is_known();
        self.wide = known && self.beside.value * 2 < self.alone.value * 3;
    }

    /// The writes of a part of `blocks` blocks, sent while so many `others` were under way, have returned
    /// after `ms` milliseconds.
    pub fn returned(&mut self, blocks: usize, others: usize, ms: u64, now_ms: u64) {
        self.blocks += blocks as u64;
        self.compare(blocks, others, ms);
        if ms > PART_MS {
            if self.depth > 1 {
                self.depth = (self.depth / 2).max(1);
                self.hold_until_ms = now_ms + HOLD_MS;
            } else {
                self.part = (blocks / 2).clamp(LEAST_PART, self.part.max(LEAST_PART));
            }
            self.begin(now_ms);
            return;
        }
        if blocks >= self.part && ms * 2 <= PART_MS {
            self.part = (self.part * 2).min(self.longest);
        }
        let past = now_ms.saturating_sub(self.since_ms);
        if past < EPOCH_MS.max(4 * ms) {
            return;
        }
        self.rate = self.blocks * 1000 / past;
        let (before, held) = (self.before, self.held);
        self.begin(now_ms);
        match before {
            Some((before, depth)) if self.rate < before + before / 16 => {
                self.depth = depth;
                self.hold_until_ms = now_ms + HOLD_MS;
            }
            _ if held && now_ms >= self.hold_until_ms => {
                let step = if self.wide { self.depth } else { self.depth / 4 };
                let depth = (self.depth + step.max(1)).min(self.most);
                // As long as parts take now, or longer in proportion to the parts beside them.
                if depth > self.depth && ms * depth as u64 <= PART_MS * self.depth as u64 {
                    self.before = Some((self.rate, self.depth));
                    self.depth = depth;
                }
            }
            _ => (),
        }
    }
}

/// The stage of a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is no part.
    #[default]
    Free,
    /// It is being read.
    Reading,
    /// It can be written.
    Ready,
    /// It is being written.
    Writing,
    /// It is written, and waits until it can be added to the blocks that are to be flushed.
    Written,
}

/// Most parts that are being read, or wait to be written.
const AHEAD: usize = 2;

/// Parts that are under way, in the order in which they were begun: a ring.
///
/// # Invariant
/// Of one plan, no two items are for the same sectors. A later plan may have newer data. So its parts are
/// written only when no part of an earlier plan is being read, ready or being written. (This order survives a
/// device that forgets writes: after an error everything is written again that is not clean.)
#[derive(Debug)]
pub struct Lanes {
    lanes: Table<(Stage, u32)>,
    /// The number of lanes.
    len: usize,
    /// The next lane to begin, which is the oldest.
    turn: usize,
}

impl Lanes {
    /// So many lanes, all of them free. `most` is the highest number.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(len: usize, most: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { lanes: Table::new(most.max(len), |_| Default::default())?, len, turn: 0 })
    }

    /// Adds a lane behind the others, free. Returns false if there may not be one more. At any time: lanes
    /// from the next one to begin on are the oldest, followed by those before it.
    pub fn add(&mut self) -> bool {
        let is_room = self.len < self.lanes.len();
        self.len += usize::from(is_room);
        is_room
    }

    /// Removes the last lane. It is free, as all of them are.
    pub fn remove(&mut self) {
        self.len = self.len.saturating_sub(1).max(1);
        self.turn %= self.len;
    }

    /// The stage of part `i`.
    pub fn stage(&self, i: usize) -> Stage {
        self.lanes[i].0
    }

    /// Sets the stage of part `i`.
    pub fn set(&mut self, i: usize, stage: Stage) {
        self.lanes[i].0 = stage;
    }

    /// The number of lanes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no lanes.
    #[allow(dead_code)] // Goes with `len`.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of parts at this stage.
    pub fn count(&self, stage: Stage) -> usize {
        self.lanes.iter().filter(|lane| lane.0 == stage).count()
    }

    /// The parts at this stage: a bit for each, by its number; there are 64 at most.
    pub fn mask(&self, stage: Stage) -> u64 {
        let lanes = self.lanes[..self.len].iter().take(64).enumerate();
        lanes.filter(|(_, lane)| lane.0 == stage).fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Whether no part is under way.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.0, Stage::Free | Stage::Written))
    }

    /// The lane for the next part to read, if it is time to read one.
    pub fn to_read(&self) -> Option<usize> {
        let ahead = self.count(Stage::Reading) + self.count(Stage::Ready);
        (ahead < AHEAD && self.stage(self.turn) == Stage::Free).then_some(self.turn)
    }

    /// The part in that lane belongs to plan number `plan`. It is being read, or there was nothing to read.
    pub fn begin(&mut self, plan: u32, is_read: bool) {
        self.lanes[self.turn] = (if is_read { Stage::Reading } else { Stage::Free }, plan);
        self.turn = (self.turn + 1) % self.len;
    }

    /// The part that is to be written now, whatever else is being written. Parts go in the order of address,
    /// because a disk that has to go back loses a turn.
    pub fn to_write(&self) -> Option<usize> {
        let n = self.len;
        let is_under_way = |&i: &usize| !matches!(self.stage(i), Stage::Free | Stage::Written);
        let mut oldest_first = (self.turn..self.turn + n).map(|i| i % n).filter(is_under_way);
        let first = oldest_first.next()?;
        let plan = self.lanes[first].1;
        let mut of_the_plan =
            core::iter::once(first).chain(oldest_first).take_while(|&i| self.lanes[i].1 == plan);
        let next = of_the_plan.find(|&i| self.stage(i) != Stage::Writing)?;
        (self.stage(next) == Stage::Ready).then_some(next)
    }
}

/// Slots that are under way, a bit for each. A slot that an earlier plan has taken along need not be written
/// once more by the plan whose turn it is. A shingled disk, for one, would have to go back for it.
#[derive(Debug)]
pub struct UnderWay {
    bits: Table<u64>,
    count: u64,
}

impl UnderWay {
    /// A table for so many slots, none of which is under way.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(nr_slots: u64) -> Result<Self, OutOfMemory> {
        Ok(Self { bits: Table::new(nr_slots.div_ceil(64) as usize, |_| 0)?, count: 0 })
    }

    /// The slot is under way from now on. Returns whether it was not before.
    pub fn begin(&mut self, slot: Slot) -> bool {
        let (word, bit) = (&mut self.bits[slot.index() / 64], 1 << (slot.0 % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// The slot is not under way any more.
    pub fn end(&mut self, slot: Slot) {
        let (word, bit) = (&mut self.bits[slot.index() / 64], 1 << (slot.0 % 64));
        self.count -= u64::from(*word & bit != 0);
        *word &= !bit;
    }

    /// No slot is under way any more.
    pub fn end_all(&mut self) {
        if self.count != 0 {
            self.bits.fill(0);
            self.count = 0;
        }
    }
}

/// Whether it is time for a flush, when the first unflushed block was written `age_ms` ago, and a flush takes
/// `flush_ms`.
pub fn is_flush_due(age_ms: u64, flush_ms: u64) -> bool {
    age_ms >= (flush_ms * FLUSH_SHARE).clamp(YOUNGEST_MS, OLDEST_MS)
}

/// The number of blocks of the next part when each part is written and flushed before the next one. The last
/// part had `written` blocks, of at most `part`, and took so many milliseconds with everything that belongs
/// to it. A part may have `longest` blocks.
pub fn next_part(part: usize, longest: usize, written: usize, ms: u64) -> usize {
    if ms > 2 * PART_MS {
        (written / 2).max(LEAST_PART)
    } else if written == part && ms <= PART_MS {
        (part * 2).min(longest)
    } else {
        part
    }
}

/// The sectors of a block that a device with blocks of `unit` sectors, at most 8, writes when `mask` is to be
/// written.
pub fn whole_units(mask: u8, unit: u32) -> u8 {
    let unit = unit.clamp(1, 8).next_power_of_two();
    let all = ((1u32 << unit) - 1) as u8;
    (0..8)
        .step_by(unit as usize)
        .map(|at| all << at)
        .filter(|&sectors| mask & sectors != 0)
        .fold(0, |all, sectors| all | sectors)
}

/// The unit in blocks that a device prefers to be written as a whole, from a multiple of it on: its stripe,
/// or its smallest piece if a part, which has `longest` blocks at most, holds no stripe. 1 when the device
/// does not say.
pub fn unit_of(limits: &Limits, longest: usize) -> u64 {
    [limits.io_opt, limits.io_min]
        .map(|bytes| u64::from(bytes) / BLOCK as u64)
        .into_iter()
        .find(|&blocks| (2..=longest as u64).contains(&blocks))
        .unwrap_or(1)
}

/// The end of a part that begins with item `from` and has at most `most` blocks. It is never between two
/// items of one block, because a device whose own blocks are larger must not write two of these at the same
/// time. Between two adjacent blocks the part ends, if it can, at a multiple of `unit` blocks: see
/// [`unit_of`].
pub fn part_end(items: &[Item], from: usize, most: usize, unit: u64) -> usize {
    let end = from + most.min(items.len() - from);
    if end == items.len() {
        return end;
    }
    let is_run = |&at: &usize| items[at - 1].addr().next() >= items[at].addr();
    let mut ends = (from + 1..=end).rev().take_while(is_run);
    let begins_unit = |addr: Block| addr.0 % unit.max(1) == 0;
    let at_unit =
        ends.find(|&at| items[at - 1].addr().next() == items[at].addr() && begins_unit(items[at].addr()));
    if let Some(at) = at_unit {
        return at;
    }
    let is_cut = |at: usize| items[at - 1].addr() == items[at].addr();
    // A block has at most as many items as sectors, so this is not far.
    let shorter = (from + 1..=end).rev().find(|&at| !is_cut(at));
    // A block may have more items than are live, but not that many.
    let far = items.len().min(end + BLOCK_SECTORS as usize);
    let longer = || (end..far).find(|&at| !is_cut(at)).unwrap_or(far);
    shorter.unwrap_or_else(|| if most > 2 * BLOCK_SECTORS as usize { end } else { longer() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The flow after `for_ms` on a device that writes `rate` blocks a second in all, and no part in less
    /// than `least_ms`.
    fn used_to(most: usize, rate: u64, least_ms: u64, for_ms: u64) -> Flow {
        let mut flow = Flow::new((most, PART));
        let mut under_way: Vec<(u64, u64, usize, usize)> = Vec::new();
        let mut free_at_us = 0;
        flow.begin(0);
        for now in 0..for_ms {
            while under_way.len() < flow.depth() {
                let blocks = flow.part();
                free_at_us = free_at_us.max(now * 1000) + (blocks as u64 * 1_000_000).div_ceil(rate);
                under_way.push((free_at_us.div_ceil(1000).max(now + least_ms), now, blocks, under_way.len()));
            }
            flow.held_back();
            while let Some(i) = under_way.iter().position(|&(at, ..)| at <= now) {
                let (at, sent, blocks, others) = under_way.remove(i);
                flow.returned(blocks, others, at - sent, now);
            }
        }
        flow
    }

    #[test]
    fn a_slow_disk_gets_short_parts_one_at_a_time() {
        let flow = used_to(16, 190, 0, 20_000);
        assert!(flow.part() <= 64 && flow.depth() <= 1 && !flow.is_wide(), "{flow:?}");
    }

    #[test]
    fn a_disk_of_which_one_part_takes_all_gets_few() {
        let flow = used_to(16, 40_000, 0, 20_000);
        assert!(flow.part() == PART && flow.depth() <= 2 && !flow.is_wide(), "{flow:?}");
    }

    #[test]
    fn an_array_gets_all_that_there_is_memory_for() {
        let flow = used_to(16, 10_000_000, 5, 20_000);
        assert!(flow.part() == PART && flow.depth() >= 14 && flow.wants_more(), "{flow:?}");
        // It soon reaches the highest depth; and with more memory, a higher one.
        let mut flow = used_to(3, 10_000_000, 5, 500);
        assert!(flow.depth() == 2 && flow.wants_more(), "{flow:?}");
        flow.set_most(9);
        assert!(!flow.wants_more());
        // Or as many as are of use.
        let flow = used_to(32, 256 * 1000, 5, 20_000);
        assert!((5..=8).contains(&flow.depth()) && flow.is_wide(), "{flow:?}");
    }

    #[test]
    fn a_disk_that_takes_a_burst_into_its_cache_is_no_array_for_long() {
        let mut flow = Flow::new((3, PART));
        // Fast at first, alone and beside another part; then at the device's real speed, and half as fast
        // beside another part.
        for now in 0..20 {
            [0, 1].iter().for_each(|&others| flow.returned(flow.part(), others, 2, now));
        }
        assert!(flow.is_wide());
        for now in 0..6 {
            flow.returned(flow.part(), 1, 14, 100 + now);
        }
        assert!(!flow.is_wide(), "{flow:?}");
        for now in 0..20 {
            [0, 1]
                .iter()
                .for_each(|&others| flow.returned(flow.part(), others, 7 + 7 * others as u64, 200 + now));
        }
        assert!(!flow.is_wide(), "{flow:?}");
        // Parts beside more others, or much shorter parts, say nothing.
        for now in 0..20 {
            flow.returned(flow.part(), 5, 1, 300 + now);
            flow.returned(flow.part() / 4, 1, 1, 300 + now);
        }
        assert!(!flow.is_wide(), "{flow:?}");
    }

    #[test]
    fn memory_for_parts_grows_with_the_cache() {
        for (gib, parts) in
            [(0, (3, 64)), (1, (3, 64)), (4, (3, 64)), (8, (3, 128)), (64, (12, 256)), (999, (32, 256))]
        {
            assert_eq!(parts_of(gib << 18), parts, "{gib} GiB");
        }
    }

    #[test]
    fn a_device_that_becomes_slow_is_noticed() {
        let mut flow = used_to(16, 10_000_000, 5, 20_000);
        for i in 0..12 {
            flow.returned(flow.part(), 3, 2 * PART_MS, 20_000 + i);
        }
        assert_eq!((flow.part(), flow.depth()), (LEAST_PART, 1));
    }

    #[test]
    fn what_is_planned_later_is_written_later() {
        let mut lanes = Lanes::new(4, 5).unwrap();
        for plan in [1, 1] {
            assert!(lanes.to_read().is_some());
            lanes.begin(plan, true);
        }
        assert_eq!((lanes.to_read(), lanes.to_write()), (None, None));
        // Parts of one plan are written in their order, beside each other.
        lanes.set(1, Stage::Ready);
        assert_eq!(lanes.to_write(), None, "the first is still being read");
        lanes.set(0, Stage::Ready);
        assert_eq!(lanes.to_write(), Some(0));
        lanes.set(0, Stage::Writing);
        assert_eq!(lanes.to_write(), Some(1));
        lanes.set(1, Stage::Writing);
        assert_eq!(lanes.to_read(), Some(2));
        lanes.begin(2, true);
        lanes.set(2, Stage::Ready);
        assert_eq!(lanes.to_write(), None);
        lanes.set(0, Stage::Written);
        assert_eq!(lanes.to_write(), None);
        lanes.set(1, Stage::Free);
        assert_eq!(lanes.to_write(), Some(2));
        // The ring comes round: the oldest lane is behind the newest.
        lanes.set(2, Stage::Writing);
        assert_eq!(lanes.to_read(), Some(3));
        lanes.begin(2, true);
        assert_eq!(lanes.to_read(), None, "the next one waits for room");
        lanes.set(0, Stage::Free);
        assert_eq!(lanes.to_read(), Some(0));
        lanes.begin(3, true);
        lanes.set(0, Stage::Ready);
        assert_eq!(lanes.to_write(), None);
        lanes.set(3, Stage::Ready);
        assert_eq!(lanes.to_write(), Some(3));
        // A new lane has its place between the newest and the oldest.
        assert!(lanes.add() && !lanes.add() && lanes.len() == 5);
        assert_eq!((lanes.to_write(), lanes.stage(4)), (Some(3), Stage::Free));
        lanes.remove();
        assert!(!lanes.is_idle() && lanes.count(Stage::Ready) == 2 && lanes.mask(Stage::Ready) == 0b1001);
        (0..4).for_each(|i| lanes.set(i, Stage::Free));
        assert!(lanes.is_idle());
        lanes.begin(4, false);
        assert!(lanes.is_idle() && lanes.to_read() == Some(2));
    }

    #[test]
    fn what_a_device_writes() {
        for mask in 0..=u8::MAX {
            assert_eq!(whole_units(mask, 1), mask);
            assert_eq!(whole_units(mask, 8), if mask == 0 { 0 } else { 0xff });
        }
        assert_eq!([0b100, 0b1001, 0b110].map(|mask| whole_units(mask, 2)), [0b1100, 0b1111, 0b1111]);
        assert_eq!([0b1000, 0b10000].map(|mask| whole_units(mask, 4)), [0x0f, 0xf0]);
    }

    #[test]
    fn a_slot_is_under_way_once() {
        let mut slots = UnderWay::new(130).unwrap();
        assert!([0, 63, 64, 129].iter().all(|&slot| slots.begin(Slot(slot))));
        assert!([0, 63, 64, 129].iter().all(|&slot| !slots.begin(Slot(slot))));
        slots.end(Slot(63));
        slots.end(Slot(63));
        assert_eq!([0, 63].map(|slot| slots.begin(Slot(slot))), [false, true]);
        slots.end_all();
        assert!([0, 63, 64, 129].iter().all(|&slot| slots.begin(Slot(slot))));
    }

    #[test]
    fn flushes_cost_little() {
        assert!(is_flush_due(YOUNGEST_MS, 0) && !is_flush_due(YOUNGEST_MS - 1, 0));
        assert!(is_flush_due(200, 10) && !is_flush_due(199, 10));
        assert!(is_flush_due(OLDEST_MS, 1000) && !is_flush_due(OLDEST_MS - 1, 1000));
    }

    #[test]
    fn a_block_is_in_one_part() {
        let items: Vec<_> = [1, 1, 2, 3, 3, 3, 4, 5, 5].map(|addr| Item::at(addr, Slot(1))).into();
        let ends = |most| {
            let mut ends = Vec::new();
            let mut at = 0;
            while at < items.len() {
                at = part_end(&items, at, most, 1);
                ends.push(at);
            }
            ends
        };
        assert_eq!(ends(1), [2, 3, 6, 7, 9]);
        assert_eq!(ends(4), [3, 7, 9]);
        assert_eq!(ends(5), [3, 7, 9]);
        assert_eq!(ends(100), [9]);
    }

    #[test]
    fn a_run_is_cut_where_the_device_likes_it() {
        let items: Vec<_> =
            (5..40).chain([41, 50, 50, 51, 52, 60]).map(|addr| Item::at(addr, Slot(1))).collect();
        let end = |from, most, unit| items[part_end(&items, from, most, unit)].addr().0;
        assert_eq!([1, 8, 16].map(|unit| end(0, 20, unit)), [25, 24, 16]);
        // A gap is an equally good end, and a unit that is longer than the part does not matter.
        assert_eq!((end(0, 35, 16), end(0, 20, 64), end(3, 4, 16)), (41, 25, 12));
        // Never within a block.
        assert_eq!([end(35, 2, 2), end(35, 3, 2), end(35, 4, 2)], [50, 51, 52]);
        let unit = |io_opt, io_min| unit_of(&Limits { io_opt, io_min, ..Limits::default() }, 128);
        assert_eq!(
            [unit(0, 512), unit(0, 4096), unit(1 << 19, 1 << 16), unit(5 << 19, 1 << 16)],
            [1, 1, 128, 16]
        );
        // A small cache has shorter parts.
        let limits = Limits { io_opt: 1 << 19, io_min: 1 << 16, ..Limits::default() };
        assert_eq!(unit_of(&limits, parts_of(1 << 20).1), 16);
    }

    fn round() -> (Round, Shared<Doubts>) {
        let doubts = Doubts::new().unwrap();
        (Round::new(doubts.clone()), doubts)
    }

    #[test]
    fn what_a_failure_casts_doubt_on_is_written_again() {
        let (mut round, doubts) = round();
        // A failure in an earlier round does not matter.
        doubts.add();
        round.begin();
        assert_eq!(round.written(), Next::Flush);
        assert!(round.flushed(true) && !round.flushed(false));
        round.begin();
        doubts.add();
        assert_eq!(round.written(), Next::Write);
        doubts.add();
        doubts.add();
        assert_eq!(round.written(), Next::Write);
        assert_eq!(round.written(), Next::Flush);
        assert!(round.flushed(true));
    }

    #[test]
    fn a_flush_is_not_believed_that_returns_after_a_failure() {
        let (mut round, doubts) = round();
        round.begin();
        assert_eq!(round.written(), Next::Flush);
        doubts.add();
        assert!(!round.flushed(true));
    }

    #[test]
    fn it_is_left_in_the_end() {
        let (mut round, doubts) = round();
        for _ in 0..2 {
            round.begin();
            let mut passes = 1;
            loop {
                doubts.add();
                match round.written() {
                    Next::Write => passes += 1,
                    next => break assert_eq!(next, Next::Leave),
                }
            }
            assert_eq!(passes, MOST_PASSES);
        }
    }
}
