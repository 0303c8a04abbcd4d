//! A request's bytes, read as an [`Operation`].

use super::abi::{self, opcode, set};
use super::body::{Body, Malformed};
use super::operation::{Forgets, Instant, Operation, Ownership, SetAttributes};
use super::value::{HandleId, NodeId, Unique, decode_device};

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
