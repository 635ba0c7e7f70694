# shellcheck shell=bash
# Reads and writes of random sizes, many at a time and of several jobs.

ram 2 64
volume v /dev/ram0 /dev/ram1
say 32 at a time
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-128k --blockalign=512 \
    --size=60m --io_size=180m --verify_backlog=256
say four jobs
verify /dev/mapper/v --ioengine=psync --numjobs=4 --rw=randwrite --bsrange=512-64k --blockalign=512 \
    --size=15m --offset_increment=15m
finish v /dev/ram0 /dev/ram1
