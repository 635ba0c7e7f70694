# shellcheck shell=bash
# Suspends of each kind while the volume is read and written.

ram 1 64
ssd c 24
volume v /dev/ram0 /dev/c
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-64k --blockalign=512 \
    --size=60m --time_based --runtime=8 --verify_backlog=64 --fsync=32 &
fio=$!
rounds=0
while kill -0 $fio 2>/dev/null; do
    for how in "" --noflush --nolockfs; do
        dmsetup suspend $how v
        sleep 0.0$((RANDOM % 10))
        dmsetup resume v
        sleep 0.0$((RANDOM % 10))
        rounds=$((rounds + 1))
    done
done
wait $fio
say "$rounds times suspended"
[ $rounds -ge 3 ] || die "suspended $rounds times only"
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randwrite --bs=4k --size=32m
finish v /dev/ram0 /dev/c
