# shellcheck shell=bash
# Functions for the benchmark's guests. Each target is made anew on the same two devices, $slow and $fast, and
# leaves its device in $dev. What is measured goes to files in $out.
set -eEuo pipefail
shopt -s inherit_errexit
export LC_ALL=C
trap 'echo "FAILED in line $LINENO: $BASH_COMMAND"' ERR
out=/mnt/share/out

die() { echo "FAILED: $*"; exit 1; }
ms() { echo "$((${EPOCHREALTIME/./} / 1000))"; }


# The devices allocate memory when they are written to for the first time, and that is not to be measured.
touch_all() {
    fio --name=touch --eta=never --filename="$1" --rw=write --bs=1M --ioengine=psync --direct=1 \
        --output=/dev/null
}

# bed_ram MIB: two RAM disks, for the cost of the code.
bed_ram() {
    modprobe brd rd_nr=2 rd_size=$(($1 * 1024))
    udevadm settle
    slow=/dev/ram0 fast=/dev/ram1
    touch_all $slow
    touch_all $fast
}
# bed_disk MIB MIB: a hard disk, 5 ms for each request and one at a time, and a RAM disk that has a queue.
bed_disk() {
    hdd hdd "$1"
    null fast "$2" irqmode 0 hw_queue_depth 128 submit_queues 1
    slow=/dev/hdd fast=/dev/fast
    touch_all $fast
}
# bed_ssd MIB MIB: the hard disk and an SSD, 80 us for each request and 500 MB/s.
bed_ssd() {
    hdd hdd "$1"
    ssd ssd "$2" mbps 500
    slow=/dev/hdd fast=/dev/ssd
    touch_all $fast
}

# bed_model MIB PARAMETER=VALUE...: a device that takes the time of its kind, and a RAM disk that has a queue.
bed_model() {
    local scheduler=mq-deadline
    insmod /mnt/share/blk-model.ko "${@:2}"
    [[ " $* " != *" parallel=1 "* ]] || scheduler=none
    echo $scheduler >/sys/block/model/queue/scheduler
    null fast "$1" irqmode 0 hw_queue_depth 128 submit_queues 1
    slow=/dev/model fast=/dev/fast
    touch_all $fast
}

# Options of dmsetup create: where that is timed it does not wait for udev, which takes much longer than the
# kernel.
quick=()

wipe() { dd if=/dev/zero of="$1" bs=1M count=1 oflag=direct conv=fsync status=none; }

make_fast() { dev=$fast; }
drop_fast() { :; }
make_slow() { dev=$slow; }
drop_slow() { :; }
drain_slow() { :; }

make_linear() {
    dmsetup create "${quick[@]}" t --table "0 $(sectors "$fast") linear $fast 0"
    dev=/dev/mapper/t
}
drop_linear() { remove t; }

make_writeboost() {
    [ "${keep:-}" ] || wipe "$fast"
    dmsetup create "${quick[@]}" t --table "0 $(sectors "$slow") writeboost $slow $fast"
    dev=/dev/mapper/t
}
drop_writeboost() { remove t; }
drain_writeboost() { dmsetup message t 0 drop_caches; }

# The C module has our names for everything, so only one of the two can be loaded.
make_c_writeboost() {
    rmmod dm_writeboost 2>/dev/null || true
    insmod /mnt/share/c-writeboost.ko
    make_writeboost
}
drop_c_writeboost() { drop_writeboost; rmmod dm_writeboost; }
drain_c_writeboost() { drain_writeboost; }

make_writecache() {
    [ "${keep:-}" ] || wipe "$fast"
    dmsetup create "${quick[@]}" t --table "0 $(sectors "$slow") writecache s $slow $fast 4096 0"
    dev=/dev/mapper/t
}
drop_writecache() { remove t; }
drain_writecache() { dmsetup message t 0 flush; }

# dm-cache wants a device for its metadata: the first 16 MiB.
make_cache() {
    local all
    all=$(sectors "$fast")
    [ "${keep:-}" ] || wipe "$fast"
    dmsetup create t_meta --table "0 32768 linear $fast 0"
    dmsetup create t_data --table "0 $((all - 32768)) linear $fast 32768"
    dmsetup create "${quick[@]}" t --table \
        "0 $(sectors "$slow") cache /dev/mapper/t_meta /dev/mapper/t_data $slow 128 1 writeback smq 0"
    dev=/dev/mapper/t
}
drop_cache() { remove t; remove t_meta; remove t_data; }

# Settings as its users are told for benchmarks: everything is cached, and nothing goes around it.
make_bcache() {
    local set=/sys/block/bcache0/bcache/cache device bucket=512k
    modprobe bcache
    if [ ! "${keep:-}" ]; then
        wipe "$fast"
        wipe "$slow"
        # bcache wants 128 buckets, which are of 512 KiB unless it is told otherwise.
        [ "$(sectors "$fast")" -ge 524288 ] || bucket=128k
        make-bcache --writeback --bucket $bucket -C "$fast" -B "$slow" >/dev/null
    fi
    udevadm settle
    for device in $fast $slow; do
        # Registered by udev already, or now.
        echo "$device" >/sys/fs/bcache/register 2>/dev/null || true
    done
    for _ in {1..100}; do [ -b /dev/bcache0 ] && [ -d $set ] && break; sleep 0.1; done
    [ -b /dev/bcache0 ]
    echo 0 >/sys/block/bcache0/bcache/sequential_cutoff
    echo 0 >$set/congested_read_threshold_us
    echo 0 >$set/congested_write_threshold_us
    dev=/dev/bcache0
}
drop_bcache() {
    local set
    set=$(readlink -f /sys/block/bcache0/bcache/cache)
    echo 1 >/sys/block/bcache0/bcache/stop
    echo 1 >"$set/stop"
    for _ in {1..300}; do [ -b /dev/bcache0 ] || [ -d "$set" ] || break; sleep 0.1; done
    udevadm settle
    sleep 0.3
    # Or udev would find bcache's superblocks through the next target, and bcache would not let go of that.
    [ "${keep:-}" ] || { wipe "$fast"; wipe "$slow"; udevadm settle; }
}

# snapshot FILE: what the devices and the CPU have done so far.
snapshot() {
    {
        head -n1 /proc/stat
        echo "slow $(cat /sys/block/"${slow##*/}"/stat)"
        echo "fast $(cat /sys/block/"${fast##*/}"/stat)"
        grep -E '^MemFree' /proc/meminfo
    } >"$1"
}

# run ROUND TARGET PREPARE -- FIO ARGUMENTS
run() {
    local name=$1.$2 target=$2 prepare=$3
    shift 4
    make_"$target"
    [ "$prepare" = - ] || $prepare
    sync
    udevadm settle
    snapshot "$out/$name.before"
    fio --name=bench --eta=never --filename="$dev" --direct=1 --output-format=json \
        --output="$out/$name.json" "$@"
    snapshot "$out/$name.after"
    [ ! -b /dev/mapper/t ] || dmsetup status t >"$out/$name.status"
    drop_"$target"
    echo "done $name"
}

# fill MIB: so much of the device is written, in an order that every cache takes into itself.
fill() {
    fio --name=fill --eta=never --filename="$dev" --direct=1 --rw=randwrite --bs=64k --size="${1}M" \
        --ioengine=io_uring --iodepth=16 --output=/dev/null
}
fill_512() { fill 512; }
# Twice the cache; not the device alone, which has none.
fill_up() { [ "$dev" = "$slow" ] || fill $(($(sectors "$fast") / 1024)); }
# The same, each 4 KiB committed by itself.
fill_fsync() {
    fio --name=fill --eta=never --filename="$dev" --direct=1 --rw=randwrite --bs=4k --size="${1}M" \
        --ioengine=psync --fsync=1 --output=/dev/null
}

# memory ROUND TARGET MIB: free memory before there is the target, and when so much of its cache is filled.
memory() {
    local name=$1.$2
    # The memory that the kernel keeps for later, once the load has run, belongs to no target.
    make_linear
    fill "$3"
    drop_linear
    echo 3 >/proc/sys/vm/drop_caches
    sleep 0.5
    snapshot "$out/$name.before"
    make_"$2"
    fill "$3"
    echo 3 >/proc/sys/vm/drop_caches
    sleep 0.5
    snapshot "$out/$name.after"
    drop_"$2"
    echo "done $name"
}

# copy ROUND TARGET MIB: so much is written one after the other until it is durable, and then drained.
copy() {
    local name=$1.$2 target=$2
    make_"$target"
    sync
    udevadm settle
    timed copy fio --name=copy --eta=never --filename="$dev" --direct=1 --rw=write --bs=1M --size="${3}M" \
        --ioengine=io_uring --iodepth=16 --end_fsync=1 --output=/dev/null
    timed drain drain_"$target"
    drop_"$target"
    echo "done $name"
}

# timed WORD COMMAND...: in ms, without udev.
timed() {
    local word=$1 a b
    shift
    quick=(--noudevsync)
    a=$(ms)
    "$@"
    b=$(ms)
    quick=()
    udevadm settle
    echo "$word $((b - a))" >>"$out/$name.times"
}

# resume ROUND TARGET DRAIN FILL...: how long it takes to make the target on devices that are new, on the same
# with nothing in the cache and with what the function FILL leaves dirty there, and, if DRAIN is true, to
# drain that.
resume() {
    local name=$1.$2 target=$2 drain=$3 keep=
    shift 3
    timed format make_"$target"
    keep=1
    drop_"$target"
    udevadm settle
    timed empty make_"$target"
    "$@"
    sync
    # As after a crash: what is dirty stays so. Writeback of this much takes longer than this.
    drop_"$target"
    udevadm settle
    timed resume make_"$target"
    [ ! -b /dev/mapper/t ] || dmsetup status t >"$out/$name.status"
    ! $drain || timed drain drain_"$target"
    keep=
    drop_"$target"
    echo "done $name"
}
