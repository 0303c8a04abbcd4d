//! Commit points: what was written is on both nodes, or nobody is told that it is.
//!
//! The calling thread does all of it: it drains the ring, appends what is left of the file and the `Sync` record, hands the
//! journal's buffer to the socket, synchronises locally while the peer does the same, and waits for the peer's word.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{OFlags, StatxFlags};
use rustix::io::Errno;

use super::config::SyncMode;
use super::lock::lock;
use super::module::Module;
use super::node::{Node, Standing};
use super::record::time_of;
use super::ship::{Urgency, Waiting};
use super::store::{Store, status_of};
use super::sys;
use crate::record::{Lsn, Record, Time};

impl Module {
    /// `fsync` or `fdatasync` of a regular file.
    pub fn commit_file(
        &self,
        store: &Store,
        node: &Arc<Node>,
        data_only: bool,
    ) -> Result<(), Errno> {
        let started = Instant::now();
        let file = Module::content(store, node)?;
        if !node.is_journalled() {
            return self.check(store, synchronize(&file, data_only));
        }
        let is_mapped = lock(&node.pending).is_mapped;
        if is_mapped {
            // Pages must be clean and write-protected before they are read: a store into a dirty page makes no event.
            self.check(store, synchronize(&file, data_only))?;
        }
        if self.journal.ships() {
            if !is_mapped {
                // The disk works while the content is read and sent.
                sys::begin_writing_out(file.as_fd());
            }
            self.drain();
        }
        let lsn = self.append_commit(store, node, &file, data_only)?;
        self.journal.flush();
        if !is_mapped {
            self.check(store, synchronize(&file, data_only))?;
        }
        self.conclude(lsn, started)
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
    pub fn commit_directory(
        &self,
        store: &Store,
        node: &Node,
        directory: &File,
        data_only: bool,
    ) -> Result<(), Errno> {
        let started = Instant::now();
        if node.class().is_excluded || node.standing() == Standing::Gone {
            return self.check(store, synchronize(directory, data_only));
        }
        let lsn = self.journal.append(&Record::Sync {
            file: store.file_id(node.identity),
            data_only,
            modified: None,
        });
        self.journal.flush();
        self.check(store, synchronize(directory, data_only))?;
        self.conclude(lsn, started)
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
        last.map_or(Ok(()), |lsn| self.conclude(lsn, started))
    }

    fn conclude(&self, lsn: Lsn, started: Instant) -> Result<(), Errno> {
        if self.sync != SyncMode::Async {
            // Not a failure of the local store: the node is giving up its role and says so elsewhere.
            self.journal.wait(lsn).map_err(|_| Errno::IO)?;
        }
        self.wakefulness.committed();
        self.meters.committed(started.elapsed());
        Ok(())
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
