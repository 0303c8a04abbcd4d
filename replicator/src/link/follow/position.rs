//! How far this node has applied which log, for those who wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::link::locked;
use crate::record::Lsn;

/// Written by the thread that applies.
#[derive(Default)]
pub(super) struct Position {
    /// Identity of the log, 0 while there is none; applied position.
    reached: Mutex<(u64, Lsn)>,
    moved: Condvar,
    waiters: AtomicUsize,
}

impl Position {
    pub fn set(&self, log: u64, applied: Lsn) {
        *locked(&self.reached) = (log, applied);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.moved.notify_all();
        }
    }

    /// Waits until `log` is applied up to `last`. False when another log is followed, or at the deadline.
    pub fn await_applied(&self, log: u64, last: Lsn, deadline: Instant) -> bool {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut reached = locked(&self.reached);
        while reached.0 == log && reached.1 < last {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            reached = self
                .moved
                .wait_timeout(reached, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let is_reached = reached.0 == log && reached.1 >= last;
        drop(reached);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        is_reached
    }
}
