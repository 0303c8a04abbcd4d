//! Who reads a session's socket: the session's own thread, or for a moment a commit that waits for the peer.
//!
//! While commits follow one another, the one that waits reads its acknowledgement by itself, so that no other thread must be
//! woken to wake it.
//!
//! Invariants: one thread reads at a time, and acts on every frame, whoever it is. A commit that stops reading lets another one
//! that waits go on. The session's own thread takes the reading back when no commit has waited for [`LENT`], when the connection
//! ends, or when somebody who waits for the peer without reading recalls it; so nothing the peer says lies unread for longer.
//! What ends the session is told to that thread alone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::channel::{Channel, Inbox};
use super::{LinkError, locked};
use crate::wire::Frame;

/// How long the reading is left to commits although none waits.
const LENT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// What is done with a frame. Must not block.
pub type Hear = Box<dyn FnMut(Frame<'_>) -> Result<(), LinkError> + Send>;

/// See the module.
pub struct Reception {
    channel: Arc<Channel>,
    /// Locked by whoever reads.
    ear: Mutex<Ear>,
    /// A commit waited for the peer since this was looked at.
    is_wanted: AtomicBool,
    recalled: OwnedFd,
}

struct Ear {
    inbox: Inbox,
    hear: Hear,
    /// What a commit met while it read.
    end: Option<LinkError>,
}

impl Ear {
    /// Reads and acts until `is_enough`.
    fn read_until(
        &mut self,
        channel: &Channel,
        is_enough: impl Fn() -> bool,
    ) -> Result<(), LinkError> {
        loop {
            while let Some(frame) = self.inbox.take()? {
                (self.hear)(frame)?;
            }
            if is_enough() {
                return Ok(());
            }
            self.inbox.fill(channel)?;
        }
    }
}

impl Reception {
    pub fn new(channel: &Arc<Channel>, inbox: Inbox, hear: Hear) -> io::Result<Reception> {
        Ok(Reception {
            channel: channel.clone(),
            ear: Mutex::new(Ear {
                inbox,
                hear,
                end: None,
            }),
            is_wanted: AtomicBool::new(false),
            recalled: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Hears the peer until the session ends; says why it did. `pass_on` wakes a commit that waits, if there is one.
    pub fn attend(&self, pass_on: impl Fn()) -> LinkError {
        loop {
            if let Err(end) = self.listen() {
                return end;
            }
            pass_on();
            self.lend();
        }
    }

    /// Reads until a commit would rather do it.
    fn listen(&self) -> Result<(), LinkError> {
        let mut ear = locked(&self.ear);
        if let Some(end) = ear.end.take() {
            return Err(end);
        }
        let is_wanted = || self.is_wanted.swap(false, Ordering::SeqCst);
        ear.read_until(&self.channel, is_wanted)
    }

    /// Leaves the reading to commits as long as they make use of it.
    fn lend(&self) {
        loop {
            let mut watched = [
                PollFd::new(&self.recalled, PollFlags::IN),
                // Not for data: that would wake this thread with every acknowledgement.
                PollFd::new(&*self.channel, PollFlags::RDHUP),
            ];
            match poll(&mut watched, Some(&LENT)) {
                Ok(0) if self.is_wanted.swap(false, Ordering::SeqCst) => {}
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        self.is_wanted.store(false, Ordering::SeqCst);
        // Refused if it was not raised.
        let _ = rustix::io::read(&self.recalled, &mut [0_u8; 8]);
    }

    /// Has the session's own thread take the reading back.
    pub fn recall(&self) {
        // Only a counter at its maximum refuses, and that one is raised.
        let _ = rustix::io::write(&self.recalled, &1_u64.to_ne_bytes());
    }

    /// Reads until `is_committed`, if nobody else reads. Afterwards the caller lets another commit go on. False if somebody else
    /// reads, or the session has ended.
    pub fn read_until(&self, is_committed: impl Fn() -> bool) -> bool {
        self.is_wanted.store(true, Ordering::SeqCst);
        let Ok(mut ear) = self.ear.try_lock() else {
            return false;
        };
        if ear.end.is_some() {
            return false;
        }
        if let Err(end) = ear.read_until(&self.channel, is_committed) {
            ear.end = Some(end);
            self.recall();
        }
        true
    }
}
