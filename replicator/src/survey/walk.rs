//! The secondary's side: walks its own trees beside the primary's and tells what differs.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::aspect::{Enough, Hear, aspects, fingerprint, fingerprint_of_extra};
use super::compared::{CompareError, Compared};
use super::{Aspect, Difference, FILES_MAX, IsStopped, SurveyError};
use crate::apply::{ApplyError, BlockHashes, Found, ObjectKind, Tree, Zeroes, names};
use crate::identity::Identity;
use crate::journal::Entry;
use crate::link::LinkError;
use crate::link::channel::{Channel, Inbox};
use crate::record::{FileId, Kind};
use crate::resync::BLOCK_BYTES;
use crate::wire::Control;

/// A directory that both have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Visit {
    pub tree: usize,
    pub theirs: FileId,
    pub ours: Identity,
    /// Relative to the replicated directory, ending in a slash unless it is that.
    pub path: Vec<u8>,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub files: u64,
    pub bytes: u64,
}

/// See the module.
pub struct Surveyor<'a> {
    channel: Arc<Channel>,
    inbox: Inbox,
    trees: &'a [Tree],
    node: String,
    is_stopped: IsStopped,
    compared: VecDeque<Compared>,
    pub counts: Counts,
}

impl<'a> Surveyor<'a> {
    /// Asks over `channel`, on which the primary has agreed to a survey. `node` is this node's name, for messages.
    #[must_use]
    pub fn new(
        (channel, inbox): (Arc<Channel>, Inbox),
        trees: &'a [Tree],
        node: &str,
        is_stopped: IsStopped,
    ) -> Surveyor<'a> {
        Surveyor {
            channel,
            inbox,
            trees,
            node: node.to_owned(),
            is_stopped,
            compared: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The roots, as directories that both have.
    #[must_use]
    pub fn roots(&self, roots: &[FileId]) -> Vec<Visit> {
        let pairs = roots.iter().zip(self.trees).enumerate();
        pairs
            .map(|(tree, (root, local))| Visit {
                tree,
                theirs: *root,
                ours: local.identity,
                path: Vec::new(),
            })
            .collect()
    }

    /// Compares everything below the roots.
    pub fn walk(&mut self, roots: &[FileId], hear: &mut Hear<'_>) -> Result<(), SurveyError> {
        let mut pending = self.roots(roots);
        while let Some(visit) = pending.pop() {
            pending.extend(self.visit(&visit, hear)?);
        }
        Ok(())
    }

    /// Compares the names of one directory and the files in it; returns the directories in it that both have.
    pub fn visit(&mut self, visit: &Visit, hear: &mut Hear<'_>) -> Result<Vec<Visit>, SurveyError> {
        if (self.is_stopped)() {
            return Err(SurveyError::Stopped);
        }
        let tree = &self.trees[visit.tree];
        let (itself, entries) = self.names(visit.theirs)?;
        let opened = match tree.reopen(visit.ours, ObjectKind::Directory) {
            // Gone meanwhile; its directory has been compared and is compared again by whoever cares.
            Err(Errno::STALE) => return Ok(Vec::new()),
            opened => opened.map_err(|fault| self.blame(visit.tree, &visit.path, fault))?,
        };
        let directory = opened.as_fd();
        if let Some(itself) = itself {
            let found = Found::of(tree, directory)
                .map_err(|fault| self.blame(visit.tree, &visit.path, fault))?;
            let path = visit.path.strip_suffix(b"/").unwrap_or(&visit.path);
            self.compare(visit.tree, path, &found, &itself, hear)?;
        }
        let mut known = HashSet::with_capacity(entries.len());
        let mut inner = Vec::new();
        for entry in &entries {
            known.insert(entry.name.clone());
            let path = [&*visit.path, &*entry.name].concat();
            let found = tree
                .find(directory, &entry.name)
                .map_err(|fault| self.blame(visit.tree, &path, fault))?;
            let Some(found) = found else {
                hear(&Difference {
                    tree: visit.tree,
                    path: &path,
                    found: None,
                    aspect: Aspect::Missing,
                    block: 0,
                    fingerprint: fingerprint(entry, Aspect::Missing),
                })?;
                continue;
            };
            if entry.kind == Kind::Directory && found.is_directory() {
                inner.push(Visit {
                    tree: visit.tree,
                    theirs: entry.file,
                    ours: found.identity,
                    path: [&*path, b"/"].concat(),
                });
            } else {
                let is_enough = self.compare(visit.tree, &path, &found, entry, hear)?;
                if is_enough == Enough::No {
                    self.compare_content(path, found, entry, hear)?;
                }
            }
        }
        self.find_extra(visit, directory, &known, hear)?;
        while !self.compared.is_empty() {
            self.take_hashes(hear)?;
        }
        Ok(inner)
    }

    fn find_extra(
        &self,
        visit: &Visit,
        directory: std::os::fd::BorrowedFd<'_>,
        known: &HashSet<Vec<u8>>,
        hear: &mut Hear<'_>,
    ) -> Result<(), SurveyError> {
        let tree = &self.trees[visit.tree];
        let here = names(directory).map_err(|fault| self.blame(visit.tree, &visit.path, fault))?;
        for name in here {
            let path = [&*visit.path, &*name.bytes].concat();
            if known.contains(&name.bytes) || tree.is_excluded(&path) {
                continue;
            }
            let found = match tree.find(directory, &name.bytes) {
                // A mount point is not part of this file system.
                Err(Errno::XDEV) => continue,
                found => found.map_err(|fault| self.blame(visit.tree, &path, fault))?,
            };
            if let Some(found) = &found {
                hear(&Difference {
                    tree: visit.tree,
                    path: &path,
                    found: Some(found),
                    aspect: Aspect::Extra,
                    block: 0,
                    fingerprint: fingerprint_of_extra(found.identity),
                })?;
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        tree: usize,
        path: &[u8],
        found: &Found,
        entry: &Entry,
        hear: &mut Hear<'_>,
    ) -> Result<Enough, SurveyError> {
        let differing = aspects(found, entry).map_err(|fault| self.blame(tree, path, fault))?;
        for aspect in differing {
            let heard = hear(&Difference {
                tree,
                path,
                found: Some(found),
                aspect,
                block: 0,
                fingerprint: fingerprint(entry, aspect),
            })?;
            if heard == Enough::Yes {
                return Ok(Enough::Yes);
            }
        }
        Ok(Enough::No)
    }

    /// Asks for the hashes of a file that both have.
    fn compare_content(
        &mut self,
        path: Vec<u8>,
        found: Found,
        entry: &Entry,
        hear: &mut Hear<'_>,
    ) -> Result<(), SurveyError> {
        let is_file = ObjectKind::of(&found.stat) == ObjectKind::File;
        if entry.kind != Kind::File || !is_file {
            return Ok(());
        }
        self.counts.files += 1;
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        if size == 0 && entry.size == 0 {
            return Ok(());
        }
        self.counts.bytes += size;
        let tree = usize::from(entry.file.tree);
        let opened = match self.trees[tree].reopen_for_reading(found.identity) {
            Err(Errno::STALE) => return Ok(()),
            opened => opened.map_err(|fault| self.blame(tree, &path, fault))?,
        };
        let hashes = BlockHashes::new(opened.into(), BLOCK_BYTES, Zeroes::AreHoles)
            .map_err(|error| self.blame_read(tree, &path, &error))?;
        while self.compared.len() >= FILES_MAX {
            self.take_hashes(hear)?;
        }
        self.ask_hashes(entry.file, 0)?;
        self.compared.push_back(Compared {
            theirs: entry.file,
            path,
            found,
            hashes,
            next_block: 0,
            is_enough: false,
        });
        Ok(())
    }

    fn ask_hashes(&self, file: FileId, first_block: u64) -> Result<(), SurveyError> {
        Ok(self
            .channel
            .send_control(&Control::WantHashes { file, first_block })?)
    }

    /// Takes the oldest answer that is due and compares it.
    fn take_hashes(&mut self, hear: &mut Hear<'_>) -> Result<(), SurveyError> {
        if (self.is_stopped)() {
            return Err(SurveyError::Stopped);
        }
        let Some(mut compared) = self.compared.pop_front() else {
            return Ok(());
        };
        let (theirs, is_last) = match self.hear()? {
            Control::Hashes {
                file,
                first_block,
                hashes,
                is_last,
            } if file == compared.theirs && first_block == compared.next_block => (hashes, is_last),
            Control::Vanished { file } if file == compared.theirs => {
                let fingerprint = fingerprint_of_extra(compared.found.identity);
                return compared.tell(Aspect::Extra, fingerprint, hear);
            }
            other => return Err(unexpected(&other).into()),
        };
        compared
            .compare(&theirs, hear)
            .map_err(|error| match error {
                CompareError::Heard(error) => error,
                CompareError::Read(error) => {
                    let tree = usize::from(compared.theirs.tree);
                    self.blame_read(tree, &compared.path, &error)
                }
            })?;
        if !is_last {
            if theirs.is_empty() {
                return Err(LinkError::Unexpected("an answer without hashes".to_owned()).into());
            }
            self.ask_hashes(compared.theirs, compared.next_block)?;
            self.compared.push_back(compared);
        } else if !compared.hashes.is_at_end() {
            compared.tell(Aspect::Size, [0; 32], hear)?;
        }
        Ok(())
    }

    /// The primary's names of a directory; none when it does not exist there any more.
    fn names(&mut self, directory: FileId) -> Result<(Option<Entry>, Vec<Entry>), SurveyError> {
        self.channel
            .send_control(&Control::WantListing { directory })?;
        let (mut itself, mut entries) = (None, Vec::new());
        loop {
            match self.hear()? {
                Control::Names(part) if part.directory == directory => {
                    if part.itself.is_some() == itself.is_some() {
                        return Err(LinkError::Unexpected("parts of a listing".to_owned()).into());
                    }
                    check(directory, &part.entries)?;
                    itself = itself.or(part.itself);
                    entries.extend(part.entries);
                    if part.is_last {
                        return Ok((itself, entries));
                    }
                }
                Control::Vanished { file } if file == directory => return Ok((None, Vec::new())),
                other => return Err(unexpected(&other).into()),
            }
        }
    }

    /// Where the log must be applied to, so that everything answered so far is in it: the log's identity and the position.
    pub fn position(&mut self) -> Result<(u64, crate::record::Lsn), SurveyError> {
        self.channel.send_control(&Control::WantPosition)?;
        match self.hear()? {
            Control::Position { log, last } => Ok((log, last)),
            other => Err(unexpected(&other).into()),
        }
    }

    fn hear(&mut self) -> Result<Control, SurveyError> {
        loop {
            match self.inbox.control(&self.channel)? {
                Control::Keepalive => {}
                Control::Error { message, .. } => return Err(LinkError::Refused(message).into()),
                other => return Ok(other),
            }
        }
    }

    fn blame(&self, tree: usize, path: &[u8], fault: Errno) -> SurveyError {
        self.blame_read(tree, path, &fault.into())
    }

    fn blame_read(&self, tree: usize, path: &[u8], fault: &io::Error) -> SurveyError {
        let object = self.trees[tree].display(path);
        SurveyError::Local(ApplyError::Failed {
            node: self.node.clone(),
            object,
            attempt: "compare",
            cause: fault.to_string(),
        })
    }
}

/// What the peer names must be names in a directory: they are looked up here.
fn check(directory: FileId, entries: &[Entry]) -> Result<(), LinkError> {
    let is_sound = |entry: &Entry| {
        let name = &*entry.name;
        let is_name = !matches!(name, b"" | b"." | b"..");
        is_name && !name.contains(&b'/') && !name.contains(&0) && entry.file.tree == directory.tree
    };
    if entries.iter().all(is_sound) {
        Ok(())
    } else {
        Err(LinkError::Unexpected(
            "a name that cannot stand in a directory".to_owned(),
        ))
    }
}

fn unexpected(control: &Control) -> LinkError {
    LinkError::Unexpected(format!("{control:?}"))
}
