//! Opening regular files, and deciding who serves their content: the kernel, or this process.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::config::SyncMode;
use super::lock::lock;
use super::module::Module;
use super::node::{Life, Node, Policy};
use super::sys;
use super::tree::Tree;
use crate::fuse::{Caller, HandleId, Opened, Served};

/// The bit that `O_DSYNC` and `O_SYNC` share.
pub const DATA_SYNC: u32 = libc::O_DSYNC.unsigned_abs();

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
}

fn is_writer(flags: u32) -> bool {
    flags & libc::O_ACCMODE.unsigned_abs() != libc::O_RDONLY.unsigned_abs()
}
