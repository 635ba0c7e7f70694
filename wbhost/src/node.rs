// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/mapper/NAME`: udev's task where it runs, ours where it does not.

use crate::Error;
use devicemapper::Device;
use nix::sys::stat::{makedev, mknod, Mode, SFlag};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

const DIR: &str = "/dev/mapper";
/// Device-mapper's own node.
pub const CONTROL: &str = "/dev/mapper/control";
/// How long udev may take to make a node after it has reported that it is done.
const PATIENCE: Duration = Duration::from_secs(5);

/// The path of the volume `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The object at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nothing,
    /// The device that it should be.
    Device,
    /// A node of another device, or a link to one: a leftover.
    Stale,
    /// Another object, such as a file that was written in place of a device.
    Other,
}

fn look(path: &Path, device: Option<Device>) -> At {
    let Ok(link) = fs::symlink_metadata(path) else { return At::Nothing };
    let Ok(meta) = fs::metadata(path) else {
        return if link.is_symlink() { At::Stale } else { At::Other };
    };
    if !meta.file_type().is_block_device() {
        return At::Other;
    }
    match device {
        Some(d) if meta.rdev() == makedev(d.major.into(), d.minor.into()) => At::Device,
        _ => At::Stale,
    }
}

/// Checks that a new volume's node can be made: no other object has its name.
pub fn check_free(name: &str) -> Result<(), Error> {
    match look(&path(name), None) {
        At::Other => Err(Error::Exists(format!(
            "{} is there already and is no block device: look at it and remove it",
            path(name).display()
        ))),
        _ => Ok(()),
    }
}

/// Makes sure that `/dev/mapper/NAME` is `device`; `udev` says whether udev makes it.
pub fn make(name: &str, device: Device, udev: bool) -> Result<PathBuf, Error> {
    let path = path(name);
    let start = Instant::now();
    while udev && look(&path, Some(device)) != At::Device && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20));
    }
    match look(&path, Some(device)) {
        At::Device => return Ok(path),
        At::Stale => drop(fs::remove_file(&path)),
        At::Nothing => (),
        At::Other => return check_free(name).map(|()| path),
    }
    let (major, minor) = (device.major.into(), device.minor.into());
    mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor))
        .map_err(|e| Error::Failed(format!("cannot make {}: {}", path.display(), e.desc())))?;
    Ok(path)
}

/// Removes the node of a volume that is gone, where udev did not.
pub fn remove(name: &str, device: Device) {
    let path = path(name);
    if look(&path, Some(device)) == At::Device {
        // If this fails, a dead node is left; the next volume of this name replaces it.
        drop(fs::remove_file(path));
    }
}

/// Makes the node of device-mapper itself, where neither udev nor devtmpfs did.
pub fn make_control() {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    let minor = misc
        .lines()
        .filter_map(|l| l.trim().split_once(' '))
        .find_map(|(minor, name)| (name == "device-mapper").then(|| minor.parse().ok()).flatten());
    if let (Some(minor), false) = (minor, Path::new(CONTROL).exists()) {
        // If one of these fails, opening the node fails, and that is reported.
        drop(fs::create_dir_all(DIR));
        let _ = mknod(CONTROL, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(10, minor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn looks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert_eq!(look(&file, None), At::Nothing);
        fs::write(&file, "x").unwrap();
        assert_eq!(look(&file, None), At::Other);
        let link = dir.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert_eq!(look(&link, None), At::Stale);
    }
}
