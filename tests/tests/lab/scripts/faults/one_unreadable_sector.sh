# shellcheck shell=bash
# One sector of the cache device cannot be read, wherever it is: a volume whose data are all there is opened
# with all of them.

failing_cache 32
opens() {
    dmsetup create v --table \
        "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c 2 writeback_threshold 0" 2>/tmp/said
}
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
dirty=$(dirty v)
digest=$(digest /dev/mapper/v)
remove v
dd if=/dev/x of=/tmp/image bs=1M iflag=direct status=none
again() { dd if=/tmp/image of=/dev/x bs=1M oflag=direct conv=notrunc status=none; }
is_all_there() { # STATUS SECTOR
    say "$1 error in sector $2"
    again
    faults c "$1" read "$2" 8
    opens || die "refused: $(dmesg | tail -n 5)"
    same 'dirty blocks' "$(dirty v)" "$dirty"
    same 'content' "$(digest /dev/mapper/v)" "$digest"
    put /tmp/a 4000
    sync /dev/mapper/v
    remove v
    opens || die "refused the second time: $(dmesg | tail -n 5)"
    get /tmp/a 4000 | cmp - /tmp/a
    remove v
    mended c
}
# 1,024 blocks are 9 segments: the last one is segment 8.
for status in medium protection io; do
    is_all_there $status 8
    is_all_there $status 16
done
is_all_there medium $(((256 + 9 * 128) * 8))
is_all_there protection $(((256 + 10 * 128) * 8))
# Data that a resume need not look at: they are known durable.
again
faults c medium read $(((256 + 3) * 8)) 8
opens || die "refused: $(dmesg | tail -n 5)"
same 'dirty blocks' "$(dirty v)" "$dirty"
remove v
mended c
is_refused() { # WORDS STATUS FIRST SECTORS
    say "$2 error in sector $3"
    again
    faults c "$2" read "$3" "$4"
    logs "$1" -- dmsetup create v --table "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c"
    cmp /tmp/image <(dd if=/dev/x bs=1M iflag=direct status=none) || die 'something was written'
    mended c
}
say 'checkpoints that can be neither read nor written any more'
for status in medium io; do
    for lost in '1' '2' '1 192' '2 128'; do
        say "$status error in blocks $lost, for good"
        again
        for block in $lost; do
            faults c $status write $((block * 8)) 8
            faults c $status read $((block * 8)) 8
        done
        opens || die "refused: $(dmesg | tail -n 5)"
        same 'dirty blocks' "$(dirty v)" "$dirty"
        same 'content' "$(digest /dev/mapper/v)" "$digest"
        remove v
        opens || die "refused the second time: $(dmesg | tail -n 5)"
        same 'dirty blocks' "$(dirty v)" "$dirty"
        drained v /dev/ram0
        put /tmp/a 4000
        sync /dev/mapper/v
        same 'state' "$(value v state)" ok
        wrote=$(dirty v)
        remove v
        opens || die "refused the third time: $(dmesg | tail -n 5)"
        get /tmp/a 4000 | cmp - /tmp/a
        same 'dirty blocks' "$(dirty v)" "$wrote"
        remove v
        mended c
        say 'and when they can be read again, what they have is old'
        opens || die "refused: $(dmesg | tail -n 5)"
        get /tmp/a 4000 | cmp - /tmp/a
        same 'dirty blocks' "$(dirty v)" "$wrote"
        remove v
    done
done
say 'a device that does not answer is not one that has lost something'
is_refused 'Cannot read the cache device' path 8 16
is_refused 'Cannot read the cache device' io $(((256 + 9 * 128) * 8)) 8
is_refused 'Cannot read the cache device' timeout $(((256 + 9 * 128) * 8)) 1024
say 'nor is a log without one of its headers whole: the message says which'
is_refused "sector $(((256 + 4 * 128) * 8)) of the cache device would have to be read" medium \
    $(((256 + 4 * 128) * 8)) 8
say 'nor is one behind which more is lost than a power cut leaves'
is_refused 'more than 32 blocks cannot be read' medium $(((256 + 9 * 128) * 8)) 512
say 'a blank superblock is not taken for a new device when what lies behind it cannot be read'
dd if=/dev/zero of=/tmp/image bs=512 count=1 conv=notrunc status=none
for status in medium io path; do
    is_refused 'Cannot read the cache device' $status 8 16
    is_refused 'Cannot read the cache device' $status 2040 8
done
