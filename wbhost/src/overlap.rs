// SPDX-License-Identifier: GPL-2.0-only

//! Whether two devices share bytes: one is the other, a partition of it, or built on it.

use crate::{
    device::Device,
    host::{DevNo, Host, Kind},
    identity::{self, IdKind},
};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

/// Says in words how `cache` and `backing` share bytes; `None` when they do not.
///
/// Two partitions of one disk do not, nor do two logical volumes of one group.
pub fn between(host: &Host, cache: &Device, backing: &Device) -> Option<String> {
    let words = |how: &str| {
        Some(format!(
            "{} is {how} {}: the cache device must be another one",
            cache.path().display(),
            backing.path().display()
        ))
    };
    match (cache.kind(), backing.kind()) {
        (Kind::Block(a), Kind::Block(b)) if a == b => words("the same device as"),
        (Kind::Block(a), Kind::Block(b)) if below(host, a).contains(&b) => words("built on, or part of,"),
        (Kind::Block(a), Kind::Block(b)) if below(host, b).contains(&a) => words("what is below"),
        (Kind::Block(a), Kind::Block(b)) if is_another_path(host, a, b) => words("another path to"),
        (Kind::File, Kind::File) => {
            let id = |d: &Device| fs::metadata(d.path()).map(|m| (m.dev(), m.ino())).ok();
            (id(cache).is_some() && id(cache) == id(backing)).then(|| words("the same file as")).flatten()
        }
        _ => None,
    }
}

/// Whether `a` and `b` are two devices for the kernel, but the same disk, or the same partition of it, by the
/// world-wide identifier. Serial numbers say less: some arrays give all of their disks the same one.
pub fn is_another_path(host: &Host, a: DevNo, b: DevNo) -> bool {
    let wwid = |dev| identity::of_block(host, dev).into_iter().find(|id| id.kind == IdKind::Wwid);
    a != b && wwid(a).is_some_and(|id| Some(id) == wwid(b))
}

/// All devices on which bytes of `dev` are: its disk, the devices that it is made of, and so on down.
fn below(host: &Host, dev: DevNo) -> BTreeSet<DevNo> {
    let mut all = BTreeSet::new();
    let mut todo = vec![dev];
    while let Some(d) = todo.pop() {
        let next = host.slaves(d).into_iter().chain(host.disk_of(d));
        todo.extend(next.filter(|&n| all.insert(n)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths() {
        let tmp = tempfile::tempdir().unwrap();
        let host = Host { sys: tmp.path().into(), proc: tmp.path().into(), udev: tmp.path().into() };
        let by_number = tmp.path().join("dev/block");
        fs::create_dir_all(&by_number).unwrap();
        for (name, number, wwid, partition) in [
            ("sda", "8:0", "naa.5000", ""),
            ("sda/sda1", "8:1", "", "1"),
            ("sda/sda2", "8:2", "", "2"),
            ("sdb", "8:16", "naa.5000", ""),
            ("sdb/sdb1", "8:17", "", "1"),
            ("sdc", "8:32", "naa.5001", ""),
            ("sdd", "8:48", "", ""),
            ("sde", "8:64", "", ""),
        ] {
            let dir = tmp.path().join("devices").join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("dev"), number).unwrap();
            for (attribute, value) in [("wwid", wwid), ("partition", partition), ("serial", "the array's")] {
                if !value.is_empty() && (attribute != "serial" || partition.is_empty()) {
                    fs::write(dir.join(attribute), value).unwrap();
                }
            }
            symlink(&dir, by_number.join(number)).unwrap();
        }
        let same = |a, b| is_another_path(&host, DevNo::parse(a).unwrap(), DevNo::parse(b).unwrap());
        assert!(same("8:0", "8:16") && same("8:16", "8:0") && same("8:1", "8:17"));
        assert!(!same("8:0", "8:0") && !same("8:0", "8:32") && !same("8:2", "8:17") && !same("8:0", "8:17"));
        assert!(!same("8:48", "8:64"), "a serial number is not enough");
    }

    #[test]
    fn stack() {
        let tmp = tempfile::tempdir().unwrap();
        let host = Host { sys: tmp.path().into(), proc: tmp.path().into(), udev: tmp.path().into() };
        let by_number = tmp.path().join("dev/block");
        fs::create_dir_all(&by_number).unwrap();
        for (dir, number) in [("sda", "8:0"), ("sda/sda1", "8:1"), ("sda/sda2", "8:2"), ("dm-0", "253:0")] {
            let dir = tmp.path().join("devices").join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("dev"), number).unwrap();
            if number != "8:0" && number != "253:0" {
                fs::write(dir.join("partition"), &number[2..]).unwrap();
            }
            symlink(&dir, by_number.join(number)).unwrap();
        }
        let slaves = tmp.path().join("devices/dm-0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink(tmp.path().join("devices/sda/sda2"), slaves.join("sda2")).unwrap();

        let dev = |s| DevNo::parse(s).unwrap();
        assert_eq!(below(&host, dev("253:0")), BTreeSet::from([dev("8:2"), dev("8:0")]));
        assert_eq!(below(&host, dev("8:1")), BTreeSet::from([dev("8:0")]));
        assert!(below(&host, dev("8:0")).is_empty());
        assert_eq!(host.partitions(dev("8:0")), [dev("8:1"), dev("8:2")]);
    }
}
