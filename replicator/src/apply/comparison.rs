//! Bringing directories that differ to the primary's state, one listing at a time, while the log goes on.
//!
//! A directory is *listed* once its names are the primary's. An object is *known* once it is bound. Both only ever grow, except
//! that what leaves the known part of the tree is forgotten with all below it.
//!
//! # Why this converges
//! At every position of the log:
//! 1. In a listed directory the names are the primary's (excluded ones aside), and each leads to the object bound to the
//!    primary's identity. A listing establishes it, because it describes one position of the log; every later record keeps it,
//!    because records of names in listed directories are applied exactly. A directory created in a listed one is empty on both
//!    sides, so it is listed from birth.
//! 2. A known directory stands in a listed one, or is a root: it becomes known there, and moving it out of there forgets it. So
//!    what a record does between directories that are not listed concerns nothing known, and is skipped; a later listing tells.
//! 3. A known object has the primary's attributes: it got them when it became known, and every record since was applied. Records
//!    on unknown objects are skipped for the same reason. So a listing leaves the attributes of known objects alone.
//! 4. Each directory that becomes known without being listed is asked for ([`Want::Listing`]), each file too, for its content,
//!    which is read after it became known, while every write since then is in the log.
//!
//! The primary is finite and each listing answered, so the day comes on which every known directory is listed. Then, from the
//! roots down, every name is the primary's (1), every object has its attributes (3), and when the wants are served, its content (4).
//!
//! A record that moves an unknown object into a listed directory follows a description of it, so that (1) holds without a
//! second listing.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::binding::Object;
use super::make::{Birth, is_of_kind, make};
use super::namespace::Spot;
use super::remove::{Excluded, remove};
use super::store::Store;
use super::tree::{Found, ObjectKind, names};
use super::{ApplyError, Outcome, Want, attributes};
use crate::journal::Entry;
use crate::record::{FileId, Kind};
use crate::wire::Listing;

/// What the entries before say about those that follow.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Objects that the next record moves or links.
    pub described: Vec<Entry>,
    /// The listing of which not all parts are there yet.
    pub unfinished: Option<Unfinished>,
}

/// A listing under way.
#[derive(Debug)]
pub(super) struct Unfinished {
    directory: FileId,
    /// `None` when the directory is not known (any more): its parts are skipped.
    itself: Option<Entry>,
    names: HashSet<Vec<u8>>,
}

impl Store {
    /// Takes one part of a listing; with the last one the directory is listed.
    pub fn apply_listing(&mut self, listing: &Listing) -> Result<Outcome, ApplyError> {
        let directory = listing.directory;
        let Some(comparison) = &mut self.comparison else {
            return Err(ApplyError::Malformed {
                what: "a listing that was not asked for",
            });
        };
        let before = comparison.unfinished.take();
        let mut unfinished = match (before, &listing.itself) {
            (None, Some(itself)) => Unfinished {
                directory,
                itself: self.bindings.get(directory).map(|_| itself.clone()),
                names: HashSet::new(),
            },
            (Some(before), None) if before.directory == directory => before,
            _ => {
                return Err(ApplyError::Malformed {
                    what: "parts of different listings mixed",
                });
            }
        };
        let mut wants = Vec::new();
        let is_known = unfinished.itself.is_some();
        if is_known {
            let descriptor = self.open_directory(directory)?;
            for entry in &listing.entries {
                let spot = Spot {
                    directory,
                    descriptor: descriptor.clone(),
                    name: &entry.name,
                };
                self.ensure(&spot, entry.file, Some(entry), &mut wants)?;
                unfinished.names.insert(entry.name.clone());
            }
            if listing.is_last {
                self.finish(&unfinished, descriptor.as_fd())?;
            }
        }
        if !listing.is_last
            && let Some(comparison) = &mut self.comparison
        {
            comparison.unfinished = Some(unfinished);
        }
        Ok(match (is_known, wants.is_empty()) {
            (false, _) => Outcome::Skipped,
            (true, true) => Outcome::Applied,
            (true, false) => Outcome::Wants(wants),
        })
    }

    /// Removes what the listing did not name. The directory's own times come last.
    fn finish(
        &mut self,
        listing: &Unfinished,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), ApplyError> {
        let directory = listing.directory;
        let mut ended = Vec::new();
        let tree = self.tree(directory);
        let result: Result<(), Errno> = (|| {
            let path = if tree.has_excludes() {
                Some(tree.path_of(descriptor)?)
            } else {
                None
            };
            for name in names(descriptor)? {
                let is_excluded = path
                    .as_ref()
                    .is_some_and(|path| tree.is_excluded(&[&**path, &*name.bytes].concat()));
                if !is_excluded && !listing.names.contains(&name.bytes) {
                    let mut end = |identity| ended.push(identity);
                    remove(tree, descriptor, &name.bytes, Excluded::Stay, &mut end)?;
                }
            }
            if let Some(itself) = &listing.itself {
                attributes::set_exact(descriptor, &itself.attributes, &itself.extended)?;
            }
            Ok(())
        })();
        self.forget_ended(directory.tree, &ended);
        result.map_err(self.blame(directory, "make its names the peer's"))?;
        self.bindings.set_listed(directory);
        self.unsettle(directory);
        Ok(())
    }

    /// Makes a name lead to the object that `file` means, which may be unknown so far: `entry` describes it then.
    pub fn ensure(
        &mut self,
        spot: &Spot<'_>,
        file: FileId,
        entry: Option<&Entry>,
        wants: &mut Vec<Want>,
    ) -> Result<(), ApplyError> {
        if let Some(object) = self.bindings.get(file).copied() {
            if self.is_at(spot, file)? || self.bring(spot, file, object)? {
                return Ok(());
            }
            // It lost its last name here while it kept another one on the primary.
            self.forget(file);
        }
        let Some(entry) = entry else {
            return Err(self.diverged(file, "move it", "the peer did not describe it"));
        };
        // Looked at only now: whatever was there may have made room for the object that turned out to be gone.
        let occupant = self
            .tree(spot.directory)
            .find(spot.descriptor.as_fd(), spot.name)
            .map_err(self.blame_name(spot.directory, spot.name, "look at"))?;
        match occupant {
            Some(found) if self.is_adoptable(spot.directory.tree, &found, entry)? => {
                self.adopt(spot, &found, entry, wants)
            }
            _ => self.replace(spot, entry, wants),
        }
    }

    /// Gives a known object this name. False when it is gone.
    fn bring(&mut self, spot: &Spot<'_>, file: FileId, object: Object) -> Result<bool, ApplyError> {
        if object.kind == ObjectKind::Directory {
            return Err(self.diverged(file, "find it where the peer has it", "it is elsewhere"));
        }
        let Some(opened) = self.open(file, object)? else {
            return Ok(false);
        };
        self.clear_spot(spot)
            .map_err(self.blame_name(spot.directory, spot.name, "replace"))?;
        match self.link_object(spot, file, &opened) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(fault) => Err(self.blame_name(spot.directory, spot.name, "link")(fault)),
        }
    }

    /// A local object may stand for the primary's if it is of the same kind, means nothing else, and shares its content with no
    /// more names than the primary's may.
    fn is_adoptable(&self, tree: u16, found: &Found, entry: &Entry) -> Result<bool, ApplyError> {
        let is_of_kind = is_of_kind(found.node.as_fd(), &entry.kind)
            .map_err(self.blame(entry.file, "look at what has the name of"))?;
        let is_alone = entry.kind == Kind::Directory || found.stat.st_nlink == 1;
        let is_free = self.bindings.meaning(tree, found.identity).is_none();
        Ok(is_of_kind && is_free && (is_alone || entry.links > 1))
    }

    fn adopt(
        &mut self,
        spot: &Spot<'_>,
        found: &Found,
        entry: &Entry,
        wants: &mut Vec<Want>,
    ) -> Result<(), ApplyError> {
        attributes::set_exact(found.node.as_fd(), &entry.attributes, &entry.extended)
            .map_err(self.blame_name(spot.directory, spot.name, "set the attributes of"))?;
        let kind = ObjectKind::of(&found.stat);
        self.bind(entry.file, (found.identity, kind), false, None);
        wants.extend(match kind {
            ObjectKind::File if found.stat.st_size == 0 => Some(Want::Content(entry.file)),
            ObjectKind::File => Some(Want::Comparison(entry.file)),
            ObjectKind::Directory => Some(Want::Listing(entry.file)),
            ObjectKind::Other => None,
        });
        Ok(())
    }

    fn replace(
        &mut self,
        spot: &Spot<'_>,
        entry: &Entry,
        wants: &mut Vec<Want>,
    ) -> Result<(), ApplyError> {
        let birth = Birth {
            kind: &entry.kind,
            attributes: &entry.attributes,
            extended: &entry.extended,
        };
        let made = self.clear_spot(spot).and_then(|()| {
            make(
                self.tree(entry.file),
                spot.descriptor.as_fd(),
                spot.name,
                &birth,
            )
        });
        let made = made.map_err(self.blame_name(spot.directory, spot.name, "create"))?;
        wants.extend(match made.kind {
            ObjectKind::File => Some(Want::Content(entry.file)),
            ObjectKind::Directory => Some(Want::Listing(entry.file)),
            ObjectKind::Other => None,
        });
        self.bind_made(entry.file, made, false);
        Ok(())
    }

    /// The primary answers that a directory does not exist any more.
    pub fn apply_gone(&mut self, directory: FileId) -> Outcome {
        let is_unlisted = |object: &Object| !object.is_listed;
        if self.bindings.get(directory).is_some_and(is_unlisted) {
            self.forget(directory);
        }
        Outcome::Applied
    }

    /// From here on everything must be known.
    pub fn end_comparison(&mut self) -> Result<Outcome, ApplyError> {
        let is_unfinished = |comparison: &Comparison| comparison.unfinished.is_some();
        if self.bindings.unlisted() > 0 || self.comparison.as_ref().is_some_and(is_unfinished) {
            return Err(ApplyError::Malformed {
                what: "the end of a resynchronisation before its last listing",
            });
        }
        self.comparison = None;
        self.bindings.forget_locals();
        Ok(Outcome::Applied)
    }
}
