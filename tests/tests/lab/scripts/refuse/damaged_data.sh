# shellcheck shell=bash
# Damaged data, in place of a damaged log: reads of it are errors, and none of it gets to the backing
# device.

volume v /dev/b /dev/c writeback_threshold 0
dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
dd if=/tmp/data of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
# More, so that the records above are known durable, and nothing of them is in RAM after a resume.
dd if=/dev/urandom of=/dev/mapper/v bs=256k seek=32 count=16 oflag=direct conv=fsync status=none
remove v
volume v /dev/b /dev/c writeback_threshold 0
# A data block of the first segment.
dd if=/dev/urandom of=/dev/c bs=4k seek=$((256 + 20)) count=1 oflag=direct conv=notrunc status=none
bad=0
for block in $(seq 0 127); do
    if dd if=/dev/mapper/v of=/tmp/block bs=4k skip="$block" count=1 iflag=direct status=none \
        2>/tmp/said; then
        cmp /tmp/block <(dd if=/tmp/data bs=4k skip="$block" count=1 status=none)
    else
        grep -q 'Input/output error' /tmp/said
        bad=$((bad + 1))
    fi
done
same 'unreadable blocks' $bad 1
logged 'wrong checksum'
[ "$(value v read_errors)" -gt 0 ] || die 'no read error is counted'
say 'a drain fails, writes back the rest, and keeps what it cannot'
refused + '' -- dmsetup message v 0 drop_caches
for _ in $(seq 100); do [ "$(dirty v)" != 1 ] || break; sleep 0.1; done
same 'dirty blocks' "$(dirty v)" 1
same 'state' "$(value v state)" degraded
differ=$(differing /tmp/data <(dd if=/dev/b bs=1M count=4 iflag=direct status=none))
same 'number of blocks that differ on the backing device' "$(wc -w <<<"$differ")" 1
say 'writing it again heals it'
dd if=/tmp/data of=/dev/mapper/v bs=4k skip="$differ" seek="$differ" count=1 oflag=direct conv=fsync,notrunc \
    status=none
drain v
same 'dirty blocks' "$(dirty v)" 0
cmp /tmp/data <(dd if=/dev/b bs=1M count=4 iflag=direct status=none)
remove v
