# shellcheck shell=bash
# XFS on a volume: files are what they were, xfs_repair finds nothing, and after a drain the backing device
# alone has it all.

null b 400
null c 64
volume v /dev/b /dev/c
mkfs.xfs -q -f /dev/mapper/v
keeps_trees /dev/b /dev/c xfs_repair -n
