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

/// How often the progress is read.
const PERIOD: Duration = Duration::from_millis(200);

/// The result of a drain; serialised, this is printed by `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Drained {
    /// Name of the volume.
    pub name: String,
    /// Dirty blocks of 4 KiB at the beginning.
    pub dirty_blocks_before: u64,
    /// Dirty blocks of 4 KiB now: those written during the drain.
    pub dirty_blocks_after: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Writes everything dirty in the volume `name` back, while the volume stays in use. Calls `progress` with
/// its status again and again.
///
/// Gives up when `stop` becomes true. The kernel's part of the drain then ends with this process, or when
/// everything is written back.
///
/// # Errors
/// [`Error::Interrupted`] with the number of remaining blocks, [`Error::NoVolume`], [`Error::Kernel`].
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
    // The message returns when all blocks that were dirty before it are written back. Meanwhile this thread
    // shows the progress.
    thread::spawn(move || {
        // After a stop the receiver is gone.
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
