//! `wbtest`: runs in guests, where tests need more than a shell.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{ensure, Result};
use clap::{Args, Parser, Subcommand};
use writeboost_tests::device::{Buffer, Device};
use writeboost_tests::files;
use writeboost_tests::history::{History, SECTOR};
use writeboost_tests::log_writes::Log;
use writeboost_tests::random::Random;

/// Writes what can be checked after a power cut, and checks it.
#[derive(Debug, Parser)]
#[command(name = "wbtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make writes, those of the last epoch; print `durable N` once write N is durable
    HistoryWrite {
        #[command(flatten)]
        history: HistoryArgs,
        /// One write in so many is made durable, by fsync or by itself; 0 for none
        #[arg(long, default_value_t = 0)]
        every: u64,
        /// The number of the first write, if it is not the epoch's
        #[arg(long)]
        from: Option<u64>,
        /// The number of the last write; without it, they never end
        #[arg(long)]
        last: Option<u64>,
        /// A device-mapper device of target log-writes, in whose log durable writes are marked
        #[arg(long)]
        mark: Option<String>,
    },
    /// Make a disk what it may be after a power cut at some moment of a log of target log-writes; print `durable N`
    Replay {
        /// The log
        log: PathBuf,
        /// The disk
        disk: PathBuf,
        /// What chooses the moment
        #[arg(long)]
        seed: u64,
    },
    /// Check that the device is a prefix of the history, and print `prefix N`
    HistoryCheck {
        #[command(flatten)]
        history: HistoryArgs,
        /// The number of a write that is known to be durable
        #[arg(long, default_value_t = 0)]
        durable: u64,
        /// How many random parts to read besides
        #[arg(long, default_value_t = 0)]
        reads: u64,
    },
    /// Write files; print `durable N` once file N is durable
    FilesWrite {
        /// Where
        dir: PathBuf,
        /// What they follow from
        #[arg(long)]
        seed: u64,
        /// The number of the first one
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many; without it, they never end
        #[arg(long)]
        count: Option<u64>,
    },
    /// Check that the files are as they were written
    FilesCheck {
        /// Where
        dir: PathBuf,
        /// What they follow from
        #[arg(long)]
        seed: u64,
        /// The number of the last one
        #[arg(long)]
        last: u64,
    },
}

#[derive(Debug, Args)]
struct HistoryArgs {
    /// The block device
    device: PathBuf,
    /// What everything follows from
    #[arg(long)]
    seed: u64,
    /// The number of each epoch's first write
    #[arg(long, value_delimiter = ',', default_value = "1")]
    epochs: Vec<u64>,
    /// The first sector that is written to
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Sectors that are written to; without it, all from the first on
    #[arg(long)]
    sectors: Option<u64>,
    /// What addresses and lengths are multiples of, in sectors
    #[arg(long, default_value_t = 1)]
    align: u64,
}

impl HistoryArgs {
    fn open(self) -> Result<(History, Device)> {
        let device = Device::open(&self.device)?;
        let left = (device.bytes() / SECTOR as u64).saturating_sub(self.first);
        let sectors = self.sectors.unwrap_or(left).min(left) / self.align * self.align;
        let Self { seed, epochs, first, align, .. } = self;
        Ok((History { seed, sectors, first, align, epochs }, device))
    }
}

/// Prints at once: a guest may lose its power any moment.
fn say(word: &str, number: u64) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {number}")?;
    Ok(out.flush()?)
}

/// Marks write `number` in the log of the device-mapper device `name`.
fn put_mark(name: &str, number: u64) -> Result<()> {
    let status =
        Process::new("dmsetup").args(["message", name, "0", "mark", &number.to_string()]).status()?;
    ensure!(status.success(), "dmsetup cannot mark write {number}");
    Ok(())
}

fn replay(log: &Path, disk: &Path, seed: u64) -> Result<()> {
    let device = Device::open(log)?;
    let log = Log::read(|at, len| {
        let mut buffer = Buffer::new(len);
        device.read(buffer.first_mut(len), at)?;
        Ok(buffer.first(len).to_vec())
    })?;
    let device = Device::open(disk)?;
    let mut content = Buffer::new(usize::try_from(device.bytes())?);
    let left = log.cut(content.first_mut(usize::MAX), &mut Random::new(&[seed]));
    device.write(content.first(usize::MAX), 0, false)?;
    say("durable", left.mark)?;
    eprintln!("{} of {} entries of the log, and {} writes besides", left.entries, log.len(), left.besides);
    Ok(())
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::HistoryWrite { history, every, from, last, mark } => {
            let (history, device) = history.open()?;
            let from = from.or(history.epochs.last().copied()).unwrap_or(1);
            history.make(&device, (from, last), every, |number| match &mark {
                Some(device) => put_mark(device, number),
                None => say("durable", number),
            })
        }
        Command::Replay { log, disk, seed } => replay(&log, &disk, seed),
        Command::HistoryCheck { history, durable, reads } => {
            let (history, device) = history.open()?;
            say("prefix", history.check(&device, durable, reads)?)
        }
        Command::FilesWrite { dir, seed, from, count } => {
            files::write(&dir, seed, from, count, |number| say("durable", number))
        }
        Command::FilesCheck { dir, seed, last } => {
            files::check(&dir, seed, last)?;
            say("files", last)
        }
    }
}
