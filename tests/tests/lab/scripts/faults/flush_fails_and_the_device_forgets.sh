# shellcheck shell=bash
# The device forgets what it had in its cache, and says so once, by an error of the flush.

ram 1 48
# With a cache of its own: flushes end in the block layer otherwise.
null x 17 cache_size 1
over c /dev/x
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
# Elsewhere, so that nothing of it is superseded: making room would flush the device, too.
dd if=/tmp/z of=/dev/mapper/v bs=508k seek=20 count=1 oflag=direct conv=fsync status=none
# A volume that is idle flushes by itself.
fio --name=busy --filename=/dev/mapper/v --direct=1 --ioengine=psync --rw=randread --bs=4k --offset=40m \
    --size=4m --rate_iops=100 --time_based --runtime=600 --eta=never >/dev/null 2>&1 &
busy=$!
# Two whole segments, which are written without a flush.
flaky c /dev/x drop_writes
dd if=/tmp/a of=/dev/mapper/v bs=508k count=2 oflag=direct conv=notrunc status=none
sleep 0.5
flaky c /dev/x error_writes
sync /dev/mapper/v 2>/tmp/said &
until_true 20 logged 'trying again'
sleep 1
mends c /dev/x
! wait $! || die 'the flush succeeded, and nothing of it was there'
grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
kill $busy
wait $busy || true
until_true 30 is state failed
logged 'is lost'
remove v
say 'what was flushed before is there'
volume v /dev/ram0 /dev/mapper/c
get /tmp/z 2540 127 | cmp - <(head -c 508K /tmp/z)
finish v /dev/ram0 /dev/mapper/c
