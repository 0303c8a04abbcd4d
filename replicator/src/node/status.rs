//! The answer to `status`: a picture of this moment, put together without waiting for anything.

use serde_json::Value;

use super::{Active, Node, feed};
use crate::control::{
    Capture, Commits, DirectoryStatus, Lag, Latency, Mode, Refusal, Status, Text, Totals,
};
use crate::lineage::Role;
use crate::link::locked;
use crate::link::shipper;
use crate::serve;

/// What only one of the roles can tell.
struct RoleStatus {
    role: Role,
    commits: Commits,
    capture: Capture,
    capture_reason: String,
    lag: Lag,
    latency: Latency,
    counters: Totals,
    served: Vec<serve::DirectoryStatus>,
}

impl Node {
    pub(super) fn status(&self) -> Result<Value, Refusal> {
        let module = self.module()?;
        let report = self.feed.report();
        let RoleStatus {
            role,
            commits,
            capture,
            capture_reason,
            lag,
            latency,
            counters,
            served,
        } = self.role_status();
        let directories = module.sites.iter().map(|site| {
            let serving = served
                .iter()
                .find(|directory| directory.path == site.path());
            DirectoryStatus {
                path: Text::from(site.path().to_owned()),
                mounted: serving.is_some_and(|directory| directory.mounted),
                fenced: site.is_fenced(),
                mode: match serving.map(|directory| directory.mode) {
                    Some(serve::Mode::Passthrough) => Mode::Passthrough,
                    Some(serve::Mode::Relay) | None => Mode::Relay,
                },
            }
        });
        let status = Status {
            role,
            link: feed::link(report.link),
            link_reason: report.link_reason.clone(),
            commits,
            frozen_since_ms: match commits {
                Commits::Waiting => {
                    u64::try_from(self.feed.waited().as_millis()).unwrap_or(u64::MAX)
                }
                Commits::Peer | Commits::Alone => 0,
            },
            lineage: module.keeper.current(),
            peer_lineage: report.peer_lineage,
            capture,
            capture_reason,
            directories: directories.collect(),
            lag,
            commit_latency_us: latency,
            resync: feed::progress(&report.progress),
            kept: report.kept.as_ref().map(feed::kept),
            verification: report.verification,
            counters,
        };
        serde_json::to_value(status)
            .map_err(|error| Refusal::new(Refusal::FAILED, error.to_string()))
    }

    fn role_status(&self) -> RoleStatus {
        let standing = locked(&self.standing);
        let mut status = RoleStatus {
            role: Role::Idle,
            commits: Commits::Waiting,
            capture: Capture::Relay,
            capture_reason: String::new(),
            lag: Lag::default(),
            latency: Latency::default(),
            counters: Totals::default(),
            served: Vec::new(),
        };
        let primary = match &standing.active {
            Active::Idle(_) => return status,
            Active::Changing(role) => {
                status.role = *role;
                return status;
            }
            Active::Secondary(follower) => {
                status.role = Role::Secondary;
                status.counters.bytes_applied = follower.bytes_applied();
                return status;
            }
            Active::Primary(primary) => primary.clone(),
        };
        drop(standing);
        let lag = primary.shipper.lag();
        let serving = primary.served.status();
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        RoleStatus {
            role: Role::Primary,
            commits: match primary.shipper.mode() {
                shipper::Mode::Live => Commits::Peer,
                shipper::Mode::Alone | shipper::Mode::Resync { alone: true } => Commits::Alone,
                _ => Commits::Waiting,
            },
            capture: match serving.capture {
                serve::Backend::TpBtf => Capture::TpBtf,
                serve::Backend::Fexit => Capture::Fexit,
                serve::Backend::Relay => Capture::Relay,
            },
            capture_reason: serving.capture_reason,
            lag: Lag {
                records: lag.records,
                bytes: lag.bytes,
            },
            latency: Latency {
                last: micros(serving.commit_latency.last),
                p50: micros(serving.commit_latency.p50),
                p99: micros(serving.commit_latency.p99),
            },
            counters: Totals {
                commits: serving.counters.commits,
                bytes_shipped: serving.counters.bytes_shipped,
                bytes_applied: 0,
                capture_drops: serving.counters.capture_drops,
                uncovered_syncs: serving.counters.uncovered_syncs,
            },
            served: serving.directories,
        }
    }
}
