# shellcheck shell=bash
# A file system in use: what was fsync'd is there, and after the journal was replayed there is nothing to
# repair. The file in front says how it is made, replayed by hand and checked. From the host: POINTS.

trees() {
    quietly wbtest tree-check "$m" --seed "$SEED" --durable \
        "${writer0:-0}","${writer1:-0}","${writer2:-0}","${writer3:-0}"
}
check() {
    open
    # The journal is replayed, as after any power cut, and then there is nothing to repair.
    if alone; then replay_by_hand; fi
    mount /dev/mapper/w "$m"
    trees
    umount "$m"
    clean /dev/mapper/w
    if alone; then drain w; fi
    healthy w
    close
    if alone; then
        clean /dev/pb
        mount -o ro /dev/pb "$m"
        trees
        umount "$m"
    fi
}
disks 72 14
volume v /dev/b /dev/c
make /dev/mapper/v
remove v
begin
volume v /dev/mapper/rb /dev/mapper/rc
mount /dev/mapper/v "$m"
# Beside the files that count, a load that the test does not wait for.
(while [ ! -e /tmp/stop ]; do cp -r /usr/include/linux/netfilter "$m/load"; rm -r "$m/load"; done) &
load=$!
wbtest tree-write "$m" --seed "$SEED" --writers 4 --seconds 6 --record /dev/dm-record
touch /tmp/stop
wait $load
umount "$m"
healthy v
remove v
end 1
