# shellcheck shell=bash
# After a write error of the cache device writes and flushes fail, reads go on, and a repair finds all that
# was durable.

volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
dd if=/tmp/a of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
# An error for writes only: blocks that are there can be read.
flaky c /dev/x error_writes
say 'a flush is told'
fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1000 count=1 oflag=direct conv=fsync
same 'state' "$(value v state)" failed
logged 'cannot write to the cache device'
fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1001 count=1 oflag=direct
fails dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1001 count=1 oflag=direct,sync
! timeout 30 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
say 'what is there can be read'
get /tmp/a 0 | cmp - /tmp/a
dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=10 iflag=direct status=none
dmsetup suspend v
dmsetup resume v
remove v
say 'and what was durable is there after a repair'
mends c /dev/x
volume v /dev/mapper/b /dev/mapper/c
get /tmp/a 0 | cmp - /tmp/a
put /tmp/z 1000
get /tmp/z 1000 | cmp - /tmp/z
finish v /dev/mapper/b /dev/mapper/c
