//! A session of the primary while it lasts: positions and requests of the secondary heard, its end noticed.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Builder;

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

/// Beats (eight in a `peer_timeout`) without progress of acknowledgements after which a peer that lives counts as stuck.
const STUCK_BEATS: u32 = 40;

impl Leader {
    /// Hears the secondary until the session ends; says why it did.
    pub(super) fn converse(
        self: &Arc<Leader>,
        channel: &Arc<Channel>,
        inbox: &mut Inbox,
        mode: StartMode,
    ) -> LinkError {
        let _pulse = match self.pulse(channel) {
            Ok(pulse) => pulse,
            Err(error) => return error.into(),
        };
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
        loop {
            if let Err(error) = self.hear(channel, inbox, source.as_ref()) {
                return error;
            }
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
        let watched = channel.clone();
        let (mut applied, mut beats) = (Lsn(0), 0);
        Pulse::start(channel.clone(), self.settings.peer_timeout, move || {
            // What was appended without a flush goes out with the next beat at the latest.
            shipper.flush();
            let lag = shipper.lag();
            let now = Lsn(shipper.last().0 - lag.records);
            beats = if lag.records > 0 && now == applied {
                beats + 1
            } else {
                0
            };
            applied = now;
            if beats >= STUCK_BEATS && shipper.mode() == Mode::Live {
                tracing::warn!("the peer lives but applies nothing: giving its session up");
                watched.close();
            }
        })
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
