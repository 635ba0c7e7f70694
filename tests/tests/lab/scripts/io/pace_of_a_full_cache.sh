# shellcheck shell=bash
# When only writeback makes room, writes are let in one by one, as blocks are written back; a backing device
# that does not answer does not hold up writes for which there is room.

hdd h 200 20
dmsetup create b --table "0 $(sectors /dev/h) linear /dev/h 0"
null c 64
volume v /dev/mapper/b /dev/c
free() { value v free_segments; }
write() {
    fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --norandommap --eta=never \
        --output=/dev/null "$@"
}
all=$(free)
say 'fill it'
# The sequence of addresses goes on where the last run of fio has ended: with a seed of its own each time.
n=0
# Pacing begins with less than eight.
while [ "$(free)" -gt 6 ]; do
    n=$((n + 1))
    write --randseed=$((SEED + n)) --size=200m --io_size=1m --ioengine=io_uring --iodepth=16
done
say "$(free) of $all segments are free"
say 'let in, one by one, while nothing becomes free: 20 ms for each block that is written back'
write --randseed=$((SEED + 1000)) --size=200m --io_size=4m --ioengine=psync --write_lat_log=/tmp/paced
# 1,024 writes; those that found something saved up were not delayed, and there is more of that when blocks
# lie beside each other. Without a pace some eight would be, one for each segment.
slow=$(awk -F, '$2 > 1e6 { slow++ } END { print slow + 0 }' /tmp/paced_clat.1.log)
say "$slow writes were delayed"
[ "$slow" -gt 24 ] || die "only $slow writes were delayed"
say 'the backing device does not answer any more'
# Four are not for writes.
until [ "$(free)" -ge 6 ]; do sleep 0.1; done
dmsetup suspend --nolockfs --noflush b
before=$(free)
timeout 20 fio --name=w --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --norandommap --eta=never \
    --output=/dev/null --randseed=$((SEED + 2000)) --size=200m --io_size=256k --ioengine=psync ||
    die "writes are held back for ever"
say "$before segments were free, now $(free)"
dmsetup resume b
healthy v
# Dirty blocks stay dirty: at this device's speed a drain would take minutes.
remove v
