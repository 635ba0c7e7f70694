# shellcheck shell=bash
# Two volumes at once, one of which is taken down while the other works.

ram 4 48
volume v /dev/ram0 /dev/ram1
volume w /dev/ram2 /dev/ram3
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-64k --blockalign=512 \
    --size=40m &
first=$!
verify /dev/mapper/w --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-64k --blockalign=512 \
    --size=40m &
second=$!
wait $first
wait $second
# One is taken down while the other works.
verify /dev/mapper/w --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=40m --verify_backlog=64 &
second=$!
finish v /dev/ram0 /dev/ram1
wait $second
finish w /dev/ram2 /dev/ram3
