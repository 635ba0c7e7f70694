# shellcheck shell=bash
# Metadata that a volume in use does not read has rotted: the volume can be drained, and needs a new format
# then.

ram 1 48
null c 17
volume v /dev/ram0 /dev/c writeback_threshold 0
put /tmp/a 0
put /tmp/z 1000
dd if=/dev/mapper/v of=/tmp/content bs=1M iflag=direct status=none
flip_bit /dev/c 0 100
flip_bit /dev/c 1 100
flip_bit /dev/c 2 100
# The headers of the first segments.
for block in 256 384 512 640; do flip_bit /dev/c $block 200; done
get /tmp/a 0 | cmp - /tmp/a
wbctl drain v
healthy v
remove v
cmp /tmp/content /dev/ram0
say 'with a damaged superblock it does not come again'
logs 'refusing the cache device' -- dmsetup create v --table \
    "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/c"
refused 5 '' -- wbctl create v /dev/ram0 /dev/c
cat /tmp/said
