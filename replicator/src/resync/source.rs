//! The primary's side: serves the secondary's requests, one after the other, in its own thread.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::pace::Pace;
use super::progress::Meter;
use super::{BLOCK_BYTES, Request};
use crate::apply::{BlockHashes, HASH_BYTES, Zeroes};
use crate::journal::{Journal, Trees};
use crate::lineage::StoreError;
use crate::link::channel::Channel;
use crate::link::events::Events;
use crate::link::shipper::Shipper;
use crate::record::{FileId, Kind};
use crate::wire::{Control, Listing, Logged};

/// Content marked as changed before it is given time to reach the log, so that live commits find a short queue.
const STRIDE_BYTES: u64 = 4 << 20;
/// Bytes on their way to the peer beyond which no more content is marked.
const BACKLOG_BYTES: usize = 8 << 20;

#[derive(Clone, Copy, Debug)]
pub struct SourceSettings {
    /// Content sent because of the resynchronisation, in bytes per second. 0 is no limit.
    pub bandwidth: u64,
}

/// Ends the resynchronisation: true when it has ended, false when the session is over.
pub type Finish = Box<dyn Fn() -> Result<bool, StoreError> + Send>;

/// Why requests are not served any more.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("the session is over")]
    Over,
    #[error("cannot {attempt}: {source}")]
    Local {
        attempt: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Senseless(&'static str),
}

/// A file under comparison: its hashes here, taken as the peer's arrive.
struct Compared {
    file: FileId,
    hashes: BlockHashes,
    next_block: u64,
}

/// See the module.
pub struct Source {
    shipper: Arc<Shipper>,
    trees: Arc<dyn Trees>,
    channel: Arc<Channel>,
    events: Arc<dyn Events>,
    finish: Finish,
    pace: Pace,
    meter: Meter,
    compared: Option<Compared>,
    served: u64,
    marked_bytes: u64,
}

impl Source {
    #[must_use]
    pub fn new(
        settings: SourceSettings,
        (shipper, trees, channel): (Arc<Shipper>, Arc<dyn Trees>, Arc<Channel>),
        events: Arc<dyn Events>,
        finish: Finish,
    ) -> Source {
        let now = Instant::now();
        Source {
            shipper,
            trees,
            channel,
            events,
            finish,
            pace: Pace::new(settings.bandwidth, now),
            meter: Meter::start(now),
            compared: None,
            served: 0,
            marked_bytes: 0,
        }
    }

    /// Serves until the resynchronisation or the session has ended.
    pub fn serve(mut self, requests: &Receiver<Request>) {
        loop {
            // The sender goes with the session.
            let Ok(request) = requests.recv() else { return };
            match self.answer(request) {
                Ok(false) => {}
                Ok(true) => {
                    self.events.progress(&self.meter.reading(Instant::now()));
                    tracing::info!(progress = ?self.meter.counts, "the peer is brought up to date");
                    return;
                }
                Err(SourceError::Over) => return,
                Err(error) => {
                    self.events.degraded(&format!(
                        "resynchronisation given up, it begins again: {error}"
                    ));
                    self.channel.close();
                    return;
                }
            }
            if let Some(progress) = self.meter.due(Instant::now()) {
                self.events.progress(&progress);
            }
        }
    }

    /// True when the resynchronisation has ended.
    fn answer(&mut self, request: Request) -> Result<bool, SourceError> {
        match request {
            Request::Listing(directory) => self.list(directory)?,
            Request::Content(file) => self.send_whole(file)?,
            Request::Hashes {
                file,
                first_block,
                hashes,
                is_last,
            } => {
                self.compare(file, first_block, &hashes, is_last)?;
            }
            Request::CaughtUp => {
                self.trees.settle().map_err(|source| SourceError::Local {
                    attempt: "ship what changed",
                    source,
                })?;
                return if (self.finish)()? {
                    Ok(true)
                } else {
                    Err(SourceError::Over)
                };
            }
        }
        self.served += 1;
        self.shipper.flush();
        let told = self.channel.send_control(&Control::Served {
            requests: self.served,
        });
        told.map_err(|_| SourceError::Over)?;
        Ok(false)
    }

    fn list(&mut self, directory: FileId) -> Result<(), SourceError> {
        let (shipper, channel) = (self.shipper.clone(), self.channel.clone());
        let counts = &mut self.meter.counts;
        let listed = self.trees.list(directory, &mut |itself, entries| {
            for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
                counts.files_total += 1;
                counts.bytes_total += entry.size;
            }
            // The namespace stands still meanwhile.
            for part in Listing::in_parts(directory, itself, entries) {
                shipper.append_logged(&channel, &Logged::Listing(part));
            }
        });
        match listed {
            Ok(()) => {}
            Err(error) if is_gone(&error) => {
                shipper.append_logged(&channel, &Logged::Gone { directory });
            }
            Err(source) => {
                return Err(SourceError::Local {
                    attempt: "list a directory",
                    source,
                });
            }
        }
        Ok(())
    }

    fn send_whole(&mut self, file: FileId) -> Result<(), SourceError> {
        let Some(opened) = self.open(file)? else {
            return Ok(());
        };
        let size = size_of(&opened)?;
        self.mark_data(file, &opened, 0..size)?;
        self.meter.counts.files_done += 1;
        self.meter.counts.bytes_done += size;
        Ok(())
    }

    /// Compares the peer's hashes with what stands here, and marks the blocks that differ.
    fn compare(
        &mut self,
        file: FileId,
        first_block: u64,
        theirs: &[[u8; HASH_BYTES]],
        is_last: bool,
    ) -> Result<(), SourceError> {
        if first_block == 0 {
            self.compared = None;
            if let Some(opened) = self.open(file)? {
                let hashes = BlockHashes::new(opened, BLOCK_BYTES, Zeroes::Matter)
                    .map_err(local("read a file"))?;
                self.compared = Some(Compared {
                    file,
                    hashes,
                    next_block: 0,
                });
            }
        }
        // None: the file is gone here, and its removal stands in the log.
        let Some(mut compared) = self.compared.take() else {
            return Ok(());
        };
        if compared.file != file || compared.next_block != first_block {
            return Err(SourceError::Senseless("hashes out of order"));
        }
        let mut differing: Vec<Range<u64>> = Vec::new();
        for hash in theirs {
            let Some(ours) = compared.hashes.next() else {
                break;
            };
            if ours.map_err(local("read a file"))? != *hash {
                extend(&mut differing, block(compared.next_block));
            }
            compared.next_block += 1;
        }
        self.meter.counts.bytes_done += (theirs.len() * BLOCK_BYTES) as u64;
        let next_block = compared.next_block;
        for range in differing {
            self.mark(file, range)?;
        }
        if !is_last {
            compared.next_block = first_block + theirs.len() as u64;
            self.compared = Some(compared);
            return Ok(());
        }
        drop(compared);
        if let Some(opened) = self.open_again(file)? {
            let size = size_of(&opened)?;
            let start = next_block.saturating_mul(BLOCK_BYTES as u64);
            if start < size {
                self.mark_data(file, &opened, start..size)?;
                self.meter.counts.bytes_done += size - start;
            }
        }
        self.meter.counts.files_done += 1;
        Ok(())
    }

    /// Opens a file and ships its size and modification time: every request for a file begins so. `None` when it is gone.
    fn open(&self, file: FileId) -> Result<Option<File>, SourceError> {
        match self
            .trees
            .ship_size(file)
            .and_then(|()| self.trees.open(file))
        {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(SourceError::Local {
                attempt: "open a file",
                source,
            }),
        }
    }

    fn open_again(&self, file: FileId) -> Result<Option<File>, SourceError> {
        match self.trees.open(file) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(SourceError::Local {
                attempt: "open a file",
                source,
            }),
        }
    }

    /// Marks what is not a hole; where the peer's file is shorter or new, holes are holes already.
    fn mark_data(
        &mut self,
        file: FileId,
        opened: &File,
        within: Range<u64>,
    ) -> Result<(), SourceError> {
        let mut at = within.start;
        while at < within.end {
            let start = match rustix::fs::seek(opened.as_fd(), SeekFrom::Data(at)) {
                Ok(start) if start < within.end => start,
                // Nothing but a hole to the end, or the file became shorter meanwhile, which stands in the log.
                Ok(_) | Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(local("read a file")(error.into())),
            };
            let end = match rustix::fs::seek(opened.as_fd(), SeekFrom::Hole(start)) {
                Ok(end) => end.min(within.end),
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(local("read a file")(error.into())),
            };
            self.mark(file, start..end)?;
            at = end;
        }
        Ok(())
    }

    /// Marks in strides, at the configured pace, and lets each reach the log and most of it the peer.
    fn mark(&mut self, file: FileId, range: Range<u64>) -> Result<(), SourceError> {
        let mut at = range.start;
        while at < range.end {
            let end = range
                .end
                .min(at + (STRIDE_BYTES - self.marked_bytes).max(1));
            match self
                .trees
                .mark_changed(file, std::slice::from_ref(&(at..end)))
            {
                Ok(()) => {}
                Err(error) if is_gone(&error) => return Ok(()),
                Err(source) => {
                    return Err(SourceError::Local {
                        attempt: "mark a file as changed",
                        source,
                    });
                }
            }
            self.marked_bytes += end - at;
            if self.marked_bytes >= STRIDE_BYTES {
                self.marked_bytes = 0;
                self.trees.settle().map_err(local("ship what changed"))?;
                self.shipper.flush();
                if !self.shipper.wait_for_room(BACKLOG_BYTES) {
                    return Err(SourceError::Over);
                }
            }
            self.wait_for_pace(end - at)?;
            at = end;
        }
        Ok(())
    }

    fn wait_for_pace(&mut self, bytes: u64) -> Result<(), SourceError> {
        let mut left = self.pace.spend(bytes, Instant::now());
        while !left.is_zero() {
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
            if !self.shipper.wait_for_room(usize::MAX) {
                return Err(SourceError::Over);
            }
            if let Some(progress) = self.meter.due(Instant::now()) {
                self.events.progress(&progress);
            }
        }
        Ok(())
    }
}

fn block(index: u64) -> Range<u64> {
    let start = index * BLOCK_BYTES as u64;
    start..start + BLOCK_BYTES as u64
}

/// Adds a range, joined to the one before where they touch.
fn extend(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn size_of(file: &File) -> Result<u64, SourceError> {
    Ok(file.metadata().map_err(local("read a file"))?.len())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
}

fn local(attempt: &'static str) -> impl Fn(io::Error) -> SourceError {
    move |source| SourceError::Local { attempt, source }
}
