# shellcheck shell=bash
# wbformat and wbctl against the real kernel: which commands they refuse, with which exit code and which
# words.
#
# Ends with "guest: ok" and status 0 when every check has succeeded; one that fails does not keep the others
# from being made.

trap - ERR
set +eE
set +o pipefail
ram 3 64
BIN=/usr/local/sbin
BACKING=/dev/ram0 CACHE=/dev/ram1 OTHER=/dev/ram2
failures=0
out=$(mktemp)

# expect CODE WORDS... -- COMMAND: the command must end with the code and print the words.
expect() {
    local code=$1 words=()
    shift
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    "$@" >"$out" 2>&1
    local got=$?
    if [ $got != "$code" ]; then
        echo "FAILED: $*: status $got instead of $code:"; sed 's/^/    /' "$out"; failures=$((failures + 1))
    fi
    for word in "${words[@]}"; do
        grep -qF -- "$word" "$out" || {
            echo "FAILED: $*: does not say \"$word\":"; sed 's/^/    /' "$out"; failures=$((failures + 1))
        }
    done
}
check() {
    "$@" || { echo "FAILED: $*"; failures=$((failures + 1)); }
}
sum() { head -c 16M "$1" | sha256sum; }
dirty() { "$BIN/wbctl" --json status "$1" | sed -n 's/.*"dirty_blocks": \([0-9]*\).*/\1/p'; }
wb="$BIN/wbctl" wf="$BIN/wbformat"

for d in $BACKING $CACHE $OTHER; do dd if=/dev/zero of="$d" bs=1M status=none 2>/dev/null; done

# Commands that must be refused before a device exists.
expect 0 NAME -- "$wb" list
expect 8 "not a writeboost volume" -- "$wb" status nothing
expect 2 "same device" -- "$wb" create v "$CACHE" "$CACHE"
expect 1 "No such file" -- "$wb" create v "$BACKING" /dev/nowhere
head -c 1M /dev/urandom >"$CACHE"
before=$(sum "$CACHE")
expect 4 "not recognised" "wbformat --name v" -- "$wb" create v "$BACKING" "$CACHE"
check [ "$before" = "$(sum "$CACHE")" ]
mkfs.ext4 -qF "$CACHE"
before=$(sum "$CACHE")
expect 4 ext4 "wbformat --force" -- "$wb" create v "$BACKING" "$CACHE"
expect 4 ext4 -- "$wf" --backing "$BACKING" "$CACHE"
mkdir -p /tmp/m
mount "$CACHE" /tmp/m
expect 3 "mounted at /tmp/m" -- "$wf" --force --force --backing "$BACKING" "$CACHE"
expect 3 "mounted at /tmp/m" -- "$wb" create v "$BACKING" "$CACHE"
expect 3 "mounted at /tmp/m" -- "$wb" create v "$CACHE" "$OTHER"
umount /tmp/m
expect 0 "Formatted" -- "$wf" --force --backing "$BACKING" "$CACHE"
dd if=/dev/zero of="$CACHE" bs=1M status=none 2>/dev/null

# A blank cache device.
expect 11 "kernel:" "frobnicate" "has been formatted before" -- "$wb" create v "$BACKING" "$CACHE" --opt \
    frobnicate=1
check [ ! -e /dev/mapper/v ]
expect 8 "" -- "$wb" status v
expect 0 "resumed" -- "$wb" create v "$BACKING" "$CACHE" --opt writeback_threshold=0
check [ -b /dev/mapper/v ]
expect 0 "v: ok" "writeback_threshold 0" -- "$wb" status v
expect 9 "active already" -- "$wb" create v "$BACKING" "$OTHER"
expect 3 "device-mapper device v" -- "$wb" create w "$BACKING" "$OTHER"
expect 3 "device-mapper device v" -- "$wf" --backing-size 8 "$CACHE"
expect 3 "device-mapper device v" -- "$wf" --force --force --backing-size 8 "$CACHE"

# Data, use, resume.
mkfs.ext4 -qF /dev/mapper/v
mount /dev/mapper/v /tmp/m
head -c 8M /dev/urandom >/tmp/m/file
sync
want=$(sha256sum </tmp/m/file)
expect 3 "mounted at /tmp/m" -- "$wb" remove v
umount /tmp/m
check [ "$(dirty v)" -gt 1000 ]
expect 0 v ok -- "$wb" list
# A process has the volume open. wbctl waits for it, because udev opens a device after a write, but not for
# ever. The volume is opened here, because a process in the background may be too late.
exec 9</dev/mapper/v
expect 3 "some process has it open" -- "$wb" remove v
sleep 1 <&9 &
exec 9<&-
expect 0 "Removed v" "out of date" "wbctl create v $BACKING $CACHE" -- "$wb" remove v
check [ ! -e /dev/mapper/v ]
expect 5 "dirty blocks" "--force --force" -- "$wf" --backing "$BACKING" "$CACHE"
expect 5 "dirty blocks" -- "$wf" --force --backing "$BACKING" "$CACHE"
expect 7 "belongs to" "--force" -- "$wb" create v "$OTHER" "$CACHE"
expect 0 "resumed" "formatted as v" -- "$wb" create w "$BACKING" "$CACHE"
mount /dev/mapper/w /tmp/m
check [ "$want" = "$(sha256sum </tmp/m/file)" ]
expect 0 "Drained w" -- "$wb" drain w
umount /tmp/m
expect 0 "\"dirty_blocks_after\"" -- "$wb" drain w --json
expect 0 "has all of its data" -- "$wb" remove w --drain
expect 0 "Formatted" -- "$wf" --backing "$BACKING" "$CACHE"
mount "$BACKING" /tmp/m
check [ "$want" = "$(sha256sum </tmp/m/file)" ]
umount /tmp/m

# A file with the name of a device, and a leftover node.
touch /dev/mapper/v
expect 9 "no block device" -- "$wb" create v "$BACKING" "$CACHE"
rm /dev/mapper/v
mknod /dev/mapper/v b 1 15
expect 0 "" -- "$wb" create v "$BACKING" "$CACHE"
expect 0 "v: ok" -- "$wb" status v
expect 0 "Removed" -- "$wb" remove v
check [ ! -e /dev/mapper/v ]

# Without udev, and with the socket of a dead udev: nothing may wait for it. In this guest udev is not needed.
udevadm control --exit 2>/dev/null
for _ in $(seq 50); do pidof systemd-udevd >/dev/null || break; sleep 0.1; done
for stale in no yes; do
    rm -f /run/udev/control
    mkdir -p /run/udev
    [ $stale = no ] ||
        python3 -c \
            'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind("/run/udev/control")'
    expect 0 "/dev/mapper/v" -- timeout 20 "$wb" create v "$BACKING" "$CACHE"
    check [ -b /dev/mapper/v ]
    expect 0 "v: ok" -- timeout 20 "$wb" status v
    expect 0 "Removed" -- timeout 20 "$wb" remove --drain v
    check [ ! -e /dev/mapper/v ]
    expect 11 "kernel:" -- timeout 20 "$wb" create v "$BACKING" "$CACHE" --opt frobnicate=1
    check [ ! -e /dev/mapper/v ]
done

[ $failures = 0 ] && echo "guest: ok"
exit $((failures > 0))
