//! Attributes: reading and setting them, and taking suid and sgid bits away where the kernel says so.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::descriptor::{magic_path, status_of};
use super::lock::lock;
use super::node::Node;
use super::privileges::has_capability;
use super::record::{attributes_of, time_of};
use super::sys;
use super::tree::{ATTRIBUTES_VALID, Tree};
use crate::fuse::{Attributes, Birth, Caller, Capacity, Instant, SetAttributes, Stamp};
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
        caller: &Caller,
    ) -> Result<(Attributes, Duration), Errno> {
        if let Some(size) = set.size {
            self.truncate(node, size, caller, set.kill_privileges)?;
        }
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(node)?;
        let fd = reach.as_fd();
        let is_owned = set.uid.is_some() || set.gid.is_some();
        let had_capability = is_owned && node.is_regular() && has_capability(fd)?;
        if is_owned {
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
        node.privileges.note_mode(u32::from(status.stx_mode));
        if had_capability && !has_capability(fd)? {
            self.module.append_lost_capability(self.store(), node);
        }
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
