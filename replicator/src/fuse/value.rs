//! The protocol's identifiers as types of their own, so that one is never taken for another.

use super::abi;

/// One request of a connection. Bit 63 marks a request that the kernel sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unique(pub u64);

impl Unique {
    /// The request may have been carried out, wholly or in part, by the process that held the connection before.
    #[must_use]
    pub fn is_resent(self) -> bool {
        self.0 & abi::UNIQUE_RESEND != 0
    }
}

/// An object as the kernel names it on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    pub const ROOT: NodeId = NodeId(abi::ROOT_ID);
}

/// What an open was answered with; the kernel only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// A backing file that was registered for passthrough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackingId(pub i32);

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    /// The parent directory's group, if it is one of the caller's supplementary groups (creating calls only).
    pub group: Option<u32>,
}
