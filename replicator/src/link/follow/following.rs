//! What a secondary has followed, kept from one session to the next.

use std::sync::Arc;

use super::MakeApplier;
use super::end::End;
use crate::apply::Applier;
use crate::link::LinkError;
use crate::link::acknowledger::Acknowledger;
use crate::record::FileId;

/// An applier with the log that it follows; survives sessions, and roles as long as the process lives.
pub struct Following {
    pub(super) applier: Applier,
    /// 0 while it cannot be resumed.
    pub(super) log: u64,
    /// The primary closed its log in good order behind what is applied.
    pub(super) has_ended: bool,
}

impl Following {
    /// (identity here, identity on the former primary) of every object, if this node has all that the former primary left.
    #[must_use]
    pub fn bindings(&self) -> Vec<(FileId, FileId)> {
        if !self.has_ended {
            return Vec::new();
        }
        self.applier
            .bindings()
            .map(|(theirs, ours)| (ours, theirs))
            .collect()
    }
}

/// The applier, made anew if there is none, with nothing to resume.
pub(super) fn fresh<'a>(
    following: &'a mut Option<Box<Following>>,
    make: &MakeApplier,
    acknowledger: &Arc<Acknowledger>,
) -> Result<&'a mut Following, End> {
    if following.is_none() {
        *following = Some(Box::new(Following {
            applier: make(acknowledger.clone())?,
            log: 0,
            has_ended: false,
        }));
    }
    let Some(following) = following else {
        return Err(LinkError::Closed.into());
    };
    following.log = 0;
    following.has_ended = false;
    Ok(following)
}
