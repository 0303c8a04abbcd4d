//! Regular files: opening, reading, writing, changing their shape.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::config::SyncMode;
use super::lock::lock;
use super::module::Module;
use super::node::{Life, Node, Policy};
use super::sys;
use super::tree::Tree;
use crate::fuse::{Caller, HandleId, Opened, Operation, Request, Served};
use crate::record::Record;

/// The bits of `O_SYNC` and `O_DSYNC`: the latter's alone are set for `O_DSYNC`.
const DATA_SYNC: u32 = libc::O_DSYNC.unsigned_abs();
const FULL_SYNC: u32 = libc::O_SYNC.unsigned_abs() & !DATA_SYNC;

impl Tree {
    pub fn open(
        &self,
        node: &Arc<Node>,
        flags: u32,
        caller: &Caller,
        kill_privileges: bool,
    ) -> Result<Opened, Errno> {
        let opened = self.admit(node, flags, None)?;
        if flags & libc::O_TRUNC.unsigned_abs() != 0 {
            self.truncate(node, 0, caller, kill_privileges)
                .inspect_err(|_| self.close(node, flags))?;
        }
        Ok(opened)
    }

    /// Counts one more open, and decides at the first one how the file's content is served. `fresh` is the file, if it was just made.
    pub fn admit(
        &self,
        node: &Arc<Node>,
        flags: u32,
        fresh: Option<OwnedFd>,
    ) -> Result<Opened, Errno> {
        if !node.is_regular() {
            return Err(Errno::INVAL);
        }
        let is_writer = is_writer(flags);
        let mut life = lock(&node.life);
        let was_relayed = life.policy == Some(Policy::Relay);
        if life.opens == 0 && node.privileges.are_some() && !lock(&node.pending).is_mapped {
            // Nobody uses it now, not even through a mapping: it may change over to what tells who writes.
            life.policy = None;
        }
        let served = if life.policy == Some(Policy::Relay) {
            self.open_relayed(node, &mut life, is_writer, fresh)?
        } else {
            self.open_passthrough(node, &mut life, flags, fresh)?
        };
        life.opens += 1;
        life.writers += u32::from(is_writer);
        let served = match served {
            // What was cached before the file was served in passthrough is old.
            Served::Cached { .. } => Served::Cached { keep: was_relayed },
            other => other,
        };
        Ok(Opened {
            handle: HandleId(self.store().node_id(node.identity).0),
            served,
        })
    }

    /// Opens by the kernel itself, or settles for relaying if this is the file's first open and that cannot be.
    fn open_passthrough(
        &self,
        node: &Arc<Node>,
        life: &mut Life,
        flags: u32,
        fresh: Option<OwnedFd>,
    ) -> Result<Served, Errno> {
        let (is_first, is_writer) = (life.policy.is_none(), is_writer(flags));
        let is_excluded = node.class().is_excluded;
        let backing = if let Some(backing) = life.backing {
            backing
        } else {
            let file = fresh.map_or_else(
                || {
                    self.store()
                        .open(node.identity, OFlags::RDWR | OFlags::NONBLOCK)
                },
                Ok,
            );
            let refused = matches!(
                file,
                Err(Errno::PERM | Errno::ACCESS | Errno::TXTBSY | Errno::ROFS)
            );
            if is_first && (refused || !self.may_pass_through(node, file.as_ref().ok())?) {
                return self.open_relayed(node, life, is_writer, file.ok());
            }
            let file = file?;
            match sys::without_fsetid(|| self.device.open_backing(file.as_fd())) {
                Ok(backing) => *life.backing.insert(backing),
                Err(errno) if is_first => {
                    tracing::warn!(%errno, "the kernel does not take this file for passthrough; it is relayed");
                    return self.open_relayed(node, life, is_writer, Some(file));
                }
                Err(errno) => return Err(errno),
            }
        };
        if is_writer && !is_excluded && !life.is_watched {
            self.watch(node, life)?;
        }
        life.policy = Some(Policy::Passthrough);
        let commits = match self.module.sync {
            SyncMode::Fsync => flags & DATA_SYNC != 0,
            SyncMode::Always => true,
            SyncMode::Async => false,
        };
        Ok(if commits && is_writer && !is_excluded {
            Served::Direct(backing)
        } else {
            Served::Passthrough(backing)
        })
    }

    fn may_pass_through(&self, node: &Node, file: Option<&OwnedFd>) -> Result<bool, Errno> {
        let class = node.class();
        let passes = if class.is_excluded {
            self.passes_excluded_through
        } else {
            self.passes_through
        };
        let Some(file) = file.filter(|_| passes && !class.is_mapped) else {
            return Ok(false);
        };
        node.privileges.learn(file.as_fd())?;
        Ok(!node.privileges.are_some()
            && !self.module.has_learned(self.store().file_id(node.identity)))
    }

    /// From here on writes to the node make events.
    fn watch(&self, node: &Node, life: &mut Life) -> Result<(), Errno> {
        let Some(capture) = &self.module.capture else {
            return Err(Errno::NOTSUP);
        };
        let key = Module::watch_key(self.store(), node);
        capture.watch(key, self.store().index).map_err(|error| {
            tracing::error!(%error, inode = node.identity.inode, "a file cannot be watched, so it is not opened for writing");
            Errno::NFILE
        })?;
        life.is_watched = true;
        Ok(())
    }

    fn open_relayed(
        &self,
        node: &Arc<Node>,
        life: &mut Life,
        is_writer: bool,
        fresh: Option<OwnedFd>,
    ) -> Result<Served, Errno> {
        if life.file.is_none() || (is_writer && !life.is_file_writable) {
            let opened = match fresh {
                Some(file) => Ok((file, true)),
                None => self.open_backing_file(node, is_writer),
            };
            let (file, is_writable) = opened?;
            life.file = Some(Arc::new(File::from(file)));
            life.is_file_writable = is_writable;
        }
        life.policy = Some(Policy::Relay);
        Ok(Served::Cached { keep: true })
    }

    /// For reading and writing if that can be, so that later opens share it.
    fn open_backing_file(&self, node: &Node, is_writer: bool) -> Result<(OwnedFd, bool), Errno> {
        match self
            .store()
            .open(node.identity, OFlags::RDWR | OFlags::NONBLOCK)
        {
            Ok(file) => Ok((file, true)),
            Err(_) if !is_writer => self
                .store()
                .open(node.identity, OFlags::RDONLY | OFlags::NONBLOCK)
                .map(|file| (file, false)),
            Err(errno) => Err(errno),
        }
    }

    pub fn close(&self, node: &Arc<Node>, flags: u32) {
        let mut life = lock(&node.life);
        debug_assert!(life.opens > 0, "every release was an open");
        life.opens = life.opens.saturating_sub(1);
        life.writers = life.writers.saturating_sub(u32::from(is_writer(flags)));
        if life.opens > 0 {
            return;
        }
        life.file = None;
        if let Some(backing) = life.backing.take() {
            if let Err(errno) = self.device.close_backing(backing) {
                tracing::warn!(%errno, "the kernel did not know a backing file");
            }
        }
    }

    pub fn read(
        &self,
        node: &Node,
        offset: u64,
        size: u32,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let file = Module::content(self.store(), node)?;
        scratch.resize(size as usize, 0);
        let mut filled = 0;
        while filled < scratch.len() {
            match file.read_at(&mut scratch[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(errno_of(&error)),
            }
        }
        scratch.truncate(filled);
        Ok(())
    }

    /// A write that reached this process: what is written is in hand, so it is appended as it is.
    pub fn write(&self, node: &Arc<Node>, request: &Request<'_>) -> Result<u32, Errno> {
        let Operation::Write {
            offset,
            content,
            flags,
            is_cached,
            kill_privileges,
            ..
        } = request.operation
        else {
            return Err(Errno::INVAL);
        };
        let written = self.checked(self.write_ordered(node, offset, content))?;
        self.checked(self.drop_privileges(node, &request.caller, kill_privileges))?;
        let is_passthrough = lock(&node.life).policy == Some(Policy::Passthrough);
        let commits = match self.module.sync {
            // A relayed file's writes are followed by an FSYNC of the kernel's own.
            SyncMode::Fsync => flags & DATA_SYNC != 0 && is_passthrough,
            SyncMode::Always => !is_cached,
            SyncMode::Async => false,
        };
        if commits && node.is_journalled() {
            let data_only = self.module.sync == SyncMode::Fsync && flags & FULL_SYNC == 0;
            let commit = self.module.begin_commit(self.store(), node, data_only)?;
            self.module.conclude(&commit)?;
        }
        Ok(written)
    }

    fn write_ordered(&self, node: &Arc<Node>, offset: u64, content: &[u8]) -> Result<u32, Errno> {
        let file = Module::content(self.store(), node)?;
        let _order = lock(&node.order);
        let mut done = 0;
        while done < content.len() {
            match file.write_at(&content[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if done == 0 => return Err(errno_of(&error)),
                Err(_) => break,
            }
        }
        if node.is_journalled() && self.module.journal.ships() {
            self.module.append_content(
                self.store().file_id(node.identity),
                offset,
                &content[..done],
            );
            let mut pending = lock(&node.pending);
            // The page is dirty without an event.
            pending.expose();
            self.module
                .touch(self.store(), node, &mut pending, Instant::now());
        }
        u32::try_from(done).map_err(|_| Errno::INVAL)
    }

    pub fn truncate(
        &self,
        node: &Arc<Node>,
        size: u64,
        caller: &Caller,
        kill_privileges: bool,
    ) -> Result<(), Errno> {
        // What was written beyond the new end is not to be read there.
        self.module.drain();
        let file = Module::content(self.store(), node)?;
        node.privileges.learn(file.as_fd())?;
        {
            let _order = lock(&node.order);
            rustix::fs::ftruncate(&file, size)?;
            self.append_shape(
                node,
                &Record::Truncate {
                    file: self.store().file_id(node.identity),
                    size,
                },
            );
            let mut pending = lock(&node.pending);
            pending.ranges.remove_pages(size..u64::MAX);
            pending.expose();
            self.module
                .touch(self.store(), node, &mut pending, Instant::now());
        }
        self.drop_privileges(node, caller, kill_privileges)
    }

    pub fn allocate(
        &self,
        node: &Arc<Node>,
        offset: u64,
        length: u64,
        mode: u32,
        caller: &Caller,
    ) -> Result<(), Errno> {
        let flags = FallocateFlags::from_bits_retain(mode);
        let keep_size = flags.contains(FallocateFlags::KEEP_SIZE);
        let id = self.store().file_id(node.identity);
        let record = match flags - FallocateFlags::KEEP_SIZE {
            rest if rest.is_empty() => Record::Allocate {
                file: id,
                offset,
                length,
                keep_size,
            },
            FallocateFlags::PUNCH_HOLE => Record::Punch {
                file: id,
                offset,
                length,
            },
            FallocateFlags::ZERO_RANGE => Record::Zero {
                file: id,
                offset,
                length,
                keep_size,
            },
            _ => return Err(Errno::OPNOTSUPP),
        };
        self.module.drain();
        let file = Module::content(self.store(), node)?;
        node.privileges.learn(file.as_fd())?;
        {
            let _order = lock(&node.order);
            rustix::fs::fallocate(&file, flags, offset, length)?;
            self.append_shape(node, &record);
            let mut pending = lock(&node.pending);
            pending.expose();
            if !matches!(record, Record::Allocate { .. }) {
                pending
                    .ranges
                    .remove_pages(offset..offset.saturating_add(length));
            }
            self.module
                .touch(self.store(), node, &mut pending, Instant::now());
        }
        self.drop_privileges(node, caller, caller.uid != 0)
    }

    /// Called with the node's `order` held.
    fn append_shape(&self, node: &Node, record: &Record<'_>) {
        if node.is_journalled() {
            self.module.journal.append(record);
        }
    }

    pub fn seek(&self, node: &Node, offset: u64, whence: u32) -> Result<u64, Errno> {
        let file = Module::content(self.store(), node)?;
        match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => rustix::fs::seek(&file, SeekFrom::Data(offset)),
            Ok(libc::SEEK_HOLE) => rustix::fs::seek(&file, SeekFrom::Hole(offset)),
            _ => Err(Errno::INVAL),
        }
    }

    pub fn copy_range(
        &self,
        source: &Node,
        offset: u64,
        target: &Arc<Node>,
        target_offset: u64,
        length: u64,
        caller: &Caller,
    ) -> Result<u32, Errno> {
        /// What one answer can report, in whole pages.
        const LENGTH_MAX: u64 = 1 << 30;
        let from = Module::content(self.store(), source)?;
        let to = Module::content(self.store(), target)?;
        let (mut start, mut target_start) = (offset, target_offset);
        let length = usize::try_from(length.min(LENGTH_MAX)).map_err(|_| Errno::INVAL)?;
        let copied = {
            let _order = lock(&target.order);
            let copied = rustix::fs::copy_file_range(
                &from,
                Some(&mut start),
                &to,
                Some(&mut target_start),
                length,
            )?;
            let mut pending = lock(&target.pending);
            pending.expose();
            pending
                .ranges
                .add(target_offset..target_offset + copied as u64);
            self.module
                .touch(self.store(), target, &mut pending, Instant::now());
            copied
        };
        self.drop_privileges(target, caller, caller.uid != 0)?;
        u32::try_from(copied).map_err(|_| Errno::INVAL)
    }
}

fn is_writer(flags: u32) -> bool {
    flags & libc::O_ACCMODE.unsigned_abs() != libc::O_RDONLY.unsigned_abs()
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
