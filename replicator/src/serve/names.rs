//! Finding and making names.
//!
//! A new object is made with the caller's identity, under the namespace lock, and appended with everything it was born with before
//! the lock is released.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::attributes::attributes;
use super::caller::acting;
use super::class::Class;
use super::descriptor::status_of;
use super::lock::lock;
use super::node::{Node, Standing};
use super::record::{attributes_of, extended_of, kind_of, modified_of};
use super::store::Found;
use super::tree::{ATTRIBUTES_VALID, NAME_VALID, Tree};
use crate::fuse::{Caller, Entry, Opened, Ownership};
use crate::record::{Place, Record};

impl Tree {
    pub fn look_up(&self, parent: &Arc<Node>, name: &[u8]) -> Result<Entry, Errno> {
        let reach = self.store().reach(parent)?;
        match self.store().find(reach.as_fd(), name) {
            Ok(found) => self.entry(parent, reach.as_fd(), name, &found),
            Err(Errno::NOENT) => Ok(Entry::absent(NAME_VALID)),
            Err(errno) => Err(errno),
        }
    }

    /// Tells the kernel of an object: one more lookup to be forgotten.
    pub fn entry(
        &self,
        parent: &Node,
        fd: BorrowedFd<'_>,
        name: &[u8],
        found: &Found,
    ) -> Result<Entry, Errno> {
        let class = self.store().classify(parent, fd, name)?;
        let node = self.store().enter(found, class);
        Ok(self.entry_of(&node, found))
    }

    fn entry_of(&self, node: &Node, found: &Found) -> Entry {
        Entry {
            node: self.store().node_id(node.identity),
            generation: node.identity.generation.into(),
            attributes: attributes(&found.status),
            name_valid: NAME_VALID,
            attributes_valid: ATTRIBUTES_VALID,
        }
    }

    pub fn make_directory(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        ownership: Ownership,
        caller: &Caller,
    ) -> Result<Entry, Errno> {
        let mode = permissions(ownership);
        self.make(parent, name, ownership.umask, caller, |fd| {
            rustix::fs::mkdirat(fd, name, mode)
        })
    }

    pub fn make_node(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        ownership: Ownership,
        (major, minor): (u32, u32),
        caller: &Caller,
    ) -> Result<Entry, Errno> {
        let (kind, mode) = (
            FileType::from_raw_mode(ownership.mode),
            permissions(ownership),
        );
        let device = rustix::fs::makedev(major, minor);
        self.make(parent, name, ownership.umask, caller, |fd| {
            rustix::fs::mknodat(fd, name, kind, mode, device)
        })
    }

    pub fn make_symlink(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        target: &[u8],
        caller: &Caller,
    ) -> Result<Entry, Errno> {
        self.make(parent, name, 0, caller, |fd| {
            rustix::fs::symlinkat(target, fd, name)
        })
    }

    fn make(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        umask: u32,
        caller: &Caller,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<Entry, Errno> {
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(parent)?;
        let fd = reach.as_fd();
        let class = self.store().classify(parent, fd, name)?;
        acting(caller, umask, || act(fd))?;
        self.followed(|| {
            let found = self.store().find(fd, name)?;
            self.record_creation(parent, fd, name, class, &found)?;
            Ok(self.entry_of(&self.store().enter(&found, class), &found))
        })
    }

    /// What follows a change of the backing directory must succeed: else the journal lacks it, and this node must not go on as if
    /// the peer had it.
    pub fn followed<T>(&self, rest: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        rest().inspect_err(|errno| {
            let path = self.store().site.path().display();
            self.module.observer.fault(&format!(
                "a change below {path} could not be journalled: {errno}"
            ));
        })
    }

    pub fn record_creation(
        &self,
        parent: &Node,
        fd: BorrowedFd<'_>,
        name: &[u8],
        class: Class,
        found: &Found,
    ) -> Result<(), Errno> {
        if class.is_excluded || !self.module.journal.ships() {
            return Ok(());
        }
        self.module.journal.append(&Record::Create {
            place: self.place(parent, fd, name)?,
            file: self.store().file_id(found.identity),
            kind: kind_of(found.fd.as_fd(), &found.status)?,
            attributes: attributes_of(&found.status),
            extended: extended_of(found.fd.as_fd())?,
        });
        Ok(())
    }

    /// A name in a directory that just changed.
    pub fn place<'n>(
        &self,
        parent: &Node,
        fd: BorrowedFd<'_>,
        name: &'n [u8],
    ) -> Result<Place<'n>, Errno> {
        let parent_modified = modified_of(fd)?;
        Ok(Place {
            parent: self.store().file_id(parent.identity),
            name: Cow::Borrowed(name),
            parent_modified,
        })
    }

    pub fn create(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        flags: u32,
        ownership: Ownership,
        caller: &Caller,
    ) -> Result<(Entry, Opened), Errno> {
        match self.create_new(parent, name, flags, ownership, caller) {
            // The kernel believed that the name was free.
            Err(Errno::EXIST) if flags & libc::O_EXCL.unsigned_abs() == 0 => {
                let entry = self.look_up(parent, name)?;
                let node = self.store().node(entry.node)?;
                let opened = if node.is_regular() {
                    self.open(&node, flags, caller, false)
                } else {
                    Err(Errno::EXIST)
                };
                opened
                    .map(|opened| (entry, opened))
                    .inspect_err(|_| self.unlearn(&node))
            }
            other => other,
        }
    }

    fn create_new(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        flags: u32,
        ownership: Ownership,
        caller: &Caller,
    ) -> Result<(Entry, Opened), Errno> {
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(parent)?;
        let fd = reach.as_fd();
        let class = self.store().classify(parent, fd, name)?;
        let wanted =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = acting(caller, ownership.umask, || {
            rustix::fs::openat(fd, name, wanted, permissions(ownership))
        })?;
        self.followed(|| {
            let found = self.store().inspect(file)?;
            self.record_creation(parent, fd, name, class, &found)?;
            let node = self.store().enter(&found, class);
            let entry = self.entry_of(&node, &found);
            let opened = self
                .admit(&node, flags, Some(found.fd))
                .inspect_err(|_| self.unlearn(&node))?;
            Ok((entry, opened))
        })
    }

    /// `O_TMPFILE`. The journal learns of the file when it gets a name.
    pub fn create_unnamed(
        &self,
        parent: &Arc<Node>,
        flags: u32,
        ownership: Ownership,
        caller: &Caller,
    ) -> Result<(Entry, Opened), Errno> {
        let reach = self.store().reach(parent)?;
        let class = self.store().classify(parent, reach.as_fd(), b"*")?;
        let exclusive = OFlags::from_bits_retain(flags) & OFlags::EXCL;
        let wanted = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | exclusive;
        let file = acting(caller, ownership.umask, || {
            rustix::fs::openat(&reach, ".", wanted, permissions(ownership))
        })?;
        let found = self.store().inspect(file)?;
        let node =
            self.store()
                .nodes
                .obtain(found.identity, found.format(), Standing::Unnamed, true);
        node.set_class(class);
        let entry = self.entry_of(&node, &found);
        lock(&node.life).anchor = Some(Arc::new(path_descriptor(&found.fd)?));
        let opened = self
            .admit(&node, flags, Some(found.fd))
            .inspect_err(|_| self.unlearn(&node))?;
        Ok((entry, opened))
    }

    /// The kernel will not hear of this lookup after all.
    fn unlearn(&self, node: &Arc<Node>) {
        if let Some(node) = self.store().nodes.forget(node.identity.inode, 1) {
            self.let_go(&node);
        }
    }

    pub fn link(
        &self,
        target: &Arc<Node>,
        parent: &Arc<Node>,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        let is_unnamed = self.announce(target)?;
        self.settle_content(target)?;
        let _names = lock(&self.module.namespace);
        let reach = self.store().reach(parent)?;
        let fd = reach.as_fd();
        if self.store().classify(parent, fd, name)?.is_excluded != target.class().is_excluded {
            return Err(Errno::XDEV);
        }
        let object = self.store().reach(target)?;
        self.settle_content(target)?;
        if let Err(errno) = rustix::fs::linkat(&object, "", fd, name, AtFlags::EMPTY_PATH) {
            if is_unnamed {
                self.retract(target);
            }
            return Err(errno);
        }
        self.followed(|| {
            if target.is_journalled() {
                let file = self.store().file_id(target.identity);
                self.module.journal.append(&Record::Link {
                    place: self.place(parent, fd, name)?,
                    file,
                });
            }
            self.entry(parent, fd, name, &self.store().find(fd, name)?)
        })
    }

    /// Before a file without a name gets one, the journal learns of it, so that its content stands before its name. Whether it had
    /// none.
    fn announce(&self, node: &Arc<Node>) -> Result<bool, Errno> {
        let _names = lock(&self.module.namespace);
        if node.standing() != Standing::Unnamed {
            return Ok(false);
        }
        let reach = self.store().reach(node)?;
        let _order = lock(&node.order);
        node.set_standing(Standing::Named);
        if !node.is_journalled() || !self.module.journal.ships() {
            return Ok(true);
        }
        let file = self.store().file_id(node.identity);
        let status = status_of(reach.as_fd(), StatxFlags::BASIC_STATS)?;
        self.module.journal.append(&Record::CreateUnnamed {
            file,
            attributes: attributes_of(&status),
        });
        for (name, value) in extended_of(reach.as_fd())? {
            self.module
                .journal
                .append(&Record::SetExtended { file, name, value });
        }
        self.module.journal.append(&Record::Truncate {
            file,
            size: status.stx_size,
        });
        let mut pending = lock(&node.pending);
        pending.ranges.mark(0..status.stx_size);
        self.module
            .touch(self.store(), node, &mut pending, Instant::now());
        Ok(true)
    }

    /// The name was refused: the file is without one as before.
    fn retract(&self, node: &Arc<Node>) {
        let _order = lock(&node.order);
        if node.is_journalled() {
            self.module.journal.append(&Record::Forget {
                file: self.store().file_id(node.identity),
            });
        }
        node.set_standing(Standing::Unnamed);
    }

    /// Content goes before the names that lead to it. Called once without the namespace lock, so that much content does not hold
    /// it, and once with it.
    pub fn settle_content(&self, node: &Arc<Node>) -> Result<(), Errno> {
        if node.is_regular() && node.is_journalled() && self.module.journal.ships() {
            self.module.drain();
            self.module.ship_all(self.store(), node)?;
        }
        Ok(())
    }
}

fn permissions(ownership: Ownership) -> Mode {
    Mode::from_raw_mode(ownership.mode & 0o7777)
}

/// A path descriptor of an open file.
fn path_descriptor(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    use super::descriptor::magic_path;
    rustix::fs::open(
        magic_path(file.as_fd()),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
