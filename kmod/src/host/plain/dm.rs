// SPDX-License-Identifier: GPL-2.0-only

//! What device-mapper itself does: from requests to bios and back, and the life of a device with one target.

use super::bio::{Cursor, Flags, Parts, Whom};
use super::clock::sleep_ms;
use super::sync::{locked, Condvar};
use super::thread::spawn;
use super::{
    Arc, Args, Bio, Box, Construction, Disk, Ending, Error, Mapping, Op, Outcome, Pages, Result, Returned,
    StatusKind, Target, Writer, EAGAIN, EINVAL, EIO,
};
use crate::format::SECTOR;
use crate::policy::limits::Limits;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::ffi::CString;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

/// What somebody asks a device for.
#[derive(Debug, Clone)]
pub struct Request {
    op: Op,
    sector: u64,
    sectors: u64,
    /// What is written.
    data: Vec<u8>,
    preflush: bool,
    flags: Flags,
}

impl Request {
    fn new(op: Op, sector: u64, sectors: u64, data: Vec<u8>) -> Self {
        Self { op, sector, sectors, data, preflush: false, flags: Flags::default() }
    }

    /// Reads `sectors` sectors from `sector` on.
    pub fn read(sector: u64, sectors: u64) -> Self {
        Self::new(Op::Read, sector, sectors, Vec::new())
    }

    /// Writes `data`, whole sectors, from `sector` on.
    pub fn write(sector: u64, data: &[u8]) -> Self {
        assert!(data.len() % SECTOR == 0, "whole sectors are written");
        Self::new(Op::Write, sector, (data.len() / SECTOR) as u64, data.into())
    }

    /// Makes all durable that was written and has ended before.
    pub fn flush() -> Self {
        Self::new(Op::Flush, 0, 0, Vec::new())
    }

    /// Something that no target does.
    pub fn other(sector: u64, sectors: u64) -> Self {
        Self::new(Op::Other, sector, sectors, Vec::new())
    }

    /// A write that is durable when it ends.
    pub fn fua(mut self) -> Self {
        self.flags.fua = true;
        self
    }

    /// A write that has a flush before it.
    pub fn preflush(mut self) -> Self {
        self.preflush = true;
        self
    }

    /// One that ends with `EAGAIN` rather than wait.
    pub fn nowait(mut self) -> Self {
        self.flags.nowait = true;
        self
    }

    /// A read that nobody waits for: its end may be an error for any reason.
    pub fn ahead(mut self) -> Self {
        self.flags.ahead = true;
        self
    }

    /// One that lies in memory in a way that only the first disk of the table takes.
    pub fn odd(mut self) -> Self {
        self.flags.odd = true;
        self
    }
}

/// Who is told of the end of a request, with what was read. In any context: it must not sleep, nor submit anything.
type Done = std::boxed::Box<dyn FnOnce(Result<Vec<u8>>) + Send>;

/// A request under way: it ends with the last of its bios.
pub(super) struct Io {
    /// Bios that have not ended, and one more while there may be others.
    pieces: AtomicUsize,
    error: Mutex<Option<Error>>,
    memory: Pages,
    is_read: bool,
    done: Mutex<Option<Done>>,
}

impl Io {
    /// One of its bios has ended, or it is known how many there are.
    fn ended(&self, result: Result) {
        if let Err(e) = result {
            *locked(&self.error) = Some(e);
        }
        if self.pieces.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let len = if self.is_read { self.memory.len() } else { 0 };
        let result = match *locked(&self.error) {
            Some(e) => Err(e),
            None => self.memory.with(0, len, <[u8]>::to_vec).ok_or(EIO),
        };
        let done = locked(&self.done).take();
        done.expect("it ends once")(result);
    }
}

/// Where the end of a request is left.
#[derive(Default)]
struct End {
    result: Mutex<Option<Result<Vec<u8>>>>,
    is_there: Condvar,
}

/// The end of a request, for whoever waits for it.
pub struct Ticket(Arc<End>);

impl Ticket {
    /// Waits for it: what was read.
    ///
    /// # Errors
    /// That of the request.
    pub fn wait(self) -> Result<Vec<u8>> {
        let End { result, is_there } = &*self.0;
        let mut result = locked(result);
        loop {
            match result.take() {
                Some(result) => return result,
                None => result = is_there.wait(&self.0.result, result),
            }
        }
    }

    /// Whether it is there.
    pub fn is_over(&self) -> bool {
        locked(&self.0.result).is_some()
    }
}

/// What is under way.
#[derive(Default)]
struct Traffic {
    /// Requests that have been let in and have not ended.
    requests: u64,
    /// Messages and the like.
    calls: u64,
    /// Nothing is let in: it waits here.
    is_held: bool,
    held: VecDeque<(Request, Done)>,
}

struct Inner<T: Target> {
    target: Box<T>,
    sectors: u64,
    traffic: Mutex<Traffic>,
    /// Nothing of one kind is under way any more.
    over: Condvar,
    /// Held while it is suspended or resumed.
    is_suspended: Mutex<bool>,
    events: Arc<AtomicU64>,
}

impl<T: Target> Whom<T::PerBio> for Inner<T> {
    fn ended(&self, bio: Bio<T::PerBio>, result: Result) {
        // A bio that is kept may be ended by others at once.
        let _ending = Ending::begin();
        let result = result.map_err(Error::as_status);
        match self.target.end_io(bio.again(), result) {
            Returned::Ends(bio, end) => {
                let end = end.map_err(Error::as_status);
                bio.into_request().ended(result.and(end));
            }
            Returned::Kept => (),
        }
    }
}

impl<T: Target> Inner<T> {
    fn submit(self: &Arc<Self>, request: Request, done: Done) {
        if request.sector.checked_add(request.sectors).is_none_or(|end| end > self.sectors) {
            return done(Err(EIO));
        }
        {
            let mut traffic = locked(&self.traffic);
            if !traffic.is_held {
                traffic.requests += 1;
            } else if request.flags.nowait || request.flags.ahead {
                drop(traffic);
                return done(Err(if request.flags.nowait { EAGAIN } else { EIO }));
            } else {
                return traffic.held.push_back((request, done));
            }
        }
        self.start(request, done);
    }

    /// A request has been let in.
    fn start(self: &Arc<Self>, mut request: Request, done: Done) {
        let this = self.clone();
        let done: Done = std::boxed::Box::new(move |result| {
            done(result);
            this.is_over(|traffic| &mut traffic.requests);
        });
        if !core::mem::take(&mut request.preflush) {
            return self.map(request, done);
        }
        let this = self.clone();
        let then: Done = std::boxed::Box::new(move |result| {
            if let Err(e) = result {
                return done(Err(e));
            }
            // Nothing may be submitted where a flush ends.
            let thread = spawn("dm_work", move || this.map(request, done));
            assert!(thread.is_ok(), "no thread for a request");
        });
        self.map(Request::flush(), then);
    }

    fn is_over(&self, what: impl FnOnce(&mut Traffic) -> &mut u64) {
        let mut traffic = locked(&self.traffic);
        let n = what(&mut traffic);
        *n -= 1;
        if *n == 0 {
            self.over.notify_all();
        }
    }

    /// Has the target take a request, in as many bios as it likes.
    fn map(self: &Arc<Self>, request: Request, done: Done) {
        let Request { op, sector, sectors, data, flags, .. } = request;
        let bytes = sectors as usize * SECTOR;
        let memory = match Pages::new(bytes) {
            Ok(memory) => memory,
            Err(e) => return done(Err(e)),
        };
        memory.with_mut(0, data.len(), |to| to.copy_from_slice(&data));
        let io = Arc::new(Io {
            pieces: AtomicUsize::new(1),
            error: Mutex::new(None),
            memory: memory.share(),
            is_read: op == Op::Read,
            done: Mutex::new(Some(done)),
        });
        let mut at = 0;
        loop {
            let left = sectors - at;
            let taken = Cell::new(left);
            io.pieces.fetch_add(1, Ordering::SeqCst);
            let start = at as usize * SECTOR;
            let bio = Bio::first(Parts {
                whom: self.clone(),
                request: io.clone(),
                op,
                flags,
                sector: sector + at,
                memory: memory.share(),
                iter: Cursor::new(start, bytes - start),
                sent_to: None,
                data: T::PerBio::default(),
            });
            if let Outcome::Remapped(bio) = self.target.map(Mapping { bio, taken: &taken }) {
                bio.send();
            }
            at += taken.get();
            if at == sectors {
                break;
            }
        }
        io.ended(Ok(()));
    }

    /// Something that a suspend waits for, as for bios.
    fn call<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        locked(&self.traffic).calls += 1;
        let result = f(&self.target);
        self.is_over(|traffic| &mut traffic.calls);
        result
    }
}

/// The words of a table line or a message.
fn words(line: &str) -> Result<Vec<CString>> {
    line.split_whitespace().map(|word| CString::new(word).map_err(|_| EINVAL)).collect()
}

/// A device with one target. It is suspended at first; what comes is held until [`Mapped::resume`].
///
/// Dropping it is removing it by force: nothing is flushed, and requests that the target keeps end with an error. It waits for those
/// that are at a disk.
// There is an inner one until it is dropped.
pub struct Mapped<T: Target>(Option<Arc<Inner<T>>>);

impl<T: Target> Mapped<T> {
    /// Makes a device as large as the first of `disks`, from what stands behind `0 SECTORS NAME` in a table line. Paths in that are
    /// names of `disks`.
    ///
    /// # Errors
    /// Why the target refuses it: for people, and as an error number.
    pub fn create(
        disks: &[(&str, Arc<dyn Disk>)],
        table: &str,
    ) -> core::result::Result<Self, (String, Error)> {
        let refuse = |why: &str, e| (why.to_string(), e);
        let words = words(table).map_err(|e| refuse("A word has a zero byte", e))?;
        let sectors = disks.first().map_or(0, |(_, disk)| disk.shape().sectors);
        let events = Arc::new(AtomicU64::new(0));
        let construction = Construction { sectors, disks, events: &events };
        let target =
            T::new(&construction, &Args(&words)).map_err(|(why, e)| refuse(&why.to_string_lossy(), e))?;
        let traffic = Mutex::new(Traffic { is_held: true, ..Traffic::default() });
        let is_suspended = Mutex::new(true);
        let mapped = Self(Some(Arc::new(Inner {
            target,
            sectors,
            traffic,
            over: Condvar::default(),
            is_suspended,
            events,
        })));
        // As `device_area_is_invalid` has it.
        if mapped.target().devices().iter().any(|(device, sectors)| *sectors > device.sectors()) {
            return Err(refuse("An underlying device is too small", EINVAL));
        }
        Ok(mapped)
    }

    fn inner(&self) -> &Arc<Inner<T>> {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    /// The target.
    pub fn target(&self) -> &T {
        &self.inner().target
    }

    /// Size in sectors.
    pub fn sectors(&self) -> u64 {
        self.inner().sectors
    }

    /// The limits that it shows.
    pub fn limits(&self) -> Limits {
        self.target().limits()
    }

    /// How many events the target has raised.
    pub fn events(&self) -> u64 {
        self.inner().events.load(Ordering::SeqCst)
    }

    /// Submits a request. Its end can be waited for.
    pub fn submit(&self, request: Request) -> Ticket {
        let end = Arc::new(End::default());
        let ticket = Ticket(end.clone());
        self.submit_with(request, move |result| {
            *locked(&end.result) = Some(result);
            end.is_there.notify_all();
        });
        ticket
    }

    /// Submits a request. `done` is called with what was read when it ends, in any context: it must not sleep, nor submit anything.
    pub fn submit_with(&self, request: Request, done: impl FnOnce(Result<Vec<u8>>) + Send + 'static) {
        self.inner().submit(request, std::boxed::Box::new(done));
    }

    /// Reads `sectors` sectors from `sector` on, and waits for that.
    ///
    /// # Errors
    /// Those of the target.
    pub fn read(&self, sector: u64, sectors: u64) -> Result<Vec<u8>> {
        self.submit(Request::read(sector, sectors)).wait()
    }

    /// Writes `data`, whole sectors, from `sector` on, and waits for that.
    ///
    /// # Errors
    /// Those of the target.
    pub fn write(&self, sector: u64, data: &[u8]) -> Result {
        self.submit(Request::write(sector, data)).wait().map(|_| ())
    }

    /// Makes durable all that was written before, and waits for that.
    ///
    /// # Errors
    /// Those of the target.
    pub fn flush(&self) -> Result {
        self.submit(Request::flush()).wait().map(|_| ())
    }

    /// Lets requests in; those that were held are first. Does nothing if they are let in already.
    pub fn resume(&self) {
        let inner = self.inner();
        let mut is_suspended = locked(&inner.is_suspended);
        if !core::mem::take(&mut *is_suspended) {
            return;
        }
        inner.target.resume(true);
        let held = {
            let mut traffic = locked(&inner.traffic);
            traffic.is_held = false;
            traffic.requests += traffic.held.len() as u64;
            core::mem::take(&mut traffic.held)
        };
        held.into_iter().for_each(|(request, done)| inner.start(request, done));
    }

    /// Holds what comes from now on, and waits until nothing is under way any more: neither requests nor messages. Does nothing if
    /// it is suspended already.
    pub fn suspend(&self) {
        let inner = self.inner();
        let mut is_suspended = locked(&inner.is_suspended);
        if core::mem::replace(&mut *is_suspended, true) {
            return;
        }
        inner.target.suspending(true);
        let mut traffic = locked(&inner.traffic);
        traffic.is_held = true;
        while traffic.requests != 0 || traffic.calls != 0 {
            traffic = inner.over.wait(&inner.traffic, traffic);
        }
        drop(traffic);
        inner.target.suspended();
    }

    /// Sends a message: words. Says what the target answers, if that was a question.
    ///
    /// # Errors
    /// Those of the target.
    pub fn message(&self, message: &str) -> Result<Option<String>> {
        let words = words(message)?;
        self.inner().call(|target| {
            let question = target.message(&Args(&words))?;
            Ok(question.map(|question| {
                let mut text = String::new();
                target.answer(question, &mut Writer(&mut text));
                text
            }))
        })
    }

    /// The status line, behind `0 SECTORS NAME`.
    pub fn status(&self, kind: StatusKind) -> String {
        self.inner().call(|target| {
            let mut text = String::new();
            target.status(kind, &mut Writer(&mut text));
            text
        })
    }

    /// Suspends it, and removes it.
    pub fn remove(self) {
        self.suspend();
    }

    /// The machine crashes, as far as this can be played: what reaches the disks from now on is up to the disks, which a test
    /// has cut off before.
    pub fn kill(self) {}
}

impl<T: Target> Drop for Mapped<T> {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        let held = core::mem::take(&mut locked(&inner.traffic).held);
        held.into_iter().for_each(|(_, done)| done(Err(EIO)));
        loop {
            // Each time, for a bio that has returned meanwhile may have been kept.
            inner.target.stop();
            let traffic = locked(&inner.traffic);
            if traffic.requests == 0 {
                break;
            }
            drop(inner.over.wait_ms(&inner.traffic, traffic, 10));
        }
        // Who has ended the last bio may have a hold for a moment longer; the target must go here, and not there.
        while let Err(shared) = Arc::try_unwrap(inner) {
            inner = shared;
            sleep_ms(1);
        }
    }
}
