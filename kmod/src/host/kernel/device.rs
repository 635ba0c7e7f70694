// SPDX-License-Identifier: GPL-2.0-only

//! An underlying device of a target.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::bindings;
use super::Shared;
use crate::policy::limits::{Limits, Shape};
use crate::policy::silence::Traffic;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A `struct dm_dev`: a block device that the table has opened for the target.
///
/// # Invariants
/// `dev` is from `dm_get_device` for `ti`, and both live until this is dropped.
pub struct Device {
    ti: NonNull<bindings::dm_target>,
    dev: NonNull<bindings::dm_dev>,
    traffic: Shared<Traffic>,
}

// SAFETY: A `dm_dev` and its block device may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

impl Device {
    /// # Safety
    /// `ti` is the target under construction, and outlives the result.
    pub(super) unsafe fn get(ti: NonNull<bindings::dm_target>, path: &CStr) -> Result<Self> {
        let traffic = Shared::new(Traffic::new()?)?;
        let mut dev = core::ptr::null_mut();
        // SAFETY: `ti` is valid by this function's contract, `path` and `dev` are valid for the call.
        kernel::error::to_result(unsafe {
            bindings::dm_get_device(
                ti.as_ptr(),
                path.as_ptr().cast(),
                bindings::wb_target_mode(ti.as_ptr()),
                &mut dev,
            )
        })?;
        Ok(Self { ti, dev: NonNull::new(dev).ok_or(ENODEV)?, traffic })
    }

    pub(super) fn as_dm_dev(&self) -> *mut bindings::dm_dev {
        self.dev.as_ptr()
    }

    pub(super) fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: `dev` is valid by the invariant.
        unsafe { bindings::wb_dev_bdev(self.dev.as_ptr()) }
    }

    /// The bios sent to the device through this value, and those that have returned: [`super::Bio::remap`]
    /// and [`super::BioSet`] count them.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Size in sectors.
    pub fn sectors(&self) -> u64 {
        // SAFETY: The block device is open as long as `dev` is.
        unsafe { bindings::wb_bdev_sectors(self.bdev()) }
    }

    /// The properties that decide whether the device can be used.
    pub fn shape(&self) -> Shape {
        let bdev = self.bdev();
        // SAFETY: The block device is open as long as `dev` is.
        unsafe {
            Shape {
                sectors: bindings::wb_bdev_sectors(bdev),
                logical_block: bindings::wb_bdev_logical_block_size(bdev),
                zoned: bindings::wb_bdev_is_zoned(bdev),
                read_only: bindings::wb_bdev_is_read_only(bdev),
            }
        }
    }

    /// The limits of a device over this one alone. Sleeps.
    pub fn limits(&self) -> Limits {
        // SAFETY: The block device is open as long as `dev` is.
        unsafe { bindings::wb_bdev_limits(self.bdev()) }.into()
    }

    /// Sectors of one of its blocks, which it reads and writes whole.
    pub fn block_sectors(&self) -> u32 {
        // SAFETY: The block device is open as long as `dev` is.
        unsafe { bindings::wb_bdev_logical_block_size(self.bdev()) >> 9 }
    }

    /// For how many milliseconds it has had something to do since boot.
    pub fn busy_ms(&self) -> u32 {
        // SAFETY: The block device is open as long as `dev` is.
        unsafe { bindings::wb_bdev_busy_ms(self.bdev()) }
    }

    /// `MAJOR:MINOR`, as tables have it.
    pub fn name(&self) -> &CStr {
        // SAFETY: The name is a NUL-terminated array within `dev`.
        unsafe { CStr::from_ptr(bindings::wb_dev_name(self.dev.as_ptr()).cast()) }
    }

    /// A number that no other open block device has.
    pub fn id(&self) -> usize {
        self.bdev() as usize
    }
}

/// Both directions between [`Limits`] and `struct wb_limits`, which has the same fields.
macro_rules! same_limits {
    ($($ours:ident = $theirs:ident),* $(,)?) => {
        impl From<bindings::wb_limits> for Limits {
            fn from(l: bindings::wb_limits) -> Self {
                Self { $($ours: l.$theirs),* }
            }
        }

        impl From<Limits> for bindings::wb_limits {
            fn from(l: Limits) -> Self {
                Self { $($theirs: l.$ours),* }
            }
        }
    };
}

same_limits! {
    logical_block = logical_block_size,
    physical_block = physical_block_size,
    alignment_offset = alignment_offset,
    io_min = io_min,
    io_opt = io_opt,
    chunk_sectors = chunk_sectors,
    max_hw_sectors = max_hw_sectors,
    max_dev_sectors = max_dev_sectors,
    max_user_sectors = max_user_sectors,
    misaligned = misaligned,
    rotational = rotational,
    stable_writes = stable_writes,
    stripes = stripes,
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: By the invariant, and this is the only reference to it.
        unsafe { bindings::dm_put_device(self.ti.as_ptr(), self.dev.as_ptr()) }
    }
}
