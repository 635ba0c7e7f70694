# shellcheck shell=bash
# A damaged superblock, checkpoint or header of a record; the undamaged cache device is then as good as
# before.

volume v /dev/b /dev/c writeback_threshold 0
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=fsync status=none
remove v
# A resume notes how much of the log is durable. Without that, its end could not be told from damage.
volume v /dev/b /dev/c writeback_threshold 0
remove v
dd if=/dev/c of=/tmp/good bs=1M iflag=direct status=none
heal() { dd if=/tmp/good of=/dev/c bs=1M oflag=direct status=none; }
# flip OFFSET BIT: of the cache device.
flip() {
    local byte
    byte=$(dd if=/dev/c bs=1 skip="$1" count=1 status=none | od -An -tu1)
    poke /dev/c "$1" "\\x$(printf %02x $((byte ^ (1 << $2))))"
}
say 'any bit of the superblock'
RANDOM=$((SEED % 32768))
for i in $(seq 12); do
    at=$((RANDOM % 512))
    [ "$i" != 1 ] || at=0
    [ "$i" != 2 ] || at=8
    flip $at $((RANDOM % 8))
    no_table 'refusing the cache device' 0 "$n" writeboost /dev/b /dev/c
    no_volume + '' /dev/b /dev/c
    heal
done
say 'a version to come'
poke /dev/c 8 '\x07'
no_table 'a format that this module does not know' 0 "$n" writeboost /dev/b /dev/c
no_volume + 'version 7' /dev/b /dev/c
heal
say 'both checkpoints'
flip 4116 1
flip 8212 1
no_table 'checkpoints' 0 "$n" writeboost /dev/b /dev/c
no_volume 5 'checkpoint' /dev/b /dev/c
heal
say 'the header of a record that was durable'
dd if=/dev/urandom of=/dev/c bs=4k seek=256 count=1 oflag=direct conv=notrunc status=none
no_table 'The log on the cache device is damaged' 0 "$n" writeboost /dev/b /dev/c
# It is the kernel that reads the log.
no_volume 11 'damaged' /dev/b /dev/c
heal
say 'and all of it is there when nothing is damaged'
wbctl create v /dev/b /dev/c --opt writeback_threshold=0
same 'dirty blocks' "$(dirty v)" 1024
finish v /dev/b /dev/c
