//! One replicated directory on the local disk, reached from a descriptor of its root.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat2};
use rustix::io::Errno;

use super::exclude::Exclude;
use super::{ApplyError, Directory};
use crate::identity::{Codec, Identity};

/// What an object is, as far as it matters for how it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    File,
    Directory,
    /// Symbolic link or special file: never opened, only referred to.
    Other,
}

impl ObjectKind {
    #[must_use]
    pub fn of(stat: &Stat) -> ObjectKind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => ObjectKind::File,
            FileType::Directory => ObjectKind::Directory,
            _ => ObjectKind::Other,
        }
    }

    fn flags(self) -> OFlags {
        match self {
            ObjectKind::File => OFlags::RDWR | OFlags::NOATIME,
            ObjectKind::Directory => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME,
            ObjectKind::Other => OFlags::PATH,
        }
    }
}

/// An object found by name.
#[derive(Debug)]
pub struct Found {
    /// Refers to the object without opening it.
    pub node: OwnedFd,
    pub identity: Identity,
    pub stat: Stat,
}

impl Found {
    /// A directory that is open.
    pub fn of(tree: &Tree, directory: BorrowedFd<'_>) -> Result<Found, Errno> {
        let node = directory.try_clone_to_owned();
        let node = node.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Found {
            identity: tree.identify(directory)?,
            stat: fstat(&node)?,
            node,
        })
    }

    #[must_use]
    pub fn is_directory(&self) -> bool {
        ObjectKind::of(&self.stat) == ObjectKind::Directory
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    pub path: PathBuf,
    pub identity: Identity,
    codec: Codec,
    mount: i32,
    exclude: Exclude,
    /// The file system's journal orders all metadata, so that an fsync of one object brings along everything done before to
    /// the names that lead to it. True for ext4 and xfs; elsewhere the whole file system is flushed.
    pub orders_metadata: bool,
}

/// `f_type` of statfs(2) where the journal orders metadata: ext2/3/4, xfs.
const ORDERED: [i64; 2] = [0xef53, 0x5846_5342];

impl Tree {
    pub fn open(directory: Directory) -> io::Result<Tree> {
        let Directory {
            root,
            path,
            exclude,
        } = directory;
        // Its own description of the file: reading the directory moves an offset.
        let root = openat2(
            &root,
            ".",
            ObjectKind::Directory.flags() | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        )?;
        let codec = Codec::of(root.as_fd())?;
        let (identity, mount) = codec.identify_at(root.as_fd(), b"")?;
        Ok(Tree {
            identity,
            mount,
            codec,
            exclude: Exclude::new(&exclude).map_err(io::Error::other)?,
            orders_metadata: ORDERED.contains(&fstatfs(&root)?.f_type),
            root,
            path,
        })
    }

    /// Every directory of a module, as the secondary reaches them. `node` is this node's name, for messages.
    pub fn open_all(node: &str, directories: Vec<Directory>) -> Result<Vec<Tree>, ApplyError> {
        let mut trees = Vec::with_capacity(directories.len());
        for directory in directories {
            let path = directory.path.display().to_string();
            let opened = Tree::open(directory).map_err(|cause| ApplyError::Failed {
                node: node.to_owned(),
                object: path,
                attempt: "replicate to",
                cause: cause.to_string(),
            });
            trees.push(opened?);
        }
        Ok(trees)
    }

    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens an object again. ESTALE when it is gone.
    pub fn reopen(&self, identity: Identity, kind: ObjectKind) -> Result<OwnedFd, Errno> {
        self.codec.open(self.root(), identity, kind.flags())
    }

    /// Opens a file to read it beside everything else.
    pub fn reopen_for_reading(&self, identity: Identity) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOATIME;
        self.codec.open(self.root(), identity, flags)
    }

    /// The identity of what `name` in `directory` leads to. EXDEV when another file system is mounted there.
    pub fn identify_at(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Identity, Errno> {
        let (identity, mount) = self.codec.identify_at(directory, name)?;
        if mount == self.mount {
            Ok(identity)
        } else {
            Err(Errno::XDEV)
        }
    }

    pub fn identify(&self, object: BorrowedFd<'_>) -> Result<Identity, Errno> {
        self.codec.identify(object)
    }

    /// What `name` in `directory` leads to, symbolic links not followed. EXDEV when another file system is mounted there.
    pub fn find(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Found>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let limits = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let node = match openat2(directory, name, flags, Mode::empty(), limits) {
            Ok(node) => node,
            Err(Errno::NOENT) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        Ok(Some(Found {
            identity: self.codec.identify(node.as_fd())?,
            stat: fstat(&node)?,
            node,
        }))
    }

    /// Opens the directory at a path relative to the root, one component after the other.
    pub fn walk(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut at = self.reopen(self.identity, ObjectKind::Directory)?;
        for name in path.split(|&byte| byte == b'/') {
            if !name.is_empty() {
                at = self.step(at.as_fd(), name)?;
            }
        }
        Ok(at)
    }

    /// Opens a directory in a directory.
    pub fn step(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = ObjectKind::Directory.flags() | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let limits = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        openat2(directory, name, flags, Mode::empty(), limits)
    }

    /// The whole path of something below the root, for messages.
    #[must_use]
    pub fn display(&self, path: &[u8]) -> String {
        let below = Path::new(std::ffi::OsStr::from_bytes(path));
        self.path.join(below).display().to_string()
    }

    #[must_use]
    pub fn has_excludes(&self) -> bool {
        !self.exclude.is_empty()
    }

    #[must_use]
    pub fn is_excluded(&self, path: &[u8]) -> bool {
        self.exclude.matches(path)
    }

    /// The path of an open directory relative to the root, ending in a slash unless it is the root.
    pub fn path_of(&self, directory: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let (root, path) = (magic_target(self.root())?, magic_target(directory)?);
        let below = path.strip_prefix(&root).map_err(|_| Errno::STALE)?;
        let mut path = below.as_os_str().as_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        Ok(path)
    }
}

/// The path by which the kernel lets this process name an open object, whatever kind of descriptor it is.
pub(super) fn magic_path(object: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

/// Where the object stands, for messages and for matching globs.
pub(super) fn magic_target(object: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let target = rustix::fs::readlink(magic_path(object), Vec::new())?;
    Ok(Path::new(std::ffi::OsStr::from_bytes(target.as_bytes())).to_path_buf())
}

/// A name in a directory.
pub(crate) struct Name {
    pub bytes: Vec<u8>,
    /// `None` where the file system does not tell.
    pub kind: Option<ObjectKind>,
}

/// The names in a directory without `.` and `..`, in the order in which the file system keeps them.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<Name>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            names.push(Name {
                bytes: bytes.to_vec(),
                kind: match entry.file_type() {
                    FileType::Unknown => None,
                    FileType::RegularFile => Some(ObjectKind::File),
                    FileType::Directory => Some(ObjectKind::Directory),
                    _ => Some(ObjectKind::Other),
                },
            });
        }
    }
    Ok(names)
}
