// SPDX-License-Identifier: GPL-2.0-only

//! Whether devices are fit for their roles. The rules are the kernel module's own. Here they are checked
//! before anything is changed, and the errors name the device's path.

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

/// Checks that a backing device, for which a cache device is about to be formatted, is not a cache device
/// itself. This is not checked for an existing volume, because the contents of a volume are its users' own.
///
/// # Errors
/// [`DeviceError::Exchanged`].
pub fn not_exchanged(device: &Device) -> Result<(), DeviceError> {
    match device.read_sector(0) {
        Ok(sector) if Superblock::is_in(&sector) => Err(DeviceError::Exchanged(device.path().to_owned())),
        // A device with a bad sector can still be the right one.
        _ => Ok(()),
    }
}
