// SPDX-License-Identifier: GPL-2.0-only

//! The target `writeboost`: connects the calls of device-mapper to the volume.
//!
//! Table line: `0 SECTORS writeboost BACKING CACHE [#WORDS KEY VALUE ...]`.

use crate::format::Uuid;
use crate::host::{
    boxed, not_supported, Args, Bio, Box, Construction, Device, InUse, Key, Mapping, Op, Outcome, Refusal,
    Result, Returned, StatusKind, Target, Writer, EBUSY, EINVAL, EIO, EROFS,
};
use crate::interface::message::{Message, Who};
use crate::interface::report::{Query, MAX_CELLS};
use crate::interface::status::{Named, Status};
use crate::interface::table::{self, Options, TableError};
use crate::policy::limits::{Limits, Unfit};
use crate::volume::{open, Disks, Errand, Kind, Running, Unsteered};
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::Ordering;

/// The target.
pub struct Writeboost {
    running: Running,
    // Behind `running`, so that they stay in use until the volume is dropped.
    _devices: [InUse; 2],
    _volume: [InUse; 2],
}

fn options(args: &Args<'_>) -> core::result::Result<Options, Refusal> {
    table::options(args.words().skip(2)).map_err(|e| match e {
        TableError::Count => {
            (c"The number of option words must be even and right: #WORDS KEY VALUE ...", EINVAL)
        }
        TableError::Option { key, value, error } => {
            log_err!("option {} {}: {}", key, value, error);
            (c"An option is unknown or out of range: see the kernel log", EINVAL)
        }
    })
}

/// A question of a message.
#[derive(Clone, Copy)]
pub enum Question {
    /// The state of the segments.
    Report(Query),
    /// The UUID.
    Uuid,
    /// The volume's health, in words.
    Health,
}

/// Refuses devices that cannot be used, before anything is written. Device-mapper itself looks only
/// afterwards.
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
    type PerBio = Errand;
    type Question = Question;

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

    fn map(&self, bio: Mapping<'_, Errand>) -> Outcome<Errand> {
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

    fn end_io(&self, bio: Bio<Errand>, result: Result) -> Returned<Errand> {
        self.running.volume.bio_returned(bio, result)
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
        // A `Writer` truncates instead of failing.
        let _ = match kind {
            StatusKind::Info => self.info().write(out),
            StatusKind::Table => self.write_table(out),
        };
    }

    fn message(&self, args: &Args<'_>) -> Result<Option<Question>> {
        let volume = &self.running.volume;
        match Message::parse(args.words()) {
            Ok(Message::Drain) => volume.drain()?,
            Ok(Message::GiveUp) => volume.give_up(),
            Ok(Message::ClearCounters) => volume.clear_counters(),
            Ok(Message::Set { key, value, by }) => volume.steer(key, value, by).map_err(|e| {
                log_err!("{}: message {} {}: {}", volume.disks(), key, value, e);
                match e {
                    Unsteered::Option(_) => EINVAL,
                    Unsteered::ByHand => EBUSY,
                }
            })?,
            Ok(Message::Uuid) => return Ok(Some(Question::Uuid)),
            Ok(Message::Health) => return Ok(Some(Question::Health)),
            Ok(Message::Report(query)) => {
                return match query.segments(volume.state().nr_segments) {
                    Ok(_) => Ok(Some(Question::Report(query))),
                    Err(segments) => {
                        log_err!("{}: message report: there are {} segments", volume.disks(), segments);
                        Err(EINVAL)
                    }
                }
            }
            Err(word) => {
                log_err!(
                    "{}: unknown message {}; there are drop_caches, clear_stat, give_up, uuid, health, \
                     report [CELLS [FIRST COUNT]] with at most {} cells, and KEY VALUE [daemon]",
                    volume.disks(),
                    word,
                    MAX_CELLS
                );
                return Err(EINVAL);
            }
        }
        Ok(None)
    }

    fn answer(&self, question: Question, out: &mut Writer<'_>) {
        let volume = &self.running.volume;
        // A `Writer` truncates instead of failing.
        let _ = match question {
            Question::Report(query) => {
                volume.report(query, out);
                Ok(())
            }
            Question::Uuid => write!(out, "{}", Uuid(volume.uuid())),
            Question::Health => write!(out, "{}", volume.health()),
        };
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

#[cfg(not(MODULE))]
impl Writeboost {
    /// Checks the engine's invariants: simulations ask after their steps.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn audit(&self) -> core::result::Result<(), crate::engine::audit::Broken> {
        self.running.volume.audit()
    }
}

impl Writeboost {
    // Not inlined: the status is large.
    #[inline(never)]
    fn info(&self) -> Status {
        let volume = &self.running.volume;
        let s = volume.state();
        Status {
            cursor: s.cursor.into(),
            cache_blocks: s.nr_slots,
            segments: s.nr_segments.into(),
            current_id: s.newest.0,
            last_flushed_id: s.durable.0,
            last_writeback_id: s.tail.before().0,
            dirty_blocks: s.dirty,
            counters: volume.counters(),
            partial_flushed: s.partial_records,
            named: self.named(s.free_segments.into()),
        }
    }

    #[inline(never)]
    fn named(&self, free_segments: u64) -> Named {
        let volume = &self.running.volume;
        let (faults, health) = (&volume.faults, volume.health());
        let [backing_silent_s, cache_silent_s] = volume.silent_s();
        let mut named = Named {
            nr_cur_batched_writeback: Some(volume.nr_writing().into()),
            state: Some(health.state() as u64),
            fault: Some(health.trouble.into()),
            steered_by: Some(Who::number(volume.steered_by()).into()),
            steering_expired: Some(volume.is_steering_expired().into()),
            free_segments: Some(free_segments),
            full: Some(volume.is_full().into()),
            lost_blocks: Some(faults.lost.load(Ordering::Relaxed)),
            read_errors: Some(faults.count(Kind::CacheRead)),
            cache_write_errors: Some(faults.count(Kind::CacheWrite)),
            backing_read_errors: Some(faults.count(Kind::BackingRead)),
            writeback_errors: Some(faults.count(Kind::BackingWrite)),
            read_again: Some(faults.read_again.load(Ordering::Relaxed)),
            flushes: Some(volume.flushes()),
            written_back: Some(volume.blocks_written_back()),
            written_around: Some(volume.blocks_written_around()),
            backing_silent_s: Some(backing_silent_s),
            cache_silent_s: Some(cache_silent_s),
            ..Named::default()
        };
        named.set_options(volume.options());
        named
    }

    fn write_table(&self, out: &mut Writer<'_>) -> core::fmt::Result {
        let volume = &self.running.volume;
        let disks = volume.disks();
        let devices = [&disks.backing, &disks.cache].map(|d| d.name().to_str().unwrap_or("?"));
        table::write(out, devices, volume.options().all_given())
    }
}
