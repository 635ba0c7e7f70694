# shellcheck shell=bash
# A backing device that is mended while the volume is suspended is tried again after the resume.

# A slow one: the write comes before anything is written back.
hdd y 48
mends b /dev/y
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
put /tmp/a 0
breaks b /dev/y
say 'full, and the backing device is dead'
# In no order, or one request would write back much of it.
! timeout 60 fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=48m \
    --randseed="$SEED" --ioengine=io_uring --iodepth=16 --output=/dev/null 2>/dev/null || die 'they all fit'
say 'mended while the volume is suspended: the next write waits for room, and gets it'
dmsetup suspend v
mends b /dev/y
dmsetup resume v
timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=1 oflag=direct conv=notrunc status=none
dd if=/dev/mapper/v bs=64k skip=1 count=32 iflag=direct status=none | cmp - /tmp/z
drained v /dev/mapper/b
remove v
