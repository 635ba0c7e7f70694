# shellcheck shell=bash
# A volume works when there is memory enough for it, but none in one piece.

modprobe dm-writeboost
ram 3 512
echo 1024 >/proc/sys/vm/min_free_kbytes
free() { awk '/^MemFree/ { print int($2 / 1024) }' /proc/meminfo; }
vmalloced() { awk '/^VmallocUsed/ { print $2 }' /proc/meminfo; }
say "$(free) MiB are free"
echo 3 >/proc/sys/vm/drop_caches
n=0
while [ "$(free)" -gt 8 ]; do
    dd if=/dev/zero of=/dev/ram2 bs=1M seek=$n count=1 oflag=direct conv=notrunc status=none
    n=$((n + 1))
done
say "$n MiB are taken; every other page of most of them is given back"
python3 /mnt/share/discard.py $n
sleep 0.5
cat /proc/buddyinfo
[ "$(free)" -gt 100 ] || die "only $(free) MiB are free again"
# Some of the first may still find large pieces.
for i in {0..9}; do
    dmsetup create b --table "0 65536 linear /dev/ram0 $((i * 65536))"
    dmsetup create c --table "0 65536 linear /dev/ram1 $((i * 65536))"
    before=$(vmalloced)
    volume v /dev/mapper/b /dev/mapper/c
    pieces=$(($(vmalloced) - before))
    # Four buffers are 2 MiB.
    [ $pieces -lt 2048 ] || break
    dmsetup rename v v"$i"
    dmsetup rename b b"$i"
    dmsetup rename c c"$i"
done
[ "$pieces" -ge 2048 ] || die 'this tests nothing'
echo "REPORT volume $i has $pieces KiB in pieces"
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=512-512k --blockalign=512 \
    --size=24m
verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=4m
digest=$(digest /dev/mapper/v)
remove v
volume v /dev/mapper/b /dev/mapper/c
same 'content' "$(digest /dev/mapper/v)" "$digest"
finish v /dev/mapper/b /dev/mapper/c
