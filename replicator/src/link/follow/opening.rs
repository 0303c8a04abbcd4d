//! How a secondary's session opens: the two hellos, and what the primary's start frame asks for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Caller;
use super::end::{End, heard, unexpected};
use super::following::fresh;
use super::session::Session;
use crate::lineage::{DataState, Role};
use crate::link::LinkError;
use crate::link::channel::{Channel, Inbox};
use crate::link::handshake::{self, Refused};
use crate::record::Lsn;
use crate::resync::Target;
use crate::wire::{Control, Hello, Start, StartMode};

impl Caller {
    pub(super) fn begin(
        &mut self,
        channel: &Arc<Channel>,
        mut inbox: Inbox,
    ) -> Result<Session, End> {
        let own = self.own_hello();
        channel.send_control(&Control::Hello(own.clone()))?;
        let primary = match heard(inbox.control(channel)?)? {
            Control::Hello(hello) => hello,
            other => return Err(unexpected(&other).into()),
        };
        self.primary = primary.lineage.clone();
        self.events.peer_lineage(&primary.lineage);
        let start = match heard(inbox.control(channel)?)? {
            Control::Start(start) => start,
            other => return Err(unexpected(&other).into()),
        };
        if let Err(refused) = handshake::agree(&own, &primary, &self.settings.peer, start.mode) {
            let Refused { code, message } = refused.clone();
            channel.send_control(&Control::Error { code, message })?;
            return Err(End::Refused(refused));
        }
        if start.roots.len() != usize::from(own.trees) || start.first == Lsn(0) {
            return Err(
                LinkError::Unexpected("a start frame for other directories".to_owned()).into(),
            );
        }
        channel.set_timeout(self.settings.peer_timeout)?;
        // A primary always listens, so one that takes nothing for as long is gone, however much is on its way to it.
        channel.limit_sending(Some(self.settings.peer_timeout))?;
        let mut session = Session {
            channel: channel.clone(),
            inbox,
            next: start.first,
            log: start.log,
            wants_durable: primary.wants_durable,
            flushed: Instant::now(),
            target: None,
            precedence: None,
        };
        match start.mode {
            StartMode::Resume => self.resume(&start)?,
            StartMode::Bind => self.bind(&start, &mut session)?,
            StartMode::Resync => self.compare(&start, &mut session)?,
            StartMode::Survey => return Err(unexpected(&Control::Start(start)).into()),
        }
        Ok(session)
    }

    pub(super) fn own_hello(&self) -> Hello {
        let lineage = self.keeper.current();
        let must_compare = self.shared.must_compare.load(Ordering::SeqCst);
        let resumable = self
            .following
            .as_ref()
            .filter(|following| following.log != 0 && lineage.data_state == DataState::UpToDate)
            .filter(|_| !must_compare);
        Hello {
            role: Role::Secondary,
            log: resumable.map_or(0, |following| following.log),
            applied: resumable.map_or(Lsn(0), |following| following.applier.progress().applied),
            lineage,
            ..self.settings.hello.clone()
        }
    }

    fn resume(&mut self, start: &Start) -> Result<(), End> {
        let following = self
            .following
            .as_mut()
            .filter(|following| following.log == start.log);
        let Some(following) = following else {
            return Err(LinkError::Unexpected("another log".to_owned()).into());
        };
        if start.first.0 != following.applier.progress().applied.0 + 1 {
            return Err(
                LinkError::Unexpected(format!("a log that goes on at {}", start.first.0)).into(),
            );
        }
        following.applier.begin_resume()?;
        following.has_ended = false;
        self.keeper
            .update(|lineage| lineage.with_clean(false).with_role(Role::Secondary))?;
        Ok(())
    }

    fn bind(&mut self, start: &Start, session: &mut Session) -> Result<(), End> {
        self.keeper
            .update(|lineage| lineage.with_clean(false).with_role(Role::Secondary))?;
        let following = fresh(
            &mut self.following,
            &self.settings.make_applier,
            &self.acknowledger,
        )?;
        following.applier.begin_binding(Lsn(start.first.0 - 1))?;
        let mut left = start.bindings;
        while left > 0 {
            match heard(session.inbox.control(&session.channel)?)? {
                Control::Bind(pairs) if pairs.len() as u64 <= left && !pairs.is_empty() => {
                    left -= pairs.len() as u64;
                    following.applier.bind(&pairs)?;
                }
                Control::Keepalive => {}
                other => return Err(unexpected(&other).into()),
            }
        }
        following.applier.finish_binding()?;
        following.log = start.log;
        Ok(())
    }

    fn compare(&mut self, start: &Start, session: &mut Session) -> Result<(), End> {
        let lineage = self
            .keeper
            .update(|lineage| lineage.overwritten().with_role(Role::Secondary))?;
        self.shared.must_compare.store(false, Ordering::SeqCst);
        crate::fault::point("resync.marked");
        session.channel.send_control(&Control::Lineage(lineage))?;
        let following = fresh(
            &mut self.following,
            &self.settings.make_applier,
            &self.acknowledger,
        )?;
        let wants = following
            .applier
            .begin_resync(Lsn(start.first.0 - 1), &start.roots)?;
        let mut target = Target::new(&session.channel)?;
        target.want(wants);
        target.ask(&mut following.applier)?;
        session.target = Some(target);
        Ok(())
    }
}
