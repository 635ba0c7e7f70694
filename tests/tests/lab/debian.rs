//! The kernels that users run: Debian's own, unmodified, of each supported series, under QEMU.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Result;
use xtask::lab::{Series, SUPPORTED};

use crate::support::{Bench, Body, Level, Test};

/// How long [`load`] goes on: when there is time, on the newest series.
const LONG: u32 = 300;
const SHORT: u32 = 60;

/// The tests for each supported series.
pub fn tests() -> Vec<Test> {
    let newest = SUPPORTED.last();
    let test = |series: Series, what: &str, seconds, body| Test {
        name: Cow::Owned(format!("debian::{what}_{}_{}", series.major, series.minor)),
        seconds,
        full_seconds: seconds,
        level: Level::Normal,
        body: Body::Debian(series, body),
    };
    let mut tests = Vec::new();
    for &series in SUPPORTED {
        tests.push(test(series, "linux", 120, smoke));
        let load = if Some(&series) == newest {
            test(series, "load", SHORT + 60, load_longer).full_takes(LONG + 60)
        } else {
            test(series, "load", SHORT + 60, load)
        };
        tests.push(load);
        tests.push(test(series, "throttle", 60, throttle));
    }
    tests
}

/// One minute of everything at once.
fn load(cx: &Bench) -> Result<()> {
    load_for(cx, SHORT)
}

/// The same, five minutes of it when there is time.
fn load_longer(cx: &Bench) -> Result<()> {
    load_for(cx, if cx.full { LONG } else { SHORT })
}

/// Everything at once for so many seconds, with four CPUs: writes that are read back, with and without fsync, on a cache
/// much smaller than what is written, while the volume is suspended, resumed, drained, asked and tuned.
fn load_for(cx: &Bench, seconds: u32) -> Result<()> {
    let guest = cx.guest()?.cpus(4).mem(1024).timeout(Duration::from_secs(u64::from(seconds) * 2 + 900));
    cx.run(guest, &format!("LOAD_SECONDS={seconds}\n{LOAD}"))?;
    Ok(())
}

const LOAD: &str = r#"
modprobe dm-writeboost
null b 128 irqmode 2 completion_nsec 200000
null c 20 irqmode 2 completion_nsec 50000
volume v /dev/b /dev/c
RANDOM=$((SEED % 32768))
pids=()
# fsync after one write in four; a queue of many; small ones that begin and end within a block; large ones.
i=0
for job in "--ioengine=psync --bs=4k --fsync=4" "--ioengine=io_uring --iodepth=32 --bs=4k --verify_backlog=256" \
    "--ioengine=io_uring --iodepth=8 --bsrange=512-16k --blockalign=512 --verify_backlog=64" \
    "--ioengine=io_uring --iodepth=4 --bs=256k --fdatasync=8 --verify_backlog=8"; do
    # When all blocks have had their turn fio begins anew, and must not write what it still reads to verify.
    verify /dev/mapper/v --rw=randrw --time_based --runtime=$LOAD_SECONDS --offset=$((i * 24))m --size=24m \
        --serialize_overlap=1 $job &
    pids+=($!)
    i=$((i + 1))
done
# A history beside it, whose writes overlap and cross each other's borders.
wbtest history-write /dev/mapper/v --seed $SEED --first $((96 * 2048)) --sectors $((8 * 2048)) --every 50 >/tmp/history &
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
for pid in "${pids[@]:0:4}"; do wait $pid; done
touch /tmp/over
for pid in "${pids[@]:4}"; do wait $pid; done
kill $history
wait $history || true
echo "REPORT in $LOAD_SECONDS s of load: $(cat /tmp/count.suspends) suspends, $(cat /tmp/count.drains) drains," \
    "$(cat /tmp/count.messages) messages, $(cat /tmp/count.flushes) flushes, $(tail -n1 /tmp/history) in the history"
dmsetup message v 0 writeback_threshold 100
durable=$(awk '/^durable/ { n = $2 } END { print n + 0 }' /tmp/history)
say "$(wbtest history-check /dev/mapper/v --seed $SEED --first $((96 * 2048)) --sectors $((8 * 2048)) --durable $durable --reads 200)"
finish v /dev/b /dev/c
"#;

/// Everything once, with two CPUs.
fn smoke(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(1024);
    cx.run(
        guest,
        r#"
        uname -a
        modinfo dm-writeboost
        modprobe dm-writeboost
        null b 48 irqmode 2 completion_nsec 1000000
        null c 16
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --numjobs=2 --rw=randrw --bsrange=512-64k --blockalign=512 \
            --size=8m --offset_increment=16m --verify_backlog=64
        say suspend and resume under load
        verify /dev/mapper/v --ioengine=psync --numjobs=2 --rw=randwrite --bs=4k --size=2m --offset_increment=16m --fsync=4 &
        fio=$!
        while kill -0 $fio 2>/dev/null; do
            dmsetup suspend v
            dmsetup resume v
            dmsetup suspend --noflush v
            dmsetup resume v
        done
        wait $fio
        healthy v
        remove v
        say resume
        volume v /dev/b /dev/c writeback_threshold 0
        wbtest history-write /dev/mapper/v --seed $SEED --last 100 --every 10 >/dev/null
        finish v /dev/b /dev/c
        say wbctl
        wbctl create w /dev/b /dev/c
        mkfs.ext4 -q /dev/mapper/w
        mount /dev/mapper/w $m
        wbtest files-write $m --seed $SEED --count 30 >/dev/null
        umount $m
        wbctl status w
        wbctl remove w --drain
        e2fsck -fn /dev/b
        say devices that do not fit, which UML has not
        null zones 64 zoned 1 zone_size 16
        null large 64 blocksize 8192
        null b2 48
        null c2 64
        blank=$(digest /dev/c2)
        for two in "zones c2 The backing device is zoned" "b2 zones The cache device is zoned" \
            "large c2 The backing device has logical blocks of more" "b2 large The cache device has logical blocks of more"; do
            read -r backing cache words <<<"$two"
            logs "$words" -- dmsetup create bad --table "0 $(sectors /dev/$backing) writeboost /dev/$backing /dev/$cache"
            refused 6 "$([[ $two = *zones* ]] && echo zoned || echo 'logical blocks of 8192 bytes')" -- \
                wbctl create bad /dev/$backing /dev/$cache
        done
        same 'cache device' "$(digest /dev/c2)" "$blank"
        rmmod dm_writeboost
        "#,
    )?;
    Ok(())
}

/// What somebody waits for is not held back by blk-wbt as writeback is, and a task that has to stand back for others sends nothing
/// that others wait for. Seen by the kernel itself: a probe counts the bios that blk-wbt makes wait their turn, and each bio that is
/// sent is traced, with the task that sends it.
fn throttle(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(1024);
    cx.run(
        guest,
        r#"
        modprobe dm-writeboost
        null b 48
        null c 16
        null d 16
        for d in c d; do echo 75000 >/sys/block/$d/queue/wbt_lat_usec; done
        echo 0 >/sys/block/b/queue/wbt_lat_usec || true
        volume v /dev/b /dev/c writeback_threshold 0
        t=/sys/kernel/tracing
        mountpoint -q $t || mount -t tracefs tracefs $t
        echo 'p:held rq_qos_wait' >$t/kprobe_events
        echo 1 >$t/events/kprobes/held/enable
        held() { awk '/held/ { print $2 }' $t/kprobe_profile; }
        say a write that nobody waits for is held back
        dd if=/dev/zero of=/dev/d bs=64k count=16 status=none
        sync /dev/d
        before=$(held)
        [ $before -gt 0 ] || die "blk-wbt holds back nothing here"
        say records, flushes, checkpoints are not
        echo 1 >$t/events/block/block_bio_queue/enable
        fio --name=f --filename=/dev/mapper/v --ioengine=psync --direct=1 --rw=randwrite --bs=4k --size=8m --number_ios=200 \
            --fsync=1 >/dev/null
        dd if=/dev/zero of=/dev/mapper/v bs=512k count=8 oflag=direct status=none
        dmsetup suspend v
        dmsetup resume v
        # 253:0 is written 253,0 there.
        sent() { grep "block_bio_queue: $(tr : , </sys/block/c/dev) " $t/trace; }
        say "$(sent | tail -n 3)"
        [ $(sent | grep -c ' W[A-Z]*S[A-Z]* ') -gt 200 ] || die "only so many bios are marked: $(sent | wc -l)"
        [ $(held) = $before ] || die "$(($(held) - before)) bios of the volume were held back"
        say who sends
        for how in "chrt -o 0" "chrt -i 0" "nice -n 5"; do
            echo >$t/trace
            $how dd if=/dev/zero of=/dev/mapper/v bs=4k count=50 oflag=direct,dsync status=none
            n=$(sent | grep -c ' dd-') || true
            say "$how: $n of $(sent | wc -l)"
            case $how in
                *-o*) [ $n -gt 0 ] || die "nobody sends himself";;
                *) [ $n = 0 ] || die "he sends $n bios for others";;
            esac
        done
        echo 0 >$t/events/enable
        finish v /dev/b /dev/c
        "#,
    )?;
    Ok(())
}
