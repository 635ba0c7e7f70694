// SPDX-License-Identifier: GPL-2.0-only

//! Bios that are left to workers.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::bio::Beside;
use super::{bindings, Bio};
use super::{wait_for_io_ends, Ending};
use super::{QueueKind, Serve};
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

impl QueueKind {
    fn as_raw(self) -> bindings::wb_queue_kind {
        match self {
            Self::Check => bindings::wb_queue_kind_WB_QUEUE_CHECK,
            Self::Near => bindings::wb_queue_kind_WB_QUEUE_NEAR,
            Self::Far => bindings::wb_queue_kind_WB_QUEUE_FAR,
        }
    }
}

/// A `struct workqueue_struct` whose workers take bios in the order in which they came; the number of workers
/// is bounded. The queue needs no memory to make progress: each bio has its place in the queue beside it, and
/// one thread is kept in reserve for the case that no other can be made.
///
/// # Invariants
/// - `queue` is from `wb_queue_alloc`, and no work is left in it when it is freed.
/// - `server` is null, or from the `Arc` of the [`Service`]. The service lets `server` go only when no worker
///   uses it any more.
pub struct BioQueue<S: Serve> {
    queue: NonNull<bindings::workqueue_struct>,
    kind: QueueKind,
    server: AtomicPtr<S>,
    bios: PhantomData<Bio<S::PerBio>>,
}

// SAFETY: A workqueue may be used from any thread, and so may a server.
unsafe impl<S: Serve> Send for BioQueue<S> {}
// SAFETY: As above.
unsafe impl<S: Serve> Sync for BioQueue<S> {}

impl<S: Serve> BioQueue<S> {
    /// An empty queue with so many workers. They do nothing before [`BioQueue::begin`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(name: &CStr, kind: QueueKind, workers: u32) -> Result<Arc<Self>> {
        // SAFETY: The name is copied.
        let queue = unsafe { bindings::wb_queue_alloc(name.as_ptr().cast(), workers) };
        let queue = NonNull::new(queue).ok_or(ENOMEM)?;
        let server = AtomicPtr::new(core::ptr::null_mut());
        Ok(Arc::new(Self { queue, kind, server, bios: PhantomData }, GFP_KERNEL)?)
    }

    /// From now on the workers pass each bio to `server`.
    pub fn begin(self: Arc<Self>, server: Arc<S>) -> Service<S> {
        let raw = Arc::into_raw(server).cast_mut();
        // Release: a worker that sees the pointer sees the server's contents.
        let before = self.server.swap(raw, Ordering::Release);
        debug_assert!(before.is_null());
        Service { queue: self, server: raw }
    }

    /// Puts a bio at the end of the queue, also one that a device has returned. In any context. When there is
    /// no service, the bio ends with an error.
    pub fn push(&self, bio: Bio<S::PerBio>) {
        // The bio keeps the volume alive only until it is in the queue. A service that ends waits for this
        // `Ending`.
        let _ending = Ending::begin();
        if self.server.load(Ordering::Relaxed).is_null() {
            bio.end(Err(EIO));
            return;
        }
        let size = core::mem::size_of::<Beside<S::PerBio>>();
        let bio = bio.into_raw();
        // SAFETY: The bio is ours until it is in the queue, and then belongs to the worker that takes it. The
        // queue lives until its last work is done. `serve` is made for the arguments that are passed here.
        unsafe {
            bindings::wb_bio_take_back(bio);
            let queue = core::ptr::from_ref(self).cast_mut().cast();
            let kind = self.kind.as_raw();
            bindings::wb_queue_push(self.queue.as_ptr(), kind, bio, size, Some(serve::<S>), queue);
        }
    }
}

impl<S: Serve> Drop for BioQueue<S> {
    fn drop(&mut self) {
        // SAFETY: By the invariants, and nothing uses it any more.
        unsafe { bindings::wb_queue_free(self.queue.as_ptr()) }
    }
}

unsafe extern "C" fn serve<S: Serve>(queue: *mut c_void, bio: *mut bindings::bio) {
    let Some(bio) = NonNull::new(bio) else { return };
    // SAFETY: From `push`: the queue lives until this is over, and the bio is ours now.
    let (queue, bio) = unsafe { (&*queue.cast::<BioQueue<S>>(), Bio::<S::PerBio>::again(bio)) };
    // Acquire: to see the server's contents.
    let server = NonNull::new(queue.server.load(Ordering::Acquire));
    match server {
        // SAFETY: By the invariant it lives until no worker uses it any more.
        Some(server) => unsafe { server.as_ref() }.serve(bio),
        None => bio.end(Err(EIO)),
    }
}

/// While this exists, the workers of a queue serve. Dropping it waits until no worker serves any more, and
/// ends the bios that are left.
///
/// # Invariants
/// `server` is from `Arc::into_raw`.
pub struct Service<S: Serve> {
    queue: Arc<BioQueue<S>>,
    server: *mut S,
}

// SAFETY: As for the `Arc`s that it holds.
unsafe impl<S: Serve> Send for Service<S> {}
// SAFETY: There is nothing to do with a shared reference.
unsafe impl<S: Serve> Sync for Service<S> {}

impl<S: Serve> Drop for Service<S> {
    fn drop(&mut self) {
        self.queue.server.store(core::ptr::null_mut(), Ordering::Release);
        // A push that has not seen the null pointer has put its bio into the queue when this returns.
        wait_for_io_ends();
        // SAFETY: The queue is there.
        unsafe { bindings::wb_queue_drain(self.queue.queue.as_ptr()) };
        // SAFETY: By the invariant, once; no worker uses it any more.
        drop(unsafe { Arc::from_raw(self.server) });
    }
}
