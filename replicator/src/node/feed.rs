//! What the parts report, kept for `status` and told to the agent. An event goes out only when something changed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::control::{self, Event, Publisher, Text, Verification};
use crate::keep::Kept;
use crate::lineage::{Lineage, Role};
use crate::link::events::Events;
use crate::link::{LinkState, locked};
use crate::{resync, serve};

/// The last report of each kind.
#[derive(Clone, Debug)]
pub struct Report {
    pub link: LinkState,
    pub link_reason: String,
    pub peer_lineage: Option<Lineage>,
    pub progress: resync::Progress,
    /// What was kept last, before a discard.
    pub kept: Option<Kept>,
    /// The verification that runs, or the last one.
    pub verification: Option<Verification>,
    /// Since when commits wait.
    pub waiting_since: Option<Instant>,
}

/// Shared by everything that has something to say.
pub struct Feed {
    publisher: Publisher,
    report: Mutex<Report>,
}

impl Feed {
    #[must_use]
    pub fn new(publisher: Publisher) -> Feed {
        let report = Report {
            link: LinkState::Down,
            link_reason: String::new(),
            peer_lineage: None,
            progress: resync::Progress::default(),
            kept: None,
            verification: None,
            waiting_since: None,
        };
        Feed {
            publisher,
            report: Mutex::new(report),
        }
    }

    #[must_use]
    pub fn report(&self) -> Report {
        locked(&self.report).clone()
    }

    /// The role changed: what was said of the former one does not hold any more.
    pub fn role(&self, role: Role) {
        locked(&self.report).waiting_since = None;
        self.publisher.publish(&Event::Role { role });
    }

    pub fn lineage(&self, lineage: &Lineage) {
        self.publisher.publish(&Event::Lineage(lineage.clone()));
    }

    /// What an earlier process kept.
    pub fn recall(&self, kept: Option<Kept>) {
        locked(&self.report).kept = kept;
    }

    /// A verification runs.
    pub fn verification(&self, now: Verification) {
        locked(&self.report).verification = Some(now);
    }

    /// A verification ended.
    pub fn verified(&self, result: Verification) {
        locked(&self.report).verification = Some(result.clone());
        self.publisher.publish(&Event::Verified(result));
    }

    /// Commits wait no more.
    pub fn resumed(&self) {
        locked(&self.report).waiting_since = None;
    }

    /// How long commits have waited now.
    #[must_use]
    pub fn waited(&self) -> Duration {
        locked(&self.report)
            .waiting_since
            .map(|since| since.elapsed())
            .unwrap_or_default()
    }
}

impl Events for Feed {
    fn link(&self, state: LinkState, reason: &str) {
        let mut report = locked(&self.report);
        if report.link == state && report.link_reason == reason {
            return;
        }
        report.link = state;
        reason.clone_into(&mut report.link_reason);
        if state == LinkState::Live {
            report.waiting_since = None;
        }
        // Published under the lock, so that events leave in the order of the reports.
        self.publisher.publish(&Event::Peer {
            link: link(state),
            reason: reason.to_owned(),
        });
    }

    fn waiting(&self, reason: &str) {
        let mut report = locked(&self.report);
        report.waiting_since.get_or_insert_with(Instant::now);
        self.publisher.publish(&Event::Waiting {
            reason: reason.to_owned(),
        });
    }

    fn peer_lineage(&self, lineage: &Lineage) {
        locked(&self.report).peer_lineage = Some(lineage.clone());
    }

    fn kept(&self, now: &Kept) {
        locked(&self.report).kept = Some(now.clone());
        self.publisher.publish(&Event::Kept(kept(now)));
    }

    fn progress(&self, now: &resync::Progress) {
        locked(&self.report).progress = *now;
        self.publisher.publish(&Event::Progress(progress(now)));
    }

    fn degraded(&self, reason: &str) {
        tracing::warn!("{reason}");
        self.publisher.publish(&Event::Degraded {
            reason: reason.to_owned(),
        });
    }

    fn fault(&self, reason: &str) {
        tracing::error!("{reason}");
        self.publisher.publish(&Event::Fault {
            reason: reason.to_owned(),
            fatal: true,
        });
    }
}

impl serve::Observer for Feed {
    fn degraded(&self, reason: &str) {
        Events::degraded(self, reason);
    }

    fn fault(&self, reason: &str) {
        Events::fault(self, reason);
    }
}

pub fn link(state: LinkState) -> control::Link {
    match state {
        LinkState::Down => control::Link::Down,
        LinkState::Connecting => control::Link::Connecting,
        LinkState::Resync => control::Link::Resync,
        LinkState::Live => control::Link::Live,
    }
}

pub fn kept(kept: &Kept) -> control::Kept {
    control::Kept {
        directory: Text::from(kept.directory.clone()),
        files: kept.files,
        bytes: kept.bytes,
    }
}

pub fn progress(progress: &resync::Progress) -> control::Progress {
    control::Progress {
        files_done: progress.files_done,
        files_total: progress.files_total,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        rate_bytes_per_s: progress.rate_bytes_per_s,
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds for people
        remaining_s: progress.remaining_s.map(|seconds| seconds.ceil() as u64),
    }
}
