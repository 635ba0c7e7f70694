//! `cargo xtask`: the one entry for everything that is not plain cargo.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use xtask::lab::Kernel;
use xtask::progress::Progress;

mod bench;
mod build_kmod;
mod crash;
mod demo;
mod fuzz;
mod mutants;
mod races;
mod screenshots;
mod test;
mod tidy;
mod vm;

/// Builds, boots and tests the writeboost kernel module. Everything it needs is fetched, built and cached on
/// first use.
///
/// Two kinds of guests exist: `uml`, User Mode Linux built from Debian's kernel source, runs at native speed
/// and is for every day; `debian`, Debian's own kernel under QEMU, is emulated and slow, and the proof that
/// the module works where users are. What is set up is kept in ${XDG_CACHE_HOME:-~/.cache}/writeboost and can
/// be deleted at any time. WRITEBOOST_MIRROR names another Debian mirror than http://deb.debian.org/debian.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(Bench),
    BuildKmod(BuildKmod),
    Crash(Crash),
    /// Show the main job on throw-away devices: create a volume, cut the power while it is written to,
    /// resume, check
    ///
    /// The first time, setting up the lab takes about 15 minutes on two cores; after that, a minute.
    Demo,
    Fuzz(Fuzz),
    Mutants(Mutants),
    Races(Races),
    /// Take the pictures of wbstat in docs/ anew, on throw-away devices
    Screenshots,
    Test(Test),
    Vm(Vm),
}

/// Measure writeboost and its peers, dm-writecache, dm-cache and bcache, on the same work in one run
///
/// Prints medians, spread and ratios, and writes a report with plots to target/bench/report.md. Leave the
/// machine alone meanwhile: what else runs on it is measured, too. docs/benchmarks.md says what the figures
/// mean.
///
/// Examples:
///   cargo xtask bench --quick
///   cargo xtask bench --only fsync --only burst
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Bench {
    /// One short round of each instead of three
    #[arg(long)]
    quick: bool,
    /// Only loads with this in their names; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many rounds
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Also writes everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also puts the report into docs/benchmarks.md; loads that are not measured stay as they are there
    #[arg(long, conflicts_with = "quick")]
    keep: bool,
}

/// Build the kernel module, dm-writeboost.ko, and say where it is
#[derive(Debug, Args)]
struct BuildKmod {
    /// uml[:X.Y], debian[:X.Y] (newest supported series unless named) or host, the running kernel. Without
    /// it: host if that can work, else uml
    #[arg(long)]
    kernel: Option<Kernel>,
    /// Do not build it: ask clippy what it has against the module's Rust, as `cargo xtask test` does
    #[arg(long)]
    clippy: bool,
}

/// Check the engine in simulated crashes: of random lives of a volume, and what is left of it after each
///
/// A crash state is a power cut or a crash of the host, at any moment of writes, flushes, writeback,
/// relocation or resume, with what it left on the two devices, followed by a resume and a check of the whole
/// volume. Says how many it checks per second. A failure is made smaller, shown step by step, and printed
/// with the command that repeats it.
///
/// Examples:
///   cargo xtask crash --states 10000000
///   cargo xtask crash --seed 4711 --states 1
///   cargo xtask crash --case 4711/0:3,7,19-22/1:5/
///   cargo xtask crash --small 4
///   cargo xtask crash --history 'full tail big flush first'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Crash {
    /// How many crash states are checked, at least
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// The first seed; the next run has the next one. Without it: another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How many threads; without it as many as there are cores
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Repeats one run, or the part of it that a failure was reduced to, and shows what happens in it
    #[arg(long, conflicts_with_all = ["states", "seed", "threads"])]
    case: Option<String>,
    /// Instead of random lives, all crashes of all histories of up to so many events; 4 are half a million
    /// states, and each more is some times as many
    #[arg(long, value_name = "EVENTS", conflicts_with_all = ["states", "seed", "case"])]
    small: Option<usize>,
    /// All crashes of one small history, at each of its moments
    #[arg(long, conflicts_with_all = ["states", "seed", "threads", "case", "small"])]
    history: Option<String>,
}

/// Throw hostile bytes at whatever reads a device or a table line: the fuzz targets in fuzz/
///
/// Targets are superblock, headers, replay (a whole cache device) and arguments; without one, all of them run
/// side by side. Installs cargo-fuzz into the cache on first use. Inputs that reach something new are kept
/// there and used by the next run. What is found is printed with the command that repeats it.
///
/// Examples:
///   cargo xtask fuzz
///   cargo xtask fuzz replay --minutes 60
///   cargo xtask fuzz --minutes 600 --keep
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Fuzz {
    /// Only this target
    target: Option<String>,
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
    /// Afterwards choose the inputs in fuzz/corpus anew, which `cargo test` runs: as few as reach all that is
    /// reached
    #[arg(long)]
    keep: bool,
}

/// Put deliberate bugs into copies of the engine, one at a time, and see that its tests catch each of them
///
/// docs/mutants.md is the list, kmod/mutants has the patches.
///
/// Examples:
///   cargo xtask mutants
///   cargo xtask mutants epoch
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Mutants {
    /// Say which there are
    #[arg(long)]
    list: bool,
    /// How many are tried at a time, each in a copy of its own; without it as many as there are cores
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Only those with this in their names
    filter: Option<String>,
}

/// Check what threads do at the same time: the engine under the model checker loom, the volume in a
/// simulation
///
/// loom tries all orders, and all that weakly ordered memory may show, of what passes between threads and the
/// end of I/O without a lock. A simulation tries many orders of all threads of a volume together.
///
/// Examples:
///   cargo xtask races
///   cargo xtask races --runs 100000
///   cargo xtask races --mutants
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Races {
    /// How many lives of a volume are simulated
    #[arg(long)]
    runs: Option<u64>,
    /// Repeats the one of that number
    #[arg(long, conflicts_with = "runs")]
    seed: Option<u64>,
    /// Builds deliberate bugs in, one by one, and checks that each is found
    #[arg(long, conflicts_with_all = ["runs", "seed"])]
    mutants: bool,
    /// Only tests, or deliberate bugs, with this in their names
    filter: Option<String>,
}

/// Run the tests: of the code on this machine, and of the module in guests, each of which boots a kernel
///
/// The last line says how many passed and failed; the exit status is 0 when none failed. All of them take
/// three quarters of an hour on two cores, after the first run has set up the lab; with --full, hours.
///
/// Examples:
///   cargo xtask test
///   cargo xtask test --quick
///   cargo xtask test --full
///   cargo xtask test cutoff::
///   cargo xtask test --kernel uml-debug io::
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Test {
    /// Only what takes no more than two minutes altogether
    #[arg(long)]
    quick: bool,
    /// Also what takes too long for every day, and everything on kernels for races and with debug checks;
    /// says beforehand how long that takes
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// What guests boot: uml[:X.Y], uml-smp[:X.Y], uml-debug[:X.Y] (lockdep, KASAN and more) or debian[:X.Y].
    /// Without it: uml
    #[arg(long)]
    kernel: Option<Kernel>,
    /// Repeats a run with random content and moments
    #[arg(long)]
    seed: Option<u64>,
    /// Only tests with this in their names
    filter: Option<String>,
}

/// Boot a guest with the module and the tools, for a shell or one command
///
/// Changes to the guest's root are gone when it ends; disks and /mnt/share stay. Disks appear as
/// /dev/lab/disk0, /dev/lab/disk1, ...; the kernel's log goes to --log.
///
/// Examples:
///   cargo xtask vm
///   cargo xtask vm -- modinfo dm-writeboost
///   cargo xtask vm --kernel debian --cpus 4 --disk hdd.img --disk ssd.img
///   cargo xtask vm -- 'modprobe dm-writeboost && dmsetup targets'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Vm {
    /// uml[:X.Y], uml-debug[:X.Y] (lockdep, KASAN and more) or debian[:X.Y]; the newest supported series
    /// unless named
    #[arg(long, default_value = "uml")]
    kernel: Kernel,
    /// How many CPUs the guest has
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    cpus: u32,
    /// How much memory the guest has, such as 512M or 4G
    #[arg(long, default_value = "2G", value_parser = vm::mebibytes)]
    mem: u64,
    /// A file to be a disk of the guest, raw; may be given several times
    #[arg(long, value_name = "FILE")]
    disk: Vec<PathBuf>,
    /// A directory that the guest sees, writable, at /mnt/share
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Where the kernel's log goes
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Words for the kernel's command line; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// What to run instead of a shell: a program with its arguments, or a single word that is a bash script.
    /// Its output and its exit status become ours
    #[arg(last = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let progress = Progress::new();
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(args, progress),
        Command::BuildKmod(BuildKmod { kernel, clippy: true }) => build_kmod::clippy(kernel, progress),
        Command::BuildKmod(args) => build_kmod::run(args.kernel, progress),
        Command::Crash(args) => crash::run(args, progress),
        Command::Demo => demo::run(progress),
        Command::Fuzz(args) => fuzz::run(args, progress),
        Command::Mutants(args) => mutants::run(args, progress),
        Command::Races(args) => races::run(args, progress),
        Command::Screenshots => screenshots::run(progress),
        Command::Test(args) => test::run(args, progress),
        Command::Vm(args) => vm::run(args, progress),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
