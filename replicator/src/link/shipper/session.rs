//! Sessions come and go: what becomes of the log and of the commits that wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Mode, Shipper, forget, is_of};
use crate::journal::Trees;
use crate::link::channel::Channel;
use crate::link::locked;
use crate::record::Lsn;
use crate::wire::{self, Logged};

impl Shipper {
    /// Identity of the log, and whether a peer that applied `applied` of it can go on.
    #[must_use]
    pub fn can_resume(&self, log: u64, applied: Lsn) -> bool {
        let state = locked(&self.state);
        state.mode == Mode::Buffering && state.log == log && state.queue.holds_behind(applied)
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
        let mut state = locked(&self.state);
        if state.mode != Mode::Buffering || !state.queue.holds_behind(applied) {
            return Ok(false);
        }
        state.queue.rewind(applied);
        let log = state.log;
        self.enter(state, Mode::Live, Some(channel.clone()));
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
        let mut state = locked(&self.state);
        let alone = match state.mode {
            Mode::Buffering | Mode::Waiting => false,
            Mode::Alone => true,
            Mode::Resync { .. } | Mode::Live | Mode::Closed => return Ok(false),
        };
        forget(&mut state);
        let (last, log) = (state.queue.last(), state.log);
        self.enter(state, Mode::Resync { alone }, Some(channel.clone()));
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
        self.enter(state, Mode::Live, Some(channel.clone()));
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
        self.enter(state, next, None);
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
                self.enter(state, Mode::Alone, None);
            }
            Mode::Resync { .. } => {
                let channel = state.channel.clone();
                self.enter(state, Mode::Resync { alone: true }, channel);
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
        self.enter(state, Mode::Closed, None);
        self.parked.close();
        self.stop_describing();
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

    fn stop_describing(&self) {
        self.is_describing.store(false, Ordering::SeqCst);
        *locked(&self.described) = None;
    }
}
