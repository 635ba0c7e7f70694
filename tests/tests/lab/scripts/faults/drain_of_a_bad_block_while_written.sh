# shellcheck shell=bash
# A drain has nothing to do with what is written meanwhile: it neither waits for those blocks, nor takes
# progress with them for progress with a block that cannot be written back.

hdd h 64 2
# Large enough for half a minute of what is written.
null c 500
n=$(sectors /dev/h)
over b /dev/h
volume v /dev/mapper/b /dev/c writeback_threshold 0
put /tmp/a 0
becomes b "0 80 linear /dev/h 0\n80 8 error\n88 $((n - 88)) linear /dev/h 88"
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --offset=32m --size=4m --norandommap \
    --time_based --runtime=100 --ioengine=psync --thinktime=300 --eta=never --output=/dev/null &
fio=$!
until_true 10 is_more_dirty 700
refused 11 '' -- timeout 30 wbctl drain v
kill -0 $fio || die 'fio does not write any more'
kill $fio
wait $fio || true
say 'all the rest of what was written before is there'
dd if=/dev/h of=/tmp/found bs=1M count=2 iflag=direct status=none
same 'blocks that differ' "$(differing /tmp/a /tmp/found)" 10
say 'and with the disk repaired, that one too'
mends b /dev/h
drained v /dev/h
remove v
