//! One mounted directory: requests of the kernel, handed to those who know them.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use super::lock::lock;
use super::module::Module;
use super::node::Node;
use super::store::Store;
use super::sys;
use crate::fuse::{Device, HandleId, Handler, NodeId, Operation, Reply, Request};

/// Nobody else changes names below the mount, so the kernel may believe one until it is told otherwise.
pub const NAME_VALID: Duration = Duration::from_secs(24 * 3600);

/// Attributes may change without the kernel's knowledge: stores through a mapping move the modification time.
pub const ATTRIBUTES_VALID: Duration = Duration::from_secs(1);

pub struct Tree {
    pub module: Arc<Module>,
    pub index: usize,
    pub device: Arc<Device>,
    /// The kernel may read and write backing files by itself, and what it writes is captured.
    pub passes_through: bool,
    /// As above, but for objects that need no capture.
    pub passes_excluded_through: bool,
    pub directories: Mutex<HashMap<u64, Arc<OpenDirectory>>>,
    next_handle: AtomicU64,
    ended: Box<dyn Fn() + Send + Sync>,
}

/// An open directory: reading it moves a position.
pub struct OpenDirectory {
    pub file: File,
    pub position: Mutex<Option<u64>>,
}

impl Tree {
    pub fn new(
        module: Arc<Module>,
        index: usize,
        device: Arc<Device>,
        has_passthrough: bool,
        ended: Box<dyn Fn() + Send + Sync>,
    ) -> Tree {
        let passes_through = has_passthrough && module.capture.is_some();
        Tree {
            module,
            index,
            device,
            passes_through,
            passes_excluded_through: has_passthrough,
            directories: Mutex::default(),
            next_handle: AtomicU64::new(1),
            ended,
        }
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.module.stores[self.index]
    }

    pub fn keep_directory(&self, file: File) -> HandleId {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let directory = OpenDirectory {
            file,
            position: Mutex::new(Some(0)),
        };
        lock(&self.directories).insert(handle, Arc::new(directory));
        HandleId(handle)
    }

    pub fn directory(&self, handle: HandleId) -> Result<Arc<OpenDirectory>, Errno> {
        lock(&self.directories)
            .get(&handle.0)
            .cloned()
            .ok_or(Errno::BADF)
    }

    fn forget(&self, id: NodeId, count: u64) {
        let store = self.store();
        if let Some(node) = store.nodes.forget(store.inode(id), count) {
            self.let_go(&node);
        }
    }

    /// The kernel no longer knows the node: nobody can write to it any more.
    pub fn let_go(&self, node: &Arc<Node>) {
        if lock(&node.life).is_watched {
            self.module.drain();
        }
        self.module.release(self.store(), node);
    }

    fn dispatch(&self, request: &Request<'_>, reply: Reply, scratch: &mut Vec<u8>) {
        let node = match self.store().node(request.node) {
            Ok(node) => node,
            Err(errno) => return reply.empty(Err(errno)),
        };
        let node = &node;
        match &request.operation {
            Operation::Lookup { .. }
            | Operation::Symlink { .. }
            | Operation::MakeNode { .. }
            | Operation::MakeDirectory { .. }
            | Operation::Unlink { .. }
            | Operation::RemoveDirectory { .. }
            | Operation::Rename { .. }
            | Operation::Link { .. }
            | Operation::Create { .. }
            | Operation::CreateUnnamed { .. } => self.dispatch_name(request, node, reply),
            Operation::GetAttributes => reply.attributes(self.checked(self.attributes(node))),
            Operation::Statx => reply.statx(self.checked(self.statx(node))),
            Operation::SetAttributes(change) => {
                reply.attributes(
                    self.changed(self.set_attributes(node, change, &request.caller), &[node]),
                );
            }
            Operation::ReadLink => match self.checked(self.read_link(node)) {
                Ok(target) => reply.bytes(Ok(&target)),
                Err(errno) => reply.bytes(Err(errno)),
            },
            Operation::Capacity => reply.capacity(self.checked(self.capacity())),
            Operation::SetExtended {
                name,
                value,
                flags,
                kill_sgid,
            } => {
                let result = self.set_extended(node, name, value, *flags, *kill_sgid);
                reply.empty(self.changed(result, &[node]));
            }
            Operation::RemoveExtended { name } => {
                reply.empty(self.changed(self.remove_extended(node, name), &[node]));
            }
            Operation::GetExtended { name, size } => {
                self.get_extended(node, name, *size, reply, scratch);
            }
            Operation::ListExtended { size } => {
                self.list_extended(node, *size, &request.caller, reply, scratch);
            }
            Operation::OpenDirectory => reply.opened(self.checked(self.open_directory(node))),
            Operation::ReadDirectory {
                handle,
                offset,
                size,
                plus,
            } => {
                let result = self.read_directory(node, *handle, *offset, *size, *plus, scratch);
                match self.checked(result) {
                    Ok(()) => reply.bytes(Ok(scratch)),
                    Err(errno) => reply.bytes(Err(errno)),
                }
            }
            Operation::ReleaseDirectory { handle } => {
                lock(&self.directories).remove(&handle.0);
                reply.empty(Ok(()));
            }
            Operation::SynchronizeDirectory { handle, data_only } => {
                let commit = self.synchronize_directory(node, *handle, *data_only);
                self.module.answer(&commit, reply);
            }
            Operation::Control {
                command,
                input,
                output_size,
                is_unrestricted,
            } => {
                self.control(node, *command, input, *output_size, *is_unrestricted, reply);
            }
            _ => self.dispatch_content(request, node, reply, scratch),
        }
    }

    fn dispatch_name(&self, request: &Request<'_>, parent: &Arc<Node>, reply: Reply) {
        let caller = &request.caller;
        match request.operation {
            Operation::Lookup { name } => reply.entry(self.checked(self.look_up(parent, name))),
            Operation::Symlink { name, target } => {
                reply.entry(
                    self.changed(self.make_symlink(parent, name, target, caller), &[parent]),
                );
            }
            Operation::MakeNode {
                name,
                ownership,
                device,
            } => {
                reply.entry(self.changed(
                    self.make_node(parent, name, ownership, device, caller),
                    &[parent],
                ));
            }
            Operation::MakeDirectory { name, ownership } => {
                reply.entry(self.changed(
                    self.make_directory(parent, name, ownership, caller),
                    &[parent],
                ));
            }
            Operation::Unlink { name } => {
                reply.empty(self.changed(self.unlink(parent, name), &[parent]));
            }
            Operation::RemoveDirectory { name } => {
                reply.empty(self.changed(self.remove_directory(parent, name), &[parent]));
            }
            Operation::Rename {
                name,
                new_parent,
                new_name,
                flags,
            } => {
                reply.empty(self.store().node(new_parent).and_then(|new_parent| {
                    let result = self.rename(parent, name, &new_parent, new_name, flags);
                    self.changed(result, &[parent, &new_parent])
                }));
            }
            Operation::Link { target, name } => {
                reply.entry(self.store().node(target).and_then(|target| {
                    let result = self.link(&target, parent, name);
                    self.changed(result, &[&target, parent])
                }));
            }
            Operation::Create {
                name,
                flags,
                ownership,
            } => {
                reply.created(self.changed(
                    self.create(parent, name, flags, ownership, caller),
                    &[parent],
                ));
            }
            Operation::CreateUnnamed { flags, ownership } => {
                reply.created(self.checked(self.create_unnamed(parent, flags, ownership, caller)));
            }
            _ => reply.empty(Err(Errno::NOSYS)),
        }
    }

    fn dispatch_content(
        &self,
        request: &Request<'_>,
        node: &Arc<Node>,
        reply: Reply,
        scratch: &mut Vec<u8>,
    ) {
        match &request.operation {
            Operation::Open {
                flags,
                kill_privileges,
            } => {
                reply.opened(self.checked(self.open(
                    node,
                    *flags,
                    &request.caller,
                    *kill_privileges,
                )));
            }
            Operation::Read { offset, size, .. } => {
                match self.checked(self.read(node, *offset, *size, scratch)) {
                    Ok(()) => reply.bytes(Ok(scratch)),
                    Err(errno) => reply.bytes(Err(errno)),
                }
            }
            Operation::Write { .. } => reply.written(self.write(node, request)),
            Operation::Release { flags, .. } => {
                self.close(node, *flags);
                reply.empty(Ok(()));
            }
            Operation::Synchronize { data_only, .. } => {
                let commit = self.module.begin_commit(self.store(), node, *data_only);
                self.module.answer(&commit, reply);
            }
            Operation::Allocate {
                offset,
                length,
                mode,
                ..
            } => {
                let result = self.allocate(node, *offset, *length, *mode, &request.caller);
                reply.empty(self.changed(result, &[node]));
            }
            Operation::Seek { offset, whence, .. } => {
                reply.offset(self.checked(self.seek(node, *offset, *whence)));
            }
            Operation::CopyRange {
                offset,
                target,
                target_offset,
                length,
            } => {
                reply.written(self.store().node(*target).and_then(|target| {
                    let result = self.copy_range(
                        node,
                        *offset,
                        &target,
                        *target_offset,
                        *length,
                        &request.caller,
                    );
                    self.changed(result, &[&target])
                }));
            }
            _ => reply.empty(Err(Errno::NOSYS)),
        }
    }

    /// An error of the backing store is reported upward on its way to the caller.
    pub fn checked<T>(&self, result: Result<T, Errno>) -> Result<T, Errno> {
        self.module.check(self.store(), result)
    }

    /// As [`checked`](Self::checked), for a call that changed these objects: with `sync: always` it is a commit point.
    pub fn changed<T>(&self, result: Result<T, Errno>, nodes: &[&Arc<Node>]) -> Result<T, Errno> {
        let value = self.checked(result)?;
        self.module.commit_change(self.store(), nodes)?;
        Ok(value)
    }
}

impl Handler for Tree {
    fn thread_started(&self) -> std::io::Result<()> {
        Ok(sys::prepare_worker()?)
    }

    fn handle(&self, request: &Request<'_>, reply: Reply, scratch: &mut Vec<u8>) {
        match &request.operation {
            Operation::Forget { count } => {
                reply.none();
                self.forget(request.node, *count);
            }
            Operation::BatchForget(forgets) => {
                reply.none();
                forgets
                    .clone()
                    .for_each(|(node, count)| self.forget(node, count));
            }
            // Nothing here may be interrupted: an fsync that says EINTR is a failure to every database. What waits for the peer ends
            // when the peer answers, the node is granted to go alone, or it gives up its role.
            Operation::Interrupt { .. } => reply.none(),
            Operation::Destroy => reply.empty(Ok(())),
            Operation::Unknown | Operation::Initialize { .. } => reply.empty(Err(Errno::NOSYS)),
            _ => self.dispatch(request, reply, scratch),
        }
    }

    fn ended(&self) {
        (self.ended)();
    }
}
