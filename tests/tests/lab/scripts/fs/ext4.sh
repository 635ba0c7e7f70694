# shellcheck shell=bash
# ext4 on a volume: files are what they were, fsck finds nothing, and after a drain the backing device alone
# has it all.

ram 2 256
volume v /dev/ram0 /dev/ram1
mkfs.ext4 -q /dev/mapper/v
keeps_trees /dev/ram0 /dev/ram1 e2fsck -fn
