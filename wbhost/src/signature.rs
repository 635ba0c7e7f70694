// SPDX-License-Identifier: GPL-2.0-only

//! Signatures that libblkid finds on a device: file systems, RAID members, encryption, partition tables.

use crate::{device::Device, DeviceError};
use libblkid_rs::{BlkidErr, BlkidProbe, BlkidProbeRet};
use std::{fmt, os::fd::AsRawFd};

/// Contents of a device that libblkid knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// libblkid's name for the type, such as `ext4` or `gpt`.
    pub kind: String,
    /// Whether it is a partition table.
    pub partition_table: bool,
    /// Its label, if it has one.
    pub label: Option<String>,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, if self.partition_table { "partition table" } else { "signature" })?;
        match &self.label {
            Some(label) => write!(f, " (label {label:?})"),
            None => Ok(()),
        }
    }
}

/// Everything that libblkid finds on `device`, without changing it. Empty when it finds nothing.
///
/// # Errors
/// [`DeviceError::Blkid`] when libblkid fails, for example because of a read error.
pub fn find(device: &Device) -> Result<Vec<Signature>, DeviceError> {
    // An empty file has no place for a signature, and for libblkid size 0 is an error.
    if device.sectors() == 0 {
        return Ok(Vec::new());
    }
    probe(device).map_err(|e| DeviceError::Blkid { path: device.path().to_owned(), what: e.to_string() })
}

fn probe(device: &Device) -> Result<Vec<Signature>, BlkidErr> {
    let mut probe = BlkidProbe::new()?;
    probe.set_device(device.file().as_raw_fd(), 0, 0)?;
    probe.enable_superblocks(true)?;
    probe.enable_partitions(true)?;
    let mut found: Vec<Signature> = Vec::new();
    // One by one, as wipefs does: the safe probe stops when there are two, and this is the very case to
    // report.
    while probe.do_probe()? == BlkidProbeRet::Success {
        let value = |name: &str| probe.lookup_value(name).ok();
        let signature = match (value("PTTYPE"), value("TYPE")) {
            (_, Some(kind)) => Signature { kind, partition_table: false, label: value("LABEL") },
            (Some(kind), None) => Signature { kind, partition_table: true, label: None },
            (None, None) => continue,
        };
        if !found.contains(&signature) {
            found.push(signature);
        }
    }
    Ok(found)
}
