//! In what an object differs, decided from the primary's description and the local object.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::Stat;
use rustix::io::Errno;

use super::SurveyError;
use crate::apply::{Found, attributes_of, extended_of, is_of_kind};
use crate::identity::Identity;
use crate::journal::Entry;
use crate::record::Kind;

/// One thing in which an object is not the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Only the primary has it.
    Missing,
    /// Only this node has it.
    Extra,
    /// Another type, link target or device.
    Kind,
    /// Owner, group or permission bits.
    Attributes,
    /// Extended attributes, ACLs among them.
    Extended,
    Size,
    /// Bytes; a hole reads as zeroes.
    Content,
    Modified,
    /// Number of hard links.
    Links,
}

/// A difference with everything that is needed to act on it here.
pub struct Difference<'a> {
    /// Index of the directory in the configuration.
    pub tree: usize,
    /// Relative to the replicated directory; empty for itself.
    pub path: &'a [u8],
    /// The local object; `None` when there is none.
    pub found: Option<&'a Found>,
    pub aspect: Aspect,
    /// Of content: the block.
    pub block: u64,
    /// Stands for what the primary has, or for the object that it has not: equal when that did not change between two looks.
    pub fingerprint: [u8; 32],
}

/// Whether whoever hears of a difference wants to hear more of the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    No,
    Yes,
}

/// Hears of every difference.
pub type Hear<'a> = dyn FnMut(&Difference<'_>) -> Result<Enough, SurveyError> + 'a;

/// Everything in which `found` differs from what the primary's `entry` says, content aside.
pub(super) fn aspects(found: &Found, entry: &Entry) -> Result<Vec<Aspect>, Errno> {
    if !is_of_kind(found.node.as_fd(), &entry.kind)? {
        return Ok(vec![Aspect::Kind]);
    }
    let mut differing = attribute_aspects(found.node.as_fd(), &found.stat, entry)?;
    let is_file = entry.kind == Kind::File;
    let size = u64::try_from(found.stat.st_size).unwrap_or(0);
    if is_file && size != entry.size {
        differing.push(Aspect::Size);
    }
    let modified = attributes_of(&found.stat).modified;
    if modified != entry.attributes.modified {
        differing.push(Aspect::Modified);
    }
    // A directory's number also counts directories that are left out.
    if entry.kind != Kind::Directory && found.stat.st_nlink != u64::from(entry.links) {
        differing.push(Aspect::Links);
    }
    Ok(differing)
}

fn attribute_aspects(
    node: BorrowedFd<'_>,
    stat: &Stat,
    entry: &Entry,
) -> Result<Vec<Aspect>, Errno> {
    let mut differing = Vec::new();
    let ours = attributes_of(stat);
    let theirs = &entry.attributes;
    // A symbolic link has no permissions of its own.
    let has_mode = !matches!(entry.kind, Kind::Symlink(_));
    let is_same_mode = !has_mode || ours.mode == theirs.mode;
    if !is_same_mode || (ours.uid, ours.gid) != (theirs.uid, theirs.gid) {
        differing.push(Aspect::Attributes);
    }
    let mut here = extended_of(node)?;
    let mut there = entry.extended.clone();
    here.sort();
    there.sort();
    if here != there {
        differing.push(Aspect::Extended);
    }
    Ok(differing)
}

/// See [`Difference::fingerprint`]: of an object that the primary has not. Another one that has its name meanwhile is new.
pub(super) fn fingerprint_of_extra(object: Identity) -> [u8; 32] {
    *blake3::hash(format!("{object:?}").as_bytes()).as_bytes()
}

/// See [`Difference::fingerprint`].
pub(super) fn fingerprint(entry: &Entry, aspect: Aspect) -> [u8; 32] {
    let attributes = &entry.attributes;
    let shown = match aspect {
        Aspect::Missing | Aspect::Extra => format!("{:?}", entry.file),
        Aspect::Kind => format!("{:?} {:?}", entry.file, entry.kind),
        Aspect::Attributes => {
            format!("{} {} {}", attributes.mode, attributes.uid, attributes.gid)
        }
        Aspect::Extended => format!("{:?}", entry.extended),
        Aspect::Size | Aspect::Content => entry.size.to_string(),
        Aspect::Modified => format!("{:?}", attributes.modified),
        Aspect::Links => entry.links.to_string(),
    };
    *blake3::hash(shown.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_object_made_anew_under_its_name_is_another_one() {
        let object = |inode, generation| fingerprint_of_extra(Identity { inode, generation });
        assert_eq!(object(12, 1), object(12, 1));
        assert_ne!(object(12, 1), object(13, 1));
        // The inode was used again.
        assert_ne!(object(12, 1), object(12, 2));
    }
}
