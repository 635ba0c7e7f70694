# shellcheck shell=bash
# Sizes, alignment, read-ahead and the like of a volume are those of its backing device.

ram 2 64
a=/dev/ram0 z=/dev/ram1
wipe() { dd if=/dev/zero of=$z bs=1M count=64 oflag=direct status=none; }
say 'stripes: the least common multiple of both would be a read-ahead of 5 GiB'
dmsetup create b --table "0 $((3 * 2040 * 8)) striped 3 2040 $a 0 $a 32768 $a 65536"
dmsetup create c --table \
    "0 $((7 * 1016 * 4)) striped 7 1016 $z 0 $z 16384 $z 32768 $z 49152 $z 65536 $z 81920 $z 98304"
same 'what is asked for' "$(queue /dev/mapper/b queue/optimal_io_size)" $((3 * 2040 * 512))
same 'what is asked for' "$(queue /dev/mapper/c queue/optimal_io_size)" $((7 * 1016 * 512))
volume v /dev/mapper/b /dev/mapper/c
for what in optimal_io_size minimum_io_size physical_block_size logical_block_size read_ahead_kb; do
    shows /dev/mapper/v queue/$what "$(queue /dev/mapper/b queue/$what)"
done
shows /dev/mapper/v queue/chunk_sectors 0
verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=randrw --bsrange=4k-1m --blockalign=4k --size=20m \
    --verify_backlog=16
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
for is in 1 0; do
    isnt=$((1 - is))
    for what in rotational stable_writes; do
        queue /dev/b queue/$what $is
        queue /dev/c queue/$what $isnt
    done
    queue /dev/b queue/max_sectors_kb $((64 + is * 56))
    queue /dev/c queue/max_sectors_kb 32
    volume v /dev/b /dev/c
    shows /dev/mapper/v queue/rotational $is
    shows /dev/mapper/v queue/stable_writes 0
    shows /dev/mapper/v queue/max_sectors_kb $((64 + is * 56))
    verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=256k --size=8m
    finish v /dev/b /dev/c
done
