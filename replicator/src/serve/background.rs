//! The threads behind the calls: one empties the capture ring, one appends what changed.
//!
//! They are two, because appending waits while the journal's queue is full, and the ring must be emptied even then. Ranges that
//! wait are joined, so what waits is bounded.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::StatxFlags;
use rustix::io::Errno;

use super::descriptor::status_of;
use super::lock::lock;
use super::module::Module;
use super::node::{Node, Standing};
use super::privileges::{CAPABILITY, has_capability};
use super::queue::Item;
use super::record::attributes_of;
use super::store::Store;
use crate::record::{Change, Record};

/// How often the ring is looked at; a ring that fills wakes its reader before.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// How often changed files are appended.
const SHIP_INTERVAL: Duration = Duration::from_millis(10);

/// A file that is still open for writing counts as quiet after this time without a change.
const QUIET_AFTER: Duration = Duration::from_secs(1);

/// Empties the ring until `stops`.
pub fn drain_continuously(module: &Module, stops: &AtomicBool) {
    let Some(capture) = &module.capture else {
        return;
    };
    while !stops.load(Ordering::Acquire) {
        if let Err(error) = capture.wait(DRAIN_INTERVAL) {
            tracing::error!(%error, "cannot wait for the capture ring");
            std::thread::sleep(DRAIN_INTERVAL);
        }
        module.drain();
    }
}

/// Appends changed content and times until the queue is closed.
pub fn ship_continuously(module: &Module) {
    while module.queue.pause(SHIP_INTERVAL) {
        for item in module.queue.take() {
            module.attend(&item);
        }
    }
}

impl Module {
    /// One turn for a node of the queue: some content, or its times once it is quiet.
    fn attend(&self, item: &Item) {
        let store = &self.stores[usize::from(item.store)];
        let node = &item.node;
        lock(&node.pending).is_queued = false;
        match self.ship(store, node) {
            Ok(is_left) => self.attend_times(store, node, is_left),
            // Reported already; the content stays pending and is tried again.
            Err(errno) => {
                tracing::error!(%errno, inode = node.identity.inode, "cannot read changed content");
                let mut pending = lock(&node.pending);
                self.enqueue(store, node, &mut pending);
            }
        }
        self.release(store, node);
    }

    fn attend_times(&self, store: &Store, node: &Arc<Node>, is_left: bool) {
        let is_open = lock(&node.life).writers > 0;
        let (is_touched, is_quiet) = {
            let pending = lock(&node.pending);
            let since = pending
                .last_change
                .map_or(Duration::MAX, |change| change.elapsed());
            (
                pending.is_touched,
                pending.ranges.is_empty() && (!is_open || since >= QUIET_AFTER),
            )
        };
        if is_touched && is_quiet && !is_left {
            if let Err(errno) = self.append_times(store, node) {
                tracing::debug!(%errno, inode = node.identity.inode, "no times of an object that is gone");
            }
        }
        let mut pending = lock(&node.pending);
        if pending.is_touched || !pending.ranges.is_empty() {
            self.enqueue(store, node, &mut pending);
        }
    }

    /// The modification time as it stands, and the mode where a passthrough write may have changed it.
    pub fn append_times(&self, store: &Store, node: &Arc<Node>) -> Result<(), Errno> {
        let _names = lock(&self.namespace);
        let _order = lock(&node.order);
        lock(&node.pending).is_touched = false;
        if !node.is_journalled() || !self.journal.ships() {
            return Ok(());
        }
        let reach = store.reach(node)?;
        let status = status_of(reach.as_fd(), StatxFlags::BASIC_STATS)?;
        if node.privileges.has_capability() && !has_capability(reach.as_fd())? {
            self.append_lost_capability(store, node);
        }
        let attributes = attributes_of(&status);
        let mode = node.privileges.are_some().then_some(attributes.mode);
        let change = Change {
            modified: Some(attributes.modified),
            mode,
            ..Change::default()
        };
        self.journal.append(&Record::SetAttributes {
            file: store.file_id(node.identity),
            change,
        });
        Ok(())
    }

    /// The backing file system took the file's capability away. Called with the namespace lock held.
    pub fn append_lost_capability(&self, store: &Store, node: &Node) {
        node.privileges.note_capability(false);
        if node.is_journalled() {
            let file = store.file_id(node.identity);
            self.journal.append(&Record::RemoveExtended {
                file,
                name: CAPABILITY.into(),
            });
        }
    }

    /// Appends everything that was captured or marked before this call, times included. Mapped pages are written out first.
    pub fn settle(&self) -> Result<(), Errno> {
        self.drain();
        for store in &self.stores {
            for node in store.nodes.all() {
                if node.standing() == Standing::Named && node.is_dirty() {
                    self.ship_all(store, &node)?;
                    self.append_times(store, &node)?;
                }
            }
        }
        Ok(())
    }

    /// Lets the node go if nothing needs it any more.
    pub fn release(&self, store: &Store, node: &Arc<Node>) {
        // What was written last may still stand in the ring, and an event finds its node or is lost.
        if lock(&node.life).is_watched {
            self.drain();
        }
        store.nodes.release(node, || {
            if let Some(capture) = self
                .capture
                .as_ref()
                .filter(|_| lock(&node.life).is_watched)
            {
                capture.unwatch(Module::watch_key(store, node));
            }
        });
    }

    /// Appends everything, and what is captured meanwhile, until nothing is left. For the end, when nobody writes any more.
    pub fn empty(&self, timeout: Duration) -> Result<(), Errno> {
        let deadline = Instant::now() + timeout;
        self.drain();
        while self
            .stores
            .iter()
            .flat_map(|store| store.nodes.all())
            .any(|node| node.is_dirty())
        {
            if Instant::now() >= deadline {
                return Err(Errno::TIMEDOUT);
            }
            self.settle()?;
        }
        Ok(())
    }
}
