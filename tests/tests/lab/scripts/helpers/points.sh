# shellcheck shell=bash
# Functions of the tests that cut the power at recorded points.

# disks BACKING-MIB CACHE-MIB: /dev/b and /dev/c to be recorded, not too fast, so that much is on its way at
# any moment, and /dev/pb and /dev/pc to make points on.
disks() {
    null b "$1" irqmode 2 completion_nsec 1000000 hw_queue_depth 64 submit_queues 1
    null c "$2" irqmode 2 completion_nsec 200000 hw_queue_depth 128 submit_queues 1
    null pb "$1"
    null pc "$2"
    size=$(sectors /dev/pb)
    # Processes are what takes time in a guest, and udev starts many for each device that comes or goes.
    udevadm control --exit
    rm -f /run/udev/control
    export size DM_DISABLE_UDEV=1
}
open() { dmsetup create w --table "0 $size writeboost /dev/pb /dev/pc"; }
close() { dmsetup remove w; }
# again NAME MICROSECONDS: the disk NAME takes so long from now on, and is blank.
again() {
    local dir=/sys/kernel/config/nullb/$1
    echo 0 >"$dir/power"
    echo "${2}000" >"$dir/completion_nsec"
    echo 1 >"$dir/power"
    [ -b "/dev/$1" ] || die "/dev/$1 has not appeared"
}
# begin: a record begins, of the volume on rb and rc.
begin() {
    for disk in b c; do
        [ -e /tmp/base_$disk ] || dd if=/dev/$disk of=/tmp/base_$disk bs=1M iflag=direct status=none
    done
    insmod /mnt/share/dm-record.ko
    dmsetup create rb --table "0 $(sectors /dev/b) record /dev/b 0"
    dmsetup create rc --table "0 $(sectors /dev/c) record /dev/c 1"
}
# end NUMBER [OPTIONS]: it ends, and all its points are checked by the function `check`.
end() {
    remove rb
    remove rc
    cat /dev/dm-record >/tmp/record
    rmmod dm_record
    say "the record has $(stat -c %s /tmp/record) bytes"
    # shellcheck disable=SC2046 # Names.
    export -f $(compgen -A function)
    export SEED m
    wbtest points /tmp/record --base /tmp/base_b /tmp/base_c --visible /tmp/seen_b /tmp/seen_c \
        --disks /dev/pb /dev/pc --count "$POINTS" --seed $((SEED * 1000 + $1)) --check check \
        --keep /mnt/share "${@:2}"
    say "all points are checked"
}
quietly() { "$@" >/tmp/said 2>&1 || { cat /tmp/said; die "$*"; }; }
alone() { [ $((point % 4)) = 0 ]; } # Whether to look at the backing device alone as well.
