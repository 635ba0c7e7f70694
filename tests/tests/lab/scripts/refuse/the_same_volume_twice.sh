# shellcheck shell=bash
# A second volume of a UUID: by another path to its cache device, and by a copy of that.

null b2 32
null d 16
other() { # PATH [WORDS]: another one to a cache device that is in use, or a copy of it; what wbctl says of it
    # Or the volume writes when it likes.
    dmsetup suspend v
    no_table 'A volume with this UUID is active already' 0 "$n" writeboost /dev/b2 "$1"
    dmesg | grep -F "volume $(value v uuid) is active already"
    grep -F 'File exists' /tmp/said
    no_volume + "${2:-active already}" /dev/b2 "$1" --force --force
    dmsetup resume v
    same 'the second backing device' "$(digest /dev/b2)" "$blank"
}
blank=$(digest /dev/b2)
dmsetup create path --table "0 $(sectors /dev/c) linear /dev/c 0"
for made in dmsetup before; do
    say "a volume that was formatted by $made"
    volume v /dev/b /dev/c writeback_threshold 0
    dd if=/dev/urandom of=/dev/mapper/v bs=1M count=1 oflag=direct conv=notrunc,fsync status=none
    say 'by another path'
    other /dev/mapper/path
    say 'a copy'
    dd if=/dev/c of=/dev/d bs=1M iflag=direct oflag=direct status=none
    other /dev/d
    remove v
done
say 'either may be used, but not both'
volume v /dev/b /dev/d writeback_threshold 0
# The linear device has it.
other /dev/c 'in use: part of device-mapper device path'
finish v /dev/b /dev/d
volume v /dev/b /dev/mapper/path writeback_threshold 0
other /dev/c 'in use: part of device-mapper device path'
finish v /dev/b /dev/mapper/path
remove path
say 'two paths to a blank device, at the same time'
wipe
dmsetup create slow --table "0 $(sectors /dev/c) delay /dev/c 0 100"
for i in 1 2; do dmsetup create p$i --table "0 $(sectors /dev/c) linear /dev/mapper/slow 0"; done
dmsetup create v1 --table "0 $n writeboost /dev/b /dev/mapper/p1" & one=$!
dmsetup create v2 --table "0 $n writeboost /dev/b2 /dev/mapper/p2" & two=$!
made=0
! wait $one || made=$((made + 1))
! wait $two || made=$((made + 1))
same 'number of volumes' $made 1
logged 'is active already'
