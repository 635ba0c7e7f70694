# shellcheck shell=bash
# The backing device is away and comes back: all goes on by itself, without a drain.

ram 1 64
null c 17
over b /dev/ram0
volume v /dev/mapper/b /dev/c
put /tmp/a 0
breaks b /dev/ram0
put /tmp/z 1000
until_true 10 is state degraded
wait_for=$(events v)
say 'until the cache is full, all goes well'
dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=800 count=80 oflag=direct conv=notrunc,fsync status=none
timeout 60 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=500 oflag=direct conv=notrunc status=none \
    2>/tmp/said && die 'they all fit' || status=$?
[ "$status" != 124 ] || die 'they wait'
grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
get /tmp/a 0 | cmp - /tmp/a
mends b /dev/ram0
timeout 60 dmsetup wait v "$wait_for" >/dev/null
until_true 90 is_dirty 0
until_true 5 is state ok
put /tmp/z 0
get /tmp/z 0 | cmp - /tmp/z
finish_once() { drained v /dev/ram0; remove v; }
finish_once
