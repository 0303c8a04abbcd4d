//! A secondary's session from the start frame to its end: applies, flushes, acknowledges, asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::end::{End, heard, unexpected};
use super::{Caller, Stop};
use crate::apply::{Flush, Outcome};
use crate::link::channel::{Channel, Inbox};
use crate::link::pulse::Pulse;
use crate::link::{LinkError, LinkState};
use crate::precedence::Precedence;
use crate::record::{Lsn, Record};
use crate::resync::Target;
use crate::wire::{Closing, Control, Frame, Logged};

/// With `acknowledge: memory`, between two flushes of what was synced on the primary.
const LAZY_FLUSH: Duration = Duration::from_secs(1);
/// Entries applied before an acknowledgement goes out although more are there.
const BATCH_ENTRIES: u32 = 64;

/// One session, from the start frame on.
pub(super) struct Session {
    pub(super) channel: Arc<Channel>,
    pub(super) inbox: Inbox,
    pub(super) next: Lsn,
    pub(super) log: u64,
    /// Commits wait for this node's disk, not only for its memory.
    pub(super) wants_durable: bool,
    pub(super) flushed: Instant,
    /// While trees are compared.
    pub(super) target: Option<Target>,
    /// Once commits wait for this node; what a comparison brings can wait itself.
    pub(super) precedence: Option<Precedence>,
}

impl Caller {
    /// Applies until the session ends.
    pub(super) fn carry(&mut self, mut session: Session) -> End {
        let Some(following) = self.following.as_ref() else {
            return LinkError::Closed.into();
        };
        if let Err(error) = self.acknowledger.begin(
            &session.channel,
            session.wants_durable,
            following.applier.progress(),
        ) {
            return error.into();
        }
        let state = if session.target.is_some() {
            LinkState::Resync
        } else {
            session.precedence = Precedence::take();
            LinkState::Live
        };
        self.events.link(state, "");
        let _pulse = match self.pulse(&session) {
            Ok(pulse) => pulse,
            Err(error) => return error.into(),
        };
        loop {
            if let Err(end) = self.take(&mut session) {
                return end;
            }
            if let Some(how) = self.stop() {
                return self.part(&session, how);
            }
            if let Err(error) = session.inbox.fill(&session.channel) {
                return match self.stop() {
                    Some(how) => self.part(&session, how),
                    None => error.into(),
                };
            }
        }
    }

    /// Says so if the session ends and this thread does not notice, because the disk does not answer it.
    fn pulse(&self, session: &Session) -> std::io::Result<Pulse> {
        let (events, peer) = (self.events.clone(), self.settings.peer.clone());
        let outlived = move || {
            let reason = format!(
                "the session with {peer} has ended while a change or a flush is under way that does not end: look at this node's disk"
            );
            tracing::error!("{reason}");
            events.link(LinkState::Connecting, &reason);
        };
        let timeout = self.settings.peer_timeout;
        Pulse::start(session.channel.clone(), timeout, || {}, outlived)
    }

    /// Acts on every frame that is there, then flushes, acknowledges and asks.
    fn take(&mut self, session: &mut Session) -> Result<(), End> {
        let mut entries = 0;
        while session.inbox.holds_frame()? {
            let Session {
                inbox,
                next,
                target,
                channel,
                precedence,
                ..
            } = session;
            let Some(frame) = inbox.take()? else { break };
            match frame {
                Frame::Control(Control::Close(Closing::Ends)) => return Err(self.close(session)),
                Frame::Control(control) => self.hear(control, target.as_mut())?,
                Frame::Logged(lsn, entry) => {
                    if lsn != *next {
                        let found = format!("entry {} of the log, {} is next,", lsn.0, next.0);
                        return Err(LinkError::Unexpected(found).into());
                    }
                    *next = Lsn(lsn.0 + 1);
                    let is_end = entry == Logged::ResyncEnd;
                    self.apply(lsn, &entry, target)?;
                    if is_end {
                        self.finish(&channel.clone(), session.log, target)?;
                        *precedence = Precedence::take();
                    }
                    entries += 1;
                    if entries % BATCH_ENTRIES == 0 {
                        self.commit(session, Flush::Aside)?;
                    }
                }
            }
        }
        self.commit(session, Flush::Here)?;
        if let (Some(target), Some(following)) = (&mut session.target, &mut self.following) {
            target.ask(&mut following.applier)?;
            if let Some(progress) = target.due() {
                self.events.progress(&progress);
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        lsn: Lsn,
        entry: &Logged<'_>,
        target: &mut Option<Target>,
    ) -> Result<(), End> {
        let Some(following) = &mut self.following else {
            return Err(LinkError::Closed.into());
        };
        if let Logged::Record(Record::Data { content, .. }) = entry {
            self.shared
                .bytes_applied
                .fetch_add(content.len() as u64, Ordering::Relaxed);
            if let Some(target) = target {
                target.meter.counts.bytes_done += content.len() as u64;
            }
        }
        if let Logged::Record(Record::Sync { .. }) = entry {
            self.wakefulness.committed();
        }
        let outcome = following.applier.apply(lsn, entry)?;
        let Some(target) = target else { return Ok(()) };
        match entry {
            Logged::Listing(listing) => target.listed(listing),
            Logged::Gone { .. } => target.gone(),
            _ => {}
        }
        if let Outcome::Wants(wants) = outcome {
            target.want(wants);
        }
        Ok(())
    }

    /// Acknowledges what is applied. Flushes it before if commits wait for that; else now and then, off their way.
    fn commit(&mut self, session: &mut Session, flush: Flush) -> Result<(), End> {
        let Some(following) = &mut self.following else {
            return Ok(());
        };
        if session.wants_durable {
            following.applier.commit(flush)?;
        } else if session.flushed.elapsed() >= LAZY_FLUSH {
            session.flushed = Instant::now();
            following.applier.commit(Flush::Aside)?;
        }
        let progress = following.applier.progress();
        self.acknowledger.advance(progress)?;
        self.shared.position.set(session.log, progress.applied);
        Ok(())
    }

    fn hear(&mut self, control: Control, target: Option<&mut Target>) -> Result<(), End> {
        match heard(control)? {
            Control::Keepalive => {}
            Control::Lineage(lineage) => {
                self.events.peer_lineage(&lineage);
                self.primary = lineage;
            }
            Control::Served { requests } => {
                let target = target.ok_or_else(|| LinkError::Unexpected("an answer".to_owned()))?;
                target.served(requests)?;
            }
            other => return Err(unexpected(&other).into()),
        }
        Ok(())
    }

    /// Everything is here: on the disk, then in the lineage, then in the primary's ears.
    fn finish(
        &mut self,
        channel: &Arc<Channel>,
        log: u64,
        target: &mut Option<Target>,
    ) -> Result<(), End> {
        let ended = target.take().filter(Target::has_caught_up);
        let (Some(ended), Some(following)) = (ended, &mut self.following) else {
            return Err(LinkError::Unexpected("the end of a resynchronisation".to_owned()).into());
        };
        following.applier.settle()?;
        crate::fault::point("resync.settled");
        let lineage = self.keeper.update(|own| own.brought_up(&self.primary))?;
        crate::fault::point("resync.recorded");
        following.log = log;
        following.has_ended = false;
        channel.send_control(&Control::Lineage(lineage))?;
        self.events.progress(&ended.finished());
        self.events.link(LinkState::Live, "");
        Ok(())
    }

    /// The primary demotes itself and wants to know that everything is safe here.
    fn close(&mut self, session: &Session) -> End {
        match self.make_clean(session) {
            Ok(applied) => {
                let closed = Control::Close(Closing::Ended(applied));
                if let Err(error) = session.channel.send_control(&closed) {
                    return error.into();
                }
                End::Closed
            }
            Err(end) => end,
        }
    }

    /// Parts from the primary because this node was told to.
    fn part(&mut self, session: &Session, how: Stop) -> End {
        if how == Stop::Leave && session.target.is_none() {
            return match self.make_clean(session) {
                Ok(applied) => {
                    // The primary may be gone; this node is clean either way.
                    let _ = session
                        .channel
                        .send_control(&Control::Close(Closing::Ended(applied)));
                    End::Closed
                }
                Err(end) => end,
            };
        }
        LinkError::Closed.into()
    }

    /// Brings everything applied to stable storage and records that it is so.
    fn make_clean(&mut self, session: &Session) -> Result<Lsn, End> {
        let (None, Some(following)) = (&session.target, &mut self.following) else {
            return Err(LinkError::Unexpected("the end of the log".to_owned()).into());
        };
        following.applier.commit(Flush::Here)?;
        following.applier.settle()?;
        following.has_ended = true;
        crate::fault::point("close.settled");
        self.keeper.update(|lineage| lineage.with_clean(true))?;
        Ok(following.applier.progress().applied)
    }
}
