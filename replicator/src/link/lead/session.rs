//! A session of the primary while it lasts: positions and requests of the secondary heard, its end noticed.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::Leader;
use crate::journal::Journal;
use crate::lineage::{DataState, Lineage, StoreError};
use crate::link::channel::{Channel, Inbox};
use crate::link::pulse::Pulse;
use crate::link::shipper::Mode;
use crate::link::{LinkError, LinkState, locked};
use crate::record::Lsn;
use crate::resync::{REQUESTS_MAX, Request, Source};
use crate::wire::{Closing, Control, Frame, Refusal, StartMode};

/// So many `peer_timeout`s may a peer that lives apply and flush nothing while callers wait for it.
const STUCK_TIMEOUTS: u32 = 5;

/// Whether the peer gets on with what callers wait for, as seen by the thread that hears it: no other is sure never to wait for the peer.
struct Progress {
    /// What the peer applied and flushed; `None` while nobody waits.
    reached: Option<(Lsn, Lsn)>,
    since: Instant,
}

impl Progress {
    /// How long callers have been waiting for more than `reached`; zero while nobody waits.
    fn stands_still(&mut self, reached: Option<(Lsn, Lsn)>, now: Instant) -> Duration {
        if reached.is_none() || reached != self.reached {
            *self = Progress {
                reached,
                since: now,
            };
        }
        now - self.since
    }
}

impl Leader {
    /// Hears the secondary until the session ends, then closes the channel; says why it ended.
    pub(super) fn converse(
        self: &Arc<Leader>,
        channel: &Arc<Channel>,
        inbox: &mut Inbox,
        mode: StartMode,
    ) -> LinkError {
        let pulse = match self.pulse(channel) {
            Ok(pulse) => pulse,
            Err(error) => return error.into(),
        };
        let end = self.carry(channel, inbox, mode);
        // First: the pulse, too, may be about to write to a peer that takes nothing.
        channel.close();
        drop(pulse);
        end
    }

    fn carry(
        self: &Arc<Leader>,
        channel: &Arc<Channel>,
        inbox: &mut Inbox,
        mode: StartMode,
    ) -> LinkError {
        let mut source = None;
        if mode == StartMode::Resync {
            let (sender, requests) = sync_channel(REQUESTS_MAX);
            let finish = {
                let (leader, channel) = (self.clone(), channel.clone());
                Box::new(move || leader.finish(&channel))
            };
            let settings = self.settings.source;
            let collaborators = (self.shipper.clone(), self.trees.clone(), channel.clone());
            source = Some(sender);
            let source = Source::new(settings, collaborators, self.events.clone(), finish);
            let serving = Builder::new()
                .name("resync-serve".to_owned())
                .spawn(move || source.serve(&requests));
            if let Err(error) = serving {
                return error.into();
            }
            if self.shipper.mode() == (Mode::Resync { alone: false }) {
                self.events.waiting(&format!(
                    "{} is being brought up to date",
                    self.settings.peer
                ));
            }
        } else {
            self.shipper.flush();
        }
        let limit = self.settings.peer_timeout * STUCK_TIMEOUTS;
        let mut progress = Progress {
            reached: None,
            since: Instant::now(),
        };
        loop {
            if let Err(error) = self.hear(channel, inbox, source.as_ref()) {
                return error;
            }
            if progress.stands_still(self.shipper.awaited_behind(), Instant::now()) >= limit {
                return LinkError::Stuck(limit);
            }
            // A peer that lives is heard several times in its timeout.
            if let Err(error) = inbox.fill(channel) {
                return error;
            }
        }
    }

    /// Acts on every frame that is there.
    fn hear(
        &self,
        channel: &Arc<Channel>,
        inbox: &mut Inbox,
        source: Option<&SyncSender<Request>>,
    ) -> Result<(), LinkError> {
        while let Some(frame) = inbox.take()? {
            let control = match frame {
                Frame::Control(control) => control,
                Frame::Logged(lsn, _) => {
                    return Err(LinkError::Unexpected(format!("entry {} of the log", lsn.0)));
                }
            };
            match control {
                Control::Ack { applied, durable } => {
                    let taken = self.shipper.acknowledge(channel, applied, durable);
                    taken.map_err(|fault| LinkError::Unexpected(fault.to_owned()))?;
                }
                Control::Keepalive => {}
                Control::Lineage(lineage) => self.peer_recorded(&lineage),
                Control::Error { code, message } => return Err(self.failed(code, message)),
                Control::Close(Closing::Ended(applied)) => {
                    if let Some(waiter) = locked(&self.closed).take() {
                        // The demotion may have given up waiting.
                        let _ = waiter.try_send(applied);
                    }
                    return Err(LinkError::Refused(format!(
                        "{} left in good order",
                        self.settings.peer
                    )));
                }
                request => ask(source, request)?,
            }
        }
        Ok(())
    }

    fn peer_recorded(&self, lineage: &Lineage) {
        self.events.peer_lineage(lineage);
        let is_marked = lineage.data_state == DataState::Inconsistent;
        if is_marked && matches!(self.shipper.mode(), Mode::Resync { .. }) {
            self.events.link(LinkState::Resync, "");
        }
    }

    fn failed(&self, code: Refusal, message: String) -> LinkError {
        if matches!(code, Refusal::Full | Refusal::Failed | Refusal::Diverged) {
            self.events.degraded(&message);
        }
        LinkError::Refused(message)
    }

    fn pulse(&self, channel: &Arc<Channel>) -> io::Result<Pulse> {
        let shipper = self.shipper.clone();
        // What was appended without a flush goes out with the next beat at the latest.
        let beat = move || shipper.flush();
        Pulse::start(channel.clone(), self.settings.peer_timeout, beat, || {})
    }

    /// The peer has asked for everything and got it. False if the session is over.
    fn finish(&self, channel: &Arc<Channel>) -> Result<bool, StoreError> {
        let admission = locked(&self.admission);
        if !admission
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, channel))
        {
            return Ok(false);
        }
        crate::fault::point("resync.ending");
        let lineage = self.keeper.update(Lineage::in_step)?;
        crate::fault::point("resync.in_step");
        if channel.send_control(&Control::Lineage(lineage)).is_err() {
            return Ok(false);
        }
        let is_finished = self.shipper.finish_resync(channel).is_some();
        if is_finished {
            // Told under the lock: from here on commits wait for the peer, and no grant is given.
            self.events.link(LinkState::Live, "");
        }
        drop(admission);
        self.shipper.flush();
        Ok(is_finished)
    }

    pub(super) fn lose(&self, channel: &Arc<Channel>, end: &LinkError) {
        let mode = self.shipper.detach(channel);
        // A demotion that waits for the peer's last word waits no more.
        *locked(&self.closed) = None;
        let mut admission = locked(&self.admission);
        if admission
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, channel))
        {
            admission.current = None;
        }
        let has_ended = admission.has_ended;
        drop(admission);
        let Some(mode) = mode else { return };
        let reason = format!("{}: {end}", self.settings.peer);
        tracing::info!(?mode, "session ended: {reason}");
        self.events.link(LinkState::Down, &reason);
        if !has_ended && matches!(mode, Mode::Buffering | Mode::Waiting) {
            self.events.waiting(&reason);
        }
    }
}

/// Hands a request of the secondary to the thread that serves it.
fn ask(source: Option<&SyncSender<Request>>, control: Control) -> Result<(), LinkError> {
    let unexpected = || LinkError::Unexpected("a request of a resynchronisation".to_owned());
    let request = Request::from_control(control).ok_or_else(unexpected)?;
    match source.ok_or_else(unexpected)?.try_send(request) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => Err(LinkError::Unexpected(
            "more requests than allowed".to_owned(),
        )),
        Err(TrySendError::Disconnected(_)) => Err(LinkError::Refused(
            "the resynchronisation was given up".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_position_that_callers_wait_behind_can_stand_still() {
        let start = Instant::now();
        let mut progress = Progress {
            reached: None,
            since: start,
        };
        let mut after = |seconds, reached: Option<(u64, u64)>| {
            let now = start + Duration::from_secs(seconds);
            let reached = reached.map(|(applied, durable)| (Lsn(applied), Lsn(durable)));
            progress.stands_still(reached, now).as_secs()
        };
        assert_eq!(after(10, None), 0);
        assert_eq!(after(20, Some((7, 7))), 0);
        assert_eq!(after(25, Some((7, 7))), 5);
        assert_eq!(after(30, Some((8, 7))), 0);
        assert_eq!(after(33, Some((8, 7))), 3);
        assert_eq!(after(35, Some((8, 8))), 0);
        assert_eq!(after(40, None), 0);
        assert_eq!(after(50, Some((8, 8))), 0);
    }
}
