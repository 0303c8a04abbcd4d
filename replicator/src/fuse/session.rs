//! The threads that read requests and have them handled.
//!
//! A disk, or in a synchronous write the peer, blocks a thread for as long as it takes, so there is always one more thread that reads,
//! up to a limit: a `stat` never waits for a flush. A request is handled by the thread that read it; its answer may come later, from
//! another one ([`Reply`]).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::device::{BUFFER_LENGTH, Device};
use super::negotiation::Negotiated;
use super::reply::Reply;
use super::request::Request;

/// Gives requests a meaning. Called by many threads at once.
pub trait Handler: Send + Sync + 'static {
    /// Called once in each thread, before its first request.
    fn thread_started(&self) -> io::Result<()>;

    /// `scratch` is the thread's own buffer for an answer's content.
    fn handle(&self, request: &Request<'_>, reply: Reply, scratch: &mut Vec<u8>);

    /// The connection ended: the file system was unmounted, or cut off.
    fn ended(&self);
}

/// Threads that read at the same time beyond this number end themselves.
const IDLE_MAX: usize = 4;
const THREADS_MAX: usize = 128;
/// How often the end is waited for again because requests were still being handled.
const PATIENCE: u32 = 12;

pub struct Session {
    device: Arc<Device>,
    handler: Arc<dyn Handler>,
    idle: AtomicUsize,
    threads: AtomicUsize,
    handled: AtomicU64,
    has_ended: AtomicBool,
    finished: Mutex<bool>,
    wake: Condvar,
}

impl Session {
    /// Shakes hands on a device that has just been mounted.
    pub fn negotiate(device: &Arc<Device>) -> io::Result<Negotiated> {
        Negotiated::with(device)
    }

    /// Starts serving.
    pub fn start(device: Arc<Device>, handler: Arc<dyn Handler>) -> io::Result<Arc<Session>> {
        let session = Arc::new(Session {
            device,
            handler,
            idle: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            handled: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            finished: Mutex::new(false),
            wake: Condvar::new(),
        });
        session.spawn()?;
        session.spawn()?;
        Ok(session)
    }

    /// Waits until every thread has left: no request is being handled any more. False when nothing was handled for `timeout`, or
    /// something still is after many times that: the kernel's goodbyes to a large tree take longer than any single call.
    #[must_use]
    pub fn join(&self, timeout: Duration) -> bool {
        let mut handled = self.handled.load(Ordering::Relaxed);
        for _ in 0..PATIENCE {
            if self.has_finished_within(timeout) {
                return true;
            }
            let before = handled;
            handled = self.handled.load(Ordering::Relaxed);
            if handled == before {
                return false;
            }
        }
        false
    }

    fn has_finished_within(&self, timeout: Duration) -> bool {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .wake
            .wait_timeout_while(finished, timeout, |finished| !*finished);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let session = Arc::clone(self);
        self.threads.fetch_add(1, Ordering::Relaxed);
        // Counted as reading from now on, so that a burst does not spawn one for each request while this one starts.
        self.idle.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || session.work());
        if let Err(error) = spawned {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }

    fn work(self: Arc<Self>) {
        if let Err(error) = self.handler.thread_started() {
            tracing::error!(%error, "a thread cannot take on its callers' identities: it serves nobody");
            self.idle.fetch_sub(1, Ordering::Relaxed);
            return self.leave();
        }
        let mut buffer = vec![0; BUFFER_LENGTH];
        let mut scratch = Vec::new();
        loop {
            let length = match self.device.read(&mut buffer) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "cannot read from /dev/fuse");
                    break;
                }
            };
            let was_last = self.idle.fetch_sub(1, Ordering::Relaxed) == 1;
            if was_last && self.threads.load(Ordering::Relaxed) < THREADS_MAX {
                if let Err(error) = self.spawn() {
                    tracing::warn!(%error, "cannot start another thread; requests wait for this one");
                }
            }
            self.serve(&buffer[..length], &mut scratch);
            self.handled.fetch_add(1, Ordering::Relaxed);
            if self.idle.fetch_add(1, Ordering::Relaxed) >= IDLE_MAX {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                self.leave();
                return;
            }
        }
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            self.handler.ended();
        }
        self.leave();
    }

    fn serve(&self, bytes: &[u8], scratch: &mut Vec<u8>) {
        match Request::parse(bytes) {
            Ok(request) => {
                self.handler
                    .handle(&request, Reply::new(&self.device, request.unique), scratch);
            }
            Err(refused) => {
                tracing::error!(reason = %refused.reason, "request refused");
                if let Some(unique) = refused.unique {
                    Reply::new(&self.device, unique).empty(Err(Errno::INVAL));
                }
            }
        }
    }

    fn leave(&self) {
        if self.threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.wake.notify_all();
        }
    }
}
