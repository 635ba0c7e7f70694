# shellcheck shell=bash
# Functions for the scripts of guests; stands before each of them. Any command that fails ends the script.
set -eEuo pipefail
shopt -s inherit_errexit
export LC_ALL=C
trap 'echo "FAILED in line $LINENO of the script (prelude included): $BASH_COMMAND"' ERR
PATH=$PATH:/mnt/share
m=/mnt/m
mkdir -p $m

say() { echo "--- after $SECONDS s: $*"; }
die() { echo "FAILED: $*"; exit 1; }

# within SECONDS COMMAND...: the command succeeds by then.
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || die "not in time: $*"
        sleep 0.1
    done
}

# same WHAT IS WANTED
same() { [ "$2" = "$3" ] || die "$1 is \"$2\", not \"$3\""; }

# ram COUNT MIB: RAM disks /dev/ram0, ...; any block size, no time.
ram() { modprobe brd rd_nr="$1" rd_size=$(($2 * 1024)); udevadm settle; }

# volume NAME BACKING CACHE [OPTION WORDS]: by dmsetup, as scripts for dm-writeboost do it.
volume() {
    local name=$1 backing=$2 cache=$3
    shift 3
    dmsetup create "$name" --table "0 $(sectors "$backing") writeboost $backing $cache${*:+ $# $*}"
    [ -b "/dev/mapper/$name" ] || die "/dev/mapper/$name has not appeared"
}

# faulty NAME DEVICE: /dev/mapper/NAME is DEVICE, until it is told to fail: tests/targets/dm-fault.c. For
# tests that are `failing`.
faulty() {
    [ -d /sys/module/dm_fault ] || insmod /mnt/share/dm-fault.ko
    dmsetup create "$1" --table "0 $(sectors "$2") fault $2 0"
}
# faults NAME STATUS OPERATION [FIRST SECTORS]: these sectors of it fail from now on, all if nothing is said.
faults() { dmsetup message "$1" 0 fail "$2" "$3" "${4:-0}" "${5:-$(sectors "/dev/mapper/$1")}"; }
mended() { dmsetup message "$1" 0 mend; }

# becomes NAME TABLE: the lines of the table are divided by \n. --noflush, so that I/O that is under way fails
# and is not waited for.
becomes() {
    dmsetup suspend --noflush --nolockfs "$1"
    printf '%b\n' "$2" | dmsetup reload "$1"
    dmsetup resume "$1"
}

# field NAME NUMBER: a word of the status, counted from 1 behind the target's name.
field() { dmsetup status "$1" | cut -d' ' -f$((3 + $2)); }
dirty() { field "$1" 7; }
# value NAME KEY: of an option, or of a word of ours; state, fault and uuid in words, as messages answer.
value() {
    local words
    case $2 in
        state) dmsetup message "$1" 0 health | cut -d' ' -f1; return ;;
        fault) dmsetup message "$1" 0 health | cut -d' ' -f2; return ;;
        uuid) dmsetup message "$1" 0 uuid; return ;;
    esac
    words=" $(dmsetup status "$1") "
    [[ $words == *" $2 "* ]] || return 1
    words=${words##*" $2 "}
    echo "${words%% *}"
}
# has NAME KEY VALUE: the status says so.
has() { [ "$(value "$1" "$2")" = "$3" ]; }
drain() { dmsetup message "$1" 0 drop_caches; }

# healthy NAME: nothing has failed.
healthy() {
    local status word
    status="$(dmsetup status "$1") "
    for word in 'state 0' 'read_errors 0' 'writeback_errors 0'; do
        [[ $status == *" $word "* ]] || die "$1 has not $word: $status"
    done
}

# verify DEVICE WORDS...: fio writes and reads back, comparing. Of two writes to the same sectors that are
# under way together either may be the later one: io_uring hands one on to a thread and the next not. So fio
# sends no such writes.
verify() {
    local device=$1
    shift
    [ -b "$device" ] || die "$device is no block device"
    # --eta=never: there is no terminal. The report is only wanted when fio fails.
    if ! fio --name=verify --filename="$device" --direct=1 --verify=crc32c --verify_fatal=1 --eta=never \
        --serialize_overlap=1 --group_reporting --randrepeat=1 --randseed="$SEED" "$@" >/tmp/fio.$$ 2>&1; then
        cat /tmp/fio.$$
        die "fio $*"
    fi
}

# digest DEVICE: of all that is on it.
digest() { dd if="$1" bs=1M iflag=direct status=none | b2sum | cut -d' ' -f1; }

# differing FILE FILE: the numbers of the blocks in which they differ.
differing() { { cmp -l "$1" "$2" || true; } | awk '{ print int(($1 - 1) / 4096) }' | sort -nu; }

# equal DEVICE DEVICE: both have the same content, read from the devices themselves.
equal() { same "content of $1" "$(digest "$1")" "$(digest "$2")"; }

# drained NAME BACKING: drains, and checks that the backing device alone has it all.
drained() {
    drain "$1"
    same "dirty blocks of $1 after a drain" "$(dirty "$1")" 0
    equal "/dev/mapper/$1" "$2"
}

# finish NAME BACKING CACHE: how a volume ends: all of it is on the backing device, and nothing is left to
# replay.
finish() {
    healthy "$1"
    drained "$1" "$2"
    local before
    before=$(digest "$2")
    remove "$1"
    volume "$1" "$2" "$3"
    same "dirty blocks of $1 after a drain and a resume" "$(dirty "$1")" 0
    same "content of $1 after a drain and a resume" "$(digest "/dev/mapper/$1")" "$before"
    healthy "$1"
    remove "$1"
    same "content of $2 after a drain and a resume" "$(digest "$2")" "$before"
}

# refused CODE WORDS -- COMMAND...: the command ends with CODE (or any failure, for "+") and says WORDS.
refused() {
    local code=$1 words=$2 status=0
    [ "$3" = -- ] || die "refused wants -- third"
    shift 3
    "$@" >/tmp/said 2>&1 || status=$?
    if [ "$code" = + ]; then
        [ $status != 0 ] || die "$* succeeded"
    else
        same "status of $*" $status "$code"
    fi
    grep -qF -- "$words" /tmp/said || die "$* does not say \"$words\" but: $(cat /tmp/said)"
}

# logged WORDS: the kernel has said so. Not with -q, which ends dmesg by a signal, and pipefail makes that a
# failure.
logged() { dmesg | grep -F -- "$1" >/dev/null; }

# logs WORDS -- COMMAND...: the command fails, and meanwhile the kernel logs WORDS.
logs() {
    local words=$1
    [ "$2" = -- ] || die "logs wants -- second"
    shift 2
    dmesg --clear
    ! "$@" >/tmp/said 2>&1 || die "$* succeeded"
    logged "$words" || die "$*: the kernel does not say \"$words\" but: $(dmesg)"
}
