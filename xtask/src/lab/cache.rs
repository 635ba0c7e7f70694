//! The place where everything slow is kept: outside the checkout, shared by all checkouts of one user.
//!
//! Whatever is in here can be deleted at any time and is made again. A thing is built under a temporary name
//! or marked by a stamp when complete, so that an interrupted run is resumed by the next one.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::progress::Progress;

/// The cache directory of this user.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `${XDG_CACHE_HOME:-~/.cache}/writeboost`, creating it when needed.
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => PathBuf::from(dir),
            None => std::env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set")?.join(".cache"),
        };
        let dir = base.join("writeboost");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log file of a step.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Waits until no other process makes `what`, and keeps others from it until the answer is dropped.
    pub fn lock(&self, what: &str, progress: &Progress) -> Result<Flock<File>> {
        let path = self.dir.join(format!("{what}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        for attempt in [FlockArg::LockExclusiveNonblock, FlockArg::LockExclusive] {
            file = match Flock::lock(file, attempt) {
                Ok(lock) => return Ok(lock),
                Err((file, _)) => file,
            };
            progress.note(format!("waiting for another xtask that is busy with: {what}"));
        }
        anyhow::bail!("cannot lock {}", path.display())
    }
}

/// A short name for everything that went into something: different inputs, different name.
pub fn key<I>(parts: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<[u8]>,
{
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let dir = path.parent().context("a file has a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Temporary files are private; this one is about to be what others read.
    let mode = fs::Permissions::from_mode(0o644);
    let temporary = tempfile::Builder::new().permissions(mode).tempfile_in(dir);
    let temporary = temporary.with_context(|| format!("cannot write to {}", dir.display()))?;
    fs::write(temporary.path(), content).with_context(|| format!("cannot write {}", path.display()))?;
    temporary.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Every file under `dir` as paths relative to it, sorted; empty when there is no such directory.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(sub) = todo.pop() {
        let Ok(entries) = fs::read_dir(dir.join(&sub)) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = sub.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                todo.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_inputs_apart() {
        assert_eq!(key(["ab", "c"]), key(["ab", "c"]));
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
    }

    #[test]
    fn files_are_listed_in_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(&dir.path().join("b/c"), "1").expect("written");
        write(&dir.path().join("a"), "2").expect("written");
        assert_eq!(files(dir.path()).expect("listed"), [PathBuf::from("a"), PathBuf::from("b/c")]);
    }
}
