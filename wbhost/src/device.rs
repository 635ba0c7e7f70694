// SPDX-License-Identifier: GPL-2.0-only

//! An open block device, or a regular file that stands for one.

use crate::{
    host::{DevNo, Host, Kind},
    users, DeviceError,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom},
    os::fd::AsRawFd,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use writeboost::format::{BLOCK, SECTOR};
use writeboost::policy::{
    limits::Shape,
    lost::{insist_or_loss, Loss},
};

/// How to open a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading only; others may use the device.
    Read,
    /// For writing, or to make sure that no other process writes, for as long as the device is open.
    Exclusive,
}

/// An open device.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    file: File,
    kind: Kind,
    shape: Shape,
}

impl Device {
    /// Opens the device at `path`.
    ///
    /// # Errors
    /// [`DeviceError::InUse`] when the device is in use and `access` is [`Access::Exclusive`],
    /// [`DeviceError::NotADevice`], [`DeviceError::Io`].
    pub fn open(host: &Host, path: &Path, access: Access) -> Result<Self, DeviceError> {
        let io = |what| move |source| DeviceError::Io { path: path.to_owned(), what, source };
        // Metadata first: opening a pipe would hang, opening a directory gives an unhelpful message.
        let meta = fs::metadata(path).map_err(io("open"))?;
        let kind = if meta.file_type().is_block_device() {
            Kind::Block(DevNo::from_rdev(meta.rdev()))
        } else if meta.is_file() {
            Kind::File
        } else {
            return Err(DeviceError::NotADevice(path.to_owned()));
        };
        if access == Access::Exclusive {
            let by = users::of(host, path, kind);
            if !by.is_empty() {
                return Err(DeviceError::InUse { path: path.to_owned(), by });
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Exclusive);
        if access == Access::Exclusive && kind != Kind::File {
            // On a block device, O_EXCL without O_CREAT claims it as a file system does.
            options.custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
        }
        let mut file = options.open(path).map_err(|source| {
            if source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) {
                DeviceError::InUse { path: path.to_owned(), by: vec![users::User::Unknown] }
            } else {
                io(if access == Access::Read { "open" } else { "open for writing" })(source)
            }
        })?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(io("find the size"))?;
        let logical_block = match kind {
            Kind::Block(_) => {
                rustix::fs::ioctl_blksszget(&file).map_err(|e| io("find the block size")(e.into()))?
            }
            Kind::File => SECTOR as u32,
        };
        // The page cache may hold data older than those that device-mapper wrote past it. This is only
        // advice, so it may fail.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let says = |attribute, none| match kind {
            Kind::Block(number) => host.says(number, attribute).is_some_and(|value| value != none),
            Kind::File => false,
        };
        let shape = Shape {
            sectors: bytes / SECTOR as u64,
            logical_block,
            zoned: says("queue/zoned", "none"),
            read_only: says("ro", "0"),
        };
        Ok(Self { path: path.to_owned(), file, kind, shape })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is a block device or a file.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its number; `None` for a regular file.
    pub fn number(&self) -> Option<DevNo> {
        match self.kind {
            Kind::Block(n) => Some(n),
            Kind::File => None,
        }
    }

    /// Its size in whole sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.shape.sectors
    }

    /// The properties that decide whether the device can be used.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Bytes that it writes whole or not at all: its logical block size.
    pub fn logical_block(&self) -> u32 {
        self.shape.logical_block
    }

    /// Fills `buf` from byte `offset` on.
    ///
    /// # Errors
    /// [`DeviceError::Io`], also when the device ends before.
    pub fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), DeviceError> {
        self.file.read_exact_at(buf, offset).map_err(|e| self.io("read", e))
    }

    /// As [`Device::read`]. Returns false when the medium cannot return the data: each attempt got the
    /// medium's own error.
    ///
    /// # Errors
    /// [`DeviceError::Io`]: any other error.
    pub fn read_if_there(&self, buf: &mut [u8], offset: u64) -> Result<bool, DeviceError> {
        self.read_or_loss(buf, offset).map(|read| read.is_ok())
    }

    /// As [`Device::read_if_there`], and returns the kind of loss.
    ///
    /// # Errors
    /// [`DeviceError::Io`]: any other error.
    pub fn read_or_loss(&self, buf: &mut [u8], offset: u64) -> Result<Result<(), Loss>, DeviceError> {
        if self.file.read_exact_at(buf, offset).is_ok() {
            return Ok(Ok(()));
        }
        // The page cache does not keep the disk's own error.
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
            .open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let Ok(direct) = direct else { return self.read(buf, offset).map(Ok) };
        // Aligned memory, which direct reads need.
        let mut room = vec![0; buf.len() + BLOCK];
        let skip = room.as_ptr().align_offset(BLOCK);
        let from = &mut room[skip..skip + buf.len()];
        let read = insist_or_loss(|| direct.read_exact_at(from, offset), |e| e.raw_os_error().unwrap_or(0))
            .map_err(|e| self.io("read", e))?;
        if read.is_ok() {
            buf.copy_from_slice(from);
        }
        Ok(read)
    }

    /// Reads the sector at the start of `block`; `None` when the medium cannot return it.
    ///
    /// # Errors
    /// [`DeviceError::Io`]: any other error.
    pub fn read_sector_if_there(&self, block: u64) -> Result<Option<[u8; SECTOR]>, DeviceError> {
        let mut b = [0; BLOCK];
        let is_there = self.read_if_there(&mut b, block * BLOCK as u64)?;
        Ok(b.first_chunk().copied().filter(|_| is_there))
    }

    /// Reads the sector at the start of `block`.
    ///
    /// # Errors
    /// [`DeviceError::Io`].
    pub fn read_sector(&self, block: u64) -> Result<[u8; SECTOR], DeviceError> {
        let mut b = [0; SECTOR];
        self.read(&mut b, block * BLOCK as u64)?;
        Ok(b)
    }

    /// Writes `buf` at byte `offset`; durable only after [`Device::flush`].
    ///
    /// # Errors
    /// [`DeviceError::Io`].
    pub fn write(&self, buf: &[u8], offset: u64) -> Result<(), DeviceError> {
        self.file.write_all_at(buf, offset).map_err(|e| self.io("write", e))
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// [`DeviceError::Io`].
    pub fn flush(&self) -> Result<(), DeviceError> {
        self.file.sync_all().map_err(|e| self.io("flush", e))
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> DeviceError {
        DeviceError::Io { path: self.path.clone(), what, source }
    }
}
