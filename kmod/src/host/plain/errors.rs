// SPDX-License-Identifier: GPL-2.0-only

//! Error numbers, as the kernel has them.

use crate::host::OutOfMemory;
use core::fmt;

/// An error number: negative, and not below -4095.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

/// A result with one of these errors.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Try again.
pub const EAGAIN: Error = Error(-11);
/// In use.
pub const EBUSY: Error = Error(-16);
/// It is there already.
pub const EEXIST: Error = Error(-17);
/// Not as it must be.
pub const EINVAL: Error = Error(-22);
/// An I/O error.
pub const EIO: Error = Error(-5);
/// No such device.
pub const ENODEV: Error = Error(-19);
/// No memory.
pub const ENOMEM: Error = Error(-12);
/// It cannot be written.
pub const EROFS: Error = Error(-30);
/// A signal came; the system call begins again if the task does not handle the signal.
pub const ERESTARTNOHAND: Error = Error(-514);

impl Error {
    /// The error with this number, which is negative; `EINVAL` if there is none.
    pub fn from_errno(errno: i32) -> Self {
        if (-4095..0).contains(&errno) {
            Self(errno)
        } else {
            EINVAL
        }
    }

    /// Its number, negative.
    pub fn to_errno(self) -> i32 {
        self.0
    }

    /// The error that is left when a bio has carried it: a `blk_status_t` knows only these (`blk_errors` in
    /// block/blk-core.c).
    pub(super) fn as_status(self) -> Self {
        match -self.0 {
            11 | 12 | 16 | 19 | 22 | 28 | 52 | 61 | 62 | 67 | 75 | 78 | 84 | 95 | 109 | 110 | 121 => self,
            _ => EIO,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        ENOMEM
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        e.raw_os_error().map_or(EIO, |errno| Self::from_errno(errno.saturating_neg()))
    }
}

/// The operation is not supported.
pub fn not_supported() -> Error {
    Error(-95)
}

/// The data on the device are damaged.
pub fn damaged() -> Error {
    Error(-117)
}
