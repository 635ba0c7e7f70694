# shellcheck shell=bash
# The report says how many segments are what, and maps them to cells.

ram 2 64
volume v /dev/ram0 /dev/ram1 writeback_threshold 0
n=$(field v 3)
report() { dmsetup message v 0 report "$@"; }
words() { read -r -a w <<<"$1"; same 'sum' $((w[4] + w[5] + w[6] + w[7] + w[8])) "${w[3]}"; }
say 'an empty cache'
words "$(report "$n")"
same report "$(report "$n")" "1 $n 0 $n $n 0 0 0 0 $(printf '%*s' "$n" '' | tr ' ' .)"
same 'of one cell' "$(report 1)" "1 $n 0 $n $n 0 0 0 0 ."
say 'something is dirty'
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=write --bs=64k --size=16m --end_fsync=1 \
    --output=/dev/null
words "$(report "$n")"
report "$n"
same 'free segments' "${w[4]}" "$(value v free_segments)"
same 'the head' "${w[5]}" 1
same 'dirty' "${w[7]}" 32
[[ ${w[9]} == 99999999* ]] || die "the map is ${w[9]}"
same 'cells' ${#w[9]} "$n"
say 'a part of it'
words "$(report 4 0 8)"
same part "$(report 4 0 8)" "1 $n 0 8 0 0 0 8 0 9999"
same 'more cells than segments' "$(report 4096 0 2)" "1 $n 0 2 0 0 0 2 0 99"
say 'all is written back'
wbctl set v writeback_rate_limit 2048
wbctl set v writeback_threshold 100
within 10 grep -q w <<<"$(for _ in 1 2 3 4 5 6 7 8 9; do report "$n" | cut -d' ' -f10; sleep 0.2; done)"
drain v
words "$(report "$n")"
same 'dirty' $((w[6] + w[7])) 0
say 'what cannot be'
for bad in 0 4097 x '1 2' '1 2 x' "1 0 $((n + 1))" "1 $n 1" '1 0 0' '1 4294967295 2' '1 2 3 4'; do
    # shellcheck disable=SC2086 # Words of a message.
    ! report $bad 2>/dev/null || die "report $bad is answered"
done
finish v /dev/ram0 /dev/ram1
say 'a large cache: the answer is no longer than the map'
truncate -s 16G /tmp/large
large=$(losetup -f --show /tmp/large)
volume v /dev/ram0 "$large"
words "$(report 4096)"
same 'segments' "${w[1]}" "$(field v 3)"
[ "${w[1]}" -gt 32000 ] || die 'it is not large'
[[ ${#w[9]} -le 4096 && ${#w[9]} -gt 3000 ]] || die "${#w[9]} cells"
report 4096 | wc -c
remove v
