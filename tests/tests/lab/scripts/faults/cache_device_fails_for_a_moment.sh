# shellcheck shell=bash
# A transient error of the cache device reaches no user: reads and writes are tried again.

ram 1 64
null x 32
over c /dev/x
volume v /dev/ram0 /dev/mapper/c
say 'for a second of every three, writes and flushes fail'
becomes c "0 $(sectors /dev/x) flakey /dev/x 0 2 1 1 error_writes"
# More than one record to a flush, and flushes of one record.
fio --filename=/dev/mapper/v --direct=1 --ioengine=psync --rw=randwrite --eta=never --time_based \
    --runtime=12 \
    --randseed="$SEED" --name=small --numjobs=2 --bs=4k --size=8m --offset_increment=8m --fsync=4 \
    --name=large --bs=256k --size=16m --offset=32m --fsync=16 >/tmp/fio 2>&1 ||
    { cat /tmp/fio; dmesg | tail -n 20; die 'fio was told'; }
mends c /dev/x
until_true 15 is state ok
[ "$(value v cache_write_errors)" -gt 0 ] || die 'no error is counted'
same 'read errors' "$(value v read_errors)" 0
logged 'cannot write to the cache device, trying again'
logged 'the cache device can be written again'
logged 'records were written again before they are flushed'
[ "$(events v)" -gt 1 ] || die 'no events'
echo "REPORT $(value v cache_write_errors) writes failed," \
    "$(dmesg | grep -c 'written again before') times records were written again"
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=8m
dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync,notrunc status=none
digest=$(digest /dev/mapper/v)
say 'a resume finds it'
remove v
volume v /dev/ram0 /dev/mapper/c
same 'content' "$(digest /dev/mapper/v)" "$digest"
finish v /dev/ram0 /dev/mapper/c
