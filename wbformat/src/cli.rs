// SPDX-License-Identifier: GPL-2.0-only

//! The arguments of `wbformat`, and its output.

use clap::Parser;
use std::{path::PathBuf, process::ExitCode};
use wbhost::{
    device::{Access, Device},
    format::{self, Backing, Request, Summary},
    host::Host,
    identity::Identity,
    size, DeviceError,
};
use writeboost::format::SECTOR;

const EXIT_CODES: &str = "\
Exit codes:
  0  formatted
  1  failed: the device cannot be opened, read or written
  2  wrong usage, or the two devices are the same or overlap
  3  refused: a device is mounted or otherwise in use; --force does not help
  4  refused: the cache device holds a file system, RAID member or partition table; see --force
  5  refused: the cache device holds dirty data of a volume, or may hold some; see --force
  6  refused: too small, a size that is not possible, or a device that cannot be used: read-only, zoned

Whenever it refuses, the cache device is unchanged.";

/// Formats CACHE as the cache device of a writeboost volume.
///
/// Takes an instant whatever the size. `wbctl create` formats a blank device by itself; this is for
/// everything that is not blank, for other segment sizes, and for images. CACHE and DEV are block devices or
/// regular files.
#[derive(Debug, Parser)]
#[command(name = "wbformat", version, after_help = EXIT_CODES)]
pub struct Args {
    /// The backing device: its size and its identity go into the superblock
    #[arg(
        long,
        value_name = "DEV",
        required_unless_present = "backing_size",
        conflicts_with = "backing_size"
    )]
    pub backing: Option<PathBuf>,
    /// Size of the backing device in sectors of 512 bytes (or with KiB, MiB, GiB, TiB), if it is not here
    #[arg(long, value_name = "SECTORS", value_parser = size::parse_sectors)]
    pub backing_size: Option<u64>,
    /// Name of the volume, as in /dev/mapper/NAME
    #[arg(long, default_value = "")]
    pub name: String,
    /// Bytes per segment: a power of two from 64KiB to 1MiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse_bytes, default_value = "512KiB")]
    pub segment_size: u64,
    /// Once: overwrite what is not ours. Twice: give up dirty data, too
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub force: u8,
    /// Print the result, or the error, as JSON
    #[arg(long)]
    pub json: bool,
    /// The device to format
    #[arg(value_name = "CACHE")]
    pub cache: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    match format(&Host::default(), args) {
        Ok(summary) => {
            if args.json {
                println!("{}", json(&summary));
            } else {
                print!("{}", text(&summary, args));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wbformat: {error}");
            if args.json {
                println!(
                    "{}",
                    json(&serde_json::json!({"error": error.to_string(), "exit_code": error.exit_code()}))
                );
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn format(host: &Host, args: &Args) -> Result<Summary, DeviceError> {
    let cache = Device::open(host, &args.cache, Access::Exclusive)?;
    let backing = match (&args.backing, args.backing_size) {
        (Some(path), _) => Backing::of(host, path, &cache)?,
        (None, sectors) => Backing { sectors: sectors.unwrap_or(0), identity: None },
    };
    let request =
        Request { name: args.name.clone(), backing, segment_bytes: args.segment_size, force: args.force };
    format::plan(&cache, &request)?.write(&cache)
}

fn json(value: &impl serde::Serialize) -> String {
    // Only maps whose keys are not strings fail, and there are none.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn text(s: &Summary, args: &Args) -> String {
    let bytes = |sectors: u64| size::human(sectors * SECTOR as u64);
    let cache = s.cache.display();
    let mut out = format!("Formatted {cache}\n");
    let mut line = |key: &str, value: String| out.push_str(&format!("  {key:<10}{value}\n"));
    line("volume", if s.name.is_empty() { "(no name)".to_owned() } else { s.name.clone() });
    line("uuid", s.uuid.to_string());
    line(
        "cache",
        format!("{}, {} segments of {}", bytes(s.cache_sectors), s.segments, size::human(s.segment_bytes)),
    );
    line("backing", format!("{} ({} sectors)", bytes(s.backing_sectors), s.backing_sectors));
    line(
        "identity",
        match s.backing_id.as_str() {
            "" => "(not known)".to_owned(),
            id if Identity::parse(id).is_some_and(|i| i.kind.is_weak()) => {
                format!("{id} (weak: it can change, and another device can come to have it)")
            }
            id => id.to_owned(),
        },
    );
    if let (Some(backing), false) = (&args.backing, s.name.is_empty()) {
        out.push_str(&format!("Next: wbctl create {} {} {cache}\n", s.name, backing.display()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use writeboost::format::{BLOCK, DEFAULT_SEGMENT_BLOCKS};

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("wbformat --backing-size 1GiB --force --force -f /dev/x").unwrap();
        assert_eq!((args.backing_size, args.force), (Some(2 << 20), 3));
        assert_eq!(args.segment_size, u64::from(DEFAULT_SEGMENT_BLOCKS) * BLOCK as u64);
        assert!(parse("wbformat /dev/x").is_err(), "the backing device's size is needed");
        assert!(parse("wbformat --backing a --backing-size 8 /dev/x").is_err());
        assert!(parse("wbformat --backing-size 1GB /dev/x").is_err());
    }
}
