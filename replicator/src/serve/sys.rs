//! System calls of the served file system that have no safe wrapper.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, UnshareFlags};

/// Gives the calling thread a umask of its own, no supplementary groups, and lets it keep its capabilities when it changes
/// its file system identity: the kernel has already judged the caller.
pub fn prepare_worker() -> Result<()> {
    // SAFETY: only CLONE_FS is unshared; the table of descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)
}

/// Sets the calling thread's file system user and group (not those of the whole process, as libc would).
pub fn set_identity(uid: u32, gid: u32) {
    // SAFETY: both calls take plain numbers and touch the calling thread's credentials only. They report the former value, never
    // an error; a process with `CAP_SETUID` and `CAP_SETGID` is not refused.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

/// Runs `call` without `CAP_FSETID`, so that what the kernel remembers of this thread's credentials may not keep suid bits.
pub fn without_fsetid<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = rustix::thread::capabilities(None)?;
    let mut reduced = before;
    reduced.effective.remove(CapabilitySet::FSETID);
    rustix::thread::set_capabilities(None, reduced)?;
    let result = call();
    rustix::thread::set_capabilities(None, before)?;
    result
}

/// Writes the range out and waits, so that its pages are clean and write-protected.
pub fn write_out(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let length = clamp(length).min(i64::MAX - clamp(offset));
    // SAFETY: plain numbers and a borrowed, hence open, descriptor.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), clamp(offset), length, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// An ioctl that reads or writes at most `bytes`.
///
/// The caller passes only commands whose argument is known to be a structure of at most this length.
pub fn control(file: BorrowedFd<'_>, command: u32, bytes: &mut [u8; CONTROL_LENGTH]) -> Result<()> {
    // SAFETY: the buffer outlives the call and is as long as the longest argument of the commands passed.
    let result = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::Ioctl::from(command),
            bytes.as_mut_ptr(),
        )
    };
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// Room for `struct fsxattr` (28 bytes), the longest argument in use.
pub const CONTROL_LENGTH: usize = 64;

/// `fchmodat` for a path that may be a magic link below `/proc/self/fd`.
pub fn change_mode(path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the path is terminated and outlives the call.
    let result = unsafe { libc::chmod(path.as_ptr(), mode) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
