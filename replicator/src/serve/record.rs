//! Backing objects as values of the journal.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use rustix::fs::{Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::descriptor::{magic_path, status_of};
use crate::record::{Attributes, Extended, Kind, Time};

pub fn time_of(stamp: &StatxTimestamp) -> Time {
    Time {
        seconds: stamp.tv_sec,
        nanoseconds: stamp.tv_nsec,
    }
}

pub fn attributes_of(status: &Statx) -> Attributes {
    Attributes {
        mode: u32::from(status.stx_mode) & 0o7777,
        uid: status.stx_uid,
        gid: status.stx_gid,
        accessed: time_of(&status.stx_atime),
        modified: time_of(&status.stx_mtime),
    }
}

/// The modification time of a directory, after a change of its names.
pub fn modified_of(directory: BorrowedFd<'_>) -> Result<Time, Errno> {
    status_of(directory, StatxFlags::MTIME).map(|status| time_of(&status.stx_mtime))
}

pub fn kind_of(fd: BorrowedFd<'_>, status: &Statx) -> Result<Kind<'static>, Errno> {
    let format = u32::from(status.stx_mode) & libc::S_IFMT;
    Ok(match format {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink(Cow::Owned(
            rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes(),
        )),
        _ => {
            let device = rustix::fs::makedev(status.stx_rdev_major, status.stx_rdev_minor);
            Kind::Special { format, device }
        }
    })
}

/// All extended attributes, ACLs among them. A file system without any has none.
pub fn extended_of(fd: BorrowedFd<'_>) -> Result<Extended<'static>, Errno> {
    let path = magic_path(fd);
    let names = match list(&path) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut extended = Vec::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        match value(&path, name) {
            Ok(value) => extended.push((Cow::Owned(name.to_vec()), Cow::Owned(value))),
            // Removed meanwhile, or not readable as a value.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(extended)
}

fn list(path: &std::ffi::CStr) -> Result<Vec<u8>, Errno> {
    // Most objects have none: one call tells.
    let mut small = [0_u8; 256];
    match rustix::fs::listxattr(path, &mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 64 << 10];
            let length = rustix::fs::listxattr(path, &mut large[..])?;
            large.truncate(length);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

fn value(path: &std::ffi::CStr, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}
