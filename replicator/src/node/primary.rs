//! The primary role: mounts that serve, a log, and the sessions with the secondary.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::module::Module;
use crate::control::Refusal;
use crate::journal::{Journal, Trees};
use crate::lineage::{Generation, Lineage, Role};
use crate::link::events::Events;
use crate::link::follow::Following;
use crate::link::lead::{Leader, Settings};
use crate::link::shipper::{Mode, Shipper};
use crate::mount::MountError;
use crate::serve::{Observer, ServeError, Served};
use crate::wire::Intent;

/// The peer gets so much time for its last word, however long unmounting took.
const CLOSE_LEAST: Duration = Duration::from_secs(2);

/// See the module.
pub struct Primary {
    module: Arc<Module>,
    feed: Arc<Feed>,
    pub served: Arc<Served>,
    pub shipper: Arc<Shipper>,
    pub leader: Arc<Leader>,
}

impl Primary {
    /// Records the role, mounts every directory, and waits for the secondary or a grant. On a refusal nothing has changed.
    pub fn start(
        module: &Arc<Module>,
        feed: &Arc<Feed>,
        following: Option<&Following>,
    ) -> Result<Primary, Refusal> {
        let failed = |error: &dyn ToString| Refusal::new(Refusal::FAILED, error.to_string());
        let base = module.keeper.current();
        let bindings = following
            .filter(|_| base.is_clean)
            .map(Following::bindings)
            .unwrap_or_default();
        let log = Generation::random().map_err(|error| failed(&error))?.0;
        let first = Generation::random().map_err(|error| failed(&error))?;
        crate::fault::point("promote.begin");
        module
            .keeper
            .update(|lineage| lineage.promoted(first))
            .map_err(|error| failed(&error))?;
        crate::fault::point("promote.recorded");
        let shipper = Arc::new(Shipper::new(log, module.limits()));
        let journal: Arc<dyn Journal> = shipper.clone();
        let observer: Arc<dyn Observer> = feed.clone();
        let served = match Served::start(&module.serve_config(), journal, observer) {
            Ok(served) => served,
            Err(error) => {
                module
                    .keeper
                    .update(|_| base)
                    .map_err(|error| failed(&error))?;
                return Err(refusal(&error));
            }
        };
        crate::fault::point("promote.mounted");
        let settings = Settings {
            hello: module.hello(Role::Primary, Intent::Follow),
            peer: module.configuration.peer.clone(),
            peer_timeout: module.peer_timeout(),
            source: module.source_settings(),
        };
        let trees: Arc<dyn Trees> = served.clone();
        let events: Arc<dyn Events> = feed.clone();
        let leader = Leader::new(
            settings,
            shipper.clone(),
            trees,
            module.keeper.clone(),
            events,
            base.is_clean,
            bindings,
        );
        flush_soon(module);
        Ok(Primary {
            module: module.clone(),
            feed: feed.clone(),
            served,
            shipper,
            leader: Arc::new(leader),
        })
    }

    /// Ends the role: unmounts, waits for the peer's word that it has everything, records whether both are clean.
    ///
    /// Without `force` a busy mount is a refusal, and everything stays as it was.
    pub fn stop(&self, force: bool, timeout: Duration) -> Result<(), Refusal> {
        if force
            && !matches!(
                self.shipper.mode(),
                Mode::Live | Mode::Alone | Mode::Resync { alone: true }
            )
        {
            // Commits that nobody will acknowledge would keep their callers from dying.
            self.shipper.close();
        }
        let deadline = Instant::now() + timeout;
        let mut stopped = self.served.stop(force, timeout);
        if force && stopped.is_err() {
            self.shipper.close();
            stopped = self.served.stop(force, timeout);
        }
        stopped.map_err(|error| refusal(&error))?;
        crate::fault::point("demote.unmounted");
        let is_clean = match self.shipper.mode() {
            Mode::Live => self.leader.close(
                deadline
                    .saturating_duration_since(Instant::now())
                    .max(CLOSE_LEAST),
            ),
            Mode::Alone | Mode::Resync { alone: true } => true,
            Mode::Buffering | Mode::Waiting | Mode::Resync { alone: false } | Mode::Closed => false,
        };
        crate::fault::point("demote.closed");
        self.leader.abandon();
        self.shipper.close();
        self.module.flush()?;
        let recorded = self
            .module
            .keeper
            .update(|lineage: &Lineage| lineage.with_clean(is_clean).with_role(Role::Idle));
        recorded.map_err(|error| Refusal::new(Refusal::FAILED, error.to_string()))?;
        if !is_clean {
            tracing::warn!(
                "demoted without the peer's word that it has everything: the trees will be compared"
            );
        }
        self.feed.link(crate::link::LinkState::Down, "");
        Ok(())
    }
}

/// What this node acknowledged as secondary may be in its memory only; the peer that had it too may be gone.
fn flush_soon(module: &Arc<Module>) {
    let flushed = module.clone();
    let flush = move || {
        if let Err(refusal) = flushed.flush() {
            tracing::error!("{refusal}");
        }
    };
    let spawned = std::thread::Builder::new()
        .name("flush-soon".to_owned())
        .spawn(flush);
    if let Err(error) = spawned {
        tracing::error!("no thread to flush what this node acknowledged as secondary: {error}");
    }
}

fn refusal(error: &ServeError) -> Refusal {
    let code = match error {
        ServeError::Mount(MountError::Busy { .. }) => Refusal::BUSY,
        _ => Refusal::FAILED,
    };
    Refusal::new(code, error.to_string())
}
