// SPDX-License-Identifier: GPL-2.0-only

//! The users of a device: mounts, swap, devices stacked on it, loop devices.
//!
//! The kernel refuses an exclusive open of a used device. This module names the users, and covers regular
//! files, for which there is no exclusive open.

use crate::host::{attr, DevNo, Host, Kind};
use std::{
    fmt, fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// One user of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// Mounted at this path.
    Mount(PathBuf),
    /// Swap space.
    Swap,
    /// Part of another block device: its kernel name and, for device-mapper, its own.
    Holder(String, Option<String>),
    /// The file behind this loop device.
    Loop(String),
    /// The kernel says busy, and nothing shows why: another mount namespace, or a process that claimed it.
    Unknown,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Mount(path) => write!(f, "mounted at {}", path.display()),
            User::Swap => f.write_str("swap space"),
            User::Holder(kernel, Some(name)) => write!(f, "part of device-mapper device {name} ({kernel})"),
            User::Holder(kernel, None) => write!(f, "part of block device {kernel}"),
            User::Loop(name) => write!(f, "the file behind loop device {name}"),
            User::Unknown => {
                f.write_str("a process or another mount namespace has claimed it (see `lsof` and `lsblk`)")
            }
        }
    }
}

/// All users of the device or file at `path`, or of one of the device's partitions.
pub fn of(host: &Host, path: &Path, kind: Kind) -> Vec<User> {
    match kind {
        Kind::File => {
            let Ok(path) = fs::canonicalize(path) else { return Vec::new() };
            host.loop_files().into_iter().filter(|(_, f)| *f == path).map(|(n, _)| User::Loop(n)).collect()
        }
        Kind::Block(dev) => {
            let mut devs = host.partitions(dev);
            devs.insert(0, dev);
            let mounts = fs::read_to_string(host.proc.join("self/mountinfo")).unwrap_or_default();
            let swaps = fs::read_to_string(host.proc.join("swaps")).unwrap_or_default();
            devs.into_iter()
                .flat_map(|d| {
                    let mut users: Vec<User> = mounts_of(&mounts, d).into_iter().map(User::Mount).collect();
                    if is_swap(&swaps, d) {
                        users.push(User::Swap);
                    }
                    for h in host.holders(d) {
                        let name = host.name(h).unwrap_or_else(|| h.to_string());
                        users.push(User::Holder(name, host.dir(h).and_then(|d| attr(&d, "dm/name"))));
                    }
                    users
                })
                .collect()
        }
    }
}

/// Where `dev` is mounted, from the text of `/proc/self/mountinfo`.
fn mounts_of(mountinfo: &str, dev: DevNo) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(2);
            let number = DevNo::parse(left.next()?)?;
            let path = unescape(left.nth(1)?);
            // File systems over several devices (btrfs) have a number of their own; for them the source
            // tells.
            let source = unescape(right.split(' ').nth(1)?);
            (number == dev || device_at(&source) == Some(dev)).then(|| path.into())
        })
        .collect()
}

/// Whether `dev` is one of the swap areas in the text of `/proc/swaps`.
fn is_swap(swaps: &str, dev: DevNo) -> bool {
    swaps.lines().skip(1).any(|l| l.split(' ').next().and_then(|p| device_at(&unescape(p))) == Some(dev))
}

/// The number of the block device at an absolute `path`.
fn device_at(path: &str) -> Option<DevNo> {
    if !path.starts_with('/') {
        return None;
    }
    let meta = fs::metadata(path).ok()?;
    meta.file_type().is_block_device().then(|| DevNo::from_rdev(meta.rdev()))
}

/// Resolves the octal escapes (`\040`) that procfs writes for blanks in paths.
fn unescape(s: &str) -> String {
    let mut out = Vec::new();
    let mut rest = s.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        let text = "36 35 8:1 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/nowhere rw\n\
                    37 35 0:20 / /proc rw shared:5 - proc proc rw\n";
        assert_eq!(mounts_of(text, DevNo { major: 8, minor: 1 }), [PathBuf::from("/mnt/a b")]);
        assert!(mounts_of(text, DevNo { major: 8, minor: 2 }).is_empty());
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\040b\\134"), "a b\\");
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("a\\99"), "a\\99");
    }
}
