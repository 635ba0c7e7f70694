// SPDX-License-Identifier: GPL-2.0-only

//! Removing a volume. Dirty data stay on the cache device, from where the volume can be resumed.

use crate::{
    create::resume_command,
    dm::Dm,
    drain,
    host::{Host, Kind},
    status::Status,
    users,
    users::User,
    volume::Volume,
    Error,
};
use serde::Serialize;
use std::{
    path::Path,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

/// udev opens a device whenever a process has closed it after writing. This is the time for which the removal
/// waits for a user that is not known to stay.
const PATIENCE: Duration = Duration::from_secs(3);
const PERIOD: Duration = Duration::from_millis(50);

/// The result of a removal; serialised, this is printed by `--json`.
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

/// Removes the volume `name`; with `drained`, writes everything back first. Waits a few seconds for a process
/// that has the volume open, but not for a mount or the like.
///
/// # Errors
/// [`Error::InUse`] when the volume is open, [`Error::NoVolume`], [`Error::Kernel`], and those of
/// [`drain::drain`].
pub fn remove(
    host: &Host,
    name: &str,
    drained: bool,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Status),
) -> Result<Removed, Error> {
    let dm = Dm::open(false)?;
    // The state is read when the volume is no longer open, because its last user may have written.
    let volume = patiently(host, &dm, name, || {
        let volume = Volume::new(host, dm.find(name)?)?;
        Ok((volume.open_count == 0).then_some(volume))
    })?;
    let mut dirty_blocks = volume.status.dirty_blocks;
    if drained {
        dirty_blocks = drain::drain(host, name, stop, progress)?.dirty_blocks_after;
    }
    patiently(host, &dm, name, || match dm.remove(name) {
        Ok(()) => Ok(Some(())),
        Err(Error::InUse(_)) => Ok(None),
        Err(e) => Err(e),
    })?;
    Ok(Removed {
        name: name.to_owned(),
        dirty_blocks,
        resume_command: resume_command(name, &volume.backing.device, &volume.cache.device),
        backing: volume.backing.device,
        cache: volume.cache.device,
    })
}

/// Tries again while there is no result, and finally names the users.
fn patiently<T>(
    host: &Host,
    dm: &Dm,
    name: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let begin = Instant::now();
    loop {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
        let users = users_of(host, dm, name);
        if !users.is_empty() || begin.elapsed() >= PATIENCE {
            return Err(in_use(name, &users));
        }
        thread::sleep(PERIOD);
    }
}

fn users_of(host: &Host, dm: &Dm, name: &str) -> Vec<User> {
    let path = format!("/dev/mapper/{name}");
    dm.find(name).map(|m| users::of(host, Path::new(&path), Kind::Block(m.device))).unwrap_or_default()
}

fn in_use(name: &str, users: &[User]) -> Error {
    let words: Vec<_> = users.iter().map(ToString::to_string).collect();
    match words.is_empty() {
        true => Error::InUse(format!(
            "{name} is in use: some process has it open (see `lsof /dev/mapper/{name}`); stop it first"
        )),
        false => Error::InUse(format!("{name} is in use: {}; stop that first", words.join(", "))),
    }
}
