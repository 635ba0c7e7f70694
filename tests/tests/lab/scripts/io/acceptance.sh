# shellcheck shell=bash
# The purpose of the cache: fsync'd random writes on a hard disk, alone and with it.

hdd b 512 5
ram 1 256
# RAM disks allocate what is written first, which would be measured.
dd if=/dev/zero of=/dev/ram0 bs=1M status=none oflag=direct 2>/dev/null || true
rate() { # DEVICE SECONDS
    fio --name=rate --filename="$1" --direct=1 --ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=128m \
        --time_based --runtime="$2" --randseed="$SEED" --output-format=terse --terse-version=3 |
        cut -d';' -f49
}
alone=$(rate /dev/b 5)
volume v /dev/b /dev/ram0
cached=$(rate /dev/mapper/v 60)
echo "REPORT fsync'd random 4 KiB writes per second: $alone on the hard disk model alone," \
    "$cached with the cache:" "$((cached / alone)) times as many"
healthy v
# Kernels for races and for debugging are slow themselves.
[ "$FAST" = false ] || [ "$cached" -gt $((20 * alone)) ] || die 'less than 20 times as many'
remove v
