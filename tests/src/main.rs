//! `wbtest`: runs in guests, where tests need more than a shell.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use writeboost_tests::device::Device;
use writeboost_tests::files;
use writeboost_tests::history::{History, SECTOR};

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

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::HistoryWrite { history, every, from, last } => {
            let (history, device) = history.open()?;
            let from = from.or(history.epochs.last().copied()).unwrap_or(1);
            history.make(&device, (from, last), every, |number| say("durable", number))
        }
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
