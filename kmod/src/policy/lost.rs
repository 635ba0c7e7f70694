// SPDX-License-Identifier: GPL-2.0-only

//! When a dirty block that cannot be read is lost, and when it is only away.
//!
//! Such a block holds up the tail, and with it, in the end, every write. To give it up is to lose it for
//! good. So the decision rests on the medium's own word, never on a path, a timeout or a device that is away,
//! and it is never quick.
//!
//! # Invariants
//! - The bad result of a read has one of two meanings. Either the medium has lost the data ([`Word::Medium`],
//!   by an error that says so, or a checksum that does not match: [`Sight::Wrong`]). Or it says nothing about
//!   the data ([`Word::Away`]).
//! - A block is given up only after [`LASTS_MS`] without a break and at least [`LOOKS`] looks, if each look
//!   at the block has had the medium's word, and each look at its neighbours has found that the device
//!   answers there: see [`Near`]. A single look with any other result begins that time anew.
//! - The block is looked at again, in the same way, right before it is given up. At most [`HANDFUL`] blocks
//!   are waited for at a time: each handful takes its own minutes.
//! - A round that is broken off ([`Lost::begin`] without [`Lost::end`]), because the thread that looks is
//!   needed elsewhere, does not count. Blocks that were not looked at in it are not forgotten, and the time
//!   since the last whole round counts as a time without looks.
//! - A request for haste ([`Lost::hurry`]) shortens the time. The evidence stays the same.
//! - Looking does not wait until room is short, when every write would wait with it. It begins when a block
//!   is found that cannot be read, seldom ([`WATCH_MS`]), at [`WATCHED`] blocks. It gives nothing up.
//!
//! A checksum that does not match says less than an error of the medium: while a path fails over, a device
//! may return foreign or older data for a while. Then the header of the segment that the block lies in does
//! not match either, which the engine knows by its number. So a wrong checksum counts only beside headers
//! that are right.
//!
//! Headers are as far apart as segments are long, and may lie on other disks when the device has stripes. And
//! some devices report the medium's error for everything: a drive that encrypts itself and is locked. So the
//! blocks directly beside the block are looked at, too ([`Around`]). A medium loses a handful of blocks. If
//! more than that cannot be read, the device is in an unusual state, and may recover.

use crate::format::Slot;
use crate::host::{OutOfMemory, Table};

/// The meaning of a read error, in ascending order of how much it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Nothing about the data: a path, a timeout, a device that is away or being reset. The data may still be
    /// intact.
    Away,
    /// The medium itself cannot return the data, or knows that they are not the data that were written.
    Medium,
}

/// `BLK_STS_MEDIUM`: the device answers, and cannot read this place. (Numbers as in Linux,
/// `block/blk-core.c`.)
const ENODATA: i32 = 61;
/// `BLK_STS_PROTECTION`: the data that were read do not match the protection information that lies beside
/// them.
const EILSEQ: i32 = 84;

impl Word {
    /// The meaning of an error number, with either sign.
    pub fn of(errno: i32) -> Self {
        match errno.wrapping_abs() {
            ENODATA | EILSEQ => Word::Medium,
            _ => Word::Away,
        }
    }
}

/// How often a read is tried before its error is believed.
pub const TRIES: u32 = 3;

/// Repeats `read` until it goes well, [`TRIES`] times at most. `None` when the medium cannot return the data:
/// each of the errors says so. `errno` gives the number of an error.
///
/// # Errors
/// The last one that says nothing about the medium.
pub fn insist<T, E>(read: impl FnMut() -> Result<T, E>, errno: impl Fn(&E) -> i32) -> Result<Option<T>, E> {
    insist_or_loss(read, errno).map(Result::ok)
}

/// The kind of loss that the medium reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The data cannot be read.
    Lost,
    /// The data do not match their protection. dm-integrity reports this for places that were never written
    /// and, without a journal, for everything that was in flight when the power failed.
    Mismatch,
}

/// As [`insist`], and with the kind of loss: [`Loss::Mismatch`] if the medium reports nothing else.
///
/// # Errors
/// As those of [`insist`].
pub fn insist_or_loss<T, E>(
    mut read: impl FnMut() -> Result<T, E>,
    errno: impl Fn(&E) -> i32,
) -> Result<Result<T, Loss>, E> {
    let (mut away, mut loss) = (None, Loss::Mismatch);
    for _ in 0..TRIES {
        match read() {
            Ok(t) => return Ok(Ok(t)),
            Err(e) if errno(&e).wrapping_abs() == EILSEQ => (),
            Err(e) if Word::of(errno(&e)) == Word::Medium => loss = Loss::Lost,
            Err(e) => away = Some(e),
        }
    }
    away.map_or(Ok(Err(loss)), Err)
}

/// How long the evidence must last, in milliseconds: five minutes. A device or a path that recovers may
/// answer strangely meanwhile, and needs less than that: a SCSI command of 30 s with five retries and the
/// error handler behind it (some four minutes), a transition between ALUA or ANA states (255 s at most), an
/// iSCSI session that is replaced (120 s), a reset NVMe controller (a minute or two).
pub const LASTS_MS: u64 = 300_000;
/// The same when an administrator has asked for haste, in milliseconds: long enough for the looks to be
/// independent.
pub const HURRY_MS: u64 = 4000;
/// The least number of looks within that time: a device whose errors take half a minute each has not been
/// asked often in it.
pub const LOOKS: u32 = 5;
/// Between two rounds, in milliseconds.
pub const PAUSE_MS: u64 = 5000;
/// The same in a hurry, and while there is little evidence: a device that is away for a moment should not
/// cause a long wait.
pub const FIRST_PAUSE_MS: u64 = 1000;
/// The longest time between the end of a round and the beginning of the next one, in milliseconds. After a
/// longer time without looks, the earlier ones say nothing about the time between.
pub const GAP_MS: u64 = 60_000;
/// Between two rounds while there is room, in milliseconds: seldom, but often enough that the evidence has no
/// gap.
pub const WATCH_MS: u64 = 30_000;
/// Blocks that are looked at then, from the oldest on. The thread that looks also moves the tail, and each
/// look may take half a minute.
pub const WATCHED: usize = 16;
const _: () = assert!(WATCH_MS < GAP_MS && WATCHED >= HANDFUL);
/// How long a request to hurry holds, in milliseconds.
pub const HURRY_LASTS_MS: u64 = 600_000;
/// Blocks that are waited for at a time.
pub const HANDFUL: usize = 8;
/// So many blocks on either side of an unreadable one are looked at: 64 KiB.
pub const REACH: u32 = 16;
/// If so many of these blocks, the block itself included, cannot be read, they are no evidence any more.
/// Sectors that a disk has lost lie in a physical sector of 4 KiB or a page of flash memory of 16 KiB, and
/// sometimes in two of them. A smaller number is less than the blocks of a chunk of 32 KiB, and less than the
/// share of one disk out of four when chunks have 4 KiB.
pub const MANY: u32 = 8;

/// The result of a look at a block, or at a header beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The data that should be there.
    Right,
    /// Something else: the read went well, but its checksum or its number differs.
    Wrong,
    /// An error.
    Error(Word),
    /// It could be read, and it is not known which data should be there.
    Readable,
}

/// The result of a look at the blocks directly beside a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// Blocks that cannot be read, by the medium's word, without the block itself.
    lost: u32,
    /// A read says nothing about the data.
    is_away: bool,
    /// A block is known to be right.
    is_right: bool,
    /// A block can be read.
    is_readable: bool,
}

impl Around {
    /// Looks at the blocks around `slot` on a device with `nr_slots` of them, from near to far, until it is
    /// clear that they are no evidence. `see` is [`Sight::Right`] for a block that matches a known checksum,
    /// and [`Sight::Readable`] for one that does not: nothing else is known of most.
    pub fn look(slot: Slot, nr_slots: u32, mut see: impl FnMut(Slot) -> Sight) -> Self {
        let mut around = Self::default();
        for place in (1..=REACH).flat_map(|d| [slot.0.checked_sub(d), slot.0.checked_add(d)]).flatten() {
            if place >= nr_slots {
                continue;
            }
            match see(Slot(place)) {
                Sight::Error(Word::Medium) => around.lost += 1,
                Sight::Error(Word::Away) => around.is_away = true,
                Sight::Right => (around.is_right, around.is_readable) = (true, true),
                Sight::Wrong | Sight::Readable => around.is_readable = true,
            }
            if around.is_hopeless() {
                break;
            }
        }
        around
    }

    fn is_hopeless(&self) -> bool {
        self.is_away || self.lost + 1 >= MANY
    }

    /// Whether the device answers here.
    fn answers(&self) -> bool {
        self.is_readable && !self.is_hopeless()
    }
}

/// The result of looks beside a block: at the header of its own segment, at those of the segments before and
/// behind, and at the blocks directly beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    /// The header of its own segment.
    pub own: Sight,
    /// The headers of the segments beside it.
    pub beside: [Sight; 2],
    /// The blocks around it.
    pub around: Around,
}

impl Near {
    fn all(&self) -> [Sight; 3] {
        [self.own, self.beside[0], self.beside[1]]
    }

    /// Whether the device answers here: each header can be read or is lost by the medium's own word, and one
    /// is right.
    fn answers(&self) -> bool {
        self.all().iter().all(|s| *s != Sight::Error(Word::Away)) && self.all().contains(&Sight::Right)
    }

    /// Whether the device answers here with data of this volume: nothing is wrong.
    fn is_ours(&self) -> bool {
        !self.all().contains(&Sight::Wrong)
    }

    /// Whether a block with these neighbours is lost, as far as this look can tell.
    fn is_evidence(&self, block: Sight) -> bool {
        self.answers()
            && self.around.answers()
            && match block {
                Sight::Error(Word::Medium) => true,
                Sight::Wrong => self.is_ours() && self.around.is_right,
                Sight::Right | Sight::Readable | Sight::Error(Word::Away) => false,
            }
    }
}

/// A block that cannot be read.
#[derive(Debug, Clone, Copy, Default)]
struct Suspect {
    slot: Slot,
    crc: u32,
    /// The time since when each look was evidence, in milliseconds since boot, and the number of these looks.
    since_ms: u64,
    looks: u32,
    /// The evidence has lasted long enough.
    ripe: bool,
    /// The block was looked at in this round.
    seen: bool,
}

/// The unreadable blocks of one batch of relocation, and the evidence about each.
#[derive(Debug)]
pub struct Lost {
    suspects: Table<Suspect>,
    len: usize,
    /// When the next round may begin, in milliseconds since boot.
    next_ms: u64,
    /// When the last round has ended.
    ended_ms: u64,
    /// The end of the hurry, in milliseconds since boot.
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

    /// An administrator wants no long wait where the medium has spoken.
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

    /// Whether it is time to look while there is room.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let pause = if self.hurries(now_ms) { FIRST_PAUSE_MS } else { WATCH_MS };
        self.ended_ms == 0 || now_ms.saturating_sub(self.ended_ms) >= pause
    }

    /// All of a batch is about to be read, for a round. Rounds come only while a thread looks: evidence with
    /// a gap in it has not lasted.
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

    /// Whether an unreadable block is to be looked at in this round: it is known already, or is one of the
    /// handful that is waited for. Otherwise the block is not given up in this round either.
    pub fn wants(&self, slot: Slot, crc: u32) -> bool {
        let waiting = self.suspects[..self.len].iter().filter(|s| !s.ripe).count();
        self.find(slot, crc).is_some() || (waiting < HANDFUL && self.len < self.suspects.len())
    }

    fn find(&self, slot: Slot, crc: u32) -> Option<usize> {
        self.suspects[..self.len].iter().position(|s| s.slot == slot && s.crc == crc)
    }

    /// Takes the result of a look at a block, for which [`Lost::wants`] is true, and at its neighbours.
    /// Returns whether the block is lost.
    pub fn look(&mut self, slot: Slot, crc: u32, block: Sight, near: &Near) -> bool {
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

    /// A round ends at this moment. Blocks that were not seen in it are forgotten, because they can be read
    /// or are not needed.
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

    /// The number of blocks that are waited for.
    pub fn count(&self) -> usize {
        self.len
    }

    /// Whether all blocks that are waited for will be given up within so many milliseconds, if the evidence
    /// lasts. Then waiting for room is not in vain.
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
    /// All blocks around can be read, and one is known to be right.
    const SOUND: Around = Around { lost: 0, is_away: false, is_right: true, is_readable: true };
    const GOOD: Near = Near { own: Sight::Right, beside: [Sight::Right, Sight::Readable], around: SOUND };

    #[test]
    fn only_the_medium_says_that_data_are_gone() {
        for errno in [61, 84] {
            assert_eq!([Word::of(errno), Word::of(-errno)], [Word::Medium; 2]);
        }
        // EIO, ENXIO, ENOMEM, EBUSY, ENODEV, ENOSPC, ETIME, ENOLINK, EOVERFLOW, EOPNOTSUPP, ETIMEDOUT,
        // EREMOTEIO: all other errors of the block layer.
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
    fn only_what_never_says_anything_else_is_a_mismatch() {
        let loss = |errors: [i32; 3]| {
            let mut tries = errors.iter();
            insist_or_loss(|| Err::<(), i32>(*tries.next().unwrap()), |e| *e)
        };
        assert_eq!(loss([84, -84, 84]), Ok(Err(Loss::Mismatch)));
        assert_eq!(loss([84, 61, 84]), Ok(Err(Loss::Lost)));
        assert_eq!(loss([84, 5, 84]), Err(5));
    }

    #[test]
    fn evidence_with_a_hole_in_it_has_not_lasted() {
        let near = Near { beside: [Sight::Right; 2], ..GOOD };
        let mut lost = Lost::new(4).unwrap();
        let mut look = |now: u64| {
            lost.resume(now);
            lost.begin(now);
            let is_lost = lost.look(Slot(7), 70, Sight::Error(Word::Medium), &near);
            lost.end(now);
            is_lost
        };
        // A moment of trouble, and another one an hour later: there was no look in between.
        assert!((0..10).all(|s| !look(1_000_000 + s * 1000)));
        assert!((0..10).all(|s| !look(4_600_000 + s * 1000)));
        // It lasts.
        let first = (0..1000).find(|s| look(4_610_000 + s * 1000));
        assert_eq!(first.map(|s| 4_610_000 + s * 1000 - 4_600_000), Some(LASTS_MS));
    }

    /// Looks at one block for `ms` milliseconds, by `sight` of each moment. Returns the time when the block
    /// is lost.
    fn lost_after(lost: &mut Lost, ms: u64, sight: impl Fn(u64) -> (Sight, Near)) -> Option<u64> {
        let mut now = 1_000_000;
        while now < 1_000_000 + ms {
            if lost.is_early(now) {
                now += 100;
                continue;
            }
            lost.begin(now);
            assert!(lost.wants(Slot(7), 70));
            let (block, near) = sight(now - 1_000_000);
            let is_lost = lost.look(Slot(7), 70, block, &near);
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
            // A single look with another result begins the time anew.
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
            // A neighbour does not answer, or none is known to be right.
            for near in [
                Near { own: AWAY, ..GOOD },
                Near { beside: [AWAY, Sight::Right], ..GOOD },
                Near { beside: [Sight::Right, AWAY], ..GOOD },
                Near { own: MEDIUM, beside: [Sight::Readable, MEDIUM], ..GOOD },
                Near { own: Sight::Wrong, beside: [Sight::Wrong; 2], ..GOOD },
                // Nothing beside the block can be read, or too little, or some of it does not answer.
                Near { around: Around::default(), ..GOOD },
                Near { around: Around { lost: MANY - 1, ..SOUND }, ..GOOD },
                Near { around: Around { is_away: true, ..SOUND }, ..GOOD },
            ] {
                let mut lost = of_one();
                lost.hurry(1_000_000);
                assert_eq!(lost_after(&mut lost, hour, |_| (block, near)), None, "{block:?} {near:?}");
            }
        }
        // Foreign data all around: the checksum says nothing, but the medium's error still does.
        for near in [
            Near { own: Sight::Wrong, ..GOOD },
            Near { beside: [Sight::Wrong, Sight::Right], ..GOOD },
            Near { around: Around { is_right: false, ..SOUND }, ..GOOD },
        ] {
            assert_eq!(lost_after(&mut of_one(), hour, |_| (Sight::Wrong, near)), None, "{near:?}");
            assert!(lost_after(&mut of_one(), hour, |_| (MEDIUM, near)).is_some(), "{near:?}");
        }
        // A handful of blocks beside it is lost.
        let near = Near { around: Around { lost: MANY - 2, ..SOUND }, ..GOOD };
        assert!(lost_after(&mut of_one(), hour, |_| (MEDIUM, near)).is_some());
        // The header is gone with the block.
        let near = Near { own: MEDIUM, ..GOOD };
        assert!(lost_after(&mut of_one(), hour, |_| (MEDIUM, near)).is_some());
    }

    #[test]
    fn what_is_around_it_is_looked_at_from_near_to_far() {
        let seen = |slot, nr_slots, see: &dyn Fn(u32) -> Sight| {
            let mut places = std::vec::Vec::new();
            let around = Around::look(Slot(slot), nr_slots, |place| {
                places.push(place.0);
                see(place.0)
            });
            (around, places)
        };
        let (around, places) = seen(100, 1000, &|_| Sight::Readable);
        assert!(around.answers() && !around.is_right);
        assert_eq!((places[..3].to_vec(), places.len()), (std::vec![99, 101, 98], 2 * REACH as usize));
        // At the ends of the device.
        for slot in [0, 999] {
            let (around, places) = seen(slot, 1000, &|_| Sight::Right);
            assert!(around.answers() && around.is_right && places.len() == REACH as usize);
        }
        // A long run of lost blocks, or many of them anywhere: each read of one may take half a minute.
        for far in [1, 2] {
            let (around, places) =
                seen(100, 1000, &|i: u32| if i % far == 0 { MEDIUM } else { Sight::Right });
            assert!(!around.answers() && places.len() as u32 <= far * MANY, "{places:?}");
        }
        // The pattern of a locked disk: a chunk of 32 KiB, at any place in which the block may be, or every
        // fourth block.
        for slot in 96..104 {
            let locked = |i: u32| if (96..104).contains(&i) { MEDIUM } else { Sight::Right };
            assert!(!seen(slot, 1000, &locked).0.answers(), "{slot}");
        }
        assert!(!seen(100, 1000, &|i| if i % 4 == 0 { MEDIUM } else { Sight::Right }).0.answers());
        // The pattern of a medium that has lost data: a page, or two.
        for slot in 96..100 {
            let page = |i: u32| if (96..103).contains(&i) { MEDIUM } else { Sight::Right };
            assert!(seen(slot, 1000, &page).0.answers(), "{slot}");
        }
        let (around, places) = seen(100, 1000, &|i| if i == 98 { AWAY } else { Sight::Right });
        assert!(!around.answers() && places.last() == Some(&98));
    }

    #[test]
    fn while_there_is_room_it_is_looked_at_seldom_and_known_all_the_same() {
        let (mut lost, mut looks) = (of_one(), 0);
        let now = (1_000_000u64..).step_by(1000).find(|&now| {
            if !lost.is_due(now) {
                return false;
            }
            looks += 1;
            lost.resume(now);
            lost.begin(now);
            let is_lost = lost.look(Slot(7), 70, MEDIUM, &GOOD);
            lost.end(now);
            is_lost
        });
        assert_eq!(now, Some(1_000_000 + LASTS_MS));
        assert!(looks >= LOOKS && u64::from(looks) <= LASTS_MS / WATCH_MS + 1, "{looks}");
        assert!(lost.is_over_within(0));
        // In a hurry, within seconds.
        let mut lost = of_one();
        lost.begin(0);
        lost.end(1_000_000);
        assert!(!lost.is_due(1_000_000 + FIRST_PAUSE_MS));
        lost.hurry(1_000_000);
        assert!(lost.is_due(1_000_000 + FIRST_PAUSE_MS) && !lost.is_due(1_000_000));
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
            let is_lost = lost.look(Slot(7), 70, MEDIUM, &GOOD);
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
            for slot in (0..20).map(Slot) {
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
            assert_eq!(slot.index(), i);
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
        lost.look(Slot(7), 70, MEDIUM, &GOOD);
        lost.look(Slot(8), 80, MEDIUM, &GOOD);
        lost.end(0);
        assert!(lost.is_early(FIRST_PAUSE_MS - 1) && !lost.is_early(FIRST_PAUSE_MS));
        // Nothing is known of another block in the same slot.
        lost.begin(LASTS_MS);
        for _ in 0..LOOKS {
            assert!(!lost.look(Slot(8), 81, MEDIUM, &GOOD));
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
        lost.look(Slot(7), 70, MEDIUM, &GOOD);
        assert!(!lost.is_over_within(10_000) && lost.is_over_within(LASTS_MS));
        lost.end(0);
        lost.begin(LASTS_MS - 10_000);
        lost.look(Slot(7), 70, MEDIUM, &GOOD);
        assert!(lost.is_over_within(10_000));
        lost.look(Slot(8), 80, AWAY, &GOOD);
        assert!(!lost.is_over_within(10_000));
        lost.end(LASTS_MS - 10_000);
        assert!(!of_one().is_over_within(u64::MAX));
    }
}
