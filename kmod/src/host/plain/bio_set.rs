// SPDX-License-Identifier: GPL-2.0-only

//! I/O of our own.

use super::context::assert_may_sleep;
use super::device::{Asked, Job, Opened};
use super::{Arc, Device, Ending, Pages, Result, EINVAL, EIO};
use super::{EndIo, How};
use std::boxed::Box;

/// Most bytes of one bio.
pub const MAX_BYTES: usize = 256 * 4096;

/// The source of bios of our own. Here there is always memory for them.
pub struct BioSet(());

/// The operation of such a bio.
enum What {
    Read,
    Write { fua: bool },
    Flush,
}

/// A bio of our own.
struct Own<E> {
    what: What,
    sector: u64,
    /// None for a flush.
    memory: Option<(Pages, usize, usize)>,
    device: Arc<Opened>,
    whom: Arc<E>,
    tag: usize,
}

impl<E: EndIo> Job for Own<E> {
    fn run(&mut self, asked: &Asked<'_>) -> Result {
        let result = match (&self.what, &self.memory) {
            (What::Read, Some((pages, offset, len))) => {
                pages.with_mut(*offset, *len, |to| asked.read(self.sector, to))
            }
            (What::Write { fua }, Some((pages, offset, len))) => {
                pages.with(*offset, *len, |from| asked.write(self.sector, from, *fua))
            }
            _ => Some(asked.flush()),
        };
        result.unwrap_or(Err(EIO))
    }

    fn end(self: Box<Self>, result: Result) {
        let _ending = Ending::begin();
        let Self { device, whom, tag, .. } = *self;
        device.traffic().returned();
        whom.end_io(tag, result);
        // The receiver's reference must not be the last one here: see `wait_for_io_ends`.
        assert!(Arc::strong_count(&whom) > 1, "what I/O was for has gone before its end");
        drop(whom);
    }
}

impl BioSet {
    /// A pool that always has `reserve` bios.
    ///
    /// # Errors
    /// None; the kernel's may have no memory.
    pub fn new(_reserve: u32) -> Result<Self> {
        Ok(Self(()))
    }

    fn submit<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        (pages, offset, len): (&Pages, usize, usize),
        what: What,
        (whom, tag): (&Arc<E>, usize),
    ) {
        if len == 0 || offset > pages.len() || len > pages.len() - offset || len > MAX_BYTES {
            whom.end_io(tag, Err(EINVAL));
            return;
        }
        Self::send(device, what, sector, Some((pages.share(), offset, len)), (whom, tag));
    }

    fn send<E: EndIo + 'static>(
        device: &Device,
        what: What,
        sector: u64,
        memory: Option<(Pages, usize, usize)>,
        (whom, tag): (&Arc<E>, usize),
    ) {
        assert_may_sleep();
        device.traffic().sent();
        let device = device.opened();
        let own = Own { what, sector, memory, device: device.clone(), whom: whom.clone(), tag };
        device.push(Box::new(own));
    }

    /// Reads `len` bytes at `sector` into `pages`, from `offset` on. `len` is at most [`MAX_BYTES`] and whole
    /// sectors. May sleep.
    pub fn read<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        part: (&Pages, usize, usize),
        whom: (&Arc<E>, usize),
    ) {
        self.submit(device, sector, part, What::Read, whom);
    }

    /// Writes `len` bytes of `pages`, from `offset` on, to `sector`. `len` is at most [`MAX_BYTES`] and whole
    /// sectors. The bytes are read from `pages` when the disk is asked. May sleep.
    pub fn write<E: EndIo + 'static>(
        &self,
        device: &Device,
        sector: u64,
        part: (&Pages, usize, usize),
        how: How,
        whom: (&Arc<E>, usize),
    ) {
        self.submit(device, sector, part, What::Write { fua: how.fua }, whom);
    }

    /// Flushes the device's write cache. May sleep.
    pub fn flush<E: EndIo + 'static>(&self, device: &Device, _background: bool, whom: (&Arc<E>, usize)) {
        Self::send(device, What::Flush, 0, None, whom);
    }
}
