// SPDX-License-Identifier: GPL-2.0-only

//! An active volume: the answers of device-mapper and of the target, combined.

use crate::{
    dm::Mapped,
    host::{DevNo, Host},
    node,
    status::Status,
    Error,
};
use serde::Serialize;
use std::path::PathBuf;
use writeboost::{
    format::{BLOCK, SECTOR},
    interface::table::Table,
};

/// A device below a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Below {
    /// Its path; the number itself where sysfs does not know it.
    pub device: String,
    /// `MAJOR:MINOR`.
    pub number: String,
}

/// An active volume; serialised, this is printed by `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its node.
    pub device: PathBuf,
    /// Its own `MAJOR:MINOR`.
    pub number: String,
    /// Its size in sectors of 512 bytes.
    pub size_sectors: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// How often it is open.
    pub open_count: u32,
    /// Whether it is suspended.
    pub suspended: bool,
    /// The backing device.
    pub backing: Below,
    /// The cache device.
    pub cache: Below,
    /// Bytes that are not on the backing device yet.
    pub dirty_bytes: u64,
    /// The dirty part of the cache in percent.
    pub dirty_percent: f64,
    /// Reads that the cache answered, in percent; null before the first.
    pub read_hit_percent: Option<f64>,
    /// Writes whose block was in the cache, in percent; null before the first.
    pub write_hit_percent: Option<f64>,
    /// Names of the options that were given, by the table line or by a message; the built-in policy decides
    /// about the others.
    pub given: Vec<String>,
    /// The target's status.
    #[serde(flatten)]
    pub status: Status,
}

impl Volume {
    /// Combines all that is known of the device `m`.
    ///
    /// # Errors
    /// [`Error::Failed`] when the target's answer is not understood.
    pub fn new(host: &Host, m: Mapped) -> Result<Self, Error> {
        Self::again(host, m, None)
    }

    /// The same with the earlier state `before`. The paths of the volume's devices take a while to find, and
    /// are copied from there where the numbers are the same.
    ///
    /// # Errors
    /// Those of [`Volume::new`].
    pub fn again(host: &Host, m: Mapped, before: Option<&Self>) -> Result<Self, Error> {
        let understood = |what: String| {
            Error::Failed(format!("{}: {what}; is the module of the same version as wbctl?", m.name))
        };
        let mut status = Status::parse(&m.status).map_err(understood)?;
        status.uuid = m.uuid;
        let Some(table) = Table::parse(&m.table) else {
            return Err(understood(format!("the table is {:?}", m.table)));
        };
        let below = |word: &str, known: Option<&Below>| match known {
            Some(known) if known.number == word => known.clone(),
            _ => below(host, word),
        };
        let backing = below(table.backing, before.map(|b| &b.backing));
        let cache = below(table.cache, before.map(|b| &b.cache));
        let given = table.given.map(|(key, _)| key.to_owned()).collect();
        Ok(Self {
            device: node::path(&m.name),
            number: m.device.to_string(),
            size_sectors: m.sectors,
            size_bytes: m.sectors * SECTOR as u64,
            open_count: m.open_count,
            suspended: m.suspended,
            backing,
            cache,
            given,
            dirty_bytes: status.dirty_blocks * BLOCK as u64,
            dirty_percent: status.dirty_percent(),
            read_hit_percent: status.read_hit_percent(),
            write_hit_percent: status.write_hit_percent(),
            status,
            name: m.name,
        })
    }
}

fn below(host: &Host, word: &str) -> Below {
    let node = DevNo::parse(word).and_then(|n| host.node(n));
    Below { device: node.map_or(word.to_owned(), |n| n.display().to_string()), number: word.to_owned() }
}
