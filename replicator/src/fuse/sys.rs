//! The device's ioctls (linux/fuse.h, "Device ioctls").

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::{Errno, Result};

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: RawFd,
    flags: u32,
    padding: u64,
}

const MAGIC: u64 = 229;
const BACKING_OPEN: u64 = write_command(1, size_of::<BackingMap>());
const BACKING_CLOSE: u64 = write_command(2, size_of::<i32>());

/// `_IOW(229, number, size)`.
const fn write_command(number: u64, size: usize) -> u64 {
    1 << 30 | (size as u64) << 16 | MAGIC << 8 | number
}

/// Registers `file`; the kernel keeps its own reference and the calling thread's credentials.
pub fn backing_open(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<i32> {
    let map = BackingMap {
        fd: file.as_raw_fd(),
        flags: 0,
        padding: 0,
    };
    // SAFETY: the command reads one BackingMap, which outlives the call; both descriptors are borrowed, hence open.
    let id = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) };
    if id < 0 { Err(last_error()) } else { Ok(id) }
}

pub fn backing_close(device: BorrowedFd<'_>, id: i32) -> Result<()> {
    // SAFETY: the command reads one 32-bit integer, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, &raw const id) };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
