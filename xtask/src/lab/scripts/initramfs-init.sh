#!/bin/busybox sh
# The first program of a guest with Debian's kernel: loads what it takes to reach the root, and goes there.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /lib/*.ko; do
    insmod "$module" || echo "cannot load $module"
done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /root || {
    echo "cannot mount the root"
    poweroff -f
}
umount /dev
umount /proc
exec switch_root /root "$wb_layer/init"
