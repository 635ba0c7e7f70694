// SPDX-License-Identifier: GPL-2.0-only

//! A device-mapper target.

use super::context::assert_may_sleep;
use super::{Arc, Bio, Device, Disk, Result, ENODEV};
use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::Write;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::string::String;

/// A bio while it is being mapped.
pub struct Mapping<'a, P> {
    pub(super) bio: Bio<P>,
    /// The number of sectors that are taken.
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

/// Text for userspace, without a limit of length.
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

    /// Word `i`, unchanged.
    pub fn c_str(&self, i: usize) -> Option<&CStr> {
        self.0.get(i).map(CString::as_c_str)
    }
}

/// The target under construction.
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

    /// Lets the target raise events later.
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

/// Tells userspace that something has happened to a target.
pub struct Events(Arc<AtomicU64>);

impl Events {
    /// Raises an event. Sleeps.
    pub fn raise(&self) {
        assert_may_sleep();
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// How many were raised so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
