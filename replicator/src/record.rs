//! The values of the module's ordered log: what a primary did to its directories, in the order in which it did it.
//!
//! Invariant: namespace and attribute records are exact and complete; applying them in log order to an equal tree gives an
//! equal tree. `Data` carries the content as it was read when it was shipped, which may be newer than the write that caused
//! it, never older. Every object is named by its identity on the primary, so a rename changes nothing for data in flight.
//! How these values look on the wire is WIRE.md's business.

use std::borrow::Cow;

/// Position in the log, counted in records from 1. 0 means "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// One object of a replicated directory, as the primary's file system identifies it.
///
/// Inode numbers are reused, so the generation belongs to the identity (KERNEL.md 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Index of the directory in the module's configuration.
    pub tree: u16,
    pub inode: u64,
    pub generation: u32,
}

/// Nanosecond time as `utimensat` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// Extended attributes: name and value.
pub type Extended<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

/// What a new object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    File,
    Directory,
    /// Target bytes.
    Symlink(Cow<'a, [u8]>),
    /// FIFO, socket or device: the `S_IFMT` bits, and the device number for devices.
    Special {
        format: u32,
        device: u64,
    },
}

/// Owner, permission bits and times as they stand on the primary after the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with suid, sgid and sticky; no `S_IFMT`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub accessed: Time,
    pub modified: Time,
}

/// Attributes that an operation set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub accessed: Option<Time>,
    pub modified: Option<Time>,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub parent: FileId,
    pub name: Cow<'a, [u8]>,
    /// The directory's modification time after the operation.
    pub parent_modified: Time,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A new object appeared at `place`. `extended` are the extended attributes (ACLs too) that it was born with.
    Create {
        place: Place<'a>,
        file: FileId,
        kind: Kind<'a>,
        attributes: Attributes,
        extended: Extended<'a>,
    },
    /// A file without a name (`O_TMPFILE`).
    CreateUnnamed {
        file: FileId,
        attributes: Attributes,
    },
    Link {
        place: Place<'a>,
        file: FileId,
    },
    Unlink {
        place: Place<'a>,
    },
    RemoveDirectory {
        place: Place<'a>,
    },
    /// `flags` are those of `renameat2`. `file` is the object that was at `from`; `exchanged` the one that was at `to`, with
    /// `RENAME_EXCHANGE` only. A peer that is being brought up knows some objects by identity before it knows their names.
    Rename {
        from: Place<'a>,
        to: Place<'a>,
        flags: u32,
        file: FileId,
        exchanged: Option<FileId>,
    },
    Data {
        file: FileId,
        offset: u64,
        content: Cow<'a, [u8]>,
    },
    /// The range reads as zeroes and stays allocated. `keep_size` as in `fallocate`.
    Zero {
        file: FileId,
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    Punch {
        file: FileId,
        offset: u64,
        length: u64,
    },
    Allocate {
        file: FileId,
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    Truncate {
        file: FileId,
        size: u64,
    },
    SetAttributes {
        file: FileId,
        change: Change,
    },
    SetExtended {
        file: FileId,
        name: Cow<'a, [u8]>,
        value: Cow<'a, [u8]>,
    },
    RemoveExtended {
        file: FileId,
        name: Cow<'a, [u8]>,
    },
    /// Commit point of one object: everything before this record that concerns it goes to stable storage.
    /// `data_only` as in `fdatasync`; `modified` travels with a full fsync.
    Sync {
        file: FileId,
        data_only: bool,
        modified: Option<Time>,
    },
    /// The object has no name left and the last open of it ended: no later record names it. Sent for every object that lost its
    /// last name, so that the peer can drop an unnamed file that was never linked.
    Forget {
        file: FileId,
    },
}
