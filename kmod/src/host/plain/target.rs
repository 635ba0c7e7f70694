// SPDX-License-Identifier: GPL-2.0-only

//! A device-mapper target.

use super::context::assert_may_sleep;
use super::{Arc, Bio, Box, Device, Disk, Error, Result, ENODEV};
use crate::engine::limits::Limits;
use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::Write;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::string::String;

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

/// A bio while it is being mapped.
pub struct Mapping<'a, P> {
    pub(super) bio: Bio<P>,
    /// How many of its sectors are taken.
    pub(super) taken: &'a Cell<u64>,
}

impl<P> Mapping<'_, P> {
    /// Takes only the first `sectors` of it; device-mapper sends the rest as another bio. Not for flushes.
    pub fn accept(&mut self, sectors: u64) {
        if sectors < self.bio.sectors() {
            self.bio.shorten(sectors);
            self.taken.set(sectors);
        }
    }

    /// The bio, for keeping it beyond map.
    pub fn into_bio(self) -> Bio<P> {
        self.bio
    }
}

impl<P> Deref for Mapping<'_, P> {
    type Target = Bio<P>;
    fn deref(&self) -> &Bio<P> {
        &self.bio
    }
}

impl<P> DerefMut for Mapping<'_, P> {
    fn deref_mut(&mut self) -> &mut Bio<P> {
        &mut self.bio
    }
}

/// Which status is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// How it is doing.
    Info,
    /// The table line's arguments.
    Table,
}

/// Text for userspace, as long as it gets.
pub struct Writer<'a>(pub(super) &'a mut String);

impl Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0.push_str(s);
        Ok(())
    }
}

/// The words of a table line or a message.
pub struct Args<'a>(pub(super) &'a [CString]);

impl Args<'_> {
    /// All words; `None` for one that is not UTF-8.
    pub fn words(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter().map(|word| word.to_str().ok())
    }

    /// Word `i` as it came.
    pub fn c_str(&self, i: usize) -> Option<&CStr> {
        self.0.get(i).map(CString::as_c_str)
    }
}

/// The target that is being made.
pub struct Construction<'a> {
    pub(super) sectors: u64,
    pub(super) disks: &'a [(&'a str, Arc<dyn Disk>)],
    pub(super) events: &'a Arc<AtomicU64>,
}

impl Construction<'_> {
    /// Size of the target in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// How the target will raise events.
    pub fn events(&self) -> Events {
        Events(self.events.clone())
    }

    /// Opens an underlying device.
    ///
    /// # Errors
    /// `ENODEV` when the table has no disk of this name.
    pub fn device(&self, path: &CStr) -> Result<Device> {
        let is_it = |(name, _): &(&str, Arc<dyn Disk>)| path.to_bytes() == name.as_bytes();
        let number = self.disks.iter().position(is_it).ok_or(ENODEV)?;
        Device::open(self.disks[number].1.clone(), number)
    }
}

/// How a target tells userspace that something has happened.
pub struct Events(Arc<AtomicU64>);

impl Events {
    /// Raises one. Sleeps.
    pub fn raise(&self) {
        assert_may_sleep();
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How many were raised so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
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
    /// Answers a question.
    fn answer(&self, question: Self::Question, out: &mut Writer<'_>);
    /// The underlying devices, and how many sectors of each it uses.
    fn devices(&self) -> [(&Device, u64); 2];
    /// The limits that it shows. All others are what every one of its devices can bear. May sleep.
    fn limits(&self) -> Limits;
}
