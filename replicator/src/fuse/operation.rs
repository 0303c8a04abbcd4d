//! What the kernel asks for, as values.

use super::abi::{self, opcode, set};
use super::body::{Body, Malformed};
use super::value::{HandleId, NodeId, Unique};

/// A time that SETATTR sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

/// Attributes to set; `None` leaves one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Instant>,
    pub modified: Option<Instant>,
    /// The caller may not keep suid and sgid through this change of size.
    pub kill_privileges: bool,
}

/// Mode and mask of an object to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// With `S_IFMT` bits where the call has them.
    pub mode: u32,
    pub umask: u32,
}

/// One request without its header.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    Lookup {
        name: &'a [u8],
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgets<'a>),
    GetAttributes,
    Statx,
    SetAttributes(SetAttributes),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    /// `device` as `makedev` of the kernel's 32-bit encoding: (major, minor).
    MakeNode {
        name: &'a [u8],
        ownership: Ownership,
        device: (u32, u32),
    },
    MakeDirectory {
        name: &'a [u8],
        ownership: Ownership,
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDirectory {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: NodeId,
        new_name: &'a [u8],
        flags: u32,
    },
    /// The header's node is the directory.
    Link {
        target: NodeId,
        name: &'a [u8],
    },
    Open {
        flags: u32,
        kill_privileges: bool,
    },
    Create {
        name: &'a [u8],
        flags: u32,
        ownership: Ownership,
    },
    /// `O_TMPFILE`; the header's node is the directory.
    CreateUnnamed {
        flags: u32,
        ownership: Ownership,
    },
    Read {
        handle: HandleId,
        offset: u64,
        size: u32,
    },
    /// `flags` are those of the open file. `is_cached`: a page of a shared mapping, written back.
    Write {
        handle: HandleId,
        offset: u64,
        content: &'a [u8],
        flags: u32,
        is_cached: bool,
        kill_privileges: bool,
    },
    Release {
        handle: HandleId,
        flags: u32,
    },
    Synchronize {
        handle: HandleId,
        data_only: bool,
    },
    OpenDirectory,
    /// `plus`: every entry with its lookup.
    ReadDirectory {
        handle: HandleId,
        offset: u64,
        size: u32,
        plus: bool,
    },
    ReleaseDirectory {
        handle: HandleId,
    },
    SynchronizeDirectory {
        handle: HandleId,
        data_only: bool,
    },
    Capacity,
    SetExtended {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        kill_sgid: bool,
    },
    /// `size` 0 asks for the size.
    GetExtended {
        name: &'a [u8],
        size: u32,
    },
    ListExtended {
        size: u32,
    },
    RemoveExtended {
        name: &'a [u8],
    },
    Allocate {
        handle: HandleId,
        offset: u64,
        length: u64,
        mode: u32,
    },
    Seek {
        handle: HandleId,
        offset: u64,
        whence: u32,
    },
    CopyRange {
        offset: u64,
        target: NodeId,
        target_offset: u64,
        length: u64,
    },
    Control {
        command: u32,
        input: &'a [u8],
        output_size: u32,
        is_unrestricted: bool,
    },
    Interrupt {
        unique: Unique,
    },
    Initialize {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u64,
    },
    Destroy,
    /// Known to nobody here: answered ENOSYS, which the kernel remembers or falls back from.
    Unknown,
}

impl<'a> Operation<'a> {
    pub fn parse(code: u32, body: &'a [u8]) -> Result<Operation<'a>, Malformed> {
        let mut body = Body::new(body);
        Ok(match code {
            opcode::LOOKUP => Operation::Lookup { name: body.name()? },
            opcode::FORGET => Operation::Forget { count: body.u64()? },
            opcode::BATCH_FORGET => Operation::BatchForget(Forgets::parse(body)?),
            opcode::GETATTR => Operation::GetAttributes,
            opcode::STATX => Operation::Statx,
            opcode::SETATTR => Operation::SetAttributes(set_attributes(body)?),
            opcode::READLINK => Operation::ReadLink,
            opcode::STATFS => Operation::Capacity,
            opcode::OPENDIR => Operation::OpenDirectory,
            opcode::INIT => initialize(body)?,
            opcode::DESTROY => Operation::Destroy,
            opcode::INTERRUPT => Operation::Interrupt {
                unique: Unique(body.u64()?),
            },
            opcode::SYMLINK..=opcode::LINK | opcode::RENAME2 | opcode::CREATE | opcode::TMPFILE => {
                Self::parse_name(code, body)?
            }
            opcode::SETXATTR..=opcode::REMOVEXATTR => Self::parse_extended(code, body)?,
            _ => Self::parse_open_file(code, body)?,
        })
    }

    /// Calls that make, remove or move names.
    fn parse_name(code: u32, mut body: Body<'a>) -> Result<Operation<'a>, Malformed> {
        Ok(match code {
            opcode::SYMLINK => Operation::Symlink {
                name: body.name()?,
                target: body.string()?,
            },
            opcode::MKNOD => {
                let (mode, device, umask) = (body.u32()?, body.u32()?, body.u32()?);
                body.skip(4)?;
                let ownership = Ownership { mode, umask };
                Operation::MakeNode {
                    name: body.name()?,
                    ownership,
                    device: decode_device(device),
                }
            }
            opcode::MKDIR => {
                let ownership = Ownership {
                    mode: body.u32()?,
                    umask: body.u32()?,
                };
                Operation::MakeDirectory {
                    name: body.name()?,
                    ownership,
                }
            }
            opcode::UNLINK => Operation::Unlink { name: body.name()? },
            opcode::RMDIR => Operation::RemoveDirectory { name: body.name()? },
            opcode::RENAME | opcode::RENAME2 => {
                let new_parent = NodeId(body.u64()?);
                let mut flags = 0;
                if code == opcode::RENAME2 {
                    flags = body.u32()?;
                    body.skip(4)?;
                }
                Operation::Rename {
                    name: body.name()?,
                    new_parent,
                    new_name: body.name()?,
                    flags,
                }
            }
            opcode::LINK => Operation::Link {
                target: NodeId(body.u64()?),
                name: body.name()?,
            },
            opcode::CREATE | opcode::TMPFILE => {
                let (flags, mode, umask) = (body.u32()?, body.u32()?, body.u32()?);
                body.skip(4)?;
                let ownership = Ownership { mode, umask };
                if code == opcode::TMPFILE {
                    Operation::CreateUnnamed { flags, ownership }
                } else {
                    Operation::Create {
                        name: body.name()?,
                        flags,
                        ownership,
                    }
                }
            }
            _ => Operation::Unknown,
        })
    }

    fn parse_extended(code: u32, mut body: Body<'a>) -> Result<Operation<'a>, Malformed> {
        Ok(match code {
            opcode::SETXATTR => {
                let (size, flags, extension) = (body.u32()?, body.u32()?, body.u32()?);
                body.skip(4)?;
                Operation::SetExtended {
                    name: body.string()?,
                    value: body.bytes(size as usize)?,
                    flags,
                    kill_sgid: extension & abi::SETXATTR_ACL_KILL_SGID != 0,
                }
            }
            opcode::GETXATTR => {
                let size = body.u32()?;
                body.skip(4)?;
                Operation::GetExtended {
                    name: body.string()?,
                    size,
                }
            }
            opcode::LISTXATTR => Operation::ListExtended { size: body.u32()? },
            opcode::REMOVEXATTR => Operation::RemoveExtended {
                name: body.string()?,
            },
            _ => Operation::Unknown,
        })
    }

    /// Calls on an open file or directory.
    fn parse_open_file(code: u32, mut body: Body<'a>) -> Result<Operation<'a>, Malformed> {
        if code == opcode::OPEN {
            let flags = body.u32()?;
            return Ok(Operation::Open {
                flags,
                kill_privileges: body.u32()? & abi::OPEN_KILL_SUIDGID != 0,
            });
        }
        if !matches!(
            code,
            opcode::READ
                | opcode::WRITE
                | opcode::RELEASE
                | opcode::FSYNC
                | opcode::READDIR
                | opcode::READDIRPLUS
                | opcode::RELEASEDIR
                | opcode::FSYNCDIR
                | opcode::IOCTL
                | opcode::FALLOCATE
                | opcode::LSEEK
                | opcode::COPY_FILE_RANGE
        ) {
            return Ok(Operation::Unknown);
        }
        let handle = HandleId(body.u64()?);
        Ok(match code {
            opcode::READ => Operation::Read {
                handle,
                offset: body.u64()?,
                size: body.u32()?,
            },
            opcode::WRITE => write(handle, body)?,
            opcode::RELEASE => Operation::Release {
                handle,
                flags: body.u32()?,
            },
            opcode::RELEASEDIR => Operation::ReleaseDirectory { handle },
            opcode::FSYNC => Operation::Synchronize {
                handle,
                data_only: is_data_only(body)?,
            },
            opcode::FSYNCDIR => Operation::SynchronizeDirectory {
                handle,
                data_only: is_data_only(body)?,
            },
            opcode::READDIR | opcode::READDIRPLUS => Operation::ReadDirectory {
                handle,
                offset: body.u64()?,
                size: body.u32()?,
                plus: code == opcode::READDIRPLUS,
            },
            opcode::IOCTL => control(body)?,
            opcode::FALLOCATE => Operation::Allocate {
                handle,
                offset: body.u64()?,
                length: body.u64()?,
                mode: body.u32()?,
            },
            opcode::LSEEK => Operation::Seek {
                handle,
                offset: body.u64()?,
                whence: body.u32()?,
            },
            _ => {
                let (offset, target) = (body.u64()?, NodeId(body.u64()?));
                body.skip(8)?;
                Operation::CopyRange {
                    offset,
                    target,
                    target_offset: body.u64()?,
                    length: body.u64()?,
                }
            }
        })
    }
}

/// Pairs of node and count, validated when the request was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(&'a [u8]);

impl<'a> Forgets<'a> {
    const PAIR: usize = 16;

    fn parse(mut body: Body<'a>) -> Result<Self, Malformed> {
        let count = body.u32()? as usize;
        body.skip(4)?;
        let length = count
            .checked_mul(Self::PAIR)
            .ok_or(Malformed("too many nodes to forget"))?;
        body.bytes(length).map(Forgets)
    }
}

impl Iterator for Forgets<'_> {
    type Item = (NodeId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let mut body = Body::new(self.0);
        let pair = (NodeId(body.u64().ok()?), body.u64().ok()?);
        self.0 = body.rest();
        Some(pair)
    }
}

fn set_attributes(mut body: Body<'_>) -> Result<SetAttributes, Malformed> {
    let valid = body.u32()?;
    body.skip(4 + 8)?;
    let size = body.u64()?;
    body.skip(8)?;
    let (accessed, modified) = (body.i64()?, body.i64()?);
    body.skip(8)?;
    let (accessed_nanoseconds, modified_nanoseconds) = (body.u32()?, body.u32()?);
    body.skip(4)?;
    let mode = body.u32()?;
    body.skip(4)?;
    let (uid, gid) = (body.u32()?, body.u32()?);
    let has = |bit: u32| valid & bit != 0;
    let instant = |set: u32, now: u32, seconds: i64, nanoseconds: u32| match (has(set), has(now)) {
        (_, true) => Some(Instant::Now),
        (true, false) => Some(Instant::At {
            seconds,
            nanoseconds,
        }),
        (false, false) => None,
    };
    Ok(SetAttributes {
        mode: has(set::MODE).then_some(mode),
        uid: has(set::UID).then_some(uid),
        gid: has(set::GID).then_some(gid),
        size: has(set::SIZE).then_some(size),
        accessed: instant(set::ATIME, set::ATIME_NOW, accessed, accessed_nanoseconds),
        modified: instant(set::MTIME, set::MTIME_NOW, modified, modified_nanoseconds),
        kill_privileges: has(set::KILL_SUIDGID),
    })
}

fn initialize<'a>(mut body: Body<'_>) -> Result<Operation<'a>, Malformed> {
    let (major, minor, max_readahead) = (body.u32()?, body.u32()?, body.u32()?);
    let low = u64::from(body.u32()?);
    let high = if low & abi::init::INIT_EXT != 0 {
        u64::from(body.u32()?)
    } else {
        0
    };
    Ok(Operation::Initialize {
        major,
        minor,
        max_readahead,
        flags: high << 32 | low,
    })
}

fn write(handle: HandleId, mut body: Body<'_>) -> Result<Operation<'_>, Malformed> {
    let (offset, size, write_flags) = (body.u64()?, body.u32()?, body.u32()?);
    body.skip(8)?;
    let flags = body.u32()?;
    body.skip(4)?;
    Ok(Operation::Write {
        handle,
        offset,
        content: body.bytes(size as usize)?,
        flags,
        is_cached: write_flags & abi::WRITE_CACHE != 0,
        kill_privileges: write_flags & abi::WRITE_KILL_SUIDGID != 0,
    })
}

fn control(mut body: Body<'_>) -> Result<Operation<'_>, Malformed> {
    const UNRESTRICTED: u32 = 1 << 1;
    let (flags, command) = (body.u32()?, body.u32()?);
    body.skip(8)?;
    let (input_size, output_size) = (body.u32()?, body.u32()?);
    let input = body.bytes(input_size as usize)?;
    Ok(Operation::Control {
        command,
        input,
        output_size,
        is_unrestricted: flags & UNRESTRICTED != 0,
    })
}

fn is_data_only(mut body: Body<'_>) -> Result<bool, Malformed> {
    Ok(body.u32()? & abi::FSYNC_FDATASYNC != 0)
}

/// The kernel's `new_encode_dev`: minor bits 0-7, major bits 8-19, minor bits 8-19 from bit 20.
fn decode_device(device: u32) -> (u32, u32) {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    (major, minor)
}

/// The inverse, for attributes.
pub fn encode_device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}
