//! What is measured: on which devices, with which targets, and how fast writeboost should be.

use super::result::Unit;

/// What lies under the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bed {
    /// Two RAM disks of so many MiB.
    Ram(u32),
    /// The model of a hard disk, and a RAM disk of so many MiB as the cache device.
    Disk(u32),
    /// The models of a hard disk and of an SSD of so many MiB.
    Ssd(u32),
    /// A device whose time is that of its kind (`tests/model`), and a RAM disk of so many MiB as the cache
    /// device.
    Model(Model, u32),
}

/// What takes the time of a device of some kind. `docs/benchmarks.md` says what stands behind the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// A hard disk whose flushes take so many milliseconds beyond writing what it holds.
    Disk { flush_ms: u32 },
    /// A shingled one.
    Shingled,
    /// An array of disks behind a controller.
    Array,
    /// A volume on a network.
    Network,
}

impl Model {
    fn name(self) -> String {
        match self {
            Self::Disk { flush_ms } => format!("disk with seeks and flushes of {flush_ms} ms"),
            Self::Shingled => "shingled disk".to_owned(),
            Self::Array => "array".to_owned(),
            Self::Network => "network volume".to_owned(),
        }
    }

    /// Parameters of blk-model.ko.
    pub fn parameters(self) -> String {
        match self {
            Self::Disk { flush_ms } => format!("flush_us={}", flush_ms * 1000),
            Self::Shingled => "zone_mib=16 media_mib=64".to_owned(),
            // Its controller's cache has a battery, and so it has nothing to flush.
            Self::Array => "parallel=1 tags=1024 latency_us=5000 mbps=2500 flush_us=0".to_owned(),
            Self::Network => "parallel=1 tags=256 latency_us=2000 mbps=1000 flush_us=2000".to_owned(),
        }
    }
}

impl Bed {
    /// For people.
    pub fn name(self) -> String {
        match self {
            Self::Ram(1024) => "RAM disks".to_owned(),
            Self::Ram(mib) => format!("RAM disks of {mib} MiB"),
            Self::Disk(mib) => format!("hard disk model, {mib} MiB of RAM disk"),
            Self::Ssd(mib) => format!("hard disk model, {mib} MiB of SSD model"),
            Self::Model(model, mib) => format!("{}, {mib} MiB of RAM disk", model.name()),
        }
    }

    /// MiB of the cache device.
    pub fn cache_mib(self) -> u32 {
        match self {
            Self::Ram(mib) | Self::Disk(mib) | Self::Ssd(mib) | Self::Model(_, mib) => mib,
        }
    }

    /// Its command for the guest.
    pub fn command(self) -> String {
        match self {
            Self::Ram(mib) => format!("bed_ram {mib}"),
            Self::Disk(mib) => format!("bed_disk 2048 {mib}"),
            Self::Ssd(mib) => format!("bed_ssd 2048 {mib}"),
            Self::Model(model, mib) => format!("bed_model {mib} mib=2048 {}", model.parameters()),
        }
    }
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// fio with these arguments for so many seconds, after a function of the guest has prepared the target.
    Fio { prepare: Option<&'static str>, args: &'static str, seconds: u32 },
    /// Free memory before and after there is a cache, so many MiB of which are filled.
    Memory { mib: u32 },
    /// So many MiB are copied onto it, one after the other, and then drained.
    Copy { mib: u32 },
    /// Format, resume of what is empty and of what a function of the guest with its arguments has filled, and
    /// drain of that.
    Resume { fill: &'static str, drain: bool },
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least so many times what the best of the peers has.
    BestPeer(f64),
    /// At least so many times what this target has.
    Of(&'static str, f64),
    /// At most.
    AtMost(f64),
}

/// One figure that is taken from a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub unit: Unit,
    pub goals: &'static [Goal],
}

/// A load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// For `--only` and file names.
    pub name: &'static str,
    pub title: &'static str,
    pub bed: Bed,
    pub work: Work,
    pub targets: &'static [&'static str],
    /// The first one is what the plot shows.
    pub figures: &'static [Figure],
    /// Not more rounds than these, for what takes minutes.
    pub most_rounds: u32,
}

/// The C dm-writeboost, where it builds.
pub const C_WRITEBOOST: &str = "c_writeboost";

const ALL: &[&str] = &["fast", "linear", "writeboost", "writecache", "cache", "bcache", C_WRITEBOOST];
const ALONE: &[&str] = &["fast", "slow", "writeboost", "writecache", "cache", "bcache", C_WRITEBOOST];
const CACHES: &[&str] = &["writeboost", "writecache", "cache", "bcache", C_WRITEBOOST];
const DRAINED: &[&str] = &["writeboost", "writecache", C_WRITEBOOST];

const fn figure(unit: Unit, goals: &'static [Goal]) -> Figure {
    Figure { unit, goals }
}

const fn fio(
    name: &'static str,
    title: &'static str,
    args: &'static str,
    figures: &'static [Figure],
) -> Load {
    Load {
        name,
        title,
        bed: Bed::Ram(1024),
        work: Work::Fio { prepare: None, args, seconds: 5 },
        targets: ALL,
        figures,
        most_rounds: 9,
    }
}

/// A copy through the cache, and the drain of what is left in it.
const fn copy(name: &'static str, model: Model) -> Load {
    Load {
        bed: Bed::Model(model, 512),
        work: Work::Copy { mib: 1536 },
        targets: &["slow", "writeboost", "writecache"],
        most_rounds: 3,
        ..fio(name, "1,536 MiB copied through the cache and drained", "", COPIED)
    }
}

const COPIED: &[Figure] = &[
    figure(Unit::MegabytesPerSecond, &[Goal::Of("slow", 0.95), Goal::BestPeer(1.0)]),
    figure(Unit::CopyMs, &[]),
    figure(Unit::DrainMs, &[]),
];

/// Writes when the cache is full.
const fn full(
    name: &'static str,
    title: &'static str,
    model: Model,
    args: &'static str,
    figures: &'static [Figure],
) -> Load {
    Load {
        bed: Bed::Model(model, 128),
        targets: &["slow", "writeboost", "writecache"],
        work: Work::Fio { prepare: Some("fill_up"), args, seconds: 15 },
        most_rounds: 3,
        ..fio(name, title, "", figures)
    }
}

const DISK: Model = Model::Disk { flush_ms: 10 };
const FULL_1M: &str = "1 MiB sequential writes, 16 at a time, behind a full cache";
const FULL_64K: &str = "64 KiB random writes, 32 at a time, behind a full cache";
const FULL_4K: &str = "4 KiB random writes, 64 at a time, behind a full cache";
const ARGS_1M: &str = "--rw=write --bs=1M --iodepth=16 --size=1536M";
const ARGS_64K: &str = "--rw=randwrite --bs=64k --iodepth=32 --size=1536M";
const ARGS_4K: &str = "--rw=randwrite --bs=4k --iodepth=64 --size=1536M";
const NEARLY: &[Figure] = &[
    figure(Unit::MegabytesPerSecond, &[Goal::Of("slow", 0.9)]),
    figure(Unit::P99, &[]),
    figure(Unit::Longest, &[]),
];

const CPU: Figure = figure(Unit::MicrosecondsCpu, &[]);

/// All of them, in the order of the report.
pub const LOADS: &[Load] = &[
    fio(
        "randwrite",
        "4 KiB random writes, 64 at a time",
        "--rw=randwrite --bs=4k --iodepth=64 --size=512M",
        &[figure(Unit::Iops, &[Goal::BestPeer(1.2), Goal::Of("linear", 0.7)]), CPU],
    ),
    fio(
        "randwrite-qd1",
        "4 KiB random writes, one at a time",
        "--rw=randwrite --bs=4k --iodepth=1 --size=512M",
        &[figure(Unit::Iops, &[]), CPU],
    ),
    fio(
        "write-512k",
        "512 KiB sequential writes",
        "--rw=write --bs=512k --iodepth=8 --size=512M",
        &[figure(Unit::MegabytesPerSecond, &[Goal::BestPeer(1.3)]), CPU],
    ),
    fio(
        "write-1m",
        "1 MiB sequential writes",
        "--rw=write --bs=1M --iodepth=8 --size=512M",
        &[figure(Unit::MegabytesPerSecond, &[]), CPU],
    ),
    fio(
        "write-mixed",
        "random writes of 4 KiB (60 %), 8 KiB (20 %), 64 KiB (15 %), 256 KiB (5 %)",
        "--rw=randwrite --bssplit=4k/60:8k/20:64k/15:256k/5 --iodepth=32 --size=512M",
        &[figure(Unit::MegabytesPerSecond, &[]), CPU],
    ),
    Load {
        work: Work::Fio {
            prepare: Some("fill_512"),
            args: "--rw=randread --bs=4k --iodepth=64 --size=512M",
            seconds: 5,
        },
        ..fio(
            "randread-hit",
            "4 KiB random reads of what was written, 64 at a time",
            "",
            &[figure(Unit::Iops, &[Goal::BestPeer(1.2)]), CPU],
        )
    },
    fio(
        "randread-miss",
        "4 KiB random reads of what never was written, 64 at a time",
        "--rw=randread --bs=4k --iodepth=64 --offset=512M --size=512M",
        &[figure(Unit::Iops, &[]), CPU],
    ),
    Load {
        work: Work::Fio {
            prepare: Some("fill_512"),
            args: "--rw=randrw --rwmixread=70 --bs=4k --iodepth=64 --size=512M",
            seconds: 5,
        },
        ..fio(
            "mixed",
            "4 KiB random, 70 % reads of what was written and 30 % writes",
            "",
            &[figure(Unit::Iops, &[]), CPU],
        )
    },
    fio(
        "fsync",
        "4 KiB random writes, each fsync'd, 1 job",
        "--ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=512M",
        &[figure(Unit::WritesPerSecond, &[Goal::Of("fast", 0.85)]), CPU],
    ),
    fio(
        "fsync-8",
        "4 KiB random writes, each fsync'd, 8 jobs",
        "--ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=512M --numjobs=8",
        &[figure(Unit::WritesPerSecond, &[]), CPU],
    ),
    Load {
        bed: Bed::Ssd(1024),
        targets: ALONE,
        ..fio(
            "ssd-fsync",
            "4 KiB random writes, each fsync'd, 1 job",
            "--ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=256M",
            &[
                figure(Unit::WritesPerSecond, &[Goal::Of("fast", 1.0)]),
                figure(Unit::CacheBytesPerByte, &[Goal::AtMost(2.0)]),
                figure(Unit::CacheWrites, &[]),
                figure(Unit::CacheFlushes, &[]),
            ],
        )
    },
    Load {
        bed: Bed::Ssd(1024),
        targets: ALONE,
        ..fio(
            "ssd-fsync-8",
            "4 KiB random writes, each fsync'd, 8 jobs",
            "--ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=256M --numjobs=8",
            &[
                figure(Unit::WritesPerSecond, &[]),
                figure(Unit::CacheBytesPerByte, &[]),
                figure(Unit::CacheWrites, &[]),
                figure(Unit::CacheFlushes, &[]),
            ],
        )
    },
    Load {
        // Less than fits into the log, so that it is all about the SSD.
        bed: Bed::Ssd(6144),
        targets: &["fast", "writeboost", "writecache", C_WRITEBOOST],
        work: Work::Fio { prepare: None, args: "--rw=write --bs=1M --iodepth=16 --size=1900M", seconds: 5 },
        ..fio(
            "ssd-log",
            "1 MiB sequential writes: the bandwidth of the log",
            "",
            &[
                figure(Unit::MegabytesPerSecond, &[Goal::Of("fast", 0.98)]),
                figure(Unit::CacheBytesPerByte, &[]),
            ],
        )
    },
    Load {
        bed: Bed::Ssd(3072),
        targets: &["fast", "writeboost", "writecache", "cache", "bcache", C_WRITEBOOST],
        ..fio(
            "ssd-randwrite",
            "4 KiB random writes, 64 at a time",
            "--rw=randwrite --bs=4k --iodepth=64 --size=2000M",
            &[
                figure(Unit::Iops, &[]),
                figure(Unit::CacheBytesPerByte, &[Goal::AtMost(1.02)]),
                figure(Unit::CacheWrites, &[]),
                figure(Unit::CacheFlushes, &[]),
            ],
        )
    },
    Load {
        bed: Bed::Disk(128),
        targets: CACHES,
        work: Work::Fio {
            prepare: None,
            args: "--rw=randwrite --bs=4k --iodepth=16 --size=2000M",
            seconds: 40,
        },
        most_rounds: 1,
        ..fio(
            "burst",
            "a burst larger than the cache: 4 KiB random writes, 16 at a time, 40 s",
            "",
            &[
                figure(Unit::Iops, &[Goal::BestPeer(1.0)]),
                figure(Unit::P50, &[]),
                figure(Unit::P99, &[]),
                figure(Unit::P999, &[Goal::BestPeer(1.0)]),
                figure(Unit::Longest, &[Goal::BestPeer(1.0)]),
            ],
        )
    },
    Load {
        bed: Bed::Disk(1024),
        targets: &["writeboost", "writecache", C_WRITEBOOST],
        work: Work::Fio {
            prepare: None,
            args: "--ioengine=psync --rw=randwrite --bs=4k --fsync=1 --size=512M",
            seconds: 600,
        },
        most_rounds: 1,
        ..fio(
            "steady",
            "4 KiB random writes, each fsync'd, over the hard disk model for 10 minutes",
            "",
            &[
                figure(Unit::WritesPerSecond, &[]),
                figure(Unit::SlowestSecond, &[]),
                figure(Unit::Longest, &[]),
            ],
        )
    },
    Load {
        // The linear one says what the method adds to all of them.
        targets: &["linear", "writeboost", C_WRITEBOOST, "writecache", "cache", "bcache"],
        bed: Bed::Ram(4096),
        work: Work::Memory { mib: 3700 },
        most_rounds: 3,
        ..fio(
            "memory",
            "RAM for each 4 KiB of the cache, 4 GiB with 3,700 MiB in it",
            "",
            &[figure(Unit::BytesPerBlock, &[Goal::AtMost(24.0)])],
        )
    },
    Load {
        bed: Bed::Disk(1024),
        targets: DRAINED,
        work: Work::Resume { fill: "fill 900", drain: true },
        most_rounds: 3,
        ..fio(
            "resume",
            "format, resume with 900 MiB dirty, drain of it to the hard disk model",
            "",
            &[
                figure(Unit::ResumeMs, &[Goal::BestPeer(10.0)]),
                figure(Unit::EmptyMs, &[]),
                figure(Unit::FormatMs, &[]),
                figure(Unit::DrainMs, &[]),
            ],
        )
    },
    Load {
        bed: Bed::Ssd(1024),
        targets: DRAINED,
        work: Work::Resume { fill: "fill 900", drain: false },
        most_rounds: 3,
        ..fio(
            "ssd-resume",
            "resume with 900 MiB dirty, SSD model",
            "",
            &[figure(Unit::ResumeMs, &[]), figure(Unit::EmptyMs, &[])],
        )
    },
    Load {
        bed: Bed::Ssd(1024),
        targets: DRAINED,
        work: Work::Resume { fill: "fill_fsync 300", drain: false },
        most_rounds: 3,
        ..fio(
            "ssd-resume-fsync",
            "resume with 300 MiB of fsync'd 4 KiB writes, SSD model",
            "",
            &[figure(Unit::ResumeMs, &[]), figure(Unit::EmptyMs, &[])],
        )
    },
    copy("copy-disk", DISK),
    copy("copy-disk-2ms", Model::Disk { flush_ms: 2 }),
    copy("copy-disk-30ms", Model::Disk { flush_ms: 30 }),
    copy("copy-shingled", Model::Shingled),
    copy("copy-array", Model::Array),
    copy("copy-network", Model::Network),
    full("full-1m-array", FULL_1M, Model::Array, ARGS_1M, NEARLY),
    full("full-64k-array", FULL_64K, Model::Array, ARGS_64K, NEARLY),
    full("full-4k-array", FULL_4K, Model::Array, ARGS_4K, NEARLY),
    full("full-1m-network", FULL_1M, Model::Network, ARGS_1M, NEARLY),
    full("full-64k-network", FULL_64K, Model::Network, ARGS_64K, NEARLY),
    full("full-4k-network", FULL_4K, Model::Network, ARGS_4K, NEARLY),
    full("full-1m-disk", FULL_1M, DISK, ARGS_1M, NEARLY),
    full("full-64k-disk", FULL_64K, DISK, ARGS_64K, NEARLY),
    full("full-4k-disk", FULL_4K, DISK, ARGS_4K, NEARLY),
    full("full-4k-shingled", FULL_4K, Model::Shingled, ARGS_4K, NEARLY),
];
