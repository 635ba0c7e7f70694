// SPDX-License-Identifier: GPL-2.0-only

//! Taking a volume down. What is dirty stays on the cache device, from where the volume can be resumed.

use crate::{create::resume_command, dm::Dm, drain, volume::Volume, Error};
use serde::Serialize;
use std::{path::Path, sync::atomic::AtomicBool};
use wbformat::{device::Kind, host::Host, users};

/// What was removed; serialised, this is what `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// Name of the volume.
    pub name: String,
    /// Blocks of 4 KiB that are on the cache device and not on the backing device.
    pub dirty_blocks: u64,
    /// The backing device.
    pub backing: String,
    /// The cache device.
    pub cache: String,
    /// The command that resumes it.
    pub resume_command: String,
}

/// Removes the volume `name`; with `drained`, writes everything back before.
///
/// # Errors
/// [`Error::InUse`] when somebody has it open, [`Error::NoVolume`], [`Error::Kernel`], and those of
/// [`drain::drain`].
pub fn remove(
    host: &Host,
    name: &str,
    drained: bool,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Removed, Error> {
    let dm = Dm::open(false)?;
    let volume = Volume::new(host, dm.find(name)?)?;
    if volume.open_count > 0 {
        return Err(in_use(host, &dm, name));
    }
    let mut dirty_blocks = volume.status.dirty_blocks;
    if drained {
        dirty_blocks = drain::drain(host, name, stop, progress)?.dirty_blocks_after;
    }
    dm.remove(name).map_err(|e| match e {
        Error::InUse(_) => in_use(host, &dm, name),
        e => e,
    })?;
    Ok(Removed {
        name: name.to_owned(),
        dirty_blocks,
        resume_command: resume_command(name, &volume.backing.device, &volume.cache.device),
        backing: volume.backing.device,
        cache: volume.cache.device,
    })
}

fn in_use(host: &Host, dm: &Dm, name: &str) -> Error {
    let users = dm
        .find(name)
        .map(|m| users::of(host, Path::new(&format!("/dev/mapper/{name}")), Kind::Block(m.device)))
        .unwrap_or_default();
    let words: Vec<_> = users.iter().map(ToString::to_string).collect();
    match words.is_empty() {
        true => Error::InUse(format!(
            "{name} is in use: some process has it open (see `lsof /dev/mapper/{name}`); stop it first"
        )),
        false => Error::InUse(format!("{name} is in use: {}; stop that first", words.join(", "))),
    }
}
