//! Filesystems.

use crate::support::{script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "fs::ext4",
        15,
        true,
        r#"
        ram 2 256
        volume v /dev/ram0 /dev/ram1
        mkfs.ext4 -q /dev/mapper/v
        mount /dev/mapper/v $m
        cp -a /usr/include $m/first
        sync
        cp -a $m/first $m/second
        rm -r $m/second/linux
        cp -a $m/first/linux $m/second/linux
        umount $m
        e2fsck -fn /dev/mapper/v
        mount /dev/mapper/v $m
        diff -r --no-dereference /usr/include $m/first
        diff -r --no-dereference $m/first $m/second
        umount $m
        finish v /dev/ram0 /dev/ram1
        say the backing device alone
        e2fsck -fn /dev/ram0
        mount -o ro /dev/ram0 $m
        diff -r --no-dereference /usr/include $m/first
        umount $m
        "#,
    ),
    script(
        "fs::xfs",
        15,
        false,
        r#"
        null b 400
        null c 64
        volume v /dev/b /dev/c
        mkfs.xfs -q -f /dev/mapper/v
        mount /dev/mapper/v $m
        cp -a /usr/include $m/first
        sync
        cp -a $m/first $m/second
        umount $m
        xfs_repair -n /dev/mapper/v
        mount /dev/mapper/v $m
        diff -r --no-dereference /usr/include $m/first
        diff -r --no-dereference $m/first $m/second
        umount $m
        finish v /dev/b /dev/c
        say the backing device alone
        xfs_repair -n /dev/b
        mount -o ro /dev/b $m
        diff -r --no-dereference /usr/include $m/first
        umount $m
        "#,
    ),
    // A filesystem that is frozen, thawed and grown full while the volume is suspended and resumed below it.
    script(
        "fs::full_and_suspended",
        15,
        false,
        r#"
        ram 1 96
        null c 16
        volume v /dev/ram0 /dev/c
        mkfs.ext4 -q /dev/mapper/v
        mount /dev/mapper/v $m
        (while [ ! -e /tmp/stop ]; do dmsetup suspend v; dmsetup resume v; sleep 0.05; done) &
        suspender=$!
        for i in 1 2 3; do
            ! dd if=/dev/urandom of=$m/full bs=64k status=none 2>/tmp/said || die 'the filesystem never fills'
            grep -q 'No space left' /tmp/said || die "$(cat /tmp/said)"
            rm $m/full
        done
        wbtest files-write $m --seed $SEED --count 300 >/tmp/said
        same 'last file' "$(tail -n1 /tmp/said)" 'durable 300'
        touch /tmp/stop
        wait $suspender
        umount $m
        e2fsck -fn /dev/mapper/v
        mount /dev/mapper/v $m
        wbtest files-check $m --seed $SEED --last 300
        umount $m
        finish v /dev/ram0 /dev/c
        "#,
    ),
];
