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

/// The kernel's `new_encode_dev`: minor bits 0-7, major bits 8-19, minor bits 8-19 from bit 20.
pub fn decode_device(device: u32) -> (u32, u32) {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    (major, minor)
}

/// The inverse, for attributes.
pub fn encode_device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}
