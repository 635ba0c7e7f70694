// SPDX-License-Identifier: GPL-2.0-only

//! Why a command failed, with the exit code that a script may rely on.

use devicemapper::{errors, DmError};
use wbformat::error::exit;

/// Exit code: refused, the cache device belongs to another backing device.
pub const EXIT_OTHER_BACKING: u8 = 7;
/// Exit code: there is no such volume.
pub const EXIT_NO_VOLUME: u8 = 8;
/// Exit code: the name, or the volume itself, is active already.
pub const EXIT_EXISTS: u8 = 9;
/// Exit code: the kernel does not have the target, and its module cannot be loaded.
pub const EXIT_NO_MODULE: u8 = 10;
/// Exit code: the kernel refused.
pub const EXIT_KERNEL: u8 = 11;
/// Exit code: stopped by a signal, as shells have it for SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Why a command failed. The message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device was refused or failed.
    #[error(transparent)]
    Device(#[from] wbformat::Error),
    /// An argument has a value that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A volume or device is in use.
    #[error("{0}")]
    InUse(String),
    /// The cache device holds something that is not ours.
    #[error("{0}")]
    Foreign(String),
    /// The cache device holds a volume that cannot be resumed.
    #[error("{0}")]
    Damaged(String),
    /// A size does not fit.
    #[error("{0}")]
    Size(String),
    /// The cache device belongs to another backing device.
    #[error("{0}")]
    OtherBacking(String),
    /// There is no such volume.
    #[error("{0}")]
    NoVolume(String),
    /// The name or the volume is active already.
    #[error("{0}")]
    Exists(String),
    /// The kernel has no such target.
    #[error("{0}")]
    NoModule(String),
    /// The kernel refused; its own words are in the message where it had some.
    #[error("{0}")]
    Kernel(String),
    /// Stopped by a signal.
    #[error("{0}")]
    Interrupted(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The exit code of the command: those of [`wbformat::error::exit`] and the ones here.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Device(e) => e.exit_code(),
            Error::Usage(_) => exit::USAGE,
            Error::InUse(_) => exit::IN_USE,
            Error::Foreign(_) => exit::FOREIGN,
            Error::Damaged(_) => exit::DIRTY,
            Error::Size(_) => exit::SIZE,
            Error::OtherBacking(_) => EXIT_OTHER_BACKING,
            Error::NoVolume(_) => EXIT_NO_VOLUME,
            Error::Exists(_) => EXIT_EXISTS,
            Error::NoModule(_) => EXIT_NO_MODULE,
            Error::Kernel(_) => EXIT_KERNEL,
            Error::Interrupted(_) => EXIT_INTERRUPTED,
            Error::Failed(_) => exit::FAILED,
        }
    }
}

/// The error number of a failed ioctl.
pub(crate) fn errno(error: &DmError) -> Option<nix::Error> {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => Some(**errno),
        _ => None,
    }
}

/// A failed ioctl in words: devicemapper's own has the whole header in it.
pub(crate) fn words(error: &DmError) -> String {
    match errno(error) {
        Some(e) => format!("{} ({e:?})", e.desc()),
        None => error.to_string(),
    }
}
