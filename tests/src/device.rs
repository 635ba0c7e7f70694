//! Block devices without the page cache between: what was written is what the device was told.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{bail, Context, Result};
use nix::fcntl::OFlag;

/// What direct I/O wants memory to be aligned to, at most.
const ALIGN: usize = 4096;

/// Memory for direct I/O.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    offset: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let offset = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, offset, len }
    }

    /// The first `len` bytes.
    #[must_use]
    pub fn first(&self, len: usize) -> &[u8] {
        &self.bytes[self.offset..self.offset + len.min(self.len)]
    }

    /// The first `len` bytes.
    pub fn first_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + len.min(self.len)]
    }
}

/// A block device, opened twice: writes through one of the two are durable when they return.
#[derive(Debug)]
pub struct Device {
    plain: File,
    durable: File,
    bytes: u64,
}

impl Device {
    /// Opens the block device `path`. Anything else is an error: a test must not write to a plain file in
    /// `/dev`.
    pub fn open(path: &Path) -> Result<Self> {
        let open = |flags: OFlag| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags((flags | OFlag::O_DIRECT).bits())
                .open(path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        let plain = open(OFlag::empty())?;
        if !plain.metadata()?.file_type().is_block_device() {
            bail!("{} is no block device", path.display());
        }
        let bytes = std::io::Seek::seek(&mut &plain, std::io::SeekFrom::End(0))?;
        Ok(Self { plain, durable: open(OFlag::O_DSYNC)?, bytes })
    }

    /// How large it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads all of `buffer` from byte `at` on.
    pub fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.plain.read_exact_at(buffer, at).with_context(|| format!("cannot read at byte {at}"))
    }

    /// Writes all of `buffer` at byte `at`; `durable` says whether it must be durable when this returns.
    pub fn write(&self, buffer: &[u8], at: u64, durable: bool) -> Result<()> {
        let file = if durable { &self.durable } else { &self.plain };
        file.write_all_at(buffer, at).with_context(|| format!("cannot write at byte {at}"))
    }

    /// Makes everything durable that was written.
    pub fn sync(&self) -> Result<()> {
        self.plain.sync_all().context("cannot sync")
    }
}
