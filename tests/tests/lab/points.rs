//! Power cuts that leave of two disks with volatile caches what such disks may leave: the real module, real
//! workloads, and many states of both devices, each resumed and checked.
//!
//! The cache device and the backing device lie under the target `record` (tests/targets), which records what
//! both are told and when. `wbtest points` takes moments of that record, and at each makes two disks what a
//! power cut may leave of these; `tests/src/record.rs` says what that is. Then the volume is resumed, by the
//! module, and must be what was promised.

use std::fs;
use std::path::Path;

use anyhow::Result;
use xtask::lab::{checkout, with};

use crate::support::{code, shell, Bench, Test};

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
        // The record has everything that is written in some seconds, and is held twice: on a machine with
        // nothing else to do that was 1.6 GB.
        let guest = cx.guest()?.mem(6144).timeout(cx.patience(120 + lives * (60 + points * 5)));
        let recorder = cx.module(&checkout().join("tests/targets"), "dm-record.ko")?;
        fs::copy(recorder, cx.share().join("dm-record.ko"))?;
        let script = with(&[("LIVES", &lives), ("POINTS", &points)], self.script);
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

const RAW: &str = shell!("helpers/points", "points/raw");
const MANY: &str = shell!("helpers/points", "points/many_writers");
const EXT4: &str = shell!("helpers/points", "points/ext4", "helpers/file_system");
const XFS: &str = shell!("helpers/points", "points/xfs", "helpers/file_system");

impl Bench<'_> {
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
