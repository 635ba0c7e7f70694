# shellcheck shell=bash
# The module says what it is, can be loaded and removed, and is loaded by dmsetup and wbctl.

modinfo dm-writeboost | tee /tmp/info
grep -q '^license: *GPL' /tmp/info
for field in author description; do grep -q "^$field: *[A-Za-z]" /tmp/info; done
for _ in 1 2 3; do
    modprobe dm-writeboost
    dmsetup targets | grep '^writeboost *v'
    rmmod dm_writeboost
    ! dmsetup targets | grep '^writeboost' || die 'the target is still there'
done
say 'dmsetup create loads it'
ram 2 16
volume v /dev/ram0 /dev/ram1
grep -q '^dm_writeboost' /proc/modules
refused + 'in use' -- rmmod dm_writeboost
remove v
rmmod dm_writeboost
say 'wbctl create loads it'
wbctl create v /dev/ram0 /dev/ram1
wbctl remove v
rmmod dm_writeboost
! grep '^dm_writeboost' /proc/modules || die 'it is still there'
