//! Reading and synchronising directories.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::commit::Commit;
use super::lock::lock;
use super::node::Node;
use super::tree::Tree;
use crate::fuse::{Entry, HandleId, Listing, Name, Opened, Served};

impl Tree {
    pub fn open_directory(&self, node: &Node) -> Result<Opened, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
        let directory = rustix::fs::openat(
            self.store().reach(node)?.as_fd(),
            ".",
            flags | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        Ok(Opened {
            handle: self.keep_directory(File::from(directory)),
            served: Served::Cached { keep: false },
        })
    }

    /// Fills `bytes` with entries from `offset` on. With `plus` each comes with its lookup, which the kernel will forget one day:
    /// so room is asked for first.
    pub fn read_directory(
        &self,
        node: &Arc<Node>,
        handle: HandleId,
        offset: u64,
        size: u32,
        plus: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let directory = self.directory(handle)?;
        let mut position = lock(&directory.position);
        if *position != Some(offset) {
            rustix::fs::seek(&directory.file, SeekFrom::Start(offset))?;
        }
        *position = None;
        let mut next = offset;
        let mut listing = Listing::new(bytes, size as usize);
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut entries = RawDir::new(&directory.file, &mut buffer);
        let mut is_complete = true;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !listing.has_room(name.len(), plus) {
                is_complete = false;
                break;
            }
            let looked_up = match plus
                .then(|| self.entry_for_listing(node, &directory.file, name))
                .transpose()
            {
                Ok(looked_up) => looked_up,
                // What was looked up before must reach the kernel: it will be asked to forget it.
                Err(_) if next != offset => {
                    is_complete = false;
                    break;
                }
                Err(errno) => return Err(errno),
            };
            next = entry.next_entry_cookie();
            let kind = kind_of(entry.file_type());
            let name = Name {
                name,
                inode: entry.ino(),
                next_offset: next,
                kind,
            };
            listing.add(name, looked_up.as_ref().map(Option::as_ref));
        }
        // Entries read ahead and not told are read again.
        if is_complete {
            *position = Some(next);
        }
        Ok(())
    }

    /// `None` for the dots, for a name that is gone meanwhile, and for a mount point, which a lookup will refuse.
    fn entry_for_listing(
        &self,
        node: &Node,
        directory: &File,
        name: &[u8],
    ) -> Result<Option<Entry>, Errno> {
        if name == b"." || name == b".." {
            return Ok(None);
        }
        match self.store().find(directory.as_fd(), name) {
            Ok(found) => self.entry(node, directory.as_fd(), name, &found).map(Some),
            Err(Errno::NOENT | Errno::XDEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub fn synchronize_directory(
        &self,
        node: &Node,
        handle: HandleId,
        data_only: bool,
    ) -> Result<Commit, Errno> {
        let directory = self.directory(handle)?;
        self.module
            .begin_directory_commit(self.store(), node, &directory.file, data_only)
    }
}

/// `DT_*` of readdir(3).
fn kind_of(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}
