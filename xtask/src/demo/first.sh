# shellcheck shell=bash
# The first boot: the slow device alone, then with a cache before it, then writing until the power is cut.
set -euo pipefail
# shellcheck source=devices.sh
. /mnt/share/devices.sh

say "setting up a hard disk (512 MiB: one request at a time, 5 ms each) and an SSD (512 MiB)"
hard_disk
mkdir -p /dev/shm/tree /mnt/slow /mnt/perflv
# Real files, taken from the guest's own Debian, in RAM so that reading them costs nothing.
# `|| true`: find is told to stop when head has enough.
{ find /usr/src/ /usr/share/ /usr/include/ -xdev -type f -size -128k 2>/dev/null || true; } |
    head -n 5400 >/dev/shm/list
(cd / && tar cf - --files-from=/dev/shm/list 2>/dev/null) | tar xf - -C /dev/shm/tree

say "the hard disk alone: ext4 on it, 120 files copied, each tenth fsync'd"
mkfs.ext4 -q -F /dev/mapper/hdd
mount /dev/mapper/hdd /mnt/slow
python3 /mnt/share/copy.py /dev/shm/tree /mnt/slow 120 | sed -n 's/^copied/SLOW/p'
echo "SLOWSYNC $(fsyncs /mnt/slow/fsync)"
umount /mnt/slow
wipefs -q -a /dev/mapper/hdd

say "wbctl create perflv /dev/mapper/hdd /dev/lab/disk1"
wbctl create perflv /dev/mapper/hdd /dev/lab/disk1
mkfs.ext4 -q -F /dev/mapper/perflv
mount /dev/mapper/perflv /mnt/perflv

files=$(find /dev/shm/tree -type f | wc -l)
say "the same with the cache: ext4 on /dev/mapper/perflv, $files files copied, each tenth fsync'd"
python3 /mnt/share/copy.py /dev/shm/tree /mnt/perflv/first 5400 /mnt/share/first | sed -n 's/^copied/FAST/p'
echo "FASTSYNC $(fsyncs /mnt/perflv/fsync)"
sync -f /mnt/share
wbctl status perflv

say "copying once more; the power will be cut in the middle of it"
exec python3 /mnt/share/copy.py /dev/shm/tree /mnt/perflv/second 5400
