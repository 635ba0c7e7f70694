# shellcheck shell=bash
# Reads and writes on models of a hard disk and an SSD, with and without fsync.

hdd b 96 1
ssd c 32
volume v /dev/b /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-128k --blockalign=512 \
    --size=80m --io_size=60m --verify_backlog=256
verify /dev/mapper/v --ioengine=psync --numjobs=4 --rw=randwrite --bsrange=512-16k --blockalign=512 \
    --size=4m --offset_increment=20m --fsync=16
finish v /dev/b /dev/c
