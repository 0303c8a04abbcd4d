//! The two system calls of file handles.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

/// `MAX_HANDLE_SZ`.
const LENGTH_MAX: usize = 128;

/// `struct file_handle` with room for the longest one.
#[repr(C)]
pub(super) struct RawHandle {
    length: u32,
    pub kind: i32,
    bytes: [u8; LENGTH_MAX],
}

impl RawHandle {
    /// The parts together are shorter than the longest handle.
    pub fn new(kind: i32, parts: [&[u8]; 3]) -> RawHandle {
        let mut bytes = [0; LENGTH_MAX];
        let mut length = 0;
        for byte in parts.into_iter().flatten() {
            bytes[length] = *byte;
            length += 1;
        }
        RawHandle {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            kind,
            bytes,
        }
    }

    pub fn filled(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(LENGTH_MAX);
        &self.bytes[..length.min(LENGTH_MAX)]
    }
}

/// The handle of `name` in `directory`, which is not followed, or with an empty name of the open object itself; and the number of
/// the mount on which it lies.
pub(super) fn handle_of(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(RawHandle, i32)> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let mut handle = RawHandle {
        length: u32::try_from(LENGTH_MAX).unwrap_or(u32::MAX),
        kind: 0,
        bytes: [0; LENGTH_MAX],
    };
    let mut mount: libc::c_int = 0;
    // SAFETY: the handle has the room that `length` promises; every pointer outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            directory.as_raw_fd(),
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            if name.is_empty() {
                libc::AT_EMPTY_PATH
            } else {
                0
            },
        )
    };
    if result == 0 {
        Ok((handle, mount))
    } else {
        Err(last_error())
    }
}

/// Opens what a handle names on the file system that `mount` lies on.
pub(super) fn open_handle(
    mount: BorrowedFd<'_>,
    handle: &RawHandle,
    flags: OFlags,
) -> Result<OwnedFd> {
    let flags = flags.bits() | OFlags::CLOEXEC.bits();
    // SAFETY: the handle is complete and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            std::ptr::from_ref(handle),
            flags,
        )
    };
    match RawFd::try_from(result) {
        // SAFETY: the kernel just made this descriptor; nobody else owns it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(last_error()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
