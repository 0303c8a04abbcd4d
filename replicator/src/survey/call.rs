//! A call of the primary for a survey: the hellos, and the roots to begin with.

use std::sync::Arc;
use std::time::Duration;

use crate::link::LinkError;
use crate::link::channel::{Channel, Inbox};
use crate::link::handshake;
use crate::link::pulse::Pulse;
use crate::record::FileId;
use crate::wire::{Control, Hello, Intent, StartMode};

/// A primary that answers, until it is dropped.
pub struct Call {
    pub channel: Arc<Channel>,
    /// Taken by whoever asks.
    pub inbox: Inbox,
    pub primary: Hello,
    pub roots: Vec<FileId>,
    _pulse: Pulse,
}

impl Call {
    /// Says hello over a new connection. `own` is this node's hello, whatever its intent.
    pub fn open(
        own: &Hello,
        peer: &str,
        peer_timeout: Duration,
        (channel, mut inbox): (Arc<Channel>, Inbox),
    ) -> Result<Call, LinkError> {
        let own = Hello {
            intent: Intent::Survey,
            ..own.clone()
        };
        channel.send_control(&Control::Hello(own.clone()))?;
        let primary = match heard(inbox.control(&channel)?)? {
            Control::Hello(hello) => hello,
            other => return Err(LinkError::Unexpected(format!("{other:?}"))),
        };
        let start = match heard(inbox.control(&channel)?)? {
            Control::Start(start) if start.mode == StartMode::Survey => start,
            other => return Err(LinkError::Unexpected(format!("{other:?}"))),
        };
        handshake::agree(&own, &primary, peer, StartMode::Survey)
            .map_err(|refused| LinkError::Refused(refused.message))?;
        let is_sound = start
            .roots
            .iter()
            .enumerate()
            .all(|(index, root)| usize::from(root.tree) == index);
        if start.roots.len() != usize::from(own.trees) || !is_sound {
            return Err(LinkError::Unexpected(
                "a start frame for other directories".to_owned(),
            ));
        }
        channel.set_timeout(peer_timeout)?;
        Ok(Call {
            _pulse: Pulse::start(channel.clone(), peer_timeout, || {}, || {})?,
            channel,
            inbox,
            primary,
            roots: start.roots,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.channel.close();
    }
}

fn heard(control: Control) -> Result<Control, LinkError> {
    match control {
        Control::Error { message, .. } => Err(LinkError::Refused(message)),
        other => Ok(other),
    }
}
