//! The mount calls that rustix does not have, or not with the arguments needed here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Clones the mount that `path` ends on, from that directory down, without what is mounted inside. The clone is detached: it
/// lives as long as the descriptor.
pub fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// Makes a detached mount read-only, or writable.
pub fn set_read_only(mount: BorrowedFd<'_>, is_read_only: bool) -> io::Result<()> {
    let attributes = MountAttributes {
        set: if is_read_only { MOUNT_ATTR_RDONLY } else { 0 },
        clear: if is_read_only { 0 } else { MOUNT_ATTR_RDONLY },
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the path is an empty C string, the structure lives through the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Attaches a detached mount on top of whatever is mounted at `path`.
pub fn attach(mount: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", rustix::fs::CWD, path, flags)?)
}
