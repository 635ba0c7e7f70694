# shellcheck shell=bash
# Blocks that the backing device cannot read are errors while they are not in the cache.

modprobe dm-dust
ram 1 48
null c 17
dd if=/tmp/z of=/dev/ram0 bs=1M oflag=direct conv=notrunc status=none
dmsetup create b --table "0 $(sectors /dev/ram0) dust /dev/ram0 0 4096"
dmsetup message b 0 addbadblock 7
volume v /dev/mapper/b /dev/c writeback_threshold 0
# udev looks at a new device, too.
udevadm settle
dmsetup message b 0 enable
before=$(events v)
fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=7 count=1 iflag=direct
has_event() { [ "$(events v)" -gt "$before" ]; }
until_true 5 has_event
[ "$(value v backing_read_errors)" -gt 0 ] || die 'no error is counted'
same 'state' "$(value v state)" ok
logged 'cannot read from the backing device'
get /tmp/z 6 1 | cmp - <(head -c 28K /tmp/z | tail -c 4K)
say 'with some of its sectors in the cache, the others are errors'
dd if=/tmp/a of=/dev/mapper/v bs=512 seek=57 count=1 oflag=direct conv=notrunc status=none
dd if=/dev/mapper/v bs=512 skip=57 count=1 iflag=direct status=none | cmp - <(head -c 512 /tmp/a)
fails dd if=/dev/mapper/v of=/dev/null bs=4k skip=7 count=1 iflag=direct
say 'writing a block that is bad mends it, as disks do'
dd if=/tmp/a of=/dev/mapper/v bs=4k seek=7 count=1 oflag=direct conv=notrunc status=none
drain v
get /tmp/a 7 1 | cmp - <(head -c 4K /tmp/a)
remove v
