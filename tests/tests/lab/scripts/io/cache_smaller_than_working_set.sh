# shellcheck shell=bash
# The log goes round many times, and writes have to wait for writeback or relocation.

hdd b 200 1
null c 12
volume v /dev/b /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bsrange=4k-128k --blockalign=4k \
    --size=180m
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randrw --bsrange=512-16k --blockalign=512 \
    --size=64m --io_size=24m --verify_backlog=128
verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bs=4k --size=1m --offset_increment=20m \
    --sync=1
finish v /dev/b /dev/c
