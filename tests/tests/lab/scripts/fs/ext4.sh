# shellcheck shell=bash
# ext4 on a volume: files are what they were, fsck finds nothing, and after a drain the backing device alone
# has it all.

ram 2 256
volume v /dev/ram0 /dev/ram1
mkfs.ext4 -q /dev/mapper/v
mount /dev/mapper/v "$m"
cp -a /usr/include "$m/first"
sync
cp -a "$m/first" "$m/second"
rm -r "$m/second/linux"
cp -a "$m/first/linux" "$m/second/linux"
umount "$m"
e2fsck -fn /dev/mapper/v
mount /dev/mapper/v "$m"
diff -r --no-dereference /usr/include "$m/first"
diff -r --no-dereference "$m/first" "$m/second"
umount "$m"
finish v /dev/ram0 /dev/ram1
say the backing device alone
e2fsck -fn /dev/ram0
mount -o ro /dev/ram0 "$m"
diff -r --no-dereference /usr/include "$m/first"
umount "$m"
