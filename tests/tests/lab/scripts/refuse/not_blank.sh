# shellcheck shell=bash
# A cache device whose first sector is blank but not the rest: many formats leave it so.

# other SECTOR: what is on the cache device begins there.
other() {
    same 'first sector' "$(dd if=/dev/c bs=512 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" 0
    no_table 'The cache device is neither blank nor formatted for writeboost' 0 "$n" writeboost /dev/b /dev/c
    dmesg | grep -F "has something in its sector $1 that is not of writeboost" || die "$1 is not named"
    for advice in 'exchanged?' 'wbformat --force' 'zero its first 1048576 bytes'; do
        dmesg | grep -F -- "$advice" >/dev/null || die "the kernel does not say $advice"
    done
    no_volume 4 '' /dev/b /dev/c
    wipe
}
say 'file systems, swap, LVM'
mkfs.ext4 -q /dev/c
other 2
mkfs.ext4 -q /dev/b
say 'the two devices exchanged'
no_table 'neither blank nor formatted' 0 "$(sectors /dev/c)" writeboost /dev/c /dev/b
e2fsck -fn /dev/b
mkswap -q /dev/c
other 2
poke /dev/c 512 'LABELONE'
other 1
poke /dev/c $((65536 + 64)) '_BHRfS_M'
other 128
say 'anything, to the last byte of the first MiB'
for byte in 513 4095 4096 9000 524288 1048575; do
    poke /dev/c $byte '\x01'
    other $((byte / 512))
done
say 'a sector that cannot be read may be anything'
for sector in 0 1 1000 2047; do
    over=$((sector + 1))
    before=$([ $sector = 0 ] || echo "0 $sector linear /dev/c 0")
    printf '%s\n' "$before" "$sector 1 error" "$over $((32768 - over)) linear /dev/c $over" | sed '/^$/d' |
        dmsetup create holey
    no_table 'Cannot read the cache device' 0 "$n" writeboost /dev/b /dev/mapper/holey
    no_volume + '' /dev/b /dev/mapper/holey
    remove holey
done
say 'what is behind it is room for the log'
poke /dev/c 1048576 '\x01'
volume v /dev/b /dev/c
remove v
