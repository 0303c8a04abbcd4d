//! Why an entry could not be applied. Every variant ends the session; the variant says what must happen before the next one.

use std::path::PathBuf;

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
    Malformed { what: String },
}
