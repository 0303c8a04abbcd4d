//! `verify`: a secondary that follows live compares its trees with the primary's, beside the session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::module::Module;
use super::{Active, Node};
use crate::control::{Refusal, Text};
use crate::lineage::Role;
use crate::link::dial::dial;
use crate::link::events::Events;
use crate::link::follow::Watch;
use crate::link::{LinkState, locked};
use crate::record::Lsn;
use crate::survey::{Beside, Call, Findings, IsStopped, SurveyError, Surveyor, verify};
use crate::wire::Intent;

/// Paths in the answer.
const PATHS_MAX: usize = 100;
/// A look is given up when the log is not applied up to where the primary was by then.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// The session of a follower, as the verification needs it.
struct Session(Watch);

impl Beside for Session {
    fn await_applied(&self, log: u64, last: Lsn) -> bool {
        self.0
            .await_applied(log, last, Instant::now() + APPLY_TIMEOUT)
    }

    fn pause(&self, time: Duration) -> bool {
        self.0.interrupt().wait(time)
    }
}

impl Node {
    pub(super) fn verify(&self, repair: bool) -> Result<Value, Refusal> {
        let Ok(_one) = self.verifying.try_lock() else {
            let message = "a verification runs already: wait for its end";
            return Err(Refusal::new(Refusal::BUSY, message));
        };
        let module = self.module()?;
        let watch = self.live_session()?;
        let findings = survey(&module, &watch).map_err(|error| {
            let message = format!("the verification did not end: {error}; try it again");
            Refusal::new(Refusal::FAILED, message)
        })?;
        let differing = findings.differing.len();
        if differing > 0 {
            let (tree, path, aspect) = &findings.differing[0];
            self.feed.degraded(&format!(
                "{differing} objects differ from those of {}, {} ({aspect:?}) first: repair them with \
                 `telamon module verify {} --repair`",
                module.configuration.peer,
                shown(&module, *tree, path).display(),
                module.configuration.module,
            ));
        }
        let repairs = repair && differing > 0;
        if repairs && let Active::Secondary(follower) = &locked(&self.standing).active {
            follower.compare_again();
        }
        Ok(answer(&module, &findings, repairs))
    }

    fn live_session(&self) -> Result<Watch, Refusal> {
        let is_live = self.feed.report().link == LinkState::Live;
        match &locked(&self.standing).active {
            Active::Secondary(follower) if is_live => Ok(follower.watch()),
            _ => {
                let message = "this node does not follow the peer live: verify on the secondary, when it is in step";
                Err(Refusal::new(Refusal::ROLE, message))
            }
        }
    }
}

fn survey(module: &Arc<Module>, watch: &Watch) -> Result<Findings, SurveyError> {
    let configuration = &module.configuration;
    let dialled = dial(
        &configuration.dial,
        &module.credentials,
        watch.interrupt(),
        &|_| {},
    )?;
    let own = module.hello(Role::Secondary, Intent::Survey);
    let mut call = Call::open(&own, &configuration.peer, module.peer_timeout(), dialled)?;
    let trees = module.trees()?;
    let stopped = watch.clone();
    let is_stopped: IsStopped = Arc::new(move || stopped.is_stopped());
    let inbox = std::mem::take(&mut call.inbox);
    let channel = (call.channel.clone(), inbox);
    let mut surveyor = Surveyor::new(channel, &trees, &configuration.node, is_stopped);
    verify(&mut surveyor, &call.roots, &Session(watch.clone()))
}

fn shown(module: &Module, tree: usize, path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let root = module.sites[tree].path();
    if path.is_empty() {
        return root.to_owned();
    }
    root.join(std::ffi::OsStr::from_bytes(path))
}

fn answer(module: &Module, findings: &Findings, repairs: bool) -> Value {
    let paths = findings.differing.iter().take(PATHS_MAX);
    let paths: Vec<Value> = paths
        .map(|(tree, path, aspect)| {
            json!({"path": Text::from(shown(module, *tree, path)), "aspect": aspect})
        })
        .collect();
    json!({
        "files": findings.files,
        "bytes": findings.bytes,
        "differing": findings.differing.len(),
        "changing": findings.changing,
        "paths": paths,
        "repairs": repairs,
    })
}
