// SPDX-License-Identifier: GPL-2.0-only

//! Only one daemon runs: a daemon that steers holds a lock, from before its first message to a volume until
//! it ends.
//!
//! # Invariants
//! - Two daemons never hold the lock of the same path. The lock is the kernel's (`flock`), on the file at
//!   that path, and ends with its process.
//! - Removing the file of a running daemon does not allow a second one. Each tick checks whether the file at
//!   the path is still the locked one, makes it anew if it is gone, and ends the daemon if another one has
//!   been faster.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The lock of this machine. Its directory outlives the service, see wbdaemon.service.
pub const PATH: &str = "/run/wbdaemon/lock";

/// The held lock.
#[derive(Debug)]
pub struct Instance {
    path: PathBuf,
    file: File,
}

impl Instance {
    /// Takes the lock at `path`, after making its directory if it is missing.
    ///
    /// # Errors
    /// `ResourceBusy` when another daemon has it, with its PID; the reason when the file cannot be made or
    /// locked.
    pub fn take(path: &Path) -> io::Result<Self> {
        // If the file is removed in between, the next attempt finds its successor.
        for _ in 0..10 {
            let file = open(path).map_err(|e| {
                let hint = if e.kind() == ErrorKind::PermissionDenied { "; it runs as root" } else { "" };
                io::Error::new(
                    e.kind(),
                    format!(
                        "cannot make sure that no other wbdaemon steers, with a lock on {}: {e}{hint}",
                        path.display()
                    ),
                )
            })?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::WouldBlock) => return Err(busy(&file)),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            if is_at(&file, path) {
                // For people, and for the message of the next daemon. The lock holds without it, too.
                let _ = file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id()));
                return Ok(Self { path: path.to_owned(), file });
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, format!("somebody keeps removing {}", path.display())))
    }

    /// Makes sure that this is still the only daemon.
    ///
    /// # Errors
    /// As [`take`](Self::take): then another daemon steers.
    pub fn check(&mut self) -> io::Result<()> {
        if !is_at(&self.file, &self.path) {
            *self = Self::take(&self.path)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        match DirBuilder::new().mode(0o750).create(directory) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => (),
        }
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether `file` is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|m| (m.dev(), m.ino()));
    let ours = identity(file.metadata());
    ours.is_some() && ours == identity(fs::symlink_metadata(path))
}

fn busy(file: &File) -> io::Error {
    let mut text = String::new();
    let pid = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let (who, how) = match pid {
        Some(pid) => (format!(" (PID {pid})"), format!("`kill {pid}`")),
        None => (String::new(), "`kill` it".to_owned()),
    };
    io::Error::new(
        ErrorKind::ResourceBusy,
        format!(
            "another wbdaemon{who} steers on this machine, and there can be only one: end that one first, \
             with `systemctl stop wbdaemon` if it is the service, or {how}; `--dry-run` looks beside it and \
             sets nothing"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wbdaemon/lock");
        let mut first = Instance::take(&path).unwrap();
        let error = Instance::take(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        let words = format!("another wbdaemon (PID {}) steers", std::process::id());
        assert!(error.to_string().contains(&words), "{error}");
        first.check().unwrap();
        drop(first);
        // The file of a dead daemon does not matter.
        assert!(path.exists());
        Instance::take(&path).unwrap();
    }

    #[test]
    fn the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wbdaemon/lock");
        let mut first = Instance::take(&path).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        first.check().unwrap();
        assert_eq!(Instance::take(&path).unwrap_err().kind(), ErrorKind::ResourceBusy, "made anew");
        // Another daemon is faster.
        fs::remove_file(&path).unwrap();
        let _second = Instance::take(&path).unwrap();
        assert_eq!(first.check().unwrap_err().kind(), ErrorKind::ResourceBusy);
    }

    #[test]
    fn where_it_cannot_be() {
        let error = Instance::take(Path::new("/nonexistent/wbdaemon/lock")).unwrap_err().to_string();
        assert!(error.contains("with a lock on /nonexistent/wbdaemon/lock: No such file"), "{error}");
    }
}
