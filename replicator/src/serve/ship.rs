//! Reading changed content and appending it.
//!
//! Order: the node's `order` lock is held over reading a range and appending it, and over every change of size, so a record never
//! carries content that is older than a record before it. Reads go through the page cache, so they see what was written, synced
//! or not.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::lock::lock;
use super::module::Module;
use super::node::Node;
use super::ranges::Ranges;
use super::store::Store;
use super::sys;
use crate::record::{FileId, Record};

/// The longest content of one record, in bytes.
pub const CONTENT_MAX: usize = 256 << 10;

/// Longer ranges are looked at for holes before they are read; shorter ones that a commit waits for are not worth the call.
const SCANNED_FROM: u64 = 1 << 20;

/// How much of a file is looked at for holes at once, in bytes.
const STRETCH: u64 = 64 << 20;

/// No file system has larger blocks.
const BLOCK_MAX: u64 = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A commit: everything. The kernel holds the inode's lock, so no passthrough write is under way.
    Commit,
    /// A caller that goes on when all is appended, while others may write.
    Whole,
    /// Nobody: a bounded part, and only if no commit waits for the same file.
    Background,
}

impl Urgency {
    /// How much is read while the file's order is held, in bytes.
    fn length_max(self) -> u64 {
        match self {
            Urgency::Commit | Urgency::Whole => u64::MAX,
            Urgency::Background => 1 << 20,
        }
    }
}

impl Module {
    /// Appends a bounded part of a node's pending content, unless a commit is at it. Returns whether some is left.
    pub fn ship(&self, store: &Store, node: &Arc<Node>) -> Result<bool, Errno> {
        if node.commits.load(Ordering::Acquire) > 0 {
            return Ok(true);
        }
        let _order = lock(&node.order);
        self.ship_ordered(store, node, Urgency::Background)
    }

    /// Appends all that is pending of a node now.
    pub fn ship_all(&self, store: &Store, node: &Arc<Node>) -> Result<(), Errno> {
        let _waiting = Waiting::new(node);
        let _order = lock(&node.order);
        self.ship_ordered(store, node, Urgency::Whole).map(drop)
    }

    /// As [`ship`](Self::ship) or [`ship_all`](Self::ship_all), for a caller that holds the node's `order`.
    pub fn ship_ordered(
        &self,
        store: &Store,
        node: &Arc<Node>,
        urgency: Urgency,
    ) -> Result<bool, Errno> {
        if lock(&node.pending).needs_protection() {
            self.protect(store, node)?;
        }
        let (ranges, is_mapped, is_resized) = {
            let mut pending = lock(&node.pending);
            let is_resized = std::mem::take(&mut pending.is_resized);
            (
                pending.ranges.take(urgency.length_max()),
                pending.is_mapped,
                is_resized,
            )
        };
        if ranges.is_empty() && !is_resized {
            return Ok(false);
        }
        if !node.is_regular() || !node.is_journalled() || !self.journal.ships() {
            return Ok(!lock(&node.pending).ranges.is_empty());
        }
        let id = store.file_id(node.identity);
        let shipped = Module::content(store, node).and_then(|file| {
            self.ship_ranges(id, &file, &ranges, is_mapped, urgency)?;
            if is_resized {
                let size = rustix::fs::fstat(&file)?.st_size.unsigned_abs();
                self.journal.append(&Record::Truncate { file: id, size });
            }
            Ok(())
        });
        let mut pending = lock(&node.pending);
        match shipped {
            // The peer's modification time is now that of the append.
            Ok(()) => {
                pending.is_touched = true;
                self.enqueue(store, node, &mut pending);
            }
            // The object is gone: so is the need.
            Err(Errno::STALE) => {}
            Err(errno) => {
                for range in ranges.iter() {
                    pending.ranges.mark(range);
                }
                pending.is_resized |= is_resized;
                drop(pending);
                return self.check(store, Err(errno));
            }
        }
        Ok(!pending.ranges.is_empty())
    }

    /// Writes everything out, so that from now on each first store into a page makes an event. What was stored before is among the
    /// pending ranges after it: the page's mapping was told, or its becoming dirty.
    fn protect(&self, store: &Store, node: &Arc<Node>) -> Result<(), Errno> {
        let exposures = lock(&node.pending).exposures;
        let written_out =
            Module::content(store, node).and_then(|file| sys::write_out(file.as_fd(), 0, u64::MAX));
        self.check(store, written_out)?;
        self.drain();
        let mut pending = lock(&node.pending);
        // A write that came meanwhile may be of before or of after: the next time tells.
        pending.is_protected = pending.exposures == exposures;
        Ok(())
    }

    fn ship_ranges(
        &self,
        id: FileId,
        file: &File,
        ranges: &Ranges,
        is_mapped: bool,
        urgency: Urgency,
    ) -> Result<(), Errno> {
        for range in ranges.iter() {
            let length = range.end - range.start;
            if is_mapped {
                // Stores after this make events again; those before it are read below.
                sys::write_out(file.as_fd(), range.start, length)?;
            }
            // Seeking waits for the inode's lock and with it for a write that made its event but not yet its size.
            let scans = urgency != Urgency::Commit
                || is_mapped
                || !ranges.is_exact()
                || length >= SCANNED_FROM;
            if scans {
                self.ship_segments(id, file, range)?;
            } else {
                self.ship_content(id, file, range)?;
            }
        }
        Ok(())
    }

    /// Data as content, holes as holes.
    fn ship_segments(&self, id: FileId, file: &File, range: Range<u64>) -> Result<(), Errno> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(STRETCH));
            // All of a stretch before any of it is read: what has been read counts as data while it is cached, written or not.
            let found = segments(file, start..end)?;
            if found.is_empty() {
                break; // The file ends before this; a range of which only the start is known goes on for ever.
            }
            for segment in found {
                match segment {
                    Segment::Data(range) => self.ship_content(id, file, range)?,
                    Segment::Hole(range) => {
                        let (offset, length) = (range.start, range.end - range.start);
                        self.journal.append(&Record::Punch {
                            file: id,
                            offset,
                            length,
                        });
                    }
                }
            }
            start = end;
        }
        Ok(())
    }

    fn ship_content(&self, id: FileId, file: &File, range: Range<u64>) -> Result<(), Errno> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(CONTENT_MAX, 0);
            let mut offset = range.start;
            while offset < range.end {
                let length = usize::try_from(range.end - offset)
                    .unwrap_or(CONTENT_MAX)
                    .min(CONTENT_MAX);
                let read = match file.read_at(&mut buffer[..length], offset) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                };
                self.append_content(id, offset, &buffer[..read]);
                offset += read as u64;
            }
            Ok(())
        })
    }

    /// Appends content that the caller has in hand, in records of bounded length.
    pub fn append_content(&self, file: FileId, offset: u64, content: &[u8]) {
        let mut offset = offset;
        for part in content.chunks(CONTENT_MAX) {
            self.journal.append(&Record::Data {
                file,
                offset,
                content: Cow::Borrowed(part),
            });
            offset += part.len() as u64;
        }
        self.meters
            .bytes_shipped
            .fetch_add(content.len() as u64, Ordering::Relaxed);
    }
}

enum Segment {
    Data(Range<u64>),
    Hole(Range<u64>),
}

/// The data and holes of a range, as far as the file reaches.
fn segments(file: &File, range: Range<u64>) -> Result<Vec<Segment>, Errno> {
    let mut segments = Vec::new();
    let mut position = range.start;
    while position < range.end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(data) => data,
            // No data from here on.
            Err(Errno::NXIO) => {
                let size = rustix::fs::fstat(file)?.st_size.unsigned_abs();
                // The peer's file may have a block there that reaches beyond this one's end: freed only if punched whole.
                if size > position {
                    let end = if range.end >= size {
                        size.next_multiple_of(BLOCK_MAX)
                    } else {
                        range.end
                    };
                    segments.push(Segment::Hole(position..end));
                }
                break;
            }
            Err(errno) => return Err(errno),
        };
        if data > position {
            segments.push(Segment::Hole(position..data.min(range.end)));
        }
        if data >= range.end {
            break;
        }
        let data_end = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(range.end),
            // Cut off meanwhile.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        segments.push(Segment::Data(data..data_end));
        position = data_end;
    }
    Ok(segments)
}

/// While one lives the background keeps away from the node.
pub struct Waiting<'n>(&'n Node);

impl<'n> Waiting<'n> {
    pub fn new(node: &'n Node) -> Waiting<'n> {
        node.commits.fetch_add(1, Ordering::AcqRel);
        Waiting(node)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.commits.fetch_sub(1, Ordering::AcqRel);
    }
}
