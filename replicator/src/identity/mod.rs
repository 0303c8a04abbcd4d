//! What names an object of a backing file system for good: inode number and generation, and the file handle made of them.
//!
//! The kernel's file handles are opaque by contract, but each file system's layout is stable, because NFS clients keep them. With
//! the layout known, two numbers are enough to open any object again: no table of descriptors, no path. Both ends of the link use
//! this one form, so what a secondary has bound is what it will serve under when it becomes primary.

mod sys;

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use sys::RawHandle;

/// An object of one backing file system. Inode numbers are used again; with the generation they never name two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub inode: u64,
    pub generation: u32,
}

/// How a file system writes its handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// ext2/3/4, f2fs, xfs with small inode numbers: inode u32, generation u32 (`FILEID_INO32_GEN`).
    Short,
    /// xfs: inode u64, generation u32 (`XFS_FILEID_INO64_GEN`).
    Long,
    /// tmpfs: generation u32, inode low u32, inode high u32.
    Memory,
    /// btrfs: object u64, subvolume u64, generation u32 (`FILEID_BTRFS_WITHOUT_PARENT`). One subvolume: another is another device.
    Btrfs { subvolume: u64 },
}

/// Handles of the file system that a directory lies on.
#[derive(Clone, Copy, Debug)]
pub struct Codec(Layout);

impl Codec {
    /// Learns the layout from the directory itself. EOPNOTSUPP when it is none of those known.
    pub fn of(directory: BorrowedFd<'_>) -> Result<Codec, Errno> {
        let (handle, _) = sys::handle_of(directory, b"")?;
        let layout = match (handle.kind, handle.filled()) {
            (0x01, bytes) if bytes.len() == 8 => Layout::Short,
            (0x01, bytes) if bytes.len() == 12 => Layout::Memory,
            (0x81, bytes) if bytes.len() == 12 => Layout::Long,
            (0x4d, bytes) if bytes.len() == 20 => Layout::Btrfs {
                subvolume: long(bytes, 8).ok_or(Errno::OPNOTSUPP)?,
            },
            _ => return Err(Errno::OPNOTSUPP),
        };
        let codec = Codec(layout);
        // The layout is believed only if it opens what it was read from.
        let identity = codec.read(&handle).ok_or(Errno::OPNOTSUPP)?;
        codec.open(directory, identity, OFlags::PATH)?;
        Ok(codec)
    }

    pub fn identify(self, object: BorrowedFd<'_>) -> Result<Identity, Errno> {
        self.identify_at(object, b"").map(|(identity, _)| identity)
    }

    /// The object that `name` in `directory` leads to (a symbolic link itself), and the number of the mount on which it lies.
    pub fn identify_at(
        self,
        directory: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(Identity, i32), Errno> {
        let (handle, mount) = sys::handle_of(directory, name)?;
        Ok((self.read(&handle).ok_or(Errno::OPNOTSUPP)?, mount))
    }

    /// ESTALE when the object is gone.
    pub fn open(
        self,
        mount: BorrowedFd<'_>,
        identity: Identity,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        sys::open_handle(mount, &self.write(identity)?, flags)
    }

    fn read(self, handle: &RawHandle) -> Option<Identity> {
        let bytes = handle.filled();
        let (inode, generation) = match self.0 {
            Layout::Short => (u64::from(short(bytes, 0)?), short(bytes, 4)?),
            Layout::Long => (long(bytes, 0)?, short(bytes, 8)?),
            Layout::Memory => {
                let (low, high) = (short(bytes, 4)?, short(bytes, 8)?);
                (u64::from(high) << 32 | u64::from(low), short(bytes, 0)?)
            }
            Layout::Btrfs { .. } => (long(bytes, 0)?, short(bytes, 16)?),
        };
        Some(Identity { inode, generation })
    }

    fn write(self, identity: Identity) -> Result<RawHandle, Errno> {
        let Identity { inode, generation } = identity;
        let generation = generation.to_ne_bytes();
        let (kind, parts): (i32, [&[u8]; 3]) = match self.0 {
            Layout::Short => {
                let inode = u32::try_from(inode).map_err(|_| Errno::STALE)?;
                (0x01, [&inode.to_ne_bytes(), &generation, &[]])
            }
            Layout::Long => (0x81, [&inode.to_ne_bytes(), &generation, &[]]),
            Layout::Memory => {
                let [low, high] = halves(inode);
                (0x01, [&generation, &low.to_ne_bytes(), &high.to_ne_bytes()])
            }
            Layout::Btrfs { subvolume } => (
                0x4d,
                [&inode.to_ne_bytes(), &subvolume.to_ne_bytes(), &generation],
            ),
        };
        Ok(RawHandle::new(kind, parts))
    }
}

fn short(bytes: &[u8], start: usize) -> Option<u32> {
    let chunk = bytes.get(start..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*chunk))
}

fn long(bytes: &[u8], start: usize) -> Option<u64> {
    let chunk = bytes.get(start..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*chunk))
}

/// Low half, high half.
#[expect(clippy::cast_possible_truncation, reason = "each half is what fits")]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn round_trip(directory: &std::path::Path) {
        let root = std::fs::File::open(directory).unwrap();
        let codec = Codec::of(root.as_fd()).unwrap();
        let path = directory.join("file");
        let file = std::fs::File::create(&path).unwrap();
        let identity = codec.identify(file.as_fd()).unwrap();
        assert_eq!(identity.inode, file.metadata().unwrap().ino());
        assert_eq!(
            codec.identify_at(root.as_fd(), b"file").unwrap().0,
            identity
        );
        codec.open(root.as_fd(), identity, OFlags::RDWR).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(file);
        assert_eq!(
            codec
                .open(root.as_fd(), identity, OFlags::PATH)
                .unwrap_err(),
            Errno::STALE
        );
    }

    #[test]
    fn two_numbers_open_an_object_again() {
        round_trip(tempfile::tempdir_in("/var/tmp").unwrap().path());
        if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
            round_trip(memory.path());
        }
    }
}
