//! The process's role machine: idle, secondary, primary, as the agent commands it (CONTROL.md).
//!
//! Invariant: one role change at a time, each recorded in the lineage before it takes effect. `status` and `grant` never wait for a
//! role change that is under way. The node decides nothing by itself: losing the peer or a fault of the disk is told, and the agent
//! answers with a command.

mod feed;
mod module;
mod primary;
mod status;

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{Command, Commands, Configuration, Publisher, Refusal};
use crate::lineage::{DataState, Role};
use crate::link::channel::{Channel, Inbox};
use crate::link::follow::{self, Follower, Following, Stop};
use crate::link::lead::Events;
use crate::link::lead::GrantError;
use crate::link::listen::{Door, Listener};
use crate::link::{LinkState, locked};
use crate::wire::{Control, Hello, Refusal as WireRefusal};

use feed::Feed;
use module::Module;
use primary::Primary;

/// How long leaving a role by `stop` may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What the process does now.
enum Active {
    /// With what an earlier follower left, to go on with.
    Idle(Option<Box<Following>>),
    Secondary(Follower),
    Primary(Arc<Primary>),
    /// A role change is under way.
    Changing(Role),
}

/// What there is, under a lock that is held for moments only.
struct Standing {
    module: Option<Arc<Module>>,
    listener: Option<Listener>,
    active: Active,
    /// What `connect` allowed.
    discards: bool,
}

/// See the module.
pub struct Node {
    feed: Arc<Feed>,
    /// Held through a whole role change.
    change: Mutex<()>,
    standing: Mutex<Standing>,
    ended: SyncSender<()>,
    itself: Weak<Node>,
}

impl Node {
    /// An idle node. `ended` is told when the process shall exit.
    #[must_use]
    pub fn new(publisher: Publisher, ended: SyncSender<()>) -> Arc<Node> {
        Arc::new_cyclic(|itself| Node {
            feed: Arc::new(Feed::new(publisher)),
            change: Mutex::new(()),
            standing: Mutex::new(Standing {
                module: None,
                listener: None,
                active: Active::Idle(None),
                discards: false,
            }),
            ended,
            itself: itself.clone(),
        })
    }

    /// Leaves every role, by force if it must be: the process was told to end.
    pub fn terminate(&self) {
        let _change = locked(&self.change);
        if let Err(refusal) = self.leave(false).or_else(|_| self.leave(true)) {
            tracing::error!("{refusal}");
        }
        self.end();
    }

    fn end(&self) {
        // The receiver is gone only when the process ends already.
        let _ = self.ended.try_send(());
    }

    fn role(&self) -> Role {
        match &locked(&self.standing).active {
            Active::Idle(_) => Role::Idle,
            Active::Secondary(_) => Role::Secondary,
            Active::Primary(_) => Role::Primary,
            Active::Changing(role) => *role,
        }
    }

    fn module(&self) -> Result<Arc<Module>, Refusal> {
        let unconfigured = || {
            Refusal::new(
                Refusal::CONFIGURATION,
                "this replicator is not configured: send configure first",
            )
        };
        locked(&self.standing)
            .module
            .clone()
            .ok_or_else(unconfigured)
    }

    fn primary(&self) -> Option<Arc<Primary>> {
        match &locked(&self.standing).active {
            Active::Primary(primary) => Some(primary.clone()),
            _ => None,
        }
    }

    fn swap(&self, active: Active) -> Active {
        std::mem::replace(&mut locked(&self.standing).active, active)
    }

    fn configure(&self, configuration: Configuration) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        {
            let standing = locked(&self.standing);
            let is_same = standing
                .module
                .as_ref()
                .is_some_and(|module| module.configuration == configuration);
            if is_same && standing.listener.is_some() {
                return Ok(json!({}));
            }
            if !matches!(standing.active, Active::Idle(_)) {
                let message = "the configuration differs from the one in use: stop the module on this node first";
                return Err(Refusal::new(Refusal::ROLE, message));
            }
        }
        // Everything of the former configuration goes first: addresses and lineage belong to one owner.
        let former = locked(&self.standing).listener.take();
        drop(former);
        locked(&self.standing).module = None;
        self.swap(Active::Idle(None));
        let module = Arc::new(Module::open(configuration, &self.feed)?);
        let listener = self.listen(&module)?;
        let mut standing = locked(&self.standing);
        standing.module = Some(module);
        standing.listener = Some(listener);
        Ok(json!({}))
    }

    fn listen(&self, module: &Module) -> Result<Listener, Refusal> {
        let door: Arc<dyn Door> = Arc::new(NodeDoor(self.itself.clone()));
        let addresses = &module.configuration.listen;
        Listener::open(addresses, module.credentials.clone(), door).map_err(|(address, error)| {
            let message = format!("cannot listen on {address}: {error}: give the module another port, or end what uses it");
            Refusal::new(Refusal::FAILED, message)
        })
    }

    fn connect(&self, discards: bool) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        let module = self.module()?;
        match self.swap(Active::Changing(Role::Secondary)) {
            Active::Idle(following) => self.follow(&module, discards, following)?,
            Active::Secondary(follower) if locked(&self.standing).discards == discards => {
                self.swap(Active::Secondary(follower));
                return Ok(json!({}));
            }
            Active::Secondary(follower) => {
                let following = follower.stop(Stop::Drop);
                self.follow(&module, discards, following)?;
            }
            primary => {
                self.swap(primary);
                return Err(Refusal::new(
                    Refusal::ROLE,
                    "this node is primary: demote it before it follows the peer",
                ));
            }
        }
        self.feed.role(Role::Secondary);
        Ok(json!({}))
    }

    /// Becomes secondary; idle again if it cannot.
    fn follow(
        &self,
        module: &Arc<Module>,
        discards: bool,
        following: Option<Box<Following>>,
    ) -> Result<(), Refusal> {
        let appliers = module.clone();
        let room = module.clone();
        let settings = follow::Settings {
            hello: module.hello(Role::Secondary, discards),
            peer: module.configuration.peer.clone(),
            dial: module.configuration.dial.clone(),
            credentials: module.credentials.clone(),
            peer_timeout: module.peer_timeout(),
            make_applier: Box::new(move |acknowledger| appliers.applier(acknowledger)),
            has_room: Box::new(move || room.has_room()),
        };
        let recorded = module
            .keeper
            .update(|lineage| lineage.with_role(Role::Secondary));
        let events: Arc<dyn Events> = self.feed.clone();
        let started = recorded.map_err(|error| error.to_string()).and_then(|_| {
            Follower::start(settings, module.keeper.clone(), events, following)
                .map_err(|error| error.to_string())
        });
        match started {
            Ok(follower) => {
                let mut standing = locked(&self.standing);
                standing.active = Active::Secondary(follower);
                standing.discards = discards;
                Ok(())
            }
            Err(message) => {
                self.swap(Active::Idle(None));
                Err(Refusal::new(Refusal::FAILED, message))
            }
        }
    }

    fn disconnect(&self) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        match self.role() {
            Role::Idle => Ok(json!({})),
            Role::Secondary => self.leave(false),
            Role::Primary => Err(Refusal::new(
                Refusal::ROLE,
                "this node is primary: demote it instead",
            )),
        }
    }

    fn promote(&self, force: bool) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        let module = self.module()?;
        let lineage = module.keeper.current();
        if lineage.data_state != DataState::UpToDate && !force {
            let Configuration {
                node, module, peer, ..
            } = &module.configuration;
            let message = format!(
                "the data of {module} on {node} is {:?}: start {peer}, which has newer data, or accept the loss with \
                 `telamon module prim {module} --force`",
                lineage.data_state
            );
            return Err(Refusal::new(Refusal::DATA, message));
        }
        let following = match self.swap(Active::Changing(Role::Primary)) {
            Active::Primary(primary) => {
                self.swap(Active::Primary(primary));
                return Ok(json!({}));
            }
            Active::Idle(following) => following,
            Active::Secondary(follower) => follower.stop(Stop::TakeOver),
            Active::Changing(_) => None,
        };
        self.feed.link(LinkState::Down, "");
        match Primary::start(&module, &self.feed, following.as_deref()) {
            Ok(primary) => {
                self.swap(Active::Primary(Arc::new(primary)));
                self.feed.role(Role::Primary);
                self.feed
                    .waiting(&format!("{} is not connected", module.configuration.peer));
                Ok(json!({}))
            }
            Err(refusal) => {
                self.swap(Active::Idle(following));
                self.feed.role(Role::Idle);
                Err(refusal)
            }
        }
    }

    fn grant(&self) -> Result<Value, Refusal> {
        let not_primary = || {
            Refusal::new(
                Refusal::ROLE,
                "this node is not primary: only a primary goes on alone",
            )
        };
        let primary = self.primary().ok_or_else(not_primary)?;
        primary.leader.grant().map_err(|error| {
            let code = if matches!(error, GrantError::Live(_)) {
                Refusal::ROLE
            } else {
                Refusal::FAILED
            };
            Refusal::new(code, error.to_string())
        })?;
        self.feed.resumed();
        Ok(json!({}))
    }

    fn outdate(&self) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        let module = self.module()?;
        let outdate = || {
            let recorded = module.keeper.update(super::lineage::Lineage::outdated);
            recorded
                .map(drop)
                .map_err(|error| Refusal::new(Refusal::FAILED, error.to_string()))
        };
        match self.swap(Active::Changing(Role::Secondary)) {
            Active::Secondary(follower) => {
                // A session that still seems to live must acknowledge nothing more.
                let following = follower.stop(Stop::Drop);
                let outdated = outdate();
                let discards = locked(&self.standing).discards;
                self.follow(&module, discards, following)?;
                outdated?;
            }
            Active::Primary(primary) => {
                self.swap(Active::Primary(primary));
                return Err(Refusal::new(
                    Refusal::ROLE,
                    "this node is primary: its data is not older than the peer's",
                ));
            }
            idle => {
                self.swap(idle);
                outdate()?;
            }
        }
        Ok(json!({}))
    }

    fn demote(&self, force: bool, timeout: Duration) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        match self.role() {
            Role::Idle => Ok(json!({})),
            Role::Secondary => Err(Refusal::new(
                Refusal::ROLE,
                "this node is secondary: disconnect it instead",
            )),
            Role::Primary => self.end_primary(force, timeout),
        }
    }

    fn end_primary(&self, force: bool, timeout: Duration) -> Result<Value, Refusal> {
        let Some(primary) = self.primary() else {
            return Ok(json!({}));
        };
        primary.stop(force, timeout)?;
        self.swap(Active::Idle(None));
        self.feed.role(Role::Idle);
        Ok(json!({}))
    }

    /// Ends whatever role there is.
    fn leave(&self, force: bool) -> Result<Value, Refusal> {
        match self.swap(Active::Changing(Role::Idle)) {
            Active::Secondary(follower) => {
                let following = follower.stop(Stop::Leave);
                self.swap(Active::Idle(following));
                if let Ok(module) = self.module() {
                    let recorded = module
                        .keeper
                        .update(|lineage| lineage.with_role(Role::Idle));
                    recorded.map_err(|error| Refusal::new(Refusal::FAILED, error.to_string()))?;
                }
                self.feed.link(LinkState::Down, "");
                self.feed.role(Role::Idle);
                Ok(json!({}))
            }
            other => {
                self.swap(other);
                self.end_primary(force, STOP_TIMEOUT)
            }
        }
    }

    fn resync(&self) -> Result<Value, Refusal> {
        let primary = self
            .primary()
            .filter(|primary| primary.leader.compare_again());
        let not_connected = || {
            Refusal::new(
                Refusal::ROLE,
                "no secondary is connected to this node: connect it first",
            )
        };
        primary.map(|_| json!({})).ok_or_else(not_connected)
    }
}

impl Commands for Node {
    fn execute(&self, command: Command) -> Result<Value, Refusal> {
        let name = name(&command);
        let answer = match command {
            Command::Configure(configuration) => self.configure(*configuration),
            Command::Connect { discard } => self.connect(discard),
            Command::Disconnect {} => self.disconnect(),
            Command::Promote { force, handover: _ } => self.promote(force),
            Command::Grant {} => self.grant(),
            Command::Outdate { by: _ } => self.outdate(),
            Command::Demote { force, timeout_ms } => {
                self.demote(force, Duration::from_millis(timeout_ms))
            }
            Command::Status {} => return self.status(),
            Command::Resync {} => self.resync(),
            Command::Verify { .. } => Err(Refusal::new(
                Refusal::FAILED,
                "this release cannot verify without repairing: use resync, which compares everything",
            )),
            Command::Stop {} => {
                let change = locked(&self.change);
                let left = self.leave(false);
                drop(change);
                left.inspect(|_| self.end())
            }
        };
        match &answer {
            Ok(_) => tracing::info!(command = name, "done"),
            Err(refusal) => tracing::warn!(command = name, "refused: {refusal}"),
        }
        answer
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Configure(_) => "configure",
        Command::Connect { .. } => "connect",
        Command::Disconnect {} => "disconnect",
        Command::Promote { .. } => "promote",
        Command::Grant {} => "grant",
        Command::Outdate { .. } => "outdate",
        Command::Demote { .. } => "demote",
        Command::Status {} => "status",
        Command::Resync {} => "resync",
        Command::Verify { .. } => "verify",
        Command::Stop {} => "stop",
    }
}

/// Leads authenticated callers to the role that can answer them.
struct NodeDoor(Weak<Node>);

impl Door for NodeDoor {
    fn enter(&self, channel: Arc<Channel>, inbox: Inbox, hello: Hello) {
        let Some(node) = self.0.upgrade() else { return };
        if let Some(primary) = node.primary() {
            drop(node);
            primary.leader.admit(&channel, inbox, &hello);
            return;
        }
        let name = node
            .module()
            .map(|module| module.configuration.node.clone())
            .unwrap_or_default();
        let message = format!("{name} is not primary");
        // A caller that is gone needs no reason.
        let _ = channel.send_control(&Control::Error {
            code: WireRefusal::NotPrimary,
            message,
        });
        channel.close();
    }
}
