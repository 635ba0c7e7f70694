# shellcheck shell=bash
# A drain that cannot succeed does not take away the room that relocation makes for overwrites.

volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
put /tmp/a 0
# The backing device takes its time to fail.
modprobe dm-delay
n=$(sectors /dev/ram0)
dmsetup create e --table "0 $n error"
becomes b "0 $n delay /dev/mapper/e 0 0 /dev/mapper/e 0 200"
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=64k --size=4m --norandommap \
    --ioengine=io_uring --iodepth=32 --time_based --runtime=100 --eta=never >/tmp/fio 2>&1 &
fio=$!
for _ in 1 2; do
    sleep 1
    ! timeout 60 dmsetup message v 0 drop_caches 2>/dev/null || die 'it was drained'
    kill -0 $fio || die "$(cat /tmp/fio)"
done
sleep 1
kill $fio || die "$(cat /tmp/fio)"
wait $fio || true
mends b /dev/ram0
dmsetup remove e
drained v /dev/ram0
