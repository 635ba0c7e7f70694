# shellcheck shell=bash
# In a table of several targets, addresses count from where the target begins.

ram 2 48
n=$(sectors /dev/ram0)
printf '0 2048 zero\n2048 %d writeboost /dev/ram0 /dev/ram1\n%d 2048 zero\n' "$n" $((2048 + n)) |
    dmsetup create v
verify /dev/mapper/v --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=512-64k --blockalign=512 \
    --offset=1m --size=48m --verify_backlog=64
# Across the borders.
dd if=/dev/zero of=/dev/mapper/v bs=2M count=25 oflag=direct status=none
wbtest history-write /dev/mapper/v --seed "$SEED" --first 2048 --sectors "$n" --last 500
same 'last write' \
    "$(wbtest history-check /dev/mapper/v --seed "$SEED" --first 2048 --sectors "$n" --reads 500)" \
    'prefix 500'
dmsetup message v 2048 drop_caches
same 'last write on the backing device' "$(wbtest history-check /dev/ram0 --seed "$SEED")" 'prefix 500'
remove v
