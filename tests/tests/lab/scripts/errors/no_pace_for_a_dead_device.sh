# shellcheck shell=bash
# When writeback turns out to get nothing done, writes are no longer let in at its pace.

null y 128
null z 200
dmsetup create d --table "0 $(sectors /dev/z) linear /dev/z 0"
volume v /dev/mapper/d /dev/y writeback_threshold 0
breaks d /dev/z
# At the slowest pace what is left would take more than a minute.
fails timeout 40 dd if=/dev/zero of=/dev/mapper/v bs=64k oflag=direct conv=notrunc
same 'fault' "$(value v fault)" backing_write
mends d /dev/z
drained v /dev/mapper/d
