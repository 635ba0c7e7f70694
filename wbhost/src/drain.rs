// SPDX-License-Identifier: GPL-2.0-only

//! Writing everything dirty back.

use crate::{dm::Dm, host::Host, size, status::Status, volume::Volume, Error};
use serde::Serialize;
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use writeboost::{format::BLOCK, interface::message::Message};

/// How often the progress is asked for.
const PERIOD: Duration = Duration::from_millis(200);

/// What was drained; serialised, this is what `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Drained {
    /// Name of the volume.
    pub name: String,
    /// Dirty blocks of 4 KiB when it began.
    pub dirty_blocks_before: u64,
    /// Dirty blocks of 4 KiB now: what was written meanwhile.
    pub dirty_blocks_after: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Writes everything back that is dirty in the volume `name`, which stays in use. Calls `progress` with its status again and
/// again.
///
/// Gives up when `stop` becomes true. The kernel's part of it then ends with this process, or when it is done.
///
/// # Errors
/// [`Error::Interrupted`] with what is left, [`Error::NoVolume`], [`Error::Kernel`].
pub fn drain(
    host: &Host,
    name: &str,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Status),
) -> Result<Drained, Error> {
    let dm = Dm::open(false)?;
    let start = Instant::now();
    let status = || Ok::<_, Error>(Volume::new(host, dm.find(name)?)?.status);
    let before = status()?;
    progress(&before);
    let (done, result) = mpsc::channel();
    let volume = name.to_owned();
    // The message returns when what was dirty before it is written back; meanwhile somebody has to look.
    thread::spawn(move || {
        // Nobody listens any more when it was stopped.
        drop(done.send(Dm::open(false).and_then(|dm| dm.message(&volume, &Message::Drain.to_string()))));
    });
    let interrupted = |left: u64| {
        Error::Interrupted(format!(
            "stopped: {left} blocks ({}) of {name} are still dirty; the volume goes on working",
            size::human(left * BLOCK as u64)
        ))
    };
    loop {
        match result.recv_timeout(PERIOD) {
            Ok(Ok(())) => break,
            Ok(Err(Error::Interrupted(_))) => return Err(interrupted(status()?.dirty_blocks)),
            Ok(Err(e)) => return Err(e),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Failed("the thread that drains has died".to_owned()))
            }
        }
        let now = status()?;
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted(now.dirty_blocks));
        }
        progress(&now);
    }
    let after = status()?;
    progress(&after);
    Ok(Drained {
        name: name.to_owned(),
        dirty_blocks_before: before.dirty_blocks,
        dirty_blocks_after: after.dirty_blocks,
        seconds: start.elapsed().as_secs_f64(),
    })
}
