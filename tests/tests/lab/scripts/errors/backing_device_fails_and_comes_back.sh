# shellcheck shell=bash
# While the backing device fails, cached blocks are served, a drain and a write without room fail, and
# nothing is lost.

volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
put /tmp/a 0
breaks b /dev/ram0
say 'what is cached can be read and written'
get /tmp/a 0 | cmp - /tmp/a
put /tmp/z 1000
get /tmp/z 1000 | cmp - /tmp/z
say 'what is not cannot be read'
fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=5000 count=1 iflag=direct
say 'a drain says that it has failed, and nothing is forgotten'
before=$(dirty v)
same 'dirty blocks' "$before" 1024
! drain v 2>/dev/null || die 'it was drained'
same 'dirty blocks' "$(dirty v)" "$before"
same 'state' "$(value v state)" degraded
[ "$(value v writeback_errors)" -gt 0 ] || die 'no error is counted'
logged 'cannot write to the backing device'
say 'wbctl drain, too'
refused 11 '' -- wbctl drain v
say 'once the cache is full, writes fail instead of waiting for ever'
timeout 60 dd if=/dev/urandom of=/dev/mapper/v bs=64k oflag=direct status=none 2>/tmp/said &&
    die 'they all fit' || status=$?
[ "$status" != 124 ] || die 'they wait'
grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
get /tmp/z 1000 >/dev/null
mends b /dev/ram0
say 'it is back'
drain v
same 'state' "$(value v state)" ok
put /tmp/a 0
put /tmp/z 1000
get /tmp/a 0 | cmp - /tmp/a
drained v /dev/mapper/b
remove v
