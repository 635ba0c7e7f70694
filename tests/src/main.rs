//! `wbtest`: runs in guests, where tests need more than a shell.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use writeboost_tests::device::{Buffer, Device};
use writeboost_tests::files;
use writeboost_tests::history::{History, SECTOR};
use writeboost_tests::log_writes::Log;
use writeboost_tests::memory;
use writeboost_tests::random::Random;
use writeboost_tests::record::{moments, Player, Record};
use writeboost_tests::tree;

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
        #[command(flatten)]
        record: RecordArgs,
    },
    /// Make a disk what it may be after a power cut at some moment of a log of target log-writes; print
    /// `durable N`
    Replay {
        /// The log
        log: PathBuf,
        /// The disk
        disk: PathBuf,
        /// What chooses the moment
        #[arg(long)]
        seed: u64,
    },
    /// Cut the power at many moments of a record of target `record`: make two disks what they may be then,
    /// and run a check
    ///
    /// The check is a bash function, exported by the caller. It finds the number of the point in $point,
    /// and in $KEY the last number of each mark `KEY NUMBER` before the cut.
    Points(Points),
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
    /// Let several writers change directories; mark `writerN STEP` once all up to a writer's step is durable
    TreeWrite {
        /// Where
        dir: PathBuf,
        /// What they follow from
        #[arg(long)]
        seed: u64,
        /// How many
        #[arg(long)]
        writers: u64,
        /// How long
        #[arg(long)]
        seconds: u64,
        /// The file that takes marks
        #[arg(long)]
        record: PathBuf,
    },
    /// Check that directories are as a power cut may leave them
    TreeCheck {
        /// Where
        dir: PathBuf,
        /// What they follow from
        #[arg(long)]
        seed: u64,
        /// The last durable step of each writer; 0 for none
        #[arg(long, value_delimiter = ',')]
        durable: Vec<u64>,
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
    /// Fill memory, then check and change it again and again
    Hog {
        /// MiB
        mib: usize,
        /// How often
        #[arg(long, default_value_t = 1)]
        passes: u64,
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
struct RecordArgs {
    /// The file of target `record` that takes marks
    #[arg(long)]
    record: Option<PathBuf>,
    /// The key of the marks
    #[arg(long, default_value = "durable")]
    key: String,
}

#[derive(Debug, Args)]
struct Points {
    /// The record
    record: PathBuf,
    /// What the two devices had when it began, as files
    #[arg(long, num_args = 2, required = true)]
    base: Vec<PathBuf>,
    /// The disks to make the points on
    #[arg(long, num_args = 2, required = true)]
    disks: Vec<PathBuf>,
    /// How many points
    #[arg(long)]
    count: usize,
    /// What chooses them
    #[arg(long)]
    seed: u64,
    /// The check
    #[arg(long)]
    check: String,
    /// A directory for both disks' content when the check fails
    #[arg(long)]
    keep: PathBuf,
    /// One more point, that is not checked but put into the files of --base, and its marks, as bash
    /// assignments, into the file `left` in --keep
    #[arg(long)]
    leave: Option<Leave>,
    /// What can be read of the two devices when the record begins, if their caches hold more than is stable;
    /// --leave reset writes these files, and --leave cut removes them
    #[arg(long, num_args = 2, required = true)]
    visible: Vec<PathBuf>,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Leave {
    /// The power is cut
    Cut,
    /// The machine is reset, the disks and their caches keep their power
    Reset,
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

/// A function that writes marks into a record. A mark is there when it returns.
fn marker(record: &Path) -> Result<impl Fn(&str, u64) -> Result<()>> {
    let file = OpenOptions::new().write(true).open(record);
    let file = file.with_context(|| format!("cannot open {}", record.display()))?;
    // One write for each: several threads may do this at once.
    Ok(move |key: &str, number: u64| Ok((&file).write_all(format!("{key} {number}").as_bytes())?))
}

fn points(args: &Points) -> Result<()> {
    let record = Record::decode(&fs::read(&args.record)?)?;
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let base = [read(&args.base[0])?, read(&args.base[1])?];
    let disks = [Device::open(&args.disks[0])?, Device::open(&args.disks[1])?];
    for (disk, base) in disks.iter().zip(&base) {
        ensure!(disk.bytes() == base.len() as u64, "a disk has another size than when the record began");
    }
    let mut random = Random::new(&[args.seed]);
    let moments = moments(&record, args.count + usize::from(args.leave.is_some()), &mut random);
    // One that is taken from the middle of everything, so that a next life does not always begin at the end.
    let leave = args.leave.map(|_| random.below(moments.len() as u64) as usize);
    let mut content = base.clone();
    let mut player = if args.visible[0].exists() {
        Player::with_caches(&record, base, &[read(&args.visible[0])?, read(&args.visible[1])?])?
    } else {
        Player::new(&record, base)
    };
    let mut kept = None;
    let mut volatile = 0;
    for (point, &moment) in moments.iter().enumerate() {
        player.go(moment)?;
        let fates = player.cut(&mut content, &mut random);
        if leave == Some(point) {
            let left = match args.leave {
                Some(Leave::Reset) => player.reset(),
                _ => content.clone().map(|content| (content.clone(), content)),
            };
            kept = Some((left, player.marks().clone()));
            continue;
        }
        for (disk, content) in disks.iter().zip(&content) {
            put(disk, content)?;
        }
        volatile += usize::from(fates.iter().any(|(_, fate)| fate.volatile > 0));
        let what =
            format!("point {point}, event {moment} of {}, {fates:?}, {:?}", record.len(), player.marks());
        println!("{what}");
        if !passes_check(&args.check, point, player.marks())? {
            for (name, content) in ["backing.img", "cache.img"].iter().zip(&content) {
                fs::write(args.keep.join(name), content)?;
            }
            fs::write(args.keep.join("point"), &what)?;
            bail!("the check fails at {what}");
        }
    }
    let all = record.boundaries();
    let at = all.iter().filter(|(at, _)| moments.binary_search(at).is_ok()).count();
    let boundaries = all.len();
    println!(
        "REPORT {} points, at {at} of {boundaries} flush boundaries and between, \
         {volatile} with volatile writes",
        args.count
    );
    match kept {
        Some((left, marks)) => keep_left(args, &left, &marks),
        None => Ok(()),
    }
}

/// Whether the bash function `check` succeeds at a point.
fn passes_check(check: &str, point: usize, marks: &BTreeMap<String, u64>) -> Result<bool> {
    let mut bash = Process::new("bash");
    bash.args(["-eEuo", "pipefail", "-O", "inherit_errexit", "-c"]);
    bash.arg(format!("trap 'echo \"FAILED: $BASH_COMMAND\"' ERR; {check}"));
    bash.env("point", point.to_string());
    bash.envs(marks.iter().map(|(key, number)| (key, number.to_string())));
    Ok(bash.status()?.success())
}

/// Keeps the point at which the next life begins: for each disk what is stable and what can be read, and the
/// marks.
fn keep_left(args: &Points, left: &[(Vec<u8>, Vec<u8>); 2], marks: &BTreeMap<String, u64>) -> Result<()> {
    for ((base, visible), (stable, seen)) in args.base.iter().zip(&args.visible).zip(left) {
        fs::write(base, stable)?;
        if args.leave == Some(Leave::Reset) {
            fs::write(visible, seen)?;
        } else if visible.exists() {
            fs::remove_file(visible)?;
        }
    }
    let assignments: String = marks.iter().map(|(key, number)| format!("{key}={number}\n")).collect();
    Ok(fs::write(args.keep.join("left"), assignments)?)
}

/// Writes all of a disk.
fn put(disk: &Device, content: &[u8]) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    let mut buffer = Buffer::new(CHUNK);
    for (i, chunk) in content.chunks(CHUNK).enumerate() {
        buffer.first_mut(chunk.len()).copy_from_slice(chunk);
        disk.write(buffer.first(chunk.len()), (i * CHUNK) as u64, false)?;
    }
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
        Command::HistoryWrite { history, every, from, last, mark, record } => {
            let (history, device) = history.open()?;
            let from = from.or(history.epochs.last().copied()).unwrap_or(1);
            let marker = record.record.as_deref().map(marker).transpose()?;
            history.make(&device, (from, last), every, |number| match (&mark, &marker) {
                (Some(device), _) => put_mark(device, number),
                (None, Some(mark)) => mark(&record.key, number),
                (None, None) => say("durable", number),
            })
        }
        Command::Points(args) => points(&args),
        Command::TreeWrite { dir, seed, writers, seconds, record } => {
            let end = Instant::now() + Duration::from_secs(seconds);
            let mark = marker(&record)?;
            tree::write(
                &dir,
                seed,
                writers,
                || Instant::now() < end,
                |writer, step| mark(&format!("writer{writer}"), step),
            )
        }
        Command::TreeCheck { dir, seed, durable } => say("exact", tree::check(&dir, seed, &durable)?),
        Command::Replay { log, disk, seed } => replay(&log, &disk, seed),
        Command::HistoryCheck { history, durable, reads } => {
            let (history, device) = history.open()?;
            say("prefix", history.check(&device, durable, reads)?)
        }
        Command::Hog { mib, passes } => {
            memory::hog(mib, passes)?;
            say("passes", passes)
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
