//! What a descriptor tells of its object, be it a path descriptor or an open file.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Statx, StatxFlags};
use rustix::io::Errno;

pub fn status_of(fd: BorrowedFd<'_>, mask: StatxFlags) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask)
}

/// A path to the very object of a descriptor, for calls that take no path descriptor.
pub fn magic_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}
