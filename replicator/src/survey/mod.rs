//! Finds what differs between the two nodes' trees and changes nothing: names, kinds, attributes, and content by hashes.
//!
//! The secondary asks over a connection of its own, beside any session: for the names of a directory, for the hashes of a file's
//! blocks, and for the position up to which the log holds everything answered so far. It serves two purposes: `keep/` looks before a
//! discard overwrites anything, while this node's tree stands still; `verify` looks at a secondary that follows live.
//!
//! An answer is true for one moment. Under writes a difference may be only one of time; whoever cares looks again (`verify`).

mod answer;
mod aspect;
mod call;
mod compared;
mod verify;
mod walk;

use std::sync::Arc;

use crate::apply::ApplyError;
use crate::link::LinkError;

pub use answer::Answerer;
pub use aspect::{Aspect, Difference, Enough};
pub use call::Call;
pub use verify::{Beside, Findings, verify};
pub use walk::{Counts, Surveyor};

/// Files of which hashes are asked and not compared yet.
const FILES_MAX: usize = 16;
/// Hashes in one answer: 128 MiB of a file.
const HASHES_IN_ANSWER: usize = 1024;

/// Why a survey ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Local(#[from] ApplyError),
    #[error(transparent)]
    Keep(#[from] crate::keep::KeepError),
    #[error("told to stop")]
    Stopped,
}

impl From<std::io::Error> for SurveyError {
    fn from(error: std::io::Error) -> SurveyError {
        SurveyError::Link(error.into())
    }
}

/// Says whether the survey shall end early.
pub type IsStopped = Arc<dyn Fn() -> bool + Send + Sync>;
