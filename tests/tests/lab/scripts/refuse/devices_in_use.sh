# shellcheck shell=bash
# Devices that are mounted, or part of another volume.

null b2 32
null c2 16
no_table 'are the same' 0 "$(sectors /dev/c)" writeboost /dev/c /dev/c
# Read-only, or the file system itself changes its device, sooner or later.
mkfs.ext4 -q /dev/b
mount -o ro /dev/b "$m"
no_table 'Cannot open the backing device' 0 "$n" writeboost /dev/b /dev/c
no_volume 3 'mounted at /mnt/m' /dev/b /dev/c
umount "$m"
mkfs.ext4 -q /dev/c
mount -o ro /dev/c "$m"
no_table 'Cannot open the cache device' 0 "$n" writeboost /dev/b /dev/c
no_volume 3 'mounted at /mnt/m' /dev/b /dev/c
umount "$m"
wipe
volume v /dev/b /dev/c
verify /dev/mapper/v --ioengine=psync --rw=write --bs=4k --size=1m
# Then the volume is quiet: devices are unchanged because the table was refused.
drain v
no_table 'in use by another writeboost volume' 0 "$n" writeboost /dev/b /dev/c
no_table 'in use by another writeboost volume' 0 "$n" writeboost /dev/b2 /dev/c
no_table 'in use by another writeboost volume' 0 "$n" writeboost /dev/b /dev/c2
no_volume 3 'device-mapper device v' /dev/b2 /dev/c
no_volume 3 'device-mapper device v' /dev/b /dev/c2
refused 9 'active already' -- wbctl create v /dev/b2 /dev/c2
same 'second cache device' "$(digest /dev/c2)" "$(head -c 16M /dev/zero | b2sum | cut -d' ' -f1)"
say 'a volume on a volume is fine, and each is in use then'
volume w /dev/mapper/v /dev/c2
no_table 'in use by another writeboost volume' 0 "$n" writeboost /dev/mapper/v /dev/b2
refused 3 'in use' -- wbctl remove v
verify /dev/mapper/w --ioengine=psync --rw=randwrite --bs=4k --size=8m
finish w /dev/mapper/v /dev/c2
finish v /dev/b /dev/c
