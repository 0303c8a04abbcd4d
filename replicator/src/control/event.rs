//! Events, and their way to every connection.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::status::{Kept, Link, Progress, Verification};
use crate::lineage::{Lineage, Role};

/// Something the agent must know without asking.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    Role {
        role: Role,
    },
    Peer {
        link: Link,
        reason: String,
    },
    /// Commits wait since now.
    Waiting {
        reason: String,
    },
    Lineage(Lineage),
    Progress(Progress),
    /// What a discard gives up is kept.
    Kept(Kept),
    /// A verification ended.
    Verified(Verification),
    /// Works on with less.
    Degraded {
        reason: String,
    },
    /// The local store failed, or another error that ends the role.
    Fault {
        reason: String,
        fatal: bool,
    },
}

/// Hands events to all connections. Cheap to clone, never blocks.
#[derive(Clone, Default)]
pub struct Publisher {
    connections: Arc<Mutex<Vec<SyncSender<Vec<u8>>>>>,
}

impl Publisher {
    pub fn publish(&self, event: &Event) {
        tracing::info!(?event, "event");
        let body = match serde_json::to_vec(event) {
            Ok(body) => body,
            Err(fault) => {
                tracing::error!(%fault, "an event has no JSON form");
                return;
            }
        };
        // A connection whose queue is full does not read: dropping its sender ends it, and the agent will ask for the status.
        self.senders()
            .retain(|sender| sender.try_send(body.clone()).is_ok());
    }

    pub(super) fn add(&self, sender: SyncSender<Vec<u8>>) {
        self.senders().push(sender);
    }

    fn senders(&self) -> std::sync::MutexGuard<'_, Vec<SyncSender<Vec<u8>>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
