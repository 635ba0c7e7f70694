# shellcheck shell=bash
# The cache is full, and what is in it cannot be read: no room can be made, and no write waits for it for
# ever.

head -c 20M /dev/urandom >/tmp/big
ends_with_an_error() {
    say 'a write that waits for room is told in the end'
    unreadable=$(value v read_errors)
    ! timeout 60 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 oflag=direct conv=notrunc 2>/tmp/said ||
        die 'there was room'
    grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
    taken=$(sed -n 's/+.*records out//p' /tmp/said)
    same 'state' "$(value v state)" degraded
    same 'fault' "$(value v fault)" cache_read
    [ "$(value v read_errors)" -gt "$unreadable" ] || die 'no error is counted'
    say 'a later one at once'
    timeout 2 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 count=1 oflag=direct conv=notrunc status=none \
        2>/tmp/said && die 'there is room'
    grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
    say 'it is not tried without a pause: twice at most in so short a time'
    unreadable=$(value v read_errors)
    sleep 3
    [ $(($(value v read_errors) - unreadable)) -le 10000 ] ||
        die "$(($(value v read_errors) - unreadable)) errors in three seconds"
    repair
    say 'with all that was taken'
    head -c $((taken * 65536)) /tmp/big | cmp - \
        <(dd if=/dev/mapper/v bs=64k skip=160 count="$taken" iflag=direct status=none)
    drained v /dev/mapper/b
    same 'state' "$(value v state)" ok
}
write_z() {
    timeout 60 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 oflag=direct conv=notrunc,fsync status=none
}
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
flaky c /dev/x error_reads
say 'all of it is dirty: only writeback could make room'
repair() {
    say 'when the device is back, all goes on by itself'
    mends c /dev/x
    for _ in {1..15}; do
        write_z 2>/dev/null && return
        sleep 1
    done
    die 'it does not'
}
ends_with_an_error
flaky c /dev/x error_reads
say 'little of it is: relocation could'
repair() {
    say 'the volume can be suspended, and afterwards all is tried at once'
    timeout 20 dmsetup suspend v || die 'it cannot'
    mends c /dev/x
    dmsetup resume v
    write_z
}
put /tmp/a 0
for _ in {1..8}; do
    timeout 30 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 count=16 oflag=direct conv=notrunc status=none
done
ends_with_an_error
get /tmp/a 0 | cmp - /tmp/a
# The blocks that had failed were cleaned in the end, and the counts remain.
remove v
volume v /dev/mapper/b /dev/mapper/c
finish v /dev/mapper/b /dev/mapper/c
