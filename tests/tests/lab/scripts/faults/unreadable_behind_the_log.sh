# shellcheck shell=bash
# A replay reads ahead, and so reads where the log is not: what cannot be read there does no harm.

ram 1 64
null x 48
over c /dev/x
n=$(sectors /dev/x)
# Segments from that one on cannot be read.
behind() { local at=$(((256 + $1 * 128) * 8)); becomes c "0 $at linear /dev/x 0
$at $((n - at)) error"; }
resumes() { # SEGMENT
    digest=$(digest /dev/mapper/v)
    remove v
    say "segments from $1 on cannot be read"
    behind "$1"
    volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
    same 'content' "$(digest /dev/mapper/v)" "$digest"
    same 'read errors' "$(value v read_errors)" 0
    remove v
    say "nor can segment $(($1 - 12)), which the log is in"
    behind $(($1 - 12))
    logs 'Cannot read the cache device' -- dmsetup create v --table \
        "0 $(sectors /dev/ram0) writeboost /dev/ram0 /dev/mapper/c"
    mends c /dev/x
    volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
    same 'content' "$(digest /dev/mapper/v)" "$digest"
}
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
say 'full segments'
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=20 oflag=direct conv=notrunc,fsync status=none
# 5,120 blocks, 127 to a segment: 0 to 40, and the replay looks at one more to see that the log is over.
resumes 43
drained v /dev/ram0
remove v
say 'segments of many records'
dd if=/dev/zero of=/dev/x bs=1M count=1 oflag=direct status=none
volume v /dev/ram0 /dev/mapper/c writeback_threshold 0
dd if=/dev/urandom of=/dev/mapper/v bs=4k count=2000 oflag=direct,dsync conv=notrunc status=none
# 64 to a segment: 0 to 31.
resumes 34
finish v /dev/ram0 /dev/mapper/c
