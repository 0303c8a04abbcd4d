//! The primary's sessions: admits the secondary, hears its positions and requests, notices its loss.
//!
//! One session at a time; a secondary that calls again replaces the session that it knows to be dead. Everything that decides who
//! has which generation (admission, grant, the end of a resynchronisation) happens under one lock, and durably before it takes
//! effect in the [`Shipper`].

mod admission;
mod session;
mod survey;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::channel::{Channel, Inbox};
use super::events::Events;
use super::locked;
use super::shipper::{Mode, Shipper};
use crate::journal::Trees;
use crate::lineage::{Generation, Keeper, StoreError};
use crate::record::{FileId, Lsn};
use crate::resync::SourceSettings;
use crate::wire::{Closing, Control, Hello, Intent};

use admission::{Admission, Base};

/// The peer has applied everything when it is asked to close, so all that is left is to flush it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a primary needs to know of itself and its peer.
pub struct Settings {
    /// Its hello; lineage, log and role are filled in for each session.
    pub hello: Hello,
    pub peer: String,
    pub peer_timeout: Duration,
    pub source: SourceSettings,
}

/// Why no grant was given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("{0} is connected and up to date: commits wait for it")]
    Live(String),
    #[error("this node is giving up the primary role: it does not go on alone any more")]
    Ending,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
pub struct Leader {
    settings: Settings,
    shipper: Arc<Shipper>,
    trees: Arc<dyn Trees>,
    keeper: Arc<Keeper>,
    events: Arc<dyn Events>,
    admission: Mutex<Admission>,
    /// Answers of the peer that a demotion waits for.
    closed: Mutex<Option<SyncSender<Lsn>>>,
}

impl Leader {
    /// Leads from the log's first position. `base_is_clean`, `bindings`: see [`Base`].
    #[must_use]
    pub fn new(
        settings: Settings,
        shipper: Arc<Shipper>,
        trees: Arc<dyn Trees>,
        keeper: Arc<Keeper>,
        events: Arc<dyn Events>,
        base_is_clean: bool,
        bindings: Vec<(FileId, FileId)>,
    ) -> Leader {
        let base = Some(Base {
            is_clean: base_is_clean,
            bindings,
        });
        Leader {
            settings,
            shipper,
            trees,
            keeper,
            events,
            admission: Mutex::new(Admission {
                base,
                current: None,
                has_ended: false,
                survey: None,
                must_compare: false,
            }),
            closed: Mutex::new(None),
        }
    }

    /// Carries one session from the secondary's hello to its end. Returns when it has ended.
    pub fn admit(self: &Arc<Leader>, channel: &Arc<Channel>, mut inbox: Inbox, hello: &Hello) {
        if hello.intent == Intent::Survey {
            return self.show(channel, &mut inbox, hello);
        }
        let mode = match self.begin(channel, hello) {
            Ok(mode) => mode,
            Err(error) => {
                tracing::warn!(address = %channel.address(), "session refused: {error}");
                channel.close();
                return;
            }
        };
        let end = self.converse(channel, &mut inbox, mode);
        self.lose(channel, &end);
    }

    /// Goes on alone: a new generation, durably, then commits return.
    pub fn grant(&self) -> Result<(), GrantError> {
        let mut admission = locked(&self.admission);
        match self.shipper.mode() {
            Mode::Alone | Mode::Resync { alone: true } => return Ok(()),
            Mode::Live => return Err(GrantError::Live(self.settings.peer.clone())),
            Mode::Closed => return Err(GrantError::Ending),
            Mode::Buffering | Mode::Waiting | Mode::Resync { alone: false } => {}
        }
        let new = Generation::random()?;
        let lineage = self.keeper.update(|lineage| lineage.granted(new))?;
        crate::fault::point("grant.recorded");
        admission.base = None;
        if let Some(channel) = &admission.current {
            // A peer that does not hear it now hears it before its resynchronisation ends.
            let _ = channel.send_control(&Control::Lineage(lineage));
        }
        let is_granted = self.shipper.grant();
        debug_assert!(
            is_granted,
            "nobody becomes live while the admission is locked"
        );
        tracing::info!(generation = %new, "commits are acknowledged alone");
        Ok(())
    }

    /// Ends the session in good order, within `timeout` and [`CLOSE_TIMEOUT`]. True if the peer has everything on stable storage and
    /// is clean.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout.min(CLOSE_TIMEOUT);
        let channel = {
            let mut admission = locked(&self.admission);
            admission.has_ended = true;
            admission.current.clone()
        };
        let Some(channel) = channel else { return false };
        if !self.shipper.drain(deadline) {
            return false;
        }
        let (sender, answer) = sync_channel(1);
        *locked(&self.closed) = Some(sender);
        if channel
            .send_control(&Control::Close(Closing::Ends))
            .is_err()
        {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // Ends at once when the session is lost: its thread drops the sender.
        match answer.recv_timeout(left) {
            Ok(applied) => applied == self.shipper.last(),
            Err(error) => {
                tracing::warn!(
                    "{} did not say that it has everything: {error}",
                    self.settings.peer
                );
                false
            }
        }
    }

    /// Gives the session up, so that the next one compares the trees. False if there is none.
    #[must_use]
    pub fn compare_again(&self) -> bool {
        let mut admission = locked(&self.admission);
        admission.must_compare = true;
        admission
            .current
            .as_ref()
            .map(|channel| channel.close())
            .is_some()
    }

    /// Ends every session, now.
    pub fn abandon(&self) {
        let mut admission = locked(&self.admission);
        admission.has_ended = true;
        for channel in [admission.current.take(), admission.survey.take()]
            .into_iter()
            .flatten()
        {
            channel.close();
        }
    }
}
