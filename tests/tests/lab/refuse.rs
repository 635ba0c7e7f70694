//! What must be refused: with a reason that says what is wrong, and with both devices unchanged byte for byte.

use crate::support::{script, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    # Of both devices. Starting a process is what takes long in a guest.
    digests() { { dd if=/dev/b bs=1M iflag=direct status=none; dd if=/dev/c bs=1M iflag=direct status=none; } | b2sum; }

    # no_table WORDS TABLE-WORDS...: dmsetup create fails, the kernel says WORDS, nothing has changed. $how are more words for it.
    how=
    no_table() {
        local words=$1 before
        shift
        before=$(digests)
        logs "device-mapper: table:" -- dmsetup create $how bad --table "$*"
        dmesg | grep -F writeboost | grep -F -- "$words" >/dev/null || die "$*: the kernel does not say \"$words\" but: $(dmesg)"
        [ ! -e /dev/mapper/bad ] && [ -z "$(dmsetup ls | grep -w bad)" ] || die "a device is left behind"
        same "the devices after $*" "$(digests)" "$before"
        echo "refused: $* ($words)"
    }

    # no_volume CODE WORDS ARGUMENTS...: wbctl create fails, says WORDS, nothing has changed.
    no_volume() {
        local code=$1 words=$2 before
        shift 2
        before=$(digests)
        refused $code "$words" -- wbctl create bad "$@"
        [ ! -e /dev/mapper/bad ] || die 'a device is left behind'
        same "the devices after $*" "$(digests)" "$before"
        echo "refused: $* ($words)"
    }

    # Writes the escaped bytes at an offset of a device, past the page cache.
    poke() { printf "$3" >/tmp/bytes; dd if=/tmp/bytes of=$1 bs=1 seek=$2 conv=notrunc,fsync status=none; }

    null b 32
    null c 16
    modprobe dm-writeboost
    n=$(sectors /dev/b)
"#,
            $script
        )
    };
}

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "refuse::arguments",
        40,
        false,
        with_helpers!(
            r#"
        for blank in yes no; do
            [ $blank = yes ] || { volume v /dev/b /dev/c; remove v; }
            no_table 'Two devices are needed' 0 $n writeboost
            no_table 'Two devices are needed' 0 $n writeboost /dev/b
            no_table 'Cannot open the cache device' 0 $n writeboost /dev/b /dev/nowhere
            no_table 'Cannot open the backing device' 0 $n writeboost /dev/nowhere /dev/c
            no_table 'Cannot open the cache device' 0 $n writeboost /dev/b /dev/null
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c x
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c -2
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c 1 writeback_threshold
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c 2 writeback_threshold
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c 2 writeback_threshold 70 0
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c 4 writeback_threshold 70
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c writeback_threshold 70
            no_table 'number of option words' 0 $n writeboost /dev/b /dev/c 99999999999999999999 writeback_threshold 70
            no_table 'unknown option' 0 $n writeboost /dev/b /dev/c 2 frobnicate 1
            no_table 'An option is unknown' 0 $n writeboost /dev/b /dev/c 2 frobnicate 1
            no_table 'unknown option' 0 $n writeboost /dev/b /dev/c 4 writeback_threshold 70 Writeback_Threshold 1
            for value in 101 -1 x 4294967296 1e1; do
                no_table 'writeback_threshold takes a number from 0 to 100' \
                    0 $n writeboost /dev/b /dev/c 2 writeback_threshold $value
            done
            no_table 'takes a number from 1' 0 $n writeboost /dev/b /dev/c 2 nr_max_batched_writeback 0
            no_table 'takes a number from 1' 0 $n writeboost /dev/b /dev/c 2 nr_max_batched_writeback 1000000
            no_table 'takes a number from 0 to 3600' 0 $n writeboost /dev/b /dev/c 2 sync_data_interval 3601
        done
        wipe() { dd if=/dev/zero of=/dev/c bs=1M oflag=direct status=none count=16; }
        wipe
        no_volume 2 'Usage' /dev/b
        no_volume 2 'same device' /dev/b /dev/b
        no_volume 1 'No such file' /dev/b /dev/nowhere
        no_volume 1 'No such file' /dev/nowhere /dev/c
        no_volume 1 'neither a block device nor a regular file' /dev/b /dev/null
        no_volume 2 'KEY=VALUE' /dev/b /dev/c --opt writeback_threshold
        no_volume 2 'given twice' /dev/b /dev/c --opt writeback_threshold=1 --opt writeback_threshold=2
        truncate -s 16M /tmp/file
        no_volume 2 'losetup' /dev/b /tmp/file
        wbctl create v /dev/b /dev/c
        wbctl remove v
        no_volume 11 'unknown option' /dev/b /dev/c --opt frobnicate=1
        no_volume 11 'takes a number from 0 to 100' /dev/b /dev/c --opt writeback_threshold=101
        refused 2 'empty' -- wbctl create '' /dev/b /dev/c
        refused 2 '' -- wbctl create a/b /dev/b /dev/c
        "#
        ),
    ),
    script(
        "refuse::sizes",
        10,
        true,
        with_helpers!(
            r#"
        for blank in yes no; do
            [ $blank = yes ] || { volume v /dev/b /dev/c; remove v; }
            for size in $((n - 8)) $((n + 8)) 8 $((n * 2)); do
                no_table 'The volume must be as large as the backing device' 0 $size writeboost /dev/b /dev/c
            done
        done
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
        for small in 8 2048 $((9 * 2048 - 8)); do
            dmsetup create small --table "0 $small linear /dev/c 0"
            no_table 'too small' 0 $n writeboost /dev/b /dev/mapper/small
            no_volume 6 'too small' /dev/b /dev/mapper/small
            remove small
        done
        dmsetup create enough --table "0 $((9 * 2048)) linear /dev/c 0"
        volume v /dev/b /dev/mapper/enough
        verify /dev/mapper/v --ioengine=psync --rw=randwrite --bs=4k --size=24m --verify_backlog=100
        remove v
        remove enough
        say 'a cache device that was larger'
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
        volume v /dev/b /dev/c
        remove v
        dmsetup create shrunk --table "0 $((15 * 2048)) linear /dev/c 0"
        no_table 'smaller than when it was formatted' 0 $n writeboost /dev/b /dev/mapper/shrunk
        no_volume + '' /dev/b /dev/mapper/shrunk
        remove shrunk
        say 'a backing device of another size'
        for size in $((n - 8)) 8192; do
            dmsetup create other --table "0 $size linear /dev/b 0"
            no_table 'backing device of another size' 0 $size writeboost /dev/mapper/other /dev/c
            no_volume + '' /dev/mapper/other /dev/c
            remove other
        done
        "#
        ),
    ),
    script(
        "refuse::devices_in_use",
        10,
        true,
        with_helpers!(
            r#"
        null b2 32
        null c2 16
        no_table 'are the same' 0 $(sectors /dev/c) writeboost /dev/c /dev/c
        # Read-only, or the file system itself changes its device, sooner or later.
        mkfs.ext4 -q /dev/b
        mount -o ro /dev/b $m
        no_table 'Cannot open the backing device' 0 $n writeboost /dev/b /dev/c
        no_volume 3 'mounted at /mnt/m' /dev/b /dev/c
        umount $m
        mkfs.ext4 -q /dev/c
        mount -o ro /dev/c $m
        no_table 'Cannot open the cache device' 0 $n writeboost /dev/b /dev/c
        no_volume 3 'mounted at /mnt/m' /dev/b /dev/c
        umount $m
        dd if=/dev/zero of=/dev/c bs=1M oflag=direct status=none count=16
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=psync --rw=write --bs=4k --size=1m
        # Then it is quiet: what is unchanged is so because it was refused.
        drain v
        no_table 'in use by another writeboost volume' 0 $n writeboost /dev/b /dev/c
        no_table 'in use by another writeboost volume' 0 $n writeboost /dev/b2 /dev/c
        no_table 'in use by another writeboost volume' 0 $n writeboost /dev/b /dev/c2
        no_volume 3 'device-mapper device v' /dev/b2 /dev/c
        no_volume 3 'device-mapper device v' /dev/b /dev/c2
        refused 9 'active already' -- wbctl create v /dev/b2 /dev/c2
        same 'second cache device' "$(digest /dev/c2)" "$(head -c 16M /dev/zero | b2sum | cut -d' ' -f1)"
        say 'a volume on a volume is fine, and each is in use then'
        volume w /dev/mapper/v /dev/c2
        no_table 'in use by another writeboost volume' 0 $n writeboost /dev/mapper/v /dev/b2
        refused 3 'in use' -- wbctl remove v
        verify /dev/mapper/w --ioengine=psync --rw=randwrite --bs=4k --size=8m
        finish w /dev/mapper/v /dev/c2
        finish v /dev/b /dev/c
        "#
        ),
    ),
    script(
        "refuse::what_is_on_the_cache_device",
        20,
        true,
        with_helpers!(
            r#"
        wipe() { dd if=/dev/zero of=/dev/c bs=1M oflag=direct status=none count=16; }
        alien() { # WORDS-OF-WBCTL
            no_table 'neither blank nor formatted' 0 $n writeboost /dev/b /dev/c
            no_volume 4 "$1" /dev/b /dev/c
            wipe
        }
        say 'random bytes'
        for i in 1 2 3 4; do
            dd if=/dev/urandom of=/dev/c bs=1M count=1 oflag=direct status=none
            alien 'not recognised'
        done
        say 'one bit in the first sector'
        poke /dev/c 511 '\x01'
        alien 'not blank'
        say 'other formats'
        poke /dev/c 0 'LUKS\xba\xbe\x00\x01'
        no_table 'neither blank nor formatted' 0 $n writeboost /dev/b /dev/c
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
        "#
        ),
    ),
    // A blank first sector says little: many leave it so.
    script(
        "refuse::not_blank",
        20,
        true,
        with_helpers!(
            r#"
        wipe() { dd if=/dev/zero of=/dev/c bs=1M oflag=direct status=none count=16; }
        # other SECTOR: what is on the cache device begins there.
        other() {
            same 'first sector' "$(dd if=/dev/c bs=512 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" 0
            no_table 'The cache device is neither blank nor formatted for writeboost' 0 $n writeboost /dev/b /dev/c
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
        no_table 'neither blank nor formatted' 0 $(sectors /dev/c) writeboost /dev/c /dev/b
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
            no_table 'Cannot read the cache device' 0 $n writeboost /dev/b /dev/mapper/holey
            no_volume + '' /dev/b /dev/mapper/holey
            remove holey
        done
        say 'what is behind it is room for the log'
        poke /dev/c 1048576 '\x01'
        volume v /dev/b /dev/c
        remove v
        "#
        ),
    ),
    script(
        "refuse::the_same_volume_twice",
        20,
        true,
        with_helpers!(
            r#"
        null b2 32
        null d 16
        other() { # PATH [WORDS]: another one to a cache device that is in use, or a copy of it; what wbctl says of it
            # Or it writes when it likes.
            dmsetup suspend v
            no_table 'A volume with this UUID is active already' 0 $n writeboost /dev/b2 $1
            dmesg | grep -F "volume $(value v uuid) is active already"
            grep -F 'File exists' /tmp/said
            no_volume + "${2:-active already}" /dev/b2 $1 --force --force
            dmsetup resume v
            same 'the second backing device' "$(digest /dev/b2)" "$blank"
        }
        blank=$(digest /dev/b2)
        dmsetup create path --table "0 $(sectors /dev/c) linear /dev/c 0"
        for made in dmsetup before; do
            say "a volume that was formatted by $made"
            volume v /dev/b /dev/c writeback_threshold 0
            dd if=/dev/urandom of=/dev/mapper/v bs=1M count=1 oflag=direct conv=notrunc,fsync status=none
            say 'by another path'
            other /dev/mapper/path
            say 'a copy'
            dd if=/dev/c of=/dev/d bs=1M iflag=direct oflag=direct status=none
            other /dev/d
            remove v
        done
        say 'either may be used, but not both'
        volume v /dev/b /dev/d writeback_threshold 0
        # The linear device has it.
        other /dev/c 'in use: part of device-mapper device path'
        finish v /dev/b /dev/d
        volume v /dev/b /dev/mapper/path writeback_threshold 0
        other /dev/c 'in use: part of device-mapper device path'
        finish v /dev/b /dev/mapper/path
        remove path
        say 'two paths to a blank device, at the same time'
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
        dmsetup create slow --table "0 $(sectors /dev/c) delay /dev/c 0 100"
        for i in 1 2; do dmsetup create p$i --table "0 $(sectors /dev/c) linear /dev/mapper/slow 0"; done
        dmsetup create v1 --table "0 $n writeboost /dev/b /dev/mapper/p1" & one=$!
        dmsetup create v2 --table "0 $n writeboost /dev/b2 /dev/mapper/p2" & two=$!
        made=0
        ! wait $one || made=$((made + 1))
        ! wait $two || made=$((made + 1))
        same 'number of volumes' $made 1
        logged 'is active already'
        "#
        ),
    ),
    // All that device-mapper itself would say afterwards, and more.
    script(
        "refuse::devices_that_do_not_fit",
        20,
        true,
        with_helpers!(
            r#"
        for formatted in no yes; do
            [ $formatted = no ] || { volume v /dev/b /dev/c; remove v; }
            say 'a read-only table'
            how=-r
            no_table 'may not be included in a read-only table' 0 $n writeboost /dev/b /dev/c
            how=
            say 'read-only devices'
            blockdev --setro /dev/b
            no_table 'The backing device is read-only' 0 $n writeboost /dev/b /dev/c
            no_volume 6 'read-only' /dev/b /dev/c
            blockdev --setrw /dev/b
            blockdev --setro /dev/c
            no_table 'The cache device is read-only' 0 $n writeboost /dev/b /dev/c
            no_volume 6 'read-only' /dev/b /dev/c
            blockdev --setrw /dev/c
            dmsetup create -r ro --table "0 $n linear /dev/b 0"
            no_table 'The backing device is read-only' 0 $n writeboost /dev/mapper/ro /dev/c
            remove ro
            dmsetup create -r ro --table "0 $(sectors /dev/c) linear /dev/c 0"
            no_table 'The cache device is read-only' 0 $n writeboost /dev/b /dev/mapper/ro
            remove ro
        done
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
        say 'sectors that are no whole blocks'
        truncate -s $((20000 * 512 + 512)) /tmp/file
        loop=$(losetup --find --show --sector-size 4096 /tmp/file)
        if [ $(($(sectors $loop) % 8)) != 0 ]; then
            no_table 'no multiple of its logical blocks' 0 $(sectors $loop) writeboost $loop /dev/c
            no_volume 6 'not whole logical blocks' $loop /dev/c
        else
            die "$loop has $(sectors $loop) sectors"
        fi
        losetup -d $loop
        "#
        ),
    ),
    script(
        "refuse::exchanged",
        10,
        true,
        with_helpers!(
            r#"
        # The young volume of a backing device that begins with nothing: all of it is dirty.
        null b2 16
        for made in wbctl dmsetup; do
            dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
            if [ $made = wbctl ]; then
                wbctl create v /dev/b /dev/c --opt writeback_threshold=0
            else
                volume v /dev/b /dev/c writeback_threshold 0
            fi
            dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=notrunc,fsync status=none
            remove v
            no_table 'The backing device is a cache device of writeboost' 0 $(sectors /dev/c) writeboost /dev/c /dev/b
            dmesg | grep -F 'exchanged?' >/dev/null || die 'nobody says what may be wrong'
            no_volume 2 'exchanged?' /dev/c /dev/b
            say 'nor with another cache device'
            no_table 'The backing device is a cache device of writeboost' 0 $(sectors /dev/c) writeboost /dev/c /dev/b2
            refused 2 'exchanged?' -- wbformat --force --force --backing /dev/c /dev/b2
            say 'nor a damaged one'
            poke /dev/c 100 '\xff'
            no_table 'The backing device is a cache device of writeboost' 0 $(sectors /dev/c) writeboost /dev/c /dev/b
            no_volume 2 'exchanged?' /dev/c /dev/b
        done
        say 'what users put on a volume keeps nobody from opening it again'
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
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
        dd if=/dev/zero of=/dev/c bs=1M count=16 oflag=direct status=none
        printf '0 8 error\n8 %d linear /dev/b 8\n' $((n - 8)) | dmsetup create bad_b
        volume v /dev/mapper/bad_b /dev/c
        remove v
        "#
        ),
    ),
    script(
        "refuse::damage",
        30,
        false,
        with_helpers!(
            r#"
        volume v /dev/b /dev/c writeback_threshold 0
        dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct conv=fsync status=none
        remove v
        # A resume notes how much of the log is durable. Without that, its end could not be told from damage.
        volume v /dev/b /dev/c writeback_threshold 0
        remove v
        dd if=/dev/c of=/tmp/good bs=1M iflag=direct status=none
        content=$(digest /dev/b)
        heal() { dd if=/tmp/good of=/dev/c bs=1M oflag=direct status=none; }
        # flip OFFSET BIT: of the cache device.
        flip() {
            local byte
            byte=$(dd if=/dev/c bs=1 skip=$1 count=1 status=none | od -An -tu1)
            poke /dev/c $1 "\\x$(printf %02x $((byte ^ (1 << $2))))"
        }
        say 'any bit of the superblock'
        RANDOM=$((SEED % 32768))
        for i in $(seq 12); do
            at=$((RANDOM % 512))
            [ $i != 1 ] || at=0
            [ $i != 2 ] || at=8
            flip $at $((RANDOM % 8))
            no_table 'refusing the cache device' 0 $n writeboost /dev/b /dev/c
            no_volume + '' /dev/b /dev/c
            heal
        done
        say 'a version to come'
        poke /dev/c 8 '\x07'
        no_table 'a format that this module does not know' 0 $n writeboost /dev/b /dev/c
        no_volume + 'version 7' /dev/b /dev/c
        heal
        say 'both checkpoints'
        flip 4116 1
        flip 8212 1
        no_table 'checkpoints' 0 $n writeboost /dev/b /dev/c
        no_volume 5 'checkpoint' /dev/b /dev/c
        heal
        say 'the header of a record that was durable'
        dd if=/dev/urandom of=/dev/c bs=4k seek=256 count=1 oflag=direct conv=notrunc status=none
        no_table 'The log on the cache device is damaged' 0 $n writeboost /dev/b /dev/c
        # It is the kernel that reads the log.
        no_volume 11 'damaged' /dev/b /dev/c
        heal
        say 'and all of it is there when nothing is damaged'
        wbctl create v /dev/b /dev/c --opt writeback_threshold=0
        same 'dirty blocks' "$(dirty v)" 1024
        finish v /dev/b /dev/c
        "#
        ),
    ),
    // Damaged data, in place of a damaged log: an error for whoever reads it, and nothing for the backing device.
    script(
        "refuse::damaged_data",
        10,
        true,
        with_helpers!(
            r#"
        volume v /dev/b /dev/c writeback_threshold 0
        dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
        dd if=/tmp/data of=/dev/mapper/v bs=256k oflag=direct conv=fsync status=none
        # More, so that the records above are known durable, and nothing of them is in RAM after a resume.
        dd if=/dev/urandom of=/dev/mapper/v bs=256k seek=32 count=16 oflag=direct conv=fsync status=none
        remove v
        volume v /dev/b /dev/c writeback_threshold 0
        # A data block of the first segment.
        dd if=/dev/urandom of=/dev/c bs=4k seek=$((256 + 20)) count=1 oflag=direct conv=notrunc status=none
        bad=0
        for block in $(seq 0 127); do
            if dd if=/dev/mapper/v of=/tmp/block bs=4k skip=$block count=1 iflag=direct status=none 2>/tmp/said; then
                cmp /tmp/block <(dd if=/tmp/data bs=4k skip=$block count=1 status=none)
            else
                grep -q 'Input/output error' /tmp/said
                bad=$((bad + 1))
            fi
        done
        same 'unreadable blocks' $bad 1
        logged 'wrong checksum'
        [ "$(value v read_errors)" -gt 0 ] || die 'no read error is counted'
        say 'a drain fails, writes back the rest, and keeps what it cannot'
        refused + '' -- dmsetup message v 0 drop_caches
        for i in $(seq 100); do [ "$(dirty v)" != 1 ] || break; sleep 0.1; done
        same 'dirty blocks' "$(dirty v)" 1
        same 'state' "$(value v state)" degraded
        differ=$({ cmp -l /tmp/data <(dd if=/dev/b bs=1M count=4 iflag=direct status=none) || true; } |
            awk '{ print int(($1 - 1) / 4096) }' | sort -nu)
        same 'number of blocks that differ on the backing device' "$(wc -w <<<"$differ")" 1
        say 'writing it again heals it'
        dd if=/tmp/data of=/dev/mapper/v bs=4k skip=$differ seek=$differ count=1 oflag=direct conv=fsync,notrunc status=none
        drain v
        same 'dirty blocks' "$(dirty v)" 0
        cmp /tmp/data <(dd if=/dev/b bs=1M count=4 iflag=direct status=none)
        remove v
        "#
        ),
    ),
];
