//! Steering writeback: options that change while the volume is in use, the dead man's rule, the report and events.

use crate::support::{script, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    # dirties MIB: random blocks, so that each is a request of its own for the backing device.
    dirties() {
        fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=$1M --randseed=$SEED \
            --ioengine=io_uring --iodepth=32 --end_fsync=1 --output=/dev/null
    }
    is_clean() { [ "$(dirty v)" = 0 ]; }
    # stays_dirty SECONDS: nothing is written back for so long.
    stays_dirty() {
        local before
        before=$(value v written_back)
        sleep "$1"
        same 'blocks written back' "$(value v written_back)" "$before"
    }
"#,
            $script
        )
    };
}

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "steer::options",
        10,
        true,
        with_helpers!(
            r#"
        ram 2 64
        wbctl create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
        n=$(sectors /dev/ram0)
        say 'get'
        same threshold "$(wbctl get v writeback_threshold)" 0
        same 'rate limit' "$(wbctl get v writeback_rate_limit)" default
        wbctl get v | tee /tmp/got
        same options "$(wc -l </tmp/got)" 8
        grep -q '^writeback_threshold  *0  *0 to 100 percent: ' /tmp/got || die 'no threshold'
        wbctl --json get v >/tmp/got
        same 'the same as JSON' "$(jq -c '.[] | select(.name == "writeback_threshold") | [.value, .min, .max]' /tmp/got)" '[0,0,100]'
        same 'not given' "$(jq -c '.[] | select(.name == "steering_timeout") | .value' /tmp/got)" null
        say 'set'
        same 'what it says' "$(wbctl set v writeback_rate_limit 4096)" 'v: writeback_rate_limit 4096'
        wbctl set v nr_max_batched_writeback 8
        same table "$(dmsetup table v)" \
            "0 $n writeboost 1:0 1:1 6 writeback_threshold 0 nr_max_batched_writeback 8 writeback_rate_limit 4096"
        same 'in the status' "$(value v writeback_rate_limit)" 4096
        say 'taken back'
        wbctl set v nr_max_batched_writeback default
        wbctl set v writeback_threshold default
        same table "$(dmsetup table v)" "0 $n writeboost 1:0 1:1 2 writeback_rate_limit 4096"
        say 'what is refused changes nothing'
        refused 2 'writeback_threshold takes a number from 0 to 100, or default' -- wbctl set v writeback_threshold 101
        refused 2 'from 0 to 4194304' -- wbctl set v writeback_rate_limit -- -1
        refused 2 'unknown option; there are writeback_threshold,' -- wbctl set v threshold 1
        refused 2 'unknown option' -- wbctl get v threshold
        refused 8 'w is not a writeboost volume' -- wbctl set w writeback_threshold 1
        refused 8 'w is not a writeboost volume' -- wbctl get w
        refused + 'Invalid argument' -- dmsetup message v 0 writeback_rate_limit 4194305
        same table "$(dmsetup table v)" "0 $n writeboost 1:0 1:1 2 writeback_rate_limit 4096"
        finish v /dev/ram0 /dev/ram1
        "#
        ),
    ),
    script(
        "steer::threshold",
        30,
        true,
        with_helpers!(
            r#"
        ram 2 128
        volume v /dev/ram0 /dev/ram1 writeback_threshold 0
        dirties 16
        say '0: only when it must'
        stays_dirty 4
        say '100: always, whatever the load'
        dmsetup message v 0 writeback_threshold 100
        within 10 is_clean
        dmsetup message v 0 writeback_threshold 0
        dirties 16
        say 'default: when nobody is there'
        dmsetup message v 0 writeback_threshold default
        within 10 is_clean
        say 'a pass that goes on for long ends when it is not wanted any more'
        dmsetup message v 0 writeback_rate_limit 512
        dirties 16
        dmsetup message v 0 writeback_threshold 100
        sleep 2
        ! is_clean || die 'all is written back'
        dmsetup message v 0 writeback_threshold 0
        sleep 1
        stays_dirty 3
        finish v /dev/ram0 /dev/ram1
        "#
        ),
    ),
    script(
        "steer::rate_limit",
        45,
        true,
        with_helpers!(
            r#"
        ram 2 256
        volume v /dev/ram0 /dev/ram1 writeback_threshold 0
        dirties 96
        say 'never more than the limit and a tenth of a second of it; not much less either'
        rate() {
            local blocks ms kib
            dmsetup message v 0 writeback_rate_limit $1
            dmsetup message v 0 writeback_threshold 100
            sleep 1
            ms=${EPOCHREALTIME/./} blocks=$(value v written_back)
            sleep 4
            blocks=$(($(value v written_back) - blocks)) ms=$(((${EPOCHREALTIME/./} - ms) / 1000))
            kib=$((blocks * 4 * 1000 / ms))
            echo "REPORT $kib KiB/s with a limit of $1"
            # What a chunk of a quarter of a second had begun before.
            [ $kib -le $(($1 * 12 / 10)) ] || die "$kib KiB/s with a limit of $1"
            [ $kib -ge $(($1 / 2)) ] || [ $FAST = false ] || die "$kib KiB/s with a limit of $1"
        }
        rate 256
        rate 4096
        say 'a suspend does not wait for a limit'
        dmsetup message v 0 writeback_rate_limit 1
        sleep 1
        ! is_clean || die 'nothing is left'
        begin=$SECONDS
        dmsetup suspend v
        dmsetup resume v
        [ $((SECONDS - begin)) -lt 5 ] || die "it took $((SECONDS - begin)) s"
        say 'nor a drain'
        timeout 60 dmsetup message v 0 drop_caches
        same dirty "$(dirty v)" 0
        say 'nor the removal, which keeps what is dirty'
        dirties 8
        timeout 10 dmsetup remove v
        volume v /dev/ram0 /dev/ram1 writeback_rate_limit 1 writeback_threshold 100
        say 'a full cache does not obey it'
        [ $(dirty v) -gt 0 ] || die 'nothing is dirty'
        wbctl set v writeback_rate_limit 4
        timeout 120 fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=write --bs=1M --size=256M \
            --ioengine=psync --output=/dev/null
        wbctl set v writeback_rate_limit default
        finish v /dev/ram0 /dev/ram1
        "#
        ),
    ),
    script(
        "steer::dead_man",
        30,
        true,
        with_helpers!(
            r#"
        ram 2 64
        volume v /dev/ram0 /dev/ram1
        say 'a timeout that is set after a long silence begins then'
        sleep 3
        dmsetup message v 0 writeback_threshold 0
        sleep 3
        dmsetup message v 0 steering_timeout 2
        same expired "$(value v steering_expired)" 0
        dirties 8
        say 'as long as somebody says something'
        for i in 1 2 3 4 5 6; do dmsetup message v 0 writeback_threshold 0; sleep 1; same expired "$(value v steering_expired)" 0; done
        ! is_clean || die 'it was written back'
        say 'silence'
        events=$(dmsetup info -c --noheadings -o events v)
        within 5 has v steering_expired 1
        within 5 is_clean
        within 15 test $(($(dmsetup info -c --noheadings -o events v))) -gt $events
        logged 'the built-in policy takes over'
        say 'it shows what was given all the same'
        same threshold "$(value v writeback_threshold)" 0
        say 'what is no option is no steering'
        dmsetup message v 0 clear_stat
        same expired "$(value v steering_expired)" 1
        ! dmsetup message v 0 writeback_threshold 101 2>/dev/null || die 'it was taken'
        same expired "$(value v steering_expired)" 1
        say 'a word, and it is steered again'
        dmsetup message v 0 writeback_threshold 0
        same expired "$(value v steering_expired)" 0
        say 'a resume is like one'
        within 5 has v steering_expired 1
        dmsetup suspend v
        dmsetup resume v
        same expired "$(value v steering_expired)" 0
        say 'without the rule, silence means nothing'
        dmsetup message v 0 steering_timeout default
        dmsetup message v 0 writeback_threshold 0
        dirties 8
        stays_dirty 4
        finish v /dev/ram0 /dev/ram1
        "#
        ),
    ),
    script(
        "steer::report",
        20,
        true,
        with_helpers!(
            r#"
        ram 2 64
        volume v /dev/ram0 /dev/ram1 writeback_threshold 0
        n=$(field v 3)
        report() { dmsetup message v 0 report "$@"; }
        words() { read -r -a w <<<"$1"; same 'sum' $((w[4] + w[5] + w[6] + w[7] + w[8])) "${w[3]}"; }
        say 'an empty cache'
        words "$(report $n)"
        same report "$(report $n)" "1 $n 0 $n $n 0 0 0 0 $(printf '%*s' $n '' | tr ' ' .)"
        same 'of one cell' "$(report 1)" "1 $n 0 $n $n 0 0 0 0 ."
        say 'something is dirty'
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=write --bs=64k --size=16m --end_fsync=1 --output=/dev/null
        words "$(report $n)"
        report $n
        same 'free segments' "${w[4]}" "$(value v free_segments)"
        same 'the head' "${w[5]}" 1
        same 'dirty' "${w[7]}" 32
        [[ ${w[9]} == 99999999* ]] || die "the map is ${w[9]}"
        same 'cells' ${#w[9]} $n
        say 'a part of it'
        words "$(report 4 0 8)"
        same part "$(report 4 0 8)" "1 $n 0 8 0 0 0 8 0 9999"
        same 'more cells than segments' "$(report 4096 0 2)" "1 $n 0 2 0 0 0 2 0 99"
        say 'all is written back'
        wbctl set v writeback_rate_limit 2048
        wbctl set v writeback_threshold 100
        within 10 grep -q w <<<"$(for i in 1 2 3 4 5 6 7 8 9; do report $n | cut -d' ' -f10; sleep 0.2; done)"
        drain v
        words "$(report $n)"
        same 'dirty' $((w[6] + w[7])) 0
        say 'what cannot be'
        for bad in 0 4097 x '1 2' '1 2 x' "1 0 $((n + 1))" "1 $n 1" '1 0 0' '1 4294967295 2' '1 2 3 4'; do
            ! report $bad 2>/dev/null || die "report $bad is answered"
        done
        finish v /dev/ram0 /dev/ram1
        say 'a large cache: the answer is no longer than the map'
        truncate -s 16G /tmp/large
        large=$(losetup -f --show /tmp/large)
        volume v /dev/ram0 $large
        words "$(report 4096)"
        same 'segments' "${w[1]}" "$(field v 3)"
        [ ${w[1]} -gt 32000 ] || die 'it is not large'
        [ ${#w[9]} -le 4096 ] && [ ${#w[9]} -gt 3000 ] || die "${#w[9]} cells"
        report 4096 | wc -c
        remove v
        "#
        ),
    ),
    script(
        "steer::events",
        60,
        true,
        with_helpers!(
            r#"
        ram 1 64
        hdd x 64
        for d in b:/dev/x c:/dev/ram0; do
            dmsetup create ${d%:*} --table "0 $(sectors ${d#*:}) linear ${d#*:} 0"
        done
        becomes() { dmsetup suspend --noflush --nolockfs $1; dmsetup reload $1 --table "$2"; dmsetup resume $1; }
        wbctl events >/tmp/said
        same 'without volumes' "$(wc -c </tmp/said)" 0
        wbctl events --follow >/tmp/events &
        wbctl --json events --follow >/tmp/events.json &
        saw() { grep -qE "$1" /tmp/events; }
        wbctl create v /dev/mapper/b /dev/mapper/c
        within 10 saw 'Z v: active, ok$'
        wbctl events | grep -q 'Z v: active, ok$' || die 'not without --follow'
        say 'the cache runs full'
        fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=64M --time_based --runtime=8 \
            --ioengine=io_uring --iodepth=16 --output=/dev/null
        within 10 saw 'v: the cache is full'
        has v full 1 || grep -q 'has room' /tmp/events || die "$(dmsetup status v)"
        logged 'the cache is full'
        say 'and has room again'
        wbctl drain v
        within 30 saw 'v: the cache has room again'
        say 'the backing device fails and comes back'
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
        becomes b "0 $(sectors /dev/x) error"
        within 30 saw 'v: degraded, was ok: backing_write$'
        within 30 saw 'v: writeback_errors [0-9]+, [0-9]+ more$'
        becomes b "0 $(sectors /dev/x) linear /dev/x 0"
        within 60 saw 'v: ok, was degraded$'
        say 'nobody steers any more'
        wbctl set v steering_timeout 1
        within 15 saw 'v: whoever steers'
        wbctl set v steering_timeout 1
        wbctl set v steering_timeout default
        within 15 saw 'v: writeback is steered again'
        say 'it goes'
        wbctl remove v --drain
        within 10 saw 'v: gone$'
        jq -e -s 'map(.event) | index("active") != null and index("full") != null and index("errors") != null and index("gone") != null' \
            /tmp/events.json
        kill %1 %2
        refused 8 'v is not a writeboost volume' -- wbctl events v
        cat /tmp/events
        "#
        ),
    ),
];
