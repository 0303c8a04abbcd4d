//! Nodes whose content or times the background has to append.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock::lock;
use super::node::Node;

/// A node and the index of its directory.
#[derive(Clone, Debug)]
pub struct Item {
    pub store: u16,
    pub node: Arc<Node>,
}

#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    is_closed: bool,
}

impl Queue {
    /// Each node stands in the queue once (`is_queued` of its pending content says so).
    pub fn push(&self, item: Item) {
        lock(&self.state).items.push_back(item);
    }

    /// Wakes the background now; otherwise it comes by itself after a moment.
    pub fn hurry(&self) {
        self.wake.notify_all();
    }

    /// Everything that stands in the queue.
    pub fn take(&self) -> Vec<Item> {
        lock(&self.state).items.drain(..).collect()
    }

    /// Waits a moment, or until somebody is in a hurry. False once the queue is closed.
    pub fn pause(&self, timeout: Duration) -> bool {
        let state = lock(&self.state);
        let started = Instant::now();
        let (state, _) = self
            .wake
            .wait_timeout_while(state, timeout, |state| {
                !state.is_closed && started.elapsed() < timeout
            })
            .unwrap_or_else(PoisonError::into_inner);
        !state.is_closed
    }

    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.wake.notify_all();
    }
}
