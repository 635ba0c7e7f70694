# shellcheck shell=bash
# An idle volume writes back what is dirty, unless its options forbid that.

ram 2 32
volume v /dev/ram0 /dev/ram1
verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=8m
for _ in $(seq 100); do
    [ "$(dirty v)" != 0 ] || break
    sleep 0.1
done
same 'dirty blocks of a volume that nobody uses' "$(dirty v)" 0
equal /dev/mapper/v /dev/ram0
say 'not when it is not wanted'
dmsetup message v 0 writeback_threshold 0
verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=4m
before=$(dirty v)
[ "$before" -gt 900 ] || die "$before dirty blocks only"
sleep 3
same 'dirty blocks' "$(dirty v)" "$before"
finish v /dev/ram0 /dev/ram1
