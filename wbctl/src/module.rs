// SPDX-License-Identifier: GPL-2.0-only

//! Gets the kernel module loaded.

use crate::{dm::TARGET, node, Error};
use devicemapper::DM;
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The module's name.
pub const MODULE: &str = "dm-writeboost";

/// Opens device-mapper in a kernel that has our target, and loads the module if it is not there.
///
/// # Errors
/// [`Error::NoModule`], [`Error::Failed`] without the rights.
pub fn open() -> Result<DM, Error> {
    if let Some(dm) = with_target()? {
        return Ok(dm);
    }
    let said = modprobe();
    match with_target()? {
        Some(dm) => Ok(dm),
        None => Err(Error::NoModule(format!(
            "the kernel has no target {TARGET} and modprobe {MODULE} did not bring it ({said}): build the module for \
             the running kernel with `cargo xtask build-kmod`, then load it with insmod or install it and run depmod"
        ))),
    }
}

fn with_target() -> Result<Option<DM>, Error> {
    let dm = match DM::new() {
        Ok(dm) => dm,
        Err(_) => {
            node::make_control();
            match DM::new() {
                Ok(dm) => dm,
                Err(e) if Path::new(node::CONTROL).exists() => return Err(cannot_open(&e)),
                Err(_) => return Ok(None),
            }
        }
    };
    let versions = dm.list_versions().map_err(|e| Error::Failed(crate::error::words(&e)))?;
    Ok(versions.iter().any(|(name, ..)| name == TARGET).then_some(dm))
}

/// The error for when device-mapper cannot be opened at all.
pub fn cannot_open(error: &devicemapper::DmError) -> Error {
    if !Path::new(node::CONTROL).exists() {
        return Error::NoModule("the kernel has no device-mapper loaded, so no volume is active".to_owned());
    }
    Error::Failed(format!("cannot open {} (are you root?): {error}", node::CONTROL))
}

/// Runs modprobe; returns what it said.
fn modprobe() -> String {
    // It is in sbin, which a user's PATH often lacks.
    for program in ["modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"] {
        if let Ok(out) = Command::new(program).arg(MODULE).stdin(Stdio::null()).output() {
            let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
            return if said.is_empty() { out.status.to_string() } else { said };
        }
    }
    "there is no modprobe".to_owned()
}
