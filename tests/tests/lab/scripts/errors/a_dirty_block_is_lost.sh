# shellcheck shell=bash
# A dirty block has rotted: the tail cannot pass it, and the log still goes round.

printf 'this block will be lost %.0s' {1..200} >/tmp/lost
truncate -s 4096 /tmp/lost
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
put /tmp/lost 700
put /tmp/a 0
dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=80 count=160 oflag=direct conv=fsync,notrunc status=none
rots 'this block will be lost'
say 'it is never served'
fails get /tmp/lost 700
say 'while there is room it is kept: it might come back'
same 'lost blocks' "$(value v lost_blocks)" 0
! drain v 2>/dev/null || die 'it was drained'
say 'when room runs out it does not stop the others, after give_up at once and not after minutes'
dmsetup message v 0 give_up
for _ in 1 2 3 4; do
    timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=80 oflag=direct,dsync conv=notrunc status=none
done
for _ in 1 2 3 4; do
    timeout 120 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=200 count=64 oflag=direct conv=fsync,notrunc \
        status=none
done
same 'lost blocks' "$(value v lost_blocks)" 1
logged 'block 700 (sectors 5600 to 5607) is lost'
get /tmp/a 0 | cmp - /tmp/a
get /tmp/z 1280 | cmp - /tmp/z
fails get /tmp/lost 700
say 'nor after a resume, nor is anything written back'
remove v
volume v /dev/mapper/b /dev/mapper/c
fails get /tmp/lost 700
! drain v 2>/dev/null || die 'it was drained'
same 'dirty blocks' "$(dirty v)" 1
same 'block 700 of the backing device' \
    "$(dd if=/dev/ram0 bs=4k skip=700 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" 0
say 'a write heals it'
put /tmp/lost 700
get /tmp/lost 700 | cmp - /tmp/lost
remove v
volume v /dev/mapper/b /dev/mapper/c
get /tmp/lost 700 | cmp - /tmp/lost
finish v /dev/mapper/b /dev/mapper/c
