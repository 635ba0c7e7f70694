# shellcheck shell=bash
# A cache device that holds something other than writeboost's superblock.

alien() { # WORDS-OF-WBCTL
    no_table 'neither blank nor formatted' 0 "$n" writeboost /dev/b /dev/c
    no_volume 4 "$1" /dev/b /dev/c
    wipe
}
say 'random bytes'
for _ in 1 2 3 4; do
    dd if=/dev/urandom of=/dev/c bs=1M count=1 oflag=direct status=none
    alien 'not recognised'
done
say 'one bit in the first sector'
poke /dev/c 511 '\x01'
alien 'not blank'
say 'other formats'
poke /dev/c 0 'LUKS\xba\xbe\x00\x01'
no_table 'neither blank nor formatted' 0 "$n" writeboost /dev/b /dev/c
no_volume + '' /dev/b /dev/c
wipe
null x 400
mkfs.xfs -q -f /dev/x
dd if=/dev/x of=/dev/c bs=1M count=1 oflag=direct status=none
alien 'xfs'
# A partition table with one partition.
poke /dev/c 446 '\x80\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00'
poke /dev/c 510 '\x55\xaa'
alien ''
# Blank in its first sector, in front of the superblock.
mkfs.ext4 -q /dev/c
alien ext4
say 'the C driver of dm-writeboost'
poke /dev/c 0 'B00W'
alien ''
