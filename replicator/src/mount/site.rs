//! One replicated directory, held open below whatever is mounted over it.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A process that keeps a mount in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// `comm` of the process.
    pub name: String,
    /// What it holds: an open file, its working directory, a mapping.
    pub holds: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} (pid {}, {})",
            self.name, self.pid, self.holds
        )
    }
}

/// Why a mount could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{} is not a directory that can be served: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{} is covered by a foreign mount ({kind} from {origin}): unmount it first", path.display())]
    Foreign {
        path: PathBuf,
        kind: String,
        origin: String,
    },
    #[error("{} is in use by {}: stop them, or give it up by force", path.display(), list(holders))]
    Busy { path: PathBuf, holders: Vec<Holder> },
    #[error("cannot {attempt} {}: {source}", path.display())]
    Failed {
        path: PathBuf,
        attempt: &'static str,
        source: io::Error,
    },
}

fn list(holders: &[Holder]) -> String {
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "an unknown process".to_owned()
    } else {
        names.join(", ")
    }
}

/// One directory of a module: its path, and a descriptor of what lies below every mount of ours.
#[derive(Debug)]
pub struct Site {
    path: PathBuf,
}

impl Site {
    /// Opens the directory. What a crashed replicator of `module` left over it is removed first (its dead mount, with the
    /// processes that still hold it killed); its fence is kept. A mount of another module is refused.
    pub fn open(_module: &str, _path: &Path) -> Result<Site, MountError> {
        todo!()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The backing directory, writable, whatever covers it.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Makes the directory read-only for everyone who goes through its path. No-op when it is so already.
    pub fn fence(&self) -> Result<(), MountError> {
        todo!()
    }

    /// Removes the fence (the module leaves this node).
    pub fn lift_fence(&self) -> Result<(), MountError> {
        todo!()
    }

    #[must_use]
    pub fn is_fenced(&self) -> bool {
        todo!()
    }
}
