//! Before a discard: what only this node has is kept aside, or nothing is overwritten.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Caller;
use super::end::End;
use crate::keep::Store;
use crate::lineage::{DataState, Generation};
use crate::link::channel::{Channel, Inbox};
use crate::link::dial::dial;
use crate::link::{LinkState, handshake, locked};
use crate::resync::Meter;
use crate::survey::{Call, Enough, IsStopped, Surveyor};
use crate::wire::Intent;

impl Caller {
    /// Keeps what differs from the primary, if following it gives up what the lineages do not. Returns when own data may be
    /// overwritten.
    pub(super) fn keep_aside(&mut self) -> Result<(), End> {
        let lineage = self.keeper.current();
        let has_own = lineage.generation != Generation::NONE
            // Overwritten in part: what was to be kept was kept before that began.
            && lineage.data_state != DataState::Inconsistent;
        let is_due = self.settings.hello.intent == Intent::Discard
            && has_own
            && self.kept != Some(lineage.generation);
        if !is_due {
            return Ok(());
        }
        let shared = self.shared.clone();
        let remember = |socket| *locked(&shared.socket) = Some(socket);
        let dialled = dial(
            &self.settings.dial,
            &self.settings.credentials,
            &shared.interrupt,
            &remember,
        );
        let kept = dialled
            .map_err(End::Link)
            .and_then(|dialled| self.survey(dialled));
        *locked(&shared.socket) = None;
        kept?;
        self.kept = Some(lineage.generation);
        Ok(())
    }

    fn survey(&mut self, dialled: (Arc<Channel>, Inbox)) -> Result<(), End> {
        let own = self.own_hello();
        let mut call = Call::open(
            &own,
            &self.settings.peer,
            self.settings.peer_timeout,
            dialled,
        )?;
        if !handshake::gives_up(&call.primary, &own) {
            return Ok(());
        }
        let reason = format!(
            "compares with {} and keeps what only {} has in {}",
            self.settings.peer,
            own.node,
            self.settings.keep_place.display()
        );
        tracing::info!("{reason}");
        self.events.link(LinkState::Connecting, &reason);
        let trees = (self.settings.open_trees)()?;
        let shared = self.shared.clone();
        let is_stopped: IsStopped = Arc::new(move || locked(&shared.stop).is_some());
        let place = &self.settings.keep_place;
        let mut store = Store::begin(place, &trees, SystemTime::now(), is_stopped.clone())
            .map_err(End::Keep)?;
        let inbox = std::mem::take(&mut call.inbox);
        let mut surveyor =
            Surveyor::new((call.channel.clone(), inbox), &trees, &own.node, is_stopped);
        let mut meter = Meter::start(Instant::now());
        let events = self.events.clone();
        surveyor.walk(&call.roots, &mut |difference| {
            let is_kept = store.keep(difference)?;
            meter.counts.files_done = store.kept.files;
            meter.counts.bytes_done = store.kept.bytes;
            if let Some(progress) = meter.due(Instant::now()) {
                events.progress(&progress);
            }
            Ok(if is_kept { Enough::Yes } else { Enough::No })
        })?;
        crate::fault::point("keep.copied");
        let names = (&*own.module, &*own.node, &*self.settings.peer);
        let theirs = call.primary.lineage.clone();
        let kept = store.finish(names, own.lineage.clone(), theirs);
        if let Some(kept) = kept.map_err(End::Keep)? {
            self.events.kept(&kept);
        }
        Ok(())
    }
}
