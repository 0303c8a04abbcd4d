//! Which local object each of the primary's identities means. Pure: no system call.
//!
//! Invariant: an identity means one local object, and while trees are compared also the other way round.

use std::collections::HashMap;

use super::tree::ObjectKind;
use crate::identity::Identity;
use crate::record::FileId;

/// A known object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub identity: Identity,
    pub kind: ObjectKind,
    /// Of a directory: its names are the primary's. Always true outside of a comparison.
    pub is_listed: bool,
    /// Its owner, mode, attributes or names changed since it was last flushed with its metadata.
    pub is_unsettled: bool,
    /// Where its open descriptor is kept, if it is.
    pub slot: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Bindings {
    objects: HashMap<FileId, Object>,
    /// Local objects that are bound, by tree; only while trees are compared.
    locals: Option<HashMap<(u16, Identity), FileId>>,
    unlisted: usize,
}

impl Bindings {
    /// Forgets everything. `is_reversible` for a comparison.
    pub fn clear(&mut self, is_reversible: bool) {
        *self = Bindings {
            locals: is_reversible.then(HashMap::new),
            ..Bindings::default()
        };
    }

    /// The comparison is over.
    pub fn forget_locals(&mut self) {
        self.locals = None;
    }

    pub fn get(&self, file: FileId) -> Option<&Object> {
        self.objects.get(&file)
    }

    pub fn get_mut(&mut self, file: FileId) -> Option<&mut Object> {
        self.objects.get_mut(&file)
    }

    /// The identity to which a local object is bound.
    pub fn meaning(&self, tree: u16, identity: Identity) -> Option<FileId> {
        self.locals.as_ref()?.get(&(tree, identity)).copied()
    }

    /// Binds, in place of what either side meant before. Returns the object that `file` meant.
    pub fn bind(&mut self, file: FileId, object: Object) -> Option<Object> {
        if let Some(locals) = &mut self.locals
            && let Some(other) = locals.insert((file.tree, object.identity), file)
            && other != file
        {
            self.remove(other);
        }
        self.unlisted += usize::from(!object.is_listed);
        let before = self.objects.insert(file, object);
        if let Some(before) = &before {
            self.unlisted -= usize::from(!before.is_listed);
        }
        before
    }

    pub fn remove(&mut self, file: FileId) -> Option<Object> {
        let object = self.objects.remove(&file)?;
        self.unlisted -= usize::from(!object.is_listed);
        if let Some(locals) = &mut self.locals
            && locals.get(&(file.tree, object.identity)) == Some(&file)
        {
            locals.remove(&(file.tree, object.identity));
        }
        Some(object)
    }

    pub fn set_listed(&mut self, file: FileId) {
        if let Some(object) = self.objects.get_mut(&file)
            && !object.is_listed
        {
            object.is_listed = true;
            self.unlisted -= 1;
        }
    }

    /// Directories of which the names are not known.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Object)> {
        self.objects.iter().map(|(file, object)| (*file, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId {
            tree: 0,
            inode,
            generation: 1,
        }
    }

    fn object(inode: u64, is_listed: bool) -> Object {
        Object {
            identity: Identity {
                inode,
                generation: 9,
            },
            kind: ObjectKind::Directory,
            is_listed,
            is_unsettled: false,
            slot: None,
        }
    }

    #[test]
    fn a_local_object_means_one_identity() {
        let mut bindings = Bindings::default();
        bindings.clear(true);
        bindings.bind(file(1), object(10, false));
        bindings.bind(file(2), object(10, true));
        assert!(bindings.get(file(1)).is_none());
        assert_eq!(
            bindings.meaning(0, object(10, true).identity),
            Some(file(2))
        );
        assert_eq!(bindings.unlisted(), 0);
    }

    #[test]
    fn unlisted_directories_are_counted_through_every_change() {
        let mut bindings = Bindings::default();
        bindings.clear(true);
        bindings.bind(file(1), object(10, false));
        bindings.bind(file(2), object(20, false));
        assert_eq!(bindings.unlisted(), 2);
        bindings.set_listed(file(1));
        bindings.set_listed(file(1));
        assert_eq!(bindings.unlisted(), 1);
        bindings.bind(file(2), object(30, false));
        assert_eq!(bindings.unlisted(), 1);
        assert_eq!(
            bindings.meaning(0, object(30, true).identity),
            Some(file(2))
        );
        bindings.remove(file(2));
        bindings.remove(file(2));
        assert_eq!(bindings.unlisted(), 0);
    }
}
