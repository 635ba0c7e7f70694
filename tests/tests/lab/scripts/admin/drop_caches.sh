# shellcheck shell=bash
# A drain can be interrupted, says what is left, leaves a volume that works, and can be repeated.

hdd b 40
ram 1 64
volume v /dev/b /dev/ram0 writeback_threshold 0
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=36m --io_size=6m \
    --randseed="$SEED" >/dev/null
before=$(dirty v)
[ "$before" -gt 1400 ] || die "$before dirty blocks only"
say 'a signal ends it, and the volume goes on working'
dmsetup message v 0 drop_caches &
pid=$!
for _ in $(seq 100); do [ "$(dirty v)" = "$before" ] || break; sleep 0.1; done
kill -0 $pid || die 'it is over before it could be interrupted'
# Not SIGINT, which a background job of a script ignores.
kill -TERM $pid
start=$(date +%s%N)
! wait $pid || die 'it succeeded'
took=$((($(date +%s%N) - start) / 1000000))
[ $took -lt 2000 ] || die "it took $took ms to end"
left=$(dirty v)
say "$before dirty blocks, $left when interrupted"
[ "$left" -gt 0 ] || die 'nothing is left'
[ "$left" -lt "$before" ] || die 'nothing was written back'
verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=36m --io_size=1m
say 'wbctl drain, too, and it says what is left'
# setsid: for SIGINT not to be ignored.
setsid python3 /mnt/share/interrupt.py
healthy v
drained v /dev/b
say 'it can be had again and again'
drain v
drain v
same 'dirty blocks' "$(dirty v)" 0
finish v /dev/b /dev/ram0
