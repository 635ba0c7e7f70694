// SPDX-License-Identifier: GPL-2.0-only

//! The requirements for the two devices, and the limits that a volume shows to its users.
//!
//! # Rules
//! - A volume shows the same limits as its backing device alone. Everything on the backing device, and
//!   everything that will one day be used without the cache, was made for the backing device's sectors and
//!   stripes. The cache device's own limits say nothing about the volume: writes are gathered, and reads from
//!   the cache device read the data as they were gathered.
//! - The cache device gets only whole blocks, at addresses that are multiples of a block. So its logical
//!   block size is no limit of the volume, as long as it divides a block.
//! - The backing device gets reads as they came, and blocks and parts of blocks that users have written. So
//!   its logical block size is the volume's. (If that size has grown since parts were written, these stay
//!   dirty until their blocks are written whole: writeback does not fill them up yet.)
//! - If device-mapper would refuse the devices after a target is made, the volume refuses them before that.
//!   So nothing is written to a cache device that then cannot be used. (Device-mapper looks at all targets of
//!   a table together, of which one target knows nothing; the checks of this target alone are here.)
//! - Data of a write are copied before they are used for anything, because memory may change meanwhile. A
//!   backing device that needs unchanging memory ("stable writes") gets our copy.

use crate::format::{Superblock, BLOCK, BLOCK_SECTORS, MAX_BACKING_BLOCKS, MIN_SEGMENT_BLOCKS, SECTOR};
use core::fmt;

/// The properties of a device that decide whether it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Size in sectors.
    pub sectors: u64,
    /// Bytes of a logical block.
    pub logical_block: u32,
    /// Whether it has zones that must be written in order.
    pub zoned: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is read-only.
    ReadOnly,
    /// It is zoned.
    Zoned,
    /// Its logical blocks do not fit into ours; their bytes.
    LogicalBlock(u32),
    /// Its sectors are no multiple of its logical blocks; both.
    Uneven(u64, u32),
    /// It has too few sectors: the fewest.
    TooSmall(u64),
    /// It has too many sectors: the most.
    TooLarge(u64),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::ReadOnly => f.write_str("it is read-only"),
            Unfit::Zoned => f.write_str("it is zoned, which is not supported"),
            Unfit::LogicalBlock(bytes) => {
                write!(f, "it has logical blocks of {bytes} bytes; at most {BLOCK} are supported")
            }
            Unfit::Uneven(sectors, bytes) => {
                write!(f, "it has {sectors} sectors, which are not whole logical blocks of {bytes} bytes")
            }
            Unfit::TooSmall(least) => write!(f, "it is too small: the least is {least} sectors"),
            Unfit::TooLarge(most) => write!(f, "it is too large: the most is {most} sectors"),
        }
    }
}

impl Shape {
    fn check(&self) -> Result<(), Unfit> {
        if self.read_only {
            return Err(Unfit::ReadOnly);
        }
        if self.zoned {
            return Err(Unfit::Zoned);
        }
        check_logical_block(self.logical_block)
    }

    /// Checks whether it can be a backing device.
    ///
    /// # Errors
    /// Why not.
    pub fn check_backing(&self) -> Result<(), Unfit> {
        self.check()?;
        if self.sectors == 0 {
            return Err(Unfit::TooSmall(1));
        }
        if self.sectors.div_ceil(BLOCK_SECTORS) > MAX_BACKING_BLOCKS {
            return Err(Unfit::TooLarge(MAX_BACKING_BLOCKS * BLOCK_SECTORS));
        }
        if self.sectors % (u64::from(self.logical_block) / SECTOR as u64).max(1) != 0 {
            return Err(Unfit::Uneven(self.sectors, self.logical_block));
        }
        Ok(())
    }

    /// Checks whether it can be a cache device. A format checks its size further.
    ///
    /// # Errors
    /// Why not.
    pub fn check_cache(&self) -> Result<(), Unfit> {
        self.check()?;
        let least = Superblock::min_cache_sectors(MIN_SEGMENT_BLOCKS);
        if self.sectors < least {
            return Err(Unfit::TooSmall(least));
        }
        Ok(())
    }
}

/// Checks whether a device with logical blocks of so many bytes can be used.
///
/// # Errors
/// [`Unfit::LogicalBlock`].
pub fn check_logical_block(bytes: u32) -> Result<(), Unfit> {
    if BLOCK as u32 % bytes.max(1) != 0 || bytes < SECTOR as u32 {
        return Err(Unfit::LogicalBlock(bytes));
    }
    Ok(())
}

/// Limits of a device that say how it is best used, in bytes unless noted otherwise: Linux's `queue_limits`,
/// and Documentation/ABI/stable/sysfs-block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The unit of addresses.
    pub logical_block: u32,
    /// The unit that the device writes without reading something before.
    pub physical_block: u32,
    /// The distance of the device's start from a multiple of `physical_block`.
    pub alignment_offset: u32,
    /// The smallest I/O that is worth while.
    pub io_min: u32,
    /// The best size of I/O; read-ahead is twice this. 0 when the device does not say.
    pub io_opt: u32,
    /// Sectors between borders that no request may cross; 0 for none.
    pub chunk_sectors: u32,
    /// Most sectors of a request, a limit of the hardware.
    pub max_hw_sectors: u32,
    /// Likewise, a limit of the device.
    pub max_dev_sectors: u32,
    /// Likewise, a limit set by the administrator; 0 for none.
    pub max_user_sectors: u32,
    /// The devices below are not aligned as their own limits require.
    pub misaligned: bool,
    /// Seeks take time.
    pub rotational: bool,
    /// Memory must not change while it is written.
    pub stable_writes: bool,
    /// Writes of less than a stripe are slow.
    pub stripes: bool,
}

impl Limits {
    /// The limits of a volume over a backing device with these limits.
    pub fn of_volume(backing: &Limits) -> Limits {
        // Less than a block can be written, but then the block has to be put together when it is read.
        let physical_block = backing.physical_block.max(BLOCK as u32);
        // Our blocks begin where the volume does, so only the alignment of the backing device's larger blocks
        // counts.
        let small = backing.physical_block < BLOCK as u32;
        let alignment_offset = if small { 0 } else { backing.alignment_offset };
        // The block layer accepts only multiples.
        let io_min = if backing.io_min % physical_block == 0 {
            backing.io_min.max(physical_block)
        } else {
            physical_block
        };
        Limits {
            physical_block,
            alignment_offset,
            io_min,
            io_opt: backing.io_opt - backing.io_opt % physical_block,
            // A device with such borders splits the requests that cross them.
            chunk_sectors: 0,
            stable_writes: false,
            ..*backing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Shape = Shape { sectors: 1 << 20, logical_block: 512, zoned: false, read_only: false };

    #[test]
    fn devices_that_fit() {
        for logical_block in [512, 1024, 2048, 4096] {
            let d = Shape { logical_block, ..DISK };
            assert_eq!((d.check_backing(), d.check_cache()), (Ok(()), Ok(())));
        }
        let most = MAX_BACKING_BLOCKS * BLOCK_SECTORS;
        for sectors in [1, 7, 9, most - 1, most] {
            assert_eq!(Shape { sectors, ..DISK }.check_backing(), Ok(()));
        }
        assert_eq!(Shape { sectors: 4096, logical_block: 4096, ..DISK }.check_cache(), Ok(()));
        // Sectors behind the last segment are not used.
        assert_eq!(Shape { sectors: (1 << 20) + 1, ..DISK }.check_cache(), Ok(()));
    }

    #[test]
    fn devices_that_do_not() {
        for (d, why) in [
            (Shape { read_only: true, ..DISK }, Unfit::ReadOnly),
            (Shape { zoned: true, ..DISK }, Unfit::Zoned),
            (Shape { logical_block: 8192, ..DISK }, Unfit::LogicalBlock(8192)),
            (Shape { logical_block: 65536, ..DISK }, Unfit::LogicalBlock(65536)),
            (Shape { logical_block: 0, ..DISK }, Unfit::LogicalBlock(0)),
        ] {
            assert_eq!((d.check_backing(), d.check_cache()), (Err(why), Err(why)));
        }
        let most = MAX_BACKING_BLOCKS * BLOCK_SECTORS;
        assert_eq!(Shape { sectors: most + 1, ..DISK }.check_backing(), Err(Unfit::TooLarge(most)));
        assert_eq!(Shape { sectors: 0, ..DISK }.check_backing(), Err(Unfit::TooSmall(1)));
        for (sectors, logical_block) in [(9, 4096), (4097, 1024), ((1 << 20) + 4, 4096)] {
            let d = Shape { sectors, logical_block, ..DISK };
            assert_eq!(d.check_backing(), Err(Unfit::Uneven(sectors, logical_block)));
        }
        assert_eq!(Shape { sectors: 4095, ..DISK }.check_cache(), Err(Unfit::TooSmall(4096)));
    }

    /// The conditions of the block layer for stacked limits; if they hold, it does not call the limits
    /// misaligned.
    fn is_even(l: &Limits) -> bool {
        l.physical_block % l.logical_block == 0
            && l.io_min % l.physical_block == 0
            && l.io_min >= l.physical_block
            && l.io_opt % l.physical_block == 0
            && l.alignment_offset % l.logical_block == 0
    }

    #[test]
    fn limits_of_a_volume() {
        let disk = Limits {
            logical_block: 512,
            physical_block: 512,
            io_min: 512,
            rotational: true,
            ..Limits::default()
        };
        let v = Limits::of_volume(&disk);
        assert_eq!((v.logical_block, v.physical_block, v.io_min, v.io_opt), (512, 4096, 4096, 0));
        assert!(v.rotational && is_even(&v));
        // A disk behind a bridge for USB; a RAID with stripes of 3 x 1020 KiB; a RAID with odd stripes.
        for (io_min, io_opt, is) in [
            (512, 65535 * 512, (4096, 65528 * 512)),
            (1020 << 10, 3060 << 10, (1020 << 10, 3060 << 10)),
            (1022 * 512, 3 * 1022 * 512, (4096, 383 * 4096)),
        ] {
            let v = Limits::of_volume(&Limits { io_min, io_opt, ..disk });
            assert_eq!((v.io_min, v.io_opt), is);
            assert!(is_even(&v));
        }
        let raid =
            Limits { chunk_sectors: 128, stable_writes: true, stripes: true, misaligned: true, ..disk };
        let v = Limits::of_volume(&raid);
        assert!(v.chunk_sectors == 0 && !v.stable_writes && v.stripes && v.misaligned);
    }

    #[test]
    fn alignment_of_a_volume() {
        let disk = Limits { logical_block: 512, physical_block: 512, io_min: 512, ..Limits::default() };
        for (physical_block, alignment_offset, is) in
            [(512, 0, 0), (512, 1024, 0), (4096, 3584, 3584), (16384, 8192, 8192), (4096, 0, 0)]
        {
            let v = Limits::of_volume(&Limits {
                physical_block,
                io_min: physical_block,
                alignment_offset,
                ..disk
            });
            assert_eq!(v.alignment_offset, is);
            assert!(is_even(&v));
        }
    }
}
