//! A new object, complete before anyone hears of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, mkdirat, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::attributes;
use super::extended::CAPABILITY;
use super::tree::{ObjectKind, Tree};
use crate::identity::Identity;
use crate::record::{Attributes, Kind};

/// What a new object is born with.
pub(super) struct Birth<'a, N, V> {
    pub kind: &'a Kind<'a>,
    pub attributes: &'a Attributes,
    pub extended: &'a [(N, V)],
}

impl<N: AsRef<[u8]>, V> Birth<'_, N, V> {
    pub fn has_capability(&self) -> bool {
        self.extended
            .iter()
            .any(|(name, _)| name.as_ref() == CAPABILITY)
    }
}

/// An object just made. Its descriptor is of the kind that the store keeps.
pub(super) struct Made {
    pub identity: Identity,
    pub kind: ObjectKind,
    pub descriptor: OwnedFd,
    pub has_capability: bool,
}

const FOR_OWNER: Mode = Mode::RUSR.union(Mode::WUSR);

/// Makes an object at a free name (EEXIST otherwise). On an error nothing is left at the name.
pub(super) fn make<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    tree: &Tree,
    directory: BorrowedFd<'_>,
    name: &[u8],
    birth: &Birth<'_, N, V>,
) -> Result<Made, Errno> {
    let kind = match birth.kind {
        Kind::File => ObjectKind::File,
        Kind::Directory => ObjectKind::Directory,
        Kind::Symlink(_) | Kind::Special { .. } => ObjectKind::Other,
    };
    let file = match birth.kind {
        Kind::File => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOATIME;
            Some(openat(
                directory,
                name,
                flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                FOR_OWNER,
            )?)
        }
        Kind::Directory => {
            mkdirat(directory, name, FOR_OWNER | Mode::XUSR)?;
            None
        }
        Kind::Symlink(target) => {
            symlinkat(&**target, directory, name)?;
            None
        }
        Kind::Special { format, device } => {
            let format = FileType::from_raw_mode(*format);
            mknodat(directory, name, format, FOR_OWNER, *device)?;
            None
        }
    };
    complete(tree, directory, name, kind, file, birth).inspect_err(|_| {
        let flags = if kind == ObjectKind::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        if let Err(fault) = unlinkat(directory, name, flags) {
            tracing::warn!(%fault, "a half-made object stays until its record is applied again");
        }
    })
}

fn complete<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    tree: &Tree,
    directory: BorrowedFd<'_>,
    name: &[u8],
    kind: ObjectKind,
    file: Option<OwnedFd>,
    birth: &Birth<'_, N, V>,
) -> Result<Made, Errno> {
    let descriptor = match file {
        Some(file) => file,
        None => open(directory, name, kind)?,
    };
    attributes::set_exact(descriptor.as_fd(), birth.attributes, birth.extended)?;
    Ok(Made {
        identity: tree.identify(descriptor.as_fd())?,
        kind,
        descriptor,
        has_capability: birth.has_capability(),
    })
}

fn open(directory: BorrowedFd<'_>, name: &[u8], kind: ObjectKind) -> Result<OwnedFd, Errno> {
    let flags = if kind == ObjectKind::Directory {
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME
    } else {
        OFlags::PATH
    };
    openat(
        directory,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Makes a file without a name.
pub(super) fn make_unnamed(tree: &Tree, wanted: &Attributes) -> Result<Made, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::NOATIME | OFlags::CLOEXEC;
    let descriptor = openat(tree.root(), c".", flags, FOR_OWNER)?;
    // An ACL inherited from the root is not the primary's: its parent was another directory.
    attributes::set_exact::<&[u8], &[u8]>(descriptor.as_fd(), wanted, &[])?;
    Ok(Made {
        identity: tree.identify(descriptor.as_fd())?,
        kind: ObjectKind::File,
        descriptor,
        has_capability: false,
    })
}

/// Makes what `RENAME_WHITEOUT` leaves behind: the character device 0:0.
pub(super) fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Whether the object at `node` is of this kind: the same target, the same device.
pub(crate) fn is_of_kind(node: BorrowedFd<'_>, kind: &Kind<'_>) -> Result<bool, Errno> {
    let stat = fstat(node)?;
    Ok(match (FileType::from_raw_mode(stat.st_mode), kind) {
        (FileType::RegularFile, Kind::File) | (FileType::Directory, Kind::Directory) => true,
        (FileType::Symlink, Kind::Symlink(target)) => {
            rustix::fs::readlinkat(node, c"", Vec::new())?.as_bytes() == &**target
        }
        (found, Kind::Special { format, device }) => {
            let is_device = matches!(found, FileType::BlockDevice | FileType::CharacterDevice);
            found == FileType::from_raw_mode(*format) && (!is_device || stat.st_rdev == *device)
        }
        _ => false,
    })
}
