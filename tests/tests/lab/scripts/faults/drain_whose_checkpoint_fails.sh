# shellcheck shell=bash
# The tail moves when its checkpoint is sent. When that fails the drain has failed: the log would be
# replayed, over whatever the backing device is used for meanwhile.

failing_cache 17
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
put /tmp/a 0
sync /dev/mapper/v
for block in 1 2 128 192; do faults c io write $((block * 8)) 8; done
! timeout 60 dmsetup message v 0 drop_caches 2>/tmp/said || die 'it was drained, and the log is what it was'
grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
same 'state' "$(value v state)" failed
refused 11 '' -- timeout 60 wbctl remove --drain v
mended c
remove v
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
same 'dirty blocks' "$(dirty v)" 512
get /tmp/a 0 | cmp - /tmp/a
finish v /dev/ram0 /dev/mapper/c
