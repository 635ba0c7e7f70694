// SPDX-License-Identifier: GPL-2.0-only

//! Formatting. First everything is checked, and nothing is written. Then the superblock is written last, so
//! that a crash in between leaves a device that is refused, never one that resumes with the log of another
//! volume.

use crate::{
    device::{Access, Device},
    fit,
    host::Host,
    identity::{self, Identity},
    inspect::{self, Contents, Depth, Log, BLANK_BYTES},
    overlap, signature, size, DeviceError,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use writeboost::format::{
    Checkpoint, Invalid, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS, DEFAULT_SEGMENT_BLOCKS,
    MAX_BACKING_BLOCKS, MAX_SEGMENT_BLOCKS, MIN_SEGMENT_BLOCKS, NAME_LEN, SECTOR,
};

/// Most bytes of a volume's name: device-mapper keeps a NUL behind the name.
pub const MAX_NAME: usize = NAME_LEN - 1;

/// The superblock's information about the backing device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its size in sectors.
    pub sectors: u64,
    /// Its most stable identity, if it is known.
    pub identity: Option<Identity>,
}

impl Backing {
    /// Reads it from the backing device at `path`, and checks that this is not the cache device by another
    /// name.
    ///
    /// # Errors
    /// [`DeviceError::InUse`], [`DeviceError::Overlap`], [`DeviceError::Io`], [`DeviceError::NotADevice`],
    /// [`DeviceError::Unfit`], [`DeviceError::Exchanged`].
    pub fn of(host: &Host, path: &Path, cache: &Device) -> Result<Self, DeviceError> {
        // First, because where the two overlap, our own open of the cache device makes the backing device
        // busy.
        let look = Device::open(host, path, Access::Read)?;
        if let Some(words) = overlap::between(host, cache, &look) {
            return Err(DeviceError::Overlap(words));
        }
        let device = Device::open(host, path, Access::Exclusive)?;
        fit::backing(&device)?;
        fit::not_exchanged(&device)?;
        Ok(Self { sectors: device.sectors(), identity: identity::of(host, &device).into_iter().next() })
    }
}

/// The volume to format, and the contents that may be overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name of the volume; empty for none.
    pub name: String,
    /// The backing device.
    pub backing: Backing,
    /// Bytes per segment.
    pub segment_bytes: u64,
    /// 1 overwrites contents that libblkid knows, 2 also dirty data of a volume.
    pub force: u8,
}

impl Request {
    /// A request without force and with segments of the default size.
    pub fn new(name: &str, backing: Backing) -> Self {
        Self {
            name: name.to_owned(),
            backing,
            segment_bytes: u64::from(DEFAULT_SEGMENT_BLOCKS) * BLOCK as u64,
            force: 0,
        }
    }
}

/// A format that was checked and may be carried out.
#[derive(Debug)]
pub struct Plan {
    superblock: Superblock,
    /// There are foreign contents: more than the superblock has to be overwritten, or libblkid will find them
    /// again.
    wipe: bool,
}

/// The result of a format; serialised, this is printed by `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The cache device, by the path that was given.
    pub cache: PathBuf,
    /// UUID of the volume.
    pub uuid: Uuid,
    /// Name of the volume; empty when it has none.
    pub name: String,
    /// Identity of the backing device; empty when none is known.
    pub backing_id: String,
    /// Size of the backing device in sectors.
    pub backing_sectors: u64,
    /// Sectors of the cache device that are in use.
    pub cache_sectors: u64,
    /// Number of segments.
    pub segments: u32,
    /// Bytes per segment.
    pub segment_bytes: u64,
    /// Version of the format on disk.
    pub format_version: u32,
}

/// Checks whether `cache`, which must be open for [`Access::Exclusive`], may be formatted. Writes nothing.
///
/// # Errors
/// Every refusal of [`DeviceError`].
pub fn plan(cache: &Device, request: &Request) -> Result<Plan, DeviceError> {
    let superblock = lay_out(cache, request)?;
    let wipe = allowed(cache, request.force)?;
    Ok(Plan { superblock, wipe })
}

fn lay_out(cache: &Device, request: &Request) -> Result<Superblock, DeviceError> {
    let (min, max) = (u64::from(MIN_SEGMENT_BLOCKS), u64::from(MAX_SEGMENT_BLOCKS));
    let blocks = request.segment_bytes / BLOCK as u64;
    if !request.segment_bytes.is_power_of_two() || !(min..=max).contains(&blocks) {
        return Err(DeviceError::Size(format!(
            "a segment of {} is not possible: it must be a power of two from {} to {}",
            size::human(request.segment_bytes),
            size::human(min * BLOCK as u64),
            size::human(max * BLOCK as u64)
        )));
    }
    let segment_blocks = blocks as u32;
    let smallest = Superblock::min_cache_sectors(segment_blocks);
    if cache.sectors() < smallest {
        return Err(DeviceError::Size(format!(
            "{}: too small: it has {}, the least is {} with segments of {}",
            cache.path().display(),
            size::human(cache.sectors() * SECTOR as u64),
            size::human(smallest * SECTOR as u64),
            size::human(request.segment_bytes)
        )));
    }
    fit::cache(cache)?;
    let sectors = request.backing.sectors;
    if sectors == 0 || sectors.div_ceil(BLOCK_SECTORS) > MAX_BACKING_BLOCKS {
        return Err(DeviceError::Size(format!(
            "a backing device of {sectors} sectors is not possible: it must have 1 to {}",
            MAX_BACKING_BLOCKS * BLOCK_SECTORS
        )));
    }
    let nonce = getrandom::u64().map_err(|e| DeviceError::Io {
        path: cache.path().to_owned(),
        what: "get a random nonce",
        source: std::io::Error::other(e.to_string()),
    })?;
    let uuid = Uuid::new_v4().into_bytes();
    let field = |invalid: Invalid| DeviceError::Size(format!("{}: {invalid}", cache.path().display()));
    let mut sb = Superblock::new(cache.sectors(), sectors, segment_blocks, uuid, nonce).map_err(field)?;
    check_name(&request.name)?;
    sb.set_name(&request.name).map_err(field)?;
    if let Some(id) = &request.backing.identity {
        sb.set_backing_id(&id.to_string()).map_err(field)?;
    }
    Ok(sb)
}

/// Checks the name of a volume: it becomes `/dev/mapper/NAME`. Empty is allowed here, for none.
///
/// # Errors
/// [`DeviceError::Usage`].
pub fn check_name(name: &str) -> Result<(), DeviceError> {
    // Characters that device-mapper and udev do not have to mangle.
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    let reason = if name.len() > MAX_NAME {
        format!("it has {} bytes, the most are {MAX_NAME}", name.len())
    } else if let Some(c) = name.chars().find(|&c| !plain(c)) {
        format!("it has {c:?}; allowed are letters, digits and #+-.:=@_")
    } else if matches!(name, "." | ".." | "control") {
        "it is reserved".to_owned()
    } else {
        return Ok(());
    };
    Err(DeviceError::Usage(format!("the name {name:?} is not possible: {reason}")))
}

/// Whether the contents of the device may be overwritten; true when foreign contents have to be wiped.
fn allowed(cache: &Device, force: u8) -> Result<bool, DeviceError> {
    let path = || cache.path().to_owned();
    let contents = match inspect::contents(cache, Depth::Count) {
        // A volume on a device that is too short is as unreadable as a damaged one.
        Err(DeviceError::Size(_)) if force >= 2 => Contents::Unrecognised,
        other => other?,
    };
    // A file system can be made around our superblock without touching it.
    let found = match &contents {
        Contents::Foreign(found) => found.clone(),
        Contents::Volume(_) | Contents::Unreadable(_) | Contents::Orphaned => signature::find(cache)?,
        Contents::Blank | Contents::Unrecognised => Vec::new(),
    };
    let damaged = |part, invalid| DeviceError::Damaged { path: path(), part, invalid };
    let dirty = |volume: &inspect::Volume, what: String| DeviceError::Dirty {
        path: path(),
        volume: volume.label(),
        what,
        advice:
            "resume it with `wbctl create` and write it back with `wbctl drain`, or give the data up with \
                 --force --force",
    };
    let refusal = match &contents {
        Contents::Blank | Contents::Unrecognised | Contents::Foreign(_) => None,
        Contents::Unreadable(invalid) => Some(damaged("its superblock cannot be read", *invalid)),
        Contents::Orphaned => Some(damaged("its superblock is gone", Invalid::Magic)),
        Contents::Volume(v) => match v.log {
            Log::Clean => None,
            Log::Dirty(Some(n)) => {
                let bytes = size::human(n * BLOCK as u64);
                Some(dirty(
                    v,
                    format!("{n} dirty blocks ({bytes}), which are not on its backing device yet,"),
                ))
            }
            Log::Dirty(None) => {
                Some(dirty(v, "dirty data, which is not on its backing device yet,".to_owned()))
            }
            Log::NoCheckpoint(invalid) => Some(damaged("it has no valid checkpoint", invalid)),
            Log::Damaged(damage) => Some(DeviceError::Dirty {
                path: path(),
                volume: v.label(),
                what: format!("dirty data ({damage})"),
                advice: "keep a copy of the device if the data matters, or give it up with --force --force",
            }),
        },
    };
    if force < 1 && !found.is_empty() {
        return Err(DeviceError::Foreign { path: path(), found });
    }
    match refusal {
        Some(error) if force < 2 => Err(error),
        _ => Ok(!found.is_empty()),
    }
}

impl Plan {
    /// Formats `cache`, the device for which the plan was made. Takes an instant whatever the size.
    ///
    /// # Errors
    /// [`DeviceError::Io`]. None of the earlier contents can be relied on then.
    pub fn write(&self, cache: &Device) -> Result<Summary, DeviceError> {
        let sb = &self.superblock;
        if self.wipe {
            wipe(cache)?;
        }
        let mut block = [0; BLOCK];
        let first = Checkpoint::first(sb.nonce);
        block[..SECTOR].copy_from_slice(&first.encode());
        cache.write(&block, first.block() * BLOCK as u64)?;
        for other in CHECKPOINT_BLOCKS.into_iter().filter(|&block| block != first.block()) {
            cache.write(&[0; BLOCK], other * BLOCK as u64)?;
        }
        cache.flush()?;
        // The rest of the superblock's block is unused: a disk with larger sectors has to write it, too.
        let mut block = [0; BLOCK];
        block[..SECTOR].copy_from_slice(&sb.encode());
        cache.write(&block[..cache.logical_block() as usize], 0)?;
        cache.flush()?;
        Ok(self.summary(cache.path()))
    }

    /// The summary after the format.
    pub fn summary(&self, cache: &Path) -> Summary {
        let sb = &self.superblock;
        Summary {
            cache: cache.to_owned(),
            uuid: Uuid::from_bytes(sb.uuid),
            name: sb.name().to_owned(),
            backing_id: sb.backing_id().to_owned(),
            backing_sectors: sb.backing_sectors,
            cache_sectors: sb.cache_sectors(),
            segments: sb.nr_segments,
            segment_bytes: u64::from(sb.segment_blocks) * BLOCK as u64,
            format_version: writeboost::format::VERSION,
        }
    }
}

/// Overwrites the first and the last MiB, where signatures are, except for the first sector, which comes
/// last.
fn wipe(cache: &Device) -> Result<(), DeviceError> {
    let zeroes = vec![0; BLANK_BYTES as usize];
    let start = u64::from(cache.logical_block());
    cache.write(&zeroes[start as usize..], start)?;
    // A backup partition table or a RAID superblock is at the very end.
    let end = cache.sectors() * SECTOR as u64;
    let from = end.saturating_sub(BLANK_BYTES).max(BLANK_BYTES);
    cache.write(&zeroes[..(end - from) as usize], from)?;
    cache.flush()
}
