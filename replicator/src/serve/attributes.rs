//! Attributes: reading and setting them, and taking suid and sgid bits away where the kernel says so.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::lock::lock;
use super::node::Node;
use super::record::{attributes_of, time_of};
use super::store::{magic_path, status_of};
use super::sys;
use super::tree::{ATTRIBUTES_VALID, Tree};
use crate::fuse::{Attributes, Birth, Capacity, Instant, SetAttributes, Stamp};
use crate::record::{Change, Record};

impl Tree {
    pub fn attributes(&self, node: &Node) -> Result<(Attributes, Duration), Errno> {
        let status = status_of(self.store().reach(node)?.as_fd(), StatxFlags::BASIC_STATS)?;
        Ok((attributes(&status), ATTRIBUTES_VALID))
    }

    pub fn statx(&self, node: &Node) -> Result<(Attributes, Birth, Duration), Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let status = status_of(self.store().reach(node)?.as_fd(), mask)?;
        let birth = Birth {
            mask: status.stx_mask & mask.bits(),
            born: stamp(&status.stx_btime),
            attributes: status.stx_attributes.bits(),
            attributes_mask: status.stx_attributes_mask.bits(),
        };
        Ok((attributes(&status), birth, ATTRIBUTES_VALID))
    }

    pub fn set_attributes(
        &self,
        node: &Arc<Node>,
        set: &SetAttributes,
    ) -> Result<(Attributes, Duration), Errno> {
        if let Some(size) = set.size {
            self.truncate(node, size, set.kill_privileges)?;
        }
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(node)?;
        let fd = reach.as_fd();
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            // The backing file system takes suid and sgid away by itself, as it would have for the caller.
            rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = set.mode {
            sys::change_mode(&magic_path(fd), mode & 0o7777)?;
        }
        if set.accessed.is_some() || set.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(set.accessed),
                last_modification: timespec(set.modified),
            };
            rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?;
        }
        let status = status_of(fd, StatxFlags::BASIC_STATS)?;
        note_privileges(node, u32::from(status.stx_mode));
        self.record_change(node, set, &status);
        Ok((attributes(&status), ATTRIBUTES_VALID))
    }

    /// Appends what a change of attributes led to, as it stands now.
    fn record_change(&self, node: &Node, set: &SetAttributes, status: &Statx) {
        let is_owned = set.uid.is_some() || set.gid.is_some();
        let now = attributes_of(status);
        let change = Change {
            mode: (set.mode.is_some() || is_owned).then_some(now.mode),
            uid: set.uid.map(|_| now.uid),
            gid: set.gid.map(|_| now.gid),
            accessed: set.accessed.map(|_| now.accessed),
            modified: (set.modified.is_some() || set.size.is_some()).then_some(now.modified),
        };
        if node.is_journalled() && change != Change::default() {
            self.module.journal.append(&Record::SetAttributes {
                file: self.store().file_id(node.identity),
                change,
            });
        }
    }

    /// Takes suid, and sgid of an executable, away. Called without the node's `order`.
    pub fn kill_privileges(&self, node: &Arc<Node>) -> Result<(), Errno> {
        let reach = self.store().reach(node)?;
        let mode = u32::from(status_of(reach.as_fd(), StatxFlags::MODE)?.stx_mode);
        if !is_privileged(mode) {
            return Ok(());
        }
        let _names = lock(&self.module.namespace);
        let mode = u32::from(status_of(reach.as_fd(), StatxFlags::MODE)?.stx_mode);
        let kept = mode
            & 0o7777
            & !libc::S_ISUID
            & !if mode & libc::S_IXGRP == 0 {
                0
            } else {
                libc::S_ISGID
            };
        sys::change_mode(&magic_path(reach.as_fd()), kept)?;
        if node.is_journalled() {
            let change = Change {
                mode: Some(kept),
                ..Change::default()
            };
            self.module.journal.append(&Record::SetAttributes {
                file: self.store().file_id(node.identity),
                change,
            });
        }
        self.forget_attributes(node);
        Ok(())
    }

    /// The kernel shall ask again before it shows this node's attributes.
    pub fn forget_attributes(&self, node: &Node) {
        if let Err(error) = self
            .device
            .forget_attributes(self.store().node_id(node.identity))
        {
            tracing::warn!(%error, "the kernel keeps attributes that changed");
        }
    }

    pub fn read_link(&self, node: &Node) -> Result<Vec<u8>, Errno> {
        let reach = self.store().reach(node)?;
        Ok(rustix::fs::readlinkat(reach.as_fd(), "", Vec::new())?.into_bytes())
    }

    pub fn capacity(&self) -> Result<Capacity, Errno> {
        let room = rustix::fs::fstatvfs(self.store().site.root())?;
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Capacity {
            blocks: room.f_blocks,
            blocks_free: room.f_bfree,
            blocks_available: room.f_bavail,
            files: room.f_files,
            files_free: room.f_ffree,
            block_size: short(room.f_bsize),
            name_max: short(room.f_namemax),
            fragment_size: short(room.f_frsize),
        })
    }
}

/// Remembers that the file's mode may change without a word: a passthrough write takes such bits away.
fn note_privileges(node: &Node, mode: u32) {
    if node.is_regular() && is_privileged(mode) {
        node.has_privilege_bits.store(true, Ordering::Relaxed);
    }
}

/// Suid, or sgid of an executable: bits that a write by somebody else takes away.
pub fn is_privileged(mode: u32) -> bool {
    mode & libc::S_ISUID != 0
        || mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP
}

pub fn attributes(status: &Statx) -> Attributes {
    Attributes {
        inode: status.stx_ino,
        size: status.stx_size,
        blocks: status.stx_blocks,
        accessed: stamp(&status.stx_atime),
        modified: stamp(&status.stx_mtime),
        changed: stamp(&status.stx_ctime),
        mode: u32::from(status.stx_mode),
        links: status.stx_nlink,
        uid: status.stx_uid,
        gid: status.stx_gid,
        device: (status.stx_rdev_major, status.stx_rdev_minor),
        block_size: status.stx_blksize,
    }
}

fn stamp(stamp: &StatxTimestamp) -> Stamp {
    let time = time_of(stamp);
    (time.seconds, time.nanoseconds)
}

fn timespec(instant: Option<Instant>) -> Timespec {
    match instant {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(Instant::Now) => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        Some(Instant::At {
            seconds,
            nanoseconds,
        }) => Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    }
}
