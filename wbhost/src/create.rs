// SPDX-License-Identifier: GPL-2.0-only

//! Making a volume: from a blank cache device or from one that has the volume already.
//!
//! Everything that can be known beforehand is checked before anything is written. If the kernel refuses after
//! that, no device is left behind.

use crate::{
    device::{Access, Device},
    dm::Dm,
    fit,
    format::{self, Backing, Request},
    host::{DevNo, Host},
    identity::{self, Identity, Match},
    inspect::{self, Contents, Depth, Log, Volume},
    overlap, size, volume, Error,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use writeboost::{format::SECTOR, interface::table};

/// The volume to create.
#[derive(Debug, Clone)]
pub struct Create {
    /// Name of the volume, `/dev/mapper/NAME`.
    pub name: String,
    /// The backing device.
    pub backing: PathBuf,
    /// The cache device.
    pub cache: PathBuf,
    /// Options of the target and their values.
    pub options: Vec<(String, String)>,
    /// 1 resumes also when it is not known whether the backing device is the right one, 2 also when it is
    /// another one.
    pub force: u8,
}

/// The volume that was created; serialised, this is printed by `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Created {
    /// Name of the volume.
    pub name: String,
    /// Its node.
    pub device: PathBuf,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its size in sectors of 512 bytes.
    pub size_sectors: u64,
    /// Whether the cache device was blank and was formatted; if not, the volume was resumed.
    pub formatted: bool,
    /// Blocks of 4 KiB that are dirty right after creation; writeback may have been at work already. Null
    /// when the target does not say.
    pub dirty_blocks: Option<u64>,
    /// Notes for the user, a sentence each.
    pub notes: Vec<String>,
}

/// Parses `KEY=VALUE`.
///
/// # Errors
/// A message for the user.
pub fn parse_option(s: &str) -> Result<(String, String), String> {
    let (key, value) = s.split_once('=').ok_or("an option is KEY=VALUE")?;
    // Words of a table line are separated by blanks, and a backslash escapes the next character.
    let word =
        |w: &str| !w.is_empty() && !w.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if !word(key) || !word(value) {
        return Err("an option's key and value are one word each".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The parameters of the target's line.
fn parameters(backing: DevNo, cache: DevNo, options: &[(String, String)]) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = table::write(&mut line, [backing, cache], options.iter().map(|(key, value)| (key, value)));
    line
}

/// Creates the volume. Its node exists when this returns. Before each step that may take long, calls `step`
/// with words that complete the sentence "waiting for ...".
///
/// # Errors
/// Every refusal of [`Error`]. The cache device is unchanged then, unless the message says that it was
/// formatted.
pub fn create(host: &Host, args: &Create, step: &dyn Fn(String)) -> Result<Created, Error> {
    check_arguments(args)?;
    let dm = Dm::open(true)?;
    dm.check_free(&args.name)?;
    let read = |device: &Path| step(format!("{} to be read", device.display()));
    read(&args.cache);
    let cache = Device::open(host, &args.cache, Access::Exclusive)?;
    let cache_number = block_device(&cache)?;
    read(&args.backing);
    let look = Device::open(host, &args.backing, Access::Read)?;
    if let Some(words) = overlap::between(host, &cache, &look) {
        return Err(Error::Usage(words));
    }
    drop(look);
    let backing = Device::open(host, &args.backing, Access::Exclusive)?;
    let backing_number = block_device(&backing)?;
    check_other_paths(host, &dm, &[(&cache, cache_number), (&backing, backing_number)])?;
    // Every check of the kernel's, before the kernel or a format has changed anything.
    fit::cache(&cache)?;
    fit::backing(&backing)?;

    let mut notes = Vec::new();
    read(&args.cache);
    let (uuid, formatted) = match inspect::contents(&cache, Depth::Glance)? {
        Contents::Blank => {
            fit::not_exchanged(&backing)?;
            let identity = identity::of(host, &backing).into_iter().next();
            notes.extend(identity.as_ref().and_then(weak_note));
            let backing = Backing { sectors: backing.sectors(), identity };
            let plan = format::plan(&cache, &Request::new(&args.name, backing))?;
            (plan.write(&cache)?.uuid, true)
        }
        Contents::Volume(volume) => {
            check_volume(host, args, &volume, &backing, &mut notes)?;
            (volume.uuid(), false)
        }
        other => {
            fit::not_exchanged(&backing)?;
            return Err(refuse(args, &other));
        }
    };
    // The kernel needs exclusive access to them.
    let sectors = backing.sectors();
    drop((cache, backing));

    step(format!("the kernel, which reads the log on {}", args.cache.display()));
    let line = parameters(backing_number, cache_number, &args.options);
    let device = dm.create(&args.name, uuid, sectors, &line).map_err(|e| match e {
        Error::Kernel(text) if formatted => Error::Kernel(format!(
            "{text}\n  {} was blank and has been formatted before; the same command will resume it",
            args.cache.display()
        )),
        e => e,
    })?;
    // The volume works by now: a status that is not understood is no failure of its creation.
    let status = dm.find(&args.name).and_then(|m| volume::Volume::new(host, m));
    Ok(Created {
        name: args.name.clone(),
        device,
        uuid,
        size_sectors: sectors,
        formatted,
        dirty_blocks: status.ok().map(|v| v.status.dirty_blocks),
        notes,
    })
}

/// Refuses a disk that an active volume uses by another path, as far as its identifier shows. The kernel
/// recognises cache devices by their superblock, but does not recognise backing devices.
fn check_other_paths(host: &Host, dm: &Dm, devices: &[(&Device, DevNo)]) -> Result<(), Error> {
    for volume in dm.list()? {
        for used in volume.table.split_ascii_whitespace().take(2).filter_map(DevNo::parse) {
            if let Some((device, _)) = devices.iter().find(|(_, n)| overlap::is_another_path(host, *n, used))
            {
                return Err(Error::InUse(format!(
                    "{}: is another path to {}, which volume {} uses",
                    device.path().display(),
                    host.node(used).unwrap_or_default().display(),
                    volume.name
                )));
            }
        }
    }
    Ok(())
}

fn check_arguments(args: &Create) -> Result<(), Error> {
    if args.name.is_empty() {
        return Err(Error::Usage("the name is empty".to_owned()));
    }
    format::check_name(&args.name)?;
    for (i, (key, _)) in args.options.iter().enumerate() {
        if args.options[..i].iter().any(|(k, _)| k == key) {
            return Err(Error::Usage(format!("option {key} is given twice")));
        }
    }
    Ok(())
}

fn block_device(device: &Device) -> Result<DevNo, Error> {
    device.number().ok_or_else(|| {
        let path = device.path().display();
        Error::Usage(format!(
            "{path} is a regular file; make it a block device first: losetup --find --show {path}"
        ))
    })
}

fn weak_note(id: &Identity) -> Option<String> {
    id.kind.is_weak().then(|| {
        format!(
            "the backing device is only known as {id}, which another device may be called later: give its \
             path with care"
        )
    })
}

/// The error for a cache device from which nothing can be resumed.
fn refuse(args: &Create, contents: &Contents) -> Error {
    let cache = args.cache.display();
    let format = |force: &str| {
        format!("wbformat{force} --name {} --backing {} {cache}", args.name, args.backing.display())
    };
    match contents {
        Contents::Foreign(found) => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            Error::Foreign(format!(
                "{cache}: holds {}; if that may be overwritten: {}",
                found.join(", "),
                format(" --force")
            ))
        }
        Contents::Unreadable(invalid) => Error::Damaged(format!(
            "{cache}: holds a writeboost volume whose superblock cannot be read: {invalid}. If there is a \
             copy of its first sector, put that back. To give up what is on it: {}",
            format(" --force --force")
        )),
        Contents::Orphaned => Error::Damaged(format!(
            "{cache}: holds a writeboost volume whose superblock is gone: its sector holds nothing, or \
             something else. If there is a copy of it, put that back. To give up what is on it: {}",
            format(" --force --force")
        )),
        _ => Error::Foreign(format!(
            "{cache}: is not blank, and what is on it is not recognised; if that may be overwritten: {}",
            format("")
        )),
    }
}

/// Advice for a damaged log.
const GIVE_UP: &str =
    "Copy the whole device before anything else if the data matters; to give up what is on it, use \
                       wbformat --force --force";

/// Checks that the volume on the cache device is this one.
fn check_volume(
    host: &Host,
    args: &Create,
    volume: &Volume,
    backing: &Device,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let sb = &volume.superblock;
    let (cache, label) = (args.cache.display(), volume.label());
    let path = args.backing.display();
    match volume.log {
        Log::Clean | Log::Dirty(_) => (),
        Log::NoCheckpoint(invalid) => {
            return Err(Error::Damaged(format!(
                "{cache}: volume {label} cannot be resumed, it has no valid checkpoint: {invalid}. {GIVE_UP}"
            )))
        }
        Log::Damaged(damage) => {
            return Err(Error::Damaged(format!(
                "{cache}: volume {label} cannot be resumed: {damage}. {GIVE_UP}"
            )))
        }
    }
    let ids = identity::of(host, backing);
    let (needs, why) = match identity::compare(sb.backing_id(), &ids) {
        Match::Same => (0, String::new()),
        Match::NotRecorded => {
            notes.push(format!(
                "volume {label} does not say which backing device it belongs to; only the size was compared"
            ));
            (0, String::new())
        }
        Match::WeaklyDifferent => (1, "which may have changed its name".to_owned()),
        Match::Unknown => (1, "which cannot be compared with this device".to_owned()),
        Match::Different => (2, "which is another one".to_owned()),
    };
    if args.force < needs {
        let force = if needs == 1 { "--force" } else { "--force --force" };
        let is = ids.first().map_or("not known at all".to_owned(), Identity::to_string);
        return Err(Error::OtherBacking(format!(
            "{cache}: volume {label} belongs to backing device {}, {why}: {path} is {is}. If it is the right \
             one nevertheless, use {force}; with a wrong one the data on both are lost",
            sb.backing_id()
        )));
    }
    if sb.backing_sectors != backing.sectors() {
        return Err(Error::Size(format!(
            "{cache}: volume {label} has a backing device of {} sectors ({}), but {path} has {} ({}); {}",
            sb.backing_sectors,
            size::human(sb.backing_sectors * SECTOR as u64),
            backing.sectors(),
            size::human(backing.sectors() * SECTOR as u64),
            match volume.log {
                Log::Clean =>
                    "nothing is dirty, so if it was resized, format the cache device again with wbformat",
                _ => "it must have its old size until the dirty data is written back",
            }
        )));
    }
    if !sb.name().is_empty() && sb.name() != args.name {
        notes.push(format!("the volume was formatted as {}; its superblock keeps that name", sb.name()));
    }
    if let Some(id) = Identity::parse(sb.backing_id()) {
        notes.extend(weak_note(&id));
    }
    Ok(())
}

/// The command that resumes a volume with dirty data, for messages.
pub(crate) fn resume_command(name: &str, backing: &str, cache: &str) -> String {
    format!("wbctl create {name} {} {}", Path::new(backing).display(), Path::new(cache).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        assert_eq!(parse_option("a=1"), Ok(("a".into(), "1".into())));
        assert_eq!(parse_option("a=b=c"), Ok(("a".into(), "b=c".into())));
        for bad in ["a", "=1", "a=", "a=1 2", "a b=1", "a=\\"] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
        let (b, c) = (DevNo { major: 8, minor: 0 }, DevNo { major: 259, minor: 1 });
        assert_eq!(parameters(b, c, &[]), "8:0 259:1 0");
        let options = [("x".into(), "1".into()), ("y".into(), "2".into())];
        assert_eq!(parameters(b, c, &options), "8:0 259:1 4 x 1 y 2");
    }

    #[test]
    fn arguments() {
        let args = |name: &str, options: &[&str]| Create {
            name: name.into(),
            backing: "/dev/null".into(),
            cache: "/dev/null".into(),
            options: options.iter().map(|o| parse_option(o).unwrap()).collect(),
            force: 0,
        };
        assert!(check_arguments(&args("a", &["x=1", "y=1"])).is_ok());
        for bad in [args("", &[]), args("a/b", &[]), args("a", &["x=1", "x=2"])] {
            assert_eq!(check_arguments(&bad).unwrap_err().exit_code(), 2);
        }
    }

    /// Formats an image for `recorded`, and checks it against a backing file of `sectors`.
    fn check(recorded: &str, sectors: u64, name: &str, force: u8) -> Result<Vec<String>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::default();
        let open = |name: &str, bytes, access| {
            let path = dir.path().join(name);
            std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
            Device::open(&host, &path, access).unwrap()
        };
        let cache = open("cache", 16 << 20, Access::Exclusive);
        let backing = open("backing", sectors * SECTOR as u64, Access::Read);
        let recorded = match recorded {
            "own" => identity::of(&host, &backing).remove(0).to_string(),
            other => other.to_owned(),
        };
        let request = Request::new("v", Backing { sectors: 2048, identity: Identity::parse(&recorded) });
        format::plan(&cache, &request).unwrap().write(&cache).unwrap();
        let Contents::Volume(volume) = inspect::contents(&cache, Depth::Glance).unwrap() else { panic!() };
        let args = Create {
            name: name.to_owned(),
            backing: backing.path().to_owned(),
            cache: cache.path().to_owned(),
            options: Vec::new(),
            force,
        };
        let mut notes = Vec::new();
        check_volume(&host, &args, &volume, &backing, &mut notes).map(|()| notes)
    }

    #[test]
    fn backing_devices() {
        let code = |r: Result<Vec<String>, Error>| r.map_or_else(|e| e.exit_code(), |_| 0);
        assert_eq!(code(check("own", 2048, "v", 0)), 0);
        assert_eq!(code(check("own", 2040, "v", 2)), 6, "its size is another one, whatever is forced");
        assert_eq!(code(check("", 2048, "v", 0)), 0);
        for (recorded, force) in [("file:/elsewhere", 1), ("name:sdq", 1), ("wwid:naa.5", 1)] {
            assert_eq!(code(check(recorded, 2048, "v", force - 1)), 7, "{recorded}");
            assert_eq!(code(check(recorded, 2048, "v", force)), 0, "{recorded}");
        }
    }

    #[test]
    fn notes() {
        assert!(check("", 2048, "v", 0).unwrap()[0].contains("only the size"));
        let notes = check("own", 2048, "w", 0).unwrap();
        assert!(notes[0].contains("formatted as v"), "{notes:?}");
        assert!(notes[1].contains("care"), "{notes:?}");
    }
}
