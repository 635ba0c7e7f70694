// SPDX-License-Identifier: GPL-2.0-only

//! The target `writeboost`: what device-mapper asks for, and how the volume does it.
//!
//! Table line: `0 SECTORS writeboost BACKING CACHE [#WORDS KEY VALUE ...]`.

use crate::arguments::{self, Message, Options, Query, TableError};
use crate::format::Uuid;
use crate::host::{
    boxed, not_supported, Args, Bio, Box, Construction, Device, InUse, Key, Mapping, Op, Outcome, Refusal,
    Result, Returned, StatusKind, Target, Writer, EINVAL, EIO, EROFS,
};
use crate::policy::limits::{Limits, Unfit};
use crate::volume::{open, Disks, Kind, PerBio, Running};
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::Ordering;

/// The target.
pub struct Writeboost {
    running: Running,
    // Behind `running`, so that they stay noted until the volume is gone.
    _devices: [InUse; 2],
    _volume: [InUse; 2],
}

fn options(args: &Args<'_>) -> core::result::Result<Options, Refusal> {
    arguments::options(args.words().skip(2)).map_err(|e| match e {
        TableError::Count => {
            (c"The number of option words must be even and right: #WORDS KEY VALUE ...", EINVAL)
        }
        TableError::Option { key, value, error } => {
            log_err!("option {} {}: {}", key, value, error);
            (c"An option is unknown or out of range: see the kernel log", EINVAL)
        }
    })
}

/// Refuses devices that cannot be used; before anything is written, for device-mapper itself looks only afterwards.
fn check_shapes(backing: &Device, cache: &Device) -> core::result::Result<(), Refusal> {
    let log = |which, device: &Device, unfit: &Unfit| {
        log_err!("refusing the {} device {}: {}", which, device.name().to_str().unwrap_or("?"), unfit);
    };
    backing.shape().check_backing().map_err(|unfit| {
        log("backing", backing, &unfit);
        match unfit {
            Unfit::ReadOnly => (c"The backing device is read-only", EROFS),
            Unfit::Zoned => (c"The backing device is zoned, which is not supported", EINVAL),
            Unfit::LogicalBlock(_) => {
                (c"The backing device has logical blocks of more than 4096 bytes", EINVAL)
            }
            Unfit::Uneven(..) => {
                (c"The size of the backing device is no multiple of its logical blocks", EINVAL)
            }
            Unfit::TooSmall(_) => (c"The backing device is empty", EINVAL),
            Unfit::TooLarge(_) => (c"The backing device is too large: the most are 4 PiB", EINVAL),
        }
    })?;
    cache.shape().check_cache().map_err(|unfit| {
        log("cache", cache, &unfit);
        match unfit {
            Unfit::ReadOnly => (c"The cache device is read-only", EROFS),
            Unfit::Zoned => (c"The cache device is zoned, which is not supported", EINVAL),
            Unfit::LogicalBlock(_) => {
                (c"The cache device has logical blocks of more than 4096 bytes", EINVAL)
            }
            _ => (c"The cache device is too small: it must have at least 9 MiB", EINVAL),
        }
    })
}

impl Target for Writeboost {
    const NAME: &'static CStr = c"writeboost";
    const VERSION: [u32; 3] = [3, 0, 0];
    type PerBio = PerBio;
    type Question = Query;

    fn new(ti: &Construction<'_>, args: &Args<'_>) -> core::result::Result<Box<Self>, Refusal> {
        let (Some(backing), Some(cache)) = (args.c_str(0), args.c_str(1)) else {
            return Err((c"Two devices are needed: BACKING CACHE [#WORDS KEY VALUE ...]", EINVAL));
        };
        let options = options(args)?;
        let backing = ti.device(backing).map_err(|e| (c"Cannot open the backing device", e))?;
        let cache = ti.device(cache).map_err(|e| (c"Cannot open the cache device", e))?;
        if backing.id() == cache.id() {
            return Err((c"The backing device and the cache device are the same", EINVAL));
        }
        let in_use = |d: &Device| {
            InUse::new(Key::Device(d.id()))
                .map_err(|e| (c"A device is in use by another writeboost volume", e))
        };
        let devices = [in_use(&backing)?, in_use(&cache)?];
        check_shapes(&backing, &cache)?;
        if ti.sectors() != backing.sectors() {
            return Err((c"The volume must be as large as the backing device", EINVAL));
        }
        let disks = Disks::new(backing, cache).map_err(|e| (c"Not enough memory", e))?;
        let (running, volume) = open(disks, ti.events(), options)?;
        boxed(Self { running, _devices: devices, _volume: volume }).map_err(|e| (c"Not enough memory", e))
    }

    fn map(&self, bio: Mapping<'_, PerBio>) -> Outcome<PerBio> {
        let volume = &self.running.volume;
        if volume.refuses(&bio) {
            bio.into_bio().end(Err(EIO));
            return Outcome::Submitted;
        }
        match bio.op() {
            Op::Read => return volume.read(bio),
            Op::Write => return volume.write(bio),
            Op::Flush => volume.flush(bio.into_bio()),
            Op::Other => bio.into_bio().end(Err(not_supported())),
        }
        Outcome::Submitted
    }

    fn end_io(&self, bio: Bio<PerBio>, result: Result) -> Returned<PerBio> {
        self.running.volume.end_io(bio, result)
    }

    fn suspending(&self, begins: bool) {
        self.running.volume.set_leaving(begins);
    }

    fn stop(&self) {
        self.running.stop();
    }

    fn suspended(&self) {
        self.running.volume.suspend();
    }

    fn resume(&self, alone: bool) {
        self.running.volume.resume(alone);
    }

    fn status(&self, kind: StatusKind, out: &mut Writer<'_>) {
        // A `Writer` cuts off instead of failing.
        let _ = match kind {
            StatusKind::Info => self.write_info(out),
            StatusKind::Table => self.write_table(out),
        };
    }

    fn message(&self, args: &Args<'_>) -> Result<Option<Query>> {
        let volume = &self.running.volume;
        match Message::parse(args.words()) {
            Ok(Message::Drain) => volume.drain()?,
            Ok(Message::GiveUp) => volume.give_up(),
            Ok(Message::ClearCounters) => volume.clear_counters(),
            Ok(Message::Set { key, value }) => volume.steer(key, value).map_err(|e| {
                log_err!("{}: message {} {}: {}", volume.disks(), key, value, e);
                EINVAL
            })?,
            Ok(Message::Report(query)) => {
                return match query.segments(volume.state().nr_segments) {
                    Ok(_) => Ok(Some(query)),
                    Err(segments) => {
                        log_err!("{}: message report: there are {} segments", volume.disks(), segments);
                        Err(EINVAL)
                    }
                }
            }
            Err(word) => {
                log_err!(
                    "{}: unknown message {}; there are drop_caches, clear_stat, give_up, report [CELLS [FIRST COUNT]] with at most {} \
                     cells, and KEY VALUE",
                    volume.disks(),
                    word,
                    arguments::MAX_CELLS
                );
                return Err(EINVAL);
            }
        }
        Ok(None)
    }

    fn answer(&self, query: Query, out: &mut Writer<'_>) {
        self.running.volume.report(query, out);
    }

    fn devices(&self) -> [(&Device, u64); 2] {
        let volume = &self.running.volume;
        let disks = volume.disks();
        [(&disks.backing, disks.backing.sectors()), (&disks.cache, volume.cache_sectors())]
    }

    fn limits(&self) -> Limits {
        Limits::of_volume(&self.running.volume.disks().backing.limits())
    }
}

impl Writeboost {
    /// The fields of dm-writeboost 2.2 in its order, then `#WORDS KEY VALUE ...` of our own.
    fn write_info(&self, out: &mut Writer<'_>) -> core::fmt::Result {
        let volume = &self.running.volume;
        let s = volume.state();
        write!(
            out,
            "{} {} {} {} {} {} {}",
            s.cursor,
            s.nr_slots,
            s.nr_segments,
            s.newest,
            s.durable,
            s.tail - 1,
            s.dirty
        )?;
        for c in volume.counters() {
            write!(out, " {c}")?;
        }
        write!(out, " {} ", s.partial_records)?;
        volume.options().write(out, false)?;
        let (faults, health) = (&volume.faults, volume.health());
        let [backing_silent_s, cache_silent_s] = volume.silent_s();
        write!(
            out,
            " 32 state {} free_segments {} read_errors {} writeback_errors {} lost_blocks {} uuid {}",
            health.word(),
            s.free_segments,
            faults.count(Kind::CacheRead),
            faults.count(Kind::BackingWrite),
            faults.lost.load(Ordering::Relaxed),
            Uuid(volume.uuid())
        )?;
        write!(
            out,
            " fault {health} cache_write_errors {} backing_read_errors {} read_again {}",
            faults.count(Kind::CacheWrite),
            faults.count(Kind::BackingRead),
            faults.read_again.load(Ordering::Relaxed)
        )?;
        write!(
            out,
            " full {} flushes {} written_back {} steering_expired {} backing_silent_s {} cache_silent_s {}",
            u32::from(volume.is_full()),
            volume.flushes(),
            volume.blocks_written_back(),
            u32::from(volume.is_steering_expired()),
            backing_silent_s,
            cache_silent_s
        )
    }

    fn write_table(&self, out: &mut Writer<'_>) -> core::fmt::Result {
        let disks = self.running.volume.disks();
        for device in [&disks.backing, &disks.cache] {
            write!(out, "{} ", device.name().to_str().unwrap_or("?"))?;
        }
        self.running.volume.options().write(out, true)
    }
}
