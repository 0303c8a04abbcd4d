//! System calls on mounts that have no safe wrapper.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Makes a detached tree of mounts read-only, or its topmost mount writable (`mount_setattr(2)`, Linux 5.12).
pub fn set_read_only(tree: BorrowedFd<'_>, is_read_only: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: if is_read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: if is_read_only { 0 } else { libc::MOUNT_ATTR_RDONLY },
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if is_read_only { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant, the structure outlives the call and its true size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Moves the calling thread, which must have been made for this, into another mount namespace.
pub fn enter_mount_namespace(namespace: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: only CLONE_FS is unshared; the table of descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
