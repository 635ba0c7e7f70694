# shellcheck shell=bash
# Functions and files of the tests of devices that fail.

modprobe dm-flakey
over() { dmsetup create "$1" --table "0 $(sectors "$2") linear $2 0"; }
breaks() { becomes "$1" "0 $(sectors "$2") error"; }
mends() { becomes "$1" "0 $(sectors "$2") linear $2 0"; }
flaky() {
    local name=$1 device=$2
    shift 2
    becomes "$name" "0 $(sectors "$device") flakey $device 0 0 3600 $# $*"
}
fails() {
    ! "$@" 2>/tmp/said || die "$* succeeded"
    grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
}
# failing_cache MIB: /dev/ram0 is to be the backing device, and /dev/mapper/c, of so many MiB, one that can be
# told to fail.
failing_cache() { ram 1 64; null x "$1"; faulty c /dev/x; }
# Needs room, and gets it or has waited for it.
presses() {
    timeout 30 dd if=/dev/urandom of=/dev/mapper/v bs=64k seek=400 count=16 oflag=direct conv=notrunc \
        status=none 2>/dev/null || true
}
put() { dd if="$1" of=/dev/mapper/v bs=4k seek="$2" oflag=direct conv=notrunc status=none; }
get() {
    dd if=/dev/mapper/v bs=4k skip="$2" count="${3:-$(($(stat -c %s "$1") / 4096))}" iflag=direct status=none
}
# Nothing that was written before is in RAM any more. Writing much does not do: the buffer of the newest
# segment is used again first, so those of older ones stay for as long as the device keeps up.
forget() { local table; table=$(dmsetup table v); remove v; dmsetup create v --table "$table"; }
events() { dmsetup info -c --noheadings -o events "$1"; }
# until SECONDS COMMAND...
until_true() {
    local n=$(($1 * 10))
    shift
    while ! "$@"; do
        n=$((n - 1))
        [ $n -gt 0 ] || die "never: $*"
        sleep 0.1
    done
}
is() { [ "$(value v "$1")" = "$2" ]; }
is_dirty() { [ "$(dirty v)" = "$1" ]; }
is_more_dirty() { [ "$(dirty v)" -gt "$1" ]; }
# Where block 5 of /tmp/a lies on /dev/x: a sector.
sector_of_block_5() {
    dd if=/dev/x of=/tmp/image bs=1M count=4 iflag=direct status=none
    local places
    places=$(python3 /mnt/share/places.py /tmp/a "$SEED" 5)
    echo $((${places% *} * 8))
}
# One bit of each of these blocks of a file, where they lie on a device; past the page cache.
flip_blocks() { # DEVICE FILE BLOCK...
    dd if="$1" of=/tmp/image bs=1M iflag=direct status=none
    python3 /mnt/share/places.py "$2" "$SEED" "${@:3}" >/tmp/places
    while read -r place bit; do flip_bit "$1" "$place" "$bit"; done </tmp/places
}
# One bit of a block of a device, past the page cache.
flip_bit() { # DEVICE BLOCK BIT
    dd if="$1" of=/tmp/bits bs=4k skip="$2" count=1 iflag=direct status=none
    local byte
    byte=$(od -An -tu1 -j$(($3 / 8)) -N1 /tmp/bits)
    printf '%b' "\\x$(printf %02x $((byte ^ (1 << $3 % 8))))" |
        dd of=/tmp/bits bs=1 seek=$(($3 / 8)) conv=notrunc status=none
    dd if=/tmp/bits of="$1" bs=4k seek="$2" count=1 oflag=direct conv=notrunc status=none
}
head -c 2M /dev/urandom >/tmp/a
head -c 2M /dev/urandom >/tmp/z
