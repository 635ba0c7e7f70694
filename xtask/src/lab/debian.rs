//! Preparing Debian's own kernel: a build directory with the Rust metadata, an image to boot and the modules
//! for it.
//!
//! Debian's headers come without the Rust metadata, so they are made again from the kernel's source of the
//! very same package version, with the same configuration and compilers; the symbol names come out the same.
//! The kernel that is booted is the unmodified one from the archive.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache;
use super::guest::with;
use super::host;
use super::kernel::Version;
use super::root::{steps, Root};
use super::Built;

/// The kernel's modules that guests may need. The whole package is half a gigabyte, mostly drivers of real
/// hardware.
const MODULES: &str = "arch block crypto lib mm drivers/md drivers/block drivers/virtio \
                       drivers/char/hw_random drivers/char/virtio_console.ko* drivers/target \
                       drivers/scsi/scsi_debug.ko* drivers/scsi/scsi_mod.ko* \
                       drivers/scsi/scsi_common.ko* drivers/scsi/sd_mod.ko* drivers/nvme fs/9p \
                       fs/netfs fs/overlayfs fs/ext4 fs/jbd2 fs/xfs fs/btrfs fs/configfs \
                       fs/mbcache.ko* fs/fuse fs/fscache fs/nls net/9p";

/// What the initramfs must load to reach the root.
const EARLY: &str = "virtio_pci 9pnet_virtio 9p overlay virtio_console";

/// The init program of the initramfs.
const INITRAMFS_INIT: &str = include_str!("scripts/initramfs-init.sh");

/// The directory name of a preparation: what it was made from decides it.
pub fn id(root: &Root, version: &Version) -> String {
    let key = cache::key([root.compilers(), steps(BUILD), MODULES, EARLY, INITRAMFS_INIT]);
    format!("debian-{}-{key}", version.file_name())
}

/// The steps inside the root.
const BUILD: &str = include_str!("scripts/prepare-debian.sh");

/// Prepares the kernel unless that was done before.
pub fn build(root: &Root, version: &Version) -> Result<Built> {
    host::install(host::FOR_QEMU, root.cache(), root.progress())?;
    let id = id(root, version);
    let source = root.source(version)?;
    let out = format!("/build/{id}");
    let host_out = root.on_host(&out);
    fs::create_dir_all(&host_out).with_context(|| format!("cannot create {}", host_out.display()))?;
    cache::write(&host_out.join("initramfs-init"), INITRAMFS_INIT)?;
    let release = &version.release;
    let mut packages = version.series.image_packages(release).to_vec();
    packages.push(format!("linux-headers-{release}"));
    let packages: Vec<String> =
        packages.iter().map(|package| format!("{package}={}", version.package)).collect();
    let step = root.progress().step(format!("preparing Debian's kernel {release}"), Duration::from_secs(150));
    let jobs = thread::available_parallelism().map_or(2, usize::from) + 1;
    let script = with(
        &[
            ("source", &source),
            ("out", &out),
            ("release", release),
            ("cc", &version.series.debian_cc()),
            ("packages", &packages.join(" ")),
            ("parts", &MODULES),
            ("early", &EARLY),
            ("jobs", &jobs),
        ],
        BUILD,
    );
    step.run(&mut root.chroot(&Root::exclusive(&id, &script))?, &root.cache().log(&id))?;
    step.done();
    Ok(Built {
        version: version.clone(),
        release: release.clone(),
        kdir: format!("{out}/obj"),
        make: vec![format!("KERNELRELEASE={release}"), format!("CC={}", version.series.debian_cc())],
        image: format!("{out}/vmlinuz"),
        initramfs: Some(format!("{out}/initramfs.img")),
        modules: format!("{out}/modules/lib/modules/{release}"),
        id,
    })
}
