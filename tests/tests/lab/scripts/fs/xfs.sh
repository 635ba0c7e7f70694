# shellcheck shell=bash
# XFS on a volume: files are what they were, xfs_repair finds nothing, and after a drain the backing device
# alone has it all.

null b 400
null c 64
volume v /dev/b /dev/c
mkfs.xfs -q -f /dev/mapper/v
mount /dev/mapper/v "$m"
cp -a /usr/include "$m/first"
sync
cp -a "$m/first" "$m/second"
umount "$m"
xfs_repair -n /dev/mapper/v
mount /dev/mapper/v "$m"
diff -r --no-dereference /usr/include "$m/first"
diff -r --no-dereference "$m/first" "$m/second"
umount "$m"
finish v /dev/b /dev/c
say the backing device alone
xfs_repair -n /dev/b
mount -o ro /dev/b "$m"
diff -r --no-dereference /usr/include "$m/first"
umount "$m"
