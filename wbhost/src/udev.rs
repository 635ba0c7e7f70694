// SPDX-License-Identifier: GPL-2.0-only

//! Whether udev runs. devicemapper waits for udev without limit whenever its socket exists. After a crash, in
//! a container or on a test's root filesystem the socket can exist without a listener.

use crate::Error;
use nix::{
    libc,
    mount::{mount, MsFlags},
    sched::{unshare, CloneFlags},
};
use std::{os::unix::net::UnixStream, path::Path};

const DIR: &str = "/run/udev";
const SOCKET: &str = "/run/udev/control";

/// The state of udev's control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is a listener: udevd, or systemd that would start it.
    Running,
    /// There is no socket.
    Absent,
    /// The socket has no listener.
    Stale,
}

fn state(socket: &Path) -> State {
    match UnixStream::connect(socket) {
        // The socket is of another type than ours, and the kernel looks for a listener first.
        Ok(_) => State::Running,
        Err(e) if e.raw_os_error() == Some(libc::EPROTOTYPE) => State::Running,
        Err(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => State::Stale,
        Err(_) if socket.exists() => State::Running,
        Err(_) => State::Absent,
    }
}

/// Whether udev makes the device nodes. If udev is gone and has left a socket, hides the socket from this
/// process, so that nothing waits for it.
pub fn running() -> Result<bool, Error> {
    match state(Path::new(SOCKET)) {
        State::Running => Ok(true),
        State::Absent => Ok(false),
        State::Stale => hide().map(|()| false).map_err(|e| {
            Error::Failed(format!(
                "udev does not run, but has left {SOCKET}, for which device-mapper would wait for ever, and \
                 which cannot be hidden ({}): remove it",
                e.desc()
            ))
        }),
    }
}

/// Mounts an empty directory over udev's, for this process only.
fn hide() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("none"), DIR, Some("tmpfs"), MsFlags::empty(), none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn states() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        assert_eq!(state(&socket), State::Absent);
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(state(&socket), State::Running);
        drop(listener);
        assert_eq!(state(&socket), State::Stale);
    }
}
