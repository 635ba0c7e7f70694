# shellcheck shell=bash
# Devices that are too small, or of another size than when the cache device was formatted.

for blank in yes no; do
    [ $blank = yes ] || { volume v /dev/b /dev/c; remove v; }
    for size in $((n - 8)) $((n + 8)) 8 $((n * 2)); do
        no_table 'The volume must be as large as the backing device' 0 $size writeboost /dev/b /dev/c
    done
done
wipe
for small in 8 2048 $((9 * 2048 - 8)); do
    dmsetup create small --table "0 $small linear /dev/c 0"
    no_table 'too small' 0 "$n" writeboost /dev/b /dev/mapper/small
    no_volume 6 'too small' /dev/b /dev/mapper/small
    remove small
done
dmsetup create enough --table "0 $((9 * 2048)) linear /dev/c 0"
volume v /dev/b /dev/mapper/enough
verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=24m --verify_backlog=100
remove v
remove enough
say 'a cache device that was larger'
wipe
volume v /dev/b /dev/c
remove v
dmsetup create shrunk --table "0 $((15 * 2048)) linear /dev/c 0"
no_table 'smaller than when it was formatted' 0 "$n" writeboost /dev/b /dev/mapper/shrunk
no_volume + '' /dev/b /dev/mapper/shrunk
remove shrunk
say 'a backing device of another size'
for size in $((n - 8)) 8192; do
    dmsetup create other --table "0 $size linear /dev/b 0"
    no_table 'backing device of another size' 0 $size writeboost /dev/mapper/other /dev/c
    no_volume + '' /dev/mapper/other /dev/c
    remove other
done
