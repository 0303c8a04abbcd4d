//! Keys, values and events of ebpf/capture.h as values.

use std::os::unix::fs::MetadataExt;

use crate::record::FileId;

/// `struct capture_inode`: an inode of one file system, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watched {
    pub inode: u64,
    /// The kernel's `s_dev`: `major << 20 | minor`.
    pub device: u32,
    pub generation: u32,
}

impl Watched {
    /// `device` as `stat` gives it.
    #[must_use]
    pub fn new(device: u64, inode: u64, generation: u32) -> Watched {
        Watched {
            inode,
            device: (rustix::fs::major(device) << 20) | rustix::fs::minor(device),
            generation,
        }
    }

    /// The file system itself: watched, its syncs past this process make events with inode 0.
    #[must_use]
    pub fn file_system(directory: &std::fs::Metadata) -> Watched {
        Watched::new(directory.dev(), 0, 0)
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.inode.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.device.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.generation.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Watched> {
        Some(Watched {
            inode: word(bytes, 0)?,
            device: half(bytes, 8)?,
            generation: half(bytes, 12)?,
        })
    }
}

/// `struct capture_watch`.
pub(super) struct Watch {
    pub tree: u16,
    pub lost_events: u64,
    pub lost_end: u64,
}

impl Watch {
    pub fn new(tree: u16) -> Watch {
        Watch {
            tree,
            lost_events: 0,
            lost_end: 0,
        }
    }

    pub fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&u32::from(self.tree).to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.lost_events.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.lost_end.to_ne_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Watch> {
        Some(Watch {
            tree: u16::try_from(half(bytes, 0)?).ok()?,
            lost_events: word(bytes, 8)?,
            lost_end: word(bytes, 16)?,
        })
    }
}

/// An inode that lost events: everything from 0 to the greater of its size and `end` may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub inode: Watched,
    pub tree: u16,
    pub end: u64,
}

/// `enum capture_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Write,
    /// The first store into a clean page of a shared mapping; a second one makes no event.
    Mapped,
    Punch,
    Zero,
    Allocate,
    /// The new size is the offset.
    Truncate,
    /// A page was mapped into a process by a shared writable mapping: if it is dirty, stores to it make no event.
    Faulted,
    /// A sync that went past this process; inode 0 means the whole file system.
    Sync,
}

/// `struct capture_event`: one change. The range may reach beyond the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub file: FileId,
    pub device: u32,
    pub offset: u64,
    pub length: u64,
    pub kind: Kind,
}

impl Event {
    /// Bytes of one element.
    pub const SIZE: usize = 40;

    /// `None` for a kind or tree that this release does not know.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Event> {
        Some(Event {
            file: FileId {
                tree: u16::try_from(half(bytes, 32)?).ok()?,
                inode: word(bytes, 0)?,
                generation: half(bytes, 24)?,
            },
            device: half(bytes, 28)?,
            offset: word(bytes, 8)?,
            length: word(bytes, 16)?,
            kind: match half(bytes, 36)? {
                1 => Kind::Write,
                2 => Kind::Mapped,
                3 => Kind::Punch,
                4 => Kind::Zero,
                5 => Kind::Allocate,
                6 => Kind::Truncate,
                7 => Kind::Sync,
                8 => Kind::Faulted,
                _ => return None,
            },
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
