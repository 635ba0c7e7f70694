//! What a volume says of itself to whoever is above it: sizes of sectors, alignment, read-ahead, and the like. Nothing of the
//! cache device may show.

use crate::support::{script, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    # queue DEVICE ATTRIBUTE [VALUE]: of its request queue; sets it if there is a value.
    queue() {
        local file
        file=/sys/block/$(basename "$(readlink -f "$1")")/$2
        if [ $# = 3 ]; then echo "$3" >"$file"; else cat "$file"; fi
    }
    # shows DEVICE ATTRIBUTE VALUE
    shows() { same "$2 of $1" "$(queue "$1" "$2")" "$3"; }

    modprobe dm-writeboost
"#,
            $script
        )
    };
}

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "limits::of_the_backing_device",
        15,
        true,
        with_helpers!(
            r#"
        ram 2 64
        a=/dev/ram0 z=/dev/ram1
        wipe() { dd if=/dev/zero of=$z bs=1M count=64 oflag=direct status=none; }
        say 'stripes: the least common multiple of both would be a read-ahead of 5 GiB'
        dmsetup create b --table "0 $((3 * 2040 * 8)) striped 3 2040 $a 0 $a 32768 $a 65536"
        dmsetup create c --table "0 $((7 * 1016 * 4)) striped 7 1016 $z 0 $z 16384 $z 32768 $z 49152 $z 65536 $z 81920 $z 98304"
        same 'what is asked for' "$(queue /dev/mapper/b queue/optimal_io_size)" $((3 * 2040 * 512))
        same 'what is asked for' "$(queue /dev/mapper/c queue/optimal_io_size)" $((7 * 1016 * 512))
        volume v /dev/mapper/b /dev/mapper/c
        for what in optimal_io_size minimum_io_size physical_block_size logical_block_size read_ahead_kb; do
            shows /dev/mapper/v queue/$what "$(queue /dev/mapper/b queue/$what)"
        done
        shows /dev/mapper/v queue/chunk_sectors 0
        verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=randrw --bsrange=4k-1m --blockalign=4k --size=20m --verify_backlog=16
        finish v /dev/mapper/b /dev/mapper/c
        remove b
        remove c
        say 'a cache device that does not begin where its disk has blocks'
        wipe
        dmsetup create c --table "0 $((20 * 2048)) linear $z 1"
        [ "$(queue /dev/mapper/c alignment_offset)" != 0 ] || die 'the cache device is aligned'
        volume v $a /dev/mapper/c
        shows /dev/mapper/v alignment_offset 0
        finish v $a /dev/mapper/c
        say 'a backing device that does not'
        wipe
        dmsetup create b --table "0 $((20 * 2048)) linear $a 1"
        volume v /dev/mapper/b /dev/mapper/c
        shows /dev/mapper/v alignment_offset "$(queue /dev/mapper/b alignment_offset)"
        remove v
        remove b
        remove c
        say 'seeks, pages that must not change, the sizes of requests'
        null b 32
        null c 16
        for one in "1 0" "0 1"; do
            set -- $one
            for what in rotational stable_writes; do
                queue /dev/b queue/$what $1
                queue /dev/c queue/$what $2
            done
            queue /dev/b queue/max_sectors_kb $((64 + $1 * 56))
            queue /dev/c queue/max_sectors_kb 32
            volume v /dev/b /dev/c
            shows /dev/mapper/v queue/rotational $1
            shows /dev/mapper/v queue/stable_writes 0
            shows /dev/mapper/v queue/max_sectors_kb $((64 + $1 * 56))
            verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=256k --size=8m
            finish v /dev/b /dev/c
        done
        "#
        ),
    ),
    // A device has no pieces of memory that meet within one of its blocks, if it cannot have them within a page.
    script(
        "limits::memory_that_the_cache_device_does_not_take",
        15,
        true,
        with_helpers!(
            r#"
        null b 64
        null c 24 blocksize 4096 virt_boundary 1
        # Several times what is kept in RAM.
        dd if=/dev/urandom of=/tmp/a bs=1M count=12 status=none
        cat >/tmp/pieces.py <<'END'
import mmap, os, sys
content = open("/tmp/a", "rb").read()
disk = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
memory = memoryview(mmap.mmap(-1, 1 << 20))
blocks = 0
for piece in 512, 1024, 1536, 4096:
    # With as much between them, so that none are one.
    places = [memory[at : at + piece] for at in range(piece, 32 * 1024, 2 * piece)]
    while sum(map(len, places)) % 4096:
        places.pop()
    size = sum(map(len, places))
    for at in range(0, len(content) - size, 20 * 4096):
        try:
            assert os.preadv(disk, places, at) == size
        except OSError:
            sys.exit(9)
        assert b"".join(places) == content[at : at + size], (piece, at)
        blocks += size // 4096
print(blocks)
END
        say 'a disk like the cache device refuses them'
        null alone 24 blocksize 4096 virt_boundary 1
        dd if=/tmp/a of=/dev/alone bs=1M oflag=direct status=none
        status=0
        python3 /tmp/pieces.py /dev/alone 2>/tmp/error || status=$?
        same 'status' "$status $(cat /tmp/error)" '9 '
        say 'the volume reads what it would refuse'
        volume v /dev/b /dev/c writeback_threshold 0
        dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync status=none
        read=$(python3 /tmp/pieces.py /dev/mapper/v)
        [ "$read" -gt 500 ] || die "it has read $read blocks"
        same 'reads that it was refused' "$(value v read_again)" 0
        healthy v
        finish v /dev/b /dev/c
        "#
        ),
    ),
    // Whatever is on the backing device was made for its sectors.
    script(
        "limits::sectors_of_512_bytes_on_a_cache_of_4096",
        25,
        true,
        with_helpers!(
            r#"
        null b 64
        null c 24 blocksize 4096
        say 'a file system of 1 KiB blocks that is there before'
        mkfs.ext4 -q -b 1024 /dev/b
        mount /dev/b $m
        head -c 3M /dev/urandom >$m/before
        sum=$(b2sum <$m/before)
        umount $m
        wbctl create v /dev/b /dev/c --opt writeback_threshold=0
        shows /dev/mapper/v queue/logical_block_size 512
        mount /dev/mapper/v $m
        same 'content of a file' "$(b2sum <$m/before)" "$sum"
        # Files of odd sizes, synced and overwritten: parts of blocks, in the log and read from there.
        for i in $(seq 60); do head -c $((i * 937)) /dev/urandom >$m/f$i; done
        sync
        sums=$(cat $m/f* | b2sum)
        echo 3 >/proc/sys/vm/drop_caches
        same 'content of files' "$(cat $m/f* | b2sum)" "$sums"
        umount $m
        [ "$(dirty v)" != 0 ] || die 'nothing is dirty'
        wbctl remove v
        wbctl create v /dev/b /dev/c --opt writeback_threshold=0
        mount /dev/mapper/v $m
        same 'content of files after a resume' "$(cat $m/f* | b2sum)" "$sums"
        umount $m
        finish v /dev/b /dev/c
        e2fsck -fn /dev/b
        mount -o ro /dev/b $m
        same 'content of files without the cache' "$(cat $m/f* | b2sum)" "$sums"
        umount $m
        say 'any sectors'
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randrw --bsrange=512-64k --blockalign=512 --size=40m \
            --verify_backlog=64
        finish v /dev/b /dev/c
        # What a history has not written is zero.
        dd if=/dev/zero of=/dev/b bs=1M count=64 oflag=direct status=none
        volume v /dev/b /dev/c
        wbtest history-write /dev/mapper/v --seed $SEED --last 800 --every 50
        same 'last write' "$(wbtest history-check /dev/mapper/v --seed $SEED --durable 800 --reads 800)" 'prefix 800'
        healthy v
        finish v /dev/b /dev/c
        say 'an odd number of sectors'
        dmsetup create odd --table "0 65531 linear /dev/b 0"
        dd if=/dev/zero of=/dev/c bs=1M count=24 oflag=direct status=none
        volume v /dev/mapper/odd /dev/c
        same 'size' "$(sectors /dev/mapper/v)" 65531
        head -c 512 /dev/urandom >/tmp/last
        dd if=/tmp/last of=/dev/mapper/v bs=512 seek=65530 oflag=direct conv=notrunc,fsync status=none
        finish v /dev/mapper/odd /dev/c
        dd if=/dev/mapper/odd bs=512 skip=65530 iflag=direct status=none | cmp - /tmp/last
        "#
        ),
    ),
];
