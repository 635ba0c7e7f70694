// SPDX-License-Identifier: GPL-2.0-only

//! Why a device was refused or failed.

use crate::{exit, signature::Signature, users::User};
use std::{fmt, io, path::PathBuf};
use writeboost::format::Invalid;
use writeboost::policy::limits::Unfit;

/// Why a device was refused or failed. The message names the next step.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A system call failed.
    #[error("{path}: cannot {what}: {source}", path = path.display())]
    Io {
        /// The device or file.
        path: PathBuf,
        /// The operation, as a verb.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Neither a block device nor a regular file.
    #[error("{path}: neither a block device nor a regular file", path = .0.display())]
    NotADevice(PathBuf),
    /// The device is in use. No `--force` changes that.
    #[error("{path}: in use: {by}; stop that first, --force does not help",
        path = path.display(), by = list(by))]
    InUse {
        /// The device.
        path: PathBuf,
        /// Its users, as far as they are known.
        by: Vec<User>,
    },
    /// The device has a signature that libblkid knows.
    #[error(
        "{path}: holds {found}; use --force to overwrite it", path = path.display(), found = list(found)
    )]
    Foreign {
        /// The device.
        path: PathBuf,
        /// The signatures that were found.
        found: Vec<Signature>,
    },
    /// The device holds a log that is not empty.
    #[error("{path}: volume {volume} has {what} here; {advice}", path = path.display())]
    Dirty {
        /// The device.
        path: PathBuf,
        /// Name or UUID of the volume.
        volume: String,
        /// How much is dirty, in words.
        what: String,
        /// Advice for the next step.
        advice: &'static str,
    },
    /// The device has our magic, but its contents cannot be read: it may well be dirty.
    #[error(
        "{path}: holds a writeboost volume, but {part}: {invalid}. Whether it has dirty data cannot be told; \
         to give up what is on it use --force --force", path = path.display()
    )]
    Damaged {
        /// The device.
        path: PathBuf,
        /// The damaged part.
        part: &'static str,
        /// The kind of damage.
        invalid: Invalid,
    },
    /// A size does not fit; the message says which, and which size would.
    #[error("{0}")]
    Size(String),
    /// A device cannot be used.
    #[error("{path}: cannot be used: {unfit}", path = path.display())]
    Unfit {
        /// The device.
        path: PathBuf,
        /// Why.
        unfit: Unfit,
    },
    /// The backing device is a cache device of another volume.
    #[error(
        "{path}: is a cache device of writeboost, so it cannot be a backing device. Are the two exchanged? \
         If it is none any more, and nothing on it is needed: wipe its first 4096 bytes", path = .0.display()
    )]
    Exchanged(PathBuf),
    /// Cache and backing device share bytes.
    #[error("{0}")]
    Overlap(String),
    /// An argument has an impossible value.
    #[error("{0}")]
    Usage(String),
    /// libblkid itself failed.
    #[error("{path}: cannot look for signatures: {what}", path = path.display())]
    Blkid {
        /// The device.
        path: PathBuf,
        /// Its message.
        what: String,
    },
}

impl DeviceError {
    /// The exit code of the command, one of [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            DeviceError::Io { .. } | DeviceError::NotADevice(_) | DeviceError::Blkid { .. } => exit::FAILED,
            DeviceError::InUse { .. } => exit::IN_USE,
            DeviceError::Foreign { .. } => exit::FOREIGN,
            DeviceError::Dirty { .. } | DeviceError::Damaged { .. } => exit::DIRTY,
            DeviceError::Size(_) | DeviceError::Unfit { .. } => exit::SIZE,
            DeviceError::Exchanged(_) | DeviceError::Overlap(_) | DeviceError::Usage(_) => exit::USAGE,
        }
    }
}

/// `items`, separated by commas.
fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
