//! Role changes, one at a time: connect, disconnect, promote, outdate, demote.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::module::Module;
use super::primary::Primary;
use super::{Active, Node};
use crate::control::{Configuration, Refusal};
use crate::lineage::{DataState, Lineage, Role};
use crate::link::events::Events;
use crate::link::follow::{self, Follower, Following, Stop};
use crate::link::{LinkState, locked};
use crate::wire::Intent;

/// How long leaving a role by `stop` may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl Node {
    pub(super) fn connect(&self, discards: bool) -> Result<Value, Refusal> {
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
        let (room, looked_at) = (module.clone(), module.clone());
        let intent = if discards {
            Intent::Discard
        } else {
            Intent::Follow
        };
        let settings = follow::Settings {
            hello: module.hello(Role::Secondary, intent),
            peer: module.configuration.peer.clone(),
            dial: module.configuration.dial.clone(),
            credentials: module.credentials.clone(),
            peer_timeout: module.peer_timeout(),
            make_applier: Box::new(move |acknowledger| appliers.applier(acknowledger)),
            has_room: Box::new(move || room.has_room()),
            open_trees: Box::new(move || looked_at.trees()),
            keep_place: module.keep_place(),
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

    pub(super) fn disconnect(&self) -> Result<Value, Refusal> {
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

    pub(super) fn promote(&self, force: bool) -> Result<Value, Refusal> {
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

    pub(super) fn outdate(&self) -> Result<Value, Refusal> {
        let _change = locked(&self.change);
        let module = self.module()?;
        let outdate = || {
            let recorded = module.keeper.update(Lineage::outdated);
            recorded
                .map(drop)
                .map_err(|error| Refusal::new(Refusal::FAILED, error.to_string()))
        };
        let is_live = self.feed.report().link == LinkState::Live;
        if is_live && self.role() == Role::Secondary {
            // The request crossed the session's beginning, and its primary withdraws it. If only this side believes in the session, it
            // ends within the peer timeout.
            let message = format!(
                "the session with {} is live: nobody goes on alone beside it",
                module.configuration.peer
            );
            return Err(Refusal::new(Refusal::ROLE, message));
        }
        match self.swap(Active::Changing(Role::Secondary)) {
            Active::Secondary(follower) => {
                // A session that begins now must acknowledge nothing.
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

    pub(super) fn demote(&self, force: bool, timeout: Duration) -> Result<Value, Refusal> {
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
    pub(super) fn leave(&self, force: bool) -> Result<Value, Refusal> {
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
}
