# shellcheck shell=bash
# Bios with REQ_NOWAIT, which io_uring sends at first: nothing in the way of a bio may wait, or io_uring has
# to find a thread for it.

ram 2 64
volume v /dev/ram0 /dev/ram1
say 'nothing waits'
# Not where udev looks: what has pages in the page cache is refused.
verify /dev/mapper/v --ioengine=pvsync2 --nowait=1 --rw=randrw --bsrange=512-64k --blockalign=512 \
    --offset=16m --size=32m --io_size=120m --verify_backlog=256
finish v /dev/ram0 /dev/ram1
say 'writes that find no room wait, and none is told to come again'
hdd b 40 1
null c 12
volume v /dev/b /dev/c
# Reads may be told so, by the hard disk, which has a queue of one.
jobs=(--ioengine=pvsync2 --numjobs=3 --rw=randwrite --bs=16k --size=6m --offset=16m --offset_increment=6m)
verify /dev/mapper/v "${jobs[@]}" --nowait=1 --do_verify=0
verify /dev/mapper/v "${jobs[@]}" --verify_only=1
finish v /dev/b /dev/c
