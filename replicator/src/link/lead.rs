//! The primary's sessions: admits the secondary, hears its positions and requests, notices its loss.
//!
//! One session at a time; a secondary that calls again replaces the session that it knows to be dead. Everything that decides who
//! has which generation (admission, grant, the end of a resynchronisation) happens under one lock, and durably before it takes
//! effect in the [`Shipper`].

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::channel::{Channel, Inbox};
use super::handshake::{self, Continuity, Refused};
use super::pulse::Pulse;
use super::shipper::{Mode, Shipper};
use super::{LinkError, LinkState, locked};
use crate::journal::{Journal, Trees};
use crate::lineage::{DataState, Generation, Keeper, Lineage, StoreError};
use crate::record::{FileId, Lsn};
use crate::resync::{Progress, REQUESTS_MAX, Request, Source, SourceSettings};
use crate::wire::limits::BINDINGS;
use crate::wire::{self, Closing, Control, Frame, Hello, Refusal, Start, StartMode};

/// Beats (eight in a `peer_timeout`) without progress of acknowledgements after which a peer that lives counts as stuck.
const STUCK_BEATS: u32 = 40;

/// Hears what happens to the sessions. Called from any thread, must not block.
pub trait Events: Send + Sync {
    fn link(&self, state: LinkState, reason: &str);
    /// Commits wait since now.
    fn waiting(&self, reason: &str);
    fn peer_lineage(&self, lineage: &Lineage);
    fn progress(&self, progress: &Progress);
    fn degraded(&self, reason: &str);
    fn fault(&self, reason: &str);
}

/// What a primary needs to know of itself and its peer.
pub struct Settings {
    /// Its hello; lineage, log and role are filled in for each session.
    pub hello: Hello,
    pub peer: String,
    pub peer_timeout: Duration,
    pub source: SourceSettings,
}

/// Why no grant was given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("{0} is connected and up to date: commits wait for it")]
    Live(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the log's first position stands on, until it is moved away from.
struct Base {
    /// The node was clean when it became primary.
    is_clean: bool,
    /// (own identity, the peer's identity) of every object, if this node followed the peer until then.
    bindings: Vec<(FileId, FileId)>,
}

struct Admission {
    base: Option<Base>,
    current: Option<Arc<Channel>>,
    has_ended: bool,
    /// The operator asked for a comparison.
    must_compare: bool,
}

/// See the module.
pub struct Leader {
    settings: Settings,
    shipper: Arc<Shipper>,
    trees: Arc<dyn Trees>,
    keeper: Arc<Keeper>,
    events: Arc<dyn Events>,
    admission: Mutex<Admission>,
    /// Answers of the peer that a demotion waits for.
    closed: Mutex<Option<SyncSender<Lsn>>>,
}

impl Leader {
    /// Leads from the log's first position. `base_is_clean`, `bindings`: see [`Base`].
    #[must_use]
    pub fn new(
        settings: Settings,
        shipper: Arc<Shipper>,
        trees: Arc<dyn Trees>,
        keeper: Arc<Keeper>,
        events: Arc<dyn Events>,
        base_is_clean: bool,
        bindings: Vec<(FileId, FileId)>,
    ) -> Leader {
        let base = Some(Base {
            is_clean: base_is_clean,
            bindings,
        });
        Leader {
            settings,
            shipper,
            trees,
            keeper,
            events,
            admission: Mutex::new(Admission {
                base,
                current: None,
                has_ended: false,
                must_compare: false,
            }),
            closed: Mutex::new(None),
        }
    }

    /// Carries one session from the secondary's hello to its end. Returns when it has ended.
    pub fn admit(self: &Arc<Leader>, channel: &Arc<Channel>, mut inbox: Inbox, hello: &Hello) {
        let mode = match self.begin(channel, hello) {
            Ok(mode) => mode,
            Err(error) => {
                tracing::warn!(address = %channel.address(), "session refused: {error}");
                channel.close();
                return;
            }
        };
        self.events.peer_lineage(&hello.lineage);
        let end = self.converse(channel, &mut inbox, mode);
        self.lose(channel, &end);
    }

    /// Goes on alone: a new generation, durably, then commits return.
    pub fn grant(&self) -> Result<(), GrantError> {
        let mut admission = locked(&self.admission);
        match self.shipper.mode() {
            Mode::Alone | Mode::Resync { alone: true } => return Ok(()),
            Mode::Live | Mode::Closed => return Err(GrantError::Live(self.settings.peer.clone())),
            Mode::Buffering | Mode::Waiting | Mode::Resync { alone: false } => {}
        }
        let new = Generation::random()?;
        let lineage = self.keeper.update(|lineage| lineage.granted(new))?;
        crate::fault::point("grant.recorded");
        admission.base = None;
        if let Some(channel) = &admission.current {
            // A peer that does not hear it now hears it before its resynchronisation ends.
            let _ = channel.send_control(&Control::Lineage(lineage));
        }
        let is_granted = self.shipper.grant();
        debug_assert!(
            is_granted,
            "nobody becomes live while the admission is locked"
        );
        tracing::info!(generation = %new, "commits are acknowledged alone");
        Ok(())
    }

    /// Ends the session in good order. True if the peer has everything on stable storage and is clean.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let channel = {
            let mut admission = locked(&self.admission);
            admission.has_ended = true;
            admission.current.clone()
        };
        let Some(channel) = channel else { return false };
        if !self.shipper.drain(deadline) {
            return false;
        }
        let (sender, answer) = sync_channel(1);
        *locked(&self.closed) = Some(sender);
        if channel
            .send_control(&Control::Close(Closing::Ends))
            .is_err()
        {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        answer
            .recv_timeout(left)
            .is_ok_and(|applied| applied == self.shipper.last())
    }

    /// Gives the session up, so that the next one compares the trees. False if there is none.
    #[must_use]
    pub fn compare_again(&self) -> bool {
        let mut admission = locked(&self.admission);
        admission.must_compare = true;
        admission
            .current
            .as_ref()
            .map(|channel| channel.close())
            .is_some()
    }

    /// Ends every session, now.
    pub fn abandon(&self) {
        let mut admission = locked(&self.admission);
        admission.has_ended = true;
        if let Some(channel) = admission.current.take() {
            channel.close();
        }
    }

    fn begin(&self, channel: &Arc<Channel>, hello: &Hello) -> Result<StartMode, LinkError> {
        let mut admission = locked(&self.admission);
        if admission.has_ended {
            let refused = Refused::new(
                Refusal::NotPrimary,
                format!("{} is not primary", self.settings.hello.node),
            );
            return Err(refuse(channel, refused));
        }
        if let Some(old) = admission.current.take() {
            self.shipper.detach(&old);
        }
        let has_bindings = admission
            .base
            .as_ref()
            .is_some_and(|base| base.is_clean && !base.bindings.is_empty());
        let continuity = Continuity {
            can_resume: !admission.must_compare
                && self.shipper.can_resume(hello.log, hello.applied),
            can_bind: has_bindings && self.shipper.can_resume(self.shipper.log(), Lsn(0)),
        };
        let own = self.own_hello(&admission);
        let mode = match handshake::answer(&own, hello, &self.settings.peer, continuity) {
            Ok(mode) => mode,
            Err(refused) => {
                channel.send_control(&Control::Hello(own))?;
                return Err(refuse(channel, refused));
            }
        };
        channel.set_timeout(self.settings.peer_timeout)?;
        channel.send_control(&Control::Hello(own))?;
        let base = admission.base.take();
        self.attach(channel, hello, mode, base)?;
        admission.current = Some(channel.clone());
        admission.must_compare = false;
        Ok(mode)
    }

    fn own_hello(&self, admission: &Admission) -> Hello {
        let is_clean = admission.base.as_ref().is_some_and(|base| base.is_clean);
        Hello {
            log: self.shipper.log(),
            applied: Lsn(0),
            lineage: self.keeper.current().with_clean(is_clean),
            ..self.settings.hello.clone()
        }
    }

    /// Starts the log on the session. Entries follow the start frame and nothing comes before it.
    fn attach(
        &self,
        channel: &Arc<Channel>,
        hello: &Hello,
        mode: StartMode,
        base: Option<Base>,
    ) -> Result<(), LinkError> {
        let bindings = base.map(|base| base.bindings).unwrap_or_default();
        let start = |first: Lsn, log: u64| {
            let start = Start {
                mode,
                log,
                first,
                roots: self.trees.roots(),
                bindings: if mode == StartMode::Bind {
                    bindings.len() as u64
                } else {
                    0
                },
            };
            let mut bytes = Vec::new();
            wire::encode_control(&Control::Start(start), &mut bytes);
            if mode == StartMode::Bind {
                for part in bindings.chunks(BINDINGS) {
                    wire::encode_control(&Control::Bind(part.to_vec()), &mut bytes);
                }
            }
            channel.send(&bytes)
        };
        let attached = match mode {
            StartMode::Resume => self.shipper.attach_live(channel, hello.applied, start),
            StartMode::Bind => self.shipper.attach_live(channel, Lsn(0), start),
            StartMode::Resync => self
                .shipper
                .attach_resync(channel, self.trees.clone(), start),
        };
        match attached {
            Ok(true) => Ok(()),
            Ok(false) => Err(LinkError::Refused(
                "the log moved on while the session began".to_owned(),
            )),
            Err(error) => {
                self.shipper.detach(channel);
                Err(error.into())
            }
        }
    }

    /// Hears the secondary until the session ends; says why it did.
    fn converse(
        self: &Arc<Leader>,
        channel: &Arc<Channel>,
        inbox: &mut Inbox,
        mode: StartMode,
    ) -> LinkError {
        let _pulse = self.pulse(channel);
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
            std::thread::spawn(move || source.serve(&requests));
            if self.shipper.mode() == (Mode::Resync { alone: false }) {
                self.events.waiting(&format!(
                    "{} is being brought up to date",
                    self.settings.peer
                ));
            }
        } else {
            self.shipper.flush();
            self.events.link(LinkState::Live, "");
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
        match lineage.data_state {
            DataState::Inconsistent if matches!(self.shipper.mode(), Mode::Resync { .. }) => {
                self.events.link(LinkState::Resync, "");
            }
            DataState::UpToDate if self.shipper.mode() == Mode::Live => {
                self.events.link(LinkState::Live, "");
            }
            _ => {}
        }
    }

    fn failed(&self, code: Refusal, message: String) -> LinkError {
        if matches!(code, Refusal::Full | Refusal::Failed | Refusal::Diverged) {
            self.events.degraded(&message);
        }
        LinkError::Refused(message)
    }

    fn pulse(&self, channel: &Arc<Channel>) -> Pulse {
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
        drop(admission);
        self.shipper.flush();
        Ok(is_finished)
    }

    fn lose(&self, channel: &Arc<Channel>, end: &LinkError) {
        let mode = self.shipper.detach(channel);
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

/// Tells the peer why, and makes an error of it.
fn refuse(channel: &Arc<Channel>, refused: Refused) -> LinkError {
    let Refused { code, message } = refused;
    // A peer that does not hear it is gone, which is what was asked of it.
    let _ = channel.send_control(&Control::Error {
        code,
        message: message.clone(),
    });
    LinkError::Refused(message)
}
