# shellcheck shell=bash
# Makes some volumes work, and takes pictures of wbstat in a real terminal, which tmux is: texts with escape
# sequences.
set -eEuo pipefail
export LC_ALL=C.UTF-8 TERM=xterm-256color
die() { echo "FAILED: $*"; exit 1; }
trap 'echo "FAILED in line $LINENO: $BASH_COMMAND"' ERR
out=/mnt/share/out
mkdir -p $out
modprobe dm-writeboost

hdd sdb 2048
ssd nvme 160 mbps 500
hdd sdc 1024
ssd cache2 256 mbps 500
wbctl create perflv /dev/sdb /dev/nvme
wbctl create mail /dev/sdc /dev/cache2
wbdaemon 2>/tmp/wbdaemon.log &

# A database, more or less: random writes with a commit now and then, and reads of which some are not in the
# cache.
work() { # NAME RATE SIZE
    fio --name="$1" --eta=never --filename="/dev/mapper/$1" --direct=1 --rw=randrw --rwmixread=30 --bs=4k \
        --size="$3" --time_based \
        --runtime=600 --ioengine=io_uring --iodepth=16 --random_distribution=zipf:1.1 --fsync=64 \
        --rate_iops="$2","$2" --output=/dev/null &
}
work perflv 150 2000M
work mail 25 900M

shot() { tmux capture-pane -e -p -t wb >"$out/$1"; }
keys() { tmux send-keys -t wb "$@"; sleep 2; }
tmux -f /dev/null new-session -d -s wb -x 120 -y 32 "wbstat --interval 1"
sleep 90
keys j
shot wbstat.ansi
keys Enter
shot wbstat-detail.ansi
keys Enter
tmux resize-window -t wb -x 80 -y 24
sleep 2
shot wbstat-80x24.ansi
keys q
tmux kill-server 2>/dev/null || true
jobs -p | xargs -r kill
wait || true
cat /tmp/wbdaemon.log
