# shellcheck shell=bash
# A file system is frozen, thawed and grown full while the volume is suspended and resumed below it.

ram 1 96
null c 16
volume v /dev/ram0 /dev/c
mkfs.ext4 -q /dev/mapper/v
mount /dev/mapper/v "$m"
(while [ ! -e /tmp/stop ]; do dmsetup suspend v; dmsetup resume v; sleep 0.05; done) &
suspender=$!
for _ in 1 2 3; do
    ! dd if=/dev/urandom of="$m/full" bs=64k status=none 2>/tmp/said || die 'the filesystem never fills'
    grep -q 'No space left' /tmp/said || die "$(cat /tmp/said)"
    rm "$m/full"
done
wbtest files-write "$m" --seed "$SEED" --count 300 >/tmp/said
same 'last file' "$(tail -n1 /tmp/said)" 'durable 300'
touch /tmp/stop
wait $suspender
umount "$m"
e2fsck -fn /dev/mapper/v
mount /dev/mapper/v "$m"
wbtest files-check "$m" --seed "$SEED" --last 300
umount "$m"
finish v /dev/ram0 /dev/c
