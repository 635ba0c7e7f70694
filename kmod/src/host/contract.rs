// SPDX-License-Identifier: GPL-2.0-only

//! What both hosts say with the same words: kinds of things, and what somebody has to be able to do whom they call.

use super::{Args, Bio, Box, Construction, Device, Error, Mapping, Result, Writer};
use crate::policy::limits::Limits;
use core::ffi::CStr;

/// What a bio asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Read,
    /// Write, perhaps with FUA.
    Write,
    /// Flush, without data.
    Flush,
    /// Anything else; device-mapper does not send it unless a target asks for it.
    Other,
}

/// What map has done with a bio.
pub enum Outcome<P> {
    /// It will be ended later, or has been.
    Submitted,
    /// It was remapped: device-mapper submits it, and calls [`Target::end_io`] when it returns.
    Remapped(Bio<P>),
}

/// What becomes of a bio that has returned.
pub enum Returned<P> {
    /// It ends so.
    Ends(Bio<P>, Result),
    /// The target ends it later.
    Kept,
}

/// Which status is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// How it is doing.
    Info,
    /// The table line's arguments.
    Table,
}

/// Why a target cannot be made: a message for people, and an error number.
pub type Refusal = (&'static CStr, Error);

/// A kind of target.
pub trait Target: Send + Sync + Sized + 'static {
    /// Its name in table lines.
    const NAME: &'static CStr;
    /// Its version.
    const VERSION: [u32; 3];
    /// What it keeps beside each bio.
    type PerBio: Copy + Default + Send;
    /// What a message can ask for that is answered.
    type Question: 'static;

    /// Makes one from its table line.
    ///
    /// # Errors
    /// Why not.
    fn new(ti: &Construction<'_>, args: &Args<'_>) -> core::result::Result<Box<Self>, Refusal>;
    /// Takes a bio. May sleep only as `submit_bio` may.
    fn map(&self, bio: Mapping<'_, Self::PerBio>) -> Outcome<Self::PerBio>;
    /// A bio has returned or was ended, with `result`. A bio that is kept comes here again when it is ended. In any
    /// context.
    fn end_io(&self, bio: Bio<Self::PerBio>, result: Result) -> Returned<Self::PerBio>;
    /// There is going to be a suspend, which waits for bios and messages; or not after all, if not `begins`.
    fn suspending(&self, begins: bool);
    /// It is about to be dropped: ends whatever bios there are still, and sees to it that it keeps none any more. They come
    /// to [`Target::end_io`] by that, and so it must be whole until this is over.
    fn stop(&self);
    /// All bios have ended, and none will come until [`Target::resume`].
    fn suspended(&self);
    /// Bios come again. The target is all of its device if it is `alone`.
    fn resume(&self, alone: bool);
    /// Writes its status.
    fn status(&self, kind: StatusKind, out: &mut Writer<'_>);
    /// Obeys a message, or says what it asks for.
    ///
    /// # Errors
    /// What is wrong with the message or kept it from being obeyed.
    fn message(&self, args: &Args<'_>) -> Result<Option<Self::Question>>;
    /// Answers a question. A text that does not fit is asked for again, with more room.
    fn answer(&self, question: Self::Question, out: &mut Writer<'_>);
    /// The underlying devices, and how many sectors of each it uses.
    fn devices(&self) -> [(&Device, u64); 2];
    /// The limits that it shows. All others are what every one of its devices can bear. May sleep.
    fn limits(&self) -> Limits;
}

/// How something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// With FUA: it is on stable storage when it returns.
    pub fua: bool,
    /// Nobody waits for it, and it may be held back while others read from the device.
    pub background: bool,
}

/// Who is told that a bio has returned.
pub trait EndIo: Send + Sync {
    /// The bio tagged `tag` has returned. In any context: nothing here may sleep or take a lock that threads take.
    fn end_io(&self, tag: usize, result: Result);
}

/// What the workers of a [`BioQueue`](super::BioQueue) do.
pub trait Serve: Send + Sync + 'static {
    /// What the target keeps beside each bio.
    type PerBio: Send;

    /// A worker takes a bio. May sleep.
    fn serve(&self, bio: Bio<Self::PerBio>);
}

/// Of what kind a queue is: a bio that passes from one to another one of the same kind may take its worker with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// Checksums are compared.
    Check,
    /// The near device is read.
    Near,
    /// The far one is.
    Far,
}

/// What only one volume may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A device, by what tells it from others that are open. Two paths to the same bytes are two devices: see
    /// [`Key::Uuid`] and [`Key::Nonce`].
    Device(usize),
    /// The UUID of a volume, by which its cache device is known under any path, and so is a copy of it.
    Uuid([u8; 16]),
    /// The nonce of a format, likewise: it is what tells records of one volume from those of another.
    Nonce(u64),
    /// The right to format. A device that is blank cannot be told from another path to it; with this, who comes second finds
    /// what the first has written.
    Format,
}

/// Somebody who has to know when the machine hibernates. Called one at a time, where one may sleep.
pub trait Sleeper: Send + Sync {
    /// The machine is about to hibernate, or this kernel to be replaced by an image; tasks still run.
    fn drowse(&self);
    /// User space rests, and devices work: whatever takes long ends. False when that cannot be had, and then the machine does not
    /// hibernate.
    fn rest(&self) -> bool;
    /// All other tasks rest. When this has returned true, nothing is written to any device before [`Sleeper::wake`]; false when
    /// that cannot be had, and then the machine does not hibernate. Whether memory is that of an image is not known from then on.
    fn sleep(&self) -> bool;
    /// It is not: this is the kernel that was told to sleep.
    fn stay(&self);
    /// It is, and devices work, but for those that need a task: these still rest.
    fn restored(&self);
    /// Tasks run again, or will soon. Also called without any of the others before.
    fn wake(&self);
}

/// How to wait for an [`Event`](super::Event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// A [`Thread`](super::Thread) with nothing to do: also ends when the thread should stop.
    Idle,
    /// Somebody waits for I/O.
    Busy,
    /// Somebody waits who may be sent a signal.
    Interruptible,
}

/// What a [`Thread`](super::Thread) does, and all that it works with: made before the thread is, so that it never waits for memory.
pub trait Work: Send {
    /// Runs in the thread until [`should_stop`](super::should_stop).
    fn run(&mut self);
}
