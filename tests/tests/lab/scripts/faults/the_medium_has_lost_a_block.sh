# shellcheck shell=bash
# The medium has lost a block: it is given up, but not at once, and no other block with it.

failing_cache 17
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
dd if=/tmp/a of=/dev/mapper/v bs=4k count=120 oflag=direct conv=notrunc,fsync status=none
forget
at=$(sector_of_block_5)
faults c medium read "$at" 8
for _ in {1..24}; do presses; done
same 'lost blocks within seconds' "$(value v lost_blocks)" 0
say 'with a neighbour that does not answer, it cannot be known'
faults c path read $(((256 + 128) * 8)) 8
dmsetup message v 0 give_up
for _ in {1..10}; do presses; sleep 1; done
same 'lost blocks' "$(value v lost_blocks)" 0
# No read may reach the block in between, or the block is saved.
dmsetup suspend --noflush --nolockfs c
mended c
faults c medium read "$at" 8
dmsetup resume c
for _ in {1..24}; do presses; sleep 1; [ "$(value v lost_blocks)" = 0 ] || break; done
same 'lost blocks' "$(value v lost_blocks)" 1
logged 'block 5 (sectors 40 to 47) is lost'
get /tmp/a 0 5 | cmp - <(head -c 20480 /tmp/a)
get /tmp/a 6 114 | cmp - <(head -c 491520 /tmp/a | tail -c 466944)
fails get /tmp/a 5 1
put /tmp/a 0
get /tmp/a 0 | cmp - /tmp/a
mended c
drained v /dev/ram0
remove v
