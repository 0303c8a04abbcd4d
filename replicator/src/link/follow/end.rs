//! Why a session of the secondary ended, by what has to follow; and what the primary is told of it.

use crate::apply::ApplyError;
use crate::keep::KeepError;
use crate::lineage::StoreError;
use crate::link::LinkError;
use crate::link::channel::Channel;
use crate::link::handshake::Refused;
use crate::resync::TargetError;
use crate::survey::SurveyError;
use crate::wire::{Control, Refusal};

/// Why a session ended, by what has to follow.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.message)]
    Refused(Refused),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What a discard gives up could not be kept, so nothing was overwritten.
    #[error(transparent)]
    Keep(KeepError),
    /// The primary demoted itself; everything is on stable storage.
    #[error("the primary ended the session in good order")]
    Closed,
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End::Link(error.into())
    }
}

impl From<SurveyError> for End {
    fn from(error: SurveyError) -> End {
        match error {
            SurveyError::Link(error) => End::Link(error),
            SurveyError::Local(error) => End::Apply(error),
            SurveyError::Keep(error) => End::Keep(error),
            SurveyError::Stopped => End::Keep(KeepError::Stopped),
        }
    }
}

impl From<TargetError> for End {
    fn from(error: TargetError) -> End {
        match error {
            TargetError::Link(error) => End::Link(error),
            TargetError::Apply(error) => End::Apply(error),
        }
    }
}

/// Tells the primary why the session ends, if it cannot know.
pub(super) fn say_why(channel: &Channel, end: &End) {
    let code = match end {
        End::Apply(ApplyError::Full { .. }) => Refusal::Full,
        End::Apply(ApplyError::Failed { .. }) | End::Store(_) => Refusal::Failed,
        End::Apply(ApplyError::Diverged { .. }) => Refusal::Diverged,
        End::Apply(ApplyError::Malformed { .. })
        | End::Link(LinkError::Wire(_) | LinkError::Unexpected(_)) => Refusal::Protocol,
        End::Refused(_) | End::Link(_) | End::Keep(_) | End::Closed => return,
    };
    // If the primary is gone, it needs no reason.
    let _ = channel.send_control(&Control::Error {
        code,
        message: end.to_string(),
    });
    if let End::Apply(error) = end {
        tracing::error!("{error}");
    }
}

/// A frame of the primary, unless it is its refusal.
pub(super) fn heard(control: Control) -> Result<Control, End> {
    match control {
        Control::Error { code, message } => Err(End::Refused(Refused { code, message })),
        other => Ok(other),
    }
}

pub(super) fn unexpected(control: &Control) -> LinkError {
    LinkError::Unexpected(format!("{control:?}"))
}
