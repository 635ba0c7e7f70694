// SPDX-License-Identifier: GPL-2.0-only

//! A disk with a volatile write cache, as real ones behave.
//!
//! - A write that has completed is read back at once. It is on stable storage only after FUA, or after the
//!   completion of a flush that was submitted after the write had completed. A write that completed after the
//!   flush was submitted, or that is still in flight, is not promised.
//! - FUA makes its own sectors stable and nothing else.
//! - A power cut keeps any subset of the unstable sectors, those of writes in flight included. A sector that
//!   several such writes wrote holds the data of any one of them afterwards, or the stable data. A sector is
//!   always whole.
//! - A crash of the host loses nothing that has completed, and leaves any part of the writes in flight.
//! - A write that ends with an error may have been done in part.
//! - A disk that is reset, which an error reports, forgets any part of the unstable data: [`Disk::forget`].
//! - A power cut may leave a sector that was being written unreadable: the medium reports an error, until the
//!   sector is written again.
//! - Some region may be away for a while: reads of it end with an error that says nothing about the medium.
//!   When the region is back, all its data are there.
//! - Some sector may be lost for good: it can be neither read nor written.
//!
//! A copy of a disk costs next to nothing: pages are shared until one of the two writes to them.

use super::rng::Rng;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

pub const SECTOR: usize = 512;

const PAGE: usize = 4096;

/// The errors of a sector that the medium has lost, and of one that is away, as error numbers of Linux:
/// ENODATA; EIO, ENODEV, ENOLINK, ETIMEDOUT, EREMOTEIO.
pub const MEDIUM: i32 = 61;
pub const AWAY: [i32; 5] = [5, 19, 67, 110, 121];

/// The bytes of a disk.
#[derive(Clone)]
struct Bytes(Vec<Arc<[u8; PAGE]>>);

impl Bytes {
    fn new(sectors: u64) -> Self {
        let zero = Arc::new([0; PAGE]);
        Self(vec![zero; (sectors as usize * SECTOR).div_ceil(PAGE)])
    }

    fn get(&self, sector: u64, sectors: u64) -> Cow<'_, [u8]> {
        let at = sector as usize * SECTOR;
        let end = at + sectors as usize * SECTOR;
        if sectors > 0 && at / PAGE == (end - 1) / PAGE {
            let page = &self.0[at / PAGE];
            return Cow::Borrowed(&page[at % PAGE..at % PAGE + (end - at)]);
        }
        let mut out = Vec::with_capacity(end - at);
        let mut at = at;
        while at < end {
            let n = (PAGE - at % PAGE).min(end - at);
            out.extend_from_slice(&self.0[at / PAGE][at % PAGE..at % PAGE + n]);
            at += n;
        }
        Cow::Owned(out)
    }

    fn put(&mut self, sector: u64, data: &[u8]) {
        let mut at = sector as usize * SECTOR;
        let mut data = data;
        while !data.is_empty() {
            let n = (PAGE - at % PAGE).min(data.len());
            let page = &mut self.0[at / PAGE];
            match data.first_chunk::<PAGE>() {
                Some(whole) if n == PAGE && Arc::get_mut(page).is_none() => *page = Arc::new(*whole),
                _ => Arc::make_mut(page)[at % PAGE..at % PAGE + n].copy_from_slice(&data[..n]),
            }
            at += n;
            data = &data[n..];
        }
    }
}

/// A write that has completed and is not known to be stable.
#[derive(Clone)]
pub struct Write {
    serial: u64,
    pub sector: u64,
    pub data: Arc<[u8]>,
}

impl Write {
    fn sectors(&self) -> u64 {
        (self.data.len() / SECTOR) as u64
    }

    /// The part from one sector to another, both counted from the start of the disk.
    fn part(&self, from: u64, to: u64) -> Option<Self> {
        let range = (from - self.sector) as usize * SECTOR..(to - self.sector) as usize * SECTOR;
        (from < to).then(|| Self { serial: self.serial, sector: from, data: self.data[range].into() })
    }
}

/// The part of a write that a crash leaves.
#[derive(Clone, Copy)]
enum Tear {
    All,
    Nothing,
    Each,
    Begin,
    End,
    AllButOne,
}

#[derive(Clone)]
pub struct Disk {
    now: Bytes,
    stable: Bytes,
    /// In order of completion.
    pending: Vec<Write>,
    serial: u64,
    /// Sectors that the medium has lost.
    bad: BTreeSet<u64>,
    /// Those of them that cannot be written either.
    dead: BTreeSet<u64>,
    /// Sectors that are away, and the error of reads of them.
    away: Option<(Range<u64>, i32)>,
}

/// Calls `kept(sector, data)` for the sectors of a write that a crash leaves.
fn torn(rng: &mut Rng, sector: u64, data: &[u8], mut kept: impl FnMut(u64, &[u8])) {
    let n = data.len() / SECTOR;
    let tear = rng.pick(&[
        Tear::All,
        Tear::All,
        Tear::Nothing,
        Tear::Nothing,
        Tear::Each,
        Tear::Begin,
        Tear::End,
        Tear::AllButOne,
    ]);
    let cut = rng.index(n + 1);
    match tear {
        Tear::All => kept(sector, data),
        Tear::Nothing => (),
        Tear::Begin => kept(sector, &data[..cut * SECTOR]),
        Tear::End => kept(sector + cut as u64, &data[cut * SECTOR..]),
        Tear::Each | Tear::AllButOne => {
            for i in 0..n {
                if if matches!(tear, Tear::Each) { rng.one_in(2) } else { i != cut } {
                    kept(sector + i as u64, &data[i * SECTOR..(i + 1) * SECTOR]);
                }
            }
        }
    }
}

impl Disk {
    pub fn new(sectors: u64) -> Self {
        let bytes = Bytes::new(sectors);
        Self {
            now: bytes.clone(),
            stable: bytes,
            pending: Vec::new(),
            serial: 0,
            bad: BTreeSet::new(),
            dead: BTreeSet::new(),
            away: None,
        }
    }

    pub fn read(&self, sector: u64, sectors: u64) -> Cow<'_, [u8]> {
        self.now.get(sector, sectors)
    }

    /// As [`Disk::read`], if all sectors can be read.
    ///
    /// # Errors
    /// An error number. The error of a sector that is away hides what the medium has lost.
    pub fn try_read(&self, sector: u64, sectors: u64) -> Result<Cow<'_, [u8]>, i32> {
        let end = sector + sectors;
        match &self.away {
            Some((away, errno)) if away.start < end && sector < away.end => Err(*errno),
            _ if self.bad.range(sector..end).next().is_some() => Err(MEDIUM),
            _ => Ok(self.read(sector, sectors)),
        }
    }

    /// Reads of these sectors end with this error until [`Disk::come_back`].
    pub fn go_away(&mut self, sectors: Range<u64>, errno: i32) {
        self.away = Some((sectors, errno));
    }

    /// Everything that was away is back, with its data.
    pub fn come_back(&mut self) {
        self.away = None;
    }

    /// Whether a part is away.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// The medium loses a sector.
    pub fn lose(&mut self, sector: u64) {
        self.bad.insert(sector);
    }

    /// The medium loses a sector for good: the sector cannot be written any more.
    pub fn kill(&mut self, sector: u64) {
        self.bad.insert(sector);
        self.dead.insert(sector);
    }

    /// The same disk after all unreadable sectors have become readable, with the data that they had.
    pub fn healed(mut self) -> Self {
        self.bad.clear();
        self.dead.clear();
        self
    }

    /// How many sectors are lost for good.
    pub fn dead(&self) -> usize {
        self.dead.len()
    }

    /// As [`Disk::write`], with FUA, of one sector. Returns whether the sector can be written.
    pub fn try_write(&mut self, sector: u64, data: &[u8; SECTOR]) -> bool {
        let can = !self.dead.contains(&sector);
        if can {
            self.write(sector, data, true);
        }
        can
    }

    /// The sectors are written again, and so become readable.
    fn heal(&mut self, sector: u64, data: &[u8]) {
        if !self.bad.is_empty() {
            let end = sector + (data.len() / SECTOR) as u64;
            self.bad.retain(|s| !(sector..end).contains(s) || self.dead.contains(s));
        }
    }

    pub fn stable(&self, sector: u64, sectors: u64) -> Cow<'_, [u8]> {
        self.stable.get(sector, sectors)
    }

    /// One sector.
    pub fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let at = sector as usize * SECTOR;
        *self.now.0[at / PAGE][at % PAGE..].first_chunk().unwrap()
    }

    /// The writes that have completed and are not known to be stable, in order of completion.
    pub fn pending(&self) -> &[Write] {
        &self.pending
    }

    /// A write completes.
    pub fn write(&mut self, sector: u64, data: &[u8], fua: bool) {
        self.heal(sector, data);
        self.now.put(sector, data);
        if !fua {
            self.serial += 1;
            self.pending.push(Write { serial: self.serial, sector, data: data.into() });
            return;
        }
        self.stable.put(sector, data);
        // Older writes to the same place are gone. The rest of them is as unstable as before.
        let end = sector + (data.len() / SECTOR) as u64;
        let overlaps = |w: &Write| w.sector < end && sector < w.sector + w.sectors();
        if self.pending.iter().any(overlaps) {
            self.pending = std::mem::take(&mut self.pending)
                .into_iter()
                .flat_map(|w| {
                    if !overlaps(&w) {
                        return [Some(w), None];
                    }
                    let (start, stop) = (w.sector, w.sector + w.sectors());
                    [w.part(start, sector.max(start)), w.part(end.min(stop), stop)]
                })
                .flatten()
                .collect();
        }
    }

    /// A flush is submitted. Returns a mark for the writes that it will make stable.
    pub fn mark(&self) -> u64 {
        self.serial
    }

    /// A flush completes that was submitted at `mark`.
    pub fn flush(&mut self, mark: u64) {
        let n = self.pending.partition_point(|w| w.serial <= mark);
        for w in self.pending.drain(..n) {
            self.stable.put(w.sector, &w.data);
        }
    }

    /// Part of a write takes place, and its completion is an error or never comes.
    pub fn tear(&mut self, rng: &mut Rng, sector: u64, data: &[u8]) {
        let mut kept = Vec::new();
        torn(rng, sector, data, |sector, data| kept.push((sector, data.to_vec())));
        for (sector, data) in kept {
            if !data.is_empty() {
                self.write(sector, &data, false);
            }
        }
    }

    /// The disk is reset, and goes on: of each write that is not stable some sectors may be gone.
    pub fn forget(&mut self, rng: &mut Rng) {
        let mut kept = Vec::new();
        for w in &self.pending {
            torn(rng, w.sector, &w.data, |sector, data| {
                if !data.is_empty() {
                    kept.push(Write { serial: w.serial, sector, data: data.into() });
                }
            });
        }
        self.now = self.stable.clone();
        for w in &kept {
            self.now.put(w.sector, &w.data);
        }
        self.pending = kept;
    }

    /// The power fails while `in_flight` are being written.
    pub fn cut(&mut self, rng: &mut Rng, in_flight: &[(u64, Vec<u8>)]) {
        let stable = &mut self.stable;
        let all = self.pending.iter().map(|w| (w.sector, &w.data[..]));
        let all: Vec<_> = all.chain(in_flight.iter().map(|(s, d)| (*s, &d[..]))).collect();
        for &(sector, data) in &all {
            torn(rng, sector, data, |sector, data| stable.put(sector, data));
        }
        if !all.is_empty() && rng.one_in(4) {
            let (sector, data) = all[rng.index(all.len())];
            self.bad.insert(sector + rng.index(data.len() / SECTOR) as u64);
        }
        self.restart();
    }

    /// A power cut keeps these sectors of an unstable write; [`Disk::restart`] ends it.
    pub fn keep(&mut self, sector: u64, data: &[u8]) {
        self.heal(sector, data);
        self.stable.put(sector, data);
    }

    /// The power comes back: only stable data are left.
    pub fn restart(&mut self) {
        self.come_back();
        self.pending.clear();
        self.now = self.stable.clone();
    }

    /// The host crashes while `in_flight` are being written, and the disk keeps its power.
    pub fn orphan(&mut self, rng: &mut Rng, in_flight: &[(u64, Vec<u8>)]) {
        self.come_back();
        for (sector, data) in in_flight {
            self.tear(rng, *sector, data);
        }
    }

    /// Overwrites bytes, also on stable storage: for damage.
    pub fn poke(&mut self, sector: u64, data: &[u8]) {
        self.heal(sector, data);
        self.now.put(sector, data);
        self.stable.put(sector, data);
    }
}
