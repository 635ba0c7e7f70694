# shellcheck shell=bash
# Writes from when the backing device had blocks of 512 bytes are written back to one that has larger ones:
# the rest of each of its blocks is read from there.

null small 48
null large 48 blocksize 4096
null c 17
for d in small large; do dd if=/tmp/z of=/dev/$d bs=1M oflag=direct conv=notrunc status=none; done
volume v /dev/small /dev/c writeback_threshold 0
cp /tmp/z /tmp/want
# part SECTOR COUNT: each in a record of its own, so that a block has several.
part() {
    local how=(bs=512 "skip=$1" "seek=$1" "count=$2" "conv=notrunc,fsync" status=none)
    dd if=/tmp/a of=/tmp/want "${how[@]}"
    dd if=/tmp/a of=/dev/mapper/v "${how[@]}" oflag=direct
}
# One of three sectors; three in one block, next to a whole one; the end of one and the beginning of the next;
# the last sector.
for p in 81:3 160:1 162:2 165:1 168:8 247:2 4095:1; do part ${p%:*} ${p#*:}; done
remove v
volume v /dev/large /dev/c writeback_threshold 0
drain v
same 'dirty blocks' "$(dirty v)" 0
same 'state' "$(value v state)" ok
dd if=/dev/large bs=1M count=2 iflag=direct status=none | cmp - /tmp/want
remove v
