# shellcheck shell=bash
# Device-mapper ends read-ahead with an error while a device is suspended. That is no fault of the device.

ram 2 64
for d in 0 1; do dmsetup create d$d --table "0 $(sectors /dev/ram$d) linear /dev/ram$d 0"; done
volume v /dev/mapper/d0 /dev/mapper/d1 writeback_threshold 0
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
remove v
volume v /dev/mapper/d0 /dev/mapper/d1 writeback_threshold 0
udevadm settle
blockdev --setra 2048 /dev/mapper/v
events() { dmsetup info -c --noheadings -o events v; }
before=$(events)
dmesg --clear
# On the backing device, and in the cache.
for where in d0:8000 d1:100; do
    device=${where%:*} block=${where#*:}
    dmsetup suspend --noflush --nolockfs "$device"
    dd if=/dev/mapper/v of=/tmp/read bs=4k skip="$block" count=64 status=none &
    reader=$!
    sleep 1
    kill -0 $reader || die 'nothing was read ahead'
    dmsetup resume "$device"
    wait $reader
    cmp /tmp/read <(dd if=/dev/mapper/v bs=4k skip="$block" count=64 iflag=direct status=none)
done
for counter in backing_read_errors read_errors read_again; do same $counter "$(value v $counter)" 0; done
same events "$(events)" "$before"
! logged 'cannot read' || die "$(dmesg)"
finish v /dev/mapper/d0 /dev/mapper/d1
