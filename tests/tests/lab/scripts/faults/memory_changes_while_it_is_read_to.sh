# shellcheck shell=bash
# Direct reads go into memory that another process writes to all the time: the checksum is taken where no
# other process writes.

ram 1 48
# The data of a read are in memory at once, and its end comes a millisecond later.
null c 32 irqmode 2 completion_nsec 1000000 hw_queue_depth 64 submit_queues 1
volume v /dev/ram0 /dev/c writeback_threshold 0
put /tmp/a 0
forget
truncate -s 256k /dev/shm/buffer
fio --name=scribble --filename=/dev/shm/buffer --rw=randwrite --bs=64 --ioengine=psync --size=256k \
    --eta=never --time_based --runtime=60 >/dev/null 2>&1 &
scribble=$!
fio --name=read --filename=/dev/mapper/v --direct=1 --rw=randread --bsrange=4k-32k --blockalign=4k --size=2m \
    --ioengine=io_uring --iodepth=4 --iomem=mmapshared:/dev/shm/buffer --eta=never --time_based --runtime=5 \
    >/tmp/fio 2>&1 ||
    { cat /tmp/fio; die 'a read has failed'; }
kill $scribble
wait $scribble 2>/dev/null || true
healthy v
echo "REPORT $(value v read_again) blocks were read again"
[ "$(value v read_again)" -gt 10 ] || die 'this tests nothing'
get /tmp/a 0 | cmp - /tmp/a
finish v /dev/ram0 /dev/c
