// SPDX-License-Identifier: GPL-2.0-only

//! A bio that device-mapper has handed to a target.

use super::device::{Asked, Job, Opened};
use super::sync::locked;
use super::Op;
use super::{crc32c, not_supported, Arc, Device, Pages, Result, EIO};
use crate::format::SECTOR;
use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::Mutex;

/// A place within the data of a bio.
#[derive(Clone, Copy)]
pub struct Cursor {
    /// Its place in the bio's memory, and the length of the data from there on; in bytes.
    at: usize,
    left: usize,
}

impl Cursor {
    pub(super) fn new(at: usize, left: usize) -> Self {
        Self { at, left }
    }

    /// Moves the cursor `len` bytes on, or to the end. Returns start and length of the part that it has
    /// passed.
    fn advance(&mut self, len: usize) -> (usize, usize) {
        let part = (self.at, len.min(self.left));
        self.at += part.1;
        self.left -= part.1;
        part
    }
}

/// Further properties of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    /// For a write: the data are on stable storage when the write ends.
    pub fua: bool,
    /// The request must not wait, for room or the like.
    pub nowait: bool,
    /// No task waits for it.
    pub ahead: bool,
    /// Not every device accepts its layout in memory.
    pub odd: bool,
}

/// The receiver of the end of a bio.
pub(super) trait Whom<P>: Send + Sync {
    /// The bio has returned or was ended. In any context.
    fn ended(&self, bio: Bio<P>, result: Result);
}

/// The contents of a bio.
pub(super) struct Parts<P> {
    pub whom: Arc<dyn Whom<P>>,
    /// The request that it is a part of.
    pub request: Arc<super::dm::Io>,
    pub op: Op,
    pub flags: Flags,
    pub sector: u64,
    pub memory: Pages,
    pub iter: Cursor,
    /// The device that it was directed to, until it has returned.
    pub sent_to: Option<Arc<Opened>>,
    pub data: P,
}

/// A clone that device-mapper made for the target, with the target's own data `P` beside it. The owner of a
/// `Bio` must end it; dropping it ends it with an I/O error.
// It has its parts until it is ended.
pub struct Bio<P>(Option<Box<Parts<P>>>);

impl<P> Bio<P> {
    pub(super) fn first(parts: Parts<P>) -> Self {
        Self(Some(Box::new(parts)))
    }

    /// Takes a bio that was ended, or has returned from the device that it was sent to.
    pub(super) fn again(mut self) -> Self {
        if let Some(device) = self.parts_mut().sent_to.take() {
            device.traffic().returned();
        }
        self
    }

    fn parts(&self) -> &Parts<P> {
        self.0.as_deref().expect("a bio has its parts")
    }

    fn parts_mut(&mut self) -> &mut Parts<P> {
        self.0.as_deref_mut().expect("a bio has its parts")
    }

    /// Ends the bio, and returns its request.
    pub(super) fn into_request(mut self) -> Arc<super::dm::Io> {
        self.0.take().expect("a bio has its parts").request
    }

    /// Makes it end after `sectors` sectors.
    pub(super) fn shorten(&mut self, sectors: u64) {
        let left = sectors as usize * SECTOR;
        let iter = &mut self.parts_mut().iter;
        assert!(left != 0 && left < iter.left, "a bio is made shorter, and never empty");
        iter.left = left;
    }

    /// The target's own data of this bio.
    pub fn data(&mut self) -> &mut P {
        &mut self.parts_mut().data
    }

    /// Its operation.
    pub fn op(&self) -> Op {
        self.parts().op
    }

    /// Whether a write must be on stable storage before it ends.
    pub fn is_fua(&self) -> bool {
        self.parts().flags.fua
    }

    /// Whether its submitter may be made to wait.
    pub fn may_wait(&self) -> bool {
        !self.parts().flags.nowait
    }

    /// Whether no task waits for it: it is a read-ahead, and its end may be an error for any reason.
    pub fn is_ahead(&self) -> bool {
        self.parts().flags.ahead
    }

    /// Whether a bio that is submitted now, within map, goes to its device as soon as map is over: here it
    /// always does.
    pub fn submits_now(&self) -> bool {
        true
    }

    /// First sector, from the start of the target.
    pub fn sector(&self) -> u64 {
        self.parts().sector
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        (self.parts().iter.left / SECTOR) as u64
    }

    /// The start of its data.
    pub fn start(&self) -> Cursor {
        self.parts().iter
    }

    /// Copies the data at the cursor into `to`, and moves the cursor behind them.
    pub fn read(&self, at: &mut Cursor, to: &mut [u8]) {
        let (from, len) = at.advance(to.len());
        let copied = self.parts().memory.with(from, len, |from| to[..len].copy_from_slice(from));
        assert!(copied.is_some(), "the cursor is of another bio");
    }

    /// Copies `from` to the place of the cursor, and moves the cursor behind it.
    pub fn write(&self, at: &mut Cursor, from: &[u8]) {
        let (to, len) = at.advance(from.len());
        let copied = self.parts().memory.with_mut(to, len, |to| to.copy_from_slice(&from[..len]));
        assert!(copied.is_some(), "the cursor is of another bio");
    }

    /// Moves the cursor `len` bytes on.
    pub fn skip(&self, at: &mut Cursor, len: usize) {
        at.advance(len);
    }

    /// CRC-32C of the `len` bytes at the cursor, and moves it behind them.
    pub fn crc32c(&self, at: &mut Cursor, len: usize) -> u32 {
        let (from, len) = at.advance(len);
        self.parts().memory.with(from, len, |from| crc32c(0, from)).expect("the cursor is of another bio")
    }

    /// Whether `device` accepts the bio as it lies in memory. Otherwise the device would refuse it.
    pub fn fits(&self, device: &Device) -> bool {
        !self.parts().flags.odd || device.opened().takes_odd()
    }

    /// Directs it to `sector` of `device`, which is one of the target's. The bio still has to be returned to
    /// device-mapper as remapped.
    pub fn remap(&mut self, device: &Device, sector: u64) {
        device.traffic().sent();
        let parts = self.parts_mut();
        assert!(parts.sent_to.is_none(), "it was remapped before, and has not returned");
        parts.sent_to = Some(device.opened().clone());
        parts.sector = sector;
    }

    /// Whether it must be on stable storage before it ends, if it is a write.
    pub fn set_fua(&mut self, fua: bool) {
        self.parts_mut().flags.fua = fua;
    }

    /// Restores a bio that has returned to its state when it came: at `sector` of the target, and with the
    /// data from `start` on.
    pub fn take_back(&mut self, sector: u64, start: Cursor) {
        let parts = self.parts_mut();
        parts.sector = sector;
        parts.iter = start;
    }

    /// Ends it.
    pub fn end(self, result: Result) {
        let whom = self.parts().whom.clone();
        whom.ended(self, result);
    }
}

impl<P: Send + 'static> Bio<P> {
    /// Sends it to the device that it was remapped to.
    pub(super) fn send(self) {
        let device = self.parts().sent_to.clone().expect("it is remapped");
        if self.parts().flags.odd && !device.takes_odd() {
            // The block layer refuses the bio without asking the device.
            return self.end(Err(EIO));
        }
        device.push(Box::new(Sent(self)));
    }
}

impl<P> Drop for Bio<P> {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            Self(Some(parts)).end(Err(EIO));
        }
    }
}

/// A bio that was remapped and is under way.
struct Sent<P>(Bio<P>);

impl<P: Send> Job for Sent<P> {
    fn run(&mut self, asked: &Asked<'_>) -> Result {
        let parts = self.0.parts_mut();
        let Cursor { at, left } = parts.iter;
        let result = match parts.op {
            Op::Read => parts.memory.with_mut(at, left, |to| asked.read(parts.sector, to)),
            Op::Write => parts.memory.with(at, left, |from| asked.write(parts.sector, from, parts.flags.fua)),
            Op::Flush => Some(asked.flush()),
            Op::Other => Some(Err(not_supported())),
        };
        // As in the kernel, a bio that returns has lost its original sector and data.
        parts.sector += (left / SECTOR) as u64;
        parts.iter.advance(left);
        result.unwrap_or(Err(EIO))
    }

    fn end(self: Box<Self>, result: Result) {
        self.0.end(result);
    }
}

/// Bios in the order in which they came.
pub struct BioList<P>(VecDeque<Bio<P>>);

impl<P> BioList<P> {
    /// An empty list.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Whether the list has no bio.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a bio.
    pub fn push(&mut self, bio: Bio<P>) {
        self.0.push_back(bio);
    }

    /// Puts a bio in front.
    pub fn push_front(&mut self, bio: Bio<P>) {
        self.0.push_front(bio);
    }

    /// Takes the first bio.
    pub fn pop(&mut self) -> Option<Bio<P>> {
        self.0.pop_front()
    }

    /// The own data of the first bio.
    pub fn front(&mut self) -> Option<&mut P> {
        self.0.front_mut().map(Bio::data)
    }

    /// Takes all bios.
    pub fn take(&mut self) -> Self {
        Self(core::mem::take(&mut self.0))
    }
}

impl<P> Default for BioList<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bios that devices have returned and that are to be ended later. Any context may put a bio there; one
/// thread takes them all.
pub struct BioStack<P>(Mutex<VecDeque<Bio<P>>>);

impl<P> BioStack<P> {
    /// An empty stack.
    pub const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Puts a bio on the stack. In any context.
    pub fn push(&self, bio: Bio<P>) {
        at_an_atomic();
        locked(&self.0).push_front(bio);
    }

    /// Puts all bios of a list on the stack; the list was taken from such a stack. In any context.
    pub fn push_all(&self, mut list: BioList<P>) {
        at_an_atomic();
        let mut bios = locked(&self.0);
        while let Some(bio) = list.0.pop_back() {
            bios.push_front(bio);
        }
    }

    /// Takes all bios, the latest first.
    pub fn take(&self) -> BioList<P> {
        at_an_atomic();
        BioList(core::mem::take(&mut *locked(&self.0)))
    }
}

/// In the kernel a stack is one atomic word. Tasks of a simulation take turns there, as at each atomic.
fn at_an_atomic() {
    #[cfg(feature = "races")]
    super::simulation::may_give_way();
}

impl<P> Default for BioStack<P> {
    fn default() -> Self {
        Self::new()
    }
}
