# shellcheck shell=bash
# Whether a block is lost is found out in time, and not when all writes wait for its room.

ram 1 64
null x 33
faulty c /dev/x
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
dd if=/tmp/a of=/dev/mapper/v bs=4k count=120 oflag=direct conv=notrunc,fsync status=none
forget
at=$(sector_of_block_5)
faults c medium read "$at" 8
# The log goes on behind it.
dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=1 oflag=direct conv=notrunc,fsync status=none
refused 11 '' -- wbctl drain v
same 'dirty blocks' "$(dirty v)" 1
dmsetup message v 0 give_up
until_true 60 logged 'given up as soon as their room is needed'
same 'lost blocks while there is room' "$(value v lost_blocks)" 0
say 'room is needed: no write waits, and no other block is lost'
dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=40 oflag=direct conv=notrunc,fsync status=none
dd if=/dev/urandom of=/dev/mapper/v bs=1M seek=20 count=40 oflag=direct conv=notrunc,fsync status=none
same 'lost blocks' "$(value v lost_blocks)" 1
logged 'block 5 (sectors 40 to 47) is lost'
put /tmp/a 0
mended c
drained v /dev/ram0
remove v
