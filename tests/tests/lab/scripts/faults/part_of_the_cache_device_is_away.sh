# shellcheck shell=bash
# The cache device is more than one disk, and one of them does not answer: what was flushed to it is not
# lost by that, even after `give_up`. Only what the medium itself has lost is.

failing_cache 17
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
say 'one half of the cache device is clean, and the next 2 MiB are flushed to the other one'
dd if=/dev/urandom of=/dev/mapper/v bs=508k count=17 oflag=direct conv=notrunc,fsync status=none
drain v
dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=notrunc,fsync status=none
is_nearly_full() { [ "$(value v free_segments)" -le 5 ]; }
for _ in {1..40}; do
    ! is_nearly_full || break
    dd if=/dev/urandom of=/dev/mapper/v bs=508k seek=40 count=1 oflag=direct conv=notrunc,fsync status=none
done
half=$(((256 + 16 * 128) * 8))
dmsetup message v 0 give_up
for status in path timeout io offline; do
    faults c $status read $half
    for _ in 1 2 3 4 5 6; do presses; sleep 1; done
    same "blocks lost by $status" "$(value v lost_blocks)" 0
    mended c
done
logged 'are in the way of the log'
say 'all of it is there when the disk is back'
get /tmp/a 0 | cmp - /tmp/a
forget
get /tmp/a 0 | cmp - /tmp/a
drained v /dev/ram0
same 'lost blocks' "$(value v lost_blocks)" 0
remove v
