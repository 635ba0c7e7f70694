# shellcheck shell=bash
# Puts the script /mnt/share/asleep.sh into a room of its own in RAM, with the few programs that it needs,
# and goes on there: virtio's driver for 9p cannot hibernate, so that the guest's root is gone afterwards.
# The host reads what the script prints, and cuts the power at last.

modprobe -a dm-writeboost dm-delay
if [ -e /mnt/share/dm-fault.ko ]; then insmod /mnt/share/dm-fault.ko; fi
room=/tmp/room
mkdir -p $room/dev $room/proc $room/sys $room/tmp $room/bin
for dir in dev proc sys; do mount --rbind /$dir $room/$dir; done
for program in dmsetup wbtest busybox mkswap swapon; do
    path=$(type -P $program)
    # shellcheck disable=SC2046 # The libraries, each a word.
    cp -L --parents "$path" $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*' || true) $room
done
for applet in sh echo cat dd sleep grep; do
    printf '#!/usr/bin/busybox sh\nexec /usr/bin/busybox %s "$@"\n' $applet >$room/bin/$applet
    chmod 755 $room/bin/$applet
done
# From here on no program answers udev.
udevadm control --exit
export DM_DISABLE_UDEV=1 SEED
cp /mnt/share/asleep.sh $room/script
exec chroot $room /usr/bin/busybox sh /script
