//! Bringing files to stable storage, and knowing up to which position of the log it is done.
//!
//! Invariant: the durable position is never beyond a `Sync` whose flush has not ended well. What is due is flushed by the
//! applying thread when it has nothing else to do, else by threads that share one queue; several `Sync`s of one file that wait
//! together take one flush. A flush that failed is never tried again: the kernel may have dropped what it could not write, and a second
//! fsync would succeed without it. So one failure stops everything for good.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use rustix::fs::{fdatasync, fsync, syncfs};
use rustix::io::Errno;

use super::{ApplyError, Flush, Observer, Progress};
use crate::record::{FileId, Lsn};

/// Flushes under way at a time, besides the applying thread's.
const THREADS: usize = 4;
/// Files due before they are handed to the threads in any case.
const DUE_MAX: usize = 64;

/// How much must reach stable storage. The greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Content, and the size if it grew.
    Data,
    /// Content, attributes, and with a journal that orders metadata everything done before.
    Full,
    /// The whole file system.
    FileSystem,
}

/// A file to be flushed.
#[derive(Debug)]
struct Due {
    /// The first `Sync` that the flush is for. Later ones of the same file are covered with it.
    lowest: Lsn,
    file: FileId,
    level: Level,
    descriptor: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Due>,
    /// `lowest` of everything queued or under way.
    outstanding: BTreeSet<Lsn>,
    /// Everything to here is applied, and every `Sync` to here is either outstanding or done.
    applied: Lsn,
    failure: Option<ApplyError>,
    is_ending: bool,
}

impl State {
    fn durable(&self) -> Lsn {
        match self.outstanding.first() {
            Some(lowest) => Lsn(self.applied.0.min(lowest.0.saturating_sub(1))),
            None => self.applied,
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something was queued, or the end has come.
    queued: Condvar,
    /// Nothing is outstanding any more, or a flush failed.
    drained: Condvar,
    has_failed: AtomicBool,
    observer: Arc<dyn Observer>,
    node: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, due: &Due) -> Result<(), ApplyError> {
        let descriptor = due.descriptor.as_fd();
        let result = match due.level {
            Level::Data => fdatasync(descriptor),
            Level::Full => fsync(descriptor),
            Level::FileSystem => syncfs(descriptor),
        };
        result.map_err(|fault| {
            // Outstanding for ever: no position from here on becomes durable.
            self.lock().outstanding.insert(due.lowest);
            self.fail(descriptor, fault)
        })
    }

    /// Stops everything: see the module's invariant.
    fn fail(&self, descriptor: impl AsFd, fault: Errno) -> ApplyError {
        let path = super::tree::magic_target(descriptor.as_fd());
        let error = ApplyError::Failed {
            node: self.node.clone(),
            object: path.map_or_else(|_| "a file".to_owned(), |path| path.display().to_string()),
            attempt: "flush",
            cause: fault.to_string(),
        };
        let mut state = self.lock();
        self.has_failed.store(true, Ordering::Release);
        let error = state.failure.get_or_insert(error).clone();
        drop(state);
        self.drained.notify_all();
        error
    }

    /// What a flushing thread does until the end.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.is_ending || state.failure.is_some() {
                return;
            }
            let Some(due) = state.queue.pop_front() else {
                state = self
                    .queued
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            if let Err(error) = self.perform(&due) {
                self.observer.failed(&error);
                return;
            }
            state = self.lock();
            let before = state.durable();
            state.outstanding.remove(&due.lowest);
            let durable = state.durable();
            if state.outstanding.is_empty() {
                self.drained.notify_all();
            }
            if durable != before {
                drop(state);
                self.observer.durable(durable);
                state = self.lock();
            }
        }
    }
}

/// See the module. Owned by the applying thread.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    due: Vec<Due>,
    applied: Lsn,
    threads: Vec<JoinHandle<()>>,
}

impl Flusher {
    pub fn start(node: &str, observer: Arc<dyn Observer>) -> io::Result<Flusher> {
        let mut flusher = Flusher {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                queued: Condvar::new(),
                drained: Condvar::new(),
                has_failed: AtomicBool::new(false),
                observer,
                node: node.to_owned(),
            }),
            due: Vec::with_capacity(DUE_MAX),
            applied: Lsn::default(),
            threads: Vec::with_capacity(THREADS),
        };
        for number in 0..THREADS {
            let shared = Arc::clone(&flusher.shared);
            let thread = thread::Builder::new().name(format!("flush-{number}"));
            flusher.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(flusher)
    }

    /// The failure that ended everything, if one did.
    pub fn check(&self) -> Result<(), ApplyError> {
        if !self.shared.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        match &self.shared.lock().failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    pub fn set_applied(&mut self, lsn: Lsn) {
        self.applied = lsn;
    }

    /// Makes the flush of a file due for the `Sync` at `lsn`.
    pub fn demand(&mut self, lsn: Lsn, file: FileId, level: Level, descriptor: Arc<OwnedFd>) {
        if let Some(due) = self.due.iter_mut().find(|due| due.file == file) {
            due.level = due.level.max(level);
            return;
        }
        if self.due.len() == DUE_MAX {
            // Whatever is due lies below this position, which is not applied yet.
            self.hand_over(Lsn(lsn.0.saturating_sub(1)));
        }
        self.due.push(Due {
            lowest: lsn,
            file,
            level,
            descriptor,
        });
    }

    /// Flushes what is due, and tells how far everything is.
    pub fn commit(&mut self, flush: Flush) -> Result<Progress, ApplyError> {
        self.check()?;
        if flush == Flush::Here
            && let Some(own) = self.due.pop()
        {
            if !self.due.is_empty() {
                self.hand_over(Lsn(own.lowest.0.saturating_sub(1)));
            }
            self.shared.perform(&own)?;
        }
        Ok(self.hand_over(self.applied))
    }

    /// Queues what is due. `applied`: no `Sync` up to there is left out of the queue that is not done.
    fn hand_over(&mut self, applied: Lsn) -> Progress {
        let mut state = self.shared.lock();
        state.applied = state.applied.max(applied);
        if !self.due.is_empty() {
            state
                .outstanding
                .extend(self.due.iter().map(|due| due.lowest));
            state.queue.extend(self.due.drain(..));
            self.shared.queued.notify_all();
        }
        Progress {
            applied: self.applied,
            durable: state.durable(),
        }
    }

    pub fn progress(&self) -> Progress {
        let outstanding = self.shared.lock().outstanding.first().copied();
        let due = self.due.first().map(|due| due.lowest);
        let lowest = outstanding.into_iter().chain(due).min();
        Progress {
            applied: self.applied,
            // With nothing due and nothing outstanding, nothing up to the applied position is left to flush.
            durable: lowest.map_or(self.applied, |lowest| Lsn(lowest.0.saturating_sub(1))),
        }
    }

    /// Waits until nothing is outstanding.
    pub fn drain(&mut self) -> Result<(), ApplyError> {
        self.hand_over(self.applied);
        let mut state = self.shared.lock();
        while !state.outstanding.is_empty() && state.failure.is_none() {
            let drained = &self.shared.drained;
            state = drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.check()
    }

    /// Another log, or another beginning, from here on.
    pub fn restart(&mut self, applied: Lsn) -> Result<(), ApplyError> {
        self.drain()?;
        self.applied = applied;
        self.shared.lock().applied = applied;
        Ok(())
    }

    /// Flushes whole file systems; what was due is done with them.
    pub fn settle<'a>(
        &mut self,
        roots: impl Iterator<Item = std::os::fd::BorrowedFd<'a>>,
    ) -> Result<(), ApplyError> {
        self.drain()?;
        for root in roots {
            syncfs(root).map_err(|fault| self.shared.fail(root, fault))?;
        }
        Ok(())
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.queued.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a flushing thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
