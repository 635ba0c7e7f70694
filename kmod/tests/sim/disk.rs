// SPDX-License-Identifier: GPL-2.0-only

//! A disk with a volatile write cache, as real ones behave: a write that has completed is read back at once, but it is
//! on stable storage only after FUA, or after a flush that was submitted later has completed. A power cut keeps any
//! subset of the sectors of everything else, of writes that have not even completed too.

use super::rng::Rng;

pub const SECTOR: usize = 512;

struct Write {
    serial: u64,
    sector: u64,
    data: Vec<u8>,
}

/// How much of a write a crash leaves.
#[derive(Clone, Copy)]
enum Tear {
    All,
    Nothing,
    Each,
    Begin,
    End,
    AllButOne,
}

pub struct Disk {
    now: Vec<u8>,
    stable: Vec<u8>,
    /// Completed and not known to be stable, in order of completion.
    pending: Vec<Write>,
    serial: u64,
}

fn put(to: &mut [u8], sector: u64, data: &[u8]) {
    let at = sector as usize * SECTOR;
    to[at..at + data.len()].copy_from_slice(data);
}

/// The parts of a write that a crash leaves.
fn torn(rng: &mut Rng, sector: u64, data: &[u8]) -> Vec<(u64, Vec<u8>)> {
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
    let keep = |rng: &mut Rng, i: usize| match tear {
        Tear::All => true,
        Tear::Nothing => false,
        Tear::Each => rng.one_in(2),
        Tear::Begin => i < cut,
        Tear::End => i >= cut,
        Tear::AllButOne => i != cut,
    };
    (0..n)
        .filter(|&i| keep(rng, i))
        .map(|i| (sector + i as u64, data[i * SECTOR..(i + 1) * SECTOR].to_vec()))
        .collect()
}

impl Disk {
    pub fn new(sectors: u64) -> Self {
        let bytes = sectors as usize * SECTOR;
        Self { now: vec![0; bytes], stable: vec![0; bytes], pending: Vec::new(), serial: 0 }
    }

    pub fn read(&self, sector: u64, sectors: u64) -> &[u8] {
        &self.now[sector as usize * SECTOR..(sector + sectors) as usize * SECTOR]
    }

    pub fn stable(&self, sector: u64, sectors: u64) -> &[u8] {
        &self.stable[sector as usize * SECTOR..(sector + sectors) as usize * SECTOR]
    }

    /// A write completes.
    pub fn write(&mut self, sector: u64, data: &[u8], fua: bool) {
        put(&mut self.now, sector, data);
        if fua {
            let end = sector + (data.len() / SECTOR) as u64;
            let stable = &mut self.stable;
            // What is older at the same place must not come over it with a later flush.
            self.pending.retain(|w| {
                let apart = w.sector >= end || w.sector + (w.data.len() / SECTOR) as u64 <= sector;
                if !apart {
                    put(stable, w.sector, &w.data);
                }
                apart
            });
            put(&mut self.stable, sector, data);
        } else {
            self.serial += 1;
            self.pending.push(Write { serial: self.serial, sector, data: data.to_vec() });
        }
    }

    /// A flush is submitted: what it will make stable.
    pub fn mark(&self) -> u64 {
        self.serial
    }

    /// A flush completes that was submitted at `mark`.
    pub fn flush(&mut self, mark: u64) {
        let n = self.pending.partition_point(|w| w.serial <= mark);
        for w in self.pending.drain(..n) {
            put(&mut self.stable, w.sector, &w.data);
        }
    }

    /// Part of a write takes place, and its completion is an error or never comes.
    pub fn tear(&mut self, rng: &mut Rng, sector: u64, data: &[u8]) {
        for (sector, data) in torn(rng, sector, data) {
            self.write(sector, &data, false);
        }
    }

    /// The power fails while `in_flight` are being written.
    pub fn cut(&mut self, rng: &mut Rng, in_flight: &[(u64, Vec<u8>)]) {
        let all = self.pending.iter().map(|w| (w.sector, &w.data));
        for (sector, data) in all.chain(in_flight.iter().map(|(s, d)| (*s, d))) {
            for (sector, data) in torn(rng, sector, data) {
                put(&mut self.stable, sector, &data);
            }
        }
        for w in self.pending.drain(..) {
            let at = w.sector as usize * SECTOR;
            let range = at..at + w.data.len();
            self.now[range.clone()].copy_from_slice(&self.stable[range]);
        }
        for (sector, data) in in_flight {
            let at = *sector as usize * SECTOR;
            let range = at..at + data.len();
            self.now[range.clone()].copy_from_slice(&self.stable[range]);
        }
    }

    /// The host crashes while `in_flight` are being written, and the disk keeps its power.
    pub fn orphan(&mut self, rng: &mut Rng, in_flight: &[(u64, Vec<u8>)]) {
        for (sector, data) in in_flight {
            self.tear(rng, *sector, data);
        }
    }

    /// Overwrites bytes, stable: for damage.
    pub fn poke(&mut self, sector: u64, data: &[u8]) {
        put(&mut self.now, sector, data);
        put(&mut self.stable, sector, data);
    }
}
