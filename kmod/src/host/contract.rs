// SPDX-License-Identifier: GPL-2.0-only

//! Types and traits that are the same in both hosts: simple types, and the traits whose implementations a
//! host calls.

use super::{Args, Bio, Box, Construction, Device, Error, Mapping, Result, Writer};
use crate::policy::limits::Limits;
use core::ffi::CStr;

/// The operation of a bio.
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

/// How `map` has handled a bio.
pub enum Outcome<P> {
    /// It will be ended later, or has been.
    Submitted,
    /// It was remapped: device-mapper submits it, and calls [`Target::end_io`] when it returns.
    Remapped(Bio<P>),
}

/// How a bio that has returned goes on.
pub enum Returned<P> {
    /// The bio ends with this result.
    Ends(Bio<P>, Result),
    /// The target ends it later.
    Kept,
}

/// Which status is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// The state of the target.
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
    /// The target's own data, kept beside each bio.
    type PerBio: Copy + Default + Send;
    /// A request of a message that has an answer.
    type Question: 'static;

    /// Makes one from its table line.
    ///
    /// # Errors
    /// Why the target cannot be made.
    fn new(ti: &Construction<'_>, args: &Args<'_>) -> core::result::Result<Box<Self>, Refusal>;
    /// Takes a bio. May sleep only as `submit_bio` may.
    fn map(&self, bio: Mapping<'_, Self::PerBio>) -> Outcome<Self::PerBio>;
    /// Is called when a bio has returned or was ended, with its `result`. A bio that is kept comes here again
    /// when it is ended. May be called in any context.
    fn end_io(&self, bio: Bio<Self::PerBio>, result: Result) -> Returned<Self::PerBio>;
    /// Announces a suspend, which waits for bios and messages. With `begins` false the announced suspend does
    /// not take place.
    fn suspending(&self, begins: bool);
    /// The target is about to be dropped. It ends all bios that it still has, and keeps no bio from now on.
    /// Each bio that it ends comes to [`Target::end_io`], so the target must stay whole until this method has
    /// returned.
    fn stop(&self);
    /// All bios have ended, and none will come until [`Target::resume`].
    fn suspended(&self);
    /// Bios come again. `alone` says whether the target is all of its device.
    fn resume(&self, alone: bool);
    /// Writes its status.
    fn status(&self, kind: StatusKind, out: &mut Writer<'_>);
    /// Obeys a message, or returns the question that it asks.
    ///
    /// # Errors
    /// What is wrong with the message, or why it could not be obeyed.
    fn message(&self, args: &Args<'_>) -> Result<Option<Self::Question>>;
    /// Answers a question. A text that does not fit is asked for again, with more room.
    fn answer(&self, question: Self::Question, out: &mut Writer<'_>);
    /// The underlying devices, and how many sectors of each it uses.
    fn devices(&self) -> [(&Device, u64); 2];
    /// The limits of the target. For all limits that are not in [`Limits`], the target has those that each of
    /// its devices can bear. May sleep.
    fn limits(&self) -> Limits;
}

/// How something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// With FUA: the data are on stable storage when the write returns.
    pub fua: bool,
    /// Nothing waits for the write, and the device may hold it back while it serves reads.
    pub background: bool,
}

/// The receiver of the end of a bio.
pub trait EndIo: Send + Sync {
    /// The bio tagged `tag` has returned. May be called in any context, so it must not sleep or take a lock
    /// that threads take.
    fn end_io(&self, tag: usize, result: Result);
}

/// The work that the workers of a [`BioQueue`](super::BioQueue) do.
pub trait Serve: Send + Sync + 'static {
    /// The target's own data beside each bio.
    type PerBio: Send;

    /// A worker takes a bio. May sleep.
    fn serve(&self, bio: Bio<Self::PerBio>);
}

/// The kind of a queue. A bio that passes from one queue to another one of the same kind may take its worker
/// with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// Checksums are compared.
    Check,
    /// The near device is read.
    Near,
    /// The far one is.
    Far,
}

/// A resource that only one volume may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A device, by a number that no other open device has. Two paths to the same bytes are two devices: see
    /// [`Key::Uuid`] and [`Key::Nonce`].
    Device(usize),
    /// The UUID of a volume. It identifies the cache device under any path, and a copy of the cache device
    /// has the same one.
    Uuid([u8; 16]),
    /// The nonce of a format. It distinguishes records of one volume from those of another, and is the same
    /// under any path.
    Nonce(u64),
    /// The right to format. A blank device cannot be told from another path to the same device. With this
    /// key, the second of two formats begins after the first, and finds what the first has written.
    Format,
}

/// A part that is told when the machine hibernates. Its methods are called one at a time, in a context that
/// may sleep.
pub trait Sleeper: Send + Sync {
    /// The machine is about to hibernate, or an image is about to replace this kernel. Tasks still run.
    fn drowse(&self);
    /// User space is frozen, and devices still work. Everything that takes long must end now. If this returns
    /// false, the machine does not hibernate.
    fn rest(&self) -> bool;
    /// All other tasks are frozen too. After this has returned true, nothing is written to any device before
    /// [`Sleeper::wake`]. If it returns false, the machine does not hibernate. From now on it is not known
    /// whether memory is that of an image.
    fn sleep(&self) -> bool;
    /// Memory is not that of an image: this is the kernel that was told to sleep.
    fn stay(&self);
    /// Memory is that of an image. Devices work, except those that need a task: tasks are still frozen.
    fn restored(&self);
    /// Tasks run again, or will soon. This is also called without any of the others before it.
    fn wake(&self);
}

/// How to wait for an [`Event`](super::Event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// A [`Thread`](super::Thread) with nothing to do: also ends when the thread should stop.
    Idle,
    /// A task waits for I/O.
    Busy,
    /// A task waits, and may be sent a signal.
    Interruptible,
}

/// The work of a [`Thread`](super::Thread) with everything that it needs. It is made before the thread is, so
/// that the thread never waits for memory.
pub trait Work: Send {
    /// Runs in the thread until [`should_stop`](super::should_stop).
    fn run(&mut self);
}
