# shellcheck shell=bash
# Volumes that are not a whole number of 4 KiB blocks.

ram 2 32
for sectors in 65535 65529 65531 9; do
    say "$sectors sectors"
    dmsetup create odd --table "0 $sectors linear /dev/ram0 0"
    dd if=/dev/zero of=/dev/mapper/odd bs=512 count=$sectors status=none conv=fsync
    dd if=/dev/zero of=/dev/ram1 bs=1M status=none oflag=direct 2>/dev/null || true
    volume v /dev/mapper/odd /dev/ram1
    same 'size' "$(sectors /dev/mapper/v)" $sectors
    wbtest history-write /dev/mapper/v --seed "$SEED" --last 500 --every 50
    same 'last write' "$(wbtest history-check /dev/mapper/v --seed "$SEED" --durable 500 --reads 500)" \
        'prefix 500'
    head -c 512 /dev/urandom >/tmp/last
    dd if=/tmp/last of=/dev/mapper/v bs=512 seek=$((sectors - 1)) oflag=direct conv=notrunc status=none
    drain v
    same 'dirty blocks' "$(dirty v)" 0
    remove v
    dd if=/dev/mapper/odd bs=512 skip=$((sectors - 1)) iflag=direct status=none | cmp - /tmp/last
    volume v /dev/mapper/odd /dev/ram1
    dd if=/dev/mapper/v bs=512 skip=$((sectors - 1)) iflag=direct status=none | cmp - /tmp/last
    remove v
    remove odd
done
