//! Managing: the module, tables, status, messages, options, and `wbctl`.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::support::{code, script, Bench, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "admin::module",
        5,
        true,
        r#"
        modinfo dm-writeboost | tee /tmp/info
        grep -q '^license: *GPL' /tmp/info
        for field in author description; do grep -q "^$field: *[A-Za-z]" /tmp/info; done
        for round in 1 2 3; do
            modprobe dm-writeboost
            dmsetup targets | grep '^writeboost *v'
            rmmod dm_writeboost
            ! dmsetup targets | grep '^writeboost' || die 'the target is still there'
        done
        say 'dmsetup create loads it'
        ram 2 16
        volume v /dev/ram0 /dev/ram1
        grep -q '^dm_writeboost' /proc/modules
        refused + 'in use' -- rmmod dm_writeboost
        remove v
        rmmod dm_writeboost
        say 'wbctl create loads it'
        wbctl create v /dev/ram0 /dev/ram1
        wbctl remove v
        rmmod dm_writeboost
        ! grep '^dm_writeboost' /proc/modules || die 'it is still there'
        "#,
    ),
    script(
        "admin::create_and_remove_often",
        10,
        false,
        r#"
        ram 2 16
        # RAM disks take memory when they are first written.
        for device in /dev/ram0 /dev/ram1; do dd if=/dev/zero of=$device bs=1M count=16 oflag=direct status=none; done
        modprobe dm-writeboost
        # All that is not free: what is neither of a slab nor mapped is counted nowhere else.
        used() { echo 3 >/proc/sys/vm/drop_caches; sleep 0.5; awk '/^MemTotal/ { n += $2 } /^MemFree/ { n -= $2 } END { print n }' /proc/meminfo; }
        cycle() {
            volume v /dev/ram0 /dev/ram1
            dd if=/dev/urandom of=/dev/mapper/v bs=64k count=8 oflag=direct status=none
            remove v
        }
        for i in $(seq 10); do cycle; done
        before=$(used)
        for i in $(seq 60); do cycle; done
        after=$(used)
        say "$before KiB before, $after after"
        # A volume has buffers of 2 MiB: even a tenth of that left behind each time would show.
        [ $((after - before)) -lt 8192 ] || die "memory is left behind: $before KiB before, $after after"
        rmmod dm_writeboost
        "#,
    ),
    script(
        "admin::table",
        5,
        true,
        r#"
        ram 2 16
        n=$(sectors /dev/ram0)
        # The table that dmsetup shows makes the same volume again.
        for options in "" "2 writeback_threshold 70" \
            "8 writeback_threshold 0 nr_max_batched_writeback 8 sync_data_interval 5 update_sb_record_interval 60"; do
            dmsetup create v --table "0 $n writeboost /dev/ram0 /dev/ram1 $options"
            table=$(dmsetup table v)
            echo "$table"
            same table "$table" "0 $n writeboost 1:0 1:1 ${options:-0}"
            remove v
            dmsetup create v --table "$table"
            same 'table of the table' "$(dmsetup table v)" "$table"
            remove v
        done
        "#,
    ),
    script(
        "admin::status",
        10,
        true,
        r#"
        ram 1 64
        null c 17
        volume v /dev/ram0 /dev/c writeback_threshold 0
        status=$(dmsetup status v)
        echo "$status"
        read -r -a words <<<"$status"
        same 'the target' "${words[2]}" writeboost
        same 'segments' "$(field v 3)" 32
        same 'blocks' "$(field v 2)" $((32 * 128))
        same 'dirty blocks' "$(dirty v)" 0
        for i in $(seq 1 24); do [[ $(field v $i) =~ ^[0-9]+$ ]] || die "field $i is $(field v $i)"; done
        # Behind dm-writeboost's fields: the number of words, its options by its names, and pairs to the end.
        same 'number of words' ${#words[@]} $((3 + 25 + $(field v 25)))
        theirs='writeback_threshold nr_cur_batched_writeback sync_data_interval update_sb_record_interval'
        same 'its options' "$(for i in 26 28 30 32 34; do field v $i; done | xargs)" "$theirs read_cache_threshold"
        for ((i = 28; i < ${#words[@]}; i += 2)); do
            [[ ${words[i]} =~ ^[a-z_]+$ && ${words[i + 1]} =~ ^[0-9]+$ ]] || die "${words[i]} ${words[i + 1]}"
        done
        same 'threshold' "$(value v writeback_threshold)" 0
        same 'state' "$(value v state)" ok
        same 'health' "$(dmsetup message v 0 health)" 'ok none'
        same 'steered by' "$(value v steered_by)" 1
        [[ $(value v uuid) =~ ^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$ ]]
        say 'what is counted'
        # The counters are fields 8 to 23 in the order of dm-writeboost: write, hit, in RAM, full.
        counters() { local i sum=0; for i in $(seq "$1" "$2"); do sum=$((sum + $(field v $i))); done; echo $sum; }
        dmsetup message v 0 clear_stat
        same 'all counters' "$(counters 8 23)" 0
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=write --bs=4k --size=1m --end_fsync=1 >/dev/null
        same 'writes' "$(counters 16 23)" 256
        same 'full writes that miss, the tenth' "$(field v 17)" 256
        same 'dirty blocks' "$(dirty v)" 256
        dmsetup message v 0 clear_stat
        fio --name=r --filename=/dev/mapper/v --direct=1 --rw=read --bs=4k --size=1m >/dev/null
        same 'writes' "$(counters 16 23)" 0
        same 'read misses' "$(counters 8 11)" 0
        same 'read hits' "$(counters 12 15)" 256
        dd if=/dev/mapper/v of=/dev/null bs=4k skip=8000 count=10 iflag=direct status=none
        same 'read misses' "$(counters 8 11)" 10
        dmsetup message v 0 clear_stat
        same 'all counters' "$(counters 8 23)" 0
        same 'dirty blocks' "$(dirty v)" 256
        drained v /dev/ram0
        healthy v
        remove v
        "#,
    ),
    script(
        "admin::messages",
        5,
        true,
        r#"
        ram 2 16
        volume v /dev/ram0 /dev/ram1
        set_to() { dmsetup message v 0 "$1" "$2"; same "$1" "$(value v "$1")" "$2"; }
        set_to writeback_threshold 70
        set_to writeback_threshold 0
        set_to writeback_threshold 100
        set_to nr_max_batched_writeback 1
        set_to nr_max_batched_writeback 32
        set_to sync_data_interval 3600
        set_to sync_data_interval 0
        set_to update_sb_record_interval 60
        before=$(dmsetup table v)
        same 'table' "${before#*1:1 }" \
            '8 writeback_threshold 100 nr_max_batched_writeback 32 sync_data_interval 0 update_sb_record_interval 60'
        say 'what is refused changes nothing'
        logs 'unknown option' -- dmsetup message v 0 frobnicate 1
        logs 'unknown message frobnicate' -- dmsetup message v 0 frobnicate
        logs 'unknown message' -- dmsetup message v 0 writeback_threshold
        logs 'unknown message' -- dmsetup message v 0 writeback_threshold 1 2
        for value in -1 101 x 4294967296 99999999999999999999 1.5; do
            logs 'writeback_threshold takes a number from 0 to 100' -- dmsetup message v 0 writeback_threshold -- $value
        done
        logs 'nr_max_batched_writeback takes a number from 1' -- dmsetup message v 0 nr_max_batched_writeback 0
        logs 'sync_data_interval takes a number from 0' -- dmsetup message v 0 sync_data_interval 3601
        same 'table' "$(dmsetup table v)" "$before"
        say 'names of messages are taken in any case, as dm-writeboost does'
        dmsetup message v 0 CLEAR_STAT
        dmsetup message v 0 Drop_Caches
        healthy v
        remove v
        "#,
    ),
    script(
        "admin::drop_caches",
        30,
        false,
        r#"
        hdd b 40
        ram 1 64
        volume v /dev/b /dev/ram0 writeback_threshold 0
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=36m --io_size=6m \
            --randseed=$SEED >/dev/null
        before=$(dirty v)
        [ $before -gt 1400 ] || die "$before dirty blocks only"
        say 'a signal ends it, and the volume goes on working'
        dmsetup message v 0 drop_caches &
        pid=$!
        for i in $(seq 100); do [ $(dirty v) = $before ] || break; sleep 0.1; done
        kill -0 $pid || die 'it is over before it could be interrupted'
        # Not SIGINT, which a background job of a script ignores.
        kill -TERM $pid
        start=$(date +%s%N)
        ! wait $pid || die 'it succeeded'
        took=$((($(date +%s%N) - start) / 1000000))
        [ $took -lt 2000 ] || die "it took $took ms to end"
        left=$(dirty v)
        say "$before dirty blocks, $left when interrupted"
        [ $left -gt 0 ] || die 'nothing is left'
        [ $left -lt $before ] || die 'nothing was written back'
        verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=36m --io_size=1m
        say 'wbctl drain, too, and it says what is left'
        # setsid: for SIGINT not to be ignored.
        setsid python3 -c '
import subprocess, signal, sys, time
p = subprocess.Popen(["wbctl", "drain", "v"], stderr=subprocess.PIPE)
time.sleep(1)
p.send_signal(signal.SIGINT)
said = p.communicate()[1].decode()
print(said)
sys.exit(0 if p.returncode == 130 and "still dirty" in said else 1)'
        healthy v
        drained v /dev/b
        say 'it can be had again and again'
        drain v
        drain v
        same 'dirty blocks' "$(dirty v)" 0
        finish v /dev/b /dev/ram0
        "#,
    ),
    script(
        "admin::sync_data_interval",
        10,
        false,
        r#"
        ram 2 16
        # Without anybody asking, and without the volume being idle, what is written gets to the cache device.
        volume v /dev/ram0 /dev/ram1 sync_data_interval 1
        dd if=/dev/zero of=/dev/mapper/v bs=4k count=1 oflag=direct status=none
        for i in $(seq 50); do
            # Reads keep it from being idle.
            dd if=/dev/mapper/v of=/dev/null bs=4k skip=100 count=1 iflag=direct status=none
            [ "$(field v 5)" -lt 1 ] || break
            sleep 0.1
        done
        [ "$(field v 5)" -ge 1 ] || die "not after 5 seconds: $(dmsetup status v)"
        remove v
        "#,
    ),
    script(
        "admin::writeback_when_idle",
        15,
        false,
        r#"
        ram 2 32
        volume v /dev/ram0 /dev/ram1
        verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=8m
        for i in $(seq 100); do
            [ "$(dirty v)" != 0 ] || break
            sleep 0.1
        done
        same 'dirty blocks of a volume that nobody uses' "$(dirty v)" 0
        equal /dev/mapper/v /dev/ram0
        say 'not when it is not wanted'
        dmsetup message v 0 writeback_threshold 0
        verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=4m
        before=$(dirty v)
        [ $before -gt 900 ] || die "$before dirty blocks only"
        sleep 3
        same 'dirty blocks' "$(dirty v)" $before
        finish v /dev/ram0 /dev/ram1
        "#,
    ),
    script(
        "admin::reload",
        5,
        true,
        r#"
        ram 3 16
        volume v /dev/ram0 /dev/ram1
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
        table=$(dmsetup table v) before=$(digest /dev/mapper/v)
        # Two of them on one cache device, if only for a moment, would each write a log of its own.
        logs 'in use by another writeboost volume' -- dmsetup reload v --table "$table"
        same 'table' "$(dmsetup table v)" "$table"
        same 'content' "$(digest /dev/mapper/v)" "$before"
        say 'with another target in between it works'
        dmsetup suspend v
        dmsetup reload v --table "0 $(sectors /dev/ram0) error"
        dmsetup resume v
        dmsetup suspend v
        dmsetup reload v --table "$table"
        dmsetup resume v
        same 'content' "$(digest /dev/mapper/v)" "$before"
        finish v /dev/ram0 /dev/ram1
        "#,
    ),
    script(
        "admin::wbctl_refusals",
        15,
        true,
        concat!(
            "ram 3 64\nBIN=/usr/local/sbin\ntrap - ERR\nset +eE\nset +o pipefail\n",
            include_str!("../../../wbctl/tests/guest.sh")
        ),
    ),
    code("admin::wbctl_json", 10, true, wbctl_json),
];

/// What `wbctl --json` prints is JSON, and right.
fn wbctl_json(cx: &Bench) -> Result<()> {
    let script = r#"
        ram 3 32
        json() { echo "JSON $(wbctl --json "$@" 2>/dev/null | tr -d '\n')"; }
        json list
        json create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
        json create v /dev/ram0 /dev/ram1 || true
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
        json list
        json status v
        json remove v
        json create v /dev/ram2 /dev/ram1 || true
        json create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
        json drain v
        json status v
        json remove v --drain
        json list
    "#;
    let outcome = cx.run(cx.guest()?, script)?;
    let answers: Vec<Value> = outcome
        .output
        .lines()
        .filter_map(|line| line.strip_prefix("JSON "))
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect::<Result<_>>()?;
    let sectors = 32 << 11;
    // An answer, where in it to look, and what must be there.
    let wanted: &[(usize, &str, Value)] = &[
        (1, "/name", "v".into()),
        (1, "/device", "/dev/mapper/v".into()),
        (1, "/formatted", true.into()),
        (1, "/size_sectors", sectors.into()),
        (1, "/dirty_blocks", 0.into()),
        (2, "/exit_code", 9.into()),
        (3, "/0/name", "v".into()),
        (3, "/0/state", "ok".into()),
        (3, "/0/dirty_blocks", 1024.into()),
        (4, "/size_sectors", sectors.into()),
        (4, "/backing/device", "/dev/ram0".into()),
        (4, "/cache/device", "/dev/ram1".into()),
        (4, "/dirty_bytes", (4 << 20).into()),
        (4, "/options/writeback_threshold", 0.into()),
        (4, "/read_errors", 0.into()),
        (4, "/writeback_errors", 0.into()),
        (5, "/dirty_blocks", 1024.into()),
        (5, "/backing", "/dev/ram0".into()),
        (6, "/exit_code", 7.into()),
        (7, "/formatted", false.into()),
        (7, "/dirty_blocks", 1024.into()),
        (8, "/dirty_blocks_before", 1024.into()),
        (8, "/dirty_blocks_after", 0.into()),
        (9, "/dirty_blocks", 0.into()),
        (10, "/dirty_blocks", 0.into()),
    ];
    ensure!(answers.len() == 12, "{} answers:\n{}", answers.len(), outcome.output);
    for (answer, at, value) in wanted {
        let is = answers[*answer].pointer(at);
        ensure!(is == Some(value), "answer {answer} has {is:?} at {at}, not {value}: {}", answers[*answer]);
    }
    for empty in [0, 11] {
        ensure!(
            answers[empty].as_array().is_some_and(Vec::is_empty),
            "no volumes, and the list is {}",
            answers[empty]
        );
    }
    ensure!(answers[1].get("uuid") == answers[7].get("uuid"), "the UUID changed");
    Ok(())
}
