# shellcheck shell=bash
# Devices and functions of the tests of devices that fail.

# /dev/mapper/b and /dev/mapper/c lie over these disks, and can be broken.
ram 1 48
null x 17
for d in b:/dev/ram0 c:/dev/x; do
    dmsetup create ${d%:*} --table "0 $(sectors ${d#*:}) linear ${d#*:} 0"
done
# becomes NAME TABLE: --noflush, so that what is under way fails and is not waited for.
becomes() {
    dmsetup suspend --noflush --nolockfs "$1"
    dmsetup reload "$1" --table "$2"
    dmsetup resume "$1"
}
breaks() { becomes "$1" "0 $(sectors "$2") error"; }
mends() { becomes "$1" "0 $(sectors "$2") linear $2 0"; }
fails() {
    ! "$@" 2>/tmp/said || die "$* succeeded"
    grep -q 'Input/output error' /tmp/said || die "$(cat /tmp/said)"
}
put() { dd if="$1" of=/dev/mapper/v bs=4k seek="$2" oflag=direct conv=notrunc status=none; }
get() { dd if=/dev/mapper/v bs=4k skip="$2" count=$(($(stat -c %s "$1") / 4096)) iflag=direct status=none; }
# rots WORDS: the block of the cache device that begins with them becomes zeroes.
rots() {
    local at
    at=$(grep -abo -m1 "$1" /dev/x | awk -F: 'NR == 1 { print $1 }')
    same 'place within its block' $((at % 4096)) 0
    head -c 4096 /dev/zero | dd of=/dev/x bs=4k seek=$((at / 4096)) oflag=direct conv=notrunc status=none
}
head -c 2M /dev/urandom >/tmp/a
head -c 2M /dev/urandom >/tmp/z
