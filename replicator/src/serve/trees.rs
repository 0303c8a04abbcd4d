//! The directories as the link sees them while it brings a peer up to date.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Dir, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use super::Served;
use super::descriptor::status_of;
use super::lock::lock;
use super::module::Module;
use super::node::{Node, Standing};
use super::record::{attributes_of, extended_of, kind_of, time_of};
use super::store::{Found, Store};
use super::sys;
use crate::identity::Identity;
use crate::journal::{Entry, Trees};
use crate::record::{Change, FileId, Record};

impl Module {
    fn store_of(&self, file: FileId) -> Result<(&Store, Identity), Errno> {
        let store = self
            .stores
            .get(usize::from(file.tree))
            .ok_or(Errno::STALE)?;
        Ok((
            store,
            Identity {
                inode: file.inode,
                generation: file.generation,
            },
        ))
    }

    /// The node of a regular file, whether the kernel knows it or not.
    fn obtain(&self, file: FileId) -> Result<(&Store, Arc<Node>), Errno> {
        let (store, identity) = self.store_of(file)?;
        // Opening it proves that this very object exists.
        let found = store.inspect(store.open(identity, OFlags::PATH)?)?;
        if found.format() != libc::S_IFREG {
            return Err(Errno::INVAL);
        }
        Ok((
            store,
            store
                .nodes
                .obtain(identity, found.format(), Standing::Named, false),
        ))
    }
}

impl Trees for Served {
    fn roots(&self) -> Vec<FileId> {
        self.module
            .stores
            .iter()
            .map(|store| store.file_id(store.root))
            .collect()
    }

    fn list(&self, directory: FileId, then: &mut dyn FnMut(&Entry, &[Entry])) -> io::Result<()> {
        let (store, identity) = self.module.store_of(directory)?;
        let _names = lock(&self.module.namespace);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
        let opened = store.open(identity, flags)?;
        let is_excluded = store
            .nodes
            .get(identity.inode)
            .is_some_and(|node| node.class().is_excluded);
        let mut entries = Vec::new();
        for name in names(opened.as_fd())? {
            if is_excluded || is_hidden(store, opened.as_fd(), &name)? {
                continue;
            }
            match store.find(opened.as_fd(), &name) {
                Ok(found) => entries.push(entry(store, name, &found)?),
                // A mount point is not part of this file system.
                Err(Errno::XDEV | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let own = entry(store, Vec::new(), &store.inspect(opened)?)?;
        then(&own, &entries);
        Ok(())
    }

    fn describe(&self, file: FileId) -> io::Result<Entry> {
        let (store, identity) = self.module.store_of(file)?;
        let found = store.inspect(store.open(identity, OFlags::PATH | OFlags::NOFOLLOW)?)?;
        Ok(entry(store, Vec::new(), &found)?)
    }

    fn open(&self, file: FileId) -> io::Result<File> {
        let (store, identity) = self.module.store_of(file)?;
        let opened = File::from(store.open(
            identity,
            OFlags::RDONLY | OFlags::NOATIME | OFlags::NONBLOCK,
        )?);
        await_writer(&opened)?;
        let node = store.nodes.get(identity.inode);
        if node.is_some_and(|node| lock(&node.pending).is_mapped) {
            // Stores into pages that are dirty now make no event: they must be among what is read.
            sys::write_out(opened.as_fd(), 0, u64::MAX)?;
        }
        Ok(opened)
    }

    fn mark_changed(&self, file: FileId, ranges: &[Range<u64>]) -> io::Result<()> {
        let (store, node) = self.module.obtain(file)?;
        let mut pending = lock(&node.pending);
        for range in ranges {
            pending.ranges.mark(range.clone());
        }
        self.module
            .touch(store, &node, &mut pending, Instant::now());
        drop(pending);
        self.module.queue.hurry();
        Ok(())
    }

    fn ship_size(&self, file: FileId) -> io::Result<()> {
        let (store, node) = self.module.obtain(file)?;
        let content = Module::content(store, &node)?;
        await_writer(&content)?;
        let _order = lock(&node.order);
        let status = status_of(content.as_fd(), StatxFlags::SIZE | StatxFlags::MTIME)?;
        let change = Change {
            modified: Some(time_of(&status.stx_mtime)),
            ..Change::default()
        };
        self.module.journal.append(&Record::Truncate {
            file,
            size: status.stx_size,
        });
        self.module
            .journal
            .append(&Record::SetAttributes { file, change });
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        Ok(self.module.settle()?)
    }
}

/// Waits for a write that has made its event but not yet its size: seeking takes the inode's lock.
fn await_writer(file: &File) -> Result<(), Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(0)) {
        Ok(_) | Err(Errno::NXIO) => rustix::fs::seek(file, SeekFrom::Start(0)).map(drop),
        Err(errno) => Err(errno),
    }
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let again = rustix::fs::openat(
        directory,
        ".",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let entries =
        Dir::new(again)?.map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()));
    let mut names = entries.collect::<Result<Vec<_>, _>>()?;
    names.retain(|name| name != b"." && name != b"..");
    Ok(names)
}

fn is_hidden(store: &Store, directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    if store.globs.is_empty() {
        return Ok(false);
    }
    Ok(store
        .globs
        .classify(&Store::path_of(directory, name)?)
        .is_excluded)
}

fn entry(store: &Store, name: Vec<u8>, found: &Found) -> Result<Entry, Errno> {
    let is_file = found.format() == libc::S_IFREG;
    Ok(Entry {
        name,
        file: store.file_id(found.identity),
        kind: kind_of(found.fd.as_fd(), &found.status)?,
        attributes: attributes_of(&found.status),
        size: if is_file { found.status.stx_size } else { 0 },
        links: found.status.stx_nlink,
        extended: extended_of(found.fd.as_fd())?
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    })
}
