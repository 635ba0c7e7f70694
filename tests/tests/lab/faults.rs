//! Faults of devices and of memory, one kind after the other: what is lost and what is not, and what the volume says.
//! `docs/faults.md` has a line for each of these.

use anyhow::Result;

use crate::support::{code, failing, script, test, Bench, Body, Level, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    modprobe dm-flakey
    # becomes NAME TABLE: --noflush, so that what is under way fails and is not waited for.
    becomes() { dmsetup suspend --noflush --nolockfs $1; printf '%b\n' "$2" | dmsetup reload $1; dmsetup resume $1; }
    over() { dmsetup create $1 --table "0 $(sectors $2) linear $2 0"; }
    breaks() { becomes $1 "0 $(sectors $2) error"; }
    mends() { becomes $1 "0 $(sectors $2) linear $2 0"; }
    flaky() { local name=$1 device=$2; shift 2; becomes $name "0 $(sectors $device) flakey $device 0 0 3600 $# $*"; }
    fails() { ! "$@" 2>/tmp/said || die "$* succeeded"; grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"; }
    # failing_cache MIB: /dev/ram0 is to be the backing device, and /dev/mapper/c, of so many MiB, one that can be told to fail.
    failing_cache() { ram 1 64; null x $1; faulty c /dev/x; }
    # Needs room, and gets it or has waited for it.
    presses() { timeout 30 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=400 count=16 oflag=direct conv=notrunc status=none 2>/dev/null || true; }
    put() { dd if=$1 of=/dev/mapper/v bs=4k seek=$2 oflag=direct conv=notrunc status=none; }
    get() { dd if=/dev/mapper/v bs=4k skip=$2 count=${3:-$(($(stat -c %s $1) / 4096))} iflag=direct status=none; }
    # Nothing that was written before is in RAM any more. Writing much does not do: the buffer of the newest segment is
    # used again first, so those of older ones stay for as long as the device keeps up.
    forget() { local table; table=$(dmsetup table v); remove v; dmsetup create v --table "$table"; }
    events() { dmsetup info -c --noheadings -o events $1; }
    # until SECONDS COMMAND...
    until_true() { local n=$(($1 * 10)); shift; while ! "$@"; do n=$((n - 1)); [ $n -gt 0 ] || die "never: $*"; sleep 0.1; done; }
    is() { [ "$(value v $1)" = "$2" ]; }
    is_dirty() { [ "$(dirty v)" = "$1" ]; }
    is_more_dirty() { [ "$(dirty v)" -gt "$1" ]; }
    # One bit of each of these blocks of a file, where they lie on a device; past the page cache.
    flip_blocks() { # DEVICE FILE BLOCK...
        dd if=$1 of=/tmp/image bs=1M iflag=direct status=none
        python3 -c '
import random, sys
image, content = open("/tmp/image", "rb").read(), open(sys.argv[1], "rb").read()
random.seed(int(sys.argv[2]))
place = {image[i:i + 4096]: i // 4096 for i in range(0, len(image), 4096)}
for block in map(int, sys.argv[3:]):
    print(place[content[block * 4096:][:4096]], random.randrange(32768))' $2 $SEED "${@:3}" >/tmp/places
        while read -r place bit; do flip_bit $1 $place $bit; done </tmp/places
    }
    # One bit of a block of a device, past the page cache.
    flip_bit() { # DEVICE BLOCK BIT
        dd if=$1 of=/tmp/bits bs=4k skip=$2 count=1 iflag=direct status=none
        local byte
        byte=$(od -An -tu1 -j$(($3 / 8)) -N1 /tmp/bits)
        printf "\\x$(printf %02x $((byte ^ (1 << $3 % 8))))" | dd of=/tmp/bits bs=1 seek=$(($3 / 8)) conv=notrunc status=none
        dd if=/tmp/bits of=$1 bs=4k seek=$2 count=1 oflag=direct conv=notrunc status=none
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
    code("faults::swap_on_a_volume", 60, false, swap),
    code("faults::memory_in_pieces", 20, false, in_pieces),
    test("faults::no_memory_for_a_volume", 120, Level::Full, Body::Debug(no_memory)),
    // What the tests make disks fail with is what the kernel then says.
    failing(
        "faults::the_target_that_fails",
        5,
        true,
        with_helpers!(
            r#"
        ram 1 16
        faulty c /dev/ram0
        put_c() { dd if=/tmp/a of=/dev/mapper/c bs=4k seek=$1 count=1 oflag=direct conv=notrunc status=none; }
        get_c() { dd if=/dev/mapper/c bs=4k skip=$1 count=1 iflag=direct status=none; }
        says() { ! "${@:2}" 2>/tmp/said >/dev/null || die "${*:2} succeeded"; grep -q "$1" /tmp/said || die "$(cat /tmp/said)"; }
        put_c 7
        faults c medium read 56 1
        says 'No data available' get_c 7
        get_c 6 >/dev/null
        get_c 8 >/dev/null
        say 'a write mends what it covers'
        faults c path read 80 8
        put_c 7
        put_c 10
        get_c 7 | cmp - <(head -c 4k /tmp/a)
        says 'Link has been severed' get_c 10
        mended c
        get_c 10 | cmp - <(head -c 4k /tmp/a)
        for case in 'protection:Invalid or incomplete' 'io:Input/output error' 'path:Link has been severed'             'timeout:timed out' 'offline:No such device' 'target:Remote I/O error'; do
            faults c "${case%%:*}" all
            says "${case#*:}" get_c 0
            says "${case#*:}" put_c 0
            mended c
        done
        faults c medium flush
        put_c 7
        says 'No data available' dd if=/tmp/a of=/dev/mapper/c bs=4k count=1 oflag=direct conv=notrunc,fsync status=none
        remove c
        "#
        ),
    ),
    // The cache device is more than one disk, and one of them does not answer: what was flushed to it is not lost by that,
    // whoever wants it to be given up. What the medium has lost is, then.
    failing(
        "faults::part_of_the_cache_device_is_away",
        60,
        true,
        with_helpers!(
            r#"
        failing_cache 17
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        say 'one half of the cache device is clean, and the next 2 MiB are flushed to the other one'
        dd if=/dev/urandom of=/dev/mapper/v bs=508k count=17 oflag=direct conv=notrunc,fsync status=none
        drain v
        dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=notrunc,fsync status=none
        is_nearly_full() { [ "$(value v free_segments)" -le 5 ]; }
        for i in {1..40}; do
            ! is_nearly_full || break
            dd if=/dev/urandom of=/dev/mapper/v bs=508k seek=40 count=1 oflag=direct conv=notrunc,fsync status=none
        done
        half=$(((256 + 16 * 128) * 8))
        dmsetup message v 0 give_up
        for status in path timeout io offline; do
            faults c $status read $half
            for i in 1 2 3 4 5 6; do presses; sleep 1; done
            same "blocks lost by $status" "$(value v lost_blocks)" 0
            mended c
        done
        logged 'are in the way of the log'
        say 'all of it is there when the disk is back'
        get /tmp/a 0 | cmp - /tmp/a
        forget
        get /tmp/a 0 | cmp - /tmp/a
        drained v /dev/ram0
        same 'lost blocks' "$(value v lost_blocks)" 0
        remove v
        "#
        ),
    ),
    // The medium has lost a block: not at once, and no other one with it.
    failing(
        "faults::the_medium_has_lost_a_block",
        60,
        true,
        with_helpers!(
            r#"
        failing_cache 17
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        dd if=/tmp/a of=/dev/mapper/v bs=4k count=120 oflag=direct conv=notrunc,fsync status=none
        forget
        # Where block 5 of the volume lies on the device.
        dd if=/dev/x of=/tmp/image bs=1M count=4 iflag=direct status=none
        at=$(python3 -c 'print(open("/tmp/image", "rb").read().find(open("/tmp/a", "rb").read(24576)[20480:]) // 512)')
        [ $at -gt 0 ] || die 'it is not there'
        faults c medium read $at 8
        for i in {1..24}; do presses; done
        same 'lost blocks within seconds' "$(value v lost_blocks)" 0
        say 'with a neighbour that does not answer, nobody can say'
        faults c path read $(((256 + 128) * 8)) 8
        dmsetup message v 0 give_up
        for i in {1..10}; do presses; sleep 1; done
        same 'lost blocks' "$(value v lost_blocks)" 0
        # Nobody may read the block in between, or it is saved.
        dmsetup suspend --noflush --nolockfs c
        mended c
        faults c medium read $at 8
        dmsetup resume c
        for i in {1..24}; do presses; sleep 1; [ "$(value v lost_blocks)" = 0 ] || break; done
        same 'lost blocks' "$(value v lost_blocks)" 1
        logged 'block 5 (sectors 40 to 47) is lost'
        get /tmp/a 0 5 | cmp - <(head -c 20480 /tmp/a)
        get /tmp/a 6 114 | cmp - <(head -c 491520 /tmp/a | tail -c 466944)
        fails get /tmp/a 5 1
        put /tmp/a 0
        get /tmp/a 0 | cmp - /tmp/a
        mended c
        drained v /dev/ram0
        remove v
        "#
        ),
    ),
    // Whether a block is lost is found out in time, and not when everybody waits for its room.
    failing(
        "faults::a_lost_block_is_known_before_room_is_short",
        30,
        true,
        with_helpers!(
            r#"
        ram 1 64
        null x 33
        faulty c /dev/x
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        dd if=/tmp/a of=/dev/mapper/v bs=4k count=120 oflag=direct conv=notrunc,fsync status=none
        forget
        # Where block 5 of the volume lies on the device.
        dd if=/dev/x of=/tmp/image bs=1M count=4 iflag=direct status=none
        at=$(python3 -c 'print(open("/tmp/image", "rb").read().find(open("/tmp/a", "rb").read(24576)[20480:]) // 512)')
        [ $at -gt 0 ] || die 'it is not there'
        faults c medium read $at 8
        # The log goes on behind it.
        dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=1 oflag=direct conv=notrunc,fsync status=none
        refused 11 '' -- wbctl drain v
        same 'dirty blocks' "$(dirty v)" 1
        dmsetup message v 0 give_up
        until_true 60 logged 'given up as soon as their room is needed'
        same 'lost blocks while there is room' "$(value v lost_blocks)" 0
        say 'room is needed: nobody waits, and nothing else is lost'
        dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=40 oflag=direct conv=notrunc,fsync status=none
        dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=40 oflag=direct conv=notrunc,fsync status=none
        same 'lost blocks' "$(value v lost_blocks)" 1
        logged 'block 5 (sectors 40 to 47) is lost'
        put /tmp/a 0
        mended c
        drained v /dev/ram0
        remove v
        "#
        ),
    ),
    // One sector that cannot be read, wherever it is: a volume whose data are all there is opened with all of them.
    failing(
        "faults::one_unreadable_sector",
        60,
        true,
        with_helpers!(
            r#"
        failing_cache 32
        opens() { dmsetup create v --table "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c 2 writeback_threshold 0" 2>/tmp/said; }
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
        dirty=$(dirty v)
        digest=$(digest /dev/mapper/v)
        remove v
        dd if=/dev/x of=/tmp/image bs=1M iflag=direct status=none
        again() { dd if=/tmp/image of=/dev/x bs=1M oflag=direct conv=notrunc status=none; }
        is_all_there() { # STATUS SECTOR
            say "$1 error in sector $2"
            again
            faults c $1 read $2 8
            opens || die "refused: $(dmesg | tail -n 5)"
            same 'dirty blocks' "$(dirty v)" "$dirty"
            same 'content' "$(digest /dev/mapper/v)" "$digest"
            put /tmp/a 4000
            sync /dev/mapper/v
            remove v
            opens || die "refused the second time: $(dmesg | tail -n 5)"
            get /tmp/a 4000 | cmp - /tmp/a
            remove v
            mended c
        }
        # 1,024 blocks are 9 segments: the last one is segment 8.
        for status in medium protection io; do
            is_all_there $status 8
            is_all_there $status 16
        done
        is_all_there medium $(((256 + 9 * 128) * 8))
        is_all_there protection $(((256 + 10 * 128) * 8))
        # Data that nobody needs to look at: they are known durable.
        again
        faults c medium read $(((256 + 3) * 8)) 8
        opens || die "refused: $(dmesg | tail -n 5)"
        same 'dirty blocks' "$(dirty v)" "$dirty"
        remove v
        mended c
        is_refused() { # WORDS STATUS FIRST SECTORS
            say "$2 error in sector $3"
            again
            faults c $2 read $3 $4
            logs "$1" -- dmsetup create v --table "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c"
            cmp /tmp/image <(dd if=/dev/x bs=1M iflag=direct status=none) || die 'something was written'
            mended c
        }
        say 'checkpoints that can be neither read nor written any more'
        for status in medium io; do
            for lost in '1' '2' '1 192' '2 128'; do
                say "$status error in blocks $lost, for good"
                again
                for block in $lost; do
                    faults c $status write $((block * 8)) 8
                    faults c $status read $((block * 8)) 8
                done
                opens || die "refused: $(dmesg | tail -n 5)"
                same 'dirty blocks' "$(dirty v)" "$dirty"
                same 'content' "$(digest /dev/mapper/v)" "$digest"
                remove v
                opens || die "refused the second time: $(dmesg | tail -n 5)"
                same 'dirty blocks' "$(dirty v)" "$dirty"
                drained v /dev/ram0
                put /tmp/a 4000
                sync /dev/mapper/v
                same 'state' "$(value v state)" ok
                wrote=$(dirty v)
                remove v
                opens || die "refused the third time: $(dmesg | tail -n 5)"
                get /tmp/a 4000 | cmp - /tmp/a
                same 'dirty blocks' "$(dirty v)" "$wrote"
                remove v
                mended c
                say 'and when they can be read again, what they have is old'
                opens || die "refused: $(dmesg | tail -n 5)"
                get /tmp/a 4000 | cmp - /tmp/a
                same 'dirty blocks' "$(dirty v)" "$wrote"
                remove v
            done
        done
        say 'a device that does not answer is not one that has lost something'
        is_refused 'Cannot read the cache device' path 8 16
        is_refused 'Cannot read the cache device' io $(((256 + 9 * 128) * 8)) 8
        is_refused 'Cannot read the cache device' timeout $(((256 + 9 * 128) * 8)) 1024
        say 'nor is a log without one of its headers whole: the message says which'
        is_refused "sector $(((256 + 4 * 128) * 8)) of the cache device would have to be read" medium $(((256 + 4 * 128) * 8)) 8
        say 'nor is one behind which more is lost than a power cut leaves'
        is_refused 'more than 32 blocks cannot be read' medium $(((256 + 9 * 128) * 8)) 512
        say 'a blank superblock is not taken for a new device when what lies behind it cannot be read'
        dd if=/dev/zero of=/tmp/image bs=512 count=1 conv=notrunc status=none
        for status in medium io path; do
            is_refused 'Cannot read the cache device' $status 8 16
            is_refused 'Cannot read the cache device' $status 2040 8
        done
        "#
        ),
    ),
    // The tail moves when its checkpoint is sent. When that fails, a drain has not succeeded: the log would be replayed, over
    // whatever the backing device is used for meanwhile.
    failing(
        "faults::drain_whose_checkpoint_fails",
        30,
        true,
        with_helpers!(
            r#"
        failing_cache 17
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        put /tmp/a 0
        sync /dev/mapper/v
        for block in 1 2 128 192; do faults c io write $((block * 8)) 8; done
        ! timeout 60 dmsetup message v 0 drop_caches 2>/tmp/said || die 'it was drained, and the log is what it was'
        grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
        same 'state' "$(value v state)" failed
        refused 11 '' -- timeout 60 wbctl remove --drain v
        mended c
        remove v
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        same 'dirty blocks' "$(dirty v)" 512
        get /tmp/a 0 | cmp - /tmp/a
        finish v /dev/ram0 /dev/mapper/c
        "#
        ),
    ),
    // Whoever waits for an event is told, and what the event is about is in the status by then.
    script(
        "faults::events",
        15,
        true,
        with_helpers!(
            r#"
        ram 1 48
        null x 17
        over b /dev/ram0
        over c /dev/x
        # awaits WORD COMMAND...: an event comes, and then the state is WORD.
        awaits() {
            local word=$1 before
            shift
            before=$(events v)
            timeout 30 dmsetup wait v $before >/dev/null &
            "$@" || true
            wait $! || die "no event for $word"
            until_true 30 is state $word
            [ "$(events v)" -gt "$before" ] || die "the number of events is still $before"
        }
        refuses_drain() { ! drain v 2>/dev/null || die 'it was drained'; }
        volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
        same 'fault' "$(value v fault)" none
        put /tmp/a 0
        say 'the backing device cannot be written'
        breaks b /dev/ram0
        awaits degraded refuses_drain
        same 'fault' "$(value v fault)" backing_write
        logged 'cannot write to the backing device'
        logged 'writeback has failed'
        wbctl status v >/tmp/status
        cat /tmp/status
        grep -q '^v: degraded' /tmp/status
        grep -q 'Repair the backing device' /tmp/status
        wbctl list
        say 'and works again'
        mends b /dev/ram0
        awaits ok drain v
        same 'fault' "$(value v fault)" none
        logged 'writeback works again'
        logged 'state ok again'
        say 'the cache device cannot be written'
        put /tmp/z 1000
        breaks c /dev/x
        awaits failed dd if=/tmp/a of=/dev/mapper/v bs=4k count=1 oflag=direct,dsync conv=notrunc status=none
        # Who happens to read what is not in RAM finds that it cannot be read either.
        [[ "$(value v fault)" =~ ^cache_write(,cache_read)?$ ]] || die "fault is $(value v fault)"
        logged 'cannot write to the cache device, trying again'
        logged 'refuses writes and flushes from now on'
        wbctl status v >/tmp/status
        cat /tmp/status
        grep -q 'repair the cache device' /tmp/status
        dmesg | grep -c writeboost
        mends c /dev/x
        remove v
        "#
        ),
    ),
    // Four volumes at the same time, for it takes half a minute: one whose backing device does not answer, one whose cache device
    // does not, one that is only slow, and one that is idle and has a suspended device to be idle with.
    script(
        "faults::silent_devices",
        60,
        true,
        with_helpers!(
            r#"
        modprobe dm-delay
        ram 5 32
        null x 80
        for i in 0 1 2 3; do
            over b$i /dev/ram$i
            dmsetup create c$i --table "0 32768 linear /dev/x $((i * 32768))"
            volume v$i /dev/mapper/b$i /dev/mapper/c$i writeback_threshold 0
            dd if=/tmp/a of=/dev/mapper/v$i bs=256k oflag=direct conv=fsync status=none
            same 'nothing is read' "$(dd if=/dev/mapper/v$i bs=4k skip=5000 count=4 iflag=direct status=none | tr -d '\0' | wc -c)" 0
            same 'backing' "$(value v$i backing_silent_s)" 0
            same 'cache' "$(value v$i cache_silent_s)" 0
        done
        over b4 /dev/ram4
        dmsetup create c4 --table "0 32768 linear /dev/x $((4 * 32768))"
        # Nothing of it is in RAM any more.
        table=$(dmsetup table v1)
        remove v1
        dmsetup create v1 --table "$table"
        wbctl events --follow >/tmp/events &
        watch=$!
        saw() { grep -qE "$1" /tmp/events; }
        within 10 saw 'v3: active, ok$'
        udevadm settle
        before=$(events v3)
        say 'two devices fall silent, one is slow, and one is suspended that nobody asks for anything'
        for d in b0 c1 b3 c4; do dmsetup suspend --noflush --nolockfs $d; done
        # Nobody waits for udev, which reads the slow one.
        dmsetup suspend --noflush --nolockfs b2
        dmsetup reload b2 --table "0 $(sectors /dev/ram2) delay /dev/ram2 0 20000"
        dmsetup resume --noudevsync b2
        dd if=/dev/mapper/v0 of=/tmp/read0 bs=4k skip=5000 count=1 iflag=direct status=none & reader0=$!
        dd if=/dev/mapper/v1 of=/tmp/read1 bs=4k count=1 iflag=direct status=none & reader1=$!
        dd if=/dev/mapper/v2 of=/tmp/read2 bs=4k skip=5000 count=2 iflag=direct status=none & reader2=$!
        wbctl drain v0 2>/tmp/drain & drain=$!
        wbctl create v4 /dev/mapper/b4 /dev/mapper/c4 2>/tmp/create & create=$!
        is_silent() { [ "$(value $1 $2_silent_s)" -ge $3 ]; }
        within 20 is_silent v0 backing 2
        within 20 is_silent v1 cache 2
        say 'the seconds are counted, and nobody cries yet'
        ! logged 'has not answered' || die 'too early'
        same 'state' "$(value v0 state)" ok
        wbctl status v0 | grep -E 'backing .*, no answer for [0-9]+ s$'
        within 60 is_silent v0 backing 30
        within 60 is_silent v1 cache 30
        say 'now they do'
        within 10 saw 'v0: the backing device has not answered for 3[0-9] s$'
        within 10 saw 'v1: the cache device has not answered for 3[0-9] s$'
        dmesg | grep -E 'the backing device has not answered for 3[0-9] s \(requests that wait for it: '
        dmesg | grep -E 'the cache device has not answered for 3[0-9] s \(requests that wait for it: 1\)'
        wbctl status v0 >/tmp/status
        cat /tmp/status
        grep -qE '^v0: ok, but the backing device has not answered for [0-9]+ s$' /tmp/status
        grep -q 'dmsetup info' /tmp/status
        wbctl status v1 | grep -E '^v1: ok, but the cache device has not answered'
        wbctl list
        wbctl list | grep -E '^v0 +silent '
        wbctl list | grep -E '^v2 +ok '
        within 10 grep -E '^wbctl: v0: the backing device has not answered for [0-9]+ s; waiting for it$' /tmp/drain
        wbstat --once | grep -E 'the backing device has not answered for [0-9]+ s'
        kill -0 $reader0 $reader1 || die 'they have not waited'
        grep -x 'wbctl: v4: after 10 s still waiting for /dev/mapper/c4 to be read' /tmp/create
        for d in b0 c1 c4; do dmsetup resume $d; done
        say 'and they answer again'
        wait $reader0 $reader1 $drain $create
        [ -b /dev/mapper/v4 ] || die 'v4 was not made'
        cmp -n 4096 /tmp/read1 /tmp/a
        for volume in v0 v1; do
            within 10 has $volume backing_silent_s 0
            within 10 has $volume cache_silent_s 0
            healthy $volume
        done
        within 10 saw 'v0: the backing device answers again$'
        within 10 saw 'v1: the cache device answers again$'
        logged 'the backing device answers again, after 3'
        grep -E '^wbctl: v0: the backing device answers again$' /tmp/drain
        wbctl status v0 | grep -E '^v0: ok$'
        say 'of the slow one, which took 40 s for two reads, and of the idle one nothing was ever said'
        wait $reader2
        ! saw 'v[23]: .* device' || die "$(cat /tmp/events)"
        same 'events of the idle one' "$(events v3)" "$before"
        same 'seconds of the idle one' "$(value v3 backing_silent_s)" 0
        kill $watch
        dmsetup resume b3
        dmsetup suspend --noflush --nolockfs b2
        dmsetup reload b2 --table "0 $(sectors /dev/ram2) linear /dev/ram2 0"
        dmsetup resume --noudevsync b2
        for i in 0 1 2 3 4; do drained v$i /dev/mapper/b$i; remove v$i; done
        "#
        ),
    ),
    // Direct reads into memory that another process writes to all the time: the checksum is right where nobody else writes.
    script(
        "faults::memory_changes_while_it_is_read_to",
        20,
        true,
        with_helpers!(
            r#"
        ram 1 48
        # What is read is there at once, and is looked at a millisecond later.
        null c 32 irqmode 2 completion_nsec 1000000 hw_queue_depth 64 submit_queues 1
        volume v /dev/ram0 /dev/c writeback_threshold 0
        put /tmp/a 0
        forget
        truncate -s 256k /dev/shm/buffer
        fio --name=scribble --filename=/dev/shm/buffer --rw=randwrite --bs=64 --ioengine=psync --size=256k --eta=never \
            --time_based --runtime=60 >/dev/null 2>&1 &
        scribble=$!
        fio --name=read --filename=/dev/mapper/v --direct=1 --rw=randread --bsrange=4k-32k --blockalign=4k --size=2m \
            --ioengine=io_uring --iodepth=4 --iomem=mmapshared:/dev/shm/buffer --eta=never --time_based --runtime=5 >/tmp/fio 2>&1 ||
            { cat /tmp/fio; die 'a read has failed'; }
        kill $scribble
        wait $scribble 2>/dev/null || true
        healthy v
        echo "REPORT $(value v read_again) blocks were read again"
        [ "$(value v read_again)" -gt 10 ] || die 'this tests nothing'
        get /tmp/a 0 | cmp - /tmp/a
        finish v /dev/ram0 /dev/c
        "#
        ),
    ),
    // A transient error of the cache device is nobody's error: reads and writes are tried again.
    script(
        "faults::cache_device_fails_for_a_moment",
        25,
        true,
        with_helpers!(
            r#"
        ram 1 64
        null x 32
        over c /dev/x
        volume v /dev/ram0 /dev/mapper/c
        say 'for a second of every three, writes and flushes fail'
        becomes c "0 $(sectors /dev/x) flakey /dev/x 0 2 1 1 error_writes"
        # More than one record to a flush, and flushes of one record.
        fio --filename=/dev/mapper/v --direct=1 --ioengine=psync --rw=randwrite --eta=never --time_based --runtime=12 \
            --randseed=$SEED --name=small --numjobs=2 --bs=4k --size=8m --offset_increment=8m --fsync=4 \
            --name=large --bs=256k --size=16m --offset=32m --fsync=16 >/tmp/fio 2>&1 ||
            { cat /tmp/fio; dmesg | tail -n 20; die 'somebody was told'; }
        mends c /dev/x
        until_true 15 is state ok
        [ "$(value v cache_write_errors)" -gt 0 ] || die 'no error is counted'
        same 'read errors' "$(value v read_errors)" 0
        logged 'cannot write to the cache device, trying again'
        logged 'the cache device can be written again'
        logged 'records were written again before they are flushed'
        [ "$(events v)" -gt 1 ] || die 'no events'
        echo "REPORT $(value v cache_write_errors) writes failed, $(dmesg | grep -c 'written again before') times records were written again"
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=8m
        dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync,notrunc status=none
        digest=$(digest /dev/mapper/v)
        say 'a resume finds it'
        remove v
        volume v /dev/ram0 /dev/mapper/c
        same 'content' "$(digest /dev/mapper/v)" "$digest"
        finish v /dev/ram0 /dev/mapper/c
        "#
        ),
    ),
    // The device forgets what it had in its cache, and says so once, by an error of the flush.
    script(
        "faults::flush_fails_and_the_device_forgets",
        10,
        true,
        with_helpers!(
            r#"
        ram 1 48
        # With a cache of its own: flushes end in the block layer otherwise.
        null x 17 cache_size 1
        over c /dev/x
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        # Elsewhere, so that nothing of it is superseded: making room would flush the device, too.
        dd if=/tmp/z of=/dev/mapper/v bs=508k seek=20 count=1 oflag=direct conv=fsync status=none
        # A volume that is idle flushes by itself.
        fio --name=busy --filename=/dev/mapper/v --direct=1 --ioengine=psync --rw=randread --bs=4k --offset=40m --size=4m \
            --rate_iops=100 --time_based --runtime=600 --eta=never >/dev/null 2>&1 &
        busy=$!
        # Two whole segments, which are written without anybody asking for it.
        flaky c /dev/x drop_writes
        dd if=/tmp/a of=/dev/mapper/v bs=508k count=2 oflag=direct conv=notrunc status=none
        sleep 0.5
        flaky c /dev/x error_writes
        sync /dev/mapper/v 2>/tmp/said &
        until_true 20 logged 'trying again'
        sleep 1
        mends c /dev/x
        ! wait $! || die 'the flush succeeded, and nothing of it was there'
        grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
        kill $busy
        wait $busy || true
        until_true 30 is state failed
        logged 'is lost'
        remove v
        say 'what was flushed before is there'
        volume v /dev/ram0 /dev/mapper/c
        get /tmp/z 2540 127 | cmp - <(head -c 508K /tmp/z)
        finish v /dev/ram0 /dev/mapper/c
        "#
        ),
    ),
    // The log has failed for good: reads and writeback go on, and after the repair all that was flushed is there.
    script(
        "faults::cache_device_fails_for_good",
        30,
        false,
        with_helpers!(
            r#"
        ram 1 64
        null x 32
        over c /dev/x
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        dd if=/tmp/z of=/dev/mapper/v bs=508k seek=40 count=1 oflag=direct conv=notrunc,fsync status=none
        wbtest history-write /dev/mapper/v --seed $SEED --sectors 32768 --every 8 >/tmp/history 2>&1 &
        history=$!
        sleep 2
        # Behind it there will be others in its segment that are not durable, and relocation may have moved it just then.
        dd if=/tmp/a of=/dev/mapper/v bs=4k seek=15000 oflag=direct conv=notrunc,fsync status=none
        flaky c /dev/x error_writes
        ! wait $history || die 'the writes went on'
        until_true 30 is state failed
        durable=$(grep durable /tmp/history | tail -n1 | cut -d' ' -f2)
        say "write $durable is durable"
        say 'what is there can be read, and nothing is taken'
        get /tmp/a 15000 | cmp - /tmp/a
        wbtest history-check /dev/mapper/v --seed $SEED --sectors 32768 --durable $durable
        fails dd if=/tmp/a of=/dev/mapper/v bs=4k count=1 oflag=direct conv=notrunc
        say 'what was flushed is written back, though the option forbids that to a cache that works'
        until_true 20 eval 'cmp -s /tmp/a <(dd if=/dev/ram0 bs=4k skip=15000 count=512 iflag=direct status=none)'
        refused 11 '' -- timeout 60 wbctl drain v
        cat /tmp/said
        say 'repaired and resumed'
        mends c /dev/x
        remove v
        volume v /dev/ram0 /dev/mapper/c
        wbtest history-check /dev/mapper/v --seed $SEED --sectors 32768 --durable $durable
        get /tmp/a 15000 | cmp - /tmp/a
        finish v /dev/ram0 /dev/mapper/c
        "#
        ),
    ),
    // A block that is clean is on the backing device, too.
    script(
        "faults::bits_flip_in_clean_blocks",
        10,
        true,
        with_helpers!(
            r#"
        ram 1 48
        null c 32
        volume v /dev/ram0 /dev/c
        put /tmp/a 0
        forget
        drain v
        flip_blocks /dev/c /tmp/a 3 4 100 127 128 511
        get /tmp/a 0 | cmp - /tmp/a
        dd if=/dev/mapper/v bs=256k count=8 iflag=direct status=none | cmp - /tmp/a
        dd if=/dev/mapper/v bs=512 count=8 skip=800 iflag=direct status=none | cmp - <(head -c 413696 /tmp/a | tail -c 4096)
        same 'read errors' "$(value v read_errors)" 6
        same 'state' "$(value v state)" ok
        logged 'wrong checksum'
        [ "$(events v)" -gt 0 ] || die 'no event'
        remove v
        "#
        ),
    ),
    // A block that is dirty is nowhere else: an error for its sectors, and for nobody else.
    script(
        "faults::bits_flip_in_dirty_blocks",
        20,
        true,
        with_helpers!(
            r#"
        ram 1 48
        null c 32
        volume v /dev/ram0 /dev/c writeback_threshold 0
        put /tmp/a 0
        # A block of which two sectors are in the cache.
        dd if=/tmp/z of=/dev/mapper/v bs=1k seek=8001 count=1 oflag=direct conv=notrunc status=none
        forget
        bad='0 77 78 200 511'
        flip_blocks /dev/c /tmp/a $bad
        python3 -c '
b = bytearray(4096)
b[1024:2048] = open("/tmp/z", "rb").read(1024)
open("/tmp/partial", "wb").write(b)'
        flip_blocks /dev/c /tmp/partial 0
        say 'an error for each of these blocks, and the right data for all others'
        cp /tmp/a /tmp/wanted
        for block in $bad; do dd if=/dev/zero of=/tmp/wanted bs=4k seek=$block count=1 conv=notrunc status=none; done
        # Zeroes in the place of what cannot be read: what a failed read has left in the buffer means nothing.
        unreadable=$(python3 -c '
import mmap, os
device, buffer = os.open("/dev/mapper/v", os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
with open("/tmp/found", "wb") as found:
    for block in range(512):
        try:
            os.preadv(device, [buffer], block * 4096)
            found.write(buffer)
        except OSError:
            found.write(bytes(4096))
            print(block)')
        same 'unreadable blocks' "$(echo $unreadable)" "$bad"
        cmp /tmp/found /tmp/wanted
        fails dd if=/dev/mapper/v of=/dev/null bs=512 skip=16003 count=1 iflag=direct
        dd if=/dev/mapper/v bs=512 skip=16000 count=2 iflag=direct status=none | cmp - <(head -c 1K /dev/zero)
        # And perhaps one for a block that is looked at in the background by now.
        [ "$(value v read_errors)" -ge 6 ] || die "$(value v read_errors) read errors"
        same 'state' "$(value v state)" degraded
        same 'fault' "$(value v fault)" cache_read
        [ "$(events v)" -gt 0 ] || die 'no event'
        wbctl status v | tee /tmp/status
        grep -q 'from a backup' /tmp/status
        say 'a drain fails, writes back the rest, and keeps what it cannot'
        refused 11 '' -- wbctl drain v
        cat /tmp/said
        same 'dirty blocks' "$(dirty v)" 6
        for block in $bad; do
            cmp <(dd if=/dev/ram0 bs=4k skip=$block count=1 iflag=direct status=none) <(head -c 4K /dev/zero)
        done
        same 'blocks that differ' "$({ cmp -l /tmp/a <(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none) || true; } |
            awk '{ print int(($1 - 1) / 4096) }' | sort -nu | tr '\n' ' ')" "$bad "
        say 'the volume works meanwhile'
        put /tmp/z 3000
        get /tmp/z 3000 | cmp - /tmp/z
        refused 11 '' -- wbctl drain v
        same 'dirty blocks' "$(dirty v)" 6
        dd if=/dev/ram0 bs=4k skip=3000 count=512 iflag=direct status=none | cmp - /tmp/z
        say 'writing them again heals them'
        for block in $bad; do
            dd if=/tmp/a of=/dev/mapper/v bs=4k skip=$block seek=$block count=1 oflag=direct conv=notrunc status=none
        done
        dd if=/tmp/z of=/dev/mapper/v bs=1k seek=8001 count=1 oflag=direct conv=notrunc status=none
        drain v
        until_true 5 is state ok
        same 'dirty blocks' "$(dirty v)" 0
        dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none | cmp - /tmp/a
        remove v
        "#
        ),
    ),
    // What nobody reads while the volume is in use: it can be drained, and needs a new format then.
    script(
        "faults::bits_flip_in_the_metadata_of_a_live_volume",
        10,
        true,
        with_helpers!(
            r#"
        ram 1 48
        null c 17
        volume v /dev/ram0 /dev/c writeback_threshold 0
        put /tmp/a 0
        put /tmp/z 1000
        dd if=/dev/mapper/v of=/tmp/content bs=1M iflag=direct status=none
        flip_bit /dev/c 0 100
        flip_bit /dev/c 1 100
        flip_bit /dev/c 2 100
        # The headers of the first segments.
        for block in 256 384 512 640; do flip_bit /dev/c $block 200; done
        get /tmp/a 0 | cmp - /tmp/a
        wbctl drain v
        healthy v
        remove v
        cmp /tmp/content /dev/ram0
        say 'with a damaged superblock it does not come again'
        logs 'refusing the cache device' -- dmsetup create v --table "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/c"
        refused 5 '' -- wbctl create v /dev/ram0 /dev/c
        cat /tmp/said
        "#
        ),
    ),
    // A replay reads ahead, and so where the log is not: what cannot be read there is nobody's concern.
    script(
        "faults::unreadable_behind_the_log",
        15,
        true,
        with_helpers!(
            r#"
        ram 1 64
        null x 48
        over c /dev/x
        n=$(sectors /dev/x)
        # Segments from that one on cannot be read.
        behind() { local at=$(((256 + $1 * 128) * 8)); becomes c "0 $at linear /dev/x 0
$at $((n - at)) error"; }
        resumes() { # SEGMENT
            digest=$(digest /dev/mapper/v)
            remove v
            say "segments from $1 on cannot be read"
            behind $1
            volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
            same 'content' "$(digest /dev/mapper/v)" "$digest"
            same 'read errors' "$(value v read_errors)" 0
            remove v
            say "nor can segment $(($1 - 12)), which the log is in"
            behind $(($1 - 12))
            logs 'Cannot read the cache device' -- dmsetup create v --table "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c"
            mends c /dev/x
            volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
            same 'content' "$(digest /dev/mapper/v)" "$digest"
        }
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        say 'full segments'
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=20 oflag=direct conv=notrunc,fsync status=none
        # 5,120 blocks, 127 to a segment: 0 to 40, and the replay looks at one more to see that the log is over.
        resumes 43
        drained v /dev/ram0
        remove v
        say 'segments of many records'
        dd if=/dev/zero of=/dev/x bs=1M count=1 oflag=direct status=none
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
        dd if=/dev/urandom of=/dev/mapper/v bs=4k count=2000 oflag=direct,dsync conv=notrunc status=none
        # 64 to a segment: 0 to 31.
        resumes 34
        finish v /dev/ram0 /dev/mapper/c
        "#
        ),
    ),
    // A drain has nothing to do with what is written meanwhile: neither does it wait for that, nor may it take the progress
    // with that for progress with a block that cannot be written back.
    script(
        "faults::drain_of_a_bad_block_while_written",
        20,
        true,
        with_helpers!(
            r#"
        hdd h 64 2
        # Large enough for half a minute of what is written.
        null c 500
        n=$(sectors /dev/h)
        over b /dev/h
        volume v /dev/mapper/b /dev/c writeback_threshold 0
        put /tmp/a 0
        becomes b "0 80 linear /dev/h 0\n80 8 error\n88 $((n - 88)) linear /dev/h 88"
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --offset=32m --size=4m --norandommap \
            --time_based --runtime=100 --ioengine=psync --thinktime=300 --eta=never --output=/dev/null &
        fio=$!
        until_true 10 is_more_dirty 700
        refused 11 '' -- timeout 30 wbctl drain v
        kill -0 $fio || die 'nobody writes any more'
        kill $fio
        wait $fio || true
        say 'all the rest of what was written before is there'
        dd if=/dev/h of=/tmp/found bs=1M count=2 iflag=direct status=none
        same 'blocks that differ' "$({ cmp -l /tmp/a /tmp/found || true; } | awk '{ print int(($1 - 1) / 4096) }' | sort -nu)" 10
        say 'and with the disk repaired, that one too'
        mends b /dev/h
        drained v /dev/h
        remove v
        "#
        ),
    ),
    // Blocks that the backing device cannot write do not keep others from being written back.
    script(
        "faults::bad_blocks_on_the_backing_device",
        30,
        true,
        with_helpers!(
            r#"
        ram 1 80
        null c 17
        n=$(sectors /dev/ram0)
        over b /dev/ram0
        # 5 blocks of 4 KiB: one alone, three together, and a sector of one.
        bad() {
            becomes b "0 80 linear /dev/ram0 0\n80 8 error\n88 1912 linear /dev/ram0 88\n2000 24 error\n2024 979 linear /dev/ram0 2024\n3003 1 error\n3004 $((n - 3004)) linear /dev/ram0 3004"
        }
        volume v /dev/mapper/b /dev/c writeback_threshold 0
        put /tmp/a 0
        bad
        say 'a drain writes back all but these'
        refused 11 '' -- wbctl drain v
        cat /tmp/said
        same 'dirty blocks' "$(dirty v)" 5
        same 'state' "$(value v state)" degraded
        same 'fault' "$(value v fault)" backing_write
        [ "$(events v)" -gt 0 ] || die 'no event'
        same 'blocks that differ' "$({ cmp -l /tmp/a <(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none) || true; } |
            awk '{ print int(($1 - 1) / 4096) }' | sort -nu | tr '\n' ' ')" '10 250 251 252 375 '
        say 'they are served from the cache'
        get /tmp/a 0 | cmp - /tmp/a
        say 'the log goes round'
        dmsetup message v 0 writeback_threshold 100
        for i in 1 2 3; do
            dd if=/dev/urandom of=/tmp/much bs=1M count=30 status=none
            timeout 120 dd if=/tmp/much of=/dev/mapper/v bs=64k seek=800 oflag=direct conv=notrunc status=none
        done
        dd if=/dev/mapper/v bs=64k skip=800 count=480 iflag=direct status=none | cmp - /tmp/much
        get /tmp/a 0 | cmp - /tmp/a
        lines=$(dmesg | grep -c 'cannot write to the backing device')
        echo "REPORT $(value v writeback_errors) errors, $lines lines in the kernel's log"
        [ $lines -lt 40 ] || die "$lines lines in the kernel's log"
        say 'a resume keeps them'
        dmsetup message v 0 writeback_threshold 0
        remove v
        volume v /dev/mapper/b /dev/c
        get /tmp/a 0 | cmp - /tmp/a
        say 'the disk is repaired, and writeback goes on by itself'
        mends b /dev/ram0
        until_true 90 is_dirty 0
        until_true 5 is state ok
        equal /dev/mapper/v /dev/ram0
        remove v
        "#
        ),
    ),
    // The device is reset, forgets what it had in its cache, and says so by an error of one write only. All is well then: but what
    // had gone well before that is written again before it is called clean.
    script(
        "faults::backing_device_forgets_with_an_error",
        10,
        true,
        with_helpers!(
            r#"
        modprobe dm-delay
        ram 1 48
        null c 17
        n=$(sectors /dev/ram0)
        dmsetup create e --table "0 $n error"
        over b /dev/ram0
        volume v /dev/mapper/b /dev/c writeback_threshold 0
        head -c 128K /tmp/a >/tmp/part
        put /tmp/part 0
        put /tmp/part 1600
        # What is written at the beginning is forgotten; the error of what is written behind it comes when the device is back.
        becomes b "0 8192 flakey /dev/ram0 0 0 3600 1 drop_writes\n8192 $((n - 8192)) delay /dev/ram0 8192 0 /dev/mapper/e 8192 60000 /dev/ram0 8192 0"
        dmsetup message v 0 drop_caches &
        drain=$!
        # The second is under way when the device is flushed for the first, which goes well.
        is_sent() { [ "$(value v written_back)" -ge 32 ]; }
        until_true 10 is_sent
        sleep 1
        mends b /dev/ram0
        wait $drain
        same 'dirty blocks' "$(dirty v)" 0
        [ "$(value v written_back)" -gt 64 ] || die 'nothing was written again'
        for at in 0 1600; do
            dd if=/dev/ram0 bs=4k skip=$at count=32 iflag=direct status=none | cmp - /tmp/part || die "block $at is lost"
        done
        remove v
        "#
        ),
    ),
    // Before a device that does much at a time large writes go around a cache that is full. When that fails the log takes them.
    failing(
        "faults::bypass_of_a_full_cache",
        40,
        true,
        with_helpers!(
            r#"
        null d 400 irqmode 2 completion_nsec 5000000 hw_queue_depth 64
        faulty b /dev/d
        null c 64
        volume v /dev/mapper/b /dev/c
        around() { value v written_around; }
        jobs='--ioengine=io_uring --iodepth=32 --rw=randwrite --bsrange=4k-256k --blockalign=4k'
        say 'large writes and small ones'
        verify /dev/mapper/v $jobs --size=390m
        before=$(around)
        say "$before blocks went around"
        [ "$before" -gt 10 ] || die 'no write went around the cache'
        drained v /dev/d
        say 'those that are under way fail'
        verify /dev/mapper/v $jobs --size=390m &
        writer=$!
        more() { [ "$(around)" -gt "$before" ]; }
        until_true 60 more
        # Not all of it, or it would be a device that is dead, and writes be refused.
        faults b io write 400000 400000
        sleep 0.3
        mended b
        wait $writer
        [ "$(value v writeback_errors)" -gt 0 ] || die 'none has failed'
        say 'the log has them'
        is_drained() { drain v && [ "$(dirty v)" = 0 ]; }
        until_true 60 is_drained
        until_true 5 is state ok
        equal /dev/mapper/v /dev/d
        remove v
        volume v /dev/mapper/b /dev/c
        equal /dev/mapper/v /dev/d
        remove v
        "#
        ),
    ),
    // What was written when the backing device had blocks of 512 bytes is written back to one that has larger ones: the rest of
    // each of its blocks is read from there.
    script(
        "faults::parts_of_larger_blocks",
        10,
        true,
        with_helpers!(
            r#"
        null small 48
        null large 48 blocksize 4096
        null c 17
        for d in small large; do dd if=/tmp/z of=/dev/$d bs=1M oflag=direct conv=notrunc status=none; done
        volume v /dev/small /dev/c writeback_threshold 0
        cp /tmp/z /tmp/want
        # part SECTOR COUNT: each in a record of its own, so that a block has several.
        part() {
            for f in /tmp/want /dev/mapper/v; do
                dd if=/tmp/a of=$f bs=512 skip=$1 seek=$1 count=$2 conv=notrunc,fsync $([ -f $f ] || echo oflag=direct) status=none
            done
        }
        # One of three sectors; three in one block, next to a whole one; the end of one and the beginning of the next; the last sector.
        for p in '81 3' '160 1' '162 2' '165 1' '168 8' '247 2' '4095 1'; do part $p; done
        remove v
        volume v /dev/large /dev/c writeback_threshold 0
        drain v
        same 'dirty blocks' "$(dirty v)" 0
        same 'state' "$(value v state)" ok
        dd if=/dev/large bs=1M count=2 iflag=direct status=none | cmp - /tmp/want
        remove v
        "#
        ),
    ),
    // Nor does a stretch of them look like a device that writes nothing, wherever it lies.
    script(
        "faults::a_stretch_of_bad_blocks",
        15,
        true,
        with_helpers!(
            r#"
        ram 1 80
        null c 17
        n=$(sectors /dev/ram0)
        over b /dev/ram0
        volume v /dev/mapper/b /dev/c writeback_threshold 0
        for first in 0 512 3072; do
            say "64 blocks from sector $first on"
            put /tmp/a 0
            before=
            [ $first = 0 ] || before="0 $first linear /dev/ram0 0\n"
            becomes b "$before$first 512 error\n$((first + 512)) $((n - first - 512)) linear /dev/ram0 $((first + 512))"
            refused 11 '' -- timeout 60 wbctl drain v
            same 'dirty blocks' "$(dirty v)" 64
            mends b /dev/ram0
            drained v /dev/ram0
            dd if=/dev/urandom of=/tmp/a bs=1M count=2 status=none
        done
        remove v
        "#
        ),
    ),
    // Blocks that the backing device cannot read are errors while they are not in the cache.
    script(
        "faults::unreadable_blocks_on_the_backing_device",
        10,
        true,
        with_helpers!(
            r#"
        modprobe dm-dust
        ram 1 48
        null c 17
        dd if=/tmp/z of=/dev/ram0 bs=1M oflag=direct conv=notrunc status=none
        dmsetup create b --table "0 $(sectors /dev/ram0) dust /dev/ram0 0 4096"
        dmsetup message b 0 addbadblock 7
        volume v /dev/mapper/b /dev/c writeback_threshold 0
        # udev looks at a new device, too.
        udevadm settle
        dmsetup message b 0 enable
        before=$(events v)
        fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=7 count=1 iflag=direct
        until_true 5 eval '[ "$(events v)" -gt '$before' ]'
        [ "$(value v backing_read_errors)" -gt 0 ] || die 'no error is counted'
        same 'state' "$(value v state)" ok
        logged 'cannot read from the backing device'
        get /tmp/z 6 1 | cmp - <(head -c 28K /tmp/z | tail -c 4K)
        say 'with some of its sectors in the cache, the others are errors'
        dd if=/tmp/a of=/dev/mapper/v bs=512 seek=57 count=1 oflag=direct conv=notrunc status=none
        dd if=/dev/mapper/v bs=512 skip=57 count=1 iflag=direct status=none | cmp - <(head -c 512 /tmp/a)
        fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=7 count=1 iflag=direct
        say 'writing a block that is bad mends it, as disks do'
        dd if=/tmp/a of=/dev/mapper/v bs=4k seek=7 count=1 oflag=direct conv=notrunc status=none
        drain v
        get /tmp/a 7 1 | cmp - <(head -c 4K /tmp/a)
        remove v
        "#
        ),
    ),
    // Nobody asks for a drain: it comes back, and all goes on by itself.
    script(
        "faults::backing_device_is_away_for_a_while",
        20,
        false,
        with_helpers!(
            r#"
        ram 1 64
        null c 17
        over b /dev/ram0
        volume v /dev/mapper/b /dev/c
        put /tmp/a 0
        breaks b /dev/ram0
        put /tmp/z 1000
        until_true 10 is state degraded
        wait_for=$(events v)
        say 'until the cache is full, all goes well'
        dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=800 count=80 oflag=direct conv=notrunc,fsync status=none
        timeout 60 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=500 oflag=direct conv=notrunc status=none 2>/tmp/said && die 'they all fit' || status=$?
        [ $status != 124 ] || die 'they wait'
        grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
        get /tmp/a 0 | cmp - /tmp/a
        mends b /dev/ram0
        timeout 60 dmsetup wait v $wait_for >/dev/null
        until_true 90 is_dirty 0
        until_true 5 is state ok
        put /tmp/z 0
        get /tmp/z 0 | cmp - /tmp/z
        finish_once() { drained v /dev/ram0; remove v; }
        finish_once
        "#
        ),
    ),
    // Unplugged under load. null_blk takes its disk away when its power is cut, and has the content when it comes back.
    script(
        "faults::devices_vanish",
        30,
        false,
        with_helpers!(
            r#"
        null b 64 irqmode 2 completion_nsec 200000
        null c 32
        volume v /dev/b /dev/c
        put /tmp/a 0
        dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1000 oflag=direct conv=notrunc,fsync status=none
        remove v
        for gone in b c 'b c'; do
            volume v /dev/b /dev/c writeback_threshold 100
            fio --name=load --filename=/dev/mapper/v --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw --eta=never \
                --bsrange=512-32k --blockalign=512 --offset=32m --size=32m --fsync=16 --time_based --runtime=4 \
                --continue_on_error=all >/dev/null 2>&1 &
            fio=$!
            sleep 1
            for d in $gone; do echo 0 >/sys/kernel/config/nullb/$d/power; done
            sleep 1
            dmsetup status v
            wait $fio || true
            say "without $gone the state is $(value v state)"
            [ "$(value v state)" != ok ] || [ "$gone" = b ] || die 'nobody noticed'
            # udev looks at it since fio has closed it. While the volume is suspended it would have it open for ever.
            timeout 60 udevadm settle
            # It can be removed, whatever is missing.
            timeout 60 dmsetup suspend v
            timeout 60 dmsetup remove --retry v
            for d in $gone; do echo 1 >/sys/kernel/config/nullb/$d/power; done
            udevadm settle
            volume v /dev/b /dev/c
            get /tmp/a 0 | cmp - /tmp/a
            get /tmp/z 1000 | cmp - /tmp/z
            remove v
        done
        volume v /dev/b /dev/c
        finish v /dev/b /dev/c
        "#
        ),
    ),
    // Nothing writes the superblock after the format, and a device writes a sector whole. If it is torn all the same, it is
    // refused, and a copy of it helps.
    script(
        "faults::torn_superblock",
        30,
        true,
        with_helpers!(
            r#"
        null b 32
        null c 17
        volume v /dev/b /dev/c writeback_threshold 0
        put /tmp/a 0
        remove v
        dd if=/dev/c of=/tmp/copy bs=4k count=1 iflag=direct status=none
        digests() { { dd if=/dev/b bs=1M iflag=direct status=none; dd if=/dev/c bs=1M iflag=direct status=none; } | b2sum; }
        # torn NAME FROM LENGTH SOURCE: bytes of the superblock's sector.
        torn() {
            cp /tmp/copy /tmp/torn
            dd if=$4 of=/tmp/torn bs=1 seek=$2 count=$3 conv=notrunc status=none
            ! cmp -s /tmp/copy /tmp/torn || { echo "$1: nothing is lost"; return; }
            dd if=/tmp/torn of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
            local before
            before=$(digests)
            logs 'refusing the cache device' -- dmsetup create v --table "0 $(sectors /dev/b) writeboost /dev/b /dev/c"
            dmesg | grep 'refusing the cache device'
            refused + '' -- wbctl create v /dev/b /dev/c
            cat /tmp/said
            grep -q 'wbformat --force --force' /tmp/said || die 'nobody says what to do'
            same "devices after $1" "$(digests)" "$before"
        }
        torn 'first half zero' 0 256 /dev/zero
        torn 'second half zero' 256 256 /dev/zero
        torn 'all zero' 0 512 /dev/zero
        torn 'first half garbage' 0 256 /dev/urandom
        torn 'second half garbage' 256 256 /dev/urandom
        torn 'all garbage' 0 512 /dev/urandom
        torn 'all ones' 0 512 <(tr '\0' '\377' </dev/zero)
        say 'a copy of the sector brings it all back'
        dd if=/tmp/copy of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
        volume v /dev/b /dev/c writeback_threshold 0
        same 'dirty blocks' "$(dirty v)" 512
        get /tmp/a 0 | cmp - /tmp/a
        finish v /dev/b /dev/c
        say 'a format that was torn: the superblock comes last'
        for by in wbctl dmsetup; do
            dd if=/dev/zero of=/dev/c bs=1M count=17 oflag=direct status=none
            wbformat --name v --backing /dev/b /dev/c
            dd if=/dev/zero of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
            [ "$(dd if=/dev/c bs=4k skip=1 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" != 0 ] || die 'no checkpoint'
            if [ $by = wbctl ]; then wbctl create v /dev/b /dev/c; else volume v /dev/b /dev/c; fi
            put /tmp/z 0
            finish v /dev/b /dev/c
        done
        say 'a volume without dirty data is formatted when somebody has blanked its first sector, as ever'
        for by in wbctl dmsetup; do
            dd if=/dev/zero of=/dev/c bs=512 count=1 oflag=direct conv=notrunc status=none
            if [ $by = wbctl ]; then wbctl create v /dev/b /dev/c; else volume v /dev/b /dev/c; fi
            put /tmp/z 0
            finish v /dev/b /dev/c
        done
        "#
        ),
    ),
];

/// Memory runs short while what could make room for it has to go through the volume: swap on a file of a filesystem there.
fn swap(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.mem(160).disk(cx.disk("backing", 400)?).disk(cx.disk("cache", 32)?);
    cx.run(
        guest,
        r#"
        wbctl create v /dev/lab/disk0 /dev/lab/disk1
        mkfs.ext4 -q /dev/mapper/v
        mount /dev/mapper/v $m
        dd if=/dev/zero of=$m/swap bs=1M count=280 status=none
        chmod 600 $m/swap
        mkswap -q $m/swap
        swapon $m/swap
        grep -E 'MemTotal|MemAvailable|SwapTotal' /proc/meminfo
        fio --name=load --directory=$m --rw=randrw --bs=4k --size=15m --ioengine=psync --numjobs=2 --fsync=32 --eta=never \
            --time_based --runtime=10 >/tmp/fio 2>&1 &
        fio=$!
        say 'more memory than there is'
        # A kernel that finds bugs has less memory left and needs more time: there, two and a half times what is left.
        $FAST && hog=200 || hog=140
        timeout 1200 wbtest hog $hog --passes 1
        wait $fio || { cat /tmp/fio; die fio; }
        echo "REPORT $(awk '/pswpout/ { print $2 }' /proc/vmstat) pages were swapped out, $(awk '/pswpin/ { print $2 }' /proc/vmstat) in"
        [ "$(awk '/pswpout/ { print $2 }' /proc/vmstat)" -gt 10000 ] || die 'this tests nothing'
        swapoff $m/swap
        umount $m
        e2fsck -fn /dev/mapper/v >/dev/null
        finish v /dev/lab/disk0 /dev/lab/disk1
        "#,
    )?;
    Ok(())
}

/// A volume for which there is memory enough, but none in one piece.
fn in_pieces(cx: &Bench) -> Result<()> {
    cx.run(
        cx.guest()?.mem(500),
        r#"
        modprobe dm-writeboost
        ram 3 512
        echo 1024 >/proc/sys/vm/min_free_kbytes
        free() { awk '/^MemFree/ { print int($2 / 1024) }' /proc/meminfo; }
        vmalloced() { awk '/^VmallocUsed/ { print $2 }' /proc/meminfo; }
        say "$(free) MiB are free"
        echo 3 >/proc/sys/vm/drop_caches
        n=0
        while [ $(free) -gt 8 ]; do
            dd if=/dev/zero of=/dev/ram2 bs=1M seek=$n count=1 oflag=direct conv=notrunc status=none
            n=$((n + 1))
        done
        say "$n MiB are taken; every other page of most of them is given back"
        python3 -c '
import fcntl, os, struct, sys
device = os.open("/dev/ram2", os.O_WRONLY)
BLKDISCARD = 0x1277
for page in range(0, int(sys.argv[1]) * 192, 2):
    fcntl.ioctl(device, BLKDISCARD, struct.pack("QQ", page * 4096, 4096))' $n
        sleep 0.5
        cat /proc/buddyinfo
        [ $(free) -gt 100 ] || die "only $(free) MiB are free again"
        # Some of the first may still find large pieces.
        for i in {0..9}; do
            dmsetup create b --table "0 65536 linear /dev/ram0 $((i * 65536))"
            dmsetup create c --table "0 65536 linear /dev/ram1 $((i * 65536))"
            before=$(vmalloced)
            volume v /dev/mapper/b /dev/mapper/c
            pieces=$(($(vmalloced) - before))
            # Four buffers are 2 MiB.
            [ $pieces -lt 2048 ] || break
            dmsetup rename v v$i
            dmsetup rename b b$i
            dmsetup rename c c$i
        done
        [ $pieces -ge 2048 ] || die 'this tests nothing'
        echo "REPORT volume $i has $pieces KiB in pieces"
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-512k --blockalign=512 --size=24m
        verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=4m
        digest=$(digest /dev/mapper/v)
        remove v
        volume v /dev/mapper/b /dev/mapper/c
        same 'content' "$(digest /dev/mapper/v)" "$digest"
        finish v /dev/mapper/b /dev/mapper/c
        "#,
    )?;
    Ok(())
}

/// Each allocation that the target's constructor makes fails once.
fn no_memory(cx: &Bench) -> Result<()> {
    cx.run_provoking(
        cx.guest()?,
        r#"
        null b 32
        null c 17
        volume v /dev/b /dev/c
        dd if=/dev/urandom of=/tmp/a bs=1M count=2 status=none
        dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync status=none
        remove v
        mount -t debugfs none /sys/kernel/debug 2>/dev/null || mountpoint -q /sys/kernel/debug
        echo N >/sys/kernel/debug/failslab/ignore-gfp-wait
        # Its traces look like trouble.
        echo 0 >/sys/kernel/debug/failslab/verbose
        dmsetup create v --notable
        available() { sync; echo 3 >/proc/sys/vm/drop_caches; awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo; }
        dmsetup mknodes
        cat >/tmp/load.py <<'E'
# Loads a table again and again; each time another allocation of the kernel's fails.
import fcntl, os, struct, sys
control = os.open("/dev/mapper/control", os.O_RDWR)
def dm(command, targets=0, data=b""):
    size = 312 + len(data)
    head = struct.pack("<3I7IQ128s129s7x", 4, 0, 0, size, 312, targets, 0, 0, 0, 0, 0, b"v", b"")
    fcntl.ioctl(control, 3 << 30 | 312 << 16 | 0xfd << 8 | command, bytearray(head + data))
line = sys.argv[2].encode()
line += bytes(8 - len(line) % 8)
table = struct.pack("<QQiI16s", 0, int(sys.argv[1]), 0, 40 + len(line), b"writeboost") + line
nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
refused, n = {}, 0
while True:
    n += 1
    os.pwrite(nth, b"%d" % n, 0)
    try:
        dm(9, 1, table)
        error = 0
    except OSError as e:
        error = e.errno
    injected = os.pread(nth, 16, 0).strip() == b"0"
    os.pwrite(nth, b"0", 0)
    refused[error] = refused.get(error, 0) + 1
    dm(10)
    if not injected:
        if error:
            sys.exit("the table is refused with %d though nothing failed" % error)
        break
print("REPORT %d allocations failed, one at a time; errors: %s" % (n - 1, refused))
if n < 30 or refused.get(12, 0) < 20:
    sys.exit("this tests nothing")
if set(refused) - {0, 12}:
    sys.exit("there are other errors than ENOMEM")
E
        # The first time, what the kernel keeps for later grows; the second time must not need any more than that.
        python3 /tmp/load.py $(sectors /dev/b) '/dev/b /dev/c'
        vmalloced() { awk '/VmallocUsed/ { print int($2 / 1024) }' /proc/meminfo; }
        before=$(available) buffers=$(vmalloced)
        python3 /tmp/load.py $(sectors /dev/b) '/dev/b /dev/c' >/dev/null
        [ -z "$(pgrep '^wb_' || true)" ] || die 'threads are left'
        after=$(available) left=$(vmalloced)
        echo "$before MiB were available before, $after after; $buffers MiB were vmalloc'ed before, $left after"
        # When they cannot be had in one piece; they are 2 MiB.
        [ $left -lt $((buffers + 2)) ] || die "$((left - buffers)) MiB of buffers are gone"
        # KASAN keeps what was freed for a while.
        [ $after -gt $((before - 100)) ] || die "$((before - after)) MiB are gone"
        dmsetup remove v
        volume v /dev/b /dev/c
        dd if=/dev/mapper/v bs=1M count=2 iflag=direct status=none | cmp - /tmp/a
        finish v /dev/b /dev/c
        modprobe -r dm-writeboost
        "#,
        // The kernel shows where a slab or a vmalloc'ed area could not be made.
        &["Call Trace"],
    )?;
    Ok(())
}
