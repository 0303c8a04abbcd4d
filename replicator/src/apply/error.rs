//! Why an entry could not be applied. Every variant ends the session; the variant says what must happen before the next one.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// See the variants for what the link does.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The local directory is not what the log expects: the next session compares the trees.
    #[error(
        "{object} is not what the log expects ({attempt}: {cause}): the directories are compared again"
    )]
    Diverged {
        object: String,
        attempt: &'static str,
        cause: String,
    },
    /// No space, quota or inodes. The same entry can be applied once there is room.
    #[error("disk full on {node} at {}: free space, it reconnects by itself", path.display())]
    Full { node: String, path: PathBuf },
    /// The local store failed. After a failed flush this applier answers nothing else any more: what the kernel dropped is known
    /// only by comparing, so the next session needs a new applier and compares the trees.
    #[error("cannot {attempt} {object} on {node}: {cause}: check this node's disk and its log")]
    Failed {
        node: String,
        object: String,
        attempt: &'static str,
        cause: String,
    },
    /// The entry makes no sense whatever the tree looks like: the peer does not follow the protocol.
    #[error("the peer sent {what}: run the same release on both nodes")]
    Malformed { what: &'static str },
}

/// What was tried, on what. Made only when something went wrong.
pub(super) struct Attempt<'a> {
    pub node: &'a str,
    /// Path of the replicated directory.
    pub tree: &'a Path,
    pub object: String,
    pub action: &'static str,
}

impl Attempt<'_> {
    /// The class of an error follows from its number: the tree is not as expected, the disk is full, or the disk failed.
    pub fn failed(self, fault: Errno) -> ApplyError {
        let Attempt {
            node,
            tree,
            object,
            action: attempt,
        } = self;
        match fault {
            Errno::NOSPC | Errno::DQUOT => ApplyError::Full {
                node: node.to_owned(),
                path: tree.to_path_buf(),
            },
            Errno::NOENT
            | Errno::EXIST
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::NOTEMPTY
            | Errno::STALE
            | Errno::LOOP
            | Errno::MLINK => ApplyError::Diverged {
                object,
                attempt,
                cause: fault.to_string(),
            },
            _ => ApplyError::Failed {
                node: node.to_owned(),
                object,
                attempt,
                cause: if fault == Errno::XDEV {
                    "another file system is mounted there".to_owned()
                } else {
                    fault.to_string()
                },
            },
        }
    }
}
