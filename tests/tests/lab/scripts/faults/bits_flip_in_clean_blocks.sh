# shellcheck shell=bash
# A clean block whose copy in the cache has rotted is read from the backing device.

ram 1 48
null c 32
volume v /dev/ram0 /dev/c
put /tmp/a 0
forget
drain v
flip_blocks /dev/c /tmp/a 3 4 100 127 128 511
get /tmp/a 0 | cmp - /tmp/a
dd if=/dev/mapper/v bs=256k count=8 iflag=direct status=none | cmp - /tmp/a
dd if=/dev/mapper/v bs=512 count=8 skip=800 iflag=direct status=none |
    cmp - <(head -c 413696 /tmp/a | tail -c 4096)
same 'read errors' "$(value v read_errors)" 6
same 'state' "$(value v state)" ok
logged 'wrong checksum'
[ "$(events v)" -gt 0 ] || die 'no event'
remove v
