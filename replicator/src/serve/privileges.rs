//! Privileges that a file gives to whoever runs it: suid and sgid bits, and a capability.
//!
//! Files with privileges are relayed from their first open on, because a passthrough write does not say who writes; if one gets
//! them while it is open in passthrough, the backing file system takes them away at any write, and the journal is told when the
//! file is quiet.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::StatxFlags;
use rustix::io::Errno;

use super::descriptor::{magic_path, status_of};

/// Where file capabilities are kept.
pub const CAPABILITY: &[u8] = b"security.capability";

/// What is known of a node's privileges.
#[derive(Debug, Default)]
pub struct Privileges(AtomicU8);

impl Privileges {
    const KNOWN: u8 = 1;
    const BITS: u8 = 2;
    const CAPABILITY: u8 = 4;

    fn has(&self, flag: u8) -> bool {
        self.0.load(Ordering::Relaxed) & flag != 0
    }

    /// The mode was set.
    pub fn note_mode(&self, mode: u32) {
        if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            self.0.fetch_or(Self::BITS, Ordering::Relaxed);
        }
    }

    /// A capability was set or removed.
    pub fn note_capability(&self, is_there: bool) {
        if is_there {
            self.0.fetch_or(Self::CAPABILITY, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!Self::CAPABILITY, Ordering::Relaxed);
        }
    }

    /// There may be bits or a capability to lose.
    #[must_use]
    pub fn are_some(&self) -> bool {
        self.has(Self::BITS | Self::CAPABILITY)
    }

    #[must_use]
    pub fn has_capability(&self) -> bool {
        self.has(Self::CAPABILITY)
    }

    /// Looks once at the file itself.
    pub fn learn(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.has(Self::KNOWN) {
            self.note_mode(u32::from(status_of(file, StatxFlags::MODE)?.stx_mode));
            self.note_capability(has_capability(file)?);
            self.0.fetch_or(Self::KNOWN, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Works on path descriptors as well.
pub fn has_capability(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    match rustix::fs::getxattr(magic_path(file), CAPABILITY, &mut [0_u8; 0]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}
