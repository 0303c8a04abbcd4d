//! The objects of all directories of a module, found by the primary's identity.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::binding::{Bindings, Object};
use super::comparison::Comparison;
use super::content::{self, Content};
use super::descriptor::{Descriptors, Opened};
use super::error::Attempt;
use super::extended::{self, CAPABILITY};
use super::tree::{ObjectKind, Tree, magic_target};
use super::{ApplyError, Outcome, attributes};
use crate::identity::Identity;
use crate::record::{Change, FileId, Time};

pub(super) struct Store {
    pub node: String,
    pub trees: Vec<Tree>,
    pub bindings: Bindings,
    descriptors: Descriptors,
    /// Files without a name, which only their descriptor keeps alive.
    unnamed: HashMap<FileId, Arc<OwnedFd>>,
    /// Set while the trees are being compared.
    pub comparison: Option<Comparison>,
}

impl Store {
    pub fn new(node: &str, trees: Vec<Tree>, descriptors: usize) -> Store {
        Store {
            node: node.to_owned(),
            trees,
            bindings: Bindings::default(),
            descriptors: Descriptors::new(descriptors),
            unnamed: HashMap::new(),
            comparison: None,
        }
    }

    /// Forgets every identity.
    pub fn clear(&mut self, comparison: Option<Comparison>) {
        self.bindings.clear(comparison.is_some());
        self.descriptors.clear();
        self.unnamed.clear();
        self.comparison = comparison;
    }

    /// The tree of an object. Every entry is checked before it is applied: the index is within the configuration.
    pub fn tree(&self, file: FileId) -> &Tree {
        &self.trees[usize::from(file.tree)]
    }

    /// `None` when the object is unknown because the comparison has not come to it yet.
    pub fn known(&self, file: FileId) -> Result<Option<Object>, ApplyError> {
        match self.bindings.get(file) {
            Some(object) => Ok(Some(*object)),
            None if self.comparison.is_some() => Ok(None),
            None => Err(self.diverged(file, "find it", "it is not known here")),
        }
    }

    /// The open object, or `None` when it is gone: unlinked here, still open on the primary, and never to have a name again.
    pub fn open(&mut self, file: FileId, object: Object) -> Result<Option<Opened>, ApplyError> {
        if let Some(slot) = object.slot
            && let Some(opened) = self.descriptors.get(slot)
        {
            return Ok(Some(opened.clone()));
        }
        let descriptor = if let Some(descriptor) = self.unnamed.get(&file) {
            Arc::clone(descriptor)
        } else {
            match self.tree(file).reopen(object.identity, object.kind) {
                Ok(descriptor) => Arc::new(descriptor),
                Err(Errno::STALE) => return Ok(None),
                Err(fault) => return Err(self.blame(file, "open")(fault)),
            }
        };
        let guards_capability = object.kind == ObjectKind::File
            && extended::get(descriptor.as_fd(), CAPABILITY)
                .map_err(self.blame(file, "read the extended attributes of"))?
                .is_some();
        let opened = Opened {
            descriptor,
            guards_capability,
        };
        self.keep(file, opened.clone());
        Ok(Some(opened))
    }

    fn keep(&mut self, file: FileId, opened: Opened) {
        let (slot, closed) = self.descriptors.keep(file, opened);
        if let Some(closed) = closed.and_then(|closed| self.bindings.get_mut(closed)) {
            closed.slot = None;
        }
        if let Some(object) = self.bindings.get_mut(file) {
            object.slot = Some(slot);
        }
    }

    /// Binds a local object, and keeps its descriptor if one is given.
    pub fn bind(
        &mut self,
        file: FileId,
        (identity, kind): (Identity, ObjectKind),
        is_listed: bool,
        opened: Option<Opened>,
    ) {
        if let Some(other) = self.bindings.meaning(file.tree, identity) {
            self.forget(other);
        }
        self.forget(file);
        self.bindings.bind(
            file,
            Object {
                identity,
                kind,
                is_listed: is_listed || kind != ObjectKind::Directory,
                is_unsettled: true,
                slot: None,
            },
        );
        if let Some(opened) = opened {
            self.keep(file, opened);
        }
    }

    /// Drops everything known about an object; an unnamed file is freed with it. No-op for an unknown one.
    pub fn forget(&mut self, file: FileId) {
        if let Some(slot) = self.bindings.remove(file).and_then(|object| object.slot) {
            self.descriptors.close(slot);
        }
        self.unnamed.remove(&file);
    }

    /// Keeps a file alive that has no name.
    pub fn hold_unnamed(&mut self, file: FileId, descriptor: Arc<OwnedFd>) {
        self.unnamed.insert(file, descriptor);
    }

    pub fn release_unnamed(&mut self, file: FileId) {
        self.unnamed.remove(&file);
    }

    /// Its next flush takes its metadata along.
    pub fn unsettle(&mut self, file: FileId) {
        if let Some(object) = self.bindings.get_mut(file) {
            object.is_unsettled = true;
        }
    }

    /// What was changed besides content and times is on its way to stable storage.
    pub fn settled(&mut self, file: FileId) {
        if let Some(object) = self.bindings.get_mut(file) {
            object.is_unsettled = false;
        }
    }

    pub fn change_content(
        &mut self,
        file: FileId,
        change: Content<'_>,
    ) -> Result<Outcome, ApplyError> {
        let Some(object) = self.known(file)? else {
            return Ok(Outcome::Skipped);
        };
        if object.kind != ObjectKind::File {
            return Err(self.diverged(file, "change its content", "it is not a file here"));
        }
        if let Some(opened) = self.open(file, object)? {
            content::change(&opened, change).map_err(self.blame(file, "write to"))?;
        }
        Ok(Outcome::Applied)
    }

    pub fn change_attributes(
        &mut self,
        file: FileId,
        change: &Change,
    ) -> Result<Outcome, ApplyError> {
        let Some(object) = self.known(file)? else {
            return Ok(Outcome::Skipped);
        };
        if let Some(opened) = self.open(file, object)? {
            attributes::change(opened.descriptor.as_fd(), change)
                .map_err(self.blame(file, "set the attributes of"))?;
            // Times alone are not worth a flush of metadata: fdatasync leaves them out on the primary too.
            if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
                self.unsettle(file);
            }
        }
        Ok(Outcome::Applied)
    }

    /// Sets one extended attribute, or removes it.
    pub fn change_extended(
        &mut self,
        file: FileId,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Outcome, ApplyError> {
        let Some(object) = self.known(file)? else {
            return Ok(Outcome::Skipped);
        };
        if let Some(opened) = self.open(file, object)? {
            let node = opened.descriptor.as_fd();
            match value {
                Some(value) => extended::set(node, name, value),
                None => extended::remove(node, name),
            }
            .map_err(self.blame(file, "set the extended attributes of"))?;
            self.unsettle(file);
            let slot = self.bindings.get(file).and_then(|object| object.slot);
            if name == CAPABILITY
                && let Some(kept) = slot.and_then(|slot| self.descriptors.get(slot))
            {
                kept.guards_capability = value.is_some();
            }
        }
        Ok(Outcome::Applied)
    }

    /// Sets the time at which the names of a directory changed last.
    pub fn set_modified(
        &self,
        directory: FileId,
        descriptor: BorrowedFd<'_>,
        modified: Time,
    ) -> Result<(), ApplyError> {
        attributes::set_modified(descriptor, modified)
            .map_err(self.blame(directory, "set the times of"))
    }

    /// Names an object in a message: its path if it has one, else its inode.
    fn name(&self, file: FileId) -> String {
        let tree = self.tree(file);
        let path = self.bindings.get(file).and_then(|object| {
            let node = tree.reopen(object.identity, ObjectKind::Other).ok()?;
            let path = magic_target(node.as_fd()).ok()?;
            let root = magic_target(tree.root()).ok()?;
            Some(tree.path.join(path.strip_prefix(root).ok()?))
        });
        path.map_or_else(
            || {
                format!(
                    "the object with the peer's inode {} in {}",
                    file.inode,
                    tree.path.display()
                )
            },
            |path| path.display().to_string(),
        )
    }

    /// What an error of `attempt` on an object means.
    pub fn blame(&self, file: FileId, attempt: &'static str) -> impl FnOnce(Errno) -> ApplyError {
        move |fault| {
            let attempt = Attempt {
                node: &self.node,
                tree: &self.tree(file).path,
                object: self.name(file),
                action: attempt,
            };
            attempt.failed(fault)
        }
    }

    /// What an error of `attempt` on a name means.
    pub fn blame_name(
        &self,
        directory: FileId,
        name: &[u8],
        attempt: &'static str,
    ) -> impl FnOnce(Errno) -> ApplyError {
        move |fault| {
            let attempt = Attempt {
                node: &self.node,
                tree: &self.tree(directory).path,
                object: self.name_in(directory, name),
                action: attempt,
            };
            attempt.failed(fault)
        }
    }

    fn name_in(&self, directory: FileId, name: &[u8]) -> String {
        let name = String::from_utf8_lossy(name);
        format!("{}/{name}", self.name(directory).trim_end_matches('/'))
    }

    pub fn diverged(&self, file: FileId, attempt: &'static str, cause: &str) -> ApplyError {
        ApplyError::Diverged {
            object: self.name(file),
            attempt,
            cause: cause.to_owned(),
        }
    }

    pub fn diverged_name(
        &self,
        directory: FileId,
        name: &[u8],
        attempt: &'static str,
        cause: &str,
    ) -> ApplyError {
        ApplyError::Diverged {
            object: self.name_in(directory, name),
            attempt,
            cause: cause.to_owned(),
        }
    }
}
