//! [`Applier`]: the entry point for every entry of the log.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::RenameFlags;

use super::binding::Object;
use super::census::Census;
use super::comparison::Comparison;
use super::content::Content;
use super::flush::{Flusher, Level};
use super::rename::Move;
use super::store::Store;
use super::tree::{ObjectKind, Tree};
use super::validity::Validity;
use super::{ApplyError, Directory, Flush, Observer, Outcome, Progress, Want};
use crate::record::{FileId, Lsn, Record, Time};
use crate::wire::Logged;

/// All directories of one module, as the secondary writes them. Owned by the thread that receives.
pub struct Applier {
    store: Store,
    flusher: Flusher,
    validity: Validity,
    census: Option<Census>,
    /// The entry that stopped halfway: it may be applied again.
    stopped: Option<Lsn>,
}

impl Applier {
    /// `node` is this node's name, for messages. `descriptors` bounds the files kept open (half of `RLIMIT_NOFILE` is a good choice).
    pub fn new(
        node: &str,
        directories: Vec<Directory>,
        descriptors: usize,
        observer: Arc<dyn Observer>,
    ) -> Result<Applier, ApplyError> {
        let failed = |cause: std::io::Error| ApplyError::Failed {
            node: node.to_owned(),
            object: "a thread".to_owned(),
            attempt: "start",
            cause: cause.to_string(),
        };
        let trees = Tree::open_all(node, directories)?;
        let flusher = Flusher::start(node, observer).map_err(failed)?;
        Ok(Applier {
            validity: Validity { trees: trees.len() },
            store: Store::new(node, trees, descriptors),
            flusher,
            census: None,
            stopped: None,
        })
    }

    /// The same log goes on where this applier stopped: nothing is forgotten.
    pub fn begin_resume(&mut self) -> Result<(), ApplyError> {
        self.flusher.check()
    }

    /// Equal trees: forgets every identity and takes those that [`bind`](Self::bind) gives. The log goes on behind `applied`.
    pub fn begin_binding(&mut self, applied: Lsn) -> Result<(), ApplyError> {
        self.begin(applied, None)?;
        self.census = Some(Census::default());
        Ok(())
    }

    /// Takes pairs of (identity on the primary, identity here). Roots are among them.
    pub fn bind(&mut self, pairs: &[(FileId, FileId)]) -> Result<(), ApplyError> {
        let Some(census) = &mut self.census else {
            return Err(ApplyError::Malformed {
                what: "identities that were not asked for",
            });
        };
        for (theirs, ours) in pairs {
            self.validity.check_file(*theirs)?;
            self.validity.check_file(*ours)?;
            if theirs.tree != ours.tree {
                return Err(ApplyError::Malformed {
                    what: "an identity in another directory",
                });
            }
            census.claim(*theirs, *ours);
        }
        Ok(())
    }

    /// All pairs are there: walks the directories and binds what is found. `Diverged` when something is here that the peer does not
    /// know. Pairs of objects that are not here (unlinked, but open when the peer was secondary) count for nothing.
    pub fn finish_binding(&mut self) -> Result<(), ApplyError> {
        match self.census.take() {
            Some(census) => census.conclude(&mut self.store),
            None => Ok(()),
        }
    }

    /// Trees to be compared: forgets every identity, takes those of the roots, and returns what to ask first.
    pub fn begin_resync(
        &mut self,
        applied: Lsn,
        roots: &[FileId],
    ) -> Result<Vec<Want>, ApplyError> {
        self.begin(applied, Some(Comparison::default()))?;
        if roots.len() != self.validity.trees {
            return Err(ApplyError::Malformed {
                what: "another number of directories than is configured",
            });
        }
        for (index, root) in roots.iter().enumerate() {
            if usize::from(root.tree) != index {
                return Err(ApplyError::Malformed {
                    what: "directories in another order than configured",
                });
            }
            let identity = self.store.trees[index].identity;
            let object = (identity, ObjectKind::Directory);
            self.store.bind(*root, object, false, None);
        }
        Ok(roots.iter().copied().map(Want::Listing).collect())
    }

    fn begin(&mut self, applied: Lsn, comparison: Option<Comparison>) -> Result<(), ApplyError> {
        self.flusher.restart(applied)?;
        self.store.clear(comparison);
        self.census = None;
        self.stopped = None;
        Ok(())
    }

    /// Applies one entry. What a `Sync` asks for becomes due; [`commit`](Self::commit) does it.
    pub fn apply(&mut self, lsn: Lsn, entry: &Logged<'_>) -> Result<Outcome, ApplyError> {
        self.flusher.check()?;
        self.validity.check(entry)?;
        let is_retry = self.stopped == Some(lsn);
        let result = match entry {
            Logged::Record(record) => self.apply_record(lsn, record, is_retry),
            Logged::Listing(listing) => self.store.apply_listing(listing),
            Logged::Gone { directory } => Ok(self.store.apply_gone(*directory)),
            Logged::Describe(described) => {
                if let Some(comparison) = &mut self.store.comparison {
                    comparison.described.push(described.clone());
                }
                Ok(Outcome::Applied)
            }
            Logged::ResyncEnd => self.store.end_comparison(),
        };
        if result.is_ok() {
            self.flusher.set_applied(lsn);
            self.stopped = None;
        } else {
            self.stopped = Some(lsn);
        }
        result
    }

    fn apply_record(
        &mut self,
        lsn: Lsn,
        record: &Record<'_>,
        is_retry: bool,
    ) -> Result<Outcome, ApplyError> {
        let store = &mut self.store;
        let mut described = Vec::new();
        if let Some(comparison) = &mut store.comparison {
            if comparison.unfinished.is_some() {
                return Err(ApplyError::Malformed {
                    what: "a record between the parts of a listing",
                });
            }
            described = std::mem::take(&mut comparison.described);
        }
        match record {
            Record::Create {
                place,
                file,
                kind,
                attributes,
                extended,
            } => store.create(place, *file, (kind, attributes, extended), is_retry),
            Record::CreateUnnamed { file, attributes } => store.create_unnamed(*file, attributes),
            Record::Link { place, file } => store.link(place, *file, &described, is_retry),
            Record::Unlink { place } => store.unlink(place, is_retry),
            Record::RemoveDirectory { place } => store.remove_directory(place, is_retry),
            Record::Rename {
                from,
                to,
                flags,
                file,
                exchanged,
            } => {
                let renamed = Move {
                    from,
                    to,
                    flags: RenameFlags::from_bits_retain(*flags),
                    file: *file,
                    exchanged: *exchanged,
                };
                store.rename(&renamed, &described, is_retry)
            }
            Record::SetAttributes { file, change } => store.change_attributes(*file, change),
            Record::SetExtended { file, name, value } => {
                store.change_extended(*file, name, Some(value))
            }
            Record::RemoveExtended { file, name } => store.change_extended(*file, name, None),
            Record::Sync {
                file,
                data_only,
                modified,
            } => self.demand_flush(lsn, *file, *data_only, *modified),
            Record::Forget { file } => {
                store.forget(*file);
                Ok(Outcome::Applied)
            }
            content => match content_of(content) {
                Some((file, change)) => store.change_content(file, change),
                None => Ok(Outcome::Applied),
            },
        }
    }

    fn demand_flush(
        &mut self,
        lsn: Lsn,
        file: FileId,
        is_data_only: bool,
        modified: Option<Time>,
    ) -> Result<Outcome, ApplyError> {
        let Some(object) = self.store.known(file)? else {
            return Ok(Outcome::Skipped);
        };
        // Nothing can bring back an object that is gone, so nothing of it needs to be kept.
        if let Some(opened) = self.store.open(file, object)? {
            self.store.set_flushed_time(file, &opened, modified)?;
            let level = level_of(&object, is_data_only, self.store.tree(file).orders_metadata);
            if level > Level::Data {
                self.store.settled(file);
            }
            let descriptor = if object.kind == ObjectKind::Other {
                // Not open: its file system is flushed through the root.
                let root = self.store.tree(file).root().try_clone_to_owned();
                let failed = |cause| rustix::io::Errno::from_io_error(&cause);
                Arc::new(root.map_err(|cause| {
                    let fault = failed(cause).unwrap_or(rustix::io::Errno::IO);
                    self.store.blame(file, "flush")(fault)
                })?)
            } else {
                opened.descriptor
            };
            self.flusher.demand(lsn, file, level, descriptor);
        }
        Ok(Outcome::Applied)
    }

    /// Flushes what is due, and tells how far everything is.
    pub fn commit(&mut self, flush: Flush) -> Result<Progress, ApplyError> {
        self.flusher.commit(flush)
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        self.flusher.progress()
    }

    /// Directories that are known and whose names are not: each was the subject of a [`Want::Listing`].
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.store.bindings.unlisted()
    }

    /// Every known object as (identity on the primary, identity here), roots included: what a primary-to-be hands its peer in
    /// `Bind` frames.
    pub fn bindings(&self) -> impl Iterator<Item = (FileId, FileId)> {
        self.store.bindings.iter().map(|(theirs, object)| {
            let ours = FileId {
                tree: theirs.tree,
                inode: object.identity.inode,
                generation: object.identity.generation,
            };
            (theirs, ours)
        })
    }

    /// Opens a known file for hashing, without touching its access time. `None` when it is not known (any more).
    pub fn open(&self, file: FileId) -> Result<Option<File>, ApplyError> {
        self.validity.check_file(file)?;
        let Some(object) = self.store.bindings.get(file) else {
            return Ok(None);
        };
        if object.kind != ObjectKind::File {
            return Err(self
                .store
                .diverged(file, "read it", "it is not a file here"));
        }
        match self.store.tree(file).reopen_for_reading(object.identity) {
            Ok(descriptor) => Ok(Some(descriptor.into())),
            Err(rustix::io::Errno::STALE) => Ok(None),
            Err(fault) => Err(self.store.blame(file, "read")(fault)),
        }
    }

    /// Brings everything to stable storage (`syncfs` of every directory's file system).
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        self.flusher.settle(self.store.trees.iter().map(Tree::root))
    }
}

/// What must be flushed so that everything before a commit point that concerns the object is on stable storage.
///
/// fdatasync leaves the metadata out that it can do without, so an object that was created, renamed, or changed in more than
/// content and times takes a full fsync once. Of ext4 and xfs that brings along whatever was done before to the names
/// that lead to it, because their journals commit in order; other file systems are flushed whole.
fn level_of(object: &Object, is_data_only: bool, orders_metadata: bool) -> Level {
    let is_complete = object.kind != ObjectKind::File || object.is_unsettled;
    match (object.kind, is_complete) {
        (ObjectKind::Other, _) => Level::FileSystem,
        (_, true) if !orders_metadata => Level::FileSystem,
        (_, false) if is_data_only => Level::Data,
        _ => Level::Full,
    }
}

fn content_of<'a>(record: &'a Record<'_>) -> Option<(FileId, Content<'a>)> {
    Some(match record {
        Record::Data {
            file,
            offset,
            content,
        } => (
            *file,
            Content::Data {
                offset: *offset,
                bytes: content,
            },
        ),
        Record::Zero {
            file,
            offset,
            length,
            keep_size,
        } => (
            *file,
            Content::Zero {
                offset: *offset,
                length: *length,
                keep_size: *keep_size,
            },
        ),
        Record::Punch {
            file,
            offset,
            length,
        } => (
            *file,
            Content::Punch {
                offset: *offset,
                length: *length,
            },
        ),
        Record::Allocate {
            file,
            offset,
            length,
            keep_size,
        } => (
            *file,
            Content::Allocate {
                offset: *offset,
                length: *length,
                keep_size: *keep_size,
            },
        ),
        Record::Truncate { file, size } => (*file, Content::Truncate { size: *size }),
        _ => return None,
    })
}
