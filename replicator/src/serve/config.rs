//! What the served file system is told at its start.

use std::path::PathBuf;
use std::sync::Arc;

use crate::mount::Site;

/// When a change is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// fsync, fdatasync, directory fsync and `O_SYNC` writes are commit points; the rest is shipped in order, not waited for.
    Fsync,
    /// Every call that changes something is a commit point.
    Always,
    /// Nothing waits for the peer.
    Async,
}

/// One directory of the module.
pub struct Directory {
    pub site: Arc<Site>,
    /// Globs on paths relative to the directory: objects that work locally and are never journalled.
    pub exclude: Vec<String>,
    /// Globs on relative paths of files whose shared mappings must commit with `msync`: served without passthrough.
    pub mapped: Vec<String>,
}

/// What [`Served::start`](super::Served::start) takes.
pub struct Config {
    pub module: String,
    /// In configuration order: the index is the `tree` of every [`FileId`](crate::record::FileId).
    pub directories: Vec<Directory>,
    pub sync: SyncMode,
    /// Where the capture programs of the module are pinned in bpffs; `None` relays every write through this process.
    pub capture: Option<PathBuf>,
}
