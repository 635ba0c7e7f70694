# shellcheck shell=bash
# Writes with flushes between them, and writes that are durable by themselves, one at a time and many.

ram 1 64
ssd c 32
volume v /dev/ram0 /dev/c
say 'fsync after each write'
verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bs=4k --size=4m --offset_increment=8m \
    --fsync=1
say 'each write durable by itself'
verify /dev/mapper/v --ioengine=psync --numjobs=8 --rw=randwrite --bsrange=512-8k --blockalign=512 --size=4m \
    --offset_increment=8m --sync=1
say 'flushes between writes that are under way'
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=32m --fsync=8
finish v /dev/ram0 /dev/c
