//! The seam between the served file system (`serve/`) and the link to the peer (`link/`).
//!
//! The file system knows *what happened*; the link knows *who has it*. [`Journal`] is what the file system asks of the link,
//! [`Trees`] what the link asks of the file system when it brings a peer up to date. Neither knows more of the other, so each is
//! tested against a double of one page.

use std::fs::File;
use std::io;
use std::sync::mpsc;

use crate::record::{Attributes, FileId, Kind, Lsn, Record};

/// Why a commit was not acknowledged. The caller answers EIO: the node is giving up the primary role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node is no longer primary: the write stands on the local disk, but is not acknowledged"
)]
pub struct NotCommitted;

/// What is done with the outcome of a commit.
pub type Then = Box<dyn FnOnce(Result<(), NotCommitted>) + Send>;

/// The ordered log, seen from the file system.
pub trait Journal: Send + Sync {
    /// Appends one record and returns its position. The caller orders its calls (it holds the lock under which it did the
    /// operation). Blocks while the queue is full, so that a slow peer slows writers; never drops, never fails. While commits
    /// are acknowledged alone the record is not kept, and so it is once the journal is closed: then it returns at once.
    fn append(&self, record: &Record<'_>) -> Lsn;

    /// False while commits are acknowledged alone: content need not be read for shipping.
    fn ships(&self) -> bool;

    /// Hands everything appended so far to the socket. `append` may batch; this never waits for the peer.
    fn flush(&self);

    /// Calls `then` once the record at `lsn` is acknowledged as the module's `acknowledge` asks, or commits are granted alone: in
    /// this call if it is already, else in the thread that learns of it. So `then` must not block.
    fn when(&self, lsn: Lsn, then: Then);

    /// Waits for what [`when`](Self::when) tells.
    fn wait(&self, lsn: Lsn) -> Result<(), NotCommitted> {
        let (tell, told) = mpsc::sync_channel(1);
        self.when(
            lsn,
            Box::new(move |outcome| {
                // The waiting end is below, and stays until it is told.
                let _ = tell.send(outcome);
            }),
        );
        told.recv().unwrap_or(Err(NotCommitted))
    }
}

/// One name of a listed directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub file: FileId,
    pub kind: Kind<'static>,
    pub attributes: Attributes,
    /// Size in bytes for regular files, else 0.
    pub size: u64,
    /// Number of hard links.
    pub links: u32,
    pub extended: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The served directories, seen from the link while it brings a peer up to date.
pub trait Trees: Send + Sync {
    /// The root of every directory of the module, in configuration order.
    fn roots(&self) -> Vec<FileId>;

    /// Reads one directory with the namespace held still and calls `then` before it is released, so that whatever `then`
    /// appends stands in the log at exactly the point the listing describes. Excluded names are left out. `then` also gets the
    /// directory's own attributes and extended attributes (an [`Entry`] with an empty name).
    fn list(&self, directory: FileId, then: &mut dyn FnMut(&Entry, &[Entry])) -> io::Result<()>;

    /// One object without its name, as it stands now. Called by the link inside `append` of a `Rename` or `Link` while a peer is
    /// brought up, so it takes no lock that a caller of `append` holds.
    fn describe(&self, file: FileId) -> io::Result<Entry>;

    /// Opens the backing file for reading, without touching its access time.
    fn open(&self, file: FileId) -> io::Result<File>;

    /// Marks ranges as changed, as if they had been written now: they are read and shipped like any write, holes in them as
    /// `Punch`, the modification time after them.
    fn mark_changed(&self, file: FileId, ranges: &[std::ops::Range<u64>]) -> io::Result<()>;

    /// Appends the truncation or extension that makes the peer's file as long as the local one, and its modification time, under
    /// the file's own lock, so that they stand in the right order among writes to it. Appends both even if nothing changed.
    fn ship_size(&self, file: FileId) -> io::Result<()>;

    /// Returns when everything captured or marked before the call is appended, modification times included.
    fn settle(&self) -> io::Result<()>;
}
