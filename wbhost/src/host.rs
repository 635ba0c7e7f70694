// SPDX-License-Identifier: GPL-2.0-only

//! The directories in which the kernel and udev describe block devices. They are a parameter, so that tests
//! can build such trees of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The directories from which everything about a block device is read.
#[derive(Debug, Clone)]
pub struct Host {
    /// sysfs, usually `/sys`.
    pub sys: PathBuf,
    /// procfs, usually `/proc`.
    pub proc: PathBuf,
    /// udev's database, usually `/run/udev/data`.
    pub udev: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), udev: "/run/udev/data".into() }
    }
}

/// Major and minor number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevNo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// The kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A block device.
    Block(DevNo),
    /// A regular file: an image, or a test.
    File,
}

impl std::fmt::Display for DevNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl DevNo {
    /// Splits the number that `stat` gives.
    pub fn from_rdev(rdev: u64) -> Self {
        Self { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
    }

    /// Parses `MAJOR:MINOR`; `None` for anything else.
    pub fn parse(s: &str) -> Option<Self> {
        let (major, minor) = s.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl Host {
    /// The device's directory in sysfs with all links resolved: that of a partition is inside that of its
    /// disk.
    pub fn dir(&self, dev: DevNo) -> Option<PathBuf> {
        fs::canonicalize(self.sys.join(format!("dev/block/{dev}"))).ok()
    }

    /// The kernel's name of the device, such as `sda1`.
    pub fn name(&self, dev: DevNo) -> Option<String> {
        Some(self.dir(dev)?.file_name()?.to_str()?.to_owned())
    }

    /// The usual path of the device's node: `/dev/mapper/NAME` for device-mapper, else by the kernel's name.
    pub fn node(&self, dev: DevNo) -> Option<PathBuf> {
        let dir = self.dir(dev)?;
        if let Some(name) = attr(&dir, "dm/name") {
            return Some(Path::new("/dev/mapper").join(name));
        }
        // sysfs has `!` in place of a `/` in /dev.
        Some(Path::new("/dev").join(dir.file_name()?.to_str()?.replace('!', "/")))
    }

    /// The disk that a partition is on; `None` when `dev` is not a partition.
    pub fn disk_of(&self, dev: DevNo) -> Option<DevNo> {
        let dir = self.dir(dev)?;
        attr(&dir, "partition")?;
        DevNo::parse(&attr(dir.parent()?, "dev")?)
    }

    /// An attribute of the device in sysfs, or of the disk that it is a partition of: only disks have
    /// `queue/...`.
    pub fn says(&self, dev: DevNo, attribute: &str) -> Option<String> {
        let dir = self.dir(dev)?;
        attr(&dir, attribute).or_else(|| attr(&self.dir(self.disk_of(dev)?)?, attribute))
    }

    /// The partitions of a disk.
    pub fn partitions(&self, dev: DevNo) -> Vec<DevNo> {
        let Some(dir) = self.dir(dev) else { return Vec::new() };
        subdirs(&dir)
            .iter()
            .filter(|d| attr(d, "partition").is_some())
            .filter_map(|d| DevNo::parse(&attr(d, "dev")?))
            .collect()
    }

    /// The devices that `dev` is directly made of (device-mapper, md), from sysfs `slaves`.
    pub fn slaves(&self, dev: DevNo) -> Vec<DevNo> {
        self.linked(dev, "slaves")
    }

    /// The devices that are directly made of `dev`, from sysfs `holders`.
    pub fn holders(&self, dev: DevNo) -> Vec<DevNo> {
        self.linked(dev, "holders")
    }

    fn linked(&self, dev: DevNo, what: &str) -> Vec<DevNo> {
        let Some(dir) = self.dir(dev) else { return Vec::new() };
        subdirs(&dir.join(what)).iter().filter_map(|d| DevNo::parse(&attr(d, "dev")?)).collect()
    }

    /// The value of `key` of a block device in udev's database.
    pub fn udev_value(&self, dev: DevNo, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.udev.join(format!("b{dev}"))).ok()?;
        let start = format!("E:{key}=");
        text.lines().find_map(|l| l.strip_prefix(&start)).filter(|v| !v.is_empty()).map(str::to_owned)
    }

    /// The loop devices, each with the file behind it. The kernel adds ` (deleted)` to the path of a removed
    /// file.
    pub fn loop_files(&self) -> Vec<(String, PathBuf)> {
        subdirs(&self.sys.join("block"))
            .iter()
            .filter_map(|d| {
                Some((d.file_name()?.to_str()?.to_owned(), PathBuf::from(attr(d, "loop/backing_file")?)))
            })
            .collect()
    }
}

/// The trimmed text of a sysfs attribute; `None` when it does not exist or is empty.
pub(crate) fn attr(dir: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The directories (or links to some) in `dir`, sorted.
fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut dirs: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    dirs.sort();
    dirs
}
