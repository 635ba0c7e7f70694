# shellcheck shell=bash
# With sync_data_interval a write gets to the cache device without a flush, on a volume that is in use.

ram 2 16
# Without a flush, and without the volume being idle, a write gets to the cache device.
volume v /dev/ram0 /dev/ram1 sync_data_interval 1
dd if=/dev/zero of=/dev/mapper/v bs=4k count=1 oflag=direct status=none
for _ in $(seq 50); do
    # Reads keep it from being idle.
    dd if=/dev/mapper/v of=/dev/null bs=4k skip=100 count=1 iflag=direct status=none
    [ "$(field v 5)" -lt 1 ] || break
    sleep 0.1
done
[ "$(field v 5)" -ge 1 ] || die "not after 5 seconds: $(dmsetup status v)"
remove v
