//! The secondary's sessions: dials the primary, applies its log, acknowledges, and begins again when the session breaks.
//!
//! Everything it overwrites it has first recorded as `Inconsistent`; everything it acknowledges it has applied. One thread does all
//! of it, so that order needs no locks; flushing and hashing have threads of their own.

mod end;
mod following;
mod keeping;
mod opening;
mod position;
mod session;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::acknowledger::Acknowledger;
use super::dial::{Interrupt, dial};
use super::events::Events;
use super::tls::Credentials;
use super::{LinkState, locked};
use crate::apply::{Applier, ApplyError, Tree};
use crate::keep::KeepError;
use crate::lineage::{Generation, Keeper, Lineage};
use crate::record::Lsn;
use crate::wakefulness::Wakefulness;
use crate::wire::{Hello, Refusal};

pub use following::Following;

use end::{End, say_why};
use position::Position;

/// Between two calls of the primary.
const REDIAL: Duration = Duration::from_millis(200);
/// After a refusal that no waiting cures.
const REDIAL_REFUSED: Duration = Duration::from_secs(2);
/// After a full disk: between two looks at its room, and until the primary is called anyhow.
const ROOM_POLL: Duration = Duration::from_secs(1);
const ROOM_WAIT: Duration = Duration::from_secs(30);

/// Makes an applier on the module's directories; used again whenever the trees must be compared anew.
pub type MakeApplier = Box<dyn Fn(Arc<Acknowledger>) -> Result<Applier, ApplyError> + Send>;
/// Opens the module's directories to look at them.
pub type OpenTrees = Box<dyn Fn() -> Result<Vec<Tree>, ApplyError> + Send>;
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
    pub open_trees: OpenTrees,
    /// Where what a discard gives up is kept.
    pub keep_place: PathBuf,
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

/// What the thread shares with those who direct it.
struct Shared {
    interrupt: Interrupt,
    stop: Mutex<Option<Stop>>,
    /// What a stop must wake the thread out of.
    socket: Mutex<Option<TcpStream>>,
    bytes_applied: AtomicU64,
    position: Position,
    /// The next session compares the trees.
    must_compare: AtomicBool,
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
            position: Position::default(),
            must_compare: AtomicBool::new(false),
        });
        let mut caller = Caller {
            settings,
            keeper,
            events,
            following,
            shared: shared.clone(),
            acknowledger: Arc::default(),
            primary: Lineage::default(),
            kept: None,
            wakefulness: Wakefulness::start(),
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

    /// A handle on the session for those who look at the trees beside it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Gives the session up, so that the next one compares the trees.
    pub fn compare_again(&self) {
        self.shared.must_compare.store(true, Ordering::SeqCst);
        if let Some(socket) = &*locked(&self.shared.socket) {
            // One that is gone already has ended its session.
            let _ = socket.shutdown(Shutdown::Both);
        }
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

/// See [`Follower::watch`].
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// Whether the follower was told to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        locked(&self.0.stop).is_some()
    }

    /// Waits until the log is applied up to a position. False when another one is followed, or at the deadline.
    #[must_use]
    pub fn await_applied(&self, log: u64, last: Lsn, deadline: Instant) -> bool {
        self.0.position.await_applied(log, last, deadline)
    }

    /// Ends waiting when the follower is told to stop.
    #[must_use]
    pub fn interrupt(&self) -> &Interrupt {
        &self.0.interrupt
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
    /// The generation whose own changes may be overwritten: what differed is kept.
    kept: Option<Generation>,
    wakefulness: Wakefulness,
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
            // Another attempt compares everything again.
            End::Keep(KeepError::Full { .. }) => ROOM_WAIT,
            End::Refused(refused) if refused.code != Refusal::NotPrimary => REDIAL_REFUSED,
            End::Apply(_) | End::Store(_) | End::Keep(_) => REDIAL_REFUSED,
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
        if let End::Keep(error @ (KeepError::Full { .. } | KeepError::Failed { .. })) = end {
            self.events.degraded(&error.to_string());
        }
        match end {
            End::Link(error) => format!("{}: {error}", self.settings.peer),
            other => other.to_string(),
        }
    }

    /// One call of the primary, from dialling to the end of the session.
    fn call(&mut self) -> End {
        if let Err(end) = self.keep_aside() {
            return end;
        }
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
}
