//! One replicated directory, held open below whatever is mounted over it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::error::MountError;
use super::table::{self, Mount};
use super::{holder, sys};

/// One directory of a module: its path, and descriptors of what lies below every mount of ours.
#[derive(Debug)]
pub struct Site {
    path: PathBuf,
    module: String,
    /// A private copy of the mount; nested mounts are copied too, so that crossing one is noticed.
    tree: OwnedFd,
    root: OwnedFd,
}

impl Site {
    /// File system type of a served directory in the mount table.
    pub const KIND: &'static str = "fuse.telamon";

    /// Opens the directory. What a crashed replicator of `module` left over it is removed first (its dead mount, with the
    /// processes that still hold it killed); its fence is kept. A mount of another module is refused.
    pub fn open(module: &str, path: &Path) -> Result<Site, MountError> {
        let path = resolve(path).map_err(|source| MountError::Unusable { path: path.to_owned(), source })?;
        remove_dead_cover(module, &path)?;
        let unusable = |error: Errno| MountError::Unusable { path: path.clone(), source: error.into() };
        let tree = clone_tree(&path).map_err(unusable)?;
        if is_fenced(&path)? {
            sys::set_read_only(tree.as_fd(), false).map_err(unusable)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&tree, ".", flags, Mode::empty()).map_err(unusable)?;
        Ok(Site { path, module: module.to_owned(), tree, root })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The backing directory, writable, whatever covers it.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The source of the module's mounts in the mount table.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(&self.module)
    }

    /// Makes the directory read-only for everyone who goes through its path. No-op when it is so already.
    pub fn fence(&self) -> Result<(), MountError> {
        if self.is_fenced() {
            return Ok(());
        }
        let failed = |error: Errno| self.failed("fence", error);
        let tree = rustix::mount::open_tree(
            &self.tree,
            "",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .map_err(failed)?;
        sys::set_read_only(tree.as_fd(), true).map_err(failed)?;
        rustix::mount::move_mount(&tree, "", CWD, &self.path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
    }

    /// Removes the fence (the module leaves this node). No-op when there is none.
    pub fn lift_fence(&self) -> Result<(), MountError> {
        if !self.is_fenced() {
            return Ok(());
        }
        rustix::mount::unmount(&self.path, UnmountFlags::DETACH).map_err(|error| self.failed("lift the fence of", error))
    }

    /// Whether the fence is what a process finds at the path now.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        is_fenced(&self.path).unwrap_or(false)
    }

    pub(super) fn failed(&self, attempt: &'static str, error: Errno) -> MountError {
        MountError::Failed { path: self.path.clone(), attempt, source: error.into() }
    }
}

fn origin(module: &str) -> String {
    format!("telamon:{module}")
}

/// The path without symbolic links. Its last component may be a dead mount, of which nothing can be asked.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        return path.canonicalize();
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().map(OsString::from)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it must be an absolute path below /"));
    };
    if !path.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it must be an absolute path"));
    }
    Ok(parent.canonicalize()?.join(name))
}

fn clone_tree(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

fn read_table(path: &Path) -> Result<Vec<Mount>, MountError> {
    table::own().map_err(|source| MountError::Failed {
        path: path.to_owned(),
        attempt: "read the mount table for",
        source,
    })
}

fn is_fenced(path: &Path) -> Result<bool, MountError> {
    let mounts = read_table(path)?;
    let top = table::stack(&mounts, path).last().copied();
    Ok(top.is_some_and(|top| top.is_read_only && table::is_onto_itself(top, &mounts)))
}

/// Removes mounts of this module whose process is gone.
fn remove_dead_cover(module: &str, path: &Path) -> Result<(), MountError> {
    const KILL_TIMEOUT: Duration = Duration::from_secs(10);
    loop {
        let mounts = read_table(path)?;
        let Some(top) = table::stack(&mounts, path).last().copied() else { return Ok(()) };
        if top.kind != Site::KIND {
            return Ok(());
        }
        if top.origin != origin(module) {
            let (kind, origin) = (top.kind.clone(), top.origin.clone());
            return Err(MountError::Foreign { path: path.to_owned(), kind, origin });
        }
        // Always asked of the process that serves; a mount that has none answers ENOTCONN.
        if !matches!(rustix::fs::statfs(path), Err(Errno::NOTCONN | Errno::CONNABORTED)) {
            return Err(MountError::Served { path: path.to_owned() });
        }
        // What they still have open in passthrough they could go on changing unseen.
        let holders = holder::find(top.device);
        if !holder::kill(&holders, Instant::now() + KILL_TIMEOUT) {
            return Err(MountError::Busy { path: path.to_owned(), holders });
        }
        tracing::warn!(path = %path.display(), "removing the mount of a replicator that crashed");
        rustix::mount::unmount(path, UnmountFlags::DETACH).map_err(|error| MountError::Failed {
            path: path.to_owned(),
            attempt: "remove the dead mount over",
            source: error.into(),
        })?;
    }
}
