// SPDX-License-Identifier: GPL-2.0-only

//! The storage of a device: a file, or memory. Tests have others.

use super::sync::locked;
use super::{Result, EIO};
use crate::format::SECTOR;
use crate::policy::limits::{Limits, Shape};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::vec::Vec;

/// A disk. Several threads ask it at the same time, and it may let them wait as long as it likes. It is asked
/// only for whole logical blocks within its size.
pub trait Disk: Send + Sync + 'static {
    /// The properties that decide whether the disk can be used. The size of a disk does not change.
    fn shape(&self) -> Shape;
    /// The limits of a device over this one alone.
    fn limits(&self) -> Limits;
    /// How many requests are at the disk at the same time; others wait for their turn. 0 if the disk answers
    /// at once: then a request ends where it is sent, before the call that sends it returns.
    fn at_a_time(&self) -> usize {
        8
    }
    /// Reads from `sector` on.
    ///
    /// # Errors
    /// Those of the disk; `to` may hold anything then.
    fn read(&self, sector: u64, to: &mut [u8]) -> Result;
    /// Writes from `sector` on, with `fua` to stable storage.
    ///
    /// # Errors
    /// Those of the disk; any of the sectors may be old, new, or damaged then.
    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result;
    /// Brings all data that were written before to stable storage.
    ///
    /// # Errors
    /// Those of the disk; data written before may be lost then.
    fn flush(&self) -> Result;
}

/// The limits of a disk of 512-byte blocks without special properties.
fn plain_limits() -> Limits {
    let most = u32::MAX >> 9;
    Limits {
        logical_block: SECTOR as u32,
        physical_block: SECTOR as u32,
        io_min: SECTOR as u32,
        max_hw_sectors: most,
        max_dev_sectors: most,
        ..Limits::default()
    }
}

fn plain_shape(sectors: u64) -> Shape {
    Shape { sectors, logical_block: SECTOR as u32, zoned: false, read_only: false }
}

/// A disk in memory, zero at first. Data are on stable storage as soon as they are written.
pub struct MemoryDisk(Mutex<Vec<u8>>);

impl MemoryDisk {
    /// A disk of `sectors` sectors.
    pub fn new(sectors: usize) -> Self {
        Self(Mutex::new(std::vec![0; sectors * SECTOR]))
    }

    /// A disk with these bytes, whole sectors.
    pub fn with(bytes: Vec<u8>) -> Self {
        assert!(bytes.len() % SECTOR == 0, "a disk has whole sectors");
        Self(Mutex::new(bytes))
    }

    /// A copy of its contents.
    pub fn bytes(&self) -> Vec<u8> {
        locked(&self.0).clone()
    }
}

impl Disk for MemoryDisk {
    fn shape(&self) -> Shape {
        plain_shape((locked(&self.0).len() / SECTOR) as u64)
    }

    fn limits(&self) -> Limits {
        plain_limits()
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        let bytes = locked(&self.0);
        let from =
            usize::try_from(sector).ok().and_then(|s| bytes.get(s.checked_mul(SECTOR)?..)?.get(..to.len()));
        to.copy_from_slice(from.ok_or(EIO)?);
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], _fua: bool) -> Result {
        let mut bytes = locked(&self.0);
        let to = usize::try_from(sector)
            .ok()
            .and_then(|s| bytes.get_mut(s.checked_mul(SECTOR)?..)?.get_mut(..from.len()));
        to.ok_or(EIO)?.copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result {
        Ok(())
    }
}

/// A disk that is a file or a block device.
pub struct FileDisk {
    file: File,
    sectors: u64,
}

impl FileDisk {
    /// The file at `path`, as large as it is now.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::new(File::options().read(true).write(true).open(path)?)
    }

    /// A file that is open for reading and writing, as large as it is now.
    ///
    /// # Errors
    /// When its size cannot be had.
    pub fn new(file: File) -> std::io::Result<Self> {
        use std::io::Seek;
        // Only seeking also finds the size of a block device.
        let bytes = (&file).seek(std::io::SeekFrom::End(0))?;
        Ok(Self { file, sectors: bytes / SECTOR as u64 })
    }

    fn offset(sector: u64) -> Result<u64> {
        sector.checked_mul(SECTOR as u64).ok_or(EIO)
    }
}

impl Disk for FileDisk {
    fn shape(&self) -> Shape {
        plain_shape(self.sectors)
    }

    fn limits(&self) -> Limits {
        plain_limits()
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        Ok(self.file.read_exact_at(to, Self::offset(sector)?)?)
    }

    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        self.file.write_all_at(from, Self::offset(sector)?)?;
        if fua {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result {
        Ok(self.file.sync_data()?)
    }
}
