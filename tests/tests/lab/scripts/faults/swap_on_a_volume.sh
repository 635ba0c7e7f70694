# shellcheck shell=bash
# Memory runs short while what could make room for it has to go through the volume: swap on a file of a file
# system there.

wbctl create v /dev/lab/disk0 /dev/lab/disk1
mkfs.ext4 -q /dev/mapper/v
mount /dev/mapper/v "$m"
dd if=/dev/zero of="$m/swap" bs=1M count=280 status=none
chmod 600 "$m/swap"
mkswap -q "$m/swap"
swapon "$m/swap"
grep -E 'MemTotal|MemAvailable|SwapTotal' /proc/meminfo
fio --name=load --directory="$m" --rw=randrw --bs=4k --size=15m --ioengine=psync --numjobs=2 --fsync=32 \
    --eta=never --time_based --runtime=10 >/tmp/fio 2>&1 &
fio=$!
say 'more memory than there is'
# A kernel that finds bugs has less memory left and needs more time: there, two and a half times what is left.
$FAST && hog=200 || hog=140
timeout 1200 wbtest hog "$hog" --passes 1
wait $fio || { cat /tmp/fio; die fio; }
pages() { awk "/$1/ { print \$2 }" /proc/vmstat; }
echo "REPORT $(pages pswpout) pages were swapped out, $(pages pswpin) in"
[ "$(pages pswpout)" -gt 10000 ] || die 'this tests nothing'
swapoff "$m/swap"
umount "$m"
e2fsck -fn /dev/mapper/v >/dev/null
finish v /dev/lab/disk0 /dev/lab/disk1
