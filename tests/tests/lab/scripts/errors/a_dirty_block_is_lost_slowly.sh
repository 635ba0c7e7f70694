# shellcheck shell=bash
# While relocation is about to give a block up, no write gives up waiting for room.

modprobe dm-delay
printf 'this block will be lost %.0s' {1..200} >/tmp/lost
truncate -s 4096 /tmp/lost
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
put /tmp/lost 700
dd if=/tmp/z of=/dev/mapper/v bs=64k seek=80 oflag=direct conv=fsync,notrunc status=none
rots 'this block will be lost'
becomes c "0 $(sectors /dev/x) delay /dev/x 0 2500 /dev/x 0 0"
dmsetup message v 0 give_up
# A little again and again: writeback has soon done what it can, and then waits for relocation as the writes
# do.
for _ in {1..24}; do
    timeout 120 dd if=/tmp/a of=/dev/mapper/v bs=64k seek=80 count=16 oflag=direct conv=notrunc status=none
done
same 'lost blocks' "$(value v lost_blocks)" 1
mends c /dev/x
