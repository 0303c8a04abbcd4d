//! Hashes of a file's blocks, by which two replicas of it are compared without sending it.
//!
//! A block's hash covers its content and where its holes are, so that equal hashes mean that nothing has to be sent at all: for each
//! stretch of data its offset within the block and its length (u64, little endian), then its bytes. Holes add nothing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Length of one hash (BLAKE3).
pub const HASH_BYTES: usize = 32;

/// What a hash says of zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// They are data where they are stored, and holes where nothing is: for making files equal.
    Matter,
    /// They are what a reader of a hole sees: for telling whether files are equal to their readers. Pages read from a range that is
    /// reserved and not written count as stored for as long as they are cached.
    AreHoles,
}

/// Zeroes are told from data by so many bytes: every file system's blocks are multiples of it.
const GRAIN_BYTES: usize = 512;

/// The hashes of all blocks of a file, from its beginning to the end that it had at first, one after the other.
///
/// Both sides make them with this type, the primary from `Trees::open`, the secondary from [`Applier::open`](super::Applier::open).
/// The file may change meanwhile: a hash is of a content that each byte had at some moment.
#[derive(Debug)]
pub struct BlockHashes {
    file: File,
    block_bytes: u64,
    next: u64,
    size: u64,
    /// The stretch of data found last; everything from the position asked for to its beginning is a hole.
    data: Range<u64>,
    zeroes: Zeroes,
    buffer: Vec<u8>,
}

impl BlockHashes {
    /// Hashes blocks of `block_bytes` (one at least); the last one may be shorter. `file` must not share its offset with anyone.
    pub fn new(file: File, block_bytes: usize, zeroes: Zeroes) -> io::Result<BlockHashes> {
        Ok(BlockHashes {
            zeroes,
            size: file.metadata()?.len(),
            file,
            block_bytes: block_bytes.max(1) as u64,
            next: 0,
            data: 0..0,
            buffer: vec![0; block_bytes.max(1)],
        })
    }

    /// Whether every block was hashed.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.next >= self.size
    }

    fn hash(&mut self, block: &Range<u64>) -> io::Result<[u8; HASH_BYTES]> {
        let mut hasher = blake3::Hasher::new();
        let mut position = block.start;
        while position < block.end {
            if position >= self.data.end {
                self.data = self.data_from(position)?;
            }
            let stretch = position.max(self.data.start)..block.end.min(self.data.end);
            if stretch.is_empty() {
                break;
            }
            let length = usize::try_from(stretch.end - stretch.start).unwrap_or(usize::MAX);
            let length = self.read(stretch.start, length)?;
            let (offset, read) = (stretch.start - block.start, &self.buffer[..length]);
            match self.zeroes {
                Zeroes::Matter => update(&mut hasher, offset, read),
                Zeroes::AreHoles => update_without_zeroes(&mut hasher, offset, read),
            }
            position = stretch.end;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// The next stretch of data at or behind `position`; an endless hole when there is none.
    fn data_from(&self, position: u64) -> io::Result<Range<u64>> {
        let start = match seek(&self.file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(u64::MAX..u64::MAX),
            Err(fault) => return Err(fault.into()),
        };
        match seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => Ok(start..end),
            // Cut off in between.
            Err(Errno::NXIO) => Ok(u64::MAX..u64::MAX),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Fills the buffer; less than `length` when the file was cut off meanwhile.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<usize> {
        let mut filled = 0;
        while filled < length {
            let rest = &mut self.buffer[filled..length];
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(filled)
    }
}

fn update(hasher: &mut blake3::Hasher, offset: u64, bytes: &[u8]) {
    hasher.update(&offset.to_le_bytes());
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The longest runs without zeroes, so that it does not matter how the rest is stored.
fn update_without_zeroes(hasher: &mut blake3::Hasher, offset: u64, bytes: &[u8]) {
    let is_data = |grain: &&[u8]| grain.iter().any(|&byte| byte != 0);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let run: usize = rest
            .chunks(GRAIN_BYTES)
            .take_while(is_data)
            .map(<[u8]>::len)
            .sum();
        if run > 0 {
            update(hasher, offset + at as u64, &rest[..run]);
        }
        at += run.max(1).next_multiple_of(GRAIN_BYTES);
    }
}

impl Iterator for BlockHashes {
    type Item = io::Result<[u8; HASH_BYTES]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.size {
            return None;
        }
        let end = self.next.saturating_add(self.block_bytes).min(self.size);
        let block = self.next..end;
        self.next = end;
        Some(self.hash(&block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 1 << 16;

    fn file(content: &[(u64, Vec<u8>)], size: u64) -> File {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        for (offset, bytes) in content {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file.set_len(size).unwrap();
        file
    }

    fn hashes(file: File) -> Vec<[u8; HASH_BYTES]> {
        let hashes = BlockHashes::new(file, BLOCK_BYTES, Zeroes::Matter).unwrap();
        hashes.collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn equal_files_have_equal_hashes_and_only_changed_blocks_differ() {
        let content = vec![(0, vec![1; 3 * BLOCK_BYTES + 100])];
        let size = 3 * BLOCK_BYTES as u64 + 100;
        let one = hashes(file(&content, size));
        assert_eq!(one.len(), 4);
        assert_eq!(one, hashes(file(&content, size)));
        let mut changed = content.clone();
        changed.push((BLOCK_BYTES as u64 + 5, vec![2]));
        let other = hashes(file(&changed, size));
        let differ: Vec<_> = (0..4).filter(|&block| one[block] != other[block]).collect();
        assert_eq!(differ, [1]);
    }

    #[test]
    fn a_hole_is_not_zeroes_and_stretches_keep_their_place() {
        let size = 2 * BLOCK_BYTES as u64;
        let hole = hashes(file(&[], size));
        let zeroes = hashes(file(&[(0, vec![0; BLOCK_BYTES])], size));
        assert!(hole[0] != zeroes[0] && hole[1] == zeroes[1]);
        let near = hashes(file(&[(4096, vec![7; 4096])], size));
        let far = hashes(file(&[(8192, vec![7; 4096])], size));
        assert!(near[0] != far[0] && near[1] == far[1]);
    }

    #[test]
    fn to_a_reader_zeroes_are_holes() {
        let size = BLOCK_BYTES as u64 + 700;
        let seen = |content: &[(u64, Vec<u8>)]| -> Vec<_> {
            let hashes = BlockHashes::new(file(content, size), BLOCK_BYTES, Zeroes::AreHoles);
            hashes.unwrap().collect::<io::Result<_>>().unwrap()
        };
        let data = (8192, vec![7; 5000]);
        let sparse = seen(std::slice::from_ref(&data));
        let stored = seen(&[(0, vec![0; BLOCK_BYTES + 700]), data.clone()]);
        assert_eq!(sparse, stored);
        let moved = seen(&[(8193, vec![7; 5000])]);
        assert_ne!(sparse, moved);
        let longer = seen(&[data, (BLOCK_BYTES as u64 + 699, vec![1])]);
        assert!(sparse[0] == longer[0] && sparse[1] != longer[1]);
    }

    #[test]
    fn an_empty_file_has_no_blocks_and_a_vast_hole_is_quick() {
        assert!(hashes(file(&[], 0)).is_empty());
        let vast = hashes(file(&[(1 << 33, vec![1])], (1 << 33) + 1));
        assert_eq!(vast.len(), (1 << 17) + 1);
    }
}
