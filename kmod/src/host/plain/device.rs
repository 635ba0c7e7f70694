// SPDX-License-Identifier: GPL-2.0-only

//! An underlying device of a target: a disk, and the threads that ask it.

use super::clock::now_ms;
use super::context::Interrupt;
use super::sync::{locked, Condvar};
use super::thread::{spawn, JoinHandle};
use super::{Arc, Disk, Error, Result, Shared, EINVAL, EIO};
use crate::format::SECTOR;
use crate::policy::limits::{Limits, Shape};
use crate::policy::silence::Traffic;
use core::ffi::CStr;
use std::boxed::Box;
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Mutex;
use std::vec::Vec;

/// An I/O for a device.
pub(super) trait Job: Send {
    /// Does it. May sleep.
    fn run(&mut self, asked: &Asked<'_>) -> Result;
    /// The I/O has returned. Called as in an interrupt.
    fn end(self: Box<Self>, result: Result);
}

/// A disk, for one request.
pub(super) struct Asked<'a>(&'a dyn Disk);

impl Asked<'_> {
    /// The checks of the block layer before it asks a disk.
    fn check(&self, sector: u64, bytes: usize) -> Result {
        let shape = self.0.shape();
        let sectors = (bytes / SECTOR) as u64;
        if sector.checked_add(sectors).is_none_or(|end| end > shape.sectors) {
            return Err(EIO);
        }
        let block = u64::from(shape.logical_block) / SECTOR as u64;
        if bytes % SECTOR != 0 || sector % block.max(1) != 0 || sectors % block.max(1) != 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    pub(super) fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        self.check(sector, to.len())?;
        self.0.read(sector, to)
    }

    pub(super) fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        self.check(sector, from.len())?;
        self.0.write(sector, from, fua)
    }

    pub(super) fn flush(&self) -> Result {
        self.0.flush()
    }
}

/// Ends the job, as in an interrupt.
fn end(job: Box<dyn Job>, result: Result) {
    let _interrupt = Interrupt::begin();
    job.end(result);
}

/// The jobs that wait for the workers.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// Number of workers without a job.
    idle: usize,
    workers: Vec<JoinHandle<()>>,
    /// The workers are to return.
    ends: bool,
    /// The number of jobs that have come and not returned, since when there have been any, and for how many
    /// milliseconds there were before that.
    under_way: usize,
    since_ms: u64,
    busy_ms: u64,
}

/// A device, for its workers and the bios that are sent to it.
pub(super) struct Opened {
    disk: Arc<dyn Disk>,
    number: usize,
    name: CString,
    traffic: Shared<Traffic>,
    queue: Mutex<Queue>,
    /// There is a job, or the workers are to return.
    more: Condvar,
}

impl Opened {
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Whether it accepts [odd](super::Request::odd) requests.
    pub(super) fn takes_odd(&self) -> bool {
        self.number == 0
    }

    /// Leaves the job to a worker. If the disk answers at once, the job is done and has ended before this
    /// returns. In any context.
    pub(super) fn push(self: &Arc<Self>, mut job: Box<dyn Job>) {
        let at_a_time = self.disk.at_a_time();
        if at_a_time == 0 {
            let result = self.ask(&mut *job);
            return end(job, result);
        }
        let mut queue = locked(&self.queue);
        if queue.under_way == 0 {
            queue.since_ms = now_ms();
        }
        queue.under_way += 1;
        queue.jobs.push_back(job);
        if queue.jobs.len() > queue.idle && queue.workers.len() < at_a_time {
            let this = self.clone();
            match spawn("device", move || this.work()) {
                Ok(worker) => queue.workers.push(worker),
                Err(_) => assert!(!queue.workers.is_empty(), "no thread for a device"),
            }
        }
        drop(queue);
        self.more.notify_one();
    }

    fn ask(&self, job: &mut dyn Job) -> Result {
        job.run(&Asked(&*self.disk)).map_err(Error::as_status)
    }

    fn work(&self) {
        let mut queue = locked(&self.queue);
        loop {
            if let Some(mut job) = queue.jobs.pop_front() {
                drop(queue);
                let result = self.ask(&mut *job);
                self.returned();
                end(job, result);
                queue = locked(&self.queue);
            } else if queue.ends {
                return;
            } else {
                queue.idle += 1;
                queue = self.more.wait(&self.queue, queue);
                queue.idle -= 1;
            }
        }
    }

    fn returned(&self) {
        let mut queue = locked(&self.queue);
        queue.under_way -= 1;
        if queue.under_way == 0 {
            queue.busy_ms += now_ms().saturating_sub(queue.since_ms);
        }
    }
}

/// A disk that the table has opened for the target.
pub struct Device(Arc<Opened>);

impl Device {
    /// Opens `disk` as number `number`.
    pub(super) fn open(disk: Arc<dyn Disk>, number: usize) -> Result<Self> {
        Ok(Self(Arc::new(Opened {
            disk,
            number,
            name: CString::new(std::format!("0:{number}")).map_err(|_| EINVAL)?,
            traffic: Shared::new(Traffic::new()?)?,
            queue: Mutex::default(),
            more: Condvar::default(),
        })))
    }

    pub(super) fn opened(&self) -> &Arc<Opened> {
        &self.0
    }

    /// The bios sent to the device through this value, and those that have returned: [`super::Bio::remap`]
    /// and [`super::BioSet`] count them.
    pub fn traffic(&self) -> &Traffic {
        self.0.traffic()
    }

    /// Size in sectors.
    pub fn sectors(&self) -> u64 {
        self.shape().sectors
    }

    /// The properties that decide whether the device can be used.
    pub fn shape(&self) -> Shape {
        self.0.disk.shape()
    }

    /// The limits of a device over this one alone.
    pub fn limits(&self) -> Limits {
        self.0.disk.limits()
    }

    /// Sectors of one of its blocks, which it reads and writes whole.
    pub fn block_sectors(&self) -> u32 {
        self.shape().logical_block / SECTOR as u32
    }

    /// For how many milliseconds it has had something to do since it was opened.
    pub fn busy_ms(&self) -> u32 {
        let queue = locked(&self.0.queue);
        let now = if queue.under_way == 0 { 0 } else { now_ms().saturating_sub(queue.since_ms) };
        // Like the kernel's number, it overflows some day and begins anew.
        (queue.busy_ms + now) as u32
    }

    /// `0:NUMBER`, where `NUMBER` is the place among the table's disks.
    pub fn name(&self) -> &CStr {
        &self.0.name
    }

    /// A number that no other open disk has.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0.disk).cast::<()>() as usize
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let workers = {
            let mut queue = locked(&self.0.queue);
            queue.ends = true;
            core::mem::take(&mut queue.workers)
        };
        self.0.more.notify_all();
        for worker in workers {
            worker.join();
        }
    }
}
