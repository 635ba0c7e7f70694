// SPDX-License-Identifier: GPL-2.0-only

//! When a dirty block that cannot be read is lost, and when it is only away.
//!
//! Such a block holds up the tail, and with it, in the end, every write. To give it up is to lose it for good, so that is
//! decided by the medium's own word, never by a path, a timeout or a device that is away, and never quickly.
//!
//! # Invariants
//! - What a read says of the data is one of three things: the medium has lost them ([`Word::Medium`], by an error that
//!   says so, or a checksum that does not match: [`Sight::Wrong`]), or nothing at all ([`Word::Away`]).
//! - A block is given up only when, for [`LASTS_MS`] on end and at [`LOOKS`] looks at least, each look at it has had the
//!   medium's word, and each look at its neighbours has found that the device answers there: see [`Near`]. A single look
//!   that finds anything else begins that time anew.
//! - It is looked at again, in the same way, right before it is given up, and at most [`HANDFUL`] blocks are waited for at
//!   a time: each handful takes its own minutes.
//! - Who asks for it ([`Lost::hurry`]) shortens the time. The evidence stays the same.
//!
//! A checksum that does not match says less than an error of the medium: while a path fails over, a device may return
//! foreign or older data for a while. Then the header of the segment that the block lies in does not match either, which
//! the engine knows by its number. So a wrong checksum counts only beside headers that are right.

use crate::os::{OutOfMemory, Table};

/// What the error of a read says, from what says least to what says most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Nothing about the data: a path, a timeout, a device that is away or being reset. They may be as they were.
    Away,
    /// The medium itself cannot give them back, or knows that they are not what was written.
    Medium,
}

/// `BLK_STS_MEDIUM`: the device answers, and cannot read this place. (Numbers as in Linux, `block/blk-core.c`.)
const ENODATA: i32 = 61;
/// `BLK_STS_PROTECTION`: what was read does not match the protection information that lies beside it.
const EILSEQ: i32 = 84;

impl Word {
    /// Of an error number, with either sign.
    pub fn of(errno: i32) -> Self {
        match errno.wrapping_abs() {
            ENODATA | EILSEQ => Word::Medium,
            _ => Word::Away,
        }
    }
}

/// How often something is read that cannot be read, before that is believed.
pub const TRIES: u32 = 3;

/// Reads by `read` until that goes well, [`TRIES`] times at most. `None` when it is the medium that cannot give it back: each
/// of the errors, of which `errno` says the number, says so.
///
/// # Errors
/// The last one that says nothing about the medium.
pub fn insist<T, E>(
    mut read: impl FnMut() -> Result<T, E>,
    errno: impl Fn(&E) -> i32,
) -> Result<Option<T>, E> {
    let mut away = None;
    for _ in 0..TRIES {
        match read() {
            Ok(t) => return Ok(Some(t)),
            Err(e) if Word::of(errno(&e)) == Word::Medium => (),
            Err(e) => away = Some(e),
        }
    }
    away.map_or(Ok(None), Err)
}

/// How long the evidence must last, in milliseconds: five minutes. Longer than what a device or a path needs to recover, and
/// so may answer strangely: a SCSI command of 30 s with five retries and the error handler behind it (some four minutes), a
/// transition between ALUA or ANA states (255 s at most), an iSCSI session that is replaced (120 s), a reset NVMe controller
/// (a minute or two).
pub const LASTS_MS: u64 = 300_000;
/// The same when an administrator has asked for it, in milliseconds: long enough for each look to be one by itself.
pub const HURRY_MS: u64 = 4000;
/// Looks within that time, at least: a device whose errors take half a minute each has not been asked often in it.
pub const LOOKS: u32 = 5;
/// Between two rounds, in milliseconds.
pub const PAUSE_MS: u64 = 5000;
/// The same in a hurry, and while there is little evidence: what is away for a moment should not have to be waited for.
pub const FIRST_PAUSE_MS: u64 = 1000;
/// Between the end of a round and the beginning of the next one, in milliseconds at most: when nobody has looked for longer, what
/// was seen before says nothing about the time between.
pub const GAP_MS: u64 = 60_000;
/// How long a request to hurry holds, in milliseconds.
pub const HURRY_LASTS_MS: u64 = 600_000;
/// Blocks that are waited for at a time.
pub const HANDFUL: usize = 8;

/// What a look at a block, or at a header beside it, has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// What should be there.
    Right,
    /// Something else: the read went well, and its checksum or its number is another one.
    Wrong,
    /// An error.
    Error(Word),
    /// It could be read, and nobody knows what should be there.
    Readable,
}

/// What is beside a block: the header at the beginning of its own segment, and those of the segments before and behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    /// Of its own segment.
    pub own: Sight,
    /// Of the segments beside it.
    pub beside: [Sight; 2],
}

impl Near {
    fn all(&self) -> [Sight; 3] {
        [self.own, self.beside[0], self.beside[1]]
    }

    /// Whether the device answers here: each of them can be read or is lost by the medium's own word, and one is right.
    fn answers(&self) -> bool {
        self.all().iter().all(|s| *s != Sight::Error(Word::Away)) && self.all().contains(&Sight::Right)
    }

    /// Whether it answers here with what belongs to this volume: nothing is another thing than it should be.
    fn is_ours(&self) -> bool {
        !self.all().contains(&Sight::Wrong)
    }

    /// Whether a block beside which this was seen is lost, as far as this look can tell.
    fn is_evidence(&self, block: Sight) -> bool {
        self.answers()
            && match block {
                Sight::Error(Word::Medium) => true,
                Sight::Wrong => self.is_ours(),
                Sight::Right | Sight::Readable | Sight::Error(Word::Away) => false,
            }
    }
}

/// A block that cannot be read.
#[derive(Debug, Clone, Copy, Default)]
struct Suspect {
    slot: u32,
    crc: u32,
    /// Since when each look was evidence, in milliseconds since boot, and how many there were.
    since_ms: u64,
    looks: u32,
    /// The evidence has lasted.
    ripe: bool,
    /// It was looked at in this round.
    seen: bool,
}

/// The blocks that cannot be read, of one batch of relocation, and what is known of them.
#[derive(Debug)]
pub struct Lost {
    suspects: Table<Suspect>,
    len: usize,
    /// When the next round may begin, in milliseconds since boot.
    next_ms: u64,
    /// When the last round has ended.
    ended_ms: u64,
    /// In a hurry until then.
    hurry_until_ms: u64,
    now_ms: u64,
}

impl Lost {
    /// For batches of `slots` items at most.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(slots: usize) -> Result<Self, OutOfMemory> {
        let suspects = Table::new(slots, |_| Suspect::default())?;
        Ok(Self { suspects, len: 0, next_ms: 0, ended_ms: 0, hurry_until_ms: 0, now_ms: 0 })
    }

    /// An administrator wants no waiting where the medium has spoken.
    pub fn hurry(&mut self, now_ms: u64) {
        self.hurry_until_ms = now_ms.saturating_add(HURRY_LASTS_MS);
        self.next_ms = now_ms;
    }

    fn hurries(&self, now_ms: u64) -> bool {
        now_ms < self.hurry_until_ms
    }

    /// Whether blocks are waited for and it is too early to look at them again.
    pub fn is_early(&self, now_ms: u64) -> bool {
        self.len != 0 && now_ms < self.next_ms
    }

    /// All of a batch is about to be read, for a round. Rounds come only while room is short: evidence with a hole in it has not
    /// lasted.
    pub fn resume(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.ended_ms) > GAP_MS {
            self.suspects[..self.len].iter_mut().for_each(|s| (s.looks, s.ripe) = (0, false));
        }
    }

    /// A round begins: all of a batch has been read.
    pub fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.suspects[..self.len].iter_mut().for_each(|s| s.seen = false);
    }

    /// Whether a block that cannot be read is to be looked at in this round: it is known already, or of the handful that is
    /// waited for. If not, it is not given up in this round either.
    pub fn wants(&self, slot: u32, crc: u32) -> bool {
        let waiting = self.suspects[..self.len].iter().filter(|s| !s.ripe).count();
        self.find(slot, crc).is_some() || (waiting < HANDFUL && self.len < self.suspects.len())
    }

    fn find(&self, slot: u32, crc: u32) -> Option<usize> {
        self.suspects[..self.len].iter().position(|s| s.slot == slot && s.crc == crc)
    }

    /// A block, which [`Lost::wants`], was seen like this, and its neighbours. Says whether it is lost.
    pub fn look(&mut self, slot: u32, crc: u32, block: Sight, near: &Near) -> bool {
        let now = self.now_ms;
        let lasts = if self.hurries(now) { HURRY_MS } else { LASTS_MS };
        let i = self.find(slot, crc).unwrap_or_else(|| {
            self.len += 1;
            self.suspects[self.len - 1] = Suspect { slot, crc, since_ms: now, ..Suspect::default() };
            self.len - 1
        });
        let s = &mut self.suspects[i];
        s.seen = true;
        if !near.is_evidence(block) {
            (s.since_ms, s.looks, s.ripe) = (now, 0, false);
            return false;
        }
        if s.looks == 0 {
            s.since_ms = now;
        }
        s.looks += 1;
        s.ripe |= s.looks >= LOOKS && now.saturating_sub(s.since_ms) >= lasts;
        s.ripe
    }

    /// A round ends at this moment: blocks that were not seen in it are forgotten, for they can be read or are not needed.
    pub fn end(&mut self, now_ms: u64) {
        self.ended_ms = now_ms;
        let mut kept = 0;
        for i in 0..self.len {
            if self.suspects[i].seen {
                self.suspects[kept] = self.suspects[i];
                kept += 1;
            }
        }
        self.len = kept;
        let is_young = self.suspects[..kept].iter().all(|s| s.looks < LOOKS);
        let pause = if is_young || self.hurries(now_ms) { FIRST_PAUSE_MS } else { PAUSE_MS };
        self.next_ms = now_ms.saturating_add(pause);
    }

    /// All of them are given up.
    pub fn given_up(&mut self) {
        self.len = 0;
    }

    /// How many blocks are waited for.
    pub fn count(&self) -> usize {
        self.len
    }

    /// Whether all blocks that are waited for will be given up within so many milliseconds, if the evidence lasts: then
    /// waiting for room is not in vain.
    pub fn is_over_within(&self, ms: u64) -> bool {
        let now = self.now_ms;
        let lasts = if self.hurries(now) { HURRY_MS } else { LASTS_MS };
        let over = |s: &Suspect| {
            s.ripe || (s.looks != 0 && s.since_ms.saturating_add(lasts) <= now.saturating_add(ms))
        };
        self.len != 0 && self.suspects[..self.len].iter().all(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIUM: Sight = Sight::Error(Word::Medium);
    const AWAY: Sight = Sight::Error(Word::Away);
    const GOOD: Near = Near { own: Sight::Right, beside: [Sight::Right, Sight::Readable] };

    #[test]
    fn only_the_medium_says_that_data_are_gone() {
        for errno in [61, 84] {
            assert_eq!([Word::of(errno), Word::of(-errno)], [Word::Medium; 2]);
        }
        // EIO, ENXIO, ENOMEM, EBUSY, ENODEV, ENOSPC, ETIME, ENOLINK, EOVERFLOW, EOPNOTSUPP, ETIMEDOUT, EREMOTEIO: all the others
        // that the block layer has.
        for errno in [5, 6, 11, 12, 16, 19, 28, 62, 67, 75, 95, 110, 121, i32::MAX, i32::MIN, 0] {
            assert_eq!([Word::of(errno), Word::of(errno.wrapping_neg())], [Word::Away; 2], "{errno}");
        }
        assert!(Word::Away < Word::Medium);
    }

    #[test]
    fn what_cannot_be_read_is_gone_only_by_three_words_of_the_medium() {
        let read = |errors: [i32; 3]| {
            let mut tries = 0;
            let result = insist(
                || {
                    tries += 1;
                    if errors[tries - 1] == 0 {
                        Ok(())
                    } else {
                        Err(errors[tries - 1])
                    }
                },
                |e| *e,
            );
            (result, tries)
        };
        assert_eq!(read([0, 5, 5]), (Ok(Some(())), 1));
        assert_eq!(read([5, 61, 0]), (Ok(Some(())), 3));
        assert_eq!(read([61, 84, 61]), (Ok(None), 3));
        assert_eq!(read([61, 5, 61]), (Err(5), 3));
        assert_eq!(read([110, 61, 61]), (Err(110), 3));
    }

    #[test]
    fn evidence_with_a_hole_in_it_has_not_lasted() {
        let near = Near { own: Sight::Right, beside: [Sight::Right; 2] };
        let mut lost = Lost::new(4).unwrap();
        let mut look = |now: u64| {
            lost.resume(now);
            lost.begin(now);
            let is_lost = lost.look(7, 70, Sight::Error(Word::Medium), &near);
            lost.end(now);
            is_lost
        };
        // A moment of trouble, and another one an hour later: nobody has looked in between.
        assert!((0..10).all(|s| !look(1_000_000 + s * 1000)));
        assert!((0..10).all(|s| !look(4_600_000 + s * 1000)));
        // It lasts.
        let first = (0..1000).find(|s| look(4_610_000 + s * 1000));
        assert_eq!(first.map(|s| 4_610_000 + s * 1000 - 4_600_000), Some(LASTS_MS));
    }

    /// Looks at one block as long as `ms`, by `sight` of each moment. When it is lost.
    fn lost_after(lost: &mut Lost, ms: u64, sight: impl Fn(u64) -> (Sight, Near)) -> Option<u64> {
        let mut now = 1_000_000;
        while now < 1_000_000 + ms {
            if lost.is_early(now) {
                now += 100;
                continue;
            }
            lost.begin(now);
            assert!(lost.wants(7, 70));
            let (block, near) = sight(now - 1_000_000);
            let is_lost = lost.look(7, 70, block, &near);
            lost.end(now);
            if is_lost {
                return Some(now - 1_000_000);
            }
            now += 100;
        }
        None
    }

    fn of_one() -> Lost {
        Lost::new(16).unwrap()
    }

    #[test]
    fn the_medium_has_to_say_so_for_minutes() {
        for block in [MEDIUM, Sight::Wrong] {
            let at = lost_after(&mut of_one(), 1_000_000, |_| (block, GOOD)).unwrap();
            assert!((LASTS_MS..LASTS_MS + 2 * PAUSE_MS).contains(&at), "{at}");
            // A single look at something else, and it begins anew.
            for other in [AWAY, Sight::Right, Sight::Readable] {
                let sight =
                    |ms| (if (200_000..200_000 + PAUSE_MS).contains(&ms) { other } else { block }, GOOD);
                let at = lost_after(&mut of_one(), 1_000_000, sight).unwrap();
                assert!(at >= 200_000 + LASTS_MS, "{other:?}: {at}");
            }
        }
    }

    #[test]
    fn nothing_else_is_ever_evidence() {
        let hour = 3_600_000;
        for block in [AWAY, Sight::Right, Sight::Readable] {
            assert_eq!(lost_after(&mut of_one(), hour, |_| (block, GOOD)), None, "{block:?}");
            let mut lost = of_one();
            lost.hurry(1_000_000);
            assert_eq!(lost_after(&mut lost, hour, |_| (block, GOOD)), None, "{block:?} in a hurry");
        }
        for block in [MEDIUM, Sight::Wrong] {
            // Where a neighbour does not answer, or none is known to be right.
            for near in [
                Near { own: AWAY, ..GOOD },
                Near { beside: [AWAY, Sight::Right], ..GOOD },
                Near { beside: [Sight::Right, AWAY], ..GOOD },
                Near { own: MEDIUM, beside: [Sight::Readable, MEDIUM] },
                Near { own: Sight::Wrong, beside: [Sight::Wrong; 2] },
            ] {
                let mut lost = of_one();
                lost.hurry(1_000_000);
                assert_eq!(lost_after(&mut lost, hour, |_| (block, near)), None, "{block:?} {near:?}");
            }
        }
        // Foreign data all around: the checksum says nothing, and the medium's error still does.
        for near in
            [Near { own: Sight::Wrong, ..GOOD }, Near { beside: [Sight::Wrong, Sight::Right], ..GOOD }]
        {
            assert_eq!(lost_after(&mut of_one(), hour, |_| (Sight::Wrong, near)), None, "{near:?}");
            assert!(lost_after(&mut of_one(), hour, |_| (MEDIUM, near)).is_some(), "{near:?}");
        }
        // The header is gone with the block.
        let near = Near { own: MEDIUM, ..GOOD };
        assert!(lost_after(&mut of_one(), hour, |_| (MEDIUM, near)).is_some());
    }

    #[test]
    fn who_asks_for_it_waits_for_seconds_and_only_for_a_while() {
        let mut lost = of_one();
        lost.hurry(1_000_000);
        let at = lost_after(&mut lost, LASTS_MS, |_| (MEDIUM, GOOD)).unwrap();
        assert!((HURRY_MS..20_000).contains(&at), "{at}");
        assert!(at / FIRST_PAUSE_MS >= u64::from(LOOKS) - 1, "{at}");
        let mut lost = of_one();
        lost.hurry(1_000_000 - HURRY_LASTS_MS);
        let at = lost_after(&mut lost, 2 * LASTS_MS, |_| (MEDIUM, GOOD)).unwrap();
        assert!(at >= LASTS_MS, "{at}");
    }

    #[test]
    fn a_slow_device_is_asked_often_enough() {
        // Each look takes two minutes.
        let (mut lost, mut looks) = (of_one(), 0);
        for now in (0u64..).map(|i| i * 120_000) {
            lost.begin(now);
            looks += 1;
            let is_lost = lost.look(7, 70, MEDIUM, &GOOD);
            lost.end(now);
            if is_lost {
                break;
            }
        }
        assert_eq!(looks, LOOKS);
    }

    #[test]
    fn a_handful_at_a_time() {
        let mut lost = Lost::new(128).unwrap();
        let mut gone = std::vec::Vec::new();
        let mut now = 0;
        while gone.len() < 20 {
            lost.begin(now);
            let mut ripe = 0;
            for slot in 0..20 {
                if lost.wants(slot, 1) && lost.look(slot, 1, MEDIUM, &GOOD) {
                    ripe += 1;
                    if !gone.contains(&(slot, now)) && gone.iter().all(|&(s, _)| s != slot) {
                        gone.push((slot, now));
                    }
                }
            }
            assert!(ripe == gone.len());
            assert!(lost.count() <= ripe + HANDFUL, "{}", lost.count());
            assert_eq!(lost.is_over_within(0), ripe == 20);
            lost.end(now);
            now += PAUSE_MS;
        }
        for (i, &(slot, at)) in gone.iter().enumerate() {
            assert_eq!(slot as usize, i);
            assert!(at >= (i / HANDFUL + 1) as u64 * LASTS_MS, "{i}: {at}");
        }
        assert!(now < 4 * LASTS_MS);
        lost.given_up();
        assert_eq!(lost.count(), 0);
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten() {
        let mut lost = of_one();
        lost.begin(0);
        lost.look(7, 70, MEDIUM, &GOOD);
        lost.look(8, 80, MEDIUM, &GOOD);
        lost.end(0);
        assert!(lost.is_early(FIRST_PAUSE_MS - 1) && !lost.is_early(FIRST_PAUSE_MS));
        // Of another block in the same slot nothing is known.
        lost.begin(LASTS_MS);
        for _ in 0..LOOKS {
            assert!(!lost.look(8, 81, MEDIUM, &GOOD));
        }
        lost.end(LASTS_MS);
        assert_eq!(lost.count(), 1);
        lost.begin(LASTS_MS + 1);
        lost.end(LASTS_MS + 1);
        assert!(!lost.is_early(LASTS_MS + 1));
        assert!(!lost.is_over_within(u64::MAX));
    }

    #[test]
    fn waiting_is_not_in_vain_when_it_is_over_soon() {
        let mut lost = of_one();
        lost.begin(0);
        lost.look(7, 70, MEDIUM, &GOOD);
        assert!(!lost.is_over_within(10_000) && lost.is_over_within(LASTS_MS));
        lost.end(0);
        lost.begin(LASTS_MS - 10_000);
        lost.look(7, 70, MEDIUM, &GOOD);
        assert!(lost.is_over_within(10_000));
        lost.look(8, 80, AWAY, &GOOD);
        assert!(!lost.is_over_within(10_000));
        lost.end(LASTS_MS - 10_000);
        assert!(!of_one().is_over_within(u64::MAX));
    }
}
