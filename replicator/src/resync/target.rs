//! The secondary's side: what it still has to ask, asked in a window, and the hashing of its own files.
//!
//! Listings are asked first, so that all names are known early and the totals are true; files after them. The thread that receives
//! owns this and calls it after each batch; only hashing runs in a thread of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::Builder;
use std::time::Instant;

use super::progress::Meter;
use super::window::Window;
use super::{BLOCK_BYTES, Progress};
use crate::apply::{Applier, ApplyError, BlockHashes, Want, Zeroes};
use crate::link::LinkError;
use crate::link::channel::Channel;
use crate::record::{FileId, Kind};
use crate::wire::{Control, Listing};

/// Listings asked and not arrived: each may be long.
const LISTINGS_MAX: usize = 16;
/// Files handed to the hashing thread ahead of it.
const HASHING_MAX: usize = 8;
/// Hashes in one frame: 128 MiB of a file.
const HASHES_IN_FRAME: usize = 1024;

/// See the module.
pub struct Target {
    channel: Arc<Channel>,
    listings: VecDeque<FileId>,
    files: VecDeque<Want>,
    listings_asked: usize,
    window: Arc<Window>,
    has_caught_up: bool,
    hashing: SyncSender<(FileId, File)>,
    /// Files handed to the hashing thread whose last hashes it has not sent.
    unhashed: Arc<AtomicUsize>,
    pub meter: Meter,
}

impl Target {
    pub fn new(channel: &Arc<Channel>) -> io::Result<Target> {
        let (hashing, files) = sync_channel(HASHING_MAX);
        let window = Arc::new(Window::default());
        let unhashed = Arc::new(AtomicUsize::new(0));
        let hasher = Hasher {
            channel: channel.clone(),
            window: window.clone(),
            unhashed: unhashed.clone(),
        };
        Builder::new()
            .name("resync-hash".to_owned())
            .spawn(move || hasher.run(&files))?;
        Ok(Target {
            channel: channel.clone(),
            listings: VecDeque::new(),
            files: VecDeque::new(),
            listings_asked: 0,
            window,
            has_caught_up: false,
            hashing,
            unhashed,
            meter: Meter::start(Instant::now()),
        })
    }

    /// Takes what applying an entry left to be asked.
    pub fn want(&mut self, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Listing(directory) => self.listings.push_back(directory),
                Want::Content(_) | Want::Comparison(_) => {
                    self.meter.counts.files_total += 1;
                    self.files.push_back(want);
                }
            }
        }
    }

    /// Counts what a listing brings.
    pub fn listed(&mut self, listing: &Listing) {
        let files = listing
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::File);
        self.meter.counts.bytes_total += files.map(|entry| entry.size).sum::<u64>();
        if listing.is_last {
            self.listings_asked = self.listings_asked.saturating_sub(1);
        }
    }

    /// A wanted directory does not exist any more.
    pub fn gone(&mut self) {
        self.listings_asked = self.listings_asked.saturating_sub(1);
    }

    /// The primary dealt with this many requests.
    pub fn served(&mut self, requests: u64) -> Result<(), LinkError> {
        if self.window.serve(requests) {
            Ok(())
        } else {
            Err(LinkError::Unexpected(
                "an answer to what was not asked".to_owned(),
            ))
        }
    }

    /// Whether `CaughtUp` was sent: the only time at which the end may come.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// The progress, when it is due.
    pub fn due(&mut self) -> Option<Progress> {
        let left = self.files.len() as u64 + self.window.under_way();
        self.meter.counts.files_done = self.meter.counts.files_total.saturating_sub(left);
        self.meter.due(Instant::now())
    }

    /// The progress at the end.
    #[must_use]
    pub fn finished(mut self) -> Progress {
        self.meter.counts.files_done = self.meter.counts.files_total;
        self.meter.reading(Instant::now())
    }

    /// Asks as much as the window allows.
    pub fn ask(&mut self, applier: &mut Applier) -> Result<(), TargetError> {
        while !self.listings.is_empty()
            && self.listings_asked < LISTINGS_MAX
            && self.window.try_enter()
        {
            let Some(directory) = self.listings.pop_front() else {
                break;
            };
            self.send(&Control::WantListing { directory })?;
            self.listings_asked += 1;
        }
        while let Some(want) = self.files.pop_front() {
            if !self.ask_file(applier, want)? {
                self.files.push_front(want);
                break;
            }
        }
        if !self.has_caught_up && self.is_idle() && applier.unlisted() == 0 {
            // Most of what has to reach the disk does so before commits begin to wait for this node.
            applier.settle()?;
            if self.window.enter() {
                self.send(&Control::CaughtUp)?;
                self.has_caught_up = true;
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.listings.is_empty()
            && self.files.is_empty()
            && self.listings_asked == 0
            && self.unhashed.load(Ordering::SeqCst) == 0
            && self.window.under_way() == 0
    }

    /// False when the file must wait its turn.
    fn ask_file(&mut self, applier: &Applier, want: Want) -> Result<bool, TargetError> {
        let file = match want {
            Want::Content(file) => {
                let has_room = self.window.try_enter();
                if has_room {
                    self.send(&Control::WantFile { file })?;
                }
                return Ok(has_room);
            }
            Want::Comparison(file) => file,
            Want::Listing(_) => return Ok(true),
        };
        let Some(opened) = applier.open(file)? else {
            // Removed since, by an entry of the log.
            return Ok(true);
        };
        self.unhashed.fetch_add(1, Ordering::SeqCst);
        match self.hashing.try_send((file, opened)) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => {
                self.unhashed.fetch_sub(1, Ordering::SeqCst);
                Ok(false)
            }
            Err(TrySendError::Disconnected(_)) => Err(TargetError::Link(LinkError::Closed)),
        }
    }

    fn send(&self, control: &Control) -> Result<(), LinkError> {
        Ok(self.channel.send_control(control)?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.window.close();
    }
}

/// Why asking ended the session.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The hashing thread's part.
struct Hasher {
    channel: Arc<Channel>,
    window: Arc<Window>,
    unhashed: Arc<AtomicUsize>,
}

impl Hasher {
    fn run(&self, files: &Receiver<(FileId, File)>) {
        while let Ok((file, opened)) = files.recv() {
            match self.hash(file, opened) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(?file, "cannot compare a file, the session ends: {error}");
                    self.channel.close();
                    return;
                }
            }
        }
    }

    /// Sends the hashes of one file; an empty file is one empty frame. False when the session is over.
    fn hash(&self, file: FileId, opened: File) -> io::Result<bool> {
        let mut hashes = BlockHashes::new(opened, BLOCK_BYTES, Zeroes::Matter)?.peekable();
        let mut first_block = 0;
        loop {
            let part = hashes
                .by_ref()
                .take(HASHES_IN_FRAME)
                .collect::<io::Result<Vec<_>>>()?;
            let next_block = first_block + part.len() as u64;
            let is_last = hashes.peek().is_none();
            if !self.window.enter() {
                return Ok(false);
            }
            if is_last {
                // Before the answer can come: the receiving thread looks for work when it does.
                self.unhashed.fetch_sub(1, Ordering::SeqCst);
            }
            self.channel.send_control(&Control::Hashes {
                file,
                first_block,
                hashes: part,
                is_last,
            })?;
            if is_last {
                return Ok(true);
            }
            first_block = next_block;
        }
    }
}
