//! The process's role machine: idle, secondary, primary, as the agent commands it (CONTROL.md).
//!
//! Invariant: one role change at a time, each recorded in the lineage before it takes effect. `status` and `grant` never wait for a
//! role change that is under way. The node decides nothing by itself: losing the peer or a fault of the disk is told, and the agent
//! answers with a command.

mod change;
mod door;
mod feed;
mod module;
mod primary;
mod status;
mod verify;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{Command, Commands, Configuration, Publisher, Refusal};
use crate::lineage::Role;
use crate::link::follow::{Follower, Following};
use crate::link::lead::GrantError;
use crate::link::listen::{Door, Listener};
use crate::link::locked;

use door::NodeDoor;
use feed::Feed;
use module::Module;
use primary::Primary;

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
    is_verifying: AtomicBool,
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
            is_verifying: AtomicBool::new(false),
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

    fn grant(&self) -> Result<Value, Refusal> {
        let not_primary = || {
            Refusal::new(
                Refusal::ROLE,
                "this node is not primary: only a primary goes on alone",
            )
        };
        let primary = self.primary().ok_or_else(not_primary)?;
        primary.leader.grant().map_err(|error| {
            let code = match error {
                GrantError::Live(_) | GrantError::Ending => Refusal::ROLE,
                GrantError::Store(_) => Refusal::FAILED,
            };
            Refusal::new(code, error.to_string())
        })?;
        self.feed.resumed();
        Ok(json!({}))
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
            Command::Verify { repair } => self.verify(repair),
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
