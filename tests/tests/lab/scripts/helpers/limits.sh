# shellcheck shell=bash
# Functions of the tests of limits.

# queue DEVICE ATTRIBUTE [VALUE]: of its request queue; sets it if there is a value.
queue() {
    local file
    file=/sys/block/$(basename "$(readlink -f "$1")")/$2
    if [ $# = 3 ]; then echo "$3" >"$file"; else cat "$file"; fi
}
# shows DEVICE ATTRIBUTE VALUE
shows() { same "$2 of $1" "$(queue "$1" "$2")" "$3"; }

modprobe dm-writeboost
