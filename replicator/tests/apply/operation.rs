//! Random operations on the model of the primary. One that the file system refuses leaves no record.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, chownat,
    fallocate, linkat, mknodat, openat, renameat_with, utimensat,
};
use telamon_replicator::record::{Change, FileId, Record};
use telamon_replicator::wire::Logged;

use crate::primary::{Primary, attributes, attributes_of, cow, name};
use crate::snapshot::{extended, extended_of};

/// Numbers choose among what is there at that moment.
#[derive(Clone, Debug)]
pub enum Operation {
    Create {
        directory: u8,
        name: u8,
        kind: u8,
        mode: u16,
    },
    Unlink {
        path: u8,
    },
    Link {
        path: u8,
        directory: u8,
        name: u8,
    },
    Rename {
        path: u8,
        directory: u8,
        name: u8,
        flags: u8,
    },
    Write {
        path: u8,
        offset: u32,
        length: u16,
        byte: u8,
    },
    Range {
        path: u8,
        offset: u32,
        length: u32,
        how: u8,
    },
    Truncate {
        path: u8,
        size: u32,
    },
    ChangeMode {
        path: u8,
        mode: u16,
    },
    ChangeOwner {
        path: u8,
        uid: u8,
        gid: u8,
    },
    SetExtended {
        path: u8,
        which: u8,
        value: u8,
    },
    RemoveExtended {
        path: u8,
        which: u8,
    },
    SetTimes {
        path: u8,
        seconds: u16,
    },
    CreateUnnamed {
        mode: u16,
    },
    Hold {
        path: u8,
    },
    LinkHeld {
        which: u8,
        directory: u8,
        name: u8,
    },
    WriteHeld {
        which: u8,
        offset: u32,
        byte: u8,
    },
    Release {
        which: u8,
    },
    Sync {
        path: u8,
        data_only: bool,
    },
}

const NAMES: [&[u8]; 6] = [b"a", b"b", b"c c", b"d\nd", b"\xff\xfe", b"-f"];
const OWNERS: [u32; 3] = [0, 1000, 65_534];
/// Extended attributes that objects take; the last two depend on the kind of object.
const EXTENDED: [&[u8]; 6] = [
    b"user.color",
    b"user.empty",
    b"trusted.mark",
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

pub fn operations(count: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..count)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let offset = || prop_oneof![0_u32..20_000, (0_u32..64).prop_map(|page| page * 4096)];
    prop_oneof![
        6 => any::<(u8, u8, u8, u16)>()
            .prop_map(|(directory, name, kind, mode)| O::Create { directory, name, kind, mode }),
        2 => any::<u8>().prop_map(|path| O::Unlink { path }),
        2 => any::<(u8, u8, u8)>().prop_map(|(path, directory, name)| O::Link { path, directory, name }),
        4 => any::<(u8, u8, u8, u8)>()
            .prop_map(|(path, directory, name, flags)| O::Rename { path, directory, name, flags }),
        4 => (any::<u8>(), offset(), 1_u16..9000, any::<u8>())
            .prop_map(|(path, offset, length, byte)| O::Write { path, offset, length, byte }),
        3 => (any::<u8>(), offset(), 1_u32..40_000, any::<u8>())
            .prop_map(|(path, offset, length, how)| O::Range { path, offset, length, how }),
        1 => (any::<u8>(), offset()).prop_map(|(path, size)| O::Truncate { path, size }),
        1 => any::<(u8, u16)>().prop_map(|(path, mode)| O::ChangeMode { path, mode }),
        1 => any::<(u8, u8, u8)>().prop_map(|(path, uid, gid)| O::ChangeOwner { path, uid, gid }),
        2 => any::<(u8, u8, u8)>()
            .prop_map(|(path, which, value)| O::SetExtended { path, which, value }),
        1 => any::<(u8, u8)>().prop_map(|(path, which)| O::RemoveExtended { path, which }),
        1 => any::<(u8, u16)>().prop_map(|(path, seconds)| O::SetTimes { path, seconds }),
        1 => any::<u16>().prop_map(|mode| O::CreateUnnamed { mode }),
        1 => any::<u8>().prop_map(|path| O::Hold { path }),
        1 => any::<(u8, u8, u8)>()
            .prop_map(|(which, directory, name)| O::LinkHeld { which, directory, name }),
        1 => (any::<u8>(), offset(), any::<u8>())
            .prop_map(|(which, offset, byte)| O::WriteHeld { which, offset, byte }),
        1 => any::<u8>().prop_map(|which| O::Release { which }),
        1 => any::<(u8, bool)>().prop_map(|(path, data_only)| O::Sync { path, data_only }),
    ]
}

impl Primary {
    /// Does it, if the file system lets it, and appends its records.
    pub fn perform(&mut self, operation: &Operation) {
        // Refused is fine: the model's only task is to be exact about what did happen.
        let _ = self.attempt(operation);
    }

    fn attempt(&mut self, operation: &Operation) -> Option<()> {
        use Operation as O;
        match *operation {
            O::Create {
                directory,
                name,
                kind,
                mode,
            } => {
                let path = self.spot(directory, name);
                make(&path, kind, u32::from(mode) & 0o7777)?;
                self.created(&path);
            }
            O::Unlink { path } => self.remove(&self.choose(path)?)?,
            O::Link {
                path,
                directory,
                name,
            } => {
                let (from, to) = (self.choose(path)?, self.spot(directory, name));
                std::fs::hard_link(&from, &to).ok()?;
                self.linked(&to);
            }
            O::Rename {
                path,
                directory,
                name,
                flags,
            } => {
                let (from, to) = (self.choose(path)?, self.spot(directory, name));
                self.rename(&from, &to, flags)?;
            }
            O::SetTimes { path, seconds } => {
                let path = self.choose(path)?;
                let at = |seconds| rustix::fs::Timespec {
                    tv_sec: seconds,
                    tv_nsec: 123_456_789,
                };
                let times = rustix::fs::Timestamps {
                    last_access: at(i64::from(seconds)),
                    last_modification: at(i64::from(seconds) * 100_000 - 1_000_000_000),
                };
                utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                self.changed_attributes(&path);
            }
            O::ChangeMode { path, mode } => {
                let path = self.choose(path)?;
                if path.is_symlink() {
                    return None;
                }
                let mode = std::os::unix::fs::PermissionsExt::from_mode(u32::from(mode) & 0o7777);
                std::fs::set_permissions(&path, mode).ok()?;
                self.changed_attributes(&path);
            }
            O::ChangeOwner { path, uid, gid } => {
                let path = self.choose(path)?;
                let owner = |number: u8| OWNERS[usize::from(number) % OWNERS.len()];
                let (uid, gid) = (
                    rustix::fs::Uid::from_raw(owner(uid)),
                    rustix::fs::Gid::from_raw(owner(gid)),
                );
                let before = extended(&path);
                chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).ok()?;
                self.changed_attributes(&path);
                self.dropped_extended(&path, &before);
            }
            O::SetExtended { path, which, value } => {
                let (path, attribute) = (self.choose(path)?, extended_name(which));
                let value = extended_value(attribute, value);
                rustix::fs::lsetxattr(&path, attribute, &value, XattrFlags::empty()).ok()?;
                // An ACL changes the permission bits, and may vanish into them.
                self.appeared_extended(&path, attribute);
                self.changed_attributes(&path);
            }
            O::RemoveExtended { path, which } => {
                let (path, attribute) = (self.choose(path)?, extended_name(which));
                rustix::fs::lremovexattr(&path, attribute).ok()?;
                self.append(Record::RemoveExtended {
                    file: self.id(&path),
                    name: attribute.into(),
                });
            }
            O::Sync { path, data_only } => {
                let file = self.id(&self.choose(path)?);
                self.append(Record::Sync {
                    file,
                    data_only,
                    modified: None,
                });
            }
            _ => self.attempt_on_content(operation)?,
        }
        Some(())
    }

    fn attempt_on_content(&mut self, operation: &Operation) -> Option<()> {
        use Operation as O;
        match *operation {
            O::Write {
                path,
                offset,
                length,
                byte,
            } => {
                let path = self.choose_file(path)?;
                let before = extended(&path);
                let file = open(&path)?;
                let content: Vec<u8> = (0..length)
                    .map(|index| byte.wrapping_add(index.to_le_bytes()[0]))
                    .collect();
                file.write_all_at(&content, u64::from(offset)).ok()?;
                self.wrote(self.id(&path), &file, u64::from(offset), content.len());
                self.dropped_extended(&path, &before);
            }
            O::Range {
                path,
                offset,
                length,
                how,
            } => {
                let path = self.choose_file(path)?;
                self.change_range(&path, u64::from(offset), u64::from(length), how)?;
            }
            O::Truncate { path, size } => {
                let path = self.choose_file(path)?;
                let before = extended(&path);
                let file = open(&path)?;
                file.set_len(u64::from(size)).ok()?;
                let id = self.id(&path);
                self.append(Record::Truncate {
                    file: id,
                    size: u64::from(size),
                });
                self.modified(id, &file);
                self.dropped_extended(&path, &before);
            }
            O::CreateUnnamed { mode } => {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(u32::from(mode) & 0o777);
                let held = File::from(openat(CWD, self.path(), flags, mode).ok()?);
                let id = self.id_of(held.as_fd());
                let attributes = attributes_of(&held.metadata().ok()?);
                self.append(Record::CreateUnnamed {
                    file: id,
                    attributes,
                });
                // What it inherited from its directory.
                for (name, value) in cow(extended_of(&held)) {
                    self.append(Record::SetExtended {
                        file: id,
                        name,
                        value,
                    });
                }
                self.held.insert(id.inode, (id, held));
            }
            O::Hold { path } => {
                let path = self.choose_file(path)?;
                let file = open(&path)?;
                let id = self.id(&path);
                self.held.insert(id.inode, (id, file));
            }
            O::LinkHeld {
                which,
                directory,
                name,
            } => {
                let to = self.spot(directory, name);
                let (_, held) = self.chosen_held(which)?;
                linkat(held, c"", CWD, &to, AtFlags::EMPTY_PATH).ok()?;
                self.linked(&to);
            }
            O::WriteHeld {
                which,
                offset,
                byte,
            } => {
                let (id, held) = self.chosen_held(which)?;
                let (id, held) = (*id, held.try_clone().ok()?);
                held.write_all_at(&[byte; 700], u64::from(offset)).ok()?;
                self.wrote(id, &held, u64::from(offset), 700);
                // What a write drops is told by the object's names only, and it may have none.
                if let Some(path) = self.find(id) {
                    self.dropped_extended(&path, &[(EXTENDED[3].to_vec(), Vec::new())]);
                }
            }
            O::Release { which } => {
                let inode = self.chosen_held(which)?.0.inode;
                let (id, held) = self.held.remove(&inode)?;
                self.unnamed(id, held.metadata().ok()?.nlink());
            }
            _ => unreachable!("the rest is names and attributes"),
        }
        Some(())
    }

    fn change_range(&mut self, path: &Path, offset: u64, length: u64, how: u8) -> Option<()> {
        let before = extended(path);
        let (file, id) = (open(path)?, self.id(path));
        let keep_size = how & 4 != 0;
        let keep = if keep_size {
            FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::empty()
        };
        let (flags, record) = match how % 3 {
            0 => (
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                Record::Punch {
                    file: id,
                    offset,
                    length,
                },
            ),
            1 => (
                FallocateFlags::ZERO_RANGE | keep,
                Record::Zero {
                    file: id,
                    offset,
                    length,
                    keep_size,
                },
            ),
            _ => (
                keep,
                Record::Allocate {
                    file: id,
                    offset,
                    length,
                    keep_size,
                },
            ),
        };
        fallocate(&file, flags, offset, length).ok()?;
        self.append(record);
        self.modified(id, &file);
        self.dropped_extended(path, &before);
        Some(())
    }

    fn rename(&mut self, from: &Path, to: &Path, flags: u8) -> Option<()> {
        let flags = match flags % 8 {
            0 => RenameFlags::NOREPLACE,
            1 | 2 => RenameFlags::EXCHANGE,
            3 => RenameFlags::WHITEOUT,
            _ => RenameFlags::empty(),
        };
        let moved = self.id(from);
        let replaced = to
            .symlink_metadata()
            .ok()
            .map(|metadata| (self.id(to), metadata));
        if renameat_with(CWD, from, CWD, to, flags).is_err() {
            if flags == RenameFlags::WHITEOUT {
                // ext4 puts the whiteout in place first: a refusal after that leaves a new time behind.
                self.changed_attributes(from.parent()?);
            }
            return None;
        }
        if replaced.as_ref().is_some_and(|(other, _)| *other == moved) {
            return None;
        }
        let is_exchange = flags == RenameFlags::EXCHANGE;
        let exchanged = replaced
            .as_ref()
            .filter(|_| is_exchange)
            .map(|(other, _)| *other);
        if self.describes {
            self.log.push(Logged::Describe(self.describe(to)));
            if is_exchange {
                self.log.push(Logged::Describe(self.describe(from)));
            }
        }
        // A whiteout is a new object: the log tells it as one.
        let told = flags.difference(RenameFlags::WHITEOUT);
        let record = Record::Rename {
            from: self.place(from),
            to: self.place(to),
            flags: told.bits(),
            file: moved,
            exchanged,
        };
        self.append(record);
        if flags == RenameFlags::WHITEOUT {
            self.created(from);
        }
        if let Some((other, metadata)) = replaced.filter(|_| !is_exchange) {
            let left = if metadata.is_dir() {
                0
            } else {
                metadata.nlink() - 1
            };
            self.unnamed(other, left);
        }
        Some(())
    }

    fn remove(&mut self, path: &Path) -> Option<()> {
        let metadata = path.symlink_metadata().ok()?;
        let file = self.id(path);
        if metadata.is_dir() {
            std::fs::remove_dir(path).ok()?;
            let place = self.place(path);
            self.append(Record::RemoveDirectory { place });
            self.unnamed(file, 0);
        } else {
            std::fs::remove_file(path).ok()?;
            let place = self.place(path);
            self.append(Record::Unlink { place });
            self.unnamed(file, metadata.nlink() - 1);
        }
        Some(())
    }

    fn linked(&mut self, to: &Path) {
        if self.describes {
            self.log.push(Logged::Describe(self.describe(to)));
        }
        let record = Record::Link {
            place: self.place(to),
            file: self.id(to),
        };
        self.append(record);
    }

    fn changed_attributes(&mut self, path: &Path) {
        let now = attributes(path);
        let change = Change {
            mode: Some(now.mode),
            uid: Some(now.uid),
            gid: Some(now.gid),
            accessed: Some(now.accessed),
            modified: Some(now.modified),
        };
        let record = Record::SetAttributes {
            file: self.id(path),
            change,
        };
        self.append(record);
    }

    fn appeared_extended(&mut self, path: &Path, attribute: &[u8]) {
        let file = self.id(path);
        let now = extended(path)
            .into_iter()
            .find(|(name, _)| name == attribute);
        match now {
            Some(found) => {
                for (name, value) in cow(vec![found]) {
                    self.append(Record::SetExtended { file, name, value });
                }
            }
            None => self.append(Record::RemoveExtended {
                file,
                name: attribute.to_vec().into(),
            }),
        }
    }

    /// The kernel removes file capabilities on the side.
    fn dropped_extended(&mut self, path: &Path, before: &[(Vec<u8>, Vec<u8>)]) {
        let now = extended(path);
        for (name, _) in before {
            if !now.iter().any(|(other, _)| other == name) {
                self.append(Record::RemoveExtended {
                    file: self.id(path),
                    name: name.clone().into(),
                });
            }
        }
    }

    fn choose(&self, number: u8) -> Option<PathBuf> {
        let paths = self.paths();
        paths.get(usize::from(number) % paths.len().max(1)).cloned()
    }

    fn choose_file(&self, number: u8) -> Option<PathBuf> {
        let mut files = self.paths();
        files.retain(|path| path.symlink_metadata().unwrap().is_file());
        files.get(usize::from(number) % files.len().max(1)).cloned()
    }

    fn spot(&self, directory: u8, number: u8) -> PathBuf {
        let mut directories: Vec<PathBuf> = self.paths();
        directories.retain(|path| path.symlink_metadata().unwrap().is_dir());
        directories.insert(0, self.path().to_path_buf());
        let directory = &directories[usize::from(directory) % directories.len()];
        directory.join(name(NAMES[usize::from(number) % NAMES.len()]))
    }

    fn chosen_held(&self, number: u8) -> Option<&(FileId, File)> {
        self.held
            .values()
            .nth(usize::from(number) % self.held.len().max(1))
    }
}

fn make(path: &Path, kind: u8, mode: u32) -> Option<()> {
    match kind % 8 {
        0..=2 => {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
                .ok()?;
        }
        3 | 4 => std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), mode)
            .create(path)
            .ok()?,
        5 => symlink(if mode & 1 == 0 { "/etc" } else { "a" }, path).ok()?,
        6 => mknodat(
            CWD,
            path,
            FileType::Fifo,
            Mode::from_raw_mode(mode & 0o777),
            0,
        )
        .ok()?,
        _ => {
            let device = rustix::fs::makedev(1, 3 + (mode & 3));
            mknodat(
                CWD,
                path,
                FileType::CharacterDevice,
                Mode::from_raw_mode(mode & 0o777),
                device,
            )
            .ok()?;
        }
    }
    Some(())
}

fn open(path: &Path) -> Option<File> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    OpenOptions::new().read(true).write(true).open(path).ok()
}

fn extended_name(which: u8) -> &'static [u8] {
    EXTENDED[usize::from(which) % EXTENDED.len()]
}

fn extended_value(attribute: &[u8], value: u8) -> Vec<u8> {
    match attribute {
        b"user.empty" => Vec::new(),
        b"security.capability" => {
            let mut capability = [0; 20];
            capability[3] = 2;
            capability[5] = value;
            capability.to_vec()
        }
        name if name.starts_with(b"system.") => acl(value),
        _ => vec![value; 1 + usize::from(value)],
    }
}

/// An ACL with a named user: `user::rwx user:1000:? group::r-x mask::rwx other::r--`.
fn acl(value: u8) -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, u32::MAX),
        (0x02, u16::from(value & 7), 1000),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 4, u32::MAX),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
