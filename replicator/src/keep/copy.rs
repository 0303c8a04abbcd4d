//! A copy of one object: content with its holes, owner, mode, extended attributes, times.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FileType, Mode, OFlags, SeekFrom, ftruncate, ioctl_ficlone, mknodat, openat, readlinkat, seek,
    symlinkat,
};
use rustix::io::Errno;

use crate::apply::{Found, Tree, attributes_of, extended_of, set_exact};
use crate::record::Attributes;

/// Content copied between two looks at whether to stop.
const CHUNK_BYTES: usize = 1 << 20;

/// The object that is copied.
pub(super) struct Source<'a> {
    pub tree: &'a Tree,
    pub found: &'a Found,
}

/// Copies to `name` in `directory`; returns the bytes of content.
pub(super) fn copy(
    source: &Source<'_>,
    directory: BorrowedFd<'_>,
    name: &[u8],
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let (node, stat) = (source.found.node.as_fd(), &source.found.stat);
    let format = FileType::from_raw_mode(stat.st_mode);
    let private = Mode::RUSR | Mode::WUSR;
    let (copied, bytes): (OwnedFd, u64) = match format {
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copied = File::from(openat(directory, name, flags, private)?);
            let original = source.tree.reopen_for_reading(source.found.identity)?;
            let bytes = copy_content(&File::from(original), &copied, is_stopped)?;
            (copied.into(), bytes)
        }
        FileType::Symlink => {
            let target = readlinkat(node, c"", Vec::new())?;
            symlinkat(&target, directory, name)?;
            (refer(directory, name)?, 0)
        }
        format => {
            mknodat(directory, name, format, private, stat.st_rdev)?;
            (refer(directory, name)?, 0)
        }
    };
    dress(copied.as_fd(), &attributes_of(stat), &extended_of(node)?)?;
    Ok(bytes)
}

/// Gives a copy its attributes.
pub(super) fn dress(
    copied: BorrowedFd<'_>,
    attributes: &Attributes,
    extended: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), Errno> {
    match set_exact(copied, attributes, extended) {
        // The place's file system has no such attributes: what it can hold is kept.
        Err(Errno::OPNOTSUPP) => {
            tracing::warn!(
                "something is kept without its extended attributes, which the file system of the place does not have"
            );
            set_exact::<&[u8], &[u8]>(copied, attributes, &[])
        }
        result => result,
    }
}

fn refer(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Shares the blocks where the file system can, else copies what is no hole.
fn copy_content(from: &File, to: &File, is_stopped: &dyn Fn() -> bool) -> io::Result<u64> {
    let size = from.metadata()?.len();
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(size);
    }
    ftruncate(to, size)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at)? {
        at = start;
        while at < end {
            if is_stopped() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let wanted =
                usize::try_from(end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let count = from.read_at(&mut buffer[..wanted], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
    Ok(size)
}

fn next_data(file: &File, at: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}
