// SPDX-License-Identifier: GPL-2.0-only

//! Bios that are left to workers.

use super::sync::{locked, Condvar};
use super::thread::{spawn, JoinHandle};
use super::{wait_for_io_ends, Arc, Bio, Ending, Result, EIO};
use super::{QueueKind, Serve};
use core::ffi::CStr;
use std::collections::VecDeque;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

struct State<S: Serve> {
    bios: VecDeque<Bio<S::PerBio>>,
    server: Option<Arc<S>>,
    workers: Vec<JoinHandle<()>>,
    /// Numbers of workers without a bio, and with one.
    idle: usize,
    busy: usize,
    /// The workers are to return.
    ends: bool,
}

/// The state that the workers share.
struct Common<S: Serve> {
    state: Mutex<State<S>>,
    /// There is a bio, or the workers are to return.
    more: Condvar,
    /// The queue is empty, and no worker has a bio.
    empty: Condvar,
}

/// A queue of bios. A bounded number of workers takes them in the order in which they came.
pub struct BioQueue<S: Serve> {
    name: String,
    workers: usize,
    common: Arc<Common<S>>,
}

impl<S: Serve> BioQueue<S> {
    /// An empty queue with so many workers. They do nothing before [`BioQueue::begin`].
    ///
    /// # Errors
    /// None; the kernel's may have no memory.
    pub fn new(name: &CStr, _kind: QueueKind, workers: u32) -> Result<Arc<Self>> {
        let state =
            State { bios: VecDeque::new(), server: None, workers: Vec::new(), idle: 0, busy: 0, ends: false };
        let common = Common { state: Mutex::new(state), more: Condvar::default(), empty: Condvar::default() };
        Ok(Arc::new(Self {
            name: name.to_string_lossy().into_owned(),
            workers: workers.max(1) as usize,
            common: Arc::new(common),
        }))
    }

    /// From now on the workers pass each bio to `server`.
    pub fn begin(self: Arc<Self>, server: Arc<S>) -> Service<S> {
        let before = locked(&self.common.state).server.replace(server);
        assert!(before.is_none(), "there is a service");
        Service { queue: self }
    }

    /// Puts a bio at the end of the queue, also one that a device has returned. In any context. When there is
    /// no service, the bio ends with an error.
    pub fn push(&self, bio: Bio<S::PerBio>) {
        // The bio keeps the volume alive only until it is in the queue. A service that ends waits for this
        // `Ending`.
        let _ending = Ending::begin();
        let mut state = locked(&self.common.state);
        if state.server.is_none() {
            drop(state);
            bio.end(Err(EIO));
            return;
        }
        state.bios.push_back(bio);
        if state.bios.len() > state.idle && state.workers.len() < self.workers {
            let common = self.common.clone();
            match spawn(&self.name, move || common.work()) {
                Ok(worker) => state.workers.push(worker),
                Err(_) => assert!(!state.workers.is_empty(), "no thread for a queue"),
            }
        }
        drop(state);
        self.common.more.notify_one();
    }
}

impl<S: Serve> Common<S> {
    fn work(&self) {
        let mut state = locked(&self.state);
        loop {
            if let Some(bio) = state.bios.pop_front() {
                state.busy += 1;
                let server = state.server.clone();
                drop(state);
                let bio = bio.again();
                match &server {
                    Some(server) => server.serve(bio),
                    None => bio.end(Err(EIO)),
                }
                // Before the bio counts as done, so that this reference is not the last.
                drop(server);
                state = locked(&self.state);
                state.busy -= 1;
                if state.busy == 0 && state.bios.is_empty() {
                    self.empty.notify_all();
                }
            } else if state.ends {
                return;
            } else {
                state.idle += 1;
                state = self.more.wait(&self.state, state);
                state.idle -= 1;
            }
        }
    }
}

impl<S: Serve> Drop for BioQueue<S> {
    fn drop(&mut self) {
        let workers = {
            let mut state = locked(&self.common.state);
            state.ends = true;
            core::mem::take(&mut state.workers)
        };
        self.common.more.notify_all();
        for worker in workers {
            worker.join();
        }
    }
}

/// While this exists, the workers of a queue serve. Dropping it waits until no worker serves any more, and
/// ends the bios that are left.
pub struct Service<S: Serve> {
    queue: Arc<BioQueue<S>>,
}

impl<S: Serve> Drop for Service<S> {
    fn drop(&mut self) {
        let common = &self.queue.common;
        let server = locked(&common.state).server.take();
        // A push that has not seen the change has put its bio into the queue when this returns.
        wait_for_io_ends();
        let mut state = locked(&common.state);
        while state.busy != 0 || !state.bios.is_empty() {
            state = common.empty.wait(&common.state, state);
        }
        drop(state);
        drop(server);
    }
}
