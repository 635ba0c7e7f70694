# shellcheck shell=bash
# What the daemon and wbstat take of CPU and memory for ten volumes in use.

ram 20 16
for i in $(seq 0 9); do wbctl create v"$i" /dev/ram$((2 * i)) /dev/ram$((2 * i + 1)); done
for i in $(seq 0 9); do
    fio --name=w --eta=never --filename="/dev/mapper/v$i" --direct=1 --rw=randrw --bs=4k --rate_iops=20,20 \
        --time_based --runtime=300 --ioengine=psync --output=/dev/null &
done
wbdaemon 2>/tmp/log &
daemon=$!
tmux -f /dev/null new-session -d -s wb -x 120 -y 40 'TERM=screen-256color exec wbstat --interval 1'
within 10 pgrep -x wbstat
stat=$(pgrep -x wbstat)
sleep 5
# Ticks of a hundredth of a second, of user and system.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
a=$(ticks $daemon) b=$(ticks "$stat") begin=${EPOCHREALTIME/./}
sleep 60
a=$(($(ticks $daemon) - a)) b=$(($(ticks "$stat") - b)) ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
echo "REPORT 10 volumes, every second: wbdaemon $((a * 100000 / ms))/100 % of a CPU and $(rss $daemon) KiB," \
    "wbstat $((b * 100000 / ms))/100 % and $(rss "$stat") KiB"
tmux capture-pane -p -t wb
tmux capture-pane -p -t wb | grep -q v9 || die 'wbstat does not show the volumes'
for pid in $daemon $stat; do [ "$(rss "$pid")" -lt 20000 ] || die "$(rss "$pid") KiB"; done
kill $daemon
wait $daemon
tmux kill-server
pkill fio || true
wait || true
