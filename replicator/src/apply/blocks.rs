//! Hashes of a file's blocks, by which two replicas of it are compared without sending it.
//!
//! A block's hash covers its content and where its holes are, so that equal hashes mean that nothing has to be sent at all.

use std::fs::File;
use std::io;

/// Length of one hash (BLAKE3).
pub const HASH_BYTES: usize = 32;

/// The hashes of all blocks of a file, from its beginning to its present end, one after the other.
///
/// Both sides make them with this type, the primary from `Trees::open`, the secondary from [`Applier::open`](super::Applier::open).
#[derive(Debug)]
pub struct BlockHashes {
    _file: File,
}

impl BlockHashes {
    /// Hashes blocks of `block_bytes`; the last one may be shorter.
    pub fn new(_file: File, _block_bytes: usize) -> io::Result<BlockHashes> {
        todo!()
    }
}

impl Iterator for BlockHashes {
    type Item = io::Result<[u8; HASH_BYTES]>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
