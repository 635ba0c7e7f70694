# shellcheck shell=bash
# Each allocation that the target's constructor makes fails once: the table is refused, and no memory is
# left behind.

null b 32
null c 17
volume v /dev/b /dev/c
dd if=/dev/urandom of=/tmp/a bs=1M count=2 status=none
dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync status=none
remove v
mount -t debugfs none /sys/kernel/debug 2>/dev/null || mountpoint -q /sys/kernel/debug
echo N >/sys/kernel/debug/failslab/ignore-gfp-wait
# Its traces look like trouble.
echo 0 >/sys/kernel/debug/failslab/verbose
dmsetup create v --notable
available() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo
}
dmsetup mknodes
# The first time, what the kernel keeps for later grows; the second time must not need any more than that.
python3 /mnt/share/fail_nth.py "$(sectors /dev/b)" '/dev/b /dev/c'
vmalloced() { awk '/VmallocUsed/ { print int($2 / 1024) }' /proc/meminfo; }
before=$(available) buffers=$(vmalloced)
python3 /mnt/share/fail_nth.py "$(sectors /dev/b)" '/dev/b /dev/c' >/dev/null
[ -z "$(pgrep '^wb_' || true)" ] || die 'threads are left'
after=$(available) left=$(vmalloced)
echo "$before MiB were available before, $after after; $buffers MiB were vmalloc'ed before, $left after"
# When they cannot be had in one piece; they are 2 MiB.
[ "$left" -lt $((buffers + 2)) ] || die "$((left - buffers)) MiB of buffers are gone"
# KASAN keeps what was freed for a while.
[ "$after" -gt $((before - 100)) ] || die "$((before - after)) MiB are gone"
dmsetup remove v
volume v /dev/b /dev/c
dd if=/dev/mapper/v bs=1M count=2 iflag=direct status=none | cmp - /tmp/a
finish v /dev/b /dev/c
modprobe -r dm-writeboost
