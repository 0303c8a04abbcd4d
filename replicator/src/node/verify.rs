//! `verify`: a secondary that follows live compares its trees with the primary's, beside the session, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::feed::Feed;
use super::module::Module;
use super::{Active, Node};
use crate::control::{DifferingPath, Refusal, Text, Verification};
use crate::lineage::Role;
use crate::link::dial::dial;
use crate::link::follow::Watch;
use crate::link::{LinkState, locked};
use crate::record::Lsn;
use crate::survey::{Beside, Call, Counts, Findings, IsStopped, SurveyError, Surveyor, verify};
use crate::wire::Intent;

/// Paths that are named.
const PATHS_MAX: usize = 100;
/// A look is given up when the log is not applied up to where the primary was by then.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// The session of a follower, as the verification needs it.
struct Session {
    watch: Watch,
    feed: Arc<Feed>,
}

impl Beside for Session {
    fn await_applied(&self, log: u64, last: Lsn) -> bool {
        let deadline = Instant::now() + APPLY_TIMEOUT;
        self.watch.await_applied(log, last, deadline)
    }

    fn pause(&self, time: Duration) -> bool {
        self.watch.interrupt().wait(time)
    }

    fn counted(&self, counts: Counts) {
        self.feed.verification(Verification {
            running: true,
            files: counts.files,
            bytes: counts.bytes,
            ..Verification::default()
        });
    }
}

impl Node {
    /// Begins; what is found stands in the status and goes out as an event.
    pub(super) fn verify(&self, repair: bool) -> Result<Value, Refusal> {
        let module = self.module()?;
        let watch = self.live_session()?;
        let node = self.itself.upgrade();
        let Some(node) = node.filter(|_| !self.is_verifying.swap(true, Ordering::SeqCst)) else {
            let message = "a verification runs already: its progress is in the status";
            return Err(Refusal::new(Refusal::BUSY, message));
        };
        self.feed.verification(Verification {
            running: true,
            ..Verification::default()
        });
        let run = move || {
            let session = Session {
                watch,
                feed: node.feed.clone(),
            };
            let found = survey(&module, &session);
            // Before it is told: who hears of the end may ask for the next one.
            node.is_verifying.store(false, Ordering::SeqCst);
            node.conclude(&module, found, repair);
        };
        let spawned = std::thread::Builder::new()
            .name("verify".to_owned())
            .spawn(run);
        spawned.map_err(|error| {
            self.is_verifying.store(false, Ordering::SeqCst);
            Refusal::new(
                Refusal::FAILED,
                format!("no thread to verify with: {error}"),
            )
        })?;
        Ok(json!({}))
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

    fn conclude(&self, module: &Module, found: Result<Findings, SurveyError>, repair: bool) {
        let findings = match found {
            Ok(findings) => findings,
            Err(error) => {
                return self.feed.verified(Verification {
                    fault: format!("it did not come to its end: {error}"),
                    ..Verification::default()
                });
            }
        };
        let repairs = repair && !findings.differing.is_empty();
        self.feed.verified(Verification {
            running: false,
            files: findings.files,
            bytes: findings.bytes,
            differing: findings.differing.len() as u64,
            changing: findings.changing,
            paths: paths(module, &findings),
            repairs,
            fault: String::new(),
        });
        if repairs && let Active::Secondary(follower) = &locked(&self.standing).active {
            follower.compare_again();
        }
    }
}

fn survey(module: &Arc<Module>, session: &Session) -> Result<Findings, SurveyError> {
    let configuration = &module.configuration;
    let interrupt = session.watch.interrupt();
    let dialled = dial(&configuration.dial, &module.credentials, interrupt, &|_| {})?;
    let own = module.hello(Role::Secondary, Intent::Survey);
    let mut call = Call::open(&own, &configuration.peer, module.peer_timeout(), dialled)?;
    let trees = module.trees()?;
    let stopped = session.watch.clone();
    let is_stopped: IsStopped = Arc::new(move || stopped.is_stopped());
    let inbox = std::mem::take(&mut call.inbox);
    let channel = (call.channel.clone(), inbox);
    let mut surveyor = Surveyor::new(channel, &trees, &configuration.node, is_stopped);
    verify(&mut surveyor, &call.roots, session)
}

fn paths(module: &Module, findings: &Findings) -> Vec<DifferingPath> {
    let named = findings.differing.iter().take(PATHS_MAX);
    named
        .map(|(tree, path, aspect)| DifferingPath {
            path: Text::from(shown(module, *tree, path)),
            aspect: *aspect,
        })
        .collect()
}

fn shown(module: &Module, tree: usize, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let root = module.sites[tree].path();
    if path.is_empty() {
        return root.to_owned();
    }
    root.join(std::ffi::OsStr::from_bytes(path))
}
