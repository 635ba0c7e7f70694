//! Power cuts that leave of two disks with volatile caches what such disks may leave: the real module, real workloads,
//! and many states of both devices, each resumed and checked.
//!
//! The cache device and the backing device lie under the target `record` (tests/targets), which records what both are
//! told and when. `wbtest points` takes moments of that record, and at each makes two disks what a power cut may leave of
//! these; `tests/src/record.rs` says what that is. Then the volume is resumed, by the module, and must be what was
//! promised.

use std::fs;
use std::path::Path;

use anyhow::Result;
use xtask::lab::checkout;

use crate::support::{code, Bench, Test};

/// The tests. Their points: 130 in a normal run, 1,010 in a full one.
pub const TESTS: &[Test] = &[
    code("points::quick", 12, true, |cx| Run { lives: 1, points: 10, full: (1, 10), script: RAW }.run(cx)),
    code("points::raw", 40, false, |cx| Run { lives: 2, points: 30, full: (4, 100), script: RAW }.run(cx))
        .full_takes(270),
    code("points::many_writers", 20, false, |cx| {
        Run { lives: 1, points: 20, full: (1, 200), script: MANY }.run(cx)
    })
    .full_takes(150),
    code("points::ext4", 30, false, |cx| Run { lives: 1, points: 20, full: (1, 200), script: EXT4 }.run(cx))
        .full_takes(250),
    code("points::xfs", 30, false, |cx| Run { lives: 1, points: 20, full: (1, 200), script: XFS }.run(cx))
        .full_takes(250),
];

/// How often and at how many points the power is cut.
struct Run {
    /// Lives: each but the first begins where the power was cut in the one before.
    lives: u32,
    /// Points that are checked in each life.
    points: u32,
    /// Both, in a full run.
    full: (u32, u32),
    script: &'static str,
}

impl Run {
    fn run(&self, cx: &Bench) -> Result<()> {
        let (lives, points) = if cx.full { self.full } else { (self.lives, cx.repeats(self.points)) };
        // The record has everything that is written in some seconds, and is held twice: on a machine with nothing else to do that
        // was 1.6 GB.
        let guest = cx.guest()?.mem(6144).timeout(cx.patience(120 + lives * (60 + points * 5)));
        let recorder = cx.module(&checkout().join("tests/targets"), "dm-record.ko")?;
        fs::copy(recorder, cx.share().join("dm-record.ko"))?;
        let script = format!("lives={lives}\npoints={points}\n{COMMON}\n{}", self.script);
        let result = cx.run(guest, &script);
        if result.is_err() {
            // What a failing check looked at: the disks are made again from these two.
            for name in ["backing.img", "cache.img", "point"] {
                cx.keep_file(&cx.share().join(name))?;
            }
        }
        result.map(drop)
    }
}

/// Functions of these tests.
const COMMON: &str = r#"
    # disks BACKING-MIB CACHE-MIB: /dev/b and /dev/c to be recorded, not too fast, so that much is on its way at any
    # moment, and /dev/pb and /dev/pc to make points on.
    disks() {
        null b $1 irqmode 2 completion_nsec 1000000 hw_queue_depth 64 submit_queues 1
        null c $2 irqmode 2 completion_nsec 200000 hw_queue_depth 128 submit_queues 1
        null pb $1
        null pc $2
        size=$(sectors /dev/pb)
        # Processes are what takes time in a guest, and udev starts many for each device that comes or goes.
        udevadm control --exit
        rm -f /run/udev/control
        export size DM_DISABLE_UDEV=1
    }
    open() { dmsetup create w --table "0 $size writeboost /dev/pb /dev/pc"; }
    close() { dmsetup remove w; }
    # again NAME MICROSECONDS: the disk NAME takes so long from now on, and is blank.
    again() {
        local dir=/sys/kernel/config/nullb/$1
        echo 0 >$dir/power
        echo $2000 >$dir/completion_nsec
        echo 1 >$dir/power
        [ -b /dev/$1 ] || die "/dev/$1 has not appeared"
    }
    # begin: a record begins, of the volume on rb and rc.
    begin() {
        for disk in b c; do [ -e /tmp/base_$disk ] || dd if=/dev/$disk of=/tmp/base_$disk bs=1M iflag=direct status=none; done
        insmod /mnt/share/dm-record.ko
        dmsetup create rb --table "0 $(sectors /dev/b) record /dev/b 0"
        dmsetup create rc --table "0 $(sectors /dev/c) record /dev/c 1"
    }
    # end NUMBER [OPTIONS]: it ends, and all its points are checked by the function `check`.
    end() {
        remove rb
        remove rc
        cat /dev/dm-record >/tmp/record
        rmmod dm_record
        say "the record has $(stat -c %s /tmp/record) bytes"
        export -f $(compgen -A function)
        export SEED m
        wbtest points /tmp/record --base /tmp/base_b /tmp/base_c --visible /tmp/seen_b /tmp/seen_c --disks /dev/pb /dev/pc \
            --count $points --seed $((SEED * 1000 + $1)) --check check --keep /mnt/share "${@:2}"
        say "all points are checked"
    }
    quietly() { "$@" >/tmp/said 2>&1 || { cat /tmp/said; die "$*"; }; }
    alone() { [ $((point % 4)) = 0 ]; } # Whether to look at the backing device alone as well.
"#;

/// Single writes and flushes of whatever sizes, some with FUA, and nothing but a prefix of them after each cut: on the
/// volume, and after a drain on the backing device alone.
const RAW: &str = r#"
    disks 20 10
    n=0 found=0 epochs=1
    check() {
        open
        wbtest history-check /dev/mapper/w --seed $SEED --epochs $epochs --durable ${durable:-$n} >/tmp/found
        if alone; then
            drain w
            close
            wbtest history-check /dev/pb --seed $SEED --epochs $epochs --durable ${durable:-$n} | cmp - /tmp/found
            open
            wbtest history-check /dev/mapper/w --seed $SEED --epochs $epochs --durable ${durable:-$n} | cmp - /tmp/found
        fi
        healthy w
        close
    }
    export n epochs
    for life in $(seq $lives); do
        # Slow disks have much on their way; few syncs leave much that may be lost, and a cache that is full of it.
        case $(((SEED + life) % 4)) in
        0) every=8 cache=200 backing=1000 ;;
        1) every=60 cache=200 backing=5000 ;;
        2) every=30 cache=20000 backing=1000 ;;
        3) every=200 cache=3000 backing=5000 ;;
        esac
        again b $backing
        again c $cache
        if [ $life -gt 1 ]; then
            for disk in b c; do
                from=/tmp/seen_$disk
                [ -e $from ] || from=/tmp/base_$disk
                dd if=$from of=/dev/$disk bs=1M oflag=direct status=none
            done
        fi
        begin
        volume v /dev/mapper/rb /dev/mapper/rc
        if [ $life -gt 1 ]; then
            # Where the life before ended.
            wbtest history-check /dev/mapper/v --seed $SEED --epochs $epochs --durable ${durable:-$n} >/tmp/found
            # What a cut left is on the disks. What a reset left in their caches is safe only now that the volume is there.
            [ -e /tmp/seen_c ] && n=${durable:-$n} || read -r _ n </tmp/found
            unset durable
            sed s/prefix/durable/ /tmp/found >/dev/dm-record
            read -r _ found </tmp/found
            epochs=$epochs,$((found + 1))
        fi
        history="/dev/mapper/v --seed $SEED --epochs $epochs"
        half=$((found + 700))
        wbtest history-write $history --last $half --every $every --record /dev/dm-record
        # Closed and opened again without a cut: nothing is lost, and a later cut leaves no hole where one log ends.
        remove v
        volume v /dev/mapper/rb /dev/mapper/rc
        wbtest history-check $history --durable $half
        wbtest history-write $history --from $((half + 1)) --last $((half + 700)) --every $every --record /dev/dm-record
        healthy v
        remove v
        # A machine that is reset sees what is in the caches of its disks, and may lose it after that.
        [ $(((SEED + life) % 3)) = 0 ] && leave=reset || leave=cut
        end $life --leave $leave
        . /mnt/share/left
    done
"#;

/// Four writers at once, each with a quarter of the volume.
const MANY: &str = r#"
    disks 20 10
    quarter=$(($(sectors /dev/b) / 4))
    history() { # DEVICE WRITER WORDS...
        wbtest history-$3 $1 --seed $((SEED + $2)) --first $(($2 * quarter)) --sectors $quarter "${@:4}"
    }
    prefixes() { # DEVICE
        for i in 0 1 2 3; do
            local durable=durable$i
            history $1 $i check --durable ${!durable:-0}
        done
    }
    check() {
        open
        prefixes /dev/mapper/w >/tmp/found
        if alone; then
            drain w
            prefixes /dev/pb | cmp - /tmp/found
        fi
        healthy w
        close
    }
    export quarter
    begin
    volume v /dev/mapper/rb /dev/mapper/rc
    writers=() every=(8 8 60 300)
    for i in 0 1 2 3; do
        history /dev/mapper/v $i write --last 500 --every ${every[i]} --record /dev/dm-record --key durable$i &
        writers+=($!)
    done
    for writer in ${writers[@]}; do wait $writer; done
    healthy v
    remove v
    end 1
"#;

/// A file system in use: what was fsync'd is there, and after the journal was replayed there is nothing to repair.
macro_rules! filesystem {
    ($own:literal) => {
        concat!(
            $own,
            r#"
    trees() { quietly wbtest tree-check $m --seed $SEED --durable ${writer0:-0},${writer1:-0},${writer2:-0},${writer3:-0}; }
    check() {
        open
        # As after any power cut: the journal is replayed, and then there is nothing to repair.
        if alone; then replay_by_hand; fi
        mount /dev/mapper/w $m
        trees
        umount $m
        clean /dev/mapper/w
        if alone; then drain w; fi
        healthy w
        close
        if alone; then
            clean /dev/pb
            mount -o ro /dev/pb $m
            trees
            umount $m
        fi
    }
    disks 72 14
    volume v /dev/b /dev/c
    make /dev/mapper/v
    remove v
    begin
    volume v /dev/mapper/rb /dev/mapper/rc
    mount /dev/mapper/v $m
    # Beside the files that count, a load that nobody waits for.
    (while [ ! -e /tmp/stop ]; do cp -r /usr/include/linux/netfilter $m/load; rm -r $m/load; done) &
    load=$!
    wbtest tree-write $m --seed $SEED --writers 4 --seconds 6 --record /dev/dm-record
    touch /tmp/stop
    wait $load
    umount $m
    healthy v
    remove v
    end 1
"#
        )
    };
}

/// With blocks of 1 KiB, as `mkfs.ext4` takes for small devices: parts of the cache's blocks.
const EXT4: &str = filesystem!(
    r#"
    make() { mkfs.ext4 -q $1; }
    replay_by_hand() { e2fsck -p /dev/mapper/w >/tmp/said 2>&1 || [ $? = 1 ] || { cat /tmp/said; die 'e2fsck -p'; }; }
    clean() { quietly e2fsck -fn $1; }
"#
);

const XFS: &str = filesystem!(
    r#"
    # The three variables allow less than 300 MiB.
    make() { TEST_DIR=x TEST_DEV=x QA_CHECK_FS=x mkfs.xfs -q -f $1; }
    replay_by_hand() { :; } # Only the kernel can.
    clean() { quietly xfs_repair -n $1; }
"#
);

impl Bench<'_> {
    /// The directory that the guest has at /mnt/share.
    fn share(&self) -> std::path::PathBuf {
        self.dir().join("share")
    }

    /// Puts `file`, if there is one, beside the test's log.
    fn keep_file(&self, file: &Path) -> Result<()> {
        if file.exists() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let kept = self.log().with_extension(&*name);
            fs::copy(file, &kept)?;
            self.note(&format!("kept {}", kept.display()));
        }
        Ok(())
    }
}
