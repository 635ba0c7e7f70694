# shellcheck shell=bash
# Everything at once for LOAD_SECONDS seconds, with four CPUs: writes that are read back, with and without
# fsync, on a cache much smaller than what is written, while the volume is suspended, resumed, drained,
# asked and tuned.

modprobe dm-writeboost
null b 128 irqmode 2 completion_nsec 200000
null c 20 irqmode 2 completion_nsec 50000
volume v /dev/b /dev/c
RANDOM=$((SEED % 32768))
pids=()
# fsync after one write in four; a queue of many; small ones that begin and end within a block; large ones.
i=0
for job in "--ioengine=psync --bs=4k --fsync=4" \
    "--ioengine=io_uring --iodepth=32 --bs=4k --verify_backlog=256" \
    "--ioengine=io_uring --iodepth=8 --bsrange=512-16k --blockalign=512 --verify_backlog=64" \
    "--ioengine=io_uring --iodepth=4 --bs=256k --fdatasync=8 --verify_backlog=8"; do
    # When all blocks have had their turn fio begins anew, and must not write what it still reads to verify.
    # shellcheck disable=SC2086 # Words for fio.
    verify /dev/mapper/v --rw=randrw --time_based --runtime=$LOAD_SECONDS --offset=$((i * 24))m --size=24m \
        --serialize_overlap=1 $job &
    pids+=($!)
    i=$((i + 1))
done
# A history beside it, whose writes overlap and cross each other's borders.
wbtest history-write /dev/mapper/v --seed "$SEED" --first $((96 * 2048)) --sectors $((8 * 2048)) --every 50 \
    >/tmp/history &
history=$!
# Each of these until there is no more load.
busy() { [ ! -e /tmp/over ]; }
count() { echo "$2" >"/tmp/count.$1"; }
(n=0; while busy; do
    how=; [ $((RANDOM % 2)) = 0 ] || how=--noflush
    dmsetup suspend $how v; sleep 0.0$((RANDOM % 10)); dmsetup resume v
    n=$((n + 1)); count suspends $n
    sleep $((RANDOM % 2)).$((RANDOM % 10))
done) &
pids+=($!)
(n=0; while busy; do
    # A drain is refused while the volume is suspended.
    if drain v 2>/tmp/drain.said; then n=$((n + 1)); count drains $n
    else grep -qi busy /tmp/drain.said || die "drain: $(cat /tmp/drain.said)"; fi
    sleep $((RANDOM % 3))
done) &
pids+=($!)
(n=0; while busy; do
    set -- "writeback_threshold $((RANDOM % 101))" "nr_max_batched_writeback $((1 + RANDOM % 32))" \
        "sync_data_interval $((RANDOM % 2))" clear_stat
    # shellcheck disable=SC2068 # One of the messages, and its words.
    dmsetup message v 0 ${@:$((1 + RANDOM % 4)):1}
    dmsetup status v >/dev/null; dmsetup table v >/dev/null
    n=$((n + 1)); count messages $n
    sleep 0.$((RANDOM % 10))
done) &
pids+=($!)
(n=0; while busy; do
    blockdev --flushbufs /dev/mapper/v
    dd if=/dev/mapper/v of=/dev/null bs=512 skip=$((RANDOM * 4)) count=64 iflag=direct status=none
    n=$((n + 1)); count flushes $n
    sleep 0.$((RANDOM % 10))
done) &
pids+=($!)
# The four of fio end by themselves.
for pid in "${pids[@]:0:4}"; do wait "$pid"; done
touch /tmp/over
for pid in "${pids[@]:4}"; do wait "$pid"; done
kill $history
wait $history || true
counted() { cat "/tmp/count.$1"; }
echo "REPORT in $LOAD_SECONDS s of load: $(counted suspends) suspends, $(counted drains) drains," \
    "$(counted messages) messages, $(counted flushes) flushes, $(tail -n1 /tmp/history) in the history"
dmsetup message v 0 writeback_threshold 100
durable=$(awk '/^durable/ { n = $2 } END { print n + 0 }' /tmp/history)
say "$(wbtest history-check /dev/mapper/v --seed "$SEED" --first $((96 * 2048)) --sectors $((8 * 2048)) \
    --durable "$durable" --reads 200)"
finish v /dev/b /dev/c
