# shellcheck shell=bash
# Devices are unplugged under load. null_blk takes its disk away when its power is cut, and has the content
# when it comes back.

null b 64 irqmode 2 completion_nsec 200000
null c 32
volume v /dev/b /dev/c
put /tmp/a 0
dd if=/tmp/z of=/dev/mapper/v bs=4k seek=1000 oflag=direct conv=notrunc,fsync status=none
remove v
for gone in b c 'b c'; do
    volume v /dev/b /dev/c writeback_threshold 100
    fio --name=load --filename=/dev/mapper/v --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw \
        --eta=never \
        --bsrange=512-32k --blockalign=512 --offset=32m --size=32m --fsync=16 --time_based --runtime=4 \
        --continue_on_error=all >/dev/null 2>&1 &
    fio=$!
    sleep 1
    for d in $gone; do echo 0 >"/sys/kernel/config/nullb/$d/power"; done
    sleep 1
    dmsetup status v
    wait $fio || true
    say "without $gone the state is $(value v state)"
    [ "$(value v state)" != ok ] || [ "$gone" = b ] || die 'the volume has not noticed'
    # udev looks at it since fio has closed it. While the volume is suspended it would have it open for ever.
    timeout 60 udevadm settle
    # The volume can be removed, whichever device is missing.
    timeout 60 dmsetup suspend v
    timeout 60 dmsetup remove --retry v
    for d in $gone; do echo 1 >"/sys/kernel/config/nullb/$d/power"; done
    udevadm settle
    volume v /dev/b /dev/c
    get /tmp/a 0 | cmp - /tmp/a
    get /tmp/z 1000 | cmp - /tmp/z
    remove v
done
volume v /dev/b /dev/c
finish v /dev/b /dev/c
