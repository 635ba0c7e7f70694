# shellcheck shell=bash
# Reads that need the cache device only do not wait for those that need the backing device, however many
# there are.

ram 2 64
dd if=/dev/urandom of=/dev/ram0 bs=1M count=64 oflag=direct status=none
dmsetup create b --table "0 $(sectors /dev/ram0) linear /dev/ram0 0"
volume v /dev/mapper/b /dev/ram1 writeback_threshold 0
head -c 4096 /dev/urandom >/tmp/p
dd if=/tmp/p of=/dev/mapper/v bs=4k seek=100 count=1 oflag=direct conv=notrunc status=none
# One of their sectors is cached, seven are not.
for i in $(seq 40); do
    dd if=/tmp/p of=/dev/mapper/v bs=512 seek=$((8000 + i * 8)) count=1 oflag=direct conv=notrunc status=none
done
# Two pieces of one block, both in the cache.
dd if=/tmp/p of=/dev/mapper/v bs=512 seek=1600 count=3 oflag=direct conv=notrunc status=none
dd if=/tmp/p of=/dev/mapper/v bs=512 seek=1603 skip=3 count=5 oflag=direct conv=notrunc,fsync status=none
remove v
volume v /dev/mapper/b /dev/ram1 writeback_threshold 0
dmsetup suspend --noflush --nolockfs b
readers=()
for i in $(seq 40); do
    dd if=/dev/mapper/v of="/tmp/far$i" bs=4k skip=$((1000 + i)) count=1 iflag=direct status=none &
    readers+=($!)
done
sleep 0.5
for i in 1 2 3 4 5; do
    timeout 100 dd if=/dev/mapper/v of=/tmp/near bs=512 skip=802 count=4 iflag=direct status=none ||
        die 'it waits'
    cmp -n 2048 -i 1024:0 /tmp/p /tmp/near
    timeout 100 dd if=/dev/mapper/v of=/tmp/near bs=4k skip=200 count=1 iflag=direct status=none ||
        die 'it waits'
    cmp /tmp/p /tmp/near
done
for reader in "${readers[@]}"; do kill -0 "$reader" || die 'they did not wait'; done
dmsetup resume b
wait "${readers[@]}"
for i in $(seq 40); do
    cmp -n 512 /tmp/p "/tmp/far$i"
    cmp -n 3584 -i $(((8001 + i * 8) * 512)):512 /dev/ram0 "/tmp/far$i"
done
finish v /dev/mapper/b /dev/ram1
