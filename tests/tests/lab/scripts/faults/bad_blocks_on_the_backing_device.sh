# shellcheck shell=bash
# Blocks that the backing device cannot write do not keep others from being written back.

ram 1 80
null c 17
n=$(sectors /dev/ram0)
over b /dev/ram0
# 5 blocks of 4 KiB: one alone, three together, and a sector of one.
bad() {
    local good='0 80 linear /dev/ram0 0\n80 8 error\n88 1912 linear /dev/ram0 88\n2000 24 error'
    becomes b "$good\n2024 979 linear /dev/ram0 2024\n3003 1 error\n3004 $((n - 3004)) linear /dev/ram0 3004"
}
volume v /dev/mapper/b /dev/c writeback_threshold 0
put /tmp/a 0
bad
say 'a drain writes back all but these'
refused 11 '' -- wbctl drain v
cat /tmp/said
same 'dirty blocks' "$(dirty v)" 5
same 'state' "$(value v state)" degraded
same 'fault' "$(value v fault)" backing_write
[ "$(events v)" -gt 0 ] || die 'no event'
differ=$(differing /tmp/a <(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none) | tr '\n' ' ')
same 'blocks that differ' "$differ" '10 250 251 252 375 '
say 'they are served from the cache'
get /tmp/a 0 | cmp - /tmp/a
say 'the log goes round'
dmsetup message v 0 writeback_threshold 100
for _ in 1 2 3; do
    dd if=/dev/urandom of=/tmp/much bs=1M count=30 status=none
    timeout 120 dd if=/tmp/much of=/dev/mapper/v bs=64k seek=800 oflag=direct conv=notrunc status=none
done
dd if=/dev/mapper/v bs=64k skip=800 count=480 iflag=direct status=none | cmp - /tmp/much
get /tmp/a 0 | cmp - /tmp/a
lines=$(dmesg | grep -c 'cannot write to the backing device')
echo "REPORT $(value v writeback_errors) errors, $lines lines in the kernel's log"
[ "$lines" -lt 40 ] || die "$lines lines in the kernel's log"
say 'a resume keeps them'
dmsetup message v 0 writeback_threshold 0
remove v
volume v /dev/mapper/b /dev/c
get /tmp/a 0 | cmp - /tmp/a
say 'the disk is repaired, and writeback goes on by itself'
mends b /dev/ram0
until_true 90 is_dirty 0
until_true 5 is state ok
equal /dev/mapper/v /dev/ram0
remove v
