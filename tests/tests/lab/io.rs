//! Reads and writes of all kinds, with everything that was written read back and compared.

use crate::support::{script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "io::random_sizes",
        15,
        true,
        r#"
        ram 2 64
        volume v /dev/ram0 /dev/ram1
        say 32 at a time
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-128k --blockalign=512 \
            --size=60m --io_size=180m --verify_backlog=256
        say four jobs
        verify /dev/mapper/v --ioengine=psync --numjobs=4 --rw=randwrite --bsrange=512-64k --blockalign=512 \
            --size=15m --offset_increment=15m
        finish v /dev/ram0 /dev/ram1
        "#,
    ),
    // As io_uring asks for everything at first: nothing in the way of a bio may wait, or a thread has to be found for it.
    script(
        "io::nowait",
        10,
        false,
        r#"
        ram 2 64
        volume v /dev/ram0 /dev/ram1
        say 'nothing waits'
        # Not where udev looks: what has pages in the page cache is refused.
        verify /dev/mapper/v --ioengine=pvsync2 --nowait=1 --rw=randrw --bsrange=512-64k --blockalign=512 --offset=16m \
            --size=32m --io_size=120m --verify_backlog=256
        finish v /dev/ram0 /dev/ram1
        say 'writes that find no room wait, and nobody is told to come again'
        hdd b 40 1
        null c 12
        volume v /dev/b /dev/c
        # Reads may be told so, by the hard disk, which has a queue of one.
        jobs='--ioengine=pvsync2 --numjobs=3 --rw=randwrite --bs=16k --size=6m --offset=16m --offset_increment=6m'
        verify /dev/mapper/v $jobs --nowait=1 --do_verify=0
        verify /dev/mapper/v $jobs --verify_only=1
        finish v /dev/b /dev/c
        "#,
    ),
    script(
        "io::slow_devices",
        25,
        false,
        r#"
        hdd b 96 1
        ssd c 32
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-128k --blockalign=512 \
            --size=80m --io_size=60m --verify_backlog=256
        verify /dev/mapper/v --ioengine=psync --numjobs=4 --rw=randwrite --bsrange=512-16k --blockalign=512 \
            --size=4m --offset_increment=20m --fsync=16
        finish v /dev/b /dev/c
        "#,
    ),
    // The log goes round many times, and writes have to wait for writeback or relocation.
    script(
        "io::cache_smaller_than_working_set",
        40,
        false,
        r#"
        hdd b 200 1
        null c 12
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bsrange=4k-128k --blockalign=4k --size=180m
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randrw --bsrange=512-16k --blockalign=512 \
            --size=64m --io_size=24m --verify_backlog=128
        verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bs=4k --size=1m --offset_increment=20m --sync=1
        finish v /dev/b /dev/c
        "#,
    ),
    // When only writeback makes room, writes are let in one by one, as blocks are written back; and a backing device that
    // does not answer does not keep those from being taken for which there is room.
    script(
        "io::pace_of_a_full_cache",
        30,
        true,
        r#"
        hdd h 200 20
        dmsetup create b --table "0 $(sectors /dev/h) linear /dev/h 0"
        null c 64
        volume v /dev/mapper/b /dev/c
        free() { value v free_segments; }
        write() { fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --norandommap --eta=never --output=/dev/null "$@"; }
        all=$(free)
        say 'fill it'
        # The sequence of addresses goes on where the last run of fio has ended: with a seed of its own each time.
        n=0
        # It begins with less than eight.
        while [ "$(free)" -gt 6 ]; do
            n=$((n + 1))
            write --randseed=$((SEED + n)) --size=200m --io_size=1m --ioengine=io_uring --iodepth=16
        done
        say "$(free) of $all segments are free"
        say 'let in, one by one, while nothing becomes free: 20 ms for each block that is written back'
        write --randseed=$((SEED + 1000)) --size=200m --io_size=4m --ioengine=psync --write_lat_log=/tmp/paced
        # 1,024 writes; those that found something saved up were not delayed, and there is more of that when blocks lie beside each other.
        # Without a pace some eight would be, one for each segment.
        slow=$(awk -F, '$2 > 1e6 { slow++ } END { print slow + 0 }' /tmp/paced_clat.1.log)
        say "$slow writes were delayed"
        [ "$slow" -gt 24 ] || die "only $slow writes were delayed"
        say 'the backing device does not answer any more'
        # Four are not for writes.
        until [ "$(free)" -ge 6 ]; do sleep 0.1; done
        dmsetup suspend --nolockfs --noflush b
        before=$(free)
        timeout 20 fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --norandommap --eta=never --output=/dev/null \
            --randseed=$((SEED + 2000)) --size=200m --io_size=256k --ioengine=psync || die "writes are held back for ever"
        say "$before segments were free, now $(free)"
        dmsetup resume b
        healthy v
        # What is dirty stays so: at this device's speed a drain would take minutes.
        remove v
        "#,
    ),
    // A drain is for what was written before it, and ends however much is written meanwhile; and relocation, which carries
    // old blocks behind what the drain waits for, does not make it miss them.
    script(
        "io::drain_while_written",
        30,
        true,
        r#"
        hdd b 64 2
        null c 20
        volume v /dev/b /dev/c writeback_threshold 0
        touch /tmp/go
        # Hot: it dirties 1,000 blocks again and again, while the disk writes 500 in a second. The log goes round all the time.
        (while [ -e /tmp/go ]; do
            fio --name=hot --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=4m --norandommap \
                --time_based --runtime=2 --ioengine=psync --thinktime=100 --eta=never --output=/dev/null
        done) &
        hot=$!
        # Cold: 400 blocks that are written once, with gaps, and written back last, for they are behind the others.
        cold() {
            local device=$1
            shift
            verify $device --rw=write:4k --bs=4k --offset=32m --size=3200k --verify=pattern --verify_pattern=0xc01d000$round "$@"
        }
        for round in 1 2 3; do
            cold /dev/mapper/v --do_verify=0
            sleep 1
            kill -0 $hot || die 'nobody writes any more'
            begin=$SECONDS
            timeout 60 dmsetup message v 0 drop_caches || die 'the drain does not end'
            cold /dev/b --verify_only
            say "drained in $((SECONDS - begin)) s, $(dirty v) blocks are dirty again"
        done
        rm /tmp/go
        wait $hot
        finish v /dev/b /dev/c
        "#,
    ),
    // What is overwritten all the time never has to be written back: the log goes round by relocation.
    script(
        "io::hot_blocks_in_a_small_cache",
        20,
        true,
        r#"
        ram 1 64
        null c 12
        volume v /dev/ram0 /dev/c
        for round in 1 2 3; do
            verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=4m --io_size=60m
            verify /dev/mapper/v --ioengine=psync --rw=randwrite --bsrange=512-4k --blockalign=512 --size=4m --io_size=8m \
                --fsync=4
        done
        finish v /dev/ram0 /dev/c
        "#,
    ),
    script(
        "io::flush_and_fua",
        20,
        true,
        r#"
        ram 1 64
        ssd c 32
        volume v /dev/ram0 /dev/c
        say 'fsync after each write'
        verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bs=4k --size=4m --offset_increment=8m --fsync=1
        say 'each write durable by itself'
        verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bsrange=512-8k --blockalign=512 --size=4m \
            --offset_increment=8m --sync=1
        say 'flushes between writes that are under way'
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=32m --fsync=8
        finish v /dev/ram0 /dev/c
        "#,
    ),
    script(
        "io::large",
        15,
        false,
        r#"
        ram 1 256
        null c 64
        volume v /dev/ram0 /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=write --bs=4m --size=240m
        verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=randwrite --bsrange=1m-4m --blockalign=512 --size=240m
        verify /dev/mapper/v --ioengine=psync --rw=rw --bs=1m --size=200m --verify_backlog=8
        finish v /dev/ram0 /dev/c
        "#,
    ),
    // Sectors of one block that lie in RAM, in several places of the cache and on the backing device.
    script(
        "io::reads_from_everywhere",
        20,
        true,
        r#"
        ram 1 48
        ssd c 24
        wbtest history-write /dev/ram0 --seed $SEED --last 300
        volume v /dev/ram0 /dev/c writeback_threshold 0
        n=300
        check() { same "last write $1" "$(wbtest history-check /dev/mapper/v --seed $SEED --durable $n --reads 4000)" "prefix $n"; }
        check 'on the backing device'
        for round in 1 2 3 4; do
            wbtest history-write /dev/mapper/v --seed $SEED --from $((n + 1)) --last $((n + 400))
            n=$((n + 400))
            check 'in RAM, in the cache and on the backing device'
            blockdev --flushbufs /dev/mapper/v
            dmsetup suspend v
            dmsetup resume v
            check 'in the cache and on the backing device'
            [ $round != 2 ] || drain v
        done
        check 'at the end'
        remove v
        volume v /dev/ram0 /dev/c
        check 'after a resume'
        finish v /dev/ram0 /dev/c
        same 'last write on the backing device alone' \
            "$(wbtest history-check /dev/ram0 --seed $SEED --durable $n)" "prefix $n"
        "#,
    ),
    // How long a read takes is up to whoever sent it, and to a device. The log does not wait for it, though it needs the segment
    // that is read; and when the read has its time at last, it is not what is there now that it gets.
    script(
        "io::a_slow_read_holds_up_no_write",
        20,
        true,
        r#"
        ram 2 64
        modprobe dm-delay
        becomes() { dmsetup suspend --noflush --nolockfs $1; printf '%b\n' "$2" | dmsetup reload $1; dmsetup resume $1; }
        # 16 segments of 128 blocks behind 256.
        n=$(((256 + 16 * 128) * 8))
        dmsetup create c --table "0 $n linear /dev/ram1 0"
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 100
        head -c $((3 * 508 * 1024)) /dev/urandom >/tmp/written
        dd if=/tmp/written of=/dev/mapper/v bs=508k oflag=direct conv=notrunc,fsync status=none
        remove v
        volume v /dev/ram0 /dev/mapper/c writeback_threshold 100
        drain v
        # Block 100 lies behind the first header. Reads of it take ten minutes, or until the device is suspended.
        at=$(((256 + 101) * 8))
        slow="0 $at linear /dev/ram1 0\n$at 8 delay /dev/ram1 $at 600000 /dev/ram1 $at 0\n"
        becomes c "$slow$((at + 8)) $((n - at - 8)) linear /dev/ram1 $((at + 8))"
        dd if=/dev/mapper/v of=/tmp/read bs=4k count=1 skip=100 iflag=direct status=none &
        reader=$!
        # A part of it: a worker reads that.
        dd if=/dev/mapper/v of=/tmp/part bs=512 count=3 skip=802 iflag=direct status=none &
        worker=$!
        sleep 0.5
        say 'more than twice round the log'
        for i in $(seq 40); do
            timeout 100 dd if=/dev/urandom of=/dev/mapper/v bs=508k seek=$((20 + i % 4)) count=1 oflag=direct conv=notrunc \
                status=none || die "write $i waits for a read"
        done
        timeout 100 sync -d /dev/mapper/v
        kill -0 $reader && kill -0 $worker || die 'the reads did not wait'
        becomes c "0 $n linear /dev/ram1 0"
        wait $reader $worker
        cmp -n 4096 -i 409600:0 /tmp/written /tmp/read
        cmp -n 1536 -i $((802 * 512)):0 /tmp/written /tmp/part
        same 'reads that had to be repeated' "$(value v read_again)" 0
        finish v /dev/ram0 /dev/mapper/c
        "#,
    ),
    // Who needs the cache device only does not wait for those who need the backing device, however many there are.
    script(
        "io::cached_parts_beside_a_silent_backing_device",
        15,
        true,
        r#"
        ram 2 64
        dd if=/dev/urandom of=/dev/ram0 bs=1M count=64 oflag=direct status=none
        dmsetup create b --table "0 $(sectors /dev/ram0) linear /dev/ram0 0"
        volume v /dev/mapper/b /dev/ram1 writeback_threshold 0
        head -c 4096 /dev/urandom >/tmp/p
        dd if=/tmp/p of=/dev/mapper/v bs=4k seek=100 count=1 oflag=direct conv=notrunc status=none
        # One of their sectors is cached, seven are not.
        for i in $(seq 40); do
            dd if=/tmp/p of=/dev/mapper/v bs=512 seek=$((8000 + i * 8)) count=1 oflag=direct conv=notrunc status=none
        done
        # Two pieces of one block, both in the cache.
        dd if=/tmp/p of=/dev/mapper/v bs=512 seek=1600 count=3 oflag=direct conv=notrunc status=none
        dd if=/tmp/p of=/dev/mapper/v bs=512 seek=1603 skip=3 count=5 oflag=direct conv=notrunc,fsync status=none
        remove v
        volume v /dev/mapper/b /dev/ram1 writeback_threshold 0
        dmsetup suspend --noflush --nolockfs b
        readers=
        for i in $(seq 40); do
            dd if=/dev/mapper/v of=/tmp/far$i bs=4k skip=$((1000 + i)) count=1 iflag=direct status=none &
            readers="$readers $!"
        done
        sleep 0.5
        for i in 1 2 3 4 5; do
            timeout 100 dd if=/dev/mapper/v of=/tmp/near bs=512 skip=802 count=4 iflag=direct status=none || die 'it waits'
            cmp -n 2048 -i 1024:0 /tmp/p /tmp/near
            timeout 100 dd if=/dev/mapper/v of=/tmp/near bs=4k skip=200 count=1 iflag=direct status=none || die 'it waits'
            cmp /tmp/p /tmp/near
        done
        for reader in $readers; do kill -0 $reader || die 'they did not wait'; done
        dmsetup resume b
        wait $readers
        for i in $(seq 40); do
            cmp -n 512 /tmp/p /tmp/far$i
            cmp -n 3584 -i $(((8001 + i * 8) * 512)):512 /dev/ram0 /tmp/far$i
        done
        finish v /dev/mapper/b /dev/ram1
        "#,
    ),
    // Device-mapper ends read-ahead with an error while a device is suspended. That is no fault of the device.
    script(
        "io::read_ahead_while_a_device_is_suspended",
        15,
        true,
        r#"
        ram 2 64
        for d in 0 1; do dmsetup create d$d --table "0 $(sectors /dev/ram$d) linear /dev/ram$d 0"; done
        volume v /dev/mapper/d0 /dev/mapper/d1 writeback_threshold 0
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
        remove v
        volume v /dev/mapper/d0 /dev/mapper/d1 writeback_threshold 0
        udevadm settle
        blockdev --setra 2048 /dev/mapper/v
        events() { dmsetup info -c --noheadings -o events v; }
        before=$(events)
        dmesg --clear
        # On the backing device, and in the cache.
        for where in "d0 8000" "d1 100"; do
            set -- $where
            dmsetup suspend --noflush --nolockfs $1
            dd if=/dev/mapper/v of=/tmp/read bs=4k skip=$2 count=64 status=none &
            reader=$!
            sleep 1
            kill -0 $reader || die 'nothing was read ahead'
            dmsetup resume $1
            wait $reader
            cmp /tmp/read <(dd if=/dev/mapper/v bs=4k skip=$2 count=64 iflag=direct status=none)
        done
        for counter in backing_read_errors read_errors read_again; do same $counter "$(value v $counter)" 0; done
        same events "$(events)" "$before"
        ! logged 'cannot read' || die "$(dmesg)"
        finish v /dev/mapper/d0 /dev/mapper/d1
        "#,
    ),
    // A drain may take hours, and a suspend would hold everybody's bios meanwhile.
    script(
        "io::suspend_during_a_drain",
        25,
        true,
        r#"
        hdd b 32 5
        null c 64
        volume v /dev/b /dev/c writeback_threshold 0
        fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=30m --io_size=6m --ioengine=psync --eta=never \
            --output=/dev/null
        drain v 2>/tmp/said &
        drain=$!
        sleep 1
        timeout 8 dmsetup suspend v || die 'the suspend waits for the drain'
        dmsetup resume v
        ! wait $drain || die 'it was drained'
        grep -q 'busy' /tmp/said || die "$(cat /tmp/said)"
        [ "$(dirty v)" -gt 100 ] || die 'nearly nothing was left to drain'
        finish v /dev/b /dev/c
        "#,
    ),
    script(
        "io::suspend_under_load",
        20,
        true,
        r#"
        ram 1 64
        ssd c 24
        volume v /dev/ram0 /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-64k --blockalign=512 --size=60m \
            --time_based --runtime=8 --verify_backlog=64 --fsync=32 &
        fio=$!
        rounds=0
        while kill -0 $fio 2>/dev/null; do
            for how in "" --noflush --nolockfs; do
                dmsetup suspend $how v
                sleep 0.0$((RANDOM % 10))
                dmsetup resume v
                sleep 0.0$((RANDOM % 10))
                rounds=$((rounds + 1))
            done
        done
        wait $fio
        say "$rounds times suspended"
        [ $rounds -ge 3 ] || die "suspended $rounds times only"
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=32m
        finish v /dev/ram0 /dev/c
        "#,
    ),
    script(
        "io::two_volumes",
        15,
        false,
        r#"
        ram 4 48
        volume v /dev/ram0 /dev/ram1
        volume w /dev/ram2 /dev/ram3
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-64k --blockalign=512 --size=40m &
        first=$!
        verify /dev/mapper/w --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-64k --blockalign=512 --size=40m &
        second=$!
        wait $first
        wait $second
        # One is taken down while the other works.
        verify /dev/mapper/w --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=40m --verify_backlog=64 &
        second=$!
        finish v /dev/ram0 /dev/ram1
        wait $second
        finish w /dev/ram2 /dev/ram3
        "#,
    ),
    script(
        "io::blocks_of_4096_bytes",
        15,
        false,
        r#"
        for sizes in "512 4096" "4096 512" "4096 4096"; do
            set -- $sizes
            say "blocks of $1 bytes on the backing device, of $2 on the cache device"
            null b 48 blocksize $1
            null c 24 blocksize $2
            volume v /dev/b /dev/c
            # What is on the backing device was made for its sectors: limits::sectors_of_512_bytes_on_a_cache_of_4096.
            same 'logical block size' "$(blockdev --getss /dev/mapper/v)" $1
            verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=4k-64k --blockalign=4k --size=40m \
                --verify_backlog=64
            wbtest history-write /dev/mapper/v --seed $SEED --align 8 --last 1
            finish v /dev/b /dev/c
            # wbctl reads and formats with the same blocks.
            dd if=/dev/zero of=/dev/c bs=1M count=2 oflag=direct status=none
            wbctl create v /dev/b /dev/c
            verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=4m
            wbctl remove --drain v
            for d in b c; do
                echo 0 >/sys/kernel/config/nullb/$d/power
                rmdir /sys/kernel/config/nullb/$d
            done
        done
        "#,
    ),
    // Not a whole number of 4 KiB blocks.
    script(
        "io::odd_size",
        10,
        true,
        r#"
        ram 2 32
        for sectors in 65535 65529 65531 9; do
            say "$sectors sectors"
            dmsetup create odd --table "0 $sectors linear /dev/ram0 0"
            dd if=/dev/zero of=/dev/mapper/odd bs=512 count=$sectors status=none conv=fsync
            dd if=/dev/zero of=/dev/ram1 bs=1M status=none oflag=direct 2>/dev/null || true
            volume v /dev/mapper/odd /dev/ram1
            same 'size' "$(sectors /dev/mapper/v)" $sectors
            wbtest history-write /dev/mapper/v --seed $SEED --last 500 --every 50
            same 'last write' "$(wbtest history-check /dev/mapper/v --seed $SEED --durable 500 --reads 500)" 'prefix 500'
            head -c 512 /dev/urandom >/tmp/last
            dd if=/tmp/last of=/dev/mapper/v bs=512 seek=$((sectors - 1)) oflag=direct conv=notrunc status=none
            drain v
            same 'dirty blocks' "$(dirty v)" 0
            remove v
            dd if=/dev/mapper/odd bs=512 skip=$((sectors - 1)) iflag=direct status=none | cmp - /tmp/last
            volume v /dev/mapper/odd /dev/ram1
            dd if=/dev/mapper/v bs=512 skip=$((sectors - 1)) iflag=direct status=none | cmp - /tmp/last
            remove v
            remove odd
        done
        "#,
    ),
    // Addresses count from where the target begins.
    script(
        "io::one_of_several_targets",
        10,
        true,
        r#"
        ram 2 48
        n=$(sectors /dev/ram0)
        printf '0 2048 zero\n2048 %d writeboost /dev/ram0 /dev/ram1\n%d 2048 zero\n' $n $((2048 + n)) | dmsetup create v
        verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-64k --blockalign=512 --offset=1m \
            --size=48m --verify_backlog=64
        # Across the borders.
        dd if=/dev/zero of=/dev/mapper/v bs=2M count=25 oflag=direct status=none
        wbtest history-write /dev/mapper/v --seed $SEED --first 2048 --sectors $n --last 500
        same 'last write' "$(wbtest history-check /dev/mapper/v --seed $SEED --first 2048 --sectors $n --reads 500)" 'prefix 500'
        dmsetup message v 2048 drop_caches
        same 'last write on the backing device' "$(wbtest history-check /dev/ram0 --seed $SEED)" 'prefix 500'
        remove v
        "#,
    ),
    // What the cache is for: a hard disk alone, and with it.
    script(
        "io::acceptance",
        75,
        false,
        r#"
        hdd b 512 5
        ram 1 256
        # RAM disks allocate what is written first, which would be measured.
        dd if=/dev/zero of=/dev/ram0 bs=1M status=none oflag=direct 2>/dev/null || true
        rate() { # DEVICE SECONDS
            fio --name=rate --filename=$1 --direct=1 --ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=128m \
                --time_based --runtime=$2 --randseed=$SEED --output-format=terse --terse-version=3 | cut -d';' -f49
        }
        alone=$(rate /dev/b 5)
        volume v /dev/b /dev/ram0
        cached=$(rate /dev/mapper/v 60)
        echo "REPORT fsync'd random 4 KiB writes per second: $alone on the hard disk model alone, $cached with the cache:" \
            "$((cached / alone)) times as many"
        healthy v
        # Kernels for races and for debugging are slow themselves.
        [ $FAST = false ] || [ $cached -gt $((20 * alone)) ] || die 'less than 20 times as many'
        remove v
        "#,
    ),
];
