#!/bin/bash
# The first program on the lab's root, which is mounted read-only and shared with other guests. Lays a layer
# with the module and the tools over it, and an empty one for whatever the guest writes, and goes on in the
# result. From the kernel's command line: wb_host (hostfs or 9p, how to reach the host), wb_layer (the layer's
# path inside the root) and, for hostfs, wb_root (the root's path on the host).
set -eu
export PATH=/usr/sbin:/usr/bin
mount -t tmpfs -o mode=755 upper /mnt
mkdir /mnt/upper /mnt/work /mnt/root /mnt/layer
# A mount of its own: the layer lies inside the root, and overlayfs takes no lower directory that is part of
# another.
case $wb_host in
hostfs) mount -t hostfs -o "hostfs=$wb_root$wb_layer/fs" none /mnt/layer ;;
9p) mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose layer /mnt/layer ;;
esac
mount -t overlay -o "lowerdir=/mnt/layer:/,upperdir=/mnt/upper,workdir=/mnt/work" root /mnt/root
cd /mnt/root
mkdir .lower
pivot_root . .lower
exec chroot . /usr/lib/writeboost/guest-init
