# shellcheck shell=bash
# With blocks of 1 KiB, as `mkfs.ext4` takes for small devices: parts of the cache's blocks.

make() { mkfs.ext4 -q "$1"; }
replay_by_hand() {
    e2fsck -p /dev/mapper/w >/tmp/said 2>&1 || [ $? = 1 ] || { cat /tmp/said; die 'e2fsck -p'; }
}
clean() { quietly e2fsck -fn "$1"; }
