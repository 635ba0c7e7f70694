# shellcheck shell=bash
# A drain is for the blocks that were written before it, and ends however much is written meanwhile;
# relocation, which carries old blocks behind what the drain waits for, does not make it miss them.

hdd b 64 2
null c 20
volume v /dev/b /dev/c writeback_threshold 0
touch /tmp/go
# Hot: it dirties 1,000 blocks again and again, while the disk writes 500 in a second. The log goes round all
# the time.
(while [ -e /tmp/go ]; do
    fio --name=hot --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=4m --norandommap \
        --time_based --runtime=2 --ioengine=psync --thinktime=100 --eta=never --output=/dev/null
done) &
hot=$!
# Cold: 400 blocks that are written once, with gaps, and written back last, for they are behind the others.
cold() {
    local device=$1
    shift
    verify "$device" --rw=write:4k --bs=4k --offset=32m --size=3200k --verify=pattern \
        --verify_pattern=0xc01d000$round "$@"
}
for round in 1 2 3; do
    cold /dev/mapper/v --do_verify=0
    sleep 1
    kill -0 $hot || die 'fio does not write any more'
    begin=$SECONDS
    timeout 60 dmsetup message v 0 drop_caches || die 'the drain does not end'
    cold /dev/b --verify_only
    say "drained in $((SECONDS - begin)) s, $(dirty v) blocks are dirty again"
done
rm /tmp/go
wait $hot
finish v /dev/b /dev/c
