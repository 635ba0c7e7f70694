# shellcheck shell=bash
# The log has failed for good: reads and writeback go on, and after the repair all that was flushed is
# there.

ram 1 64
null x 32
over c /dev/x
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
dd if=/tmp/z of=/dev/mapper/v bs=508k seek=40 count=1 oflag=direct conv=notrunc,fsync status=none
wbtest history-write /dev/mapper/v --seed "$SEED" --sectors 32768 --every 8 >/tmp/history 2>&1 &
history=$!
sleep 2
# Behind it there will be others in its segment that are not durable, and relocation may have moved it just
# then.
dd if=/tmp/a of=/dev/mapper/v bs=4k seek=15000 oflag=direct conv=notrunc,fsync status=none
flaky c /dev/x error_writes
! wait $history || die 'the writes went on'
until_true 30 is state failed
durable=$(grep durable /tmp/history | tail -n1 | cut -d' ' -f2)
say "write $durable is durable"
say 'what is there can be read, and nothing is taken'
get /tmp/a 15000 | cmp - /tmp/a
wbtest history-check /dev/mapper/v --seed "$SEED" --sectors 32768 --durable "$durable"
fails dd if=/tmp/a of=/dev/mapper/v bs=4k count=1 oflag=direct conv=notrunc
say 'what was flushed is written back, though the option forbids that to a cache that works'
until_true 20 eval 'cmp -s /tmp/a <(dd if=/dev/ram0 bs=4k skip=15000 count=512 iflag=direct status=none)'
refused 11 '' -- timeout 60 wbctl drain v
cat /tmp/said
say 'repaired and resumed'
mends c /dev/x
remove v
volume v /dev/ram0 /dev/mapper/c
wbtest history-check /dev/mapper/v --seed "$SEED" --sectors 32768 --durable "$durable"
get /tmp/a 15000 | cmp - /tmp/a
finish v /dev/ram0 /dev/mapper/c
