# shellcheck shell=bash
# What reads take while a cache takes writes, under fixed policies, the built-in one and the daemon's. Only
# reports.

# A hard disk that one job reads from, half of the time, and a cache that takes the writes of another.
hdd x 1024
ram 1 256
# percentile NUMBER: of the times that reads took, in ms.
percentile() { jq -r ".jobs[0].read.clat_ns.percentile[\"$1.000000\"] / 1e6 | round" /tmp/fio; }
policy() {
    local name=$1
    shift
    wbctl create v /dev/x /dev/ram0
    "$@" >/dev/null 2>&1
    echo 3 >/proc/sys/vm/drop_caches
    fio --eta=never --filename=/dev/mapper/v --direct=1 --bs=4k --time_based --runtime=60 --group_reporting \
        --output-format=json --output=/tmp/fio \
        --name=reads --rw=randread --size=1000M --ioengine=psync --thinktime=20ms --thinktime_blocks=1 \
        --new_group --name=writes --rw=randwrite --size=1000M --ioengine=psync --rate_iops=150 \
        --randseed="$SEED"
    echo "REPORT $name: reads p50 $(percentile 50) ms, p99 $(percentile 99) ms," \
        "$(value v written_back) blocks written back, $(dirty v) dirty," \
        "$(value v free_segments) of $(field v 3) segments free"
    pkill wbdaemon || true
    wait || true
    wbctl remove v
    head -c 1M /dev/zero >/dev/ram0
}
policy 'always' wbctl set v writeback_threshold 100
policy 'never until full' wbctl set v writeback_threshold 0
policy '70 %' wbctl set v writeback_threshold 70
policy 'built in' true
daemon() { wbdaemon & }
policy 'wbdaemon' daemon
