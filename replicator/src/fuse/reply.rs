//! Answers. Each consumes the [`Reply`] that came with its request; one that is dropped unanswered answers EIO.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::abi::{self, open};
use super::device::Device;
use super::value::{BackingId, HandleId, NodeId, Unique, encode_device};

/// Time as the kernel stores it.
pub type Stamp = (i64, u32);

/// `struct fuse_attr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub inode: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub accessed: Stamp,
    pub modified: Stamp,
    pub changed: Stamp,
    /// With `S_IFMT` bits.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// (major, minor) of a device node.
    pub device: (u32, u32),
    pub block_size: u32,
}

/// What STATX tells beyond the attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// `stx_mask` of the answer.
    pub mask: u32,
    pub born: Stamp,
    pub attributes: u64,
    pub attributes_mask: u64,
}

/// A name that was found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub node: NodeId,
    pub generation: u64,
    pub attributes: Attributes,
    pub name_valid: Duration,
    pub attributes_valid: Duration,
}

impl Entry {
    pub const LENGTH: usize = 128;

    /// A name that is known not to exist.
    #[must_use]
    pub fn absent(name_valid: Duration) -> Entry {
        Entry {
            node: NodeId(0),
            generation: 0,
            attributes: Attributes::default(),
            name_valid,
            attributes_valid: Duration::ZERO,
        }
    }

    pub(super) fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = Out::<{ Self::LENGTH }>::new();
        out.u64(self.node.0).u64(self.generation);
        out.u64(self.name_valid.as_secs())
            .u64(self.attributes_valid.as_secs());
        out.u32(self.name_valid.subsec_nanos())
            .u32(self.attributes_valid.subsec_nanos());
        out.attributes(&self.attributes);
        out.finish()
    }
}

/// How the kernel serves an open file's reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Through its own page cache; what an earlier open left there may be kept.
    Cached { keep: bool },
    /// By the backing file, without asking.
    Passthrough(BackingId),
    /// Reads and writes come here; mappings use the backing file.
    Direct(BackingId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub handle: HandleId,
    pub served: Served,
}

impl Opened {
    const LENGTH: usize = 16;

    fn encode(&self) -> [u8; Self::LENGTH] {
        let (flags, backing) = match self.served {
            Served::Cached { keep: true } => (open::KEEP_CACHE, 0),
            Served::Cached { keep: false } => (0, 0),
            Served::Passthrough(backing) => (open::PASSTHROUGH, backing.0),
            Served::Direct(backing) => (open::PASSTHROUGH | open::DIRECT_IO, backing.0),
        };
        let mut out = Out::<{ Self::LENGTH }>::new();
        out.u64(self.handle.0).u32(flags).i32(backing);
        out.finish()
    }
}

/// `struct fuse_kstatfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u32,
    pub name_max: u32,
    pub fragment_size: u32,
}

/// The duty to answer one request, now or later, from any thread.
#[must_use = "the caller waits for an answer"]
pub struct Reply {
    device: Arc<Device>,
    unique: Unique,
    is_due: bool,
}

impl Reply {
    pub(super) fn new(device: &Arc<Device>, unique: Unique) -> Reply {
        Reply {
            device: Arc::clone(device),
            unique,
            is_due: true,
        }
    }

    fn send(mut self, result: Result<&[&[u8]], Errno>) {
        self.is_due = false;
        let sent = match result {
            Ok(parts) => self.device.answer(self.unique, None, parts),
            Err(errno) => self.device.answer(self.unique, Some(errno), &[]),
        };
        if let Err(error) = sent {
            tracing::error!(%error, unique = self.unique.0, "the kernel refused an answer");
            let _ = self.device.answer(self.unique, Some(Errno::IO), &[]);
        }
    }

    /// For requests that nobody waits for.
    pub fn none(mut self) {
        self.is_due = false;
    }

    pub fn empty(self, result: Result<(), Errno>) {
        self.send(result.map(|()| &[] as &[&[u8]]));
    }

    pub fn bytes(self, result: Result<&[u8], Errno>) {
        match result {
            Ok(bytes) => self.send(Ok(&[bytes])),
            Err(errno) => self.send(Err(errno)),
        }
    }

    fn array<const N: usize>(self, result: Result<[u8; N], Errno>) {
        self.bytes(
            result
                .as_ref()
                .map(<[u8; N]>::as_slice)
                .map_err(|&errno| errno),
        );
    }

    pub fn entry(self, result: Result<Entry, Errno>) {
        self.array(result.map(|entry| entry.encode()));
    }

    pub fn opened(self, result: Result<Opened, Errno>) {
        self.array(result.map(|opened| opened.encode()));
    }

    pub fn created(self, result: Result<(Entry, Opened), Errno>) {
        match result {
            Ok((entry, opened)) => self.send(Ok(&[&entry.encode(), &opened.encode()])),
            Err(errno) => self.send(Err(errno)),
        }
    }

    pub fn attributes(self, result: Result<(Attributes, Duration), Errno>) {
        self.array(result.map(|(attributes, valid)| {
            let mut out = Out::<104>::new();
            out.u64(valid.as_secs())
                .u32(valid.subsec_nanos())
                .u32(0)
                .attributes(&attributes);
            out.finish()
        }));
    }

    pub fn statx(self, result: Result<(Attributes, Birth, Duration), Errno>) {
        self.array(
            result.map(|(attributes, birth, valid)| encode_statx(&attributes, &birth, valid)),
        );
    }

    /// The number of bytes written or copied.
    pub fn written(self, result: Result<u32, Errno>) {
        self.array(result.map(|size| pair(size, 0)));
    }

    pub fn offset(self, result: Result<u64, Errno>) {
        self.array(result.map(u64::to_ne_bytes));
    }

    /// The size that an extended attribute (or their list) needs.
    pub fn extended_size(self, size: u32) {
        self.array(Ok(pair(size, 0)));
    }

    pub fn capacity(self, result: Result<Capacity, Errno>) {
        self.array(result.map(|capacity| {
            let mut out = Out::<80>::new();
            out.u64(capacity.blocks)
                .u64(capacity.blocks_free)
                .u64(capacity.blocks_available);
            out.u64(capacity.files).u64(capacity.files_free);
            out.u32(capacity.block_size)
                .u32(capacity.name_max)
                .u32(capacity.fragment_size);
            out.finish()
        }));
    }

    /// The result of an ioctl with its output bytes.
    pub fn control(self, result: Result<&[u8], Errno>) {
        match result {
            Ok(output) => self.send(Ok(&[&[0; 16], output])),
            Err(errno) => self.send(Err(errno)),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.is_due {
            tracing::error!(unique = self.unique.0, "a request was left unanswered");
            let _ = self.device.answer(self.unique, Some(Errno::IO), &[]);
        }
    }
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut out = Out::<8>::new();
    out.u32(first).u32(second);
    out.finish()
}

fn encode_statx(attributes: &Attributes, birth: &Birth, valid: Duration) -> [u8; 288] {
    let mut out = Out::<288>::new();
    out.u64(valid.as_secs())
        .u32(valid.subsec_nanos())
        .u32(0)
        .u64(0)
        .u64(0);
    out.u32(birth.mask)
        .u32(attributes.block_size)
        .u64(birth.attributes);
    out.u32(attributes.links)
        .u32(attributes.uid)
        .u32(attributes.gid);
    // Mode has 16 bits here; S_IFMT and permissions fit.
    out.u32(attributes.mode & 0xffff);
    out.u64(attributes.inode)
        .u64(attributes.size)
        .u64(attributes.blocks);
    out.u64(birth.attributes_mask);
    for (seconds, nanoseconds) in [
        attributes.accessed,
        birth.born,
        attributes.changed,
        attributes.modified,
    ] {
        out.i64(seconds).u32(nanoseconds).u32(0);
    }
    out.u32(attributes.device.0).u32(attributes.device.1);
    out.finish()
}

/// A reply body of fixed length, filled from the front; what is not written stays zero.
pub(super) struct Out<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Out<N> {
    pub(super) fn new() -> Self {
        Out {
            bytes: [0; N],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    /// `struct fuse_attr`, 88 bytes.
    fn attributes(&mut self, attributes: &Attributes) -> &mut Self {
        self.u64(attributes.inode)
            .u64(attributes.size)
            .u64(attributes.blocks);
        let stamps = [attributes.accessed, attributes.modified, attributes.changed];
        for (seconds, _) in stamps {
            self.i64(seconds);
        }
        for (_, nanoseconds) in stamps {
            self.u32(nanoseconds);
        }
        self.u32(attributes.mode)
            .u32(attributes.links)
            .u32(attributes.uid)
            .u32(attributes.gid);
        self.u32(encode_device(attributes.device))
            .u32(attributes.block_size)
            .u32(0)
    }

    pub(super) fn finish(&self) -> [u8; N] {
        debug_assert!(self.length <= N, "a reply has a fixed length");
        self.bytes
    }
}

const _: () = assert!(
    abi::OUT_HEADER_LENGTH == 16 && Entry::LENGTH == 40 + 88,
    "layouts of linux/fuse.h"
);
