# shellcheck shell=bash
# A power cut loses parts of what both devices have in their caches, and the volume is still a prefix of its
# writes, with all that was flushed. Both devices are parts of one, so that one record tells the order of
# all writes to them.

ram 1 44
# Slow enough for a mark to be in the log before what it marks, should that be said to be durable too early.
null slow 44 irqmode 2 completion_nsec 20000000 hw_queue_depth 128 submit_queues 1
null log 1000
modprobe dm-log-writes
halves() { # DISK PREFIX: the first 32 MiB are the backing device, the rest is the cache device.
    dmsetup create "${2}b" --table "0 65536 linear $1 0"
    dmsetup create "${2}c" --table "0 24576 linear $1 65536"
}
dmsetup create recorded --table "0 $(sectors /dev/slow) log-writes /dev/slow /dev/log"
halves /dev/mapper/recorded first_
volume v /dev/mapper/first_b /dev/mapper/first_c
wbtest history-write /dev/mapper/v --seed "$SEED" --last 2500 --every 12 --mark recorded
remove v
remove first_b
remove first_c
remove recorded
modprobe -r dm-log-writes
halves /dev/ram0 second_
cuts=0
while [ $cuts -lt 30 ]; do
    wbtest replay /dev/log /dev/ram0 --seed $((SEED * 1000 + cuts)) >/tmp/n 2>/tmp/moment
    read -r _ durable </tmp/n
    blockdev --flushbufs /dev/ram0
    volume w /dev/mapper/second_b /dev/mapper/second_c
    wbtest history-check /dev/mapper/w --seed "$SEED" --durable "$durable" >/tmp/n
    echo "write $durable durable, $(cat /tmp/n) found: $(cat /tmp/moment)"
    read -r _ found </tmp/n
    if [ $((cuts % 4)) = 0 ]; then
        drain w
        same 'last write on the backing device alone' \
            "$(wbtest history-check /dev/mapper/second_b --seed "$SEED" --durable "$durable")" "prefix $found"
    fi
    healthy w
    remove w
    cuts=$((cuts + 1))
done
