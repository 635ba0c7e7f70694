# shellcheck shell=bash
# A volume has the sectors of its backing device, for which all that is on it was made, whatever those of
# the cache device are.

null b 64
null c 24 blocksize 4096
say 'a file system of 1 KiB blocks that is there before'
mkfs.ext4 -q -b 1024 /dev/b
mount /dev/b "$m"
head -c 3M /dev/urandom >"$m/before"
sum=$(b2sum <"$m/before")
umount "$m"
wbctl create v /dev/b /dev/c --opt writeback_threshold=0
shows /dev/mapper/v queue/logical_block_size 512
mount /dev/mapper/v "$m"
same 'content of a file' "$(b2sum <"$m/before")" "$sum"
# Files of odd sizes, synced and overwritten: parts of blocks, in the log and read from there.
for i in $(seq 60); do head -c $((i * 937)) /dev/urandom >"$m/f$i"; done
sync
sums=$(cat "$m/f"* | b2sum)
echo 3 >/proc/sys/vm/drop_caches
same 'content of files' "$(cat "$m/f"* | b2sum)" "$sums"
umount "$m"
[ "$(dirty v)" != 0 ] || die 'nothing is dirty'
wbctl remove v
wbctl create v /dev/b /dev/c --opt writeback_threshold=0
mount /dev/mapper/v "$m"
same 'content of files after a resume' "$(cat "$m/f"* | b2sum)" "$sums"
umount "$m"
finish v /dev/b /dev/c
e2fsck -fn /dev/b
mount -o ro /dev/b "$m"
same 'content of files without the cache' "$(cat "$m/f"* | b2sum)" "$sums"
umount "$m"
say 'any sectors'
volume v /dev/b /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randrw --bsrange=512-64k --blockalign=512 \
    --size=40m --verify_backlog=64
finish v /dev/b /dev/c
# Sectors that a history has not written are zero.
dd if=/dev/zero of=/dev/b bs=1M count=64 oflag=direct status=none
volume v /dev/b /dev/c
wbtest history-write /dev/mapper/v --seed "$SEED" --last 800 --every 50
same 'last write' "$(wbtest history-check /dev/mapper/v --seed "$SEED" --durable 800 --reads 800)" \
    'prefix 800'
healthy v
finish v /dev/b /dev/c
say 'an odd number of sectors'
dmsetup create odd --table "0 65531 linear /dev/b 0"
dd if=/dev/zero of=/dev/c bs=1M count=24 oflag=direct status=none
volume v /dev/mapper/odd /dev/c
same 'size' "$(sectors /dev/mapper/v)" 65531
head -c 512 /dev/urandom >/tmp/last
dd if=/tmp/last of=/dev/mapper/v bs=512 seek=65530 oflag=direct conv=notrunc,fsync status=none
finish v /dev/mapper/odd /dev/c
dd if=/dev/mapper/odd bs=512 skip=65530 iflag=direct status=none | cmp - /tmp/last
