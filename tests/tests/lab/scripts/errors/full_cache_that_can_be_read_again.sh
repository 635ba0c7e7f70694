# shellcheck shell=bash
# As soon as a block is written back again, writes that wait for room go on waiting, though it takes long,
# and get it.

modprobe dm-delay
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
flaky c /dev/x error_reads
becomes b "0 $(sectors /dev/ram0) delay /dev/ram0 0 0 /dev/ram0 0 1500 /dev/ram0 0 0"
head -c 20M /dev/urandom >/tmp/big
fails timeout 60 dd if=/tmp/big of=/dev/mapper/v bs=64k seek=160 oflag=direct conv=notrunc
full=$(dirty v)
mends c /dev/x
say 'the first blocks are written back'
for _ in {1..200}; do [ "$(dirty v)" = "$full" ] || break; sleep 0.1; done
[ "$(dirty v)" -lt "$full" ] || die 'none is'
say 'others follow, and writes do not wait for them in vain'
timeout 120 dd if=/tmp/z of=/dev/mapper/v bs=64k seek=600 oflag=direct conv=notrunc,fsync status=none
mends b /dev/ram0
drained v /dev/mapper/b
