//! What a file holds: bytes, zeroes, holes and its length.
//!
//! Every operation here can be done again with the same result.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FallocateFlags, fallocate, fstat, ftruncate};
use rustix::io::{Errno, pwrite};

use super::descriptor::Opened;
use super::extended::{self, CAPABILITY};

/// A change of content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Data {
        offset: u64,
        bytes: &'a [u8],
    },
    Zero {
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    Punch {
        offset: u64,
        length: u64,
    },
    Allocate {
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    Truncate {
        size: u64,
    },
}

/// Changes the content and nothing else: where the kernel drops file capabilities on the way they are put back.
pub(super) fn change(opened: &Opened, content: Content<'_>) -> Result<(), Errno> {
    let file = opened.descriptor.as_fd();
    if !opened.guards_capability {
        return perform(file, content);
    }
    let capability = extended::get(file, CAPABILITY)?;
    let result = perform(file, content);
    if let Some(capability) = capability {
        extended::set(file, CAPABILITY, &capability)?;
    }
    result
}

fn perform(file: BorrowedFd<'_>, content: Content<'_>) -> Result<(), Errno> {
    match content {
        Content::Data { offset, bytes } => write(file, offset, bytes),
        Content::Zero {
            offset,
            length,
            keep_size,
        } => {
            let flags = FallocateFlags::ZERO_RANGE | keep(keep_size);
            match reserve(file, flags, offset, length) {
                Err(Errno::OPNOTSUPP) if keep_size => write_zeroes_inside(file, offset, length),
                Err(Errno::OPNOTSUPP) => write_zeroes(file, offset, length),
                result => result,
            }
        }
        Content::Punch { offset, length } => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match reserve(file, flags, offset, length) {
                Err(Errno::OPNOTSUPP) => write_zeroes_inside(file, offset, length),
                result => result,
            }
        }
        Content::Allocate {
            offset,
            length,
            keep_size,
        } => match reserve(file, keep(keep_size), offset, length) {
            Err(Errno::OPNOTSUPP) if keep_size => Ok(()),
            Err(Errno::OPNOTSUPP) if offset + length > size(file)? => {
                ftruncate(file, offset + length)
            }
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result,
        },
        Content::Truncate { size } => ftruncate(file, size),
    }
}

fn keep(keep_size: bool) -> FallocateFlags {
    if keep_size {
        FallocateFlags::KEEP_SIZE
    } else {
        FallocateFlags::empty()
    }
}

/// `fallocate`, for which an empty range is an error that the primary's application has seen already.
fn reserve(
    file: BorrowedFd<'_>,
    flags: FallocateFlags,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    if length == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, flags, offset, length) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn write(file: BorrowedFd<'_>, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// For a file system that cannot zero a range by itself.
fn write_zeroes(file: BorrowedFd<'_>, mut offset: u64, length: u64) -> Result<(), Errno> {
    static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
    let end = offset + length;
    while offset < end {
        let chunk = usize::try_from(end - offset).unwrap_or(ZEROES.len());
        let chunk = chunk.min(ZEROES.len());
        write(file, offset, &ZEROES[..chunk])?;
        offset += chunk as u64;
    }
    Ok(())
}

fn write_zeroes_inside(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<(), Errno> {
    let end = size(file)?.min(offset + length);
    write_zeroes(file, offset, end.saturating_sub(offset))
}

fn size(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}
