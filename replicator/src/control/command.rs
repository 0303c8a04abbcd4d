//! Requests of the agent as values; keys that they do not name are refused.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::lineage::Generation;

/// One request after `hello`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    Configure(Box<Configuration>),
    Connect {
        #[serde(default)]
        discard: bool,
    },
    Disconnect {},
    Promote {
        #[serde(default)]
        force: bool,
        #[serde(default)]
        handover: bool,
    },
    Grant {},
    Outdate {
        by: Generation,
    },
    Demote {
        #[serde(default)]
        force: bool,
        timeout_ms: u64,
    },
    Status {},
    Resync {},
    Verify {
        #[serde(default)]
        repair: bool,
    },
    Stop {},
}

/// What `configure` tells: everything the process needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    pub cluster: String,
    pub module: String,
    pub node: String,
    pub peer: String,
    pub listen: Vec<SocketAddr>,
    pub dial: Vec<SocketAddr>,
    pub tls: Tls,
    pub state_directory: Text,
    pub directories: Vec<Directory>,
    pub sync: SyncMode,
    pub acknowledge: Acknowledge,
    /// Where the capture is pinned; none relays every write.
    pub capture: Option<Text>,
    pub peer_timeout_ms: u64,
    pub queue_bytes: u64,
    /// Bytes per second; 0 is unlimited.
    pub resync_bandwidth: u64,
    pub async_lag_bytes: u64,
}

/// Files of the node's credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub ca: Text,
    pub certificate: Text,
    pub key: Text,
}

/// One replicated directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub path: Text,
    #[serde(default)]
    pub exclude: Vec<String>,
    #[serde(default)]
    pub mapped: Vec<String>,
}

/// Which calls wait for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    Fsync,
    Always,
    Async,
}

/// What the peer must have done before a commit is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledge {
    Disk,
    Memory,
}
