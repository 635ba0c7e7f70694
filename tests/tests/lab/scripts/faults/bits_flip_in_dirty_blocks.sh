# shellcheck shell=bash
# A dirty block is nowhere else: when it rots, reads of its sectors are errors, and all other reads are
# right.

ram 1 48
null c 32
volume v /dev/ram0 /dev/c writeback_threshold 0
put /tmp/a 0
# A block of which two sectors are in the cache.
dd if=/tmp/z of=/dev/mapper/v bs=1k seek=8001 count=1 oflag=direct conv=notrunc status=none
forget
bad=(0 77 78 200 511)
flip_blocks /dev/c /tmp/a "${bad[@]}"
{ head -c 1K /dev/zero; head -c 1K /tmp/z; head -c 2K /dev/zero; } >/tmp/partial
flip_blocks /dev/c /tmp/partial 0
say 'an error for each of these blocks, and the right data for all others'
cp /tmp/a /tmp/wanted
for block in "${bad[@]}"; do
    dd if=/dev/zero of=/tmp/wanted bs=4k seek="$block" count=1 conv=notrunc status=none
done
# Zeroes in the place of what cannot be read: what a failed read has left in the buffer means nothing.
unreadable=$(python3 /mnt/share/unreadable.py | tr '\n' ' ')
same 'unreadable blocks' "$unreadable" "${bad[*]} "
cmp /tmp/found /tmp/wanted
fails dd if=/dev/mapper/v of=/dev/null bs=512 skip=16003 count=1 iflag=direct
dd if=/dev/mapper/v bs=512 skip=16000 count=2 iflag=direct status=none | cmp - <(head -c 1K /dev/zero)
# And perhaps one for a block that is looked at in the background by now.
[ "$(value v read_errors)" -ge 6 ] || die "$(value v read_errors) read errors"
same 'state' "$(value v state)" degraded
same 'fault' "$(value v fault)" cache_read
[ "$(events v)" -gt 0 ] || die 'no event'
wbctl status v | tee /tmp/status
grep -q 'from a backup' /tmp/status
say 'a drain fails, writes back the rest, and keeps what it cannot'
refused 11 '' -- wbctl drain v
cat /tmp/said
same 'dirty blocks' "$(dirty v)" 6
for block in "${bad[@]}"; do
    cmp <(dd if=/dev/ram0 bs=4k skip="$block" count=1 iflag=direct status=none) <(head -c 4K /dev/zero)
done
differ=$(differing /tmp/a <(dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none) | tr '\n' ' ')
same 'blocks that differ' "$differ" "${bad[*]} "
say 'the volume works meanwhile'
put /tmp/z 3000
get /tmp/z 3000 | cmp - /tmp/z
refused 11 '' -- wbctl drain v
same 'dirty blocks' "$(dirty v)" 6
dd if=/dev/ram0 bs=4k skip=3000 count=512 iflag=direct status=none | cmp - /tmp/z
say 'writing them again heals them'
for block in "${bad[@]}"; do
    dd if=/tmp/a of=/dev/mapper/v bs=4k skip="$block" seek="$block" count=1 oflag=direct conv=notrunc \
        status=none
done
dd if=/tmp/z of=/dev/mapper/v bs=1k seek=8001 count=1 oflag=direct conv=notrunc status=none
drain v
until_true 5 is state ok
same 'dirty blocks' "$(dirty v)" 0
dd if=/dev/ram0 bs=1M count=2 iflag=direct status=none | cmp - /tmp/a
remove v
