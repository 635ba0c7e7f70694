# shellcheck shell=bash
# A suspend ends a drain, which may take hours: the suspend would hold the bios of all users meanwhile.

hdd b 32 5
null c 64
volume v /dev/b /dev/c writeback_threshold 0
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=30m --io_size=6m \
    --ioengine=psync --eta=never --output=/dev/null
drain v 2>/tmp/said &
drain=$!
sleep 1
timeout 8 dmsetup suspend v || die 'the suspend waits for the drain'
dmsetup resume v
! wait $drain || die 'it was drained'
grep -q 'busy' /tmp/said || die "$(cat /tmp/said)"
[ "$(dirty v)" -gt 100 ] || die 'nearly nothing was left to drain'
finish v /dev/b /dev/c
