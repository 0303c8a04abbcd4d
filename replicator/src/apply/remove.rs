//! Removing a name with everything below it.
//!
//! Works through file handles, so that a deep tree costs memory, not descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::tree::{ObjectKind, Tree, names};
use crate::identity::Identity;

/// What becomes of excluded names below a removed directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excluded {
    /// They stay, with the directories that lead to them.
    Stay,
    /// They go: the primary put an end to their directory in the log.
    Go,
}

/// A directory whose removal is under way.
struct Level {
    identity: Identity,
    name: Vec<u8>,
    /// Directories in it that remain to be removed.
    inner: Vec<Vec<u8>>,
    holds_excluded: bool,
    /// Length of its own path within the path of the walk.
    path_length: usize,
}

struct Removal<'a> {
    tree: &'a Tree,
    excluded: Excluded,
    /// Path of the walk relative to the root, ending in a slash; empty when no glob needs it.
    path: Vec<u8>,
    /// Hears of every directory that was removed or is left only for its excluded names.
    ended: &'a mut dyn FnMut(Identity),
}

/// Removes `name` in `directory`; no error when there is none.
pub(super) fn remove(
    tree: &Tree,
    directory: BorrowedFd<'_>,
    name: &[u8],
    excluded: Excluded,
    ended: &mut dyn FnMut(Identity),
) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(fault) => return Err(fault),
    }
    let matters = excluded == Excluded::Stay && tree.has_excludes();
    let mut removal = Removal {
        tree,
        excluded: if matters { excluded } else { Excluded::Go },
        path: if matters {
            tree.path_of(directory)?
        } else {
            Vec::new()
        },
        ended,
    };
    let mut levels = vec![removal.enter(directory, name.to_vec())?];
    while let Some(level) = levels.last_mut() {
        if let Some(inner) = level.inner.pop() {
            removal.path.truncate(level.path_length);
            let descriptor = tree.reopen(level.identity, ObjectKind::Directory)?;
            let entered = removal.enter(descriptor.as_fd(), inner)?;
            levels.push(entered);
        } else if let Some(level) = levels.pop() {
            removal.leave(directory, levels.last_mut(), &level)?;
        }
    }
    Ok(())
}

impl Removal<'_> {
    /// Removes what is no directory and lists what is.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: Vec<u8>) -> Result<Level, Errno> {
        let identity = self.tree.identify_at(parent, &name)?;
        let directory: OwnedFd = self.tree.reopen(identity, ObjectKind::Directory)?;
        if self.excluded == Excluded::Stay {
            self.path.extend_from_slice(&name);
            self.path.push(b'/');
        }
        let mut level = Level {
            identity,
            name,
            inner: Vec::new(),
            holds_excluded: false,
            path_length: self.path.len(),
        };
        for name in names(directory.as_fd())? {
            if self.excluded == Excluded::Stay {
                self.path.truncate(level.path_length);
                self.path.extend_from_slice(&name.bytes);
                if self.tree.is_excluded(&self.path) {
                    level.holds_excluded = true;
                    continue;
                }
            }
            match unlinkat(&directory, &*name.bytes, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR) => level.inner.push(name.bytes),
                Err(fault) => return Err(fault),
            }
        }
        Ok(level)
    }

    fn leave(
        &mut self,
        top: BorrowedFd<'_>,
        outer: Option<&mut Level>,
        level: &Level,
    ) -> Result<(), Errno> {
        (self.ended)(level.identity);
        match outer {
            Some(outer) if level.holds_excluded => outer.holds_excluded = true,
            None if level.holds_excluded => {}
            Some(outer) => {
                let parent = self.tree.reopen(outer.identity, ObjectKind::Directory)?;
                unlinkat(&parent, &*level.name, AtFlags::REMOVEDIR)?;
            }
            None => unlinkat(top, &*level.name, AtFlags::REMOVEDIR)?,
        }
        Ok(())
    }
}

/// Whether a directory is left only for the excluded names below it, so that on the primary it does not exist.
pub(super) fn is_shell(tree: &Tree, directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    if !tree.has_excludes() {
        return Ok(false);
    }
    let mut path = tree.path_of(directory)?;
    path.extend_from_slice(name);
    path.push(b'/');
    let mut below = vec![(tree.identify_at(directory, name)?, path)];
    while let Some((identity, path)) = below.pop() {
        let directory = match tree.reopen(identity, ObjectKind::Directory) {
            Err(Errno::NOTDIR) => return Ok(false),
            result => result?,
        };
        let names = names(directory.as_fd())?;
        if names.is_empty() {
            return Ok(false);
        }
        for name in names {
            let mut path = [&*path, &*name.bytes].concat();
            if !tree.is_excluded(&path) {
                path.push(b'/');
                below.push((tree.identify_at(directory.as_fd(), &name.bytes)?, path));
            }
        }
    }
    Ok(true)
}
