//! Names: records that make and remove them in directories whose names are the primary's. `rename` moves them.
//!
//! The exact operation is tried first. Only when the tree is not as it must be, the reasons it may rightly differ are looked at:
//! the same record stopped halfway before (`is_retry`), a directory is left only for its excluded names, or a directory that is
//! replaced has not been compared yet. Everything else has diverged.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, linkat, unlinkat};
use rustix::io::Errno;

use super::descriptor::Opened;
use super::make::{Birth, Made, make, make_unnamed};
use super::remove::{Excluded, is_shell, remove};
use super::store::Store;
use super::tree::ObjectKind;
use super::{ApplyError, Outcome, Want, attributes};
use crate::journal::Entry;
use crate::record::{Attributes, Extended, FileId, Kind, Place, Time};

/// A name in a directory that is open.
pub(super) struct Spot<'a> {
    pub directory: FileId,
    pub descriptor: Arc<OwnedFd>,
    pub name: &'a [u8],
}

impl Store {
    /// The place, if the names of its directory are the primary's already.
    pub fn spot<'a>(&mut self, place: &'a Place<'_>) -> Result<Option<Spot<'a>>, ApplyError> {
        let Some(object) = self.known(place.parent)? else {
            return Ok(None);
        };
        if object.kind != ObjectKind::Directory {
            return Err(self.diverged(place.parent, "change its names", "it is no directory here"));
        }
        if !object.is_listed {
            return Ok(None);
        }
        let descriptor = self.open_directory(place.parent)?;
        Ok(Some(Spot {
            directory: place.parent,
            descriptor,
            name: &place.name,
        }))
    }

    pub fn open_directory(&mut self, directory: FileId) -> Result<Arc<OwnedFd>, ApplyError> {
        let object = self.known(directory)?;
        let opened = match object {
            Some(object) => self.open(directory, object)?,
            None => None,
        };
        match opened {
            Some(opened) => Ok(opened.descriptor),
            None => Err(self.diverged(directory, "change its names", "it is gone here")),
        }
    }

    pub fn create(
        &mut self,
        place: &Place<'_>,
        file: FileId,
        (kind, wanted, extended): (&Kind<'_>, &Attributes, &Extended<'_>),
        is_retry: bool,
    ) -> Result<Outcome, ApplyError> {
        let Some(spot) = self.spot(place)? else {
            return Ok(Outcome::Skipped);
        };
        let birth = Birth {
            kind,
            attributes: wanted,
            extended: extended.as_slice(),
        };
        let made = match make(self.tree(file), spot.descriptor.as_fd(), spot.name, &birth) {
            Err(Errno::EXIST) => self.make_instead(&spot, &birth, is_retry),
            result => result,
        };
        let made = made.map_err(self.blame_name(spot.directory, spot.name, "create"))?;
        self.bind_made(file, made, true);
        self.set_modified(place.parent, spot.descriptor.as_fd(), place.parent_modified)?;
        Ok(Outcome::Applied)
    }

    /// Makes an object at a name that should be free.
    fn make_instead<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        spot: &Spot<'_>,
        birth: &Birth<'_, N, V>,
        is_retry: bool,
    ) -> Result<Made, Errno> {
        let is_shell = is_shell(
            self.tree(spot.directory),
            spot.descriptor.as_fd(),
            spot.name,
        )?;
        if is_shell && *birth.kind == Kind::Directory {
            let tree = self.tree(spot.directory);
            let found = tree.find(spot.descriptor.as_fd(), spot.name)?;
            let found = found.ok_or(Errno::NOENT)?;
            let descriptor = tree.reopen(found.identity, ObjectKind::Directory)?;
            attributes::set_exact(descriptor.as_fd(), birth.attributes, birth.extended)?;
            return Ok(Made {
                identity: found.identity,
                kind: ObjectKind::Directory,
                descriptor,
                has_capability: false,
            });
        }
        if !is_shell && !is_retry {
            return Err(Errno::EXIST);
        }
        self.clear_spot(spot)?;
        make(
            self.tree(spot.directory),
            spot.descriptor.as_fd(),
            spot.name,
            birth,
        )
    }

    pub fn bind_made(&mut self, file: FileId, made: Made, is_listed: bool) {
        let Made {
            identity,
            kind,
            descriptor,
            has_capability,
        } = made;
        let opened = Opened {
            descriptor: Arc::new(descriptor),
            guards_capability: has_capability,
        };
        self.bind(file, (identity, kind), is_listed, Some(opened));
    }

    pub fn create_unnamed(
        &mut self,
        file: FileId,
        wanted: &Attributes,
    ) -> Result<Outcome, ApplyError> {
        let tree = self.tree(file);
        let made = make_unnamed(tree, wanted);
        let made = made.map_err(self.blame(file, "create an unnamed file for"))?;
        let descriptor = Arc::new(made.descriptor);
        let opened = Opened {
            descriptor: Arc::clone(&descriptor),
            guards_capability: false,
        };
        self.bind(file, (made.identity, made.kind), true, Some(opened));
        self.hold_unnamed(file, descriptor);
        Ok(Outcome::Applied)
    }

    pub fn link(
        &mut self,
        place: &Place<'_>,
        file: FileId,
        described: &[Entry],
        is_retry: bool,
    ) -> Result<Outcome, ApplyError> {
        let Some(spot) = self.spot(place)? else {
            return Ok(Outcome::Skipped);
        };
        let mut wants = Vec::new();
        if self.comparison.is_some() {
            self.ensure(&spot, file, find(described, file), &mut wants)?;
        } else {
            self.link_exactly(&spot, file, is_retry)?;
        }
        self.unsettle(file);
        self.set_modified(place.parent, spot.descriptor.as_fd(), place.parent_modified)?;
        Ok(outcome(wants))
    }

    fn link_exactly(
        &mut self,
        spot: &Spot<'_>,
        file: FileId,
        is_retry: bool,
    ) -> Result<(), ApplyError> {
        let opened = match self.known(file)? {
            Some(object) => self.open(file, object)?,
            None => None,
        };
        let Some(opened) = opened else {
            return Err(self.diverged(file, "link it", "it is gone here"));
        };
        match self.link_object(spot, file, &opened) {
            Err(Errno::EXIST) if is_retry && self.is_at(spot, file)? => Ok(()),
            Err(Errno::EXIST) => {
                self.clear_shell(spot, Errno::EXIST, "link")?;
                self.link_object(spot, file, &opened)
                    .map_err(self.blame_name(spot.directory, spot.name, "link"))
            }
            result => result.map_err(self.blame_name(spot.directory, spot.name, "link")),
        }
    }

    /// Gives an open object one more name. ENOENT when it lost its last one.
    pub fn link_object(
        &mut self,
        spot: &Spot<'_>,
        file: FileId,
        opened: &Opened,
    ) -> Result<(), Errno> {
        let (from, to) = (&opened.descriptor, &spot.descriptor);
        linkat(from, c"", to, spot.name, AtFlags::EMPTY_PATH)?;
        self.release_unnamed(file);
        Ok(())
    }

    pub fn unlink(&mut self, place: &Place<'_>, is_retry: bool) -> Result<Outcome, ApplyError> {
        let Some(spot) = self.spot(place)? else {
            return Ok(Outcome::Skipped);
        };
        match unlinkat(&spot.descriptor, spot.name, AtFlags::empty()) {
            Err(Errno::NOENT) if is_retry => {}
            result => result.map_err(self.blame_name(spot.directory, spot.name, "unlink"))?,
        }
        self.set_modified(place.parent, spot.descriptor.as_fd(), place.parent_modified)?;
        Ok(Outcome::Applied)
    }

    pub fn remove_directory(
        &mut self,
        place: &Place<'_>,
        is_retry: bool,
    ) -> Result<Outcome, ApplyError> {
        let Some(spot) = self.spot(place)? else {
            return Ok(Outcome::Skipped);
        };
        self.forget_directory_at(&spot, None)?;
        match unlinkat(&spot.descriptor, spot.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) if is_retry => {}
            Err(Errno::NOTEMPTY) if self.comparison.is_some() => self
                .clear_spot(&spot)
                .map_err(self.blame_name(spot.directory, spot.name, "remove"))?,
            Err(Errno::NOTEMPTY) => self.clear_shell(&spot, Errno::NOTEMPTY, "remove")?,
            result => result.map_err(self.blame_name(spot.directory, spot.name, "remove"))?,
        }
        self.set_modified(place.parent, spot.descriptor.as_fd(), place.parent_modified)?;
        Ok(Outcome::Applied)
    }

    /// While trees are compared, a directory that is about to go is forgotten at once: it may count as unlisted.
    pub fn forget_directory_at(
        &mut self,
        spot: &Spot<'_>,
        mover: Option<FileId>,
    ) -> Result<(), ApplyError> {
        if self.comparison.is_none() {
            return Ok(());
        }
        let found = self
            .tree(spot.directory)
            .find(spot.descriptor.as_fd(), spot.name)
            .map_err(self.blame_name(spot.directory, spot.name, "look at"))?;
        if let Some(found) = found
            && found.is_directory()
            && let Some(file) = self.bindings.meaning(spot.directory.tree, found.identity)
            && Some(file) != mover
        {
            self.forget(file);
        }
        Ok(())
    }

    /// Removes whatever is at a name, with all below it.
    pub fn clear_spot(&mut self, spot: &Spot<'_>) -> Result<(), Errno> {
        let mut ended = Vec::new();
        let result = remove(
            self.tree(spot.directory),
            spot.descriptor.as_fd(),
            spot.name,
            Excluded::Go,
            &mut |identity| ended.push(identity),
        );
        self.forget_ended(spot.directory.tree, &ended);
        result
    }

    /// Forgets directories that are not the primary's any more.
    pub fn forget_ended(&mut self, tree: u16, ended: &[crate::identity::Identity]) {
        for identity in ended {
            if let Some(file) = self.bindings.meaning(tree, *identity) {
                self.forget(file);
            }
        }
    }

    /// Removes a directory that is left only for its excluded names; anything else in the way is `fault`.
    pub fn clear_shell(
        &mut self,
        spot: &Spot<'_>,
        fault: Errno,
        attempt: &'static str,
    ) -> Result<(), ApplyError> {
        let cleared = is_shell(
            self.tree(spot.directory),
            spot.descriptor.as_fd(),
            spot.name,
        )
        .and_then(|is_shell| {
            if is_shell {
                self.clear_spot(spot)
            } else {
                Err(fault)
            }
        });
        cleared.map_err(self.blame_name(spot.directory, spot.name, attempt))
    }

    /// Whether a name leads to the local object that `file` means.
    pub fn is_at(&self, spot: &Spot<'_>, file: FileId) -> Result<bool, ApplyError> {
        let Some(object) = self.bindings.get(file) else {
            return Ok(false);
        };
        let tree = self.tree(spot.directory);
        match tree.identify_at(spot.descriptor.as_fd(), spot.name) {
            Ok(identity) => Ok(identity == object.identity),
            Err(Errno::NOENT) => Ok(false),
            Err(fault) => Err(self.blame_name(spot.directory, spot.name, "look at")(fault)),
        }
    }

    /// Sets the modification time that travels with a flush.
    pub fn set_flushed_time(
        &self,
        file: FileId,
        opened: &Opened,
        modified: Option<Time>,
    ) -> Result<(), ApplyError> {
        match modified {
            Some(modified) => self.set_modified(file, opened.descriptor.as_fd(), modified),
            None => Ok(()),
        }
    }
}

pub(super) fn find(described: &[Entry], file: FileId) -> Option<&Entry> {
    described.iter().find(|entry| entry.file == file)
}

pub(super) fn outcome(wants: Vec<Want>) -> Outcome {
    if wants.is_empty() {
        Outcome::Applied
    } else {
        Outcome::Wants(wants)
    }
}
