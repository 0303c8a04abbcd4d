//! A refused request, in the words that CLI, API and log show unchanged.

use serde::Serialize;

/// Why a request was not carried out: one sentence with the cure, and a code for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    /// The request itself is wrong: `malformed`, `protocol`.
    pub const MALFORMED: &'static str = "malformed";
    pub const PROTOCOL: &'static str = "protocol";
    /// The role or the configuration does not admit it now.
    pub const ROLE: &'static str = "role";
    pub const CONFIGURATION: &'static str = "configuration";
    /// The lineage does not admit it.
    pub const DATA: &'static str = "data";
    /// The mount is in use.
    pub const BUSY: &'static str = "busy";
    /// It was tried and failed.
    pub const FAILED: &'static str = "failed";

    pub fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }
}
