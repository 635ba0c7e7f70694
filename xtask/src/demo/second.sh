# shellcheck shell=bash
# The second boot: resume, check, drain, remove, and check the backing device alone.
set -euo pipefail
# shellcheck source=devices.sh
. /mnt/share/devices.sh

check() { # MANIFEST...
    local list
    for list in "$@"; do
        (cd / && sha256sum --quiet -c "/mnt/share/$list.sha256")
        echo "CHECKED $list $(wc -l <"/mnt/share/$list.sha256")"
    done
}

say "the power is back: the same two devices"
hard_disk
mkdir -p /mnt/perflv
say "wbctl create perflv /dev/mapper/hdd /dev/lab/disk1 (it finds its log and resumes)"
wbctl create perflv /dev/mapper/hdd /dev/lab/disk1
wbctl status perflv

say "checking the filesystem"
# ext4 replays its journal, as after any power cut; then nothing may be left to repair.
e2fsck -p /dev/mapper/perflv || [ $? -le 1 ]
e2fsck -fn /dev/mapper/perflv
mount /dev/mapper/perflv /mnt/perflv
say "comparing all files that were fsync'd before the power was cut, by SHA-256"
check first-fsynced second
umount /mnt/perflv

say "wbctl drain perflv (writes back what is dirty), wbctl remove perflv"
wbctl drain perflv 2>&1 | cat
wbctl remove perflv

say "mounting the hard disk alone, without any cache, and comparing all files"
# By its file, which is the same and does not take 5 ms for each request.
dmsetup remove hdd
e2fsck -fn /dev/lab/disk0
# Where the manifest says the files are.
mount -o ro /dev/lab/disk0 /mnt/perflv
check first second
umount /mnt/perflv
