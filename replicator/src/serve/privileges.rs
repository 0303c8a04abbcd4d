//! Privileges that a file gives to whoever runs it, and that a change of its content by somebody else takes away.
//!
//! Suid and sgid bits go when the kernel says that the caller may not keep them (`FUSE_HANDLE_KILLPRIV_V2`); a capability goes
//! with every change, which the backing file system does by itself. The journal is told of both. Files with privileges are
//! relayed from their first open on, because a passthrough write says neither; if one gets them while it is open in passthrough,
//! the backing file system takes them away at any write, and the journal is told when the file is quiet.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::StatxFlags;
use rustix::io::Errno;

use super::lock::lock;
use super::node::Node;
use super::store::{magic_path, status_of};
use super::sys;
use super::tree::Tree;
use crate::fuse::Caller;
use crate::record::{Change, Record};

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

impl Tree {
    /// After a change of content by this caller. `kills`: he may not keep suid and sgid. Called without the node's `order`.
    pub fn drop_privileges(
        &self,
        node: &Arc<Node>,
        caller: &Caller,
        kills: bool,
    ) -> Result<(), Errno> {
        if !node.privileges.are_some() {
            return Ok(());
        }
        let _names = lock(&self.module.namespace);
        if node.privileges.has_capability() {
            self.module.append_lost_capability(self.store(), node);
        }
        if kills {
            self.kill_bits(node, caller)
        } else {
            Ok(())
        }
    }

    /// As `setattr_should_drop_suidgid` of the kernel's fs/attr.c decides.
    fn kill_bits(&self, node: &Node, caller: &Caller) -> Result<(), Errno> {
        let reach = self.store().reach(node)?;
        let status = status_of(reach.as_fd(), StatxFlags::MODE | StatxFlags::GID)?;
        let mode = u32::from(status.stx_mode) & 0o7777;
        let mut kept = mode & !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 || !is_member(caller, status.stx_gid) {
            kept &= !libc::S_ISGID;
        }
        if kept == mode {
            return Ok(());
        }
        sys::change_mode(&magic_path(reach.as_fd()), kept)?;
        if node.is_journalled() {
            let file = self.store().file_id(node.identity);
            let change = Change {
                mode: Some(kept),
                ..Change::default()
            };
            self.module
                .journal
                .append(&Record::SetAttributes { file, change });
        }
        if let Err(error) = self
            .device
            .forget_attributes(self.store().node_id(node.identity))
        {
            tracing::warn!(%error, "the kernel keeps attributes that changed");
        }
        Ok(())
    }
}

/// Whether the caller belongs to the group. One who cannot be asked does not.
fn is_member(caller: &Caller, group: u32) -> bool {
    if caller.gid == group {
        return true;
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", caller.pid)).unwrap_or_default();
    let groups = status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default();
    groups
        .split_whitespace()
        .any(|one| one.parse() == Ok(group))
}
