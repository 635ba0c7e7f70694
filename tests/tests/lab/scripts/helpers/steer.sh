# shellcheck shell=bash
# Functions of the tests of steering.

# dirties MIB: random blocks, so that each is a request of its own for the backing device.
dirties() {
    fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size="${1}M" \
        --randseed="$SEED" --ioengine=io_uring --iodepth=32 --end_fsync=1 --output=/dev/null
}
is_clean() { [ "$(dirty v)" = 0 ]; }
# stays_dirty SECONDS: nothing is written back for so long.
stays_dirty() {
    local before
    before=$(value v written_back)
    sleep "$1"
    same 'blocks written back' "$(value v written_back)" "$before"
}
