// SPDX-License-Identifier: GPL-2.0-only

//! Whether devices can be what they are meant to be. The rules are the kernel module's own; here they are asked before anything is
//! changed, and answered with the device's path.

use crate::{device::Device, DeviceError};
use writeboost::format::Superblock;
use writeboost::policy::limits::Unfit;

fn unfit(device: &Device) -> impl FnOnce(Unfit) -> DeviceError + '_ {
    |unfit| DeviceError::Unfit { path: device.path().to_owned(), unfit }
}

/// Checks a cache device.
///
/// # Errors
/// [`DeviceError::Unfit`].
pub fn cache(device: &Device) -> Result<(), DeviceError> {
    device.shape().check_cache().map_err(unfit(device))
}

/// Checks a backing device.
///
/// # Errors
/// [`DeviceError::Unfit`].
pub fn backing(device: &Device) -> Result<(), DeviceError> {
    device.shape().check_backing().map_err(unfit(device))
}

/// Checks that a backing device, for which a cache device is about to be formatted, is not somebody's cache device itself. Not for a
/// volume that is there already: what is on that is its users' own.
///
/// # Errors
/// [`DeviceError::Exchanged`].
pub fn not_exchanged(device: &Device) -> Result<(), DeviceError> {
    match device.read_sector(0) {
        Ok(sector) if Superblock::is_in(&sector) => Err(DeviceError::Exchanged(device.path().to_owned())),
        // With a bad sector it can be the right one all the same.
        _ => Ok(()),
    }
}
