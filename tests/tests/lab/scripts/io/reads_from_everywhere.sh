# shellcheck shell=bash
# Sectors of one block that lie in RAM, in several places of the cache and on the backing device.

ram 1 48
ssd c 24
wbtest history-write /dev/ram0 --seed "$SEED" --last 300
volume v /dev/ram0 /dev/c writeback_threshold 0
n=300
check() {
    same "last write $1" "$(wbtest history-check /dev/mapper/v --seed "$SEED" --durable $n --reads 4000)" \
        "prefix $n"
}
check 'on the backing device'
for round in 1 2 3 4; do
    wbtest history-write /dev/mapper/v --seed "$SEED" --from $((n + 1)) --last $((n + 400))
    n=$((n + 400))
    check 'in RAM, in the cache and on the backing device'
    blockdev --flushbufs /dev/mapper/v
    dmsetup suspend v
    dmsetup resume v
    check 'in the cache and on the backing device'
    [ $round != 2 ] || drain v
done
check 'at the end'
remove v
volume v /dev/ram0 /dev/c
check 'after a resume'
finish v /dev/ram0 /dev/c
same 'last write on the backing device alone' \
    "$(wbtest history-check /dev/ram0 --seed "$SEED" --durable $n)" "prefix $n"
