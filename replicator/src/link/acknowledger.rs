//! Tells the primary how far this node is. Positions come from the thread that applies and from those that flush; acknowledgements
//! leave in order and never go back.

use std::io;
use std::sync::{Arc, Mutex};

use super::channel::Channel;
use super::locked;
use crate::apply::{ApplyError, Observer, Progress};
use crate::record::Lsn;
use crate::wire::Control;

#[derive(Default)]
struct State {
    channel: Option<Arc<Channel>>,
    wants_durable: bool,
    reached: Progress,
    told: Option<Progress>,
}

/// Outlives sessions, as flushes do.
#[derive(Default)]
pub struct Acknowledger {
    state: Mutex<State>,
}

impl Acknowledger {
    /// A session begins at `reached`; tells the primary at once.
    pub fn begin(
        &self,
        channel: &Arc<Channel>,
        wants_durable: bool,
        reached: Progress,
    ) -> io::Result<()> {
        let mut state = locked(&self.state);
        *state = State {
            channel: Some(channel.clone()),
            wants_durable,
            reached,
            told: None,
        };
        tell(&mut state)
    }

    /// The session is over.
    pub fn end(&self) {
        locked(&self.state).channel = None;
    }

    /// Positions moved by applying.
    pub fn advance(&self, progress: Progress) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.reached.applied = state.reached.applied.max(progress.applied);
        state.reached.durable = state.reached.durable.max(progress.durable);
        tell(&mut state)
    }
}

fn tell(state: &mut State) -> io::Result<()> {
    let Some(channel) = &state.channel else {
        return Ok(());
    };
    let applied = state.reached.applied;
    let now = Progress {
        applied,
        durable: state.reached.durable.min(applied),
    };
    let is_news = match state.told {
        Some(told) if state.wants_durable => told != now,
        // Nobody waits for the durable position alone; it travels with the next applied one.
        Some(told) => told.applied != now.applied,
        None => true,
    };
    if !is_news {
        return Ok(());
    }
    channel.send_control(&Control::Ack {
        applied: now.applied,
        durable: now.durable,
    })?;
    state.told = Some(now);
    Ok(())
}

impl Observer for Acknowledger {
    fn durable(&self, position: Lsn) {
        let progress = Progress {
            applied: Lsn(0),
            durable: position,
        };
        // A connection that refuses is met by the receiving thread.
        let _ = self.advance(progress);
    }

    fn failed(&self, error: &ApplyError) {
        tracing::error!("{error}");
        if let Some(channel) = &locked(&self.state).channel {
            // Wakes the receiving thread, whose next call of the applier meets the same error.
            channel.stop_reading();
        }
    }
}
