# shellcheck shell=bash
# Times of the models, a line `TIME SPECIFIED MEASURED WHAT` for each, in microseconds.

# model PARAMETER=VALUE...
model() {
    [ ! -b /dev/model ] || rmmod blk-model
    insmod /mnt/share/blk-model.ko mib=1024 "$@"
    udevadm settle
}
# takes WHAT US FIO ARGUMENTS: one at a time, so many microseconds on average as specified, and what it is.
takes() {
    local what=$1 want=$2 is
    shift 2
    fio --name=m --filename=/dev/model --eta=never --direct=1 --ioengine=psync --norandommap --randrepeat=1 \
        --randseed="$SEED" --time_based --runtime=3 --output-format=json --output=/tmp/m.json "$@"
    is=$(jq '.jobs[0] | .job_runtime * 1000 / (.read.total_ios + .write.total_ios) | floor' /tmp/m.json)
    echo "TIME $want $is $what"
}
# does WHAT MBPS FIO ARGUMENTS: many at a time, so many MB/s at most as specified, and what they are; as the
# time of a GB.
does() {
    local what=$1 want=$2 is
    shift 2
    fio --name=m --filename=/dev/model --eta=never --direct=1 --ioengine=io_uring --norandommap \
        --randrepeat=1 --randseed="$SEED" \
        --time_based --runtime=3 --output-format=json --output=/tmp/m.json "$@"
    is=$(jq '.jobs[0] | (1000 * 1000000000 / (.read.bw_bytes + .write.bw_bytes) * 1000 | floor)' /tmp/m.json)
    echo "TIME $((1000000000 / want)) $is $what, each GB"
}
model
# A seek costs 0.5 ms and 15.5 ms times the root of the distance, of which the average is 8/15 of the root of
# the span; then half a turn, 4.17 ms, and 27 us for 4 KiB.
takes 'disk: 4 KiB random reads over all of it' 12960 --rw=randread --bs=4k
takes 'disk: over a tenth of it' 7310 --rw=randread --bs=4k --size=103M
takes 'disk: over a hundredth of it' 5520 --rw=randread --bs=4k --size=10M
takes 'disk: each 4 KiB behind the last, and a flush, which is 10 ms' 10027 --rw=write --bs=4k --fsync=1
does 'disk: 1 MiB reads, one behind the other' 150 --rw=read --bs=1M --iodepth=4
does 'disk: 1 MiB writes, one behind the other' 150 --rw=write --bs=1M --iodepth=4
# The disk chooses the order itself. The least is the shortest seek, and a sixth of a turn.
does 'disk: 4 KiB random reads, 32 at a time' 2 --rw=randread --bs=4k --iodepth=32
model zone_mib=16 media_mib=64
does 'shingled: 1 MiB writes, one behind the other' 150 --rw=write --bs=1M --iodepth=4
# Once its media cache is full: for each zone that is put in order it is read and written, 224 ms, and at
# random 1/64 of 64 MiB becomes free, 256 writes, or some more where it takes the zone that has most.
fio --name=fill --filename=/dev/model --eta=never --direct=1 --ioengine=io_uring --iodepth=32 --rw=randwrite \
    --bs=64k --size=1G --io_size=72M --output=/dev/null
takes 'shingled: 4 KiB random writes, when its media cache is full' 300 --rw=randwrite --bs=4k --ramp_time=3 \
    --runtime=10
model parallel=1 tags=1024 latency_us=5000 mbps=2500 flush_us=0
takes 'array: 4 KiB random reads' 5002 --rw=randread --bs=4k
does 'array: 4 KiB random reads, 64 at a time' 53 --rw=randread --bs=4k --iodepth=64
does 'array: 1 MiB writes, 32 at a time' 2500 --rw=write --bs=1M --iodepth=32
takes 'array: 4 KiB random writes, each with a flush' 5002 --rw=randwrite --bs=4k --fsync=1
model parallel=1 tags=256 latency_us=2000 mbps=1000 flush_us=2000
takes 'network: 4 KiB random reads' 2004 --rw=randread --bs=4k
does 'network: 4 KiB random reads, 64 at a time' 132 --rw=randread --bs=4k --iodepth=64
does 'network: 1 MiB writes, 32 at a time' 1000 --rw=write --bs=1M --iodepth=32
takes 'network: 4 KiB random writes, each with a flush' 4004 --rw=randwrite --bs=4k --fsync=1
rmmod blk-model
