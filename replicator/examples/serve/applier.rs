//! The simplest thing that can follow a journal: each record as one or two system calls on a copy of the directories.
//!
//! Strict on purpose: a record that names an unknown object, or that the copy refuses, is an error. It syncs nothing.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
    XattrFlags,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use telamon_replicator::identity::{Codec, Identity};
use telamon_replicator::journal::Trees;
use telamon_replicator::record::{Attributes, Change, FileId, Kind, Place, Record, Time};

/// One copied directory.
struct Copy {
    root: OwnedFd,
    codec: Codec,
}

/// The copy of an object.
enum Object {
    Named(Identity),
    Unnamed(OwnedFd),
}

pub struct Applier {
    copies: Vec<Copy>,
    objects: HashMap<FileId, Object>,
    /// What lost a name last: content of a file that is still open may stand between the end of its last name and its `Forget`.
    /// Names are removed one after another, so there is one such object at most.
    parting: Option<OwnedFd>,
}

impl Applier {
    pub fn new(copies: &[PathBuf]) -> Result<Applier> {
        let copies = copies.iter().map(|path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(path, flags, Mode::empty())
                .with_context(|| path.display().to_string())?;
            let codec = Codec::of(root.as_fd())?;
            Ok(Copy { root, codec })
        });
        Ok(Applier {
            copies: copies.collect::<Result<_>>()?,
            objects: HashMap::new(),
            parting: None,
        })
    }

    /// Binds every object that is there already to the object of the same name in the copy.
    pub fn bind_all(&mut self, trees: &dyn Trees) -> Result<()> {
        for root in trees.roots() {
            let copy = &self.copies[usize::from(root.tree)];
            let identity = copy.codec.identify(copy.root.as_fd())?;
            self.objects.insert(root, Object::Named(identity));
            self.bind_below(trees, root)?;
        }
        Ok(())
    }

    fn bind_below(&mut self, trees: &dyn Trees, directory: FileId) -> Result<()> {
        let mut children = Vec::new();
        trees.list(directory, &mut |_, entries| {
            let directories =
                |entry: &telamon_replicator::journal::Entry| entry.kind == Kind::Directory;
            children = entries
                .iter()
                .map(|entry| (entry.name.clone(), entry.file, directories(entry)))
                .collect();
        })?;
        let parent = self.open(directory, OFlags::PATH)?;
        for (name, file, is_directory) in children {
            let opened = named(&parent, &name)?;
            let identity = self.copies[usize::from(file.tree)]
                .codec
                .identify(opened.as_fd())?;
            self.objects.insert(file, Object::Named(identity));
            if is_directory {
                self.bind_below(trees, file)?;
            }
        }
        Ok(())
    }

    fn open(&self, file: FileId, flags: OFlags) -> Result<OwnedFd> {
        let copy = &self.copies[usize::from(file.tree)];
        match self
            .objects
            .get(&file)
            .with_context(|| format!("{file:?} is unknown"))?
        {
            Object::Named(identity) => Ok(copy.codec.open(copy.root.as_fd(), *identity, flags)?),
            Object::Unnamed(fd) => Ok(rustix::fs::open(
                magic(fd),
                flags & !OFlags::NOFOLLOW,
                Mode::empty(),
            )?),
        }
    }

    fn path(&self, file: FileId) -> Result<OwnedFd> {
        self.open(file, OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn content(&self, file: FileId) -> Result<File> {
        Ok(File::from(self.open(file, OFlags::RDWR)?))
    }

    pub fn apply(&mut self, record: &Record<'_>) -> Result<()> {
        match record {
            Record::Create {
                place,
                file,
                kind,
                attributes,
                extended,
            } => {
                self.create(place, *file, kind, attributes)?;
                for (name, value) in extended {
                    self.set_extended(*file, name, value)?;
                }
                // ACLs move the mode.
                self.set_attributes(*file, &all(attributes))
            }
            Record::CreateUnnamed { file, attributes } => {
                let root = &self.copies[usize::from(file.tree)].root;
                let unnamed =
                    rustix::fs::openat(root, ".", OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR)?;
                self.objects.insert(*file, Object::Unnamed(unnamed));
                self.set_attributes(*file, &all(attributes))
            }
            Record::Link { place, file } => self.link(place, *file),
            Record::Unlink { place } => self.remove(place, AtFlags::empty()),
            Record::RemoveDirectory { place } => self.remove(place, AtFlags::REMOVEDIR),
            Record::Rename {
                from, to, flags, ..
            } => {
                let (source, target) = (self.path(from.parent)?, self.path(to.parent)?);
                self.parting = named(&target, &to.name).ok();
                let flags = RenameFlags::from_bits_retain(*flags);
                rustix::fs::renameat_with(&source, &from.name[..], &target, &to.name[..], flags)?;
                self.touch_parent(from)?;
                self.touch_parent(to)
            }
            Record::Data {
                file,
                offset,
                content,
            } => Ok(self.content(*file)?.write_all_at(content, *offset)?),
            Record::Zero {
                file,
                offset,
                length,
                keep_size,
            } => self.allocate(
                *file,
                FallocateFlags::ZERO_RANGE,
                *offset,
                *length,
                *keep_size,
            ),
            Record::Punch {
                file,
                offset,
                length,
            } => self.allocate(*file, FallocateFlags::PUNCH_HOLE, *offset, *length, true),
            Record::Allocate {
                file,
                offset,
                length,
                keep_size,
            } => self.allocate(*file, FallocateFlags::empty(), *offset, *length, *keep_size),
            Record::Truncate { file, size } => Ok(self.content(*file)?.set_len(*size)?),
            Record::SetAttributes { file, change } => self.set_attributes(*file, change),
            Record::SetExtended { file, name, value } => self.set_extended(*file, name, value),
            Record::RemoveExtended { file, name } => self.remove_extended(*file, name),
            Record::Sync { file, modified, .. } => match modified {
                Some(modified) => self.set_attributes(
                    *file,
                    &Change {
                        modified: Some(*modified),
                        ..Change::default()
                    },
                ),
                None => self.path(*file).map(drop),
            },
            Record::Forget { file } => {
                self.objects.remove(file);
                Ok(())
            }
        }
    }

    fn create(
        &mut self,
        place: &Place<'_>,
        file: FileId,
        kind: &Kind<'_>,
        attributes: &Attributes,
    ) -> Result<()> {
        let parent = self.path(place.parent)?;
        let (name, mode) = (&place.name[..], Mode::from_raw_mode(attributes.mode));
        match kind {
            Kind::File => drop(rustix::fs::openat(
                &parent,
                name,
                OFlags::CREATE | OFlags::EXCL,
                mode,
            )?),
            Kind::Directory => rustix::fs::mkdirat(&parent, name, mode)?,
            Kind::Symlink(target) => rustix::fs::symlinkat(&target[..], &parent, name)?,
            Kind::Special { format, device } => {
                rustix::fs::mknodat(
                    &parent,
                    name,
                    FileType::from_raw_mode(*format),
                    mode,
                    *device,
                )?;
            }
        }
        let object = named(&parent, name)?;
        let identity = self.copies[usize::from(file.tree)]
            .codec
            .identify(object.as_fd())?;
        self.objects.insert(file, Object::Named(identity));
        self.touch_parent(place)
    }

    fn link(&mut self, place: &Place<'_>, file: FileId) -> Result<()> {
        let (object, parent) = (self.path(file)?, self.path(place.parent)?);
        rustix::fs::linkat(&object, "", &parent, &place.name[..], AtFlags::EMPTY_PATH)?;
        let identity = self.copies[usize::from(file.tree)]
            .codec
            .identify(object.as_fd())?;
        self.objects.insert(file, Object::Named(identity));
        self.touch_parent(place)
    }

    fn remove(&mut self, place: &Place<'_>, flags: AtFlags) -> Result<()> {
        let parent = self.path(place.parent)?;
        self.parting = Some(named(&parent, &place.name)?);
        rustix::fs::unlinkat(&parent, &place.name[..], flags)?;
        self.touch_parent(place)
    }

    fn touch_parent(&self, place: &Place<'_>) -> Result<()> {
        let change = Change {
            modified: Some(place.parent_modified),
            ..Change::default()
        };
        self.set_attributes(place.parent, &change)
    }

    fn allocate(
        &self,
        file: FileId,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
        keep_size: bool,
    ) -> Result<()> {
        let keep = if keep_size {
            FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::empty()
        };
        Ok(rustix::fs::fallocate(
            self.content(file)?,
            mode | keep,
            offset,
            length,
        )?)
    }

    fn set_attributes(&self, file: FileId, change: &Change) -> Result<()> {
        let fd = self.path(file)?;
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        let is_link = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink;
        if let Some(mode) = change.mode.filter(|_| !is_link) {
            rustix::fs::chmod(magic(&fd), Mode::from_raw_mode(mode))?;
        }
        let times = Timestamps {
            last_access: spec(change.accessed),
            last_modification: spec(change.modified),
        };
        Ok(rustix::fs::utimensat(&fd, "", &times, AtFlags::EMPTY_PATH)?)
    }

    fn remove_extended(&self, file: FileId, name: &[u8]) -> Result<()> {
        match rustix::fs::removexattr(magic(&self.path(file)?), name) {
            // A capability goes with the content that went before this record.
            Err(Errno::NODATA) if name == b"security.capability" => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_extended(&self, file: FileId, name: &[u8], value: &[u8]) -> Result<()> {
        Ok(rustix::fs::setxattr(
            magic(&self.path(file)?),
            name,
            value,
            XattrFlags::empty(),
        )?)
    }
}

/// What a name leads to.
fn named(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn all(attributes: &Attributes) -> Change {
    Change {
        mode: Some(attributes.mode),
        uid: Some(attributes.uid),
        gid: Some(attributes.gid),
        accessed: Some(attributes.accessed),
        modified: Some(attributes.modified),
    }
}

fn spec(time: Option<Time>) -> Timespec {
    match time {
        Some(time) => Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    }
}

fn magic(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
