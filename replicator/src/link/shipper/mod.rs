//! The primary's end of the log: [`Journal`] for the file system, a queue towards the peer, positions back from it.
//!
//! Here: modes and positions. `append` is the file system's side, `session` what becomes of it all as sessions come and go.
//!
//! Invariants: a commit returns only when the peer acknowledged its position, or while commits are granted alone. Entries are kept
//! from the moment a peer may need them; whenever one was not kept, the log gets a new identity, so that no session can resume across
//! the gap. A position that was given out is reached by later acknowledgements, whatever sessions come and go between.
//!
//! Lock order: `outgoing` (the order on the socket) before `state`; `state` is never held during I/O, nor while commits are told.
//!
//! [`Journal`]: crate::journal::Journal

mod append;
mod session;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use super::locked;
use super::parked::Parked;
use super::queue::Queue;
use crate::journal::{Journal, Trees};
use crate::record::Lsn;

/// Bytes taken from the queue for one round of encryption and writing.
const BATCH_BYTES: usize = 256 << 10;
/// `append` hands the queue to the socket by itself when this much is unsent.
const FLUSH_BYTES: usize = 256 << 10;

/// What becomes of entries and commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No session; entries are kept for the peer that comes (back), commits wait.
    Buffering,
    /// No session; the peer must be compared anyhow, so entries are not kept; commits wait.
    Waiting,
    /// No session; entries are not kept, commits return.
    Alone,
    /// The peer is brought up: entries are sent, commits return if granted, else wait.
    Resync { alone: bool },
    /// Commits wait for the peer's acknowledgement.
    Live,
    /// The role ended. Commits that still wait fail.
    Closed,
}

struct State {
    mode: Mode,
    queue: Queue,
    /// Identity of the log: changes whenever an entry was not kept.
    log: u64,
    applied: Lsn,
    durable: Lsn,
    channel: Option<Arc<Channel>>,
    waiters: usize,
    sent_bytes: u64,
}

/// What a shipper is made with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of entries that the peer has not applied; `append` blocks beyond.
    pub queue_bytes: usize,
    /// Commits wait for stable storage of the peer, not only for its memory.
    pub wants_durable: bool,
    /// Nobody waits for the peer while the queue has room, so the socket must hold as much as the queue.
    pub is_asynchronous: bool,
}

/// How far the peer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    pub records: u64,
    pub bytes: u64,
}

/// See the module.
pub struct Shipper {
    limits: Limits,
    state: Mutex<State>,
    /// Positions moved, space came, or the mode changed.
    changed: Condvar,
    /// Bytes on their way to the socket.
    outgoing: Mutex<Vec<u8>>,
    /// Commits that wait, and the position below which they need not: `u64::MAX` while alone.
    parked: Parked,
    ships: AtomicBool,
    /// The trees, while the peer is being brought up and needs descriptions of what moves.
    described: Mutex<Option<Arc<dyn Trees>>>,
    is_describing: AtomicBool,
}

impl Shipper {
    /// A log of identity `log` without a peer: entries are kept, commits wait.
    #[must_use]
    pub fn new(log: u64, limits: Limits) -> Shipper {
        Shipper {
            limits,
            state: Mutex::new(State {
                mode: Mode::Buffering,
                queue: Queue::behind(Lsn(0)),
                log,
                applied: Lsn(0),
                durable: Lsn(0),
                channel: None,
                waiters: 0,
                sent_bytes: 0,
            }),
            changed: Condvar::new(),
            outgoing: Mutex::new(Vec::with_capacity(BATCH_BYTES)),
            parked: Parked::default(),
            ships: AtomicBool::new(true),
            described: Mutex::new(None),
            is_describing: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        locked(&self.state).mode
    }

    #[must_use]
    pub fn log(&self) -> u64 {
        locked(&self.state).log
    }

    /// Position of the newest entry.
    #[must_use]
    pub fn last(&self) -> Lsn {
        locked(&self.state).queue.last()
    }

    #[must_use]
    pub fn lag(&self) -> Lag {
        let state = locked(&self.state);
        if state.queue.last() == state.applied {
            return Lag::default();
        }
        Lag {
            records: state.queue.last().0.saturating_sub(state.applied.0),
            bytes: state.queue.held_bytes() as u64,
        }
    }

    /// How far the peer applied and flushed, while callers wait for more of what the module wants, or for room.
    #[must_use]
    pub fn awaited_behind(&self) -> Option<(Lsn, Lsn)> {
        let state = locked(&self.state);
        let is_awaited = match state.mode {
            Mode::Live => state.bound(self.limits.wants_durable) <= state.queue.last().0,
            Mode::Resync { .. } => state.queue.held_bytes() >= self.limits.queue_bytes,
            Mode::Buffering | Mode::Waiting | Mode::Alone | Mode::Closed => false,
        };
        is_awaited.then_some((state.applied, state.durable))
    }

    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        locked(&self.state).sent_bytes
    }

    /// Waits until at most `bytes` are on their way to the peer. False when there is no session any more.
    #[must_use]
    pub fn wait_for_room(&self, bytes: usize) -> bool {
        let mut state = locked(&self.state);
        loop {
            if state.channel.is_none() {
                return false;
            }
            if state.queue.held_bytes() <= bytes {
                return true;
            }
            state = self.await_change(state);
        }
    }

    /// Waits until the peer applied everything, or `deadline`. True if it did.
    #[must_use]
    pub fn drain(&self, deadline: std::time::Instant) -> bool {
        self.flush();
        let mut state = locked(&self.state);
        loop {
            if state.mode == Mode::Live && state.applied >= state.queue.last() {
                return true;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if state.mode != Mode::Live || left.is_zero() {
                return false;
            }
            state.waiters += 1;
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.waiters -= 1;
        }
    }

    /// The peer's positions. What it claims beyond the log is refused.
    pub fn acknowledge(
        &self,
        channel: &Arc<Channel>,
        applied: Lsn,
        durable: Lsn,
    ) -> Result<(), &'static str> {
        let mut state = locked(&self.state);
        if !is_of(&state, channel) {
            return Ok(());
        }
        if applied > state.queue.last() || durable > applied {
            return Err("an acknowledgement of what was not sent");
        }
        if applied < state.applied || durable < state.durable {
            return Err("an acknowledgement that goes back");
        }
        state.applied = applied;
        state.durable = durable;
        state.queue.release(applied);
        self.publish(&state);
        let has_waiters = state.waiters > 0;
        drop(state);
        self.parked.tell();
        if has_waiters {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Switches to `mode`; everything that follows from it is set here.
    fn enter(&self, mut state: MutexGuard<'_, State>, mode: Mode, channel: Option<Arc<Channel>>) {
        state.mode = mode;
        state.channel = channel;
        self.ships.store(state.keeps(), Ordering::SeqCst);
        self.publish(&state);
        drop(state);
        self.parked.tell();
        self.changed.notify_all();
    }

    fn publish(&self, state: &State) {
        self.parked.reach(state.bound(self.limits.wants_durable));
    }

    /// Waits until positions moved, space came, or the mode changed.
    fn await_change<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiters += 1;
        let mut state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }
}

impl State {
    /// Commits below this position need not wait: everything up to there is where the module wants it.
    fn bound(&self, wants_durable: bool) -> u64 {
        match self.mode {
            Mode::Alone | Mode::Resync { alone: true } => u64::MAX,
            Mode::Resync { alone: false } | Mode::Closed => 0,
            Mode::Buffering | Mode::Waiting | Mode::Live if wants_durable => self.durable.0 + 1,
            Mode::Buffering | Mode::Waiting | Mode::Live => self.applied.0 + 1,
        }
    }

    fn keeps(&self) -> bool {
        matches!(
            self.mode,
            Mode::Buffering | Mode::Resync { .. } | Mode::Live
        )
    }
}

fn is_of(state: &State, channel: &Arc<Channel>) -> bool {
    state
        .channel
        .as_ref()
        .is_some_and(|current| Arc::ptr_eq(current, channel))
}

/// Entries are not kept from here on: the log of before cannot be resumed.
fn forget(state: &mut State) {
    state.queue = Queue::behind(state.queue.last());
    state.log = state.log.wrapping_add(1);
    state.applied = state.queue.last();
    state.durable = state.queue.last();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::NotCommitted;
    use crate::record::{FileId, Record};

    const SYNC: Record<'_> = Record::Sync {
        file: FileId {
            tree: 0,
            inode: 1,
            generation: 1,
        },
        data_only: true,
        modified: None,
    };

    fn shipper() -> Shipper {
        let limits = Limits {
            queue_bytes: 1 << 20,
            wants_durable: true,
            is_asynchronous: false,
        };
        Shipper::new(1, limits)
    }

    #[test]
    fn a_commit_waits_for_what_the_module_wants_of_the_peer() {
        let shipper = shipper();
        let mut state = locked(&shipper.state);
        (state.applied, state.durable) = (Lsn(7), Lsn(5));
        let mut bounds = |mode| {
            state.mode = mode;
            [true, false].map(|wants_durable| state.bound(wants_durable))
        };
        for mode in [Mode::Live, Mode::Buffering, Mode::Waiting] {
            assert_eq!(bounds(mode), [6, 8], "{mode:?}");
        }
        for mode in [Mode::Alone, Mode::Resync { alone: true }] {
            assert_eq!(bounds(mode), [u64::MAX; 2], "{mode:?}");
        }
        for mode in [Mode::Resync { alone: false }, Mode::Closed] {
            assert_eq!(bounds(mode), [0, 0], "{mode:?}");
        }
    }

    #[test]
    fn what_is_applied_and_not_flushed_is_awaited_still() {
        let shipper = shipper();
        let lsn = shipper.append(&SYNC);
        let awaited = |applied, durable| {
            let mut state = locked(&shipper.state);
            (state.mode, state.applied, state.durable) = (Mode::Live, applied, durable);
            drop(state);
            shipper.awaited_behind()
        };
        assert_eq!(awaited(Lsn(0), Lsn(0)), Some((Lsn(0), Lsn(0))));
        assert_eq!(awaited(lsn, Lsn(0)), Some((lsn, Lsn(0))));
        assert_eq!(awaited(lsn, lsn), None);
    }

    #[test]
    fn a_commit_alone_returns_at_once() {
        let shipper = shipper();
        assert!(shipper.grant());
        assert_eq!(shipper.wait(shipper.append(&SYNC)), Ok(()));
    }

    #[test]
    fn a_closed_log_acknowledges_nothing_even_if_nothing_was_ever_appended() {
        let shipper = shipper();
        shipper.close();
        assert_eq!(shipper.wait(shipper.append(&SYNC)), Err(NotCommitted));
    }

    #[test]
    fn a_grant_tells_the_commits_that_wait_and_the_end_fails_them() {
        let told = |end: fn(&Shipper)| {
            let shipper = shipper();
            let (tell, told) = std::sync::mpsc::channel();
            let lsn = shipper.append(&SYNC);
            shipper.when(lsn, Box::new(move |outcome| tell.send(outcome).unwrap()));
            assert!(told.try_recv().is_err());
            end(&shipper);
            told.try_recv().unwrap()
        };
        assert_eq!(told(|shipper| assert!(shipper.grant())), Ok(()));
        assert_eq!(told(Shipper::close), Err(NotCommitted));
    }
}
