# shellcheck shell=bash
# A stretch of bad blocks does not look like a device that writes nothing, wherever it lies.

ram 1 80
null c 17
n=$(sectors /dev/ram0)
over b /dev/ram0
volume v /dev/mapper/b /dev/c writeback_threshold 0
for first in 0 512 3072; do
    say "64 blocks from sector $first on"
    put /tmp/a 0
    before=
    [ $first = 0 ] || before="0 $first linear /dev/ram0 0\n"
    becomes b \
        "$before$first 512 error\n$((first + 512)) $((n - first - 512)) linear /dev/ram0 $((first + 512))"
    refused 11 '' -- timeout 60 wbctl drain v
    same 'dirty blocks' "$(dirty v)" 64
    mends b /dev/ram0
    drained v /dev/ram0
    dd if=/dev/urandom of=/tmp/a bs=1M count=2 status=none
done
remove v
