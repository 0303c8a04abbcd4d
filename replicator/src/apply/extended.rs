//! Extended attributes and ACLs of an object, exactly as the primary has them.
//!
//! Only what is data travels: `user.*`, `trusted.*`, POSIX ACLs and file capabilities. Labels of this node's security modules
//! (`security.selinux`, `security.ima`, …) belong to this node and are left alone, unless a record names them.

use std::os::fd::BorrowedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::tree::magic_path;

/// File capabilities. The kernel removes them when the file is written to or changes its owner.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// `XATTR_SIZE_MAX`, and `XATTR_LIST_MAX`.
const LENGTH_MAX: usize = 65_536;

/// Name and value.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn is_replicated(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == CAPABILITY
}

pub(super) fn get(object: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = Vec::with_capacity(256);
    loop {
        match getxattr(magic_path(object), name, spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::RANGE) if value.capacity() < LENGTH_MAX => value.reserve_exact(LENGTH_MAX),
            // Nothing of that name, or a file system without extended attributes.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(fault) => return Err(fault),
        }
    }
}

pub(super) fn set(object: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    setxattr(magic_path(object), name, value, XattrFlags::empty())
}

/// No error when there is none.
pub(super) fn remove(object: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match removexattr(magic_path(object), name) {
        Err(Errno::NODATA) => Ok(()),
        result => result,
    }
}

/// The replicated attributes of an object.
pub(crate) fn replicated(object: BorrowedFd<'_>) -> Result<Pairs, Errno> {
    let mut found = Vec::new();
    for name in list(object)? {
        if is_replicated(&name)
            && let Some(value) = get(object, &name)?
        {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// Makes the replicated attributes exactly those of `wanted`. Returns whether anything had to be changed.
pub(super) fn set_exact<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    object: BorrowedFd<'_>,
    wanted: &[(N, V)],
) -> Result<bool, Errno> {
    let mut has_changed = false;
    let is_wanted = |name: &[u8]| wanted.iter().any(|(other, _)| other.as_ref() == name);
    for name in list(object)? {
        if is_replicated(&name) && !is_wanted(&name) {
            remove(object, &name)?;
            has_changed = true;
        }
    }
    for (name, value) in wanted {
        let (name, value) = (name.as_ref(), value.as_ref());
        if get(object, name)?.as_deref() != Some(value) {
            set(object, name, value)?;
            has_changed = true;
        }
    }
    Ok(has_changed)
}

fn list(object: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::with_capacity(1024);
    loop {
        match listxattr(magic_path(object), spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) if names.capacity() < LENGTH_MAX => names.reserve_exact(LENGTH_MAX),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        }
    }
    let names = names.split(|&byte| byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}
