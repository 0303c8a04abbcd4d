//! Leads authenticated callers to the role that can answer them.

use std::sync::{Arc, Weak};

use super::Node;
use crate::link::channel::{Channel, Inbox};
use crate::link::listen::Door;
use crate::wire::{Control, Hello, Refusal};

/// See the module.
pub(super) struct NodeDoor(pub Weak<Node>);

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
            code: Refusal::NotPrimary,
            message,
        });
        channel.close();
    }
}
