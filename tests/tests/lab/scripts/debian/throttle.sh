# shellcheck shell=bash
# blk-wbt holds writeback back, and never what a user waits for; a task of low I/O priority sends no bios
# for other tasks. Seen by the kernel itself: a probe counts the bios that blk-wbt makes wait their turn,
# and each bio that is sent is traced, with the task that sends it.

modprobe dm-writeboost
null b 48
null c 16
null d 16
for d in c d; do echo 75000 >/sys/block/$d/queue/wbt_lat_usec; done
echo 0 >/sys/block/b/queue/wbt_lat_usec || true
volume v /dev/b /dev/c writeback_threshold 0
t=/sys/kernel/tracing
mountpoint -q $t || mount -t tracefs tracefs $t
echo 'p:held rq_qos_wait' >$t/kprobe_events
echo 1 >$t/events/kprobes/held/enable
held() { awk '/held/ { print $2 }' $t/kprobe_profile; }
say 'writeback of the page cache is held back'
dd if=/dev/zero of=/dev/d bs=64k count=16 status=none
sync /dev/d
before=$(held)
[ "$before" -gt 0 ] || die "blk-wbt holds back nothing here"
say 'records, flushes and checkpoints are not'
echo 1 >$t/events/block/block_bio_queue/enable
fio --name=f --filename=/dev/mapper/v --ioengine=psync --direct=1 --rw=randwrite --bs=4k --size=8m \
    --number_ios=200 --fsync=1 >/dev/null
dd if=/dev/zero of=/dev/mapper/v bs=512k count=8 oflag=direct status=none
dmsetup suspend v
dmsetup resume v
# 253:0 is written 253,0 there.
sent() { grep "block_bio_queue: $(tr : , </sys/block/c/dev) " $t/trace; }
say "$(sent | tail -n 3)"
[ "$(sent | grep -c ' W[A-Z]*S[A-Z]* ')" -gt 200 ] || die "only so many bios are marked: $(sent | wc -l)"
[ "$(held)" = "$before" ] || die "$(($(held) - before)) bios of the volume were held back"
say 'a task of low priority sends nothing for others'
for how in "chrt -o 0" "chrt -i 0" "nice -n 5"; do
    echo >$t/trace
    $how dd if=/dev/zero of=/dev/mapper/v bs=4k count=50 oflag=direct,dsync status=none
    n=$(sent | grep -c ' dd-') || true
    say "$how: $n of $(sent | wc -l)"
    case $how in
        *-o*) [ "$n" -gt 0 ] || die "no task sends its own bios";;
        *) [ "$n" = 0 ] || die "the task sends $n bios for others";;
    esac
done
echo 0 >$t/events/enable
finish v /dev/b /dev/c
