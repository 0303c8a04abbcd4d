//! [`Applier`]: the entry point for every entry of the log.

use std::fs::File;
use std::sync::Arc;

use super::{ApplyError, Directory, Flush, Observer, Outcome, Progress, Want};
use crate::record::{FileId, Lsn};
use crate::wire::Logged;

/// All directories of one module, as the secondary writes them. Owned by the thread that receives.
pub struct Applier {
    _private: (),
}

impl Applier {
    /// `node` is this node's name, for messages. `descriptors` bounds the files kept open (half of `RLIMIT_NOFILE` is a good choice).
    pub fn new(
        _node: &str,
        _directories: Vec<Directory>,
        _descriptors: usize,
        _observer: Arc<dyn Observer>,
    ) -> Result<Applier, ApplyError> {
        todo!()
    }

    /// The same log goes on where this applier stopped: nothing is forgotten.
    pub fn begin_resume(&mut self) -> Result<(), ApplyError> {
        todo!()
    }

    /// Equal trees: forgets every identity and takes those that [`bind`](Self::bind) gives. The log goes on behind `applied`.
    pub fn begin_binding(&mut self, _applied: Lsn) -> Result<(), ApplyError> {
        todo!()
    }

    /// Takes pairs of (identity on the primary, identity here). Roots are among them.
    pub fn bind(&mut self, _pairs: &[(FileId, FileId)]) -> Result<(), ApplyError> {
        todo!()
    }

    /// Trees to be compared: forgets every identity, takes those of the roots, and returns what to ask first.
    pub fn begin_resync(
        &mut self,
        _applied: Lsn,
        _roots: &[FileId],
    ) -> Result<Vec<Want>, ApplyError> {
        todo!()
    }

    /// Applies one entry. What a `Sync` asks for becomes due; [`commit`](Self::commit) does it.
    pub fn apply(&mut self, _lsn: Lsn, _entry: &Logged<'_>) -> Result<Outcome, ApplyError> {
        todo!()
    }

    /// Flushes what is due.
    pub fn commit(&mut self, _flush: Flush) -> Result<(), ApplyError> {
        todo!()
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        todo!()
    }

    /// Directories that are known and whose names are not: each was the subject of a [`Want::Listing`].
    #[must_use]
    pub fn unlisted(&self) -> usize {
        todo!()
    }

    /// Every known object as (identity on the primary, identity here), roots included, objects without a name left out: what a
    /// primary-to-be hands its peer in `Bind` frames.
    pub fn bindings(&self) -> impl Iterator<Item = (FileId, FileId)> {
        std::iter::empty()
    }

    /// Opens a known file for hashing, without touching its access time. `None` when it is not known (any more).
    pub fn open(&self, _file: FileId) -> Result<Option<File>, ApplyError> {
        todo!()
    }

    /// Brings everything to stable storage (`syncfs` of every directory's file system).
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        todo!()
    }
}
