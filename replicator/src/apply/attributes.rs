//! Owner, mode and times of an object.
//!
//! The order is fixed by what the kernel does on the side: a change of owner drops suid, sgid and file capabilities, an ACL
//! rewrites the permission bits. So: owner, extended attributes, mode, times.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat,
    chownat, fstat, utimensat,
};
use rustix::io::Errno;

use super::extended;
use super::tree::magic_path;
use crate::record::{Attributes, Change, Time};

const MODE_BITS: u32 = 0o7777;
/// suid, sgid: what a change of owner drops.
const PRIVILEGE_BITS: u32 = 0o6000;

/// Sets what `change` names and nothing else.
pub(super) fn change(object: BorrowedFd<'_>, change: &Change) -> Result<(), Errno> {
    if change.uid.is_some() || change.gid.is_some() {
        let before = fstat(object)?;
        let capability = extended::get(object, extended::CAPABILITY)?;
        set_owner(object, change.uid, change.gid)?;
        if change.mode.is_none() && before.st_mode & PRIVILEGE_BITS != 0 {
            set_mode(object, &before, before.st_mode & MODE_BITS)?;
        }
        if let Some(capability) = capability {
            extended::set(object, extended::CAPABILITY, &capability)?;
        }
    }
    if let Some(mode) = change.mode {
        set_mode(object, &fstat(object)?, mode)?;
    }
    if change.accessed.is_some() || change.modified.is_some() {
        set_times(object, change.accessed, change.modified)?;
    }
    Ok(())
}

/// Makes owner, mode, times and extended attributes exactly these; what is so already is not touched.
pub(crate) fn set_exact<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    object: BorrowedFd<'_>,
    wanted: &Attributes,
    extended: &[(N, V)],
) -> Result<(), Errno> {
    let stat = fstat(object)?;
    let changes_owner = (stat.st_uid, stat.st_gid) != (wanted.uid, wanted.gid);
    if changes_owner {
        set_owner(object, Some(wanted.uid), Some(wanted.gid))?;
    }
    let changes_extended = extended::set_exact(object, extended)?;
    if changes_owner || changes_extended || stat.st_mode & MODE_BITS != wanted.mode {
        set_mode(object, &stat, wanted.mode)?;
    }
    set_times(object, Some(wanted.accessed), Some(wanted.modified))
}

pub(crate) fn set_modified(object: BorrowedFd<'_>, modified: Time) -> Result<(), Errno> {
    set_times(object, None, Some(modified))
}

/// What an object has.
pub(crate) fn attributes_of(stat: &Stat) -> Attributes {
    let time = |seconds, nanoseconds| Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    Attributes {
        mode: stat.st_mode & MODE_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn set_owner(object: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(object, c"", uid, gid, AtFlags::EMPTY_PATH)
}

fn set_mode(object: BorrowedFd<'_>, stat: &Stat, mode: u32) -> Result<(), Errno> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        // A symbolic link has no permissions of its own.
        return Ok(());
    }
    let mode = Mode::from_raw_mode(mode);
    chmodat(CWD, magic_path(object), mode, AtFlags::empty())
}

fn set_times(
    object: BorrowedFd<'_>,
    accessed: Option<Time>,
    modified: Option<Time>,
) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: timespec(accessed),
        last_modification: timespec(modified),
    };
    utimensat(object, c"", &times, AtFlags::EMPTY_PATH)
}

fn timespec(time: Option<Time>) -> Timespec {
    time.map_or(
        Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        |time| Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
    )
}
