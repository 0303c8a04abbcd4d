//! Who may begin a session with the primary, and how: decided under one lock.

use std::sync::Arc;

use super::Leader;
use crate::link::channel::{Channel, HANDSHAKE_TIMEOUT};
use crate::link::handshake::{self, Continuity, Refused};
use crate::link::{LinkError, LinkState, locked};
use crate::record::{FileId, Lsn};
use crate::wire::limits::BINDINGS;
use crate::wire::{self, Control, Hello, Refusal, Start, StartMode};

/// What the log's first position stands on, until it is moved away from.
pub(super) struct Base {
    /// The node was clean when it became primary.
    pub(super) is_clean: bool,
    /// (own identity, the peer's identity) of every object, if this node followed the peer until then.
    pub(super) bindings: Vec<(FileId, FileId)>,
}

pub(super) struct Admission {
    pub(super) base: Option<Base>,
    pub(super) current: Option<Arc<Channel>>,
    pub(super) has_ended: bool,
    /// The connection over which the secondary looks at the trees, beside any session.
    pub(super) survey: Option<Arc<Channel>>,
    /// The operator asked for a comparison.
    pub(super) must_compare: bool,
}

impl Leader {
    pub(super) fn begin(
        &self,
        channel: &Arc<Channel>,
        hello: &Hello,
    ) -> Result<StartMode, LinkError> {
        let mut admission = locked(&self.admission);
        if admission.has_ended {
            return Err(refuse(channel, self.is_not_primary()));
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
        // Whoever wants a grant waits for the admission: a peer that takes nothing must not hold it.
        channel.limit_sending(Some(HANDSHAKE_TIMEOUT))?;
        channel.send_control(&Control::Hello(own))?;
        let base = admission.base.take();
        self.attach(channel, hello, mode, base)?;
        channel.limit_sending(None)?;
        admission.current = Some(channel.clone());
        admission.must_compare = false;
        self.events.peer_lineage(&hello.lineage);
        if mode != StartMode::Resync {
            // Told under the lock: from here on no grant is given.
            self.events.link(LinkState::Live, "");
        }
        Ok(mode)
    }

    pub(super) fn is_not_primary(&self) -> Refused {
        let message = format!("{} is not primary", self.settings.hello.node);
        Refused::new(Refusal::NotPrimary, message)
    }

    pub(super) fn own_hello(&self, admission: &Admission) -> Hello {
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
            // It has no log, and is no session: `survey.rs`.
            StartMode::Survey => Ok(false),
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
}

/// Tells the peer why, and makes an error of it.
pub(super) fn refuse(channel: &Arc<Channel>, refused: Refused) -> LinkError {
    let Refused { code, message } = refused;
    // A peer that does not hear it is gone, which is what was asked of it.
    let _ = channel.send_control(&Control::Error {
        code,
        message: message.clone(),
    });
    LinkError::Refused(message)
}
