//! The kernels that users run: Debian's own, unmodified, of each supported series, under QEMU.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Result;
use xtask::lab::{with, Series, SUPPORTED};

use crate::support::{shell, Bench, Body, Level, Test};

/// How long [`load`] goes on: when there is time, on the newest series.
const LONG: u32 = 300;
const SHORT: u32 = 60;

/// The tests for each supported series: all of them for the newest one, and for the others only the first
/// one when there is not much time.
pub fn tests() -> Vec<Test> {
    let newest = SUPPORTED.last();
    let test = |series: Series, what: &str, seconds, level, body| Test {
        name: Cow::Owned(format!("debian::{what}_{}_{}", series.major, series.minor)),
        seconds,
        full_seconds: seconds,
        level,
        body: Body::Debian(series, body),
    };
    let mut tests = Vec::new();
    for &series in SUPPORTED {
        tests.push(test(series, "linux", 120, Level::Normal, smoke));
        if Some(&series) == newest {
            let load = test(series, "load", SHORT + 60, Level::Normal, load_longer);
            tests.push(load.full_takes(LONG + 60));
            tests.push(test(series, "throttle", 60, Level::Normal, throttle));
        } else {
            tests.push(test(series, "load", SHORT + 60, Level::Full, load));
            tests.push(test(series, "throttle", 60, Level::Full, throttle));
        }
    }
    tests
}

/// One minute of everything at once.
fn load(cx: &Bench) -> Result<()> {
    load_for(cx, SHORT)
}

/// The same, five minutes of it when there is time.
fn load_longer(cx: &Bench) -> Result<()> {
    load_for(cx, if cx.full { LONG } else { SHORT })
}

/// Everything at once for so many seconds, with four CPUs: writes that are read back, with and without fsync,
/// on a cache much smaller than what is written, while the volume is suspended, resumed, drained, asked and
/// tuned.
fn load_for(cx: &Bench, seconds: u32) -> Result<()> {
    let guest = cx.guest()?.cpus(4).mem(1024).timeout(Duration::from_secs(u64::from(seconds) * 2 + 900));
    cx.run(guest, &with(&[("LOAD_SECONDS", &seconds)], shell!("debian/load")))?;
    Ok(())
}

/// Everything once, with two CPUs.
fn smoke(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(1024);
    cx.run(guest, shell!("debian/linux"))?;
    Ok(())
}

/// blk-wbt does not hold back the I/O that a user waits for, as it holds back writeback, and a task that has
/// to stand back for others sends no bios that others wait for. Seen by the kernel itself: a probe counts the
/// bios that blk-wbt makes wait their turn, and each bio that is sent is traced, with the task that sends it.
fn throttle(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(1024);
    cx.run(guest, shell!("debian/throttle"))?;
    Ok(())
}
