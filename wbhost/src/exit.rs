// SPDX-License-Identifier: GPL-2.0-only

//! Exit codes that a script may rely on, the same in `wbformat` and `wbctl`.

/// Reading or writing failed, or anything else that has no code of its own.
pub const FAILED: u8 = 1;
/// The arguments are not understood or contradict each other. clap's code for wrong usage, too.
pub const USAGE: u8 = 2;
/// Refused: a device is mounted or otherwise in use.
pub const IN_USE: u8 = 3;
/// Refused: the cache device holds something that is not ours.
pub const FOREIGN: u8 = 4;
/// Refused: the cache device holds data that is not on the backing device yet, or may hold some.
pub const DIRTY: u8 = 5;
/// Refused: too small, too large, sizes that do not fit each other, or a device that is unfit for its role.
pub const SIZE: u8 = 6;
/// Refused: the cache device belongs to another backing device.
pub const OTHER_BACKING: u8 = 7;
/// There is no such volume.
pub const NO_VOLUME: u8 = 8;
/// The name, or the volume itself, is active already.
pub const EXISTS: u8 = 9;
/// The kernel does not have the target, and its module cannot be loaded.
pub const NO_MODULE: u8 = 10;
/// The kernel refused.
pub const KERNEL: u8 = 11;
/// Stopped by a signal, as shells report it for SIGINT.
pub const INTERRUPTED: u8 = 130;
