// SPDX-License-Identifier: GPL-2.0-only

//! Device-mapper's own node, `/dev/mapper/control`: opens it in a kernel that has our target, and explains
//! the errors of its ioctls.

use crate::{module, node, Error};
use devicemapper::{errors, DmError, DM};
use std::path::Path;

/// Our target's name in a table.
pub const TARGET: &str = "writeboost";

/// Opens device-mapper and, with `load`, loads our module if the kernel does not have the target.
///
/// # Errors
/// [`Error::NoModule`], [`Error::Failed`] without the rights.
pub fn open(load: bool) -> Result<DM, Error> {
    if !load {
        return new().map_err(|e| cannot_open(&e));
    }
    if let Some(dm) = with_target()? {
        return Ok(dm);
    }
    let said = module::load();
    match with_target()? {
        Some(dm) => Ok(dm),
        None => Err(Error::NoModule(format!(
            "the kernel has no target {TARGET} and modprobe {} did not bring it ({said}): build the module \
             for the running kernel with `cargo xtask build-kmod`, then load it with insmod or install it \
             and run depmod",
            module::MODULE
        ))),
    }
}

/// Opens the node, after making it if it is missing.
fn new() -> Result<DM, DmError> {
    DM::new().or_else(|_| {
        node::make_control();
        DM::new()
    })
}

/// An open device-mapper, if the kernel has one with our target.
fn with_target() -> Result<Option<DM>, Error> {
    let dm = match new() {
        Ok(dm) => dm,
        Err(e) if Path::new(node::CONTROL).exists() => return Err(cannot_open(&e)),
        Err(_) => return Ok(None),
    };
    let versions = dm.list_versions().map_err(|e| Error::Failed(words(&e)))?;
    Ok(versions.iter().any(|(name, ..)| name == TARGET).then_some(dm))
}

/// The error for when device-mapper cannot be opened at all.
fn cannot_open(error: &DmError) -> Error {
    if !Path::new(node::CONTROL).exists() {
        return Error::NoModule("the kernel has no device-mapper loaded, so no volume is active".to_owned());
    }
    Error::Failed(format!("cannot open {} (are you root?): {error}", node::CONTROL))
}

/// The error number of a failed ioctl.
pub(crate) fn errno(error: &DmError) -> Option<nix::Error> {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => Some(**errno),
        _ => None,
    }
}

/// A failed ioctl in words; devicemapper's own text contains the whole header.
pub(crate) fn words(error: &DmError) -> String {
    match errno(error) {
        Some(e) => format!("{} ({e:?})", e.desc()),
        None => error.to_string(),
    }
}
