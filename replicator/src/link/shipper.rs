//! The primary's end of the log: [`Journal`] for the file system, a queue towards the peer, positions back from it.
//!
//! Invariants: a commit returns only when the peer acknowledged its position, or while commits are granted alone. Entries are kept
//! from the moment a peer may need them; whenever one was not kept, the log gets a new identity, so that no session can resume across
//! the gap. A position that was given out is reached by later acknowledgements, whatever sessions come and go between.
//!
//! Lock order: `outgoing` (the order on the socket) before `state`; `state` is never held during I/O.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use super::locked;
use super::queue::Queue;
use super::split;
use crate::journal::{Entry, Journal, NotCommitted, Trees};
use crate::record::{Lsn, Record};
use crate::wire::{self, Logged};

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
    /// Commits at or below return at once; `u64::MAX` while alone.
    committed: AtomicU64,
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
            committed: AtomicU64::new(0),
            ships: AtomicBool::new(true),
            described: Mutex::new(None),
            is_describing: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        locked(&self.state).mode
    }

    /// Identity of the log, and whether a peer that applied `applied` of it can go on.
    #[must_use]
    pub fn can_resume(&self, log: u64, applied: Lsn) -> bool {
        let state = locked(&self.state);
        state.mode == Mode::Buffering && state.log == log && state.queue.holds_behind(applied)
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

    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        locked(&self.state).sent_bytes
    }

    /// A session continues this log behind `applied`. `start` is called with the position of its first entry and the log, and
    /// sends what must come before. `Ok(false)` if the log cannot be continued any more.
    pub fn attach_live(
        &self,
        channel: &Arc<Channel>,
        applied: Lsn,
        start: impl FnOnce(Lsn, u64) -> io::Result<()>,
    ) -> io::Result<bool> {
        self.prepare(channel)?;
        // Nobody sends before the start frame went out.
        let _order = locked(&self.outgoing);
        let log = {
            let mut state = locked(&self.state);
            if state.mode != Mode::Buffering || !state.queue.holds_behind(applied) {
                return Ok(false);
            }
            state.queue.rewind(applied);
            self.enter(&mut state, Mode::Live, Some(channel.clone()));
            state.log
        };
        start(Lsn(applied.0 + 1), log)?;
        Ok(true)
    }

    /// A session begins to bring the peer up: entries from here on are kept and sent. `start` as above. `Ok(false)` if another
    /// session is there.
    pub fn attach_resync(
        &self,
        channel: &Arc<Channel>,
        trees: Arc<dyn Trees>,
        start: impl FnOnce(Lsn, u64) -> io::Result<()>,
    ) -> io::Result<bool> {
        self.prepare(channel)?;
        let _order = locked(&self.outgoing);
        // Before the mode, so that no entry of the new session moves an object undescribed.
        *locked(&self.described) = Some(trees);
        self.is_describing.store(true, Ordering::SeqCst);
        let (last, log) = {
            let mut state = locked(&self.state);
            let alone = match state.mode {
                Mode::Buffering | Mode::Waiting => false,
                Mode::Alone => true,
                Mode::Resync { .. } | Mode::Live | Mode::Closed => return Ok(false),
            };
            forget(&mut state);
            self.enter(&mut state, Mode::Resync { alone }, Some(channel.clone()));
            (state.queue.last(), state.log)
        };
        start(Lsn(last.0 + 1), log)?;
        Ok(true)
    }

    fn prepare(&self, channel: &Channel) -> io::Result<()> {
        if self.limits.is_asynchronous {
            channel.hold(self.limits.queue_bytes)?;
        }
        Ok(())
    }

    /// The peer asked for everything and got it: from the entry appended here on, commits wait for it.
    #[must_use]
    pub fn finish_resync(&self, channel: &Arc<Channel>) -> Option<Lsn> {
        let mut state = locked(&self.state);
        if !matches!(state.mode, Mode::Resync { .. }) || !is_of(&state, channel) {
            return None;
        }
        let end = state
            .queue
            .append(|lsn, out| wire::encode_logged(lsn, &Logged::ResyncEnd, out));
        self.enter(&mut state, Mode::Live, Some(channel.clone()));
        drop(state);
        self.stop_describing();
        Some(end)
    }

    /// The session ended. Returns the mode that follows, or `None` if `channel` was not the session.
    pub fn detach(&self, channel: &Arc<Channel>) -> Option<Mode> {
        channel.close();
        let mut state = locked(&self.state);
        if !is_of(&state, channel) {
            return None;
        }
        let next = match state.mode {
            Mode::Live => Mode::Buffering,
            Mode::Resync { alone: true } => Mode::Alone,
            Mode::Resync { alone: false } => Mode::Waiting,
            other => other,
        };
        if matches!(next, Mode::Alone | Mode::Waiting) {
            forget(&mut state);
        }
        self.enter(&mut state, next, None);
        drop(state);
        self.stop_describing();
        Some(next)
    }

    /// Commits return from now on. The caller wrote the new generation durably. False if the peer is live.
    #[must_use]
    pub fn grant(&self) -> bool {
        let mut state = locked(&self.state);
        match state.mode {
            Mode::Buffering | Mode::Waiting => {
                forget(&mut state);
                self.enter(&mut state, Mode::Alone, None);
            }
            Mode::Resync { .. } => {
                let channel = state.channel.clone();
                self.enter(&mut state, Mode::Resync { alone: true }, channel);
            }
            Mode::Alone => {}
            Mode::Live | Mode::Closed => return false,
        }
        true
    }

    /// The role ends: commits that wait fail, later entries are dropped.
    pub fn close(&self) {
        let mut state = locked(&self.state);
        forget(&mut state);
        if let Some(channel) = state.channel.take() {
            channel.close();
        }
        self.enter(&mut state, Mode::Closed, None);
        drop(state);
        self.stop_describing();
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
            state.waiters += 1;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
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
        if has_waiters {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Appends an entry of the resynchronisation that `channel` carries. Blocks while the queue is full; does nothing once that
    /// session is over.
    pub fn append_logged(&self, channel: &Arc<Channel>, logged: &Logged<'_>) {
        let mut state = self.with_space();
        if is_of(&state, channel) {
            state
                .queue
                .append(|lsn, out| wire::encode_logged(lsn, logged, out));
        }
    }

    /// Switches to `mode`; everything that follows from it is set here.
    fn enter(&self, state: &mut State, mode: Mode, channel: Option<Arc<Channel>>) {
        state.mode = mode;
        state.channel = channel;
        self.ships.store(state.keeps(), Ordering::SeqCst);
        self.publish(state);
        self.changed.notify_all();
    }

    fn publish(&self, state: &State) {
        let committed = match state.mode {
            Mode::Alone | Mode::Resync { alone: true } => u64::MAX,
            Mode::Resync { alone: false } | Mode::Closed => 0,
            Mode::Buffering | Mode::Waiting | Mode::Live if self.limits.wants_durable => {
                state.durable.0
            }
            Mode::Buffering | Mode::Waiting | Mode::Live => state.applied.0,
        };
        self.committed.store(committed, Ordering::SeqCst);
    }

    fn stop_describing(&self) {
        self.is_describing.store(false, Ordering::SeqCst);
        *locked(&self.described) = None;
    }

    /// What the peer must know of the objects that `record` moves, while it may not know them yet.
    fn descriptions(&self, record: &Record<'_>) -> Vec<Entry> {
        if !self.is_describing.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let Some(trees) = locked(&self.described).clone() else {
            return Vec::new();
        };
        let moved = match record {
            Record::Link { file, .. } => [Some(*file), None],
            Record::Rename {
                file, exchanged, ..
            } => [Some(*file), *exchanged],
            _ => [None, None],
        };
        // What cannot be described is gone again; its removal follows in the log.
        moved
            .into_iter()
            .flatten()
            .filter_map(|file| trees.describe(file).ok())
            .collect()
    }

    /// The state, once the queue has room (or entries are not kept).
    fn with_space(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.state);
        loop {
            if !state.keeps() || state.queue.held_bytes() < self.limits.queue_bytes {
                return state;
            }
            if state.queue.unsent_bytes() > 0 && state.channel.is_some() {
                drop(state);
                self.flush();
                state = locked(&self.state);
                continue;
            }
            state.waiters += 1;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
    }

    fn append_one(&self, record: &Record<'_>) -> Lsn {
        let descriptions = self.descriptions(record);
        let mut state = self.with_space();
        if !state.keeps() {
            return state.queue.last();
        }
        if matches!(state.mode, Mode::Resync { .. }) {
            for entry in descriptions {
                let described = Logged::Describe(entry);
                state
                    .queue
                    .append(|lsn, out| wire::encode_logged(lsn, &described, out));
            }
        }
        let lsn = state
            .queue
            .append(|lsn, out| wire::encode_record(lsn, record, out));
        let is_due = state.queue.unsent_bytes() >= FLUSH_BYTES && state.channel.is_some();
        drop(state);
        if is_due {
            self.flush();
        }
        lsn
    }
}

impl State {
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

impl Journal for Shipper {
    fn append(&self, record: &Record<'_>) -> Lsn {
        match split::oversized(record) {
            None => self.append_one(record),
            Some(parts) => parts
                .iter()
                .map(|part| self.append_one(part))
                .last()
                .unwrap_or_default(),
        }
    }

    fn ships(&self) -> bool {
        self.ships.load(Ordering::SeqCst)
    }

    fn flush(&self) {
        let mut outgoing = locked(&self.outgoing);
        loop {
            outgoing.clear();
            let channel = {
                let mut state = locked(&self.state);
                let Some(channel) = state.channel.clone() else {
                    return;
                };
                state.queue.take_unsent(BATCH_BYTES, &mut outgoing);
                state.sent_bytes += outgoing.len() as u64;
                channel
            };
            if outgoing.is_empty() {
                return;
            }
            if channel.send(&outgoing).is_err() {
                // The receiving thread meets the closed connection and ends the session with its reason.
                channel.close();
                return;
            }
        }
    }

    fn wait(&self, lsn: Lsn) -> Result<(), NotCommitted> {
        if lsn.0 <= self.committed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = locked(&self.state);
        loop {
            if lsn.0 <= self.committed.load(Ordering::SeqCst) {
                return Ok(());
            }
            if state.mode == Mode::Closed {
                return Err(NotCommitted);
            }
            state.waiters += 1;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
    }
}
