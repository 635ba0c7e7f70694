# shellcheck shell=bash
# Requests of megabytes.

ram 1 256
null c 64
volume v /dev/ram0 /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=write --bs=4m --size=240m
verify /dev/mapper/v --ioengine=io_uring --iodepth=8 --rw=randwrite --bsrange=1m-4m --blockalign=512 \
    --size=240m
verify /dev/mapper/v --ioengine=psync --rw=rw --bs=1m --size=200m --verify_backlog=8
finish v /dev/ram0 /dev/c
