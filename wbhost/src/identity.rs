// SPDX-License-Identifier: GPL-2.0-only

//! The identity of a backing device, independent of the kernel's present name for it.
//!
//! Formatting records the most stable identity. Before a volume is resumed, the recorded one is compared with
//! all identities of the device. So a resume in an early boot stage, without udev, may know fewer identities
//! than the format did.

use crate::{
    device::Device,
    host::{attr, DevNo, Host, Kind},
};
use libblkid_rs::BlkidProbe;
use std::{fmt, fs, path::Path};
use writeboost::format::BACKING_ID_LEN;

/// The kinds of identities, most stable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdKind {
    /// UUID of a device-mapper device (LVM, LUKS, multipath), from sysfs `dm/uuid`.
    DmUuid,
    /// UUID of an md array.
    MdUuid,
    /// UUID of a partition, from the kernel's uevent, udev's database or the partition table itself.
    PartUuid,
    /// World-wide identifier of a disk (NAA, EUI, NGUID), from sysfs `wwid` or `device/wwid`.
    Wwid,
    /// Serial number of a disk, from sysfs or udev's database.
    Serial,
    /// The name of a device-mapper device without a UUID: when the device is made again, it may get another
    /// name. Weak.
    DmName,
    /// The file behind a loop device, or a regular file: stable only until the file is moved. Weak.
    File,
    /// The kernel's name: another device may have it after the next boot. Weak.
    Name,
}

impl IdKind {
    const ALL: [IdKind; 8] = [
        IdKind::DmUuid,
        IdKind::MdUuid,
        IdKind::PartUuid,
        IdKind::Wwid,
        IdKind::Serial,
        IdKind::DmName,
        IdKind::File,
        IdKind::Name,
    ];

    /// The word for the kind in the superblock, before the colon.
    pub fn word(self) -> &'static str {
        match self {
            IdKind::DmUuid => "dm-uuid",
            IdKind::MdUuid => "md-uuid",
            IdKind::PartUuid => "partuuid",
            IdKind::Wwid => "wwid",
            IdKind::Serial => "serial",
            IdKind::DmName => "dm-name",
            IdKind::File => "file",
            IdKind::Name => "name",
        }
    }

    /// Whether another device can easily come to have the same identity.
    pub fn is_weak(self) -> bool {
        matches!(self, IdKind::DmName | IdKind::File | IdKind::Name)
    }
}

/// An identity of a device, written `KIND:VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its kind.
    pub kind: IdKind,
    /// Its value; never empty, no control characters.
    pub value: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.word(), self.value)
    }
}

impl Identity {
    /// Parses `KIND:VALUE`; `None` when the kind is unknown or the value is empty.
    pub fn parse(s: &str) -> Option<Self> {
        let (word, value) = s.split_once(':')?;
        let kind = IdKind::ALL.into_iter().find(|k| k.word() == word)?;
        (!value.is_empty()).then(|| Self { kind, value: value.to_owned() })
    }
}

/// The result of comparing a device with the identity in a superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It is the device.
    Same,
    /// The superblock has none: no identity was known at the format.
    NotRecorded,
    /// It is another device: it has an identity of this kind, and a different one.
    Different,
    /// The recorded identity is a weak one and differs now: perhaps it is the same device, perhaps not.
    WeaklyDifferent,
    /// The device has no identity of the recorded kind here, so nothing can be concluded.
    Unknown,
}

/// Compares the identity `recorded` in a superblock with those that a device has now.
pub fn compare(recorded: &str, now: &[Identity]) -> Match {
    if recorded.is_empty() {
        return Match::NotRecorded;
    }
    let Some(recorded) = Identity::parse(recorded) else { return Match::Unknown };
    if now.contains(&recorded) {
        return Match::Same;
    }
    if recorded.kind.is_weak() {
        return Match::WeaklyDifferent;
    }
    match now.iter().any(|id| id.kind == recorded.kind) {
        true => Match::Different,
        false => Match::Unknown,
    }
}

/// All identities of `device`, the most stable first. Empty only for a device that sysfs does not know.
pub fn of(host: &Host, device: &Device) -> Vec<Identity> {
    match device.kind() {
        Kind::Block(dev) => of_block(host, dev),
        Kind::File => fs::canonicalize(device.path())
            .ok()
            .and_then(|p| identity(IdKind::File, &p.display().to_string()))
            .into_iter()
            .collect(),
    }
}

/// All identities of the block device `dev`, the most stable first.
pub fn of_block(host: &Host, dev: DevNo) -> Vec<Identity> {
    let Some(dir) = host.dir(dev) else { return Vec::new() };
    let mut ids = Vec::new();
    let mut add = |kind, value: Option<String>| ids.extend(value.and_then(|v| identity(kind, &v)));

    if let (Some(disk), Some(number)) = (host.disk_of(dev), attr(&dir, "partition")) {
        add(IdKind::PartUuid, partition_uuid(host, dev, disk, &dir));
        // A partition has the identities of its disk, with its number added.
        for id in of_block(host, disk) {
            add(id.kind, (id.kind != IdKind::Name).then(|| format!("{}-part{number}", id.value)));
        }
    } else {
        add(IdKind::DmUuid, attr(&dir, "dm/uuid"));
        add(IdKind::DmName, attr(&dir, "dm/name"));
        add(IdKind::MdUuid, attr(&dir, "md/uuid").or_else(|| host.udev_value(dev, "MD_UUID")));
        add(IdKind::Wwid, attr(&dir, "wwid").or_else(|| attr(&dir, "device/wwid")));
        let serial = attr(&dir, "serial").or_else(|| attr(&dir, "device/serial"));
        add(IdKind::Serial, serial.or_else(|| host.udev_value(dev, "ID_SERIAL")));
        if let Some(file) = attr(&dir, "loop/backing_file") {
            let offset = attr(&dir, "loop/offset").filter(|o| o != "0");
            add(IdKind::File, Some(offset.map_or(file.clone(), |o| format!("{file}@{o}"))));
        }
    }
    add(IdKind::Name, dir.file_name().map(|n| n.to_string_lossy().into_owned()));
    ids.sort_by_key(|id| id.kind);
    ids
}

fn partition_uuid(host: &Host, dev: DevNo, disk: DevNo, dir: &Path) -> Option<String> {
    let uevent = attr(dir, "uevent").unwrap_or_default();
    let from_kernel = uevent.lines().find_map(|l| l.strip_prefix("PARTUUID=")).map(str::to_owned);
    from_kernel
        .or_else(|| host.udev_value(dev, "ID_PART_ENTRY_UUID"))
        .or_else(|| partition_uuid_from_table(host, disk, &attr(dir, "partition")?))
        .map(|u| u.to_lowercase())
}

/// Reads the partition table, for kernels before 6.8 on systems without udev.
fn partition_uuid_from_table(host: &Host, disk: DevNo, number: &str) -> Option<String> {
    // Only for a device that is in /dev under its name in sysfs: a test's tree leads nowhere.
    let path = Path::new("/dev").join(host.name(disk)?);
    let mut probe = BlkidProbe::new_from_filename(&path).ok()?;
    if (probe.get_devno().major(), probe.get_devno().minor()) != (disk.major as _, disk.minor as _) {
        return None;
    }
    probe.enable_superblocks(false).ok()?;
    probe.enable_partitions(true).ok()?;
    let mut list = probe.get_partitions().ok()?;
    let partition = list.get_partition_by_partno(number.parse().ok()?).ok()?;
    Some(partition.get_uuid().ok()??.to_string())
}

/// The identity, if a superblock can hold `value`. Firmware pads serial numbers with blanks.
fn identity(kind: IdKind, value: &str) -> Option<Identity> {
    let value = if kind == IdKind::File {
        value.to_owned()
    } else {
        value.split_whitespace().collect::<Vec<_>>().join("_")
    };
    let id = Identity { kind, value };
    let fits = id.to_string().len() <= BACKING_ID_LEN;
    (fits && !id.value.is_empty() && !id.value.contains(char::is_control)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs tree for a test: `files` are paths below `/sys/devices` and their text.
    fn host(files: &[(&str, &str)], devs: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        for (path, text) in files {
            let path = root.join("sys/devices").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        fs::create_dir_all(root.join("udev")).unwrap();
        for (number, dir) in devs {
            let dir = root.join("sys/devices").join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("dev"), number).unwrap();
            symlink(&dir, root.join("sys/dev/block").join(number)).unwrap();
        }
        let host = Host { sys: root.join("sys"), proc: root.join("proc"), udev: root.join("udev") };
        (tmp, host)
    }

    fn ids(host: &Host, dev: &str) -> Vec<String> {
        of_block(host, DevNo::parse(dev).unwrap()).iter().map(Identity::to_string).collect()
    }

    #[test]
    fn disk_and_partition() {
        let (_tmp, host) = host(
            &[
                ("sdz/device/wwid", "naa.5000c500a1b2c3d4\n"),
                ("sdz/sdz1/partition", "1\n"),
                ("sdz/sdz1/uevent", "MAJOR=8\nPARTN=1\nPARTUUID=AB-01\n"),
                ("sdz/sdz2/partition", "2\n"),
            ],
            &[("8:400", "sdz"), ("8:401", "sdz/sdz1"), ("8:402", "sdz/sdz2")],
        );
        assert_eq!(ids(&host, "8:400"), ["wwid:naa.5000c500a1b2c3d4", "name:sdz"]);
        assert_eq!(ids(&host, "8:401"), ["partuuid:ab-01", "wwid:naa.5000c500a1b2c3d4-part1", "name:sdz1"]);
        assert_eq!(ids(&host, "8:402"), ["wwid:naa.5000c500a1b2c3d4-part2", "name:sdz2"]);
        fs::write(host.udev.join("b8:402"), "E:ID_PART_ENTRY_UUID=cd-02\n").unwrap();
        assert_eq!(ids(&host, "8:402")[0], "partuuid:cd-02");
    }

    #[test]
    fn stacked_and_virtual() {
        let (_tmp, host) = host(
            &[
                ("dm-0/dm/uuid", "LVM-abc\n"),
                ("dm-1/dm/uuid", "\n"),
                ("dm-1/dm/name", "lin\n"),
                ("md0/md/uuid", "1-2\n"),
                ("vdz/serial", " a  b \n"),
                ("loop9/loop/backing_file", "/srv/a b.img\n"),
                ("loop9/loop/offset", "1048576\n"),
            ],
            &[
                ("253:0", "dm-0"),
                ("253:1", "dm-1"),
                ("9:0", "md0"),
                ("254:0", "vdz"),
                ("7:9", "loop9"),
                ("1:0", "ram0"),
            ],
        );
        assert_eq!(ids(&host, "253:0")[0], "dm-uuid:LVM-abc");
        assert_eq!(ids(&host, "253:1"), ["dm-name:lin", "name:dm-1"]);
        assert_eq!(ids(&host, "9:0")[0], "md-uuid:1-2");
        assert_eq!(ids(&host, "254:0")[0], "serial:a_b");
        assert_eq!(ids(&host, "7:9")[0], "file:/srv/a b.img@1048576");
        assert_eq!(ids(&host, "1:0"), ["name:ram0"]);
        assert!(ids(&host, "1:77").is_empty());
    }

    #[test]
    fn comparison() {
        let now = [Identity::parse("wwid:x").unwrap(), Identity::parse("name:sda").unwrap()];
        assert_eq!(compare("", &now), Match::NotRecorded);
        assert_eq!(compare("wwid:x", &now), Match::Same);
        assert_eq!(compare("name:sda", &now), Match::Same);
        assert_eq!(compare("wwid:y", &now), Match::Different);
        assert_eq!(compare("name:sdb", &now), Match::WeaklyDifferent);
        assert_eq!(compare("partuuid:x", &now), Match::Unknown);
        assert_eq!(compare("later:x", &now), Match::Unknown);
    }

    #[test]
    fn too_long_is_left_out() {
        assert!(identity(IdKind::File, &"x".repeat(251)).is_some());
        assert!(identity(IdKind::File, &"x".repeat(252)).is_none());
    }
}
