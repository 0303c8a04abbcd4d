//! One backing directory: opening its objects, by identity and by name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::class::{Class, Globs};
use super::descriptor::{magic_path, status_of};
use super::lock::lock;
use super::node::{Node, Standing};
use super::table::Table;
use crate::fuse::NodeId;
use crate::identity::{Codec, Identity};
use crate::mount::Site;
use crate::record::FileId;

#[derive(Debug)]
pub struct Store {
    /// Index of the directory in the module's configuration.
    pub index: u16,
    pub site: Arc<Site>,
    pub root: Identity,
    /// The kernel's `s_dev`: major << 20 | minor.
    pub device: u32,
    pub nodes: Table,
    pub globs: Globs,
    codec: Codec,
}

/// An object found by name.
pub struct Found {
    /// A path descriptor.
    pub fd: OwnedFd,
    pub status: Statx,
    pub identity: Identity,
}

impl Found {
    #[must_use]
    pub fn format(&self) -> u32 {
        u32::from(self.status.stx_mode) & libc::S_IFMT
    }
}

/// A path descriptor of a node, for as long as it is needed.
pub enum Reach<'a> {
    Root(BorrowedFd<'a>),
    Anchor(Arc<OwnedFd>),
    Opened(OwnedFd),
}

impl AsFd for Reach<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Reach::Root(fd) => fd.as_fd(),
            Reach::Anchor(fd) => fd.as_fd(),
            Reach::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Store {
    pub fn new(index: u16, site: Arc<Site>, globs: Globs) -> Result<Store, Errno> {
        let codec = Codec::of(site.root())?;
        let root = codec.identify(site.root())?;
        let status = status_of(site.root(), StatxFlags::BASIC_STATS)?;
        let nodes = Table::new();
        // The kernel knows the root without a lookup and never forgets it.
        nodes
            .obtain(root, libc::S_IFDIR, Standing::Named, true)
            .set_class(Class::default());
        let device = status.stx_dev_major << 20 | status.stx_dev_minor;
        Ok(Store {
            index,
            site,
            root,
            device,
            nodes,
            globs,
            codec,
        })
    }

    /// The inode number, but for two that the protocol needs: the root is 1, and an object whose number is 1 must not be.
    #[must_use]
    pub fn node_id(&self, identity: Identity) -> NodeId {
        match identity.inode {
            inode if inode == self.root.inode => NodeId::ROOT,
            1 => NodeId(u64::MAX),
            inode => NodeId(inode),
        }
    }

    /// The inverse of [`node_id`](Self::node_id).
    #[must_use]
    pub fn inode(&self, id: NodeId) -> u64 {
        match id {
            NodeId::ROOT => self.root.inode,
            NodeId(u64::MAX) => 1,
            NodeId(inode) => inode,
        }
    }

    /// A node that the kernel speaks of.
    pub fn node(&self, id: NodeId) -> Result<Arc<Node>, Errno> {
        self.nodes.get(self.inode(id)).ok_or(Errno::STALE)
    }

    #[must_use]
    pub fn file_id(&self, identity: Identity) -> FileId {
        FileId {
            tree: self.index,
            inode: identity.inode,
            generation: identity.generation,
        }
    }

    pub fn open(&self, identity: Identity, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.codec.open(self.site.root(), identity, flags)
    }

    pub fn identify(&self, object: BorrowedFd<'_>) -> Result<Identity, Errno> {
        self.codec.identify(object)
    }

    /// A path descriptor of the node, whether it has a name or not.
    pub fn reach(&self, node: &Node) -> Result<Reach<'_>, Errno> {
        if node.identity == self.root {
            return Ok(Reach::Root(self.site.root()));
        }
        if node.standing() != Standing::Named {
            if let Some(anchor) = &lock(&node.life).anchor {
                return Ok(Reach::Anchor(Arc::clone(anchor)));
            }
        }
        self.open(node.identity, OFlags::PATH | OFlags::NOFOLLOW)
            .map(Reach::Opened)
    }

    /// The object with this name. EXDEV for a mount point: what is mounted there is not part of this file system.
    pub fn find(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Found, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV)?;
        self.inspect(fd)
    }

    pub fn inspect(&self, fd: OwnedFd) -> Result<Found, Errno> {
        let status = status_of(fd.as_fd(), StatxFlags::BASIC_STATS)?;
        let identity = self.identify(fd.as_fd())?;
        Ok(Found {
            fd,
            status,
            identity,
        })
    }

    /// The node of an object that was found by name, about to be told to the kernel.
    pub fn enter(&self, found: &Found, class: Class) -> Arc<Node> {
        let node = self
            .nodes
            .obtain(found.identity, found.format(), Standing::Named, true);
        node.set_class(class);
        node
    }

    /// The class of a name below a directory.
    pub fn classify(
        &self,
        parent: &Node,
        parent_fd: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<Class, Errno> {
        if self.globs.is_empty() {
            return Ok(Class::default());
        }
        if parent.class().is_excluded {
            return Ok(Class {
                is_excluded: true,
                is_mapped: false,
            });
        }
        Store::path_of(parent_fd, name).map(|path| self.globs.classify(&path))
    }

    /// The path of a name, relative to the directory.
    pub fn path_of(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        // The site is a mount of its own, so its root is "/".
        let mut path = rustix::fs::readlink(magic_path(parent), Vec::new())?.into_bytes();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path.remove(0);
        Ok(path)
    }
}
