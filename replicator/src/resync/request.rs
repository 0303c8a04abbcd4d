//! What a secondary asks for while it is brought up to date.

use crate::apply::HASH_BYTES;
use crate::record::FileId;
use crate::wire::Control;

/// What a secondary asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Listing(FileId),
    Content(FileId),
    Hashes {
        file: FileId,
        first_block: u64,
        hashes: Vec<[u8; HASH_BYTES]>,
        is_last: bool,
    },
    CaughtUp,
}

impl Request {
    /// The request in a control frame, if it is one.
    #[must_use]
    pub fn from_control(control: Control) -> Option<Request> {
        match control {
            Control::WantListing { directory } => Some(Request::Listing(directory)),
            Control::WantFile { file } => Some(Request::Content(file)),
            Control::Hashes {
                file,
                first_block,
                hashes,
                is_last,
            } => Some(Request::Hashes {
                file,
                first_block,
                hashes,
                is_last,
            }),
            Control::CaughtUp => Some(Request::CaughtUp),
            _ => None,
        }
    }
}
