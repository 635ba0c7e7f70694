// SPDX-License-Identifier: GPL-2.0-only

//! Volumes come and go, on some kernels without an event. Finds the volumes that are there now, and those
//! that are gone.

use crate::{
    dm::{Dm, Mapped},
    Error,
};
use std::{
    collections::BTreeSet,
    mem,
    time::{Duration, Instant},
};

/// Watches for volumes that come and go.
pub struct Watch {
    /// `None` before device-mapper was there for the first time, and after it has failed.
    dm: Option<Dm>,
    every: Duration,
    /// When all devices were last looked through.
    looked_at: Option<Instant>,
    known: BTreeSet<String>,
}

/// The result of a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The volumes that are there, by name.
    pub there: Vec<Mapped>,
    /// Names of the volumes that were there at the look before and are gone.
    pub gone: Vec<String>,
}

impl Watch {
    /// Nothing is known yet. A look finds new volumes after an event of device-mapper, and also when no look
    /// has gone through all devices for `every`; with zero, every look does.
    pub fn new(every: Duration) -> Self {
        Self { dm: None, every, looked_at: None, known: BTreeSet::new() }
    }

    /// The same with device-mapper open.
    pub fn with(dm: Dm, every: Duration) -> Self {
        Self { dm: Some(dm), ..Self::new(every) }
    }

    /// Device-mapper, as the last look has left it; it is there if that look has found a volume.
    pub fn dm(&self) -> Option<&Dm> {
        self.dm.as_ref()
    }

    /// Looks for the volumes that are there. There are none where the kernel has no device-mapper; it may
    /// come later.
    ///
    /// # Errors
    /// [`Error::Failed`] without the rights, [`Error::Kernel`]. The next look opens device-mapper again.
    pub fn look(&mut self) -> Result<Look, Error> {
        let dm = match self.dm.take() {
            Some(dm) => dm,
            None => match Dm::open(false) {
                Ok(dm) => dm,
                Err(Error::NoModule(_)) => return Ok(self.found(Vec::new())),
                Err(e) => return Err(e),
            },
        };
        let there = self.find(&dm)?;
        self.dm = Some(dm);
        Ok(self.found(there))
    }

    fn find(&mut self, dm: &Dm) -> Result<Vec<Mapped>, Error> {
        // Before the list: an event that comes meanwhile is seen at the next look.
        let has_event = dm.wait_for_event(Duration::ZERO)?;
        let now = Instant::now();
        if has_event || self.looked_at.is_none_or(|at| now.duration_since(at) >= self.every) {
            self.looked_at = Some(now);
            return dm.list();
        }
        let mut there = Vec::new();
        for name in &self.known {
            match dm.find(name) {
                Ok(mapped) => there.push(mapped),
                Err(Error::NoVolume(_)) => (),
                Err(e) => return Err(e),
            }
        }
        Ok(there)
    }

    /// Compares the present volumes with the earlier ones.
    fn found(&mut self, there: Vec<Mapped>) -> Look {
        let now = there.iter().map(|m| m.name.clone()).collect();
        let before = mem::replace(&mut self.known, now);
        let gone = before.difference(&self.known).cloned().collect();
        Look { there, gone }
    }

    /// Waits until device-mapper has an event, and at most for `timeout`.
    ///
    /// # Errors
    /// Those of [`Dm::wait_for_event`].
    pub fn wait(&self, timeout: Duration) -> Result<(), Error> {
        self.dm.as_ref().map_or(Ok(()), |dm| dm.wait_for_event(timeout).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::DevNo;

    #[test]
    fn volumes_come_and_go() {
        let volumes = |names: &[&str]| -> Vec<Mapped> {
            let mapped = |name: &&str| Mapped {
                name: (*name).to_owned(),
                device: DevNo { major: 253, minor: 0 },
                sectors: 8,
                open_count: 0,
                suspended: false,
                table: String::new(),
                status: String::new(),
                uuid: None,
            };
            names.iter().map(mapped).collect()
        };
        let mut watch = Watch::new(Duration::ZERO);
        assert_eq!(watch.found(Vec::new()), Look::default());
        for (now, gone) in [
            (&["a", "b"][..], &[][..]),
            (&["b", "c"], &["a"]),
            (&["a", "b", "c"], &[]),
            (&[], &["a", "b", "c"]),
            (&[], &[]),
        ] {
            let look = watch.found(volumes(now));
            assert_eq!(
                (look.there.len(), look.gone),
                (now.len(), gone.iter().map(ToString::to_string).collect())
            );
        }
    }
}
