//! What the kernel asks for, as values.

use super::body::{Body, Malformed};
use super::value::{HandleId, NodeId, Unique};

/// A time that SETATTR sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

/// Attributes to set; `None` leaves one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Instant>,
    pub modified: Option<Instant>,
    /// The caller may not keep suid and sgid through this change of size.
    pub kill_privileges: bool,
}

/// Mode and mask of an object to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// With `S_IFMT` bits where the call has them.
    pub mode: u32,
    pub umask: u32,
}

/// One request without its header.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    Lookup {
        name: &'a [u8],
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgets<'a>),
    GetAttributes,
    Statx,
    SetAttributes(SetAttributes),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    /// `device` as `makedev` of the kernel's 32-bit encoding: (major, minor).
    MakeNode {
        name: &'a [u8],
        ownership: Ownership,
        device: (u32, u32),
    },
    MakeDirectory {
        name: &'a [u8],
        ownership: Ownership,
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDirectory {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: NodeId,
        new_name: &'a [u8],
        flags: u32,
    },
    /// The header's node is the directory.
    Link {
        target: NodeId,
        name: &'a [u8],
    },
    Open {
        flags: u32,
        kill_privileges: bool,
    },
    Create {
        name: &'a [u8],
        flags: u32,
        ownership: Ownership,
    },
    /// `O_TMPFILE`; the header's node is the directory.
    CreateUnnamed {
        flags: u32,
        ownership: Ownership,
    },
    Read {
        handle: HandleId,
        offset: u64,
        size: u32,
    },
    /// `flags` are those of the open file. `is_cached`: a page of a shared mapping, written back.
    Write {
        handle: HandleId,
        offset: u64,
        content: &'a [u8],
        flags: u32,
        is_cached: bool,
        kill_privileges: bool,
    },
    Release {
        handle: HandleId,
        flags: u32,
    },
    Synchronize {
        handle: HandleId,
        data_only: bool,
    },
    OpenDirectory,
    /// `plus`: every entry with its lookup.
    ReadDirectory {
        handle: HandleId,
        offset: u64,
        size: u32,
        plus: bool,
    },
    ReleaseDirectory {
        handle: HandleId,
    },
    SynchronizeDirectory {
        handle: HandleId,
        data_only: bool,
    },
    Capacity,
    SetExtended {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        kill_sgid: bool,
    },
    /// `size` 0 asks for the size.
    GetExtended {
        name: &'a [u8],
        size: u32,
    },
    ListExtended {
        size: u32,
    },
    RemoveExtended {
        name: &'a [u8],
    },
    Allocate {
        handle: HandleId,
        offset: u64,
        length: u64,
        mode: u32,
    },
    Seek {
        handle: HandleId,
        offset: u64,
        whence: u32,
    },
    CopyRange {
        offset: u64,
        target: NodeId,
        target_offset: u64,
        length: u64,
    },
    Control {
        command: u32,
        input: &'a [u8],
        output_size: u32,
        is_unrestricted: bool,
    },
    Interrupt {
        unique: Unique,
    },
    Initialize {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u64,
    },
    Destroy,
    /// Known to nobody here: answered ENOSYS, which the kernel remembers or falls back from.
    Unknown,
}

/// Pairs of node and count, validated when the request was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(&'a [u8]);

impl<'a> Forgets<'a> {
    const PAIR: usize = 16;

    pub(super) fn parse(mut body: Body<'a>) -> Result<Self, Malformed> {
        let count = body.u32()? as usize;
        body.skip(4)?;
        let length = count
            .checked_mul(Self::PAIR)
            .ok_or(Malformed("too many nodes to forget"))?;
        body.bytes(length).map(Forgets)
    }
}

impl Iterator for Forgets<'_> {
    type Item = (NodeId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let mut body = Body::new(self.0);
        let pair = (NodeId(body.u64().ok()?), body.u64().ok()?);
        self.0 = body.rest();
        Some(pair)
    }
}
