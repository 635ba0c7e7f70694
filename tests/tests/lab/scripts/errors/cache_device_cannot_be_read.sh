# shellcheck shell=bash
# What cannot be read from the cache device is neither written back nor forgotten; the rest of the volume
# works.

volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
dd if=/tmp/a of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
# A resume, for nothing of it to be in RAM.
remove v
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
flaky c /dev/x error_reads
fails dd if=/dev/mapper/v of=/dev/null bs=4k count=1 iflag=direct
[ "$(value v read_errors)" -gt 0 ] || die 'no error is counted'
say 'the rest of the volume works'
dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=10 iflag=direct status=none
put /tmp/z 1000
say 'nothing that cannot be read is written back, or forgotten'
! timeout 30 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
[ "$(dirty v)" -ge 512 ] || die "$(dirty v) dirty blocks"
same 'backing device' "$(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none | sha256sum)" \
    "$(head -c 2M /dev/zero | sha256sum)"
mends c /dev/x
say 'it can be read again'
get /tmp/a 0 | cmp - /tmp/a
get /tmp/z 1000 | cmp - /tmp/z
drained v /dev/mapper/b
same 'state' "$(value v state)" ok
remove v
say 'a cache device that cannot be read at all is refused'
volume v /dev/mapper/b /dev/mapper/c
remove v
flaky c /dev/x error_reads
logs 'Cannot read the cache device' -- dmsetup create v --table \
    "0 $(sectors /dev/mapper/b) writeboost /dev/mapper/b /dev/mapper/c"
