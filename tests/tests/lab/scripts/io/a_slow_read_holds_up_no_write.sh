# shellcheck shell=bash
# How long a read takes is up to its user and to a device. The log does not wait for it, though it needs the
# segment that is read; and the read, when it ends at last, gets what was there when it began.

ram 2 64
modprobe dm-delay
# 16 segments of 128 blocks behind 256.
n=$(((256 + 16 * 128) * 8))
dmsetup create c --table "0 $n linear /dev/ram1 0"
volume v /dev/ram0 /dev/mapper/c writeback_threshold 100
head -c $((3 * 508 * 1024)) /dev/urandom >/tmp/written
dd if=/tmp/written of=/dev/mapper/v bs=508k oflag=direct conv=notrunc,fsync status=none
remove v
volume v /dev/ram0 /dev/mapper/c writeback_threshold 100
drain v
# Block 100 lies behind the first header. Reads of it take ten minutes, or until the device is suspended.
at=$(((256 + 101) * 8))
slow="0 $at linear /dev/ram1 0\n$at 8 delay /dev/ram1 $at 600000 /dev/ram1 $at 0\n"
becomes c "$slow$((at + 8)) $((n - at - 8)) linear /dev/ram1 $((at + 8))"
dd if=/dev/mapper/v of=/tmp/read bs=4k count=1 skip=100 iflag=direct status=none &
reader=$!
# A part of it: a worker reads that.
dd if=/dev/mapper/v of=/tmp/part bs=512 count=3 skip=802 iflag=direct status=none &
worker=$!
sleep 0.5
say 'more than twice round the log'
for i in $(seq 40); do
    timeout 100 dd if=/dev/urandom of=/dev/mapper/v bs=508k seek=$((20 + i % 4)) count=1 oflag=direct \
        conv=notrunc status=none || die "write $i waits for a read"
done
timeout 100 sync -d /dev/mapper/v
{ kill -0 $reader && kill -0 $worker; } || die 'the reads did not wait'
becomes c "0 $n linear /dev/ram1 0"
wait $reader $worker
cmp -n 4096 -i 409600:0 /tmp/written /tmp/read
cmp -n 1536 -i $((802 * 512)):0 /tmp/written /tmp/part
same 'reads that had to be repeated' "$(value v read_again)" 0
finish v /dev/ram0 /dev/mapper/c
