//! What an entry must be before anything is tried: values that no primary can have, whatever its tree looks like, are refused.
//!
//! The wire refuses most of them already; here they are refused because what follows relies on it.

use super::ApplyError;
use crate::journal::Entry;
use crate::record::{Attributes, FileId, Kind, Place, Record, Time};
use crate::wire::Logged;

const NAME_BYTES: usize = 255;
const TARGET_BYTES: usize = 4095;
const RENAME_FLAGS: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;

/// Checks entries for a module with this many directories.
pub(super) struct Validity {
    pub trees: usize,
}

impl Validity {
    pub fn check(&self, entry: &Logged<'_>) -> Result<(), ApplyError> {
        let what = match entry {
            Logged::Record(record) => self.fault_of_record(record),
            Logged::Listing(listing) => self.fault_of_file(listing.directory).or_else(|| {
                let itself = listing
                    .itself
                    .iter()
                    .find_map(|entry| self.fault_of_entry(entry));
                itself.or_else(|| {
                    listing.entries.iter().find_map(|entry| {
                        fault_of_name(&entry.name)
                            .or_else(|| self.fault_of_entry(entry))
                            .or_else(|| fault_if_apart(listing.directory, entry.file))
                    })
                })
            }),
            Logged::Gone { directory } => self.fault_of_file(*directory),
            Logged::Describe(entry) => self.fault_of_entry(entry),
            Logged::ResyncEnd => None,
        };
        what.map_or(Ok(()), |what| Err(ApplyError::Malformed { what }))
    }

    pub fn check_file(&self, file: FileId) -> Result<(), ApplyError> {
        let what = self.fault_of_file(file);
        what.map_or(Ok(()), |what| Err(ApplyError::Malformed { what }))
    }

    fn fault_of_record(&self, record: &Record<'_>) -> Option<&'static str> {
        match record {
            Record::Create {
                place,
                file,
                kind,
                attributes,
                extended,
            } => self
                .fault_of_place(place, *file)
                .or_else(|| fault_of_kind(kind))
                .or_else(|| fault_of_attributes(attributes))
                .or_else(|| {
                    let mut names = extended.iter().map(|(name, _)| name);
                    names.find_map(|name| fault_of_extended(name))
                }),
            Record::CreateUnnamed { file, attributes } => self
                .fault_of_file(*file)
                .or_else(|| fault_of_attributes(attributes)),
            Record::Link { place, file } => self.fault_of_place(place, *file),
            Record::Unlink { place } | Record::RemoveDirectory { place } => {
                self.fault_of_place(place, place.parent)
            }
            Record::Rename {
                from,
                to,
                flags,
                file,
                exchanged,
            } => self
                .fault_of_place(from, *file)
                .or_else(|| self.fault_of_place(to, *file))
                .or_else(|| fault_of_flags(*flags, exchanged.is_some()))
                .or_else(|| exchanged.and_then(|file| self.fault_of_place(to, file))),
            Record::Data {
                file,
                offset,
                content,
            } => self.fault_of_range(*file, *offset, content.len() as u64),
            Record::Zero {
                file,
                offset,
                length,
                ..
            }
            | Record::Punch {
                file,
                offset,
                length,
            }
            | Record::Allocate {
                file,
                offset,
                length,
                ..
            } => self.fault_of_range(*file, *offset, *length),
            Record::Truncate { file, size } => self.fault_of_range(*file, *size, 0),
            Record::SetAttributes { file, change } => self.fault_of_file(*file).or_else(|| {
                let attributes = Attributes {
                    mode: change.mode.unwrap_or_default(),
                    uid: change.uid.unwrap_or_default(),
                    gid: change.gid.unwrap_or_default(),
                    accessed: change.accessed.unwrap_or_default(),
                    modified: change.modified.unwrap_or_default(),
                };
                fault_of_attributes(&attributes)
            }),
            Record::SetExtended { file, name, .. } | Record::RemoveExtended { file, name } => self
                .fault_of_file(*file)
                .or_else(|| fault_of_extended(name)),
            Record::Sync { file, modified, .. } => self
                .fault_of_file(*file)
                .or_else(|| modified.and_then(fault_of_time)),
            Record::Forget { file } => self.fault_of_file(*file),
        }
    }

    fn fault_of_entry(&self, entry: &Entry) -> Option<&'static str> {
        self.fault_of_file(entry.file)
            .or_else(|| fault_of_kind(&entry.kind))
            .or_else(|| fault_of_attributes(&entry.attributes))
            .or_else(|| {
                let mut names = entry.extended.iter().map(|(name, _)| name);
                names.find_map(|name| fault_of_extended(name))
            })
    }

    fn fault_of_file(&self, file: FileId) -> Option<&'static str> {
        (usize::from(file.tree) >= self.trees)
            .then_some("an object of a directory that is not configured")
    }

    fn fault_of_place(&self, place: &Place<'_>, file: FileId) -> Option<&'static str> {
        self.fault_of_file(place.parent)
            .or_else(|| fault_if_apart(place.parent, file))
            .or_else(|| fault_of_name(&place.name))
            .or_else(|| fault_of_time(place.parent_modified))
    }

    fn fault_of_range(&self, file: FileId, offset: u64, length: u64) -> Option<&'static str> {
        let end = offset.checked_add(length);
        let is_possible = end.is_some_and(|end| i64::try_from(end).is_ok());
        self.fault_of_file(file)
            .or_else(|| (!is_possible).then_some("a range that no file has"))
    }
}

fn fault_if_apart(directory: FileId, file: FileId) -> Option<&'static str> {
    (directory.tree != file.tree).then_some("a name for an object of another directory")
}

fn fault_of_name(name: &[u8]) -> Option<&'static str> {
    let is_single = !name.iter().any(|&byte| byte == b'/' || byte == 0);
    let is_name = !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_BYTES;
    (!is_single || !is_name).then_some("a name that cannot stand in a directory")
}

fn fault_of_kind(kind: &Kind<'_>) -> Option<&'static str> {
    match kind {
        Kind::File | Kind::Directory => None,
        Kind::Symlink(target) => {
            let is_target = !target.is_empty() && target.len() <= TARGET_BYTES;
            (!is_target || target.contains(&0)).then_some("a target that no symbolic link has")
        }
        Kind::Special { format, .. } => {
            const FORMATS: [u32; 4] = [libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFBLK, libc::S_IFCHR];
            (!FORMATS.contains(format)).then_some("an object of a kind that does not exist")
        }
    }
}

fn fault_of_attributes(attributes: &Attributes) -> Option<&'static str> {
    let Attributes {
        mode,
        uid,
        gid,
        accessed,
        modified,
    } = attributes;
    if *mode & !0o7777 != 0 {
        return Some("permission bits that do not exist");
    }
    // To the kernel it means "leave it".
    if *uid == u32::MAX || *gid == u32::MAX {
        return Some("an owner that cannot exist");
    }
    fault_of_time(*accessed).or_else(|| fault_of_time(*modified))
}

fn fault_of_time(time: Time) -> Option<&'static str> {
    // Beyond it lie the kernel's words for "now" and "leave it".
    (time.nanoseconds >= 1_000_000_000).then_some("a time that does not exist")
}

fn fault_of_extended(name: &[u8]) -> Option<&'static str> {
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES && !name.contains(&0);
    (!is_name).then_some("an extended attribute that cannot have this name")
}

fn fault_of_flags(flags: u32, has_exchanged: bool) -> Option<&'static str> {
    let exchanges = flags & libc::RENAME_EXCHANGE != 0;
    let is_possible = flags & !RENAME_FLAGS == 0
        && exchanges == has_exchanged
        && (!exchanges || flags == libc::RENAME_EXCHANGE);
    (!is_possible).then_some("a rename with impossible flags")
}
