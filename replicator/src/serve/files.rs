//! Regular files that are open: reading, writing, changing their shape.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::config::SyncMode;
use super::lock::lock;
use super::module::Module;
use super::node::{Node, Policy};
use super::opening::DATA_SYNC;
use super::tree::Tree;
use crate::fuse::{Caller, Operation, Request};
use crate::record::Record;

/// The bit that `O_SYNC` has and `O_DSYNC` has not.
const FULL_SYNC: u32 = libc::O_SYNC.unsigned_abs() & !DATA_SYNC;

impl Tree {
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
            // A file system that shares blocks copies holes as holes.
            pending
                .ranges
                .mark(target_offset..target_offset + copied as u64);
            self.module
                .touch(self.store(), target, &mut pending, Instant::now());
            copied
        };
        self.drop_privileges(target, caller, caller.uid != 0)?;
        u32::try_from(copied).map_err(|_| Errno::INVAL)
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
