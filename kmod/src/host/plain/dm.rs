// SPDX-License-Identifier: GPL-2.0-only

//! Device-mapper's own part: from requests to bios and back, and the life of a device with one target.

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

/// A request to a device.
#[derive(Debug, Clone)]
pub struct Request {
    op: Op,
    sector: u64,
    sectors: u64,
    /// The data to write.
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

    /// Makes all data durable whose writes have ended before.
    pub fn flush() -> Self {
        Self::new(Op::Flush, 0, 0, Vec::new())
    }

    /// An operation that no target supports.
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

    /// A request that ends with `EAGAIN` rather than wait.
    pub fn nowait(mut self) -> Self {
        self.flags.nowait = true;
        self
    }

    /// A read that no task waits for: its end may be an error for any reason.
    pub fn ahead(mut self) -> Self {
        self.flags.ahead = true;
        self
    }

    /// A request whose layout in memory only the first disk of the table accepts.
    pub fn odd(mut self) -> Self {
        self.flags.odd = true;
        self
    }
}

/// Is called at the end of a request, with the data that were read. In any context: it must not sleep, nor
/// submit anything.
type Done = std::boxed::Box<dyn FnOnce(Result<Vec<u8>>) + Send>;

/// A request under way: it ends with the last of its bios.
pub(super) struct Io {
    /// Bios that have not ended, and one more while further bios may be made.
    pieces: AtomicUsize,
    error: Mutex<Option<Error>>,
    memory: Pages,
    is_read: bool,
    done: Mutex<Option<Done>>,
}

impl Io {
    /// One of its bios has ended, or the number of its bios is known.
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

/// The place for the end of a request.
#[derive(Default)]
struct End {
    result: Mutex<Option<Result<Vec<u8>>>>,
    is_there: Condvar,
}

/// The end of a request, for a task that waits for it.
pub struct Ticket(Arc<End>);

impl Ticket {
    /// Waits for the end, and returns the data that were read.
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

    /// Whether the request has ended.
    pub fn is_over(&self) -> bool {
        locked(&self.0.result).is_some()
    }
}

/// The requests and calls that are under way.
#[derive(Default)]
struct Traffic {
    /// Requests that have been let in and have not ended.
    requests: u64,
    /// Messages and the like.
    calls: u64,
    /// Nothing is let in: requests wait in `held`.
    is_held: bool,
    held: VecDeque<(Request, Done)>,
}

struct Inner<T: Target> {
    target: Box<T>,
    sectors: u64,
    traffic: Mutex<Traffic>,
    /// Nothing of one kind is under way any more.
    over: Condvar,
    /// Locked while the device is suspended or resumed.
    is_suspended: Mutex<bool>,
    events: Arc<AtomicU64>,
}

impl<T: Target> Whom<T::PerBio> for Inner<T> {
    fn ended(&self, bio: Bio<T::PerBio>, result: Result) {
        // Another thread may end a bio that is kept at once.
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
            // Nothing may be submitted in the context in which a flush ends.
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

    /// Passes a request to the target, in as many bios as the target likes.
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

    /// A call that a suspend waits for, as it does for bios.
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

/// A device with one target. It is suspended at first; requests are held until [`Mapped::resume`].
///
/// Dropping it removes it by force: nothing is flushed, and requests that the target keeps end with an error.
/// The drop waits for requests that are at a disk.
// The inner value exists until this is dropped.
pub struct Mapped<T: Target>(Option<Arc<Inner<T>>>);

impl<T: Target> Mapped<T> {
    /// Makes a device as large as the first of `disks`, from the rest of a table line behind `0 SECTORS
    /// NAME`. Paths in it are names of `disks`.
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
        // As `device_area_is_invalid` does it.
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

    /// The limits of the target.
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

    /// Submits a request. `done` is called at its end with the data that were read, in any context: it must
    /// not sleep, nor submit anything.
    pub fn submit_with(&self, request: Request, done: impl FnOnce(Result<Vec<u8>>) + Send + 'static) {
        self.inner().submit(request, std::boxed::Box::new(done));
    }

    /// Reads `sectors` sectors from `sector` on, and waits for the end.
    ///
    /// # Errors
    /// Those of the target.
    pub fn read(&self, sector: u64, sectors: u64) -> Result<Vec<u8>> {
        self.submit(Request::read(sector, sectors)).wait()
    }

    /// Writes `data`, whole sectors, from `sector` on, and waits for the end.
    ///
    /// # Errors
    /// Those of the target.
    pub fn write(&self, sector: u64, data: &[u8]) -> Result {
        self.submit(Request::write(sector, data)).wait().map(|_| ())
    }

    /// Makes all data durable that were written before, and waits for the end.
    ///
    /// # Errors
    /// Those of the target.
    pub fn flush(&self) -> Result {
        self.submit(Request::flush()).wait().map(|_| ())
    }

    /// Lets requests in; those that were held come first. Does nothing if requests are let in already.
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

    /// Holds all requests from now on, and waits until nothing is under way any more: neither requests nor
    /// messages. Does nothing if it is suspended already.
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

    /// Sends a message: words. Returns the target's answer, if the message was a question.
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

    /// The status line, without `0 SECTORS NAME`.
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

    /// The machine crashes, as far as this can be played. Writes that reach the disks from now on are up to
    /// the disks, which a test has cut off before.
    pub fn kill(self) {}
}

impl<T: Target> Drop for Mapped<T> {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        let held = core::mem::take(&mut locked(&inner.traffic).held);
        held.into_iter().for_each(|(_, done)| done(Err(EIO)));
        loop {
            // Repeated each time, because a bio that has returned meanwhile may have been kept.
            inner.target.stop();
            let traffic = locked(&inner.traffic);
            if traffic.requests == 0 {
                break;
            }
            drop(inner.over.wait_ms(&inner.traffic, traffic, 10));
        }
        // The thread that has ended the last bio may hold a reference for a moment longer. The target must be
        // dropped here, and not there.
        while let Err(shared) = Arc::try_unwrap(inner) {
            inner = shared;
            sleep_ms(1);
        }
    }
}
