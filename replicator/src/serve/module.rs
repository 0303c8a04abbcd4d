//! What all directories of the module share: the journal, the capture, the order of things.

use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::config::SyncMode;
use super::lock::lock;
use super::meters::Meters;
use super::node::{Node, Pending};
use super::queue::{Item, Queue};
use super::status::Observer;
use super::store::Store;
use crate::capture::{Capture, Event, Kind, Loss, Watched};
use crate::journal::Journal;
use crate::record::FileId;
use crate::wakefulness::Wakefulness;

pub struct Module {
    pub stores: Vec<Store>,
    pub journal: Arc<dyn Journal>,
    pub observer: Arc<dyn Observer>,
    pub sync: SyncMode,
    pub capture: Option<Capture>,
    /// Held over every change of a name or an attribute and the append that tells of it.
    pub namespace: Mutex<()>,
    pub queue: Queue,
    pub meters: Meters,
    pub wakefulness: Wakefulness,
    /// Files that were synchronised through a shared mapping: relayed from their next life on.
    learned: Mutex<HashSet<FileId>>,
}

impl Module {
    pub fn new(
        stores: Vec<Store>,
        journal: Arc<dyn Journal>,
        observer: Arc<dyn Observer>,
        sync: SyncMode,
        capture: Option<Capture>,
    ) -> Module {
        Module {
            stores,
            journal,
            observer,
            sync,
            capture,
            namespace: Mutex::default(),
            queue: Queue::default(),
            meters: Meters::new(),
            wakefulness: Wakefulness::start(),
            learned: Mutex::default(),
        }
    }

    /// Everything that returned from a write before this call is among its node's pending ranges after it.
    pub fn drain(&self) {
        let Some(capture) = &self.capture else { return };
        let (ships, now) = (self.journal.ships(), Instant::now());
        capture.drain(&mut |event| self.take(&event, ships, now));
        match capture.losses() {
            Ok(losses) => losses.iter().for_each(|loss| self.take_loss(loss)),
            Err(error) => {
                tracing::error!(%error, "cannot tell which inodes lost events: every watched file is shipped whole");
                self.mark_all_watched();
            }
        }
    }

    fn take(&self, event: &Event, ships: bool, now: Instant) {
        if event.kind == Kind::Sync {
            return self.note_sync(event.file);
        }
        let Some((store, node)) = self.find(event.file) else {
            return;
        };
        let mut pending = lock(&node.pending);
        pending.is_mapped |= matches!(event.kind, Kind::Mapped | Kind::Faulted);
        if !ships {
            // Granted to commit alone, nothing is kept: the peer will be brought up by comparing.
            pending.expose();
            return;
        }
        if event.kind == Kind::Faulted && pending.is_protected {
            return;
        }
        // Other than a store, a write leaves pages dirty of which it names only the bytes it wrote.
        if event.kind != Kind::Mapped {
            pending.expose();
        }
        pending.is_resized |= event.kind == Kind::Truncate;
        let end = event.offset.saturating_add(event.length);
        pending.ranges.add(event.offset..end);
        self.touch(store, &node, &mut pending, now);
    }

    fn take_loss(&self, loss: &Loss) {
        let file = FileId {
            tree: loss.tree,
            inode: loss.inode.inode,
            generation: loss.inode.generation,
        };
        if let Some((store, node)) = self.find(file) {
            tracing::warn!(?file, "write events were lost: the file is shipped whole");
            self.mark_whole(store, &node);
        }
    }

    fn mark_all_watched(&self) {
        for store in &self.stores {
            for node in store.nodes.all() {
                if lock(&node.life).is_watched {
                    self.mark_whole(store, &node);
                }
            }
        }
    }

    /// Beyond the size that the file has when it is read there is nothing to ship, so the end need not be known.
    fn mark_whole(&self, store: &Store, node: &Arc<Node>) {
        let mut pending = lock(&node.pending);
        pending.ranges.mark(0..u64::MAX);
        pending.is_resized = true;
        // What was lost may have been the sign of a mapping.
        pending.is_mapped = true;
        pending.expose();
        self.touch(store, node, &mut pending, Instant::now());
    }

    /// Content changed: the background shall append it, and the modification time after it.
    pub fn touch(&self, store: &Store, node: &Arc<Node>, pending: &mut Pending, now: Instant) {
        pending.is_touched = true;
        pending.last_change = Some(now);
        self.enqueue(store, node, pending);
    }

    pub fn enqueue(&self, store: &Store, node: &Arc<Node>, pending: &mut Pending) {
        if !pending.is_queued {
            pending.is_queued = true;
            self.queue.push(Item {
                store: store.index,
                node: Arc::clone(node),
            });
        }
    }

    fn find(&self, file: FileId) -> Option<(&Store, Arc<Node>)> {
        let store = self.stores.get(usize::from(file.tree))?;
        let node = store.nodes.get(file.inode)?;
        (node.identity.generation == file.generation).then_some((store, node))
    }

    /// A sync went past this process: it is not a commit point, and the operator should know.
    fn note_sync(&self, file: FileId) {
        self.meters.uncovered_syncs.fetch_add(1, Ordering::Relaxed);
        let Some((store, node)) = self.find(file) else {
            return;
        };
        if lock(&node.pending).is_mapped && lock(&self.learned).insert(file) {
            self.observer.degraded(&format!(
                "inode {} below {} was synchronised through a shared mapping, which commits on this node only; from its next use \
                 on it is served without passthrough (name it under `mapped` to have that from the start)",
                file.inode,
                store.site.path().display()
            ));
        }
    }

    /// Whether the file's next life shall be without passthrough.
    #[must_use]
    pub fn has_learned(&self, file: FileId) -> bool {
        lock(&self.learned).contains(&file)
    }

    /// The file behind a node, for everything but an application's own reads; kept while the node is open.
    pub fn content(store: &Store, node: &Node) -> Result<Arc<File>, Errno> {
        let mut life = lock(&node.life);
        if let Some(file) = &life.file {
            return Ok(Arc::clone(file));
        }
        let flags = OFlags::NOATIME | OFlags::NONBLOCK;
        let opened = match store.open(node.identity, OFlags::RDWR | flags) {
            // Immutable, or being executed from outside the mount: nobody writes to it through here.
            Err(Errno::PERM | Errno::ACCESS | Errno::TXTBSY | Errno::ROFS) => {
                store.open(node.identity, OFlags::RDONLY | flags)?
            }
            other => other?,
        };
        let file = Arc::new(File::from(opened));
        if life.opens > 0 {
            life.file = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    #[must_use]
    pub fn watch_key(store: &Store, node: &Node) -> Watched {
        Watched {
            inode: node.identity.inode,
            device: store.device,
            generation: node.identity.generation,
        }
    }

    /// An error of the backing store that ends the primary role is reported before the caller sees it.
    pub fn check<T>(&self, store: &Store, result: Result<T, Errno>) -> Result<T, Errno> {
        if let Err(errno @ (Errno::IO | Errno::UCLEAN | Errno::SHUTDOWN)) = result {
            self.observer.fault(&format!(
                "the file system of {} failed: {errno}",
                store.site.path().display()
            ));
        }
        result
    }
}
