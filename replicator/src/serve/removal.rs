//! Removing and moving names.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::lock::lock;
use super::node::{Node, Standing};
use super::store::{Found, Store};
use super::tree::Tree;
use crate::fuse::rename;
use crate::record::Record;

/// One side of a rename.
struct Side<'a> {
    parent: &'a Arc<Node>,
    fd: BorrowedFd<'a>,
    name: &'a [u8],
    found: Option<Found>,
    is_excluded: bool,
}

impl Tree {
    pub fn unlink(&self, parent: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(parent)?;
        let fd = reach.as_fd();
        let found = self.store().find(fd, name)?;
        let is_excluded = self.is_excluded(parent, fd, name, &found)?;
        rustix::fs::unlinkat(fd, name, AtFlags::empty())?;
        self.followed(|| {
            if !is_excluded {
                let place = self.place(parent, fd, name)?;
                self.module.journal.append(&Record::Unlink { place });
            }
            self.bury_if_last(found, is_excluded);
            Ok(())
        })
    }

    pub fn remove_directory(&self, parent: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(parent)?;
        let fd = reach.as_fd();
        let found = self.store().find(fd, name)?;
        let is_excluded = self.is_excluded(parent, fd, name, &found)?;
        rustix::fs::unlinkat(fd, name, AtFlags::REMOVEDIR)?;
        self.followed(|| {
            if !is_excluded {
                let place = self.place(parent, fd, name)?;
                self.module
                    .journal
                    .append(&Record::RemoveDirectory { place });
            }
            self.bury_if_last(found, is_excluded);
            Ok(())
        })
    }

    /// What the object itself says, if the kernel knows it, else its name.
    fn is_excluded(
        &self,
        parent: &Node,
        fd: BorrowedFd<'_>,
        name: &[u8],
        found: &Found,
    ) -> Result<bool, Errno> {
        match self
            .store()
            .nodes
            .get(found.identity.inode)
            .filter(|node| node.identity == found.identity)
        {
            Some(node) => Ok(node.class().is_excluded),
            None => Ok(self.store().classify(parent, fd, name)?.is_excluded),
        }
    }

    /// The object lost a name. If it was the last one, nothing written to it from now on can be seen on the peer; as long as the
    /// kernel knows it, its number must not be used again.
    fn bury_if_last(&self, found: Found, is_excluded: bool) {
        let is_last = found.format() == libc::S_IFDIR || found.status.stx_nlink <= 1;
        if !is_last {
            return;
        }
        let file = self.store().file_id(found.identity);
        if let Some(node) = self
            .store()
            .nodes
            .get(found.identity.inode)
            .filter(|node| node.identity == found.identity)
        {
            let _order = lock(&node.order);
            lock(&node.life).anchor = Some(Arc::new(found.fd));
            node.set_standing(Standing::Gone);
            let mut pending = lock(&node.pending);
            drop(pending.ranges.take(u64::MAX));
            pending.is_touched = false;
        }
        if !is_excluded {
            self.module.journal.append(&Record::Forget { file });
        }
    }

    pub fn rename(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        new_parent: &Arc<Node>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let known = rename::NOREPLACE | rename::EXCHANGE | rename::WHITEOUT;
        if flags & !known != 0 {
            return Err(Errno::INVAL);
        }
        let (reach, new_reach) = (self.store().reach(parent)?, self.store().reach(new_parent)?);
        self.settle_moved(&self.store().find(reach.as_fd(), name)?)?;
        let _names = lock(&self.module.namespace);
        let from = self.side(parent, reach.as_fd(), name)?;
        let to = self.side(new_parent, new_reach.as_fd(), new_name)?;
        let moved = from.found.as_ref().ok_or(Errno::NOENT)?;
        self.refuse_boundary(&from, &to, flags)?;
        self.settle_moved(moved)?;
        if flags & rename::EXCHANGE != 0 {
            self.settle_moved(to.found.as_ref().ok_or(Errno::NOENT)?)?;
        }
        rustix::fs::renameat_with(
            from.fd,
            name,
            to.fd,
            new_name,
            RenameFlags::from_bits_retain(flags),
        )?;
        self.followed(|| self.record_rename(from, to, flags))
    }

    fn side<'a>(
        &self,
        parent: &'a Arc<Node>,
        fd: BorrowedFd<'a>,
        name: &'a [u8],
    ) -> Result<Side<'a>, Errno> {
        let found = match self.store().find(fd, name) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        let is_excluded = self.store().classify(parent, fd, name)?.is_excluded;
        Ok(Side {
            parent,
            fd,
            name,
            found,
            is_excluded,
        })
    }

    /// Moving an object into or out of what is excluded would change what it is; programs answer EXDEV by copying.
    fn refuse_boundary(&self, from: &Side<'_>, to: &Side<'_>, flags: u32) -> Result<(), Errno> {
        if self.store().globs.is_empty() {
            return Ok(());
        }
        if from.is_excluded != to.is_excluded {
            return Err(Errno::XDEV);
        }
        let is_directory = |side: &Side<'_>| {
            side.found
                .as_ref()
                .is_some_and(|found| found.format() == libc::S_IFDIR)
        };
        let moves_directory =
            is_directory(from) || (flags & rename::EXCHANGE != 0 && is_directory(to));
        if moves_directory && !from.is_excluded {
            for side in [from, to] {
                if self
                    .store()
                    .globs
                    .reaches_below(&Store::path_of(side.fd, side.name)?)
                {
                    return Err(Errno::XDEV);
                }
            }
        }
        Ok(())
    }

    fn settle_moved(&self, found: &Found) -> Result<(), Errno> {
        let node = self
            .store()
            .nodes
            .get(found.identity.inode)
            .filter(|node| node.identity == found.identity);
        node.map_or(Ok(()), |node| self.settle_content(&node))
    }

    fn record_rename(&self, from: Side<'_>, to: Side<'_>, flags: u32) -> Result<(), Errno> {
        let moved = from.found.ok_or(Errno::NOENT)?.identity;
        let is_exchange = flags & rename::EXCHANGE != 0;
        // Two names of one object: rename(2) does nothing.
        let is_same = to
            .found
            .as_ref()
            .is_some_and(|found| found.identity == moved);
        let file_id = |identity| self.store().file_id(identity);
        if !from.is_excluded {
            let exchanged = to.found.as_ref().filter(|_| is_exchange);
            self.module.journal.append(&Record::Rename {
                from: self.place(from.parent, from.fd, from.name)?,
                to: self.place(to.parent, to.fd, to.name)?,
                flags: flags & !rename::WHITEOUT,
                file: file_id(moved),
                exchanged: exchanged.map(|found| file_id(found.identity)),
            });
        }
        if flags & rename::WHITEOUT != 0 && !is_same {
            // The whiteout is an object with an identity of its own.
            let whiteout = self.store().find(from.fd, from.name)?;
            let class = self.store().classify(from.parent, from.fd, from.name)?;
            self.record_creation(from.parent, from.fd, from.name, class, &whiteout)?;
        }
        match to.found {
            Some(replaced) if !is_exchange && !is_same => {
                self.bury_if_last(replaced, to.is_excluded);
            }
            _ => {}
        }
        Ok(())
    }
}
