# shellcheck shell=bash
# Devices with logical blocks of 4096 bytes, either of them or both.

for sizes in 512:4096 4096:512 4096:4096; do
    backing=${sizes%:*} cache=${sizes#*:}
    say "blocks of $backing bytes on the backing device, of $cache on the cache device"
    null b 48 blocksize "$backing"
    null c 24 blocksize "$cache"
    volume v /dev/b /dev/c
    # What is on the backing device was made for its sectors: limits::sectors_of_512_bytes_on_a_cache_of_4096.
    same 'logical block size' "$(blockdev --getss /dev/mapper/v)" "$backing"
    verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=4k-64k --blockalign=4k \
        --size=40m --verify_backlog=64
    wbtest history-write /dev/mapper/v --seed "$SEED" --align 8 --last 1
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
