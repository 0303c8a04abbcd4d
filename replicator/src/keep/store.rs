//! The dated directory while it is being filled.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, openat, syncfs};
use rustix::io::Errno;

use super::copy::{self, Source};
use super::record::{Kept, Record};
use super::{KeepError, date};
use crate::apply::{Found, Tree, attributes_of, extended_of, names, set_modified};
use crate::identity::Identity;
use crate::lineage::Lineage;
use crate::record::Attributes;
use crate::survey::{Aspect, Difference, IsStopped};

const PARTIAL: &str = ".partial";

/// Where a kept object of several names lies: tree, directory, name.
type Seat = (usize, Vec<u8>, Vec<u8>);

/// See the module. Makes nothing before there is something to keep.
pub struct Store<'a> {
    place: PathBuf,
    name: String,
    trees: &'a [Tree],
    is_stopped: IsStopped,
    top: Option<OwnedFd>,
    linked: HashMap<(usize, Identity), Seat>,
    /// Directories that were made, whose times come last.
    made: Vec<(usize, Vec<u8>, Attributes)>,
    pub kept: Kept,
}

impl<'a> Store<'a> {
    /// Keeps below `place`. What an interrupted attempt left there is removed.
    pub fn begin(
        place: &Path,
        trees: &'a [Tree],
        now: SystemTime,
        is_stopped: IsStopped,
    ) -> Result<Store<'a>, KeepError> {
        let name = prepare(place, now).map_err(|cause| failed(place, "prepare", place, cause))?;
        Ok(Store {
            kept: Kept {
                directory: place.join(&name),
                files: 0,
                bytes: 0,
            },
            place: place.to_owned(),
            name,
            trees,
            is_stopped,
            top: None,
            linked: HashMap::new(),
            made: Vec::new(),
        })
    }

    /// Keeps what differs, if the difference is worth it. True if it was.
    pub fn keep(&mut self, difference: &Difference<'_>) -> Result<bool, KeepError> {
        let Some(found) = difference.found else {
            return Ok(false);
        };
        let (tree, path) = (difference.tree, difference.path);
        let kept = match difference.aspect {
            Aspect::Missing | Aspect::Modified | Aspect::Links => return Ok(false),
            Aspect::Extra | Aspect::Kind if found.is_directory() => self.keep_below(tree, path),
            Aspect::Attributes | Aspect::Extended if found.is_directory() => {
                self.enter(tree, path).map(drop)
            }
            _ => self.keep_one(tree, path, found),
        };
        kept.map_err(|fault| self.blame(tree, path, fault))?;
        Ok(true)
    }

    /// Brings everything to stable storage and gives it its name. `None` when there was nothing to keep.
    pub fn finish(
        mut self,
        (module, node, peer): (&str, &str, &str),
        own: Lineage,
        theirs: Lineage,
    ) -> Result<Option<Kept>, KeepError> {
        let Some(top) = self.top.take() else {
            return Ok(None);
        };
        self.top = Some(
            top.try_clone()
                .map_err(|cause| self.failed("hold open", cause))?,
        );
        for (tree, path, attributes) in std::mem::take(&mut self.made).into_iter().rev() {
            let stamped = self
                .enter(tree, &path)
                .and_then(|directory| Ok(set_modified(directory.as_fd(), attributes.modified)?));
            stamped.map_err(|fault| self.blame(tree, &path, fault))?;
        }
        syncfs(&top).map_err(|fault| self.failed("flush", fault.into()))?;
        crate::fault::point("keep.flushed");
        let record = Record {
            module: module.to_owned(),
            node: node.to_owned(),
            peer: peer.to_owned(),
            files: self.kept.files,
            bytes: self.kept.bytes,
            own,
            theirs,
        };
        let named = record.write(&self.place, &self.name).and_then(|()| {
            let partial = self.place.join(format!("{}{PARTIAL}", self.name));
            fs::rename(partial, &self.kept.directory)?;
            fs::File::open(&self.place)?.sync_all()
        });
        named.map_err(|cause| self.failed("name", cause))?;
        crate::fault::point("keep.named");
        Ok(Some(self.kept))
    }

    /// Keeps one object that is no directory.
    fn keep_one(&mut self, tree: usize, path: &[u8], found: &Found) -> io::Result<()> {
        let (parent, name) = split(path);
        let directory = self.enter(tree, parent)?;
        self.copy((tree, parent, name), directory.as_fd(), found)
    }

    /// Keeps a directory with everything below it.
    fn keep_below(&mut self, tree: usize, path: &[u8]) -> io::Result<()> {
        let local = &self.trees[tree];
        let mut pending = vec![path.to_vec()];
        while let Some(path) = pending.pop() {
            let target = self.enter(tree, &path)?;
            let directory = local.walk(&path)?;
            for name in names(directory.as_fd())? {
                let below = [&*path, b"/", &*name.bytes].concat();
                let Some(found) = local.find(directory.as_fd(), &name.bytes)? else {
                    continue;
                };
                if found.is_directory() {
                    pending.push(below);
                } else {
                    self.copy((tree, &path, &name.bytes), target.as_fd(), &found)?;
                }
            }
        }
        Ok(())
    }

    /// Copies an object to `name` in the kept `directory`; further names of one that is kept already become links.
    fn copy(
        &mut self,
        (tree, parent, name): (usize, &[u8], &[u8]),
        directory: BorrowedFd<'_>,
        found: &Found,
    ) -> io::Result<()> {
        if (self.is_stopped)() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let shared = (found.stat.st_nlink > 1).then_some((tree, found.identity));
        if let Some((tree, path, first)) = shared.and_then(|key| self.linked.get(&key).cloned()) {
            let home = self.enter(tree, &path)?;
            linkat(home, &*first, directory, name, AtFlags::empty())?;
            self.kept.files += 1;
            return Ok(());
        }
        let source = Source {
            tree: &self.trees[tree],
            found,
        };
        self.kept.bytes += copy::copy(&source, directory, name, &*self.is_stopped)?;
        self.kept.files += 1;
        if let Some(key) = shared {
            self.linked
                .insert(key, (tree, parent.to_vec(), name.to_vec()));
        }
        Ok(())
    }

    /// The kept directory for one of a tree, made with its attributes if it is not there.
    fn enter(&mut self, tree: usize, path: &[u8]) -> io::Result<OwnedFd> {
        let local = &self.trees[tree];
        let (mut at, mut is_new) = (self.open_top()?, false);
        for component in local.path.components() {
            if let std::path::Component::Normal(name) = component {
                (at, is_new) = step(at.as_fd(), name.as_encoded_bytes())?;
            }
        }
        let mut here = local.walk(b"")?;
        let mut done = Vec::new();
        if is_new {
            self.dress((tree, &done), here.as_fd(), at.as_fd())?;
        }
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(name);
            here = local.step(here.as_fd(), name)?;
            (at, is_new) = step(at.as_fd(), name)?;
            if is_new {
                self.dress((tree, &done), here.as_fd(), at.as_fd())?;
            }
        }
        Ok(at)
    }

    /// Gives a kept directory the attributes of the one it stands for.
    fn dress(
        &mut self,
        (tree, path): (usize, &[u8]),
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let attributes = attributes_of(&rustix::fs::fstat(from)?);
        copy::dress(to, &attributes, &extended_of(from)?)?;
        self.made.push((tree, path.to_vec(), attributes));
        Ok(())
    }

    fn open_top(&mut self) -> io::Result<OwnedFd> {
        if let Some(top) = &self.top {
            return top.try_clone();
        }
        let path = self.place.join(format!("{}{PARTIAL}", self.name));
        fs::create_dir(&path)?;
        let top = openat(rustix::fs::CWD, &path, directory_flags(), Mode::empty())?;
        let copy = top.try_clone()?;
        self.top = Some(top);
        Ok(copy)
    }

    fn blame(&self, tree: usize, path: &[u8], cause: io::Error) -> KeepError {
        let object = self.trees[tree].display(path);
        failed(&self.place, "copy", Path::new(&object), cause)
    }

    fn failed(&self, attempt: &'static str, cause: io::Error) -> KeepError {
        failed(&self.place, attempt, &self.kept.directory, cause)
    }
}

/// Makes the place, removes what was left partial, and finds a name that is free.
fn prepare(place: &Path, now: SystemTime) -> io::Result<String> {
    fs::create_dir_all(place)?;
    fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .ends_with(PARTIAL.as_bytes())
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let first = date::name_of(now);
    let mut name = first.clone();
    let mut number = 1;
    while place.join(&name).exists() {
        number += 1;
        name = format!("{first}-{number}");
    }
    Ok(name)
}

fn failed(place: &Path, attempt: &'static str, object: &Path, cause: io::Error) -> KeepError {
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => KeepError::Full {
            place: place.to_owned(),
        },
        _ if cause.kind() == io::ErrorKind::Interrupted => KeepError::Stopped,
        _ => KeepError::Failed {
            object: object.display().to_string(),
            attempt,
            cause,
        },
    }
}

/// Enters a directory, and makes it if it is not there: then true.
fn step(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<(OwnedFd, bool)> {
    let is_new = match mkdirat(directory, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(fault) => return Err(fault.into()),
    };
    let opened = openat(directory, name, directory_flags(), Mode::empty())?;
    Ok((opened, is_new))
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The directory part without its slash, and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
