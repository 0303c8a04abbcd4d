//! Moving names, between directories of which both, one or none may have the primary's names already.

use std::os::fd::AsFd;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::make::make_whiteout;
use super::namespace::{Spot, find, outcome};
use super::store::Store;
use super::{ApplyError, Outcome, Want};
use crate::journal::Entry;
use crate::record::{FileId, Place};

/// Both ends of a rename, as the record tells them.
pub(super) struct Move<'a> {
    pub from: &'a Place<'a>,
    pub to: &'a Place<'a>,
    pub flags: RenameFlags,
    pub file: FileId,
    pub exchanged: Option<FileId>,
}

impl Store {
    pub fn rename(
        &mut self,
        renamed: &Move<'_>,
        described: &[Entry],
        is_retry: bool,
    ) -> Result<Outcome, ApplyError> {
        let from = self.spot(renamed.from)?;
        let to = self.spot(renamed.to)?;
        let mut wants = Vec::new();
        match (&from, &to) {
            (None, None) => return Ok(Outcome::Skipped),
            (Some(from), Some(to)) => self.rename_exactly(renamed, from, to, is_retry)?,
            (Some(from), None) => self.rename_away(renamed, from, described, &mut wants)?,
            (None, Some(to)) => {
                self.ensure(to, renamed.file, find(described, renamed.file), &mut wants)?;
            }
        }
        self.unsettle(renamed.file);
        if let Some(exchanged) = renamed.exchanged {
            self.unsettle(exchanged);
        }
        for (spot, place) in [(&from, renamed.from), (&to, renamed.to)] {
            if let Some(spot) = spot {
                let descriptor = spot.descriptor.as_fd();
                self.set_modified(spot.directory, descriptor, place.parent_modified)?;
            }
        }
        Ok(outcome(wants))
    }

    fn rename_exactly(
        &mut self,
        renamed: &Move<'_>,
        from: &Spot<'_>,
        to: &Spot<'_>,
        is_retry: bool,
    ) -> Result<(), ApplyError> {
        if !self.is_at(from, renamed.file)? {
            if is_retry && self.is_at(to, renamed.file)? {
                return Ok(());
            }
            return Err(self.diverged_name(from.directory, from.name, "rename", "it is not there"));
        }
        match renamed.exchanged {
            Some(exchanged) if !self.is_at(to, exchanged)? => {
                let cause = "the other one is not there";
                return Err(self.diverged_name(to.directory, to.name, "exchange", cause));
            }
            Some(_) => {}
            None => self.forget_directory_at(to, Some(renamed.file))?,
        }
        let rename = || {
            let (from_directory, to_directory) = (&from.descriptor, &to.descriptor);
            renameat_with(
                from_directory,
                from.name,
                to_directory,
                to.name,
                renamed.flags,
            )
        };
        let result = match rename() {
            Err(Errno::NOTEMPTY) if self.comparison.is_some() => {
                self.clear_spot(to).and_then(|()| rename())
            }
            Err(fault @ (Errno::EXIST | Errno::NOTEMPTY | Errno::ISDIR)) => {
                self.clear_shell(to, fault, "rename to")?;
                rename()
            }
            result => result,
        };
        result.map_err(self.blame_name(from.directory, from.name, "rename"))
    }

    /// The object leaves what is known; what comes in exchange, or a whiteout, stands in its place.
    fn rename_away(
        &mut self,
        renamed: &Move<'_>,
        from: &Spot<'_>,
        described: &[Entry],
        wants: &mut Vec<Want>,
    ) -> Result<(), ApplyError> {
        if let Some(exchanged) = renamed.exchanged {
            return self.ensure(from, exchanged, find(described, exchanged), wants);
        }
        self.clear_spot(from)
            .and_then(|()| {
                if renamed.flags.contains(RenameFlags::WHITEOUT) {
                    make_whiteout(from.descriptor.as_fd(), from.name)
                } else {
                    Ok(())
                }
            })
            .map_err(self.blame_name(from.directory, from.name, "remove"))
    }
}
