# shellcheck shell=bash
# Everything once, with two CPUs: reads and writes, suspends, a resume, wbctl, and devices that do not fit.

uname -a
modinfo dm-writeboost
modprobe dm-writeboost
null b 48 irqmode 2 completion_nsec 1000000
null c 16
volume v /dev/b /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --numjobs=2 --rw=randrw --bsrange=512-64k \
    --blockalign=512 --size=8m --offset_increment=16m --verify_backlog=64
say suspend and resume under load
verify /dev/mapper/v --ioengine=psync --numjobs=2 --rw=randwrite --bs=4k --size=2m --offset_increment=16m \
    --fsync=4 &
fio=$!
while kill -0 $fio 2>/dev/null; do
    dmsetup suspend v
    dmsetup resume v
    dmsetup suspend --noflush v
    dmsetup resume v
done
wait $fio
healthy v
remove v
say resume
volume v /dev/b /dev/c writeback_threshold 0
wbtest history-write /dev/mapper/v --seed "$SEED" --last 100 --every 10 >/dev/null
finish v /dev/b /dev/c
say wbctl
wbctl create w /dev/b /dev/c
mkfs.ext4 -q /dev/mapper/w
mount /dev/mapper/w "$m"
wbtest files-write "$m" --seed "$SEED" --count 30 >/dev/null
umount "$m"
wbctl status w
wbctl remove w --drain
e2fsck -fn /dev/b
say 'devices that do not fit, which UML has not'
null zones 64 zoned 1 zone_size 16
null large 64 blocksize 8192
null b2 48
null c2 64
blank=$(digest /dev/c2)
for two in "zones c2 The backing device is zoned" "b2 zones The cache device is zoned" \
    "large c2 The backing device has logical blocks of more" \
    "b2 large The cache device has logical blocks of more"; do
    read -r backing cache words <<<"$two"
    logs "$words" -- dmsetup create bad --table \
        "0 $(sectors "/dev/$backing") writeboost /dev/$backing /dev/$cache"
    refused 6 "$([[ $two = *zones* ]] && echo zoned || echo 'logical blocks of 8192 bytes')" -- \
        wbctl create bad "/dev/$backing" "/dev/$cache"
done
same 'cache device' "$(digest /dev/c2)" "$blank"
rmmod dm_writeboost
