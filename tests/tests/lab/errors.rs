//! Devices that fail: what is dirty and readable stays so, and whoever waits is told.

use crate::support::{script, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    # /dev/mapper/b and /dev/mapper/c lie over these disks, and can be broken.
    ram 1 48
    null x 17
    for d in b:/dev/ram0 c:/dev/x; do
        dmsetup create ${d%:*} --table "0 $(sectors ${d#*:}) linear ${d#*:} 0"
    done
    # becomes NAME TABLE: --noflush, so that what is under way fails and is not waited for.
    becomes() { dmsetup suspend --noflush --nolockfs $1; dmsetup reload $1 --table "$2"; dmsetup resume $1; }
    breaks() { becomes $1 "0 $(sectors $2) error"; }
    mends() { becomes $1 "0 $(sectors $2) linear $2 0"; }
    fails() { ! "$@" 2>/tmp/said || die "$* succeeded"; grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"; }
    put() { dd if=$1 of=/dev/mapper/v bs=4k seek=$2 oflag=direct conv=notrunc status=none; }
    get() { dd if=/dev/mapper/v bs=4k skip=$2 count=$(($(stat -c %s $1) / 4096)) iflag=direct status=none; }
    # rots WORDS: the block of the cache device that begins with them becomes zeroes.
    rots() {
        local at
        at=$(grep -abo -m1 "$1" /dev/x | awk -F: 'NR == 1 { print $1 }')
        same 'place within its block' $((at % 4096)) 0
        head -c 4096 /dev/zero | dd of=/dev/x bs=4k seek=$((at / 4096)) oflag=direct conv=notrunc status=none
    }
    head -c 2M /dev/urandom >/tmp/a
    head -c 2M /dev/urandom >/tmp/z
"#,
            $script
        )
    };
}

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "errors::a_resume_forgets_old_verdicts",
        30,
        true,
        with_helpers!(
            r#"
        # A slow one: the write comes before anything is written back.
        hdd y 48
        mends b /dev/y
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        put /tmp/a 0
        breaks b /dev/y
        say 'full, and the backing device is dead'
        # In no order, or one request would write back much of it.
        ! timeout 60 fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=48m --randseed=$SEED \
            --ioengine=io_uring --iodepth=16 --output=/dev/null 2>/dev/null || die 'they all fit'
        say 'mended while the volume is suspended: the next write waits for room, and gets it'
        dmsetup suspend v
        mends b /dev/y
        dmsetup resume v
        timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=1 oflag=direct conv=notrunc status=none
        dd if=/dev/mapper/v bs=64k skip=1 count=32 iflag=direct status=none | cmp - /tmp/z
        drained v /dev/mapper/b
        remove v
        "#
        ),
    ),
    script(
        "errors::backing_device_fails_and_comes_back",
        15,
        true,
        with_helpers!(
            r#"
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        put /tmp/a 0
        breaks b /dev/ram0
        say 'what is cached can be read and written'
        get /tmp/a 0 | cmp - /tmp/a
        put /tmp/z 1000
        get /tmp/z 1000 | cmp - /tmp/z
        say 'what is not cannot be read'
        fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=1 iflag=direct
        say 'a drain says that it has failed, and nothing is forgotten'
        before=$(dirty v)
        same 'dirty blocks' $before 1024
        ! drain v 2>/dev/null || die 'it was drained'
        same 'dirty blocks' "$(dirty v)" $before
        same 'state' "$(value v state)" degraded
        [ "$(value v writeback_errors)" -gt 0 ] || die 'no error is counted'
        logged 'cannot write to the backing device'
        say 'wbctl drain, too'
        refused 11 '' -- wbctl drain v
        say 'once the cache is full, writes fail instead of waiting for ever'
        timeout 60 dd if=/dev/urandom of=/dev/mapper/v bs=64k oflag=direct status=none 2>/tmp/said && die 'they all fit' || status=$?
        [ $status != 124 ] || die 'they wait'
        grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
        get /tmp/z 1000 >/dev/null
        mends b /dev/ram0
        say 'it is back'
        drain v
        same 'state' "$(value v state)" ok
        put /tmp/a 0
        put /tmp/z 1000
        get /tmp/a 0 | cmp - /tmp/a
        drained v /dev/mapper/b
        remove v
        "#
        ),
    ),
    script(
        "errors::cache_device_cannot_be_written",
        15,
        true,
        with_helpers!(
            r#"
        # An error for writes only: what is there can be read.
        modprobe dm-flakey
        flaky() { becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_writes"; }
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        dd if=/tmp/a of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
        flaky
        say 'whoever wants something durable is told'
        fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1000 count=1 oflag=direct conv=fsync
        same 'state' "$(value v state)" failed
        logged 'cannot write to the cache device'
        fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1001 count=1 oflag=direct
        fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1001 count=1 oflag=direct,sync
        ! timeout 30 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
        say 'what is there can be read'
        get /tmp/a 0 | cmp - /tmp/a
        dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=10 iflag=direct status=none
        dmsetup suspend v
        dmsetup resume v
        remove v
        say 'and what was durable is there after a repair'
        mends c /dev/x
        volume v /dev/mapper/b /dev/mapper/c
        get /tmp/a 0 | cmp - /tmp/a
        put /tmp/z 1000
        get /tmp/z 1000 | cmp - /tmp/z
        finish v /dev/mapper/b /dev/mapper/c
        "#
        ),
    ),
    script(
        "errors::cache_device_cannot_be_read",
        15,
        true,
        with_helpers!(
            r#"
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        dd if=/tmp/a of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
        # A resume, for nothing of it to be in RAM.
        remove v
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        modprobe dm-flakey
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_reads"
        fails dd if=/dev/mapper/v of=/dev/null bs=4k count=1 iflag=direct
        [ "$(value v read_errors)" -gt 0 ] || die 'no error is counted'
        say 'the rest of the volume works'
        dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=10 iflag=direct status=none
        put /tmp/z 1000
        say 'nothing that cannot be read is written back, or forgotten'
        ! timeout 30 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
        [ "$(dirty v)" -ge 512 ] || die "$(dirty v) dirty blocks"
        same 'backing device' "$(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none | sha256sum)" "$(head -c 2M /dev/zero | sha256sum)"
        mends c /dev/x
        say 'it can be read again'
        get /tmp/a 0 | cmp - /tmp/a
        get /tmp/z 1000 | cmp - /tmp/z
        drained v /dev/mapper/b
        same 'state' "$(value v state)" ok
        remove v
        say 'a cache device that cannot be read at all is refused'
        volume v /dev/mapper/b /dev/mapper/c
        remove v
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_reads"
        logs 'Cannot read the cache device' -- dmsetup create v --table "0 $(sectors /dev/mapper/b) writeboost /dev/mapper/b /dev/mapper/c"
        "#
        ),
    ),
    // The cache is full, and what is in it cannot be read: nobody can make room, and nobody waits for that for ever.
    script(
        "errors::full_cache_that_cannot_be_read",
        75,
        true,
        with_helpers!(
            r#"
        modprobe dm-flakey
        head -c 20M /dev/urandom >/tmp/big
        ends_with_an_error() {
            say 'who waits for room is told in the end'
            unreadable=$(value v read_errors)
            ! timeout 60 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 oflag=direct conv=notrunc 2>/tmp/said || die 'there was room'
            grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
            taken=$(sed -n 's/+.*records out//p' /tmp/said)
            same 'state' "$(value v state)" degraded
            same 'fault' "$(value v fault)" cache_read
            [ "$(value v read_errors)" -gt "$unreadable" ] || die 'no error is counted'
            say 'who comes later at once'
            timeout 2 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 count=1 oflag=direct conv=notrunc status=none 2>/tmp/said && die 'there is room'
            grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
            say 'it is not tried without a pause: twice at most in so short a time'
            unreadable=$(value v read_errors)
            sleep 3
            [ $(($(value v read_errors) - unreadable)) -le 10000 ] || die "$(($(value v read_errors) - unreadable)) errors in three seconds"
            repair
            say 'with all that was taken'
            head -c $((taken * 65536)) /tmp/big | cmp - <(dd if=/dev/mapper/v bs=64k skip=160 count=$taken iflag=direct status=none)
            drained v /dev/mapper/b
            same 'state' "$(value v state)" ok
        }
        write_z() { timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 oflag=direct conv=notrunc,fsync status=none; }
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_reads"
        say 'all of it is dirty: only writeback could make room'
        repair() {
            say 'when the device is back, all goes on by itself'
            mends c /dev/x
            local i
            for i in {1..15}; do
                write_z 2>/dev/null && return
                sleep 1
            done
            die 'it does not'
        }
        ends_with_an_error
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_reads"
        say 'little of it is: relocation could'
        repair() {
            say 'the volume can be suspended, and afterwards all is tried at once'
            timeout 20 dmsetup suspend v || die 'it cannot'
            mends c /dev/x
            dmsetup resume v
            write_z
        }
        put /tmp/a 0
        for i in {1..8}; do timeout 30 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 count=16 oflag=direct conv=notrunc status=none; done
        ends_with_an_error
        get /tmp/a 0 | cmp - /tmp/a
        # What had failed was cleaned in the end, and the counts remain.
        remove v
        volume v /dev/mapper/b /dev/mapper/c
        finish v /dev/mapper/b /dev/mapper/c
        "#
        ),
    ),
    // As soon as something is written back again, who waits for room does so, though it takes long.
    script(
        "errors::full_cache_that_can_be_read_again",
        75,
        true,
        with_helpers!(
            r#"
        modprobe dm-flakey
        modprobe dm-delay
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 0 3600 1 error_reads"
        becomes b "0 $(sectors /dev/ram0) delay /dev/ram0 0 0 /dev/ram0 0 1500 /dev/ram0 0 0"
        head -c 20M /dev/urandom >/tmp/big
        fails timeout 60 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 oflag=direct conv=notrunc
        full=$(dirty v)
        mends c /dev/x
        say 'the first blocks are written back'
        for i in {1..200}; do [ "$(dirty v)" = $full ] || break; sleep 0.1; done
        [ "$(dirty v)" -lt $full ] || die 'none is'
        say 'others follow, and who waits for them does not do so in vain'
        timeout 120 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 oflag=direct conv=notrunc,fsync status=none
        mends b /dev/ram0
        drained v /dev/mapper/b
        "#
        ),
    ),
    // When writeback turns out to get nothing done, nobody is let in at its pace any more.
    script(
        "errors::no_pace_for_a_dead_device",
        20,
        true,
        with_helpers!(
            r#"
        null y 128
        null z 200
        dmsetup create d --table "0 $(sectors /dev/z) linear /dev/z 0"
        volume v /dev/mapper/d /dev/y writeback_threshold 0
        breaks d /dev/z
        # At the slowest pace what is left would take more than a minute.
        fails timeout 40 dd if=/dev/zero of=/dev/mapper/v bs=64k oflag=direct conv=notrunc
        same 'fault' "$(value v fault)" backing_write
        mends d /dev/z
        drained v /dev/mapper/d
        "#
        ),
    ),
    // Nor does a drain that cannot succeed take the room away that relocation makes for what is overwritten.
    script(
        "errors::a_drain_in_vain",
        20,
        true,
        with_helpers!(
            r#"
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        put /tmp/a 0
        # It takes its time to fail.
        modprobe dm-delay
        n=$(sectors /dev/ram0)
        dmsetup create e --table "0 $n error"
        becomes b "0 $n delay /dev/mapper/e 0 0 /dev/mapper/e 0 200"
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=64k --size=4m --norandommap --ioengine=io_uring \
            --iodepth=32 --time_based --runtime=100 --eta=never >/tmp/fio 2>&1 &
        fio=$!
        for i in 1 2; do
            sleep 1
            ! timeout 60 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
            kill -0 $fio || die "$(cat /tmp/fio)"
        done
        sleep 1
        kill $fio || die "$(cat /tmp/fio)"
        wait $fio || true
        mends b /dev/ram0
        dmsetup remove e
        drained v /dev/ram0
        "#
        ),
    ),
    // While relocation is about to give a block up, nobody gives up waiting for room.
    script(
        "errors::a_dirty_block_is_lost_slowly",
        90,
        true,
        with_helpers!(
            r#"
        modprobe dm-delay
        printf 'this block will be lost %.0s' {1..200} >/tmp/lost
        truncate -s 4096 /tmp/lost
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        put /tmp/lost 700
        dd if=/tmp/z of=/dev/mapper/v bs=64k seek=80 oflag=direct conv=fsync,notrunc status=none
        rots 'this block will be lost'
        becomes c "0 $(sectors /dev/x) delay /dev/x 0 2500 /dev/x 0 0"
        dmsetup message v 0 give_up
        # A little again and again: writeback has soon done what it can, and then waits for relocation as the writes do.
        for i in {1..24}; do
            timeout 120 dd if=/tmp/a of=/dev/mapper/v bs=64k seek=80 count=16 oflag=direct conv=notrunc status=none
        done
        same 'lost blocks' "$(value v lost_blocks)" 1
        mends c /dev/x
        "#
        ),
    ),
    // Both ways of failing, again and again under load: no hang, no oops, and after the repair all works.
    script(
        "errors::under_load",
        20,
        false,
        with_helpers!(
            r#"
        volume v /dev/mapper/b /dev/mapper/c
        for round in 1 2 3 4 5 6; do
            fio --name=load --filename=/dev/mapper/v --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw --eta=never \
                --bsrange=512-32k --blockalign=512 --fsync=16 --time_based --runtime=3 --continue_on_error=all \
                >/dev/null 2>&1 &
            fio=$!
            sleep 1
            case $((round % 3)) in
            0) breaks b /dev/ram0 ;;
            1) breaks c /dev/x ;;
            2) breaks b /dev/ram0; breaks c /dev/x ;;
            esac
            sleep 1
            [ $((round % 2)) = 0 ] || { dmsetup suspend v; dmsetup resume v; }
            mends b /dev/ram0
            mends c /dev/x
            wait $fio || true
            remove v
            volume v /dev/mapper/b /dev/mapper/c
            drain v
            same 'state' "$(value v state)" ok
        done
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=40m
        drained v /dev/mapper/b
        remove v
        "#
        ),
    ),
    // A dirty block that has rotted: the tail cannot pass it, and all the same the log goes round.
    script(
        "errors::a_dirty_block_is_lost",
        30,
        true,
        with_helpers!(
            r#"
        printf 'this block will be lost %.0s' {1..200} >/tmp/lost
        truncate -s 4096 /tmp/lost
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        put /tmp/lost 700
        put /tmp/a 0
        dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=80 count=160 oflag=direct conv=fsync,notrunc status=none
        rots 'this block will be lost'
        say 'it is never served'
        fails get /tmp/lost 700
        say 'while there is room it is kept: it might come back'
        same 'lost blocks' "$(value v lost_blocks)" 0
        ! drain v 2>/dev/null || die 'it was drained'
        say 'when room runs out it does not stop the others, if somebody does not want to wait for minutes'
        dmsetup message v 0 give_up
        for i in 1 2 3 4; do timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=80 oflag=direct,dsync conv=notrunc status=none; done
        for i in 1 2 3 4; do
            timeout 120 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=200 count=64 oflag=direct conv=fsync,notrunc status=none
        done
        same 'lost blocks' "$(value v lost_blocks)" 1
        logged 'block 700 (sectors 5600 to 5607) is lost'
        get /tmp/a 0 | cmp - /tmp/a
        get /tmp/z 1280 | cmp - /tmp/z
        fails get /tmp/lost 700
        say 'nor after a resume, nor is anything written back'
        remove v
        volume v /dev/mapper/b /dev/mapper/c
        fails get /tmp/lost 700
        ! drain v 2>/dev/null || die 'it was drained'
        same 'dirty blocks' "$(dirty v)" 1
        same 'block 700 of the backing device' "$(dd if=/dev/ram0 bs=4k skip=700 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" 0
        say 'a write heals it'
        put /tmp/lost 700
        get /tmp/lost 700 | cmp - /tmp/lost
        remove v
        volume v /dev/mapper/b /dev/mapper/c
        get /tmp/lost 700 | cmp - /tmp/lost
        finish v /dev/mapper/b /dev/mapper/c
        "#
        ),
    ),
];
