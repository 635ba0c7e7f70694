# shellcheck shell=bash
# Devices for the demo; sourced by both boots.

# A hard disk at /dev/mapper/hdd: one request at a time, 5 ms each, as docs/benchmarks describes it. The model
# keeps its data in the guest's memory, so each write goes to the file /dev/lab/disk0 too, which outlives a
# power cut.
hard_disk() {
    modprobe null_blk nr_devices=0
    modprobe dm-mirror
    local model=/sys/kernel/config/nullb/model sectors
    sectors=$(blockdev --getsz /dev/lab/disk0)
    mkdir $model
    echo $((sectors / 2048)) >$model/size
    echo 1 >$model/memory_backed
    echo 2 >$model/irqmode
    echo 5000000 >$model/completion_nsec
    echo 1 >$model/hw_queue_depth
    echo 1 >$model/submit_queues
    echo 1 >$model/power
    udevadm settle
    dd if=/dev/lab/disk0 of=/dev/model bs=1M conv=sparse oflag=direct status=none
    dmsetup create hdd --table "0 $sectors mirror core 2 1024 nosync 2 /dev/model 0 /dev/lab/disk0 0"
    udevadm settle
}

say() { echo "SAY $*"; }

# How many 4 KiB writes a second a file takes when each is followed by fsync.
fsyncs() { # FILE
    fio --name=fsync --filename="$1" --size=64m --rw=randwrite --bs=4k --direct=1 --fsync=1 --ioengine=psync \
        --runtime=1 --time_based --output-format=terse --terse-version=3 | awk -F';' '{ print $49 }'
    rm -f "$1"
}
