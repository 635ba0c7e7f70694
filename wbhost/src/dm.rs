// SPDX-License-Identifier: GPL-2.0-only

//! Device-mapper as far as volumes need it: ioctls through the devicemapper crate, nodes, and the kernel's
//! reasons.

use crate::{
    control::{self, errno, words, TARGET},
    format,
    host::DevNo,
    kmsg::Kmsg,
    node,
    report::Report,
    udev, Error,
};
use devicemapper::{DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmUuid, DM};
use nix::{
    errno::Errno,
    poll::{poll, PollFd, PollFlags, PollTimeout},
};
use std::{os::fd::AsFd, path::PathBuf, time::Duration};
use uuid::Uuid;
use writeboost::interface::{
    message::Message,
    report::{Query, MAX_CELLS},
    status,
};

/// An open device-mapper.
pub struct Dm {
    dm: DM,
    udev: bool,
}

/// A device with our target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its name.
    pub name: String,
    /// Its number.
    pub device: DevNo,
    /// Its size in sectors.
    pub sectors: u64,
    /// How often it is open; a mount counts as one.
    pub open_count: u32,
    /// Whether it is suspended: then no I/O completes.
    pub suspended: bool,
    /// The parameters of its table line.
    pub table: String,
    /// The words of its target's status.
    pub status: String,
    /// UUID of the volume, if the target reports it.
    pub uuid: Option<String>,
}

impl Dm {
    /// Opens device-mapper and, with `load`, loads our module if the kernel does not have it.
    ///
    /// # Errors
    /// [`Error::NoModule`] when the kernel has no device-mapper or, with `load`, not our target;
    /// [`Error::Failed`] without the rights.
    pub fn open(load: bool) -> Result<Self, Error> {
        let dm = control::open(load)?;
        // Before the first command that would wait for udev.
        Ok(Self { dm, udev: udev::running()? })
    }

    /// The device `name` if it has our target.
    ///
    /// # Errors
    /// [`Error::NoVolume`] when there is no such device, or its target is another one.
    pub fn find(&self, name: &str) -> Result<Mapped, Error> {
        format::check_name(name)?;
        self.mapped(name)?.ok_or_else(|| {
            Error::NoVolume(format!(
                "{name} is not a {TARGET} volume; `wbctl list` shows those that are active"
            ))
        })
    }

    /// All devices with our target, by name.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn list(&self) -> Result<Vec<Mapped>, Error> {
        let devices = self.dm.list_devices().map_err(kernel("cannot list the devices"))?;
        let mut all = Vec::new();
        for (name, ..) in devices {
            all.extend(self.mapped(&name.to_string())?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn mapped(&self, name: &str) -> Result<Option<Mapped>, Error> {
        let status = |flags| self.dm.table_status(&id(name)?, DmOptions::default().set_flags(flags));
        // The device may go away at any moment, also between the calls: then the result is none.
        let gone = |r| match r {
            Ok(x) => Ok(Some(x)),
            Err(e) if errno(&e) == Some(Errno::ENXIO) => Ok(None),
            Err(e) => Err(kernel("cannot ask for the status")(e)),
        };
        // Only a status is wanted, not a commit.
        let Some((info, targets)) = gone(status(DmFlags::DM_NOFLUSH))? else { return Ok(None) };
        let [(0, sectors, target, words)] = targets.as_slice() else { return Ok(None) };
        if target != TARGET {
            return Ok(None);
        }
        let Some((_, table)) = gone(status(DmFlags::DM_STATUS_TABLE))? else { return Ok(None) };
        let [(_, _, _, table)] = table.as_slice() else { return Ok(None) };
        Ok(Some(Mapped {
            name: name.to_owned(),
            device: number(&info),
            sectors: *sectors,
            open_count: info.open_count().try_into().unwrap_or(0),
            suspended: info.flags().contains(DmFlags::DM_SUSPEND),
            table: table.clone(),
            status: words.clone(),
            uuid: self.uuid(name, words),
        }))
    }

    /// UUID of the volume `name` with this status. Only a target that reports a state is asked: the C driver
    /// would log that it does not know the message.
    fn uuid(&self, name: &str, status: &str) -> Option<String> {
        status::Status::parse(status, |_, _| ()).ok()?.named.state?;
        let answer = self.ask_only(name, &Message::Uuid.to_string()).ok()?;
        Some(answer.trim_end_matches('\0').to_owned())
    }

    /// Checks that a new device can have this name.
    ///
    /// # Errors
    /// [`Error::Exists`].
    pub fn check_free(&self, name: &str) -> Result<(), Error> {
        let id = id(name).map_err(kernel("impossible name"))?;
        match self.dm.device_info(&id) {
            Ok(_) => Err(Error::Exists(format!("a device-mapper device {name} is active already"))),
            Err(e) if errno(&e) == Some(Errno::ENXIO) => node::check_free(name),
            Err(e) => Err(kernel("cannot look for a device of this name")(e)),
        }
    }

    /// Makes the device `name` with one line of our target; returns its node, which exists then.
    ///
    /// # Errors
    /// [`Error::Kernel`] with the kernel's own reason; nothing is left behind then.
    pub fn create(&self, name: &str, uuid: Uuid, sectors: u64, params: &str) -> Result<PathBuf, Error> {
        // Device-mapper keeps these unique, so the same volume cannot be made twice.
        let dm_uuid = format!("WRITEBOOST-{}", uuid.simple());
        let mut kmsg = Kmsg::listen();
        let mut refused = |what: &str, e: DmError| {
            let mut text = format!("{what}: {}", words(&e));
            for line in kmsg.heard() {
                text.push_str(&format!("\n  kernel: {line}"));
            }
            Error::Kernel(text)
        };
        let made = || {
            let (name, uuid) = (DmName::new(name)?, DmUuid::new(&dm_uuid)?);
            self.dm.device_create(name, Some(uuid), DmOptions::default())
        };
        made().map_err(|e| match errno(&e) {
            Some(Errno::EBUSY) => Error::Exists(format!(
                "device {name} or a volume with UUID {uuid} is active already; `wbctl list` shows it"
            )),
            _ => refused("cannot create the device", e),
        })?;
        let line = [(0, sectors, TARGET.to_owned(), params.to_owned())];
        let activated = id(name)
            .and_then(|id| self.dm.table_load(&id, &line, DmOptions::default()))
            .map_err(|e| refused("the kernel refused the table", e))
            .and_then(|_| {
                // A new device is suspended. In device-mapper's terms this call resumes it.
                id(name)
                    .and_then(|id| self.dm.device_suspend(&id, DmOptions::default()))
                    .map_err(|e| refused("the kernel could not start the device", e))
            })
            .and_then(|info| node::make(name, info.device(), self.udev));
        activated.map_err(|error| match self.remove(name) {
            Ok(()) => error,
            Err(also) => Error::Kernel(format!("{error}\n  and the device {name} is left behind: {also}")),
        })
    }

    /// Removes the device `name`, and its node where udev does not.
    ///
    /// # Errors
    /// [`Error::InUse`] when it is open, [`Error::NoVolume`], [`Error::Kernel`].
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let failed = |e: DmError| match errno(&e) {
            Some(Errno::EBUSY) => Error::InUse(format!("{name} is in use")),
            Some(Errno::ENXIO) => Error::NoVolume(format!("{name} is gone")),
            _ => kernel("cannot remove the device")(e),
        };
        let id = id(name).map_err(failed)?;
        let device = self.dm.device_info(&id).map_err(failed)?.device();
        self.dm.device_remove(&id, DmOptions::default()).map_err(failed)?;
        if !self.udev {
            node::remove(name, device);
        }
        Ok(())
    }

    /// Sends `message` to the target; returns when the target has carried it out.
    ///
    /// # Errors
    /// [`Error::Interrupted`] by a signal, [`Error::NoVolume`], [`Error::Kernel`] with the kernel's own
    /// reason.
    pub fn message(&self, name: &str, message: &str) -> Result<(), Error> {
        self.ask(name, message).map(drop)
    }

    /// The same for a message with an answer. Returns the answer, which is empty if there was none.
    ///
    /// # Errors
    /// Those of [`Dm::message`].
    pub fn ask(&self, name: &str, message: &str) -> Result<String, Error> {
        let mut kmsg = Kmsg::listen();
        self.ask_only(name, message).map_err(|e| match e {
            Error::Kernel(mut text) => {
                for line in kmsg.heard() {
                    text.push_str(&format!("\n  kernel: {line}"));
                }
                Error::Kernel(text)
            }
            e => e,
        })
    }

    /// The same without the kernel's own reason, which takes some effort to collect.
    fn ask_only(&self, name: &str, message: &str) -> Result<String, Error> {
        let sent = id(name).and_then(|id| self.dm.target_msg(&id, None, message));
        sent.map(|(_, answer)| answer.unwrap_or_default()).map_err(|e| match errno(&e) {
            Some(Errno::EINTR) => Error::Interrupted(format!("{name}: {message} was interrupted")),
            Some(Errno::ENXIO) => Error::NoVolume(format!("{name} is gone")),
            _ => Error::Kernel(format!("{name}: the kernel could not carry out {message}: {}", words(&e))),
        })
    }

    /// The state of the segments of the volume `name`, in at most `cells` cells.
    ///
    /// # Errors
    /// Those of [`Dm::message`], and [`Error::Failed`] when the answer is not understood.
    pub fn report(&self, name: &str, cells: u32) -> Result<Report, Error> {
        let query = Query { cells: cells.clamp(1, MAX_CELLS), range: None };
        let answer = self.ask_only(name, &Message::Report(query).to_string())?;
        Report::parse(&answer).map_err(|what| {
            Error::Failed(format!("{name}: {what}; is the module of the same version as wbctl?"))
        })
    }

    /// The number of the device's events; each event raises it by one.
    ///
    /// # Errors
    /// [`Error::NoVolume`], [`Error::Kernel`].
    pub fn event_nr(&self, name: &str) -> Result<u32, Error> {
        let info = id(name).and_then(|id| self.dm.device_info(&id));
        info.map(|info| info.event_nr()).map_err(|e| match errno(&e) {
            Some(Errno::ENXIO) => Error::NoVolume(format!("{name} is gone")),
            _ => kernel("cannot look at the device")(e),
        })
    }

    /// Waits until any device-mapper device has an event, or `timeout` has passed. Returns whether there was
    /// an event.
    ///
    /// An event between two calls is not missed: the second call returns at once.
    ///
    /// # Errors
    /// [`Error::Interrupted`] by a signal, [`Error::Kernel`].
    pub fn wait_for_event(&self, timeout: Duration) -> Result<bool, Error> {
        let mut fds = [PollFd::new(self.dm.file().as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => Ok(false),
            // Armed before the caller looks at the devices, so that the next event wakes it again.
            Ok(_) => self.dm.arm_poll().map(|_| true).map_err(kernel("cannot wait for events")),
            Err(Errno::EINTR) => Err(Error::Interrupted("interrupted".to_owned())),
            Err(e) => Err(Error::Kernel(format!("cannot wait for events: {}", e.desc()))),
        }
    }
}

fn id(name: &str) -> Result<DevId<'_>, DmError> {
    Ok(DevId::Name(DmName::new(name)?))
}

fn number(info: &DeviceInfo) -> DevNo {
    let d = info.device();
    DevNo { major: d.major, minor: d.minor }
}

fn kernel(what: &'static str) -> impl Fn(DmError) -> Error {
    move |e| Error::Kernel(format!("{what}: {}", words(&e)))
}
