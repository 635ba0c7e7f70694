// SPDX-License-Identifier: GPL-2.0-only

//! Why a command failed, with the exit code that a script may rely on.

use crate::{exit, DeviceError};

/// Why a command failed. The message names the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device was refused or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An argument has an impossible value.
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
    /// The exit code of the command: one of [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Device(e) => e.exit_code(),
            Error::Usage(_) => exit::USAGE,
            Error::InUse(_) => exit::IN_USE,
            Error::Foreign(_) => exit::FOREIGN,
            Error::Damaged(_) => exit::DIRTY,
            Error::Size(_) => exit::SIZE,
            Error::OtherBacking(_) => exit::OTHER_BACKING,
            Error::NoVolume(_) => exit::NO_VOLUME,
            Error::Exists(_) => exit::EXISTS,
            Error::NoModule(_) => exit::NO_MODULE,
            Error::Kernel(_) => exit::KERNEL,
            Error::Interrupted(_) => exit::INTERRUPTED,
            Error::Failed(_) => exit::FAILED,
        }
    }
}
