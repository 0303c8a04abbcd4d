//! Taking the peer's word for who is who, against what is really here.
//!
//! Between equal trees the peer sends pairs of identities. A file handle opens any object of the file system, so a pair counts only
//! if its object is found by walking the directory: nothing outside can ever be named. The walk also finds what is here and not there,
//! and the kind of each object.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::ApplyError;
use super::remove::is_shell;
use super::store::Store;
use super::tree::{Name, ObjectKind, Tree, names};
use crate::identity::Identity;
use crate::record::FileId;

/// Pairs received so far, by the local object.
#[derive(Debug, Default)]
pub(super) struct Census(HashMap<(u16, Identity), FileId>);

/// A directory to be walked, with its path relative to the root when a glob needs it.
type Todo = Vec<(Identity, Vec<u8>)>;

impl Census {
    pub fn claim(&mut self, theirs: FileId, ours: FileId) {
        let identity = Identity {
            inode: ours.inode,
            generation: ours.generation,
        };
        self.0.insert((ours.tree, identity), theirs);
    }

    /// Binds every object of every tree. Diverged when one is here that the peer does not know.
    pub fn conclude(self, store: &mut Store) -> Result<(), ApplyError> {
        for tree in 0..store.trees.len() {
            let tree = u16::try_from(tree).unwrap_or(u16::MAX);
            let identity = store.trees[usize::from(tree)].identity;
            self.bind(store, tree, identity, ObjectKind::Directory)?;
            let mut todo: Todo = vec![(identity, Vec::new())];
            while let Some((identity, path)) = todo.pop() {
                self.walk(store, tree, identity, &path, &mut todo)?;
            }
        }
        Ok(())
    }

    fn walk(
        &self,
        store: &mut Store,
        tree: u16,
        identity: Identity,
        path: &[u8],
        todo: &mut Todo,
    ) -> Result<(), ApplyError> {
        let Some(directory) = self.0.get(&(tree, identity)).copied() else {
            return Ok(());
        };
        let entries = list(&store.trees[usize::from(tree)], identity, path)
            .map_err(store.blame(directory, "list"))?;
        for (name, identity, kind) in entries {
            if self.0.contains_key(&(tree, identity)) {
                self.bind(store, tree, identity, kind)?;
                if kind == ObjectKind::Directory {
                    todo.push((identity, [path, &*name, b"/"].concat()));
                }
                continue;
            }
            let is_shell = kind == ObjectKind::Directory
                && is_left_over(&store.trees[usize::from(tree)], store, directory, &name)
                    .map_err(store.blame_name(directory, &name, "list"))?;
            if !is_shell {
                let cause = "the peer does not know it";
                return Err(store.diverged_name(directory, &name, "bind it", cause));
            }
        }
        Ok(())
    }

    fn bind(
        &self,
        store: &mut Store,
        tree: u16,
        identity: Identity,
        kind: ObjectKind,
    ) -> Result<(), ApplyError> {
        match self.0.get(&(tree, identity)) {
            Some(file) => {
                if store.bindings.get(*file).is_none() {
                    store.bind(*file, (identity, kind), true, None);
                    store.settled(*file);
                }
                Ok(())
            }
            None => Err(ApplyError::Diverged {
                object: store.trees[usize::from(tree)].path.display().to_string(),
                attempt: "bind it",
                cause: "the peer does not know it".to_owned(),
            }),
        }
    }
}

/// The names of a directory that are not excluded, with what they lead to.
fn list(
    tree: &Tree,
    identity: Identity,
    path: &[u8],
) -> Result<Vec<(Vec<u8>, Identity, ObjectKind)>, Errno> {
    let directory = tree.reopen(identity, ObjectKind::Directory)?;
    let mut entries = Vec::new();
    for Name { bytes, kind } in names(directory.as_fd())? {
        if tree.has_excludes() && tree.is_excluded(&[path, &*bytes].concat()) {
            continue;
        }
        let (identity, kind) = resolve(tree, directory.as_fd(), &bytes, kind)?;
        entries.push((bytes, identity, kind));
    }
    Ok(entries)
}

fn resolve(
    tree: &Tree,
    directory: BorrowedFd<'_>,
    name: &[u8],
    kind: Option<ObjectKind>,
) -> Result<(Identity, ObjectKind), Errno> {
    if let Some(kind) = kind {
        return Ok((tree.identify_at(directory, name)?, kind));
    }
    let found = tree.find(directory, name)?.ok_or(Errno::NOENT)?;
    Ok((found.identity, ObjectKind::of(&found.stat)))
}

fn is_left_over(tree: &Tree, store: &Store, directory: FileId, name: &[u8]) -> Result<bool, Errno> {
    let object = store.bindings.get(directory).ok_or(Errno::NOENT)?;
    let descriptor = tree.reopen(object.identity, ObjectKind::Directory)?;
    is_shell(tree, descriptor.as_fd(), name)
}
