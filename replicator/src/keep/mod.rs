//! What a discard would overwrite, kept aside first (guarantee G3).
//!
//! When the operator gives up this node's side after both wrote apart, everything that differs from the primary is copied to a dated
//! directory outside the replicated ones, before the first byte is overwritten: files that differ in content, kind, owner, mode or
//! extended attributes, and whatever exists here alone. Times alone are not worth a copy.
//!
//! ```text
//! STATE/kept/2026-11-22T081500Z/srv/data/…        the copies, below the path of their directory
//! STATE/kept/2026-11-22T081500Z.json              the record: when, from which lineage, how much
//! STATE/kept/2026-11-22T081500Z.partial/          under way; removed by the next attempt
//! ```
//! Invariant: the dated name appears when everything is on stable storage, and only then may the trees be overwritten. So an
//! interrupted keeping begins anew over a tree that nobody has touched, and an interrupted resynchronisation keeps nothing twice. A full
//! disk here stops the discard, with the trees as they were. `STATE/kept` may be a mount point. Nothing here is ever removed
//! but a partial directory: that is the operator's business.

mod copy;
mod date;
mod record;
mod store;

use std::path::PathBuf;

pub use record::{Kept, latest};
pub use store::Store;

/// Why nothing may be overwritten.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error(
        "no space in {} to keep what only this node has: nothing is overwritten until you free space, or mount a larger file system \
         there", place.display()
    )]
    Full { place: PathBuf },
    #[error("cannot {attempt} {object} to keep it, so nothing is overwritten: {cause}")]
    Failed {
        object: String,
        attempt: &'static str,
        cause: std::io::Error,
    },
    #[error("told to stop")]
    Stopped,
}
