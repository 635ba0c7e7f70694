// SPDX-License-Identifier: GPL-2.0-only

//! A socket in the filesystem for this process alone. The socket of another running process is never taken,
//! that of a dead one is.
//!
//! # Invariants
//! - A socket with a listener is not removed, nor is a file that is no socket. There is no listener when a
//!   connection is refused; after every other answer there may be one.
//! - If two daemons start at the same time, one gets the socket: checking, removing and binding are done with
//!   the directory locked.
//! - The socket removed at the end is the one made at the beginning, not one that has replaced it.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
    time::timeout,
};

/// Other daemons hold the lock of the directory only while they check a socket.
const PATIENCE: Duration = Duration::from_secs(1);

/// Removes the socket when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The reason why it cannot listen, and advice. `AddrInUse` when another process listens there.
    pub fn bind(runtime: &Runtime, path: &Path) -> io::Result<(Self, UnixListener)> {
        let _locked = lock_directory(path)?;
        make_way(runtime, path)?;
        let _in_runtime = runtime.enter();
        let listener = UnixListener::bind(path)?;
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok((Self { path: path.to_owned(), identity }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _locked = lock_directory(&self.path);
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Locks the directory of `path` until the returned file is dropped.
fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(path);
    let error =
        |e: io::Error| io::Error::new(e.kind(), format!("its directory {}: {e}", directory.display()));
    let file = File::open(directory).map_err(error)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(error(e)),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    ErrorKind::ResourceBusy,
                    format!("another process keeps its directory {} locked", directory.display()),
                ))
            }
        }
    }
}

/// Removes a socket at `path` that has no listener.
fn make_way(runtime: &Runtime, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "it is there and is no socket"))
        }
        Ok(_) => (),
    }
    // This does not wait where the other's queue is full.
    match runtime.block_on(async { timeout(PATIENCE, UnixStream::connect(path)).await }) {
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(Err(e)) if e.kind() == ErrorKind::NotFound => Ok(()),
        answer => {
            let pid = answer.ok().and_then(Result::ok).and_then(|stream| stream.peer_cred().ok()?.pid());
            let who = pid.map_or(String::new(), |pid| format!(" (PID {pid})"));
            Err(io::Error::new(
                ErrorKind::AddrInUse,
                format!("another process{who} listens there; end that, or choose another path"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net, sync::Barrier};

    type Bound = (Socket, UnixListener, Runtime);

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap()
    }

    fn bind(path: &Path) -> io::Result<Bound> {
        let runtime = runtime();
        let (socket, listener) = Socket::bind(&runtime, path)?;
        Ok((socket, listener, runtime))
    }

    #[test]
    fn what_a_dead_one_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(net::UnixListener::bind(&path).unwrap());
        let bound = bind(&path).unwrap();
        net::UnixStream::connect(&path).unwrap();
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn somebody_elses_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let theirs = net::UnixListener::bind(&path).unwrap();
        let refused = |words: &str| {
            let error = bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().contains(words), "{error}");
        };
        refused(&format!("another process (PID {}) listens there", std::process::id()));
        // The listener's queue is full: it is busy, not dead. The check must not wait for it.
        theirs.set_nonblocking(true).unwrap();
        let mut queue = Vec::new();
        let began = Instant::now();
        while let Ok(Ok(stream)) =
            runtime().block_on(async { timeout(PATIENCE, UnixStream::connect(&path)).await })
        {
            queue.push(stream.into_std());
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        refused("another process listens there");
        drop(queue);
        assert!(theirs.accept().is_ok(), "it is still there");
        // A file that is no socket is not removed either.
        let file = dir.path().join("f");
        fs::write(&file, "not a socket").unwrap();
        assert_eq!(bind(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(file.exists());
        let error = bind(&dir.path().join("no/s")).unwrap_err().to_string();
        assert!(error.contains("its directory ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn one_that_has_replaced_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let ours = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = bind(&path).unwrap();
        drop(ours);
        net::UnixStream::connect(&path).unwrap();
        drop(theirs);
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        for _ in 0..20 {
            drop(net::UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(4);
            let all: Vec<_> = thread::scope(|scope| {
                let bind_one = || {
                    barrier.wait();
                    bind(&path)
                };
                let threads = [(); 4].map(|()| scope.spawn(bind_one));
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{all:?}");
        }
    }
}
