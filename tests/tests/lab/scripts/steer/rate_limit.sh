# shellcheck shell=bash
# Background writeback keeps to writeback_rate_limit; a suspend, a drain, a removal and a full cache do not
# wait for it.

ram 2 256
volume v /dev/ram0 /dev/ram1 writeback_threshold 0
dirties 96
say 'never more than the limit and a tenth of a second of it; not much less either'
rate() {
    local blocks ms kib
    dmsetup message v 0 writeback_rate_limit "$1"
    dmsetup message v 0 writeback_threshold 100
    sleep 1
    ms=${EPOCHREALTIME/./} blocks=$(value v written_back)
    sleep 4
    blocks=$(($(value v written_back) - blocks)) ms=$(((${EPOCHREALTIME/./} - ms) / 1000))
    kib=$((blocks * 4 * 1000 / ms))
    echo "REPORT $kib KiB/s with a limit of $1"
    # More than the limit: a chunk of a quarter of a second may have begun before.
    [ $kib -le $(($1 * 12 / 10)) ] || die "$kib KiB/s with a limit of $1"
    [ $kib -ge $(($1 / 2)) ] || [ "$FAST" = false ] || die "$kib KiB/s with a limit of $1"
}
rate 256
rate 4096
say 'a suspend does not wait for a limit'
dmsetup message v 0 writeback_rate_limit 1
sleep 1
! is_clean || die 'nothing is left'
begin=$SECONDS
dmsetup suspend v
dmsetup resume v
[ $((SECONDS - begin)) -lt 5 ] || die "it took $((SECONDS - begin)) s"
say 'nor a drain'
timeout 60 dmsetup message v 0 drop_caches
same dirty "$(dirty v)" 0
say 'nor the removal, which keeps what is dirty'
dirties 8
timeout 10 dmsetup remove v
volume v /dev/ram0 /dev/ram1 writeback_rate_limit 1 writeback_threshold 100
say 'a full cache does not obey it'
[ "$(dirty v)" -gt 0 ] || die 'nothing is dirty'
wbctl set v writeback_rate_limit 4
timeout 120 fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=write --bs=1M --size=256M \
    --ioengine=psync --output=/dev/null
wbctl set v writeback_rate_limit default
finish v /dev/ram0 /dev/ram1
