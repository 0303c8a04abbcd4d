//! Extended attributes, ACLs among them, and the few ioctls that make sense here.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{OFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;

use super::descriptor::{magic_path, status_of};
use super::lock::lock;
use super::node::Node;
use super::privileges::CAPABILITY;
use super::sys;
use super::tree::Tree;
use crate::fuse::{Caller, Reply};
use crate::record::{Change, Record};

/// Setting it changes the permission bits as well.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// `XATTR_LIST_MAX`.
const LIST_MAX: usize = 64 << 10;

/// `FS_IOC_GETFLAGS`, `FS_IOC_GETVERSION`, `FS_IOC_FSGETXATTR`: commands that only tell.
const CONTROLS: [(u32, usize); 3] = [(0x8008_6601, 4), (0x8008_7601, 4), (0x801c_581f, 28)];
/// Their setting kin: the peer would not follow, so they are refused.
const REFUSED: [u32; 2] = [0x4008_6602, 0x401c_5820];

impl Tree {
    pub fn set_extended(
        &self,
        node: &Arc<Node>,
        name: &[u8],
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<(), Errno> {
        if name == CAPABILITY {
            // Content that came after it would take it away from the peer's file.
            self.settle_content(node)?;
        }
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(node)?;
        let path = magic_path(reach.as_fd());
        rustix::fs::setxattr(&path, name, value, XattrFlags::from_bits_retain(flags))?;
        if name == CAPABILITY {
            node.privileges.note_capability(true);
        }
        let is_access = name == ACCESS_ACL;
        if is_access && kill_sgid {
            let mode = u32::from(status_of(reach.as_fd(), StatxFlags::MODE)?.stx_mode);
            sys::change_mode(&path, mode & 0o7777 & !libc::S_ISGID)?;
        }
        if node.is_journalled() {
            let file = self.store().file_id(node.identity);
            self.module.journal.append(&Record::SetExtended {
                file,
                name: name.into(),
                value: value.into(),
            });
            if is_access {
                let mode = u32::from(status_of(reach.as_fd(), StatxFlags::MODE)?.stx_mode) & 0o7777;
                let change = Change {
                    mode: Some(mode),
                    ..Change::default()
                };
                self.module
                    .journal
                    .append(&Record::SetAttributes { file, change });
            }
        }
        Ok(())
    }

    pub fn remove_extended(&self, node: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(node)?;
        rustix::fs::removexattr(magic_path(reach.as_fd()), name)?;
        if name == CAPABILITY {
            node.privileges.note_capability(false);
        }
        if node.is_journalled() {
            let file = self.store().file_id(node.identity);
            self.module.journal.append(&Record::RemoveExtended {
                file,
                name: name.into(),
            });
        }
        Ok(())
    }

    pub fn get_extended(
        &self,
        node: &Node,
        name: &[u8],
        size: u32,
        reply: Reply,
        scratch: &mut Vec<u8>,
    ) {
        let result = self.store().reach(node).and_then(|reach| {
            scratch.resize(size as usize, 0);
            rustix::fs::getxattr(magic_path(reach.as_fd()), name, &mut scratch[..])
        });
        answer(self.checked(result), size, reply, scratch);
    }

    pub fn list_extended(
        &self,
        node: &Node,
        size: u32,
        caller: &Caller,
        reply: Reply,
        scratch: &mut Vec<u8>,
    ) {
        let result = self.store().reach(node).and_then(|reach| {
            scratch.resize(LIST_MAX, 0);
            let length = rustix::fs::listxattr(magic_path(reach.as_fd()), &mut scratch[..])?;
            scratch.truncate(length);
            if caller.uid != 0 {
                // The backing file system shows these to us; it would not have shown them to him.
                *scratch = names(scratch)
                    .filter(|name| !name.starts_with(b"trusted."))
                    .flatten()
                    .copied()
                    .collect();
            }
            let fits = size == 0 || scratch.len() <= size as usize;
            if fits {
                Ok(scratch.len())
            } else {
                Err(Errno::RANGE)
            }
        });
        answer(self.checked(result), size, reply, scratch);
    }

    pub fn control(
        &self,
        node: &Arc<Node>,
        command: u32,
        input: &[u8],
        output_size: u32,
        is_unrestricted: bool,
        reply: Reply,
    ) {
        if REFUSED.contains(&command) {
            return reply.control(Err(Errno::OPNOTSUPP));
        }
        let known = CONTROLS
            .iter()
            .find(|(known, length)| *known == command && output_size as usize >= *length);
        let (false, Some(&(_, length))) = (is_unrestricted, known) else {
            return reply.control(Err(Errno::NOTTY));
        };
        let mut bytes = [0; sys::CONTROL_LENGTH];
        let given = input.len().min(length);
        bytes[..given].copy_from_slice(&input[..given]);
        let result = self
            .store()
            .open(
                node.identity,
                OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME,
            )
            .and_then(|file| sys::control(file.as_fd(), command, &mut bytes));
        let output = &bytes[..(output_size as usize).min(sys::CONTROL_LENGTH)];
        reply.control(self.checked(result).map(|()| output));
    }
}

/// Each name with its NUL.
fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split_inclusive(|&byte| byte == 0)
}

fn answer(result: Result<usize, Errno>, size: u32, reply: Reply, scratch: &[u8]) {
    match result {
        Ok(length) if size == 0 => reply.extended_size(u32::try_from(length).unwrap_or(u32::MAX)),
        Ok(length) => reply.bytes(Ok(&scratch[..length])),
        Err(errno) => reply.bytes(Err(errno)),
    }
}
