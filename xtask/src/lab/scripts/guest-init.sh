#!/bin/bash
# Process 1 of a guest: makes the machine ready, runs the script, leaves its exit status and turns the machine
# off.
#
# From the kernel's command line: wb_host (hostfs or 9p, how to reach the host), wb_job (where the host keeps
# what belongs to this guest), wb_out and wb_err (the terminals for the script's output). With
# wb_manager=systemd that is process 1 instead, as on a user's machine, and the script is a service of it.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 USER=root

mount -t proc proc /proc
mount -t sysfs sys /sys
umount -l /.lower
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /mnt/share
mount -t devpts -o gid=5,mode=620 pts /dev/pts
for dir in /dev/shm /run /tmp /root; do
    mount -t tmpfs -o mode=1777 tmpfs $dir
done
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
for module in configfs loop virtio_blk; do
    modprobe -q $module # Built into User Mode Linux, which has no virtio disks.
done
mountpoint -q /sys/kernel/config || mount -t configfs config /sys/kernel/config 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
hostname writeboost

from_host() { # WHAT WHERE
    mkdir -p "$2"
    case $wb_host in
    hostfs) mount -t hostfs -o "hostfs=$wb_job/$1" none "$2" ;;
    9p) mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 "$1" "$2" ;;
    esac
}
from_host job /run/lab
# shellcheck source=/dev/null # Assignments.
. /run/lab/settings
[ "$share" = no ] || from_host share /mnt/share

# A real machine has udevd: without it /dev/mapper has no nodes, and with it devices are opened when they
# appear.
find_devices() {
    # Only for what the lab is about: a hundred terminals more would take a second.
    udevadm trigger --type=devices --action=add --subsystem-match=block --subsystem-match=misc
    udevadm settle --timeout=30

    # The disks by number, whatever this kernel calls them.
    mkdir -p /dev/lab
    local n=0 disk
    for disk in $disks; do
        # Without this a script would write to a plain file of that name.
        [ -b "/dev/$disk" ] || echo "BUG: the disk /dev/$disk has not appeared" >/dev/kmsg
        ln -s "../$disk" /dev/lab/disk$n
        n=$((n + 1))
    done
}

run_script() {
    cd /root || exit
    # Held open until the end: a terminal forgets its settings when no process has it open.
    exec 3<>"/dev/$wb_out"
    if [ "$interactive" = yes ]; then
        export TERM="$term"
        stty sane rows "$rows" cols "$columns" <&3
        setsid --ctty --wait bash /run/lab/script <&3 >&3 2>&1 3>&-
    elif [ "$split" = yes ]; then
        exec 4<>"/dev/$wb_err"
        stty raw -echo <&3
        stty raw -echo <&4
        setsid --wait bash /run/lab/script </dev/null >&3 2>&4 3>&- 4>&-
    else
        stty raw -echo <&3
        setsid --wait bash /run/lab/script </dev/null >&3 2>&1 3>&-
    fi
    echo $? >/run/lab/status

    # Only what the host reads: a script may leave suspended devices behind, on which a whole sync would wait
    # for ever.
    sync -f /run/lab
    [ "$share" = no ] || sync -f /mnt/share
    # Closing waits until the output has left.
    exec 3>&- 4>&-
    poweroff -ff
}

if [ "${wb_manager:-}" != systemd ]; then
    /usr/lib/systemd/systemd-udevd --daemon
    find_devices
    run_script
    # Not reached. A process 1 that ends would be a kernel panic.
    sleep infinity
fi

mkdir -p /run/systemd/system
{
    for name in wb_out wb_err share split interactive disks term rows columns; do
        printf '%s=%q\n' $name "${!name}"
    done
    declare -f find_devices run_script
    echo 'find_devices; run_script'
} >/run/lab-script
cat >/run/systemd/system/lab.service <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
Environment=HOME=/root LANG=C.UTF-8 USER=root PATH=$PATH
ExecStart=bash /run/lab-script
UNIT
cat >/run/systemd/system/lab.target <<'UNIT'
[Unit]
Requires=basic.target
Wants=lab.service
AllowIsolate=yes
UNIT
exec /usr/lib/systemd/systemd --unit=lab.target --show-status=no
