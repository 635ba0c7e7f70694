# shellcheck shell=bash
# Prepares Debian's own kernel, inside the root; each step leaves a stamp, so that an interrupted preparation
# goes on where it was.
# In front: source, the kernel's tree; out; release, as `uname -r` says it; cc; packages; parts, the modules
# that guests may need; early, those of the initramfs; jobs.
# shellcheck disable=SC2086,SC2103,SC2164,SC2295 # The values in front are words without spaces, or lists of
# such, and patterns.
# shellcheck disable=SC2035 # Files of the archive, whose names do not begin with a dash.

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
    args="O=$out/obj KERNELRELEASE=$release CC=$cc -j$jobs"
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
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    name=initramfs/lib/$n-$(basename $path); n=$((n + 1))
    case $path in
    *.xz) xz -dc $path > ${name%.xz} ;;
    *.zst) zstd -dcq $path > ${name%.zst} ;;
    *) cp $path $name ;;
    esac
done
(cd initramfs; find . | cpio -o -H newc --quiet) > initramfs.img
