# shellcheck shell=bash
# The cache device in the place of the backing device.

# The young volume of a backing device that begins with nothing: all of it is dirty.
null b2 16
for made in wbctl dmsetup; do
    wipe
    if [ $made = wbctl ]; then
        wbctl create v /dev/b /dev/c --opt writeback_threshold=0
    else
        volume v /dev/b /dev/c writeback_threshold 0
    fi
    dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
    remove v
    no_table 'The backing device is a cache device of writeboost' 0 "$(sectors /dev/c)" writeboost /dev/c \
        /dev/b
    dmesg | grep -F 'exchanged?' >/dev/null || die 'the kernel does not say what may be wrong'
    no_volume 2 'exchanged?' /dev/c /dev/b
    say 'nor with another cache device'
    no_table 'The backing device is a cache device of writeboost' 0 "$(sectors /dev/c)" writeboost /dev/c \
        /dev/b2
    refused 2 'exchanged?' -- wbformat --force --force --backing /dev/c /dev/b2
    say 'nor a damaged one'
    poke /dev/c 100 '\xff'
    no_table 'The backing device is a cache device of writeboost' 0 "$(sectors /dev/c)" writeboost /dev/c \
        /dev/b
    no_volume 2 'exchanged?' /dev/c /dev/b
done
say 'a volume opens again whatever its users have put on it'
wipe
volume v /dev/b /dev/c writeback_threshold 0
dd if=/dev/c of=/dev/mapper/v bs=4k count=1 iflag=direct oflag=direct conv=notrunc,fsync status=none
for how in dirty clean; do
    [ $how = dirty ] || drain v
    remove v
    volume v /dev/b /dev/c writeback_threshold 0
    remove v
    wbctl create v /dev/b /dev/c --opt writeback_threshold=0
done
remove v
say 'a backing device whose first sector cannot be read may be the right one'
dd if=/dev/zero of=/dev/b bs=1M count=1 oflag=direct status=none
wipe
printf '0 8 error\n8 %d linear /dev/b 8\n' $((n - 8)) | dmsetup create bad_b
volume v /dev/mapper/bad_b /dev/c
remove v
