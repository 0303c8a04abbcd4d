//! Privileges that a file loses because somebody else changes its content.
//!
//! Suid and sgid bits go when the kernel says that the caller may not keep them (`FUSE_HANDLE_KILLPRIV_V2`); a capability goes
//! with every change, which the backing file system does by itself. The journal is told of both.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::StatxFlags;
use rustix::io::Errno;

use super::descriptor::{magic_path, status_of};
use super::lock::lock;
use super::node::Node;
use super::sys;
use super::tree::Tree;
use crate::fuse::Caller;
use crate::record::{Change, Record};

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
