# shellcheck shell=bash
# Devices that device-mapper itself would refuse later, and others.

for formatted in no yes; do
    [ $formatted = no ] || { volume v /dev/b /dev/c; remove v; }
    say 'a read-only table'
    # shellcheck disable=SC2034 # For no_table.
    how=(-r)
    no_table 'may not be included in a read-only table' 0 "$n" writeboost /dev/b /dev/c
    # shellcheck disable=SC2034
    how=()
    say 'read-only devices'
    blockdev --setro /dev/b
    no_table 'The backing device is read-only' 0 "$n" writeboost /dev/b /dev/c
    no_volume 6 'read-only' /dev/b /dev/c
    blockdev --setrw /dev/b
    blockdev --setro /dev/c
    no_table 'The cache device is read-only' 0 "$n" writeboost /dev/b /dev/c
    no_volume 6 'read-only' /dev/b /dev/c
    blockdev --setrw /dev/c
    dmsetup create -r ro --table "0 $n linear /dev/b 0"
    no_table 'The backing device is read-only' 0 "$n" writeboost /dev/mapper/ro /dev/c
    remove ro
    dmsetup create -r ro --table "0 $(sectors /dev/c) linear /dev/c 0"
    no_table 'The cache device is read-only' 0 "$n" writeboost /dev/b /dev/mapper/ro
    remove ro
done
wipe
say 'sectors that are no whole blocks'
truncate -s $((20000 * 512 + 512)) /tmp/file
loop=$(losetup --find --show --sector-size 4096 /tmp/file)
if [ $(($(sectors "$loop") % 8)) != 0 ]; then
    no_table 'no multiple of its logical blocks' 0 "$(sectors "$loop")" writeboost "$loop" /dev/c
    no_volume 6 'not whole logical blocks' "$loop" /dev/c
else
    die "$loop has $(sectors "$loop") sectors"
fi
losetup -d "$loop"
