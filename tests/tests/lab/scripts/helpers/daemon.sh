# shellcheck shell=bash
# Functions of the tests of the daemon.

dirties() {
    fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size="${1}M" \
        --randseed="$SEED" --ioengine=io_uring --iodepth=16 --end_fsync=1 --output=/dev/null
}
is_clean() { [ "$(dirty v)" = 0 ]; }
is_steered() {
    [ "$(wbctl get v steering_timeout)" = "${1:-10}" ] && [ "$(wbctl get v writeback_threshold)" != default ]
}
is_option() { [ "$(wbctl get v "$1")" = "$2" ]; }
is_default() {
    local key
    for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit steering_timeout; do
        [ "$(wbctl get v $key)" = default ] || return 1
    done
}
saw() { grep -qE "$1" /tmp/log; }
conf=/etc/writeboost/wbdaemon.toml
has_volume() {
    ram 2 64
    wbctl create v /dev/ram0 /dev/ram1
    mkdir -p /etc/writeboost
}
# has_socket SECONDS: the daemon is told to be silent for so long at most, and to have a page of metrics.
has_socket() { printf 'steering_timeout_s = %d\n[metrics]\nlisten = "unix:/run/wb.sock"\n' "$1" >$conf; }
