# shellcheck shell=bash
# One life of a file system between two power cuts: all files that were fsync'd are there, and fsck finds
# nothing to repair.
# From the host: FIRST, LAST; DURABLE, the number of files that were; COUNT, how many to write.

wbctl create v /dev/lab/disk0 /dev/lab/disk1
if [ "$FIRST" = true ]; then
    mkfs.ext4 -q /dev/mapper/v
    mount /dev/mapper/v "$m"
else
    # The journal is replayed first, as after any power cut; then there must be nothing to do.
    e2fsck -p /dev/mapper/v || [ $? = 1 ]
    e2fsck -fn /dev/mapper/v
    mount /dev/mapper/v "$m"
    wbtest files-check "$m" --seed "$SEED" --last "$DURABLE"
fi
if [ "$LAST" = true ]; then
    umount "$m"
    finish v /dev/lab/disk0 /dev/lab/disk1
    e2fsck -fn /dev/lab/disk0
    exit
fi
rm -rf "$m/load"
echo READY
# Beside the files that count there is a load that the test does not wait for.
(while :; do cp -r /usr/include/linux "$m/load"; rm -r "$m/load"; done) 2>/dev/null &
wbtest files-write "$m" --seed "$SEED" --from $((DURABLE + 1)) --count "$COUNT"
sleep infinity
