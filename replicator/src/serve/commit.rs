//! Commit points: what was written is on both nodes, or nobody is told that it is.
//!
//! The calling thread drains the ring, appends what is left of the file and the `Sync` record, hands the journal's buffer to the
//! socket, and synchronises locally while the peer does the same. For the peer's word no thread waits if it need not: whoever
//! hears it answers the caller.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{OFlags, StatxFlags};
use rustix::io::Errno;

use super::config::SyncMode;
use super::descriptor::status_of;
use super::lock::lock;
use super::module::Module;
use super::node::{Node, Standing};
use super::record::time_of;
use super::ship::{Urgency, Waiting};
use super::store::Store;
use crate::fuse::Reply;
use crate::journal::NotCommitted;
use crate::record::{Lsn, Record, Time};

/// A commit of which this node's part is done.
#[must_use = "the peer's part may not be"]
pub enum Commit {
    /// There is no other part.
    Whole,
    /// The peer must reach the position.
    Begun { lsn: Lsn, started: Instant },
}

impl Module {
    /// `fsync` or `fdatasync` of a regular file.
    pub fn begin_commit(
        &self,
        store: &Store,
        node: &Arc<Node>,
        data_only: bool,
    ) -> Result<Commit, Errno> {
        let started = Instant::now();
        let file = Module::content(store, node)?;
        if !node.is_journalled() {
            self.check(store, synchronize(&file, data_only))?;
            return Ok(Commit::Whole);
        }
        let is_mapped = lock(&node.pending).is_mapped;
        if is_mapped {
            // Pages must be clean and write-protected before they are read: a store into a dirty page makes no event.
            self.check(store, synchronize(&file, data_only))?;
        }
        if self.journal.ships() {
            self.drain();
        }
        let lsn = self.append_commit(store, node, &file, data_only)?;
        self.journal.flush();
        if !is_mapped {
            self.check(store, synchronize(&file, data_only))?;
        }
        Ok(self.begun(lsn, started))
    }

    /// What is left of the file, and the commit point behind it.
    fn append_commit(
        &self,
        store: &Store,
        node: &Arc<Node>,
        file: &File,
        data_only: bool,
    ) -> Result<Lsn, Errno> {
        let _waiting = Waiting::new(node);
        let _order = lock(&node.order);
        self.ship_ordered(store, node, Urgency::Commit)?;
        let modified = if data_only {
            None
        } else {
            Some(self.settle_time(store, node, file)?)
        };
        let file = store.file_id(node.identity);
        Ok(self.journal.append(&Record::Sync {
            file,
            data_only,
            modified,
        }))
    }

    /// `fsync` of a directory: its records are in the journal already.
    pub fn begin_directory_commit(
        &self,
        store: &Store,
        node: &Node,
        directory: &File,
        data_only: bool,
    ) -> Result<Commit, Errno> {
        let started = Instant::now();
        if node.class().is_excluded || node.standing() == Standing::Gone {
            self.check(store, synchronize(directory, data_only))?;
            return Ok(Commit::Whole);
        }
        let lsn = self.journal.append(&Record::Sync {
            file: store.file_id(node.identity),
            data_only,
            modified: None,
        });
        self.journal.flush();
        self.check(store, synchronize(directory, data_only))?;
        Ok(self.begun(lsn, started))
    }

    /// With `sync: always`: the call that just changed these objects returns when all of it is on both nodes.
    pub fn commit_change(&self, store: &Store, nodes: &[&Arc<Node>]) -> Result<(), Errno> {
        if self.sync != SyncMode::Always || nodes.iter().all(|node| !node.is_journalled()) {
            return Ok(());
        }
        let started = Instant::now();
        let mut last = None;
        for node in nodes.iter().filter(|node| node.is_journalled()) {
            let file = store.file_id(node.identity);
            last = Some(self.journal.append(&Record::Sync {
                file,
                data_only: false,
                modified: None,
            }));
        }
        self.journal.flush();
        for node in nodes {
            self.check(store, synchronize_object(store, node))?;
        }
        last.map_or(Ok(()), |lsn| self.conclude(&self.begun(lsn, started)))
    }

    fn begun(&self, lsn: Lsn, started: Instant) -> Commit {
        if self.sync != SyncMode::Async {
            return Commit::Begun { lsn, started };
        }
        self.concluded(started);
        Commit::Whole
    }

    /// Waits until the commit is one.
    pub fn conclude(&self, commit: &Commit) -> Result<(), Errno> {
        if let Commit::Begun { lsn, started } = *commit {
            // Not a failure of the local store: the node is giving up its role and says so elsewhere.
            self.journal.wait(lsn).map_err(|_| Errno::IO)?;
            self.concluded(started);
        }
        Ok(())
    }

    /// Answers the caller once the commit is one; waits for nothing.
    pub fn answer(self: &Arc<Self>, commit: &Result<Commit, Errno>, reply: Reply) {
        let (lsn, started) = match *commit {
            Ok(Commit::Begun { lsn, started }) => (lsn, started),
            Ok(Commit::Whole) => return reply.empty(Ok(())),
            Err(errno) => return reply.empty(Err(errno)),
        };
        let module = Arc::clone(self);
        let then = move |outcome: Result<(), NotCommitted>| {
            // As above.
            reply.empty(outcome.map_err(|_| Errno::IO));
            if outcome.is_ok() {
                module.concluded(started);
            }
        };
        self.journal.when(lsn, Box::new(then));
    }

    fn concluded(&self, started: Instant) {
        self.wakefulness.committed();
        self.meters.committed(started.elapsed());
    }

    /// The modification time that travels with a full fsync. The kernel holds the inode's lock: nobody sets another meanwhile.
    fn settle_time(&self, store: &Store, node: &Node, file: &File) -> Result<Time, Errno> {
        let status = self.check(store, status_of(file.as_fd(), StatxFlags::MTIME))?;
        lock(&node.pending).is_touched = false;
        Ok(time_of(&status.stx_mtime))
    }
}

fn synchronize(file: &File, data_only: bool) -> Result<(), Errno> {
    if data_only {
        rustix::fs::fdatasync(file)
    } else {
        rustix::fs::fsync(file)
    }
}

/// Symbolic links and special files cannot be synchronised by themselves.
fn synchronize_object(store: &Store, node: &Node) -> Result<(), Errno> {
    if node.is_regular() {
        return synchronize(&*Module::content(store, node)?, false);
    }
    if node.is_directory() {
        let directory = store.open(node.identity, OFlags::RDONLY | OFlags::DIRECTORY)?;
        return rustix::fs::fsync(directory);
    }
    rustix::fs::syncfs(store.site.root())
}
