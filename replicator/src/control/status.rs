//! What `status` answers.

use serde::Serialize;

use super::text::Text;
use crate::lineage::{Lineage, Role};
use crate::survey::Aspect;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub role: Role,
    pub link: Link,
    /// One sentence, or empty.
    pub link_reason: String,
    pub commits: Commits,
    /// Time for which commits have waited now, in milliseconds.
    pub frozen_since_ms: u64,
    pub lineage: Lineage,
    pub peer_lineage: Option<Lineage>,
    pub capture: Capture,
    pub capture_reason: String,
    pub directories: Vec<DirectoryStatus>,
    pub lag: Lag,
    pub commit_latency_us: Latency,
    pub resync: Progress,
    /// What was kept last, before a discard overwrote it.
    pub kept: Option<Kept>,
    /// The verification that runs, or the last one.
    pub verification: Option<Verification>,
    pub counters: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    Down,
    Connecting,
    Resync,
    Live,
}

/// On whose word commits are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Commits {
    Peer,
    Waiting,
    Alone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    TpBtf,
    Fexit,
    Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Passthrough,
    Relay,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectoryStatus {
    pub path: Text,
    pub mounted: bool,
    pub fenced: bool,
    pub mode: Mode,
}

/// What the peer has not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub records: u64,
    pub bytes: u64,
}

/// Time from the arrival of a commit point to its answer, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    pub last: u64,
    pub p50: u64,
    pub p99: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub rate_bytes_per_s: u64,
    pub remaining_s: Option<u64>,
}

/// What differed when this node's side was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub directory: Text,
    pub files: u64,
    pub bytes: u64,
}

/// What `verify` found, or has compared so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub running: bool,
    pub files: u64,
    pub bytes: u64,
    /// Objects that stayed different.
    pub differing: u64,
    /// Objects that were written to at every look.
    pub changing: u64,
    /// The first of those that differ.
    pub paths: Vec<DifferingPath>,
    /// The trees are compared and made equal now.
    pub repairs: bool,
    /// Why it did not come to its end, or empty.
    pub fault: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferingPath {
    pub path: Text,
    pub aspect: Aspect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub commits: u64,
    pub bytes_shipped: u64,
    pub bytes_applied: u64,
    pub capture_drops: u64,
    pub uncovered_syncs: u64,
}
