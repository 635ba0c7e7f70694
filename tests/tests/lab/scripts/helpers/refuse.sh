# shellcheck shell=bash
# Devices and functions of the tests of refusals.

# Of both devices. Starting a process is what takes long in a guest.
digests() {
    { dd if=/dev/b bs=1M iflag=direct status=none; dd if=/dev/c bs=1M iflag=direct status=none; } | b2sum
}

# no_table WORDS TABLE-WORDS...: dmsetup create fails, the kernel says WORDS, nothing has changed. ${how[@]}
# are more words for it.
how=()
no_table() {
    local words=$1 before
    shift
    before=$(digests)
    logs "device-mapper: table:" -- dmsetup create "${how[@]}" bad --table "$*"
    dmesg | grep -F writeboost | grep -F -- "$words" >/dev/null ||
        die "$*: the kernel does not say \"$words\" but: $(dmesg)"
    { [ ! -e /dev/mapper/bad ] && ! dmsetup ls | grep -w bad; } || die "a device is left behind"
    same "the devices after $*" "$(digests)" "$before"
    echo "refused: $* ($words)"
}

# no_volume CODE WORDS ARGUMENTS...: wbctl create fails, says WORDS, nothing has changed.
no_volume() {
    local code=$1 words=$2 before
    shift 2
    before=$(digests)
    refused "$code" "$words" -- wbctl create bad "$@"
    [ ! -e /dev/mapper/bad ] || die 'a device is left behind'
    same "the devices after $*" "$(digests)" "$before"
    echo "refused: $* ($words)"
}

# Makes the cache device blank.
wipe() { dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none; }

# Writes the escaped bytes at an offset of a device, past the page cache.
poke() {
    printf '%b' "$3" >/tmp/bytes
    dd if=/tmp/bytes of="$1" bs=1 seek="$2" conv=notrunc,fsync status=none
}

null b 32
null c 16
modprobe dm-writeboost
# shellcheck disable=SC2034 # For the tests.
n=$(sectors /dev/b)
