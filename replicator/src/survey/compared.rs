//! A file under comparison: its hashes here, made as the primary's arrive.

use std::io;

use super::aspect::Hear;
use super::{Aspect, Difference, Enough, SurveyError};
use crate::apply::{BlockHashes, Found, HASH_BYTES};
use crate::record::FileId;

/// Why a comparison ended.
pub(super) enum CompareError {
    /// The file here cannot be read.
    Read(io::Error),
    /// Whoever heard of a difference wants to hear no more.
    Heard(SurveyError),
}

impl From<SurveyError> for CompareError {
    fn from(error: SurveyError) -> CompareError {
        CompareError::Heard(error)
    }
}

/// A file whose hashes are under way.
pub(super) struct Compared {
    pub theirs: FileId,
    pub path: Vec<u8>,
    pub found: Found,
    pub hashes: BlockHashes,
    pub next_block: u64,
    /// Nobody wants to hear more of it; its answers are still to come.
    pub is_enough: bool,
}

impl Compared {
    /// Compares the next blocks with the primary's hashes of them.
    pub fn compare(
        &mut self,
        theirs: &[[u8; HASH_BYTES]],
        hear: &mut Hear<'_>,
    ) -> Result<(), CompareError> {
        for hash in theirs {
            let ours = self.hashes.next().transpose().map_err(CompareError::Read)?;
            if ours.as_ref() != Some(hash) {
                self.tell(Aspect::Content, *hash, hear)?;
            }
            self.next_block += 1;
        }
        Ok(())
    }

    pub fn tell(
        &mut self,
        aspect: Aspect,
        fingerprint: [u8; 32],
        hear: &mut Hear<'_>,
    ) -> Result<(), SurveyError> {
        if self.is_enough {
            return Ok(());
        }
        let heard = hear(&Difference {
            tree: usize::from(self.theirs.tree),
            path: &self.path,
            found: Some(&self.found),
            aspect,
            block: self.next_block,
            fingerprint,
        })?;
        self.is_enough = heard == Enough::Yes;
        Ok(())
    }
}
