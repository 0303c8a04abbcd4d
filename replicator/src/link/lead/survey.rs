//! Shows the secondary the trees while it surveys them, beside any session.

use std::sync::Arc;

use super::Leader;
use super::admission::refuse;
use crate::link::channel::{Channel, Inbox};
use crate::link::handshake::{self, Continuity};
use crate::link::pulse::Pulse;
use crate::link::{LinkError, locked};
use crate::record::Lsn;
use crate::survey::Answerer;
use crate::wire::{Control, Hello, Start, StartMode};

impl Leader {
    /// Answers until the secondary has seen enough. One survey at a time: a newer one ends the older.
    pub(super) fn show(&self, channel: &Arc<Channel>, inbox: &mut Inbox, hello: &Hello) {
        let (end, pulse) = match self.begin_survey(channel, hello) {
            Ok(pulse) => {
                let (trees, shipper) = (self.trees.clone(), self.shipper.clone());
                let end = Answerer::new(channel.clone(), trees, shipper).serve(inbox);
                (end, Some(pulse))
            }
            Err(error) => (error, None),
        };
        channel.close();
        drop(pulse);
        tracing::info!("survey by {} ended: {end}", self.settings.peer);
        let mut admission = locked(&self.admission);
        if admission
            .survey
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, channel))
        {
            admission.survey = None;
        }
    }

    fn begin_survey(&self, channel: &Arc<Channel>, hello: &Hello) -> Result<Pulse, LinkError> {
        let own = {
            let mut admission = locked(&self.admission);
            if admission.has_ended {
                return Err(refuse(channel, self.is_not_primary()));
            }
            if let Some(older) = admission.survey.replace(channel.clone()) {
                older.close();
            }
            self.own_hello(&admission)
        };
        channel.set_timeout(self.settings.peer_timeout)?;
        let (log, node) = (own.log, self.settings.peer.clone());
        let answer = handshake::answer(&own, hello, &node, Continuity::default());
        channel.send_control(&Control::Hello(own))?;
        answer.map_err(|refused| refuse(channel, refused))?;
        channel.send_control(&Control::Start(Start {
            mode: StartMode::Survey,
            log,
            first: Lsn(0),
            roots: self.trees.roots(),
            bindings: 0,
        }))?;
        Ok(Pulse::start(
            channel.clone(),
            self.settings.peer_timeout,
            || {},
            || {},
        )?)
    }
}
