//! The kernels that users run: Debian's own, unmodified, of each supported series, under QEMU.

use std::borrow::Cow;

use anyhow::Result;
use xtask::lab::SUPPORTED;

use crate::support::{Bench, Body, Level, Test};

/// A test for each supported series.
pub fn tests() -> Vec<Test> {
    SUPPORTED
        .iter()
        .map(|&series| Test {
            name: Cow::Owned(format!("debian::linux_{}_{}", series.major, series.minor)),
            seconds: 120,
            full_seconds: 120,
            level: Level::Normal,
            body: Body::Debian(series, smoke),
        })
        .collect()
}

/// Everything once, with two CPUs.
fn smoke(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(1024);
    cx.run(
        guest,
        r#"
        uname -a
        modinfo dm-writeboost
        modprobe dm-writeboost
        null b 48 irqmode 2 completion_nsec 1000000
        null c 16
        volume v /dev/b /dev/c
        verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --numjobs=2 --rw=randrw --bsrange=512-64k --blockalign=512 \
            --size=8m --offset_increment=16m --verify_backlog=64
        say suspend and resume under load
        verify /dev/mapper/v --ioengine=psync --numjobs=2 --rw=randwrite --bs=4k --size=2m --offset_increment=16m --fsync=4 &
        fio=$!
        while kill -0 $fio 2>/dev/null; do
            dmsetup suspend v
            dmsetup resume v
            dmsetup suspend --noflush v
            dmsetup resume v
        done
        wait $fio
        healthy v
        remove v
        say resume
        volume v /dev/b /dev/c writeback_threshold 0
        wbtest history-write /dev/mapper/v --seed $SEED --last 100 --every 10 >/dev/null
        finish v /dev/b /dev/c
        say wbctl
        wbctl create w /dev/b /dev/c
        mkfs.ext4 -q /dev/mapper/w
        mount /dev/mapper/w $m
        wbtest files-write $m --seed $SEED --count 30 >/dev/null
        umount $m
        wbctl status w
        wbctl remove w --drain
        e2fsck -fn /dev/b
        rmmod dm_writeboost
        "#,
    )?;
    Ok(())
}
