// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's messages while we ask it something. An ioctl answers only with a number; the reason is in the
//! kernel's log.

use nix::libc;
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// The kernel's log from the moment it was opened.
#[derive(Debug)]
pub struct Kmsg(Option<File>);

impl Kmsg {
    /// Begins to listen. If the log cannot be read, it seems to be silent.
    pub fn listen() -> Self {
        let open = || {
            let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            std::io::Result::Ok(file)
        };
        Self(open().ok())
    }

    /// The kernel's messages about writeboost since then.
    pub fn heard(&mut self) -> Vec<String> {
        let Some(file) = &mut self.0 else { return Vec::new() };
        // Each read gives one message; 8 KiB is the kernel's own limit.
        let mut buf = [0; 8192];
        let mut heard = Vec::new();
        loop {
            match file.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => heard.extend(message(&String::from_utf8_lossy(&buf[..n]))),
                // The log has wrapped around: continue with the oldest message that is left.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => (),
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(_) => break,
            }
        }
        heard
    }
}

/// The text of a log record, `PRIORITY,NUMBER,TIME,FLAGS;TEXT` and lines of properties, if it is about
/// writeboost.
fn message(record: &str) -> Option<String> {
    let (_, text) = record.lines().next()?.split_once(';')?;
    text.contains("writeboost").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let record =
            "3,701,9876543,-;device-mapper: table: 253:0: writeboost: cache too small\n SUBSYSTEM=block\n";
        assert_eq!(message(record).unwrap(), "device-mapper: table: 253:0: writeboost: cache too small");
        assert_eq!(message("6,1,1,-;EXT4-fs mounted\n"), None);
        assert_eq!(message("garbage"), None);
    }
}
