//! A directory's names in parts that fit into frames.

use super::limits::LISTING_BYTES;
use super::{Listing, entry_bytes};
use crate::journal::Entry;
use crate::record::FileId;

impl Listing {
    /// The listing of `directory` as one or more parts; the first carries the directory itself.
    #[must_use]
    pub fn in_parts(directory: FileId, itself: &Entry, entries: &[Entry]) -> Vec<Listing> {
        let mut parts = Vec::new();
        let mut rest = entries;
        let mut itself = Some(itself.clone());
        loop {
            let mut bytes = 0;
            let count = rest.iter().take_while(|entry| {
                bytes += entry_bytes(entry);
                bytes <= LISTING_BYTES
            });
            // An entry that is larger than a part on its own still fits into a frame.
            let (part, behind) = rest.split_at(count.count().max(1).min(rest.len()));
            parts.push(Listing {
                directory,
                itself: itself.take(),
                entries: part.to_vec(),
                is_last: behind.is_empty(),
            });
            rest = behind;
            if rest.is_empty() {
                return parts;
            }
        }
    }
}
