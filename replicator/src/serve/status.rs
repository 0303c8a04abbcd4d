//! What the served file system tells about itself.

use std::path::PathBuf;
use std::time::Duration;

/// Hears what the agent must know. Called from any thread, must not block.
pub trait Observer: Send + Sync {
    /// Works on with less, for a reason worth an operator's look.
    fn degraded(&self, reason: &str);

    /// The local store failed (EIO): this node must give up the primary role.
    fn fault(&self, reason: &str);
}

/// How writes become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Kernel tracepoints of ext4.
    TpBtf,
    /// Exits of kernel functions, any file system.
    Fexit,
    /// Every write goes through this process.
    Relay,
}

/// How one directory is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Passthrough,
    Relay,
}

#[derive(Clone, Debug)]
pub struct DirectoryStatus {
    pub path: PathBuf,
    pub mounted: bool,
    pub mode: Mode,
}

/// Time from the arrival of a commit point to its answer, over the last 1024 commits.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitLatency {
    pub last: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

/// Since the start of serving.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub commits: u64,
    /// Content bytes appended to the journal.
    pub bytes_shipped: u64,
    /// Write events that found the ring full; their files were shipped whole.
    pub capture_drops: u64,
    /// Syncs that went past this process (msync on a passthrough file, `RWF_DSYNC`, sync(2)).
    pub uncovered_syncs: u64,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub capture: Backend,
    /// Why it is `Relay` although capture was configured; else empty.
    pub capture_reason: String,
    pub directories: Vec<DirectoryStatus>,
    pub commit_latency: CommitLatency,
    pub counters: Counters,
}
