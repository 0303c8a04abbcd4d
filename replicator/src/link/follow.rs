//! The secondary's sessions: dials the primary, applies its log, acknowledges, and begins again when the session breaks.
//!
//! Everything it overwrites it has first recorded as `Inconsistent`; everything it acknowledges it has applied. One thread does all
//! of it, so that order needs no locks; flushing and hashing have threads of their own.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::acknowledger::Acknowledger;
use super::channel::{Channel, Inbox};
use super::dial::{Interrupt, dial};
use super::handshake::{self, Refused};
use super::lead::Events;
use super::pulse::Pulse;
use super::tls::Credentials;
use super::{LinkError, LinkState, locked};
use crate::apply::{Applier, ApplyError, Flush, Outcome};
use crate::lineage::{DataState, Keeper, Lineage, Role, StoreError};
use crate::record::{FileId, Lsn, Record};
use crate::resync::{Target, TargetError};
use crate::wire::{Closing, Control, Frame, Hello, Logged, Refusal, Start, StartMode};

/// Between two calls of the primary.
const REDIAL: Duration = Duration::from_millis(200);
/// After a refusal that no waiting cures.
const REDIAL_REFUSED: Duration = Duration::from_secs(2);
/// After a full disk: between two looks at its room, and until the primary is called anyhow.
const ROOM_POLL: Duration = Duration::from_secs(1);
const ROOM_WAIT: Duration = Duration::from_secs(30);
/// With `acknowledge: memory`, between two flushes of what was synced on the primary.
const LAZY_FLUSH: Duration = Duration::from_secs(1);
/// Entries applied before an acknowledgement goes out although more are there.
const BATCH_ENTRIES: u32 = 64;

/// Makes an applier on the module's directories; used again whenever the trees must be compared anew.
pub type MakeApplier = Box<dyn Fn(Arc<Acknowledger>) -> Result<Applier, ApplyError> + Send>;
/// Whether the directories have room again after a full disk.
pub type HasRoom = Box<dyn Fn() -> bool + Send>;

/// What a secondary needs to know of itself and its peer.
pub struct Settings {
    /// Its hello; lineage, log and position are filled in for each session.
    pub hello: Hello,
    pub peer: String,
    pub dial: Vec<SocketAddr>,
    pub credentials: Credentials,
    pub peer_timeout: Duration,
    pub make_applier: MakeApplier,
    pub has_room: HasRoom,
}

/// How the secondary was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `disconnect`: flush, become clean, tell the primary.
    Leave,
    /// `promote`: keep what was applied, at once.
    TakeOver,
    /// `outdate`: nothing more may be acknowledged.
    Drop,
}

/// Why a session ended, by what has to follow.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.message)]
    Refused(Refused),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The primary demoted itself; everything is on stable storage.
    #[error("the primary ended the session in good order")]
    Closed,
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End::Link(error.into())
    }
}

impl From<TargetError> for End {
    fn from(error: TargetError) -> End {
        match error {
            TargetError::Link(error) => End::Link(error),
            TargetError::Apply(error) => End::Apply(error),
        }
    }
}

/// An applier with the log that it follows; survives sessions, and roles as long as the process lives.
pub struct Following {
    applier: Applier,
    /// 0 while it cannot be resumed.
    log: u64,
    /// The primary closed its log in good order behind what is applied.
    has_ended: bool,
}

impl Following {
    /// (identity here, identity on the former primary) of every object, if this node has all that the former primary left.
    #[must_use]
    pub fn bindings(&self) -> Vec<(FileId, FileId)> {
        if !self.has_ended {
            return Vec::new();
        }
        self.applier
            .bindings()
            .map(|(theirs, ours)| (ours, theirs))
            .collect()
    }
}

struct Shared {
    interrupt: Interrupt,
    stop: Mutex<Option<Stop>>,
    /// What a stop must wake the thread out of.
    socket: Mutex<Option<TcpStream>>,
    bytes_applied: AtomicU64,
}

/// A running secondary.
pub struct Follower {
    shared: Arc<Shared>,
    thread: JoinHandle<Option<Box<Following>>>,
}

impl Follower {
    /// Begins to call the primary. `following` is what an earlier follower of this process returned.
    pub fn start(
        settings: Settings,
        keeper: Arc<Keeper>,
        events: Arc<dyn Events>,
        following: Option<Box<Following>>,
    ) -> std::io::Result<Follower> {
        let shared = Arc::new(Shared {
            interrupt: Interrupt::new()?,
            stop: Mutex::new(None),
            socket: Mutex::new(None),
            bytes_applied: AtomicU64::new(0),
        });
        let mut caller = Caller {
            settings,
            keeper,
            events,
            following,
            shared: shared.clone(),
            acknowledger: Arc::default(),
            primary: Lineage::default(),
        };
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || {
                caller.run();
                caller.following
            })?;
        Ok(Follower { shared, thread })
    }

    /// Content applied since the start, in bytes.
    #[must_use]
    pub fn bytes_applied(&self) -> u64 {
        self.shared.bytes_applied.load(Ordering::Relaxed)
    }

    /// Ends the session and the calling, and returns what a later follower can go on with.
    #[must_use]
    pub fn stop(self, how: Stop) -> Option<Box<Following>> {
        *locked(&self.shared.stop) = Some(how);
        self.shared.interrupt.raise();
        if let Some(socket) = &*locked(&self.shared.socket) {
            // Reading ends; the last words can still be written.
            let _ = socket.shutdown(Shutdown::Read);
        }
        self.thread.join().unwrap_or_default()
    }
}

/// The thread of a follower.
struct Caller {
    settings: Settings,
    keeper: Arc<Keeper>,
    events: Arc<dyn Events>,
    following: Option<Box<Following>>,
    shared: Arc<Shared>,
    acknowledger: Arc<Acknowledger>,
    /// The primary's record, as last heard.
    primary: Lineage,
}

/// One session, from the start frame on.
struct Session {
    channel: Arc<Channel>,
    inbox: Inbox,
    next: Lsn,
    log: u64,
    /// Commits wait for this node's disk, not only for its memory.
    wants_durable: bool,
    flushed: Instant,
    /// While trees are compared.
    target: Option<Target>,
}

impl Caller {
    fn run(&mut self) {
        let mut last_reason = String::new();
        loop {
            self.events.link(LinkState::Connecting, &last_reason);
            let end = self.call();
            self.acknowledger.end();
            if self.stop().is_some() {
                return;
            }
            let reason = self.settle_end(&end);
            if reason != last_reason {
                tracing::info!("not connected to {}: {reason}", self.settings.peer);
            }
            last_reason = reason;
            self.events.link(LinkState::Connecting, &last_reason);
            if self.pause(&end) {
                return;
            }
        }
    }

    fn stop(&self) -> Option<Stop> {
        *locked(&self.shared.stop)
    }

    /// Waits before the next call. True when it is to stop.
    fn pause(&self, end: &End) -> bool {
        let pause = match end {
            End::Apply(ApplyError::Full { .. }) => return self.wait_for_room(),
            End::Refused(refused) if refused.code != Refusal::NotPrimary => REDIAL_REFUSED,
            End::Apply(_) | End::Store(_) => REDIAL_REFUSED,
            _ => REDIAL,
        };
        self.shared.interrupt.wait(pause)
    }

    fn wait_for_room(&self) -> bool {
        // The kernel announces freed space to nobody, and quotas are not seen from here.
        let deadline = Instant::now() + ROOM_WAIT;
        while Instant::now() < deadline && !(self.settings.has_room)() {
            if self.shared.interrupt.wait(ROOM_POLL) {
                return true;
            }
        }
        false
    }

    /// What the end of a session means for what it leaves; returns the reason for people.
    fn settle_end(&mut self, end: &End) -> String {
        if let End::Apply(
            error @ (ApplyError::Failed { .. }
            | ApplyError::Diverged { .. }
            | ApplyError::Malformed { .. }),
        ) = end
        {
            self.following = None;
            if let Err(store) = self.keeper.update(Lineage::overwritten) {
                self.events.fault(&store.to_string());
            }
            self.events.degraded(&error.to_string());
        }
        match end {
            End::Link(error) => format!("{}: {error}", self.settings.peer),
            other => other.to_string(),
        }
    }

    /// One call of the primary, from dialling to the end of the session.
    fn call(&mut self) -> End {
        let remember = |socket: TcpStream| *locked(&self.shared.socket) = Some(socket);
        let dialled = dial(
            &self.settings.dial,
            &self.settings.credentials,
            &self.shared.interrupt,
            &remember,
        );
        let end = match dialled {
            Err(error) => End::Link(error),
            Ok((channel, inbox)) => {
                let end = match self.begin(&channel, inbox) {
                    Ok(session) => self.carry(session),
                    Err(end) => end,
                };
                say_why(&channel, &end);
                channel.close();
                end
            }
        };
        *locked(&self.shared.socket) = None;
        end
    }

    fn begin(&mut self, channel: &Arc<Channel>, mut inbox: Inbox) -> Result<Session, End> {
        let own = self.own_hello();
        channel.send_control(&Control::Hello(own.clone()))?;
        let primary = match heard(inbox.control(channel)?)? {
            Control::Hello(hello) => hello,
            other => return Err(unexpected(&other).into()),
        };
        self.primary = primary.lineage.clone();
        self.events.peer_lineage(&primary.lineage);
        let start = match heard(inbox.control(channel)?)? {
            Control::Start(start) => start,
            other => return Err(unexpected(&other).into()),
        };
        if let Err(refused) = handshake::agree(&own, &primary, &self.settings.peer, start.mode) {
            let Refused { code, message } = refused.clone();
            channel.send_control(&Control::Error { code, message })?;
            return Err(End::Refused(refused));
        }
        if start.roots.len() != usize::from(own.trees) || start.first == Lsn(0) {
            return Err(
                LinkError::Unexpected("a start frame for other directories".to_owned()).into(),
            );
        }
        channel.set_timeout(self.settings.peer_timeout)?;
        let mut session = Session {
            channel: channel.clone(),
            inbox,
            next: start.first,
            log: start.log,
            wants_durable: primary.wants_durable,
            flushed: Instant::now(),
            target: None,
        };
        match start.mode {
            StartMode::Resume => self.resume(&start)?,
            StartMode::Bind => self.bind(&start, &mut session)?,
            StartMode::Resync => self.compare(&start, &mut session)?,
        }
        Ok(session)
    }

    fn own_hello(&self) -> Hello {
        let lineage = self.keeper.current();
        let resumable = self
            .following
            .as_ref()
            .filter(|following| following.log != 0 && lineage.data_state == DataState::UpToDate);
        Hello {
            role: Role::Secondary,
            log: resumable.map_or(0, |following| following.log),
            applied: resumable.map_or(Lsn(0), |following| following.applier.progress().applied),
            lineage,
            ..self.settings.hello.clone()
        }
    }

    fn resume(&mut self, start: &Start) -> Result<(), End> {
        let following = self
            .following
            .as_mut()
            .filter(|following| following.log == start.log);
        let Some(following) = following else {
            return Err(LinkError::Unexpected("another log".to_owned()).into());
        };
        if start.first.0 != following.applier.progress().applied.0 + 1 {
            return Err(
                LinkError::Unexpected(format!("a log that goes on at {}", start.first.0)).into(),
            );
        }
        following.applier.begin_resume()?;
        following.has_ended = false;
        self.keeper
            .update(|lineage| lineage.with_clean(false).with_role(Role::Secondary))?;
        Ok(())
    }

    fn bind(&mut self, start: &Start, session: &mut Session) -> Result<(), End> {
        self.keeper
            .update(|lineage| lineage.with_clean(false).with_role(Role::Secondary))?;
        let following = fresh(
            &mut self.following,
            &self.settings.make_applier,
            &self.acknowledger,
        )?;
        following.applier.begin_binding(Lsn(start.first.0 - 1))?;
        let mut left = start.bindings;
        while left > 0 {
            match heard(session.inbox.control(&session.channel)?)? {
                Control::Bind(pairs) if pairs.len() as u64 <= left && !pairs.is_empty() => {
                    left -= pairs.len() as u64;
                    following.applier.bind(&pairs)?;
                }
                Control::Keepalive => {}
                other => return Err(unexpected(&other).into()),
            }
        }
        following.applier.finish_binding()?;
        following.log = start.log;
        Ok(())
    }

    fn compare(&mut self, start: &Start, session: &mut Session) -> Result<(), End> {
        let lineage = self
            .keeper
            .update(|lineage| lineage.overwritten().with_role(Role::Secondary))?;
        crate::fault::point("resync.marked");
        session.channel.send_control(&Control::Lineage(lineage))?;
        let following = fresh(
            &mut self.following,
            &self.settings.make_applier,
            &self.acknowledger,
        )?;
        let wants = following
            .applier
            .begin_resync(Lsn(start.first.0 - 1), &start.roots)?;
        let mut target = Target::new(&session.channel);
        target.want(wants);
        target.ask(&mut following.applier)?;
        session.target = Some(target);
        Ok(())
    }

    /// Applies until the session ends.
    fn carry(&mut self, mut session: Session) -> End {
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
            LinkState::Live
        };
        self.events.link(state, "");
        let _pulse = Pulse::start(session.channel.clone(), self.settings.peer_timeout, || {});
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

    /// Acts on every frame that is there, then flushes, acknowledges and asks.
    fn take(&mut self, session: &mut Session) -> Result<(), End> {
        let mut entries = 0;
        while session.inbox.holds_frame()? {
            let Session {
                inbox,
                next,
                target,
                channel,
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
        self.acknowledger.advance(following.applier.progress())?;
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

/// Tells the primary why the session ends, if it cannot know.
fn say_why(channel: &Channel, end: &End) {
    let code = match end {
        End::Apply(ApplyError::Full { .. }) => Refusal::Full,
        End::Apply(ApplyError::Failed { .. }) | End::Store(_) => Refusal::Failed,
        End::Apply(ApplyError::Diverged { .. }) => Refusal::Diverged,
        End::Apply(ApplyError::Malformed { .. })
        | End::Link(LinkError::Wire(_) | LinkError::Unexpected(_)) => Refusal::Protocol,
        End::Refused(_) | End::Link(_) | End::Closed => return,
    };
    // If the primary is gone, it needs no reason.
    let _ = channel.send_control(&Control::Error {
        code,
        message: end.to_string(),
    });
    if let End::Apply(error) = end {
        tracing::error!("{error}");
    }
}

/// The applier, made anew if there is none, with nothing to resume.
fn fresh<'a>(
    following: &'a mut Option<Box<Following>>,
    make: &MakeApplier,
    acknowledger: &Arc<Acknowledger>,
) -> Result<&'a mut Following, End> {
    if following.is_none() {
        *following = Some(Box::new(Following {
            applier: make(acknowledger.clone())?,
            log: 0,
            has_ended: false,
        }));
    }
    let Some(following) = following else {
        return Err(LinkError::Closed.into());
    };
    following.log = 0;
    following.has_ended = false;
    Ok(following)
}

/// A frame of the primary, unless it is its refusal.
fn heard(control: Control) -> Result<Control, End> {
    match control {
        Control::Error { code, message } => Err(End::Refused(Refused { code, message })),
        other => Ok(other),
    }
}

fn unexpected(control: &Control) -> LinkError {
    LinkError::Unexpected(format!("{control:?}"))
}
