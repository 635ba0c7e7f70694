# shellcheck shell=bash
# wbstat in a terminal: volumes come and go, options change after a question, a recording is shown again.

hdd x 64
ram 1 64
wb() { tmux send-keys -t wb "$@"; }
screen() { tmux capture-pane -p -t wb; }
shows() { screen | grep -qE "$1"; }
starts() {
    tmux -f /dev/null new-session -d -s wb -x "$1" -y "$2" \
        "TERM=screen-256color LC_ALL=C.UTF-8 wbstat --interval 0.5 $3; echo status \$?; sleep 1000"
}
say 'without volumes'
starts 80 24 ''
within 10 shows 'There is no writeboost volume'
say 'one that comes'
wbctl create v /dev/x /dev/ram0
within 10 shows '> v +ok .* idle'
shows 'free 126 +of 126 segments' || shows 'of 126 segments' || die "$(screen)"
say 'it is used'
fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --rate_iops=100 \
    --time_based --runtime=600 --ioengine=psync --output=/dev/null &
fio=$!
within 10 shows '> v +ok .* 100 .* in use'
say 'an option is changed, after a question'
wb t
within 5 shows 'Options of v'
wb Enter
within 5 shows 'writeback_threshold = _'
wb 7 0 0 Enter
within 5 shows 'takes a number from 0 to 100'
wb BSpace Enter
within 5 shows 'Set writeback_threshold from default to 70\?'
same 'not yet' "$(wbctl get v writeback_threshold)" default
wb y
within 5 shows 'writeback_threshold is 70 now'
same 'now' "$(wbctl get v writeback_threshold)" 70
wb x
within 5 shows 'below 70 % busy, decided by: set by hand'
say 'it is steered'
wbctl set v writeback_threshold default
wbdaemon 2>/tmp/log &
daemon=$!
within 15 shows 'decided by: wbdaemon'
say 'another size'
tmux resize-window -t wb -x 150 -y 45
within 5 shows 'LOG IN USE'
screen
say 'it goes'
kill $fio $daemon
wait || true
wb Enter
wbctl remove v
within 10 shows 'There is no writeboost volume'
wb q
within 5 shows 'status 0'
tmux kill-server
say 'recorded, and shown again'
wbctl create v /dev/x /dev/ram0
starts 80 24 '--record /tmp/recording'
sleep 4
wb q
within 5 shows 'status 0'
tmux kill-server
wbctl remove v
wbstat --replay /tmp/recording --csv >/tmp/csv
[ "$(grep -c ',v,ok,' /tmp/csv)" -ge 3 ] || die "$(cat /tmp/csv)"
starts 80 24 '--replay /tmp/recording'
within 5 shows 'REPLAY'
within 5 shows '> v +ok'
tmux kill-server
