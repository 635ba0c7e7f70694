# shellcheck shell=bash
# Creating and removing a volume many times leaves no memory behind.

ram 2 16
# RAM disks take memory when they are first written.
for device in /dev/ram0 /dev/ram1; do dd if=/dev/zero of=$device bs=1M count=16 oflag=direct status=none; done
modprobe dm-writeboost
# All memory that is not free: pages that are neither of a slab nor mapped are counted nowhere else.
used() {
    echo 3 >/proc/sys/vm/drop_caches
    sleep 0.5
    awk '/^MemTotal/ { n += $2 } /^MemFree/ { n -= $2 } END { print n }' /proc/meminfo
}
cycle() {
    volume v /dev/ram0 /dev/ram1
    dd if=/dev/urandom of=/dev/mapper/v bs=64k count=8 oflag=direct status=none
    remove v
}
for _ in $(seq 10); do cycle; done
before=$(used)
for _ in $(seq 60); do cycle; done
after=$(used)
say "$before KiB before, $after after"
# A volume has buffers of 2 MiB: even a tenth of that left behind each time would show.
[ $((after - before)) -lt 8192 ] || die "memory is left behind: $before KiB before, $after after"
rmmod dm_writeboost
