# shellcheck shell=bash
# Devices for the scripts of guests. They want a `die`.

# null NAME MIB [KEY VALUE ...]: a RAM disk /dev/NAME by the null_blk driver, which can be slow.
null() {
    local dir=/sys/kernel/config/nullb/$1
    modprobe null_blk nr_devices=0
    mkdir "$dir"
    echo "$2" >"$dir/size"
    echo 1 >"$dir/memory_backed"
    shift 2
    while [ $# -gt 0 ]; do echo "$2" >"$dir/$1"; shift 2; done
    echo 1 >"$dir/power"
    udevadm settle
    [ -b "/dev/${dir##*/}" ] || die "${dir##*/} has not appeared"
}
# hdd NAME MIB [MS]: one request at a time, so many milliseconds each: a hard disk.
hdd() { null "$1" "$2" irqmode 2 completion_nsec "$((${3:-5} * 1000000))" hw_queue_depth 1 submit_queues 1; }
# ssd NAME MIB [KEY VALUE ...]: many at a time, 80 us each: an SSD.
ssd() { null "$1" "$2" irqmode 2 completion_nsec 80000 hw_queue_depth 64 submit_queues 1 "${@:3}"; }

sectors() { blockdev --getsz "$1"; }

# remove NAME: a device-mapper device. udev looks at a device whenever a program has written to it.
remove() { udevadm settle; dmsetup remove --retry "$1"; }
