# shellcheck shell=bash
# Devices that fail, behind the functions of faults.sh.

# /dev/mapper/b and /dev/mapper/c lie over these disks, and can be broken.
ram 1 48
null x 17
for d in b:/dev/ram0 c:/dev/x; do
    over ${d%:*} ${d#*:}
done
# rots WORDS: the block of the cache device that begins with them becomes zeroes.
rots() {
    local at
    at=$(grep -abo -m1 "$1" /dev/x | awk -F: 'NR == 1 { print $1 }')
    same 'place within its block' $((at % 4096)) 0
    head -c 4096 /dev/zero | dd of=/dev/x bs=4k seek=$((at / 4096)) oflag=direct conv=notrunc status=none
}
