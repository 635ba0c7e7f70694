// SPDX-License-Identifier: GPL-2.0-only

//! Steering of a whole volume, in virtual time: the options of a daemon count as long as it is heard, those
//! set by hand count until they are taken back, and a limit is kept to.
#![cfg(not(any(feature = "loom", feature = "races")))]

use std::sync::Arc;
use writeboost::host::plain::{
    now_ms, simulate, take_us, Disk, Mapped, MemoryDisk, StatusKind, EBUSY, EINVAL,
};
use writeboost::interface::status::Status;
use writeboost::target::Writeboost;

type Volume = Mapped<Writeboost>;

const BACKING: usize = 64 << 11;
const CACHE: usize = 16 << 11;
/// Written at a time, in sectors.
const PIECE: u64 = 128;
/// Pieces that each test makes dirty: 4 MiB.
const PIECES: u64 = 64;
const SECOND_US: u64 = 1_000_000;

/// A volume with 4 MiB of dirty blocks, which nothing writes back before time passes.
fn volume() -> Volume {
    let disk = |sectors| -> Arc<dyn Disk> { Arc::new(MemoryDisk::new(sectors)) };
    let disks = [("/dev/backing", disk(BACKING)), ("/dev/cache", disk(CACHE))];
    let volume = Mapped::create(&disks, "/dev/backing /dev/cache").unwrap();
    volume.resume();
    for i in 0..PIECES {
        volume.write(i * 37 % 1000 * PIECE, &vec![i as u8 + 1; PIECE as usize * 512]).unwrap();
    }
    assert_eq!(dirty(&volume), PIECES * PIECE / 8);
    volume
}

fn status(volume: &Volume) -> Status {
    Status::parse(&volume.status(StatusKind::Info), |key, value| panic!("{key} {value}")).unwrap()
}

fn dirty(volume: &Volume) -> u64 {
    status(volume).dirty_blocks
}

/// Sends `messages` once a second, as a daemon does, for `seconds`.
fn steer(volume: &Volume, seconds: u32, mut message: impl FnMut(&Volume)) {
    for _ in 0..seconds {
        message(volume);
        take_us(SECOND_US);
    }
}

#[test]
fn a_daemon_that_dies_leaves_writeback_to_the_built_in_policy() {
    simulate(1, || {
        let volume = volume();
        volume.message("steering_timeout 5 daemon").unwrap();
        steer(&volume, 30, |volume| {
            volume.message("writeback_threshold 0 daemon").unwrap();
        });
        assert_eq!(dirty(&volume), PIECES * PIECE / 8, "a threshold of 0 holds as long as it is heard");
        take_us(4 * SECOND_US);
        assert_ne!(dirty(&volume), 0, "the timeout has not passed");
        take_us(20 * SECOND_US);
        assert_eq!(dirty(&volume), 0, "a volume that is idle is written back when nobody steers it");
    });
}

#[test]
fn a_message_that_is_refused_keeps_no_daemon_alive() {
    simulate(1, || {
        let volume = volume();
        volume.message("steering_timeout 5 daemon").unwrap();
        volume.message("writeback_threshold 0 daemon").unwrap();
        steer(&volume, 30, |volume| {
            assert_eq!(volume.message("writeback_threshold 101 daemon").unwrap_err(), EINVAL);
        });
        assert_eq!(dirty(&volume), 0);
    });
}

#[test]
fn a_daemon_leaves_alone_what_was_set_by_hand() {
    simulate(1, || {
        let volume = volume();
        volume.message("writeback_threshold 0").unwrap();
        steer(&volume, 30, |volume| {
            assert_eq!(volume.message("writeback_threshold 100 daemon").unwrap_err(), EBUSY);
        });
        assert_eq!(dirty(&volume), PIECES * PIECE / 8);
        volume.message("writeback_threshold default").unwrap();
        volume.message("writeback_threshold 100 daemon").unwrap();
        take_us(20 * SECOND_US);
        assert_eq!(dirty(&volume), 0);
    });
}

#[test]
fn background_writeback_keeps_to_its_limit() {
    simulate(1, || {
        let volume = volume();
        volume.message("writeback_rate_limit 256").unwrap();
        let begun_ms = now_ms();
        let mut before = dirty(&volume);
        // 4 MiB take 16 seconds; a second's worth may come at once.
        for second in 1..=40 {
            take_us(SECOND_US);
            let done_kib = (PIECES * PIECE / 8 - dirty(&volume)) * 4;
            let most_kib = (now_ms() - begun_ms) * 256 / 1000 + 512;
            assert!(done_kib <= most_kib, "{done_kib} KiB within {second} s");
            before = before.min(dirty(&volume));
        }
        assert_eq!(before, 0, "the limit slows writeback down and does not stop it");
    });
}
