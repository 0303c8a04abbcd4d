//! A model of the primary: does an operation on a plain directory and writes the records that tell of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use telamon_replicator::identity::Codec;
use telamon_replicator::journal::Entry;
use telamon_replicator::record::{Attributes, Change, FileId, Kind, Place, Record, Time};
use telamon_replicator::wire::{Listing, Logged};
use tempfile::TempDir;

use crate::secondary::scratch;
use crate::snapshot::extended;

pub struct Primary {
    directory: TempDir,
    codec: Codec,
    pub log: Vec<Logged<'static>>,
    /// A peer is being brought up: what moves is described.
    pub describes: bool,
    /// Files held open, also after their last name is gone.
    pub held: BTreeMap<u64, (FileId, File)>,
}

impl Primary {
    pub fn new() -> Primary {
        let directory = scratch();
        let root = File::open(directory.path()).unwrap();
        Primary {
            codec: Codec::of(root.as_fd()).unwrap(),
            directory,
            log: Vec::new(),
            describes: false,
            held: BTreeMap::new(),
        }
    }

    pub fn into_directory(self) -> TempDir {
        self.directory
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn root(&self) -> FileId {
        self.id(self.path())
    }

    pub fn id(&self, path: &Path) -> FileId {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = open(path, flags, Mode::empty()).unwrap();
        self.id_of(node.as_fd())
    }

    pub fn id_of(&self, object: BorrowedFd<'_>) -> FileId {
        let identity = self.codec.identify(object).unwrap();
        FileId {
            tree: 0,
            inode: identity.inode,
            generation: identity.generation,
        }
    }

    pub fn append(&mut self, record: Record<'static>) {
        self.log.push(Logged::Record(record));
    }

    pub fn place(&self, path: &Path) -> Place<'static> {
        let parent = path.parent().unwrap();
        Place {
            parent: self.id(parent),
            name: Cow::Owned(path.file_name().unwrap().as_bytes().to_vec()),
            parent_modified: attributes(parent).modified,
        }
    }

    pub fn describe(&self, path: &Path) -> Entry {
        let metadata = path.symlink_metadata().unwrap();
        Entry {
            name: Vec::new(),
            file: self.id(path),
            kind: kind(path),
            attributes: attributes(path),
            size: if metadata.is_file() {
                metadata.len()
            } else {
                0
            },
            links: u32::try_from(metadata.nlink()).unwrap(),
            extended: extended(path),
        }
    }

    pub fn list(&self, directory: &Path) -> Listing {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| {
            let entry = entry.unwrap();
            Entry {
                name: entry.file_name().as_bytes().to_vec(),
                ..self.describe(&entry.path())
            }
        });
        Listing {
            directory: self.id(directory),
            itself: Some(self.describe(directory)),
            entries: entries.collect(),
            is_last: true,
        }
    }

    /// Every path below the root but not the root, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path().to_path_buf()];
        while let Some(directory) = todo.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    /// Tells the root's attributes, which nothing else tells of an empty directory.
    pub fn touch_root(&mut self) {
        let now = attributes(self.path());
        let change = Change {
            mode: Some(now.mode),
            uid: Some(now.uid),
            gid: Some(now.gid),
            accessed: Some(now.accessed),
            modified: Some(now.modified),
        };
        let file = self.root();
        self.append(Record::SetAttributes { file, change });
    }

    pub fn find(&self, file: FileId) -> Option<PathBuf> {
        let root = self.path().to_path_buf();
        self.paths()
            .into_iter()
            .chain([root])
            .find(|path| self.id(path) == file)
    }

    /// An object appeared at `path`.
    pub fn created(&mut self, path: &Path) {
        let record = Record::Create {
            place: self.place(path),
            file: self.id(path),
            kind: kind(path),
            attributes: attributes(path),
            extended: cow(extended(path)),
        };
        self.append(record);
    }

    pub fn wrote(&mut self, file: FileId, on: &File, offset: u64, length: usize) {
        let mut content = vec![0; length];
        on.read_exact_at(&mut content, offset).unwrap();
        self.append(Record::Data {
            file,
            offset,
            content: Cow::Owned(content),
        });
        self.modified(file, on);
    }

    /// What a change of content has on the side.
    pub fn modified(&mut self, file: FileId, on: &File) {
        let metadata = on.metadata().unwrap();
        self.append(Record::SetAttributes {
            file,
            change: Change {
                modified: Some(time(metadata.mtime(), metadata.mtime_nsec())),
                ..Change::default()
            },
        });
    }

    /// A name is gone; so is the object if it was the last one and nobody holds it.
    pub fn unnamed(&mut self, file: FileId, links_left: u64) {
        if links_left == 0 && !self.held.contains_key(&file.inode) {
            self.append(Record::Forget { file });
        }
    }
}

pub fn kind(path: &Path) -> Kind<'static> {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    if kind.is_file() {
        Kind::File
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).unwrap();
        Kind::Symlink(Cow::Owned(target.as_os_str().as_bytes().to_vec()))
    } else {
        let is_device = kind.is_char_device() || kind.is_block_device();
        Kind::Special {
            format: metadata.mode() & libc::S_IFMT,
            device: if is_device { metadata.rdev() } else { 0 },
        }
    }
}

pub fn attributes(path: &Path) -> Attributes {
    attributes_of(&path.symlink_metadata().unwrap())
}

pub fn attributes_of(metadata: &Metadata) -> Attributes {
    Attributes {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        accessed: time(metadata.atime(), metadata.atime_nsec()),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
    }
}

pub fn time(seconds: i64, nanoseconds: i64) -> Time {
    Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap(),
    }
}

pub fn cow(extended: Vec<(Vec<u8>, Vec<u8>)>) -> telamon_replicator::record::Extended<'static> {
    let extended = extended.into_iter();
    extended
        .map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)))
        .collect()
}

pub fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
