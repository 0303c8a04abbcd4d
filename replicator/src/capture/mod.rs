//! What eBPF saw of the writes that the kernel carried out without this process (ebpf/capture.h is the contract).
//!
//! Invariant: when [`Capture::drain`] returns, every event that stood in the ring when it was called has been given to the sink,
//! and [`Capture::losses`] called after it names every inode of which an event found the ring full. So drain, then losses, then
//! ship, and nothing that a caller wrote before its commit point is missing.
//!
//! The agent loads and pins the programs; this module opens the pins, adds and removes inodes, and reads. What a range means for
//! a file is the caller's business.

mod event;
mod ring;
mod sys;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Program};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use event::Watch;
pub use event::{Event, Kind, Loss, Watched};
use ring::Ring;
use sys::Counter;

/// Why the pinned capture cannot be used. The caller relays writes instead, and says so.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("cannot open the pinned {}: {source}", path.display())]
    Pin {
        path: PathBuf,
        source: libbpf_rs::Error,
    },
    #[error("cannot map the pinned {}: {source}", path.display())]
    Map { path: PathBuf, source: io::Error },
    #[error("cannot claim the capture below {} for this process: {source}", path.display())]
    Claim { path: PathBuf, source: io::Error },
}

/// The capture of one module, claimed by this process.
pub struct Capture {
    is_fexit: bool,
    /// Ready, once for each time, when the ring fills up.
    filling: OwnedFd,
    watched: MapHandle,
    drop_count: Counter,
    ring: Mutex<Ring>,
    known: Mutex<Known>,
}

/// Losses that were dealt with.
#[derive(Default)]
struct Known {
    drop_count: u64,
    by_inode: HashMap<Watched, (u64, u64)>,
}

impl Capture {
    /// Opens the pins in `directory` and makes this process the one whose own writes are no events.
    pub fn open(directory: &Path) -> Result<Capture, CaptureError> {
        let open = |name: &str| {
            let path = directory.join(name);
            MapHandle::from_pinned_path(&path).map_err(|source| CaptureError::Pin { path, source })
        };
        let unmapped = |name: &str| {
            let path = directory.join(name);
            move |source| CaptureError::Map { path, source }
        };
        let events = open("events")?;
        let ring = Ring::map(&events).map_err(unmapped("events"))?;
        let filling = when_filling(&events, &open("settings")?).map_err(unmapped("settings"))?;
        let drop_count = Counter::map(&open("drop_count")?).map_err(unmapped("drop_count"))?;
        claim(&directory.join("prog_claim"))?;
        // Losses from before belong to whoever read then; the files of that time are compared as a whole.
        let known = Known {
            drop_count: drop_count.read(),
            by_inode: HashMap::new(),
        };
        Ok(Capture {
            is_fexit: directory.join("prog_write_backing").exists(),
            filling,
            watched: open("watched")?,
            drop_count,
            ring: Mutex::new(ring),
            known: Mutex::new(known),
        })
    }

    /// Whether the back end is the one of function exits, for any file system; else that of ext4's tracepoints.
    #[must_use]
    pub fn is_fexit(&self) -> bool {
        self.is_fexit
    }

    /// Writes to `inode` make events from now on, marked with the index of its directory. An error (the map is full) means that
    /// they do not: the caller relays that file.
    pub fn watch(&self, inode: Watched, tree: u16) -> io::Result<()> {
        // An element that is there keeps its counters: replacing it could hide a loss.
        match self.watched.update(
            &inode.to_bytes(),
            &Watch::new(tree).to_bytes(),
            MapFlags::NO_EXIST,
        ) {
            Ok(()) => Ok(()),
            Err(fault) if fault.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(()),
            Err(fault) => Err(io::Error::other(fault)),
        }
    }

    /// The kernel forgot the inode: nobody can write to it without an open that watches it anew.
    pub fn unwatch(&self, inode: Watched) {
        self.known().by_inode.remove(&inode);
        if let Err(fault) = self.watched.delete(&inode.to_bytes()) {
            tracing::debug!(?inode, %fault, "the inode was not watched");
        }
    }

    /// Gives `sink` every event that stands in the ring now. The ring stays locked meanwhile, so `sink` must not drain.
    pub fn drain(&self, sink: &mut dyn FnMut(Event)) {
        self.ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(sink);
    }

    /// Events lost since the capture was opened.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.drop_count.read()
    }

    /// The inodes that lost events since the last call. Costs one load from memory when there are none.
    pub fn losses(&self) -> io::Result<Vec<Loss>> {
        let mut known = self.known();
        let drop_count = self.drop_count.read();
        if drop_count == known.drop_count {
            return Ok(Vec::new());
        }
        let mut losses = Vec::new();
        for key in self.watched.keys() {
            let Some(inode) = Watched::from_bytes(&key) else {
                continue;
            };
            let value = self
                .watched
                .lookup(&key, MapFlags::ANY)
                .map_err(io::Error::other)?;
            let Some(watch) = value.as_deref().and_then(Watch::from_bytes) else {
                continue;
            };
            let now = (watch.lost_events, watch.lost_end);
            if known.by_inode.insert(inode, now).unwrap_or_default() != now {
                losses.push(Loss {
                    inode,
                    tree: watch.tree,
                    end: watch.lost_end,
                });
            }
        }
        // Only what the counter said before the walk is dealt with: a loss during it is found by the next call.
        known.drop_count = drop_count;
        Ok(losses)
    }

    /// Waits until the ring fills up, at most `timeout`. A write alone wakes nobody: it would pay for that, and a commit point
    /// drains for itself.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let limit = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut woken = Vec::with_capacity(1);
        match epoll::wait(&self.filling, spare_capacity(&mut woken), Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the kernel wake a reader only when the ring is a quarter full, and an edge-triggered epoll tell of it: plain polling
/// returns as long as there is anything to read.
fn when_filling(events: &MapHandle, settings: &MapHandle) -> io::Result<OwnedFd> {
    let wake_bytes = u64::from(events.max_entries() / 4);
    settings
        .update(
            &0_u32.to_ne_bytes(),
            &wake_bytes.to_ne_bytes(),
            MapFlags::ANY,
        )
        .map_err(io::Error::other)?;
    let filling = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(
        &filling,
        events.as_fd(),
        epoll::EventData::new_u64(0),
        edges,
    )?;
    Ok(filling)
}

fn claim(path: &Path) -> Result<(), CaptureError> {
    let program = Program::fd_from_pinned_path(path).map_err(|source| CaptureError::Pin {
        path: path.to_path_buf(),
        source,
    })?;
    sys::run(&program).map_err(|source| CaptureError::Claim {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests;
