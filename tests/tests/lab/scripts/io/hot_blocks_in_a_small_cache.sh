# shellcheck shell=bash
# Blocks that are overwritten all the time never have to be written back: the log goes round by relocation.

ram 1 64
null c 12
volume v /dev/ram0 /dev/c
for _ in 1 2 3; do
    verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=4m --io_size=60m
    verify /dev/mapper/v --ioengine=psync --rw=randwrite --bsrange=512-4k --blockalign=512 --size=4m \
        --io_size=8m --fsync=4
done
finish v /dev/ram0 /dev/c
