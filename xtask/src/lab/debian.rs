//! Preparing Debian's own kernel: a build directory with the Rust metadata, an image to boot and the modules for it.
//!
//! Debian's headers come without the Rust metadata, so they are made again from the kernel's source of the very same
//! package version, with the same configuration and compilers; the symbol names come out the same. The kernel that is
//! booted is the unmodified one from the archive.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache;
use super::host;
use super::kernel::Version;
use super::root::Root;
use super::Built;

/// The kernel's modules that guests may need. The whole package is half a gigabyte, mostly drivers of real hardware.
const MODULES: &str = "arch block crypto lib mm drivers/md drivers/block drivers/virtio drivers/char/hw_random \
                       drivers/char/virtio_console.ko* drivers/target drivers/scsi/scsi_debug.ko* drivers/scsi/scsi_mod.ko* \
                       drivers/scsi/scsi_common.ko* drivers/scsi/sd_mod.ko* drivers/nvme \
                       fs/9p fs/netfs fs/overlayfs fs/ext4 fs/jbd2 fs/xfs fs/btrfs fs/configfs fs/mbcache.ko* \
                       fs/fuse fs/fscache fs/nls net/9p";

/// What the initramfs must load to reach the root.
const EARLY: &str = "virtio_pci 9pnet_virtio 9p overlay virtio_console";

/// The init program of the initramfs.
const INITRAMFS_INIT: &str = include_str!("initramfs-init.sh");

/// The directory name of a preparation: what it was made from decides it.
pub fn id(root: &Root, version: &Version) -> String {
    let key = cache::key([root.compilers(), BUILD, MODULES, EARLY, INITRAMFS_INIT]);
    format!("debian-{}-{key}", version.file_name())
}

/// The steps inside the root; each leaves a stamp, so that an interrupted preparation goes on where it was.
const BUILD: &str = "
mkdir -p $out; cd $out
if ! [ -e fetched ]; then
    rm -rf debs package; mkdir debs; cd debs
    apt-get -o APT::Sandbox::User=root -o Acquire::Retries=3 download $packages
    for deb in *.deb; do dpkg-deb -x $deb ../package; done
    cd ..; rm -r debs; touch fetched
fi
if ! [ -e made ]; then
    headers=$out/package/usr/src/linux-headers-$release
    mkdir -p obj
    cp $headers/.config obj/.config
    args=\"O=$out/obj KERNELRELEASE=$release CC=$cc -j$jobs\"
    make -C $source $args olddefconfig
    make -C $source $args prepare modules_prepare
    cp $headers/Module.symvers obj/Module.symvers
    test -e obj/rust/libkernel.rmeta
    touch made
fi
tree=package/usr/lib/modules/$release
rm -rf modules; mkdir -p modules/lib/modules/$release/kernel
for part in $parts; do
    for path in $tree/kernel/$part; do
        [ -e $path ] || continue
        dir=modules/lib/modules/$release/kernel/$(dirname ${path#$tree/kernel/})
        mkdir -p $dir; cp -al $path $dir/
    done
done
cp $tree/modules.{builtin,builtin.modinfo,order} modules/lib/modules/$release/
depmod -b modules $release
cp $tree/vmlinuz vmlinuz

rm -rf initramfs; mkdir -p initramfs/{bin,dev,lib,proc,sys,root}
cp /usr/bin/busybox initramfs/bin/
cp initramfs-init initramfs/init; chmod 755 initramfs/init
n=100
for module in $early; do
    modprobe -d modules -S $release --show-depends $module 2>/dev/null || true
done | awk '$1 == \"insmod\" && !seen[$2]++ { print $2 }' | while read -r path; do
    name=initramfs/lib/$n-$(basename $path); n=$((n + 1))
    case $path in
    *.xz) xz -dc $path > ${name%.xz} ;;
    *.zst) zstd -dcq $path > ${name%.zst} ;;
    *) cp $path $name ;;
    esac
done
(cd initramfs; find . | cpio -o -H newc --quiet) > initramfs.img
";

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
    let script = format!(
        "source={source}; out={out}; release={release}; cc={}; packages='{}'; parts='{MODULES}'; early='{EARLY}'; jobs={}\n{BUILD}",
        version.series.debian_cc(),
        packages.join(" "),
        thread::available_parallelism().map_or(2, usize::from) + 1,
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
