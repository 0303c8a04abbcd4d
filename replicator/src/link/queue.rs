//! The primary's copy of the log: encoded entries between the peer's acknowledged position and the newest.
//!
//! Invariant: entries `(released, last]` are held, contiguous, each exactly once; `sent` lies in that range. Pure: no socket, no
//! lock, no clock.

use std::collections::VecDeque;

use crate::record::Lsn;
use crate::wire::HEADER_BYTES;

/// Entries are freed by whole segments.
const SEGMENT_BYTES: usize = 256 << 10;

struct Segment {
    first: u64,
    last: u64,
    bytes: Vec<u8>,
}

/// See the module.
pub struct Queue {
    segments: VecDeque<Segment>,
    last: u64,
    released: u64,
    held_bytes: usize,
    /// The next byte to send: sequence number of its segment counted from the front, and offset.
    cursor: (usize, usize),
    unsent_bytes: usize,
    spare: Option<Vec<u8>>,
}

impl Queue {
    /// An empty log that continues behind `last`.
    #[must_use]
    pub fn behind(last: Lsn) -> Queue {
        Queue {
            segments: VecDeque::new(),
            last: last.0,
            released: last.0,
            held_bytes: 0,
            cursor: (0, 0),
            unsent_bytes: 0,
            spare: None,
        }
    }

    #[must_use]
    pub fn last(&self) -> Lsn {
        Lsn(self.last)
    }

    /// Everything up to here was freed.
    #[must_use]
    pub fn released(&self) -> Lsn {
        Lsn(self.released)
    }

    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Appends one entry; `encode` writes its frame for the position it is given.
    pub fn append(&mut self, encode: impl FnOnce(Lsn, &mut Vec<u8>)) -> Lsn {
        if self
            .segments
            .back()
            .is_none_or(|tail| tail.bytes.len() >= SEGMENT_BYTES)
        {
            let bytes = self
                .spare
                .take()
                .unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES + SEGMENT_BYTES / 4));
            self.segments.push_back(Segment {
                first: self.last + 1,
                last: self.last,
                bytes,
            });
        }
        self.last += 1;
        let last = self.last;
        if let Some(tail) = self.segments.back_mut() {
            let before = tail.bytes.len();
            encode(Lsn(last), &mut tail.bytes);
            tail.last = last;
            let added = tail.bytes.len() - before;
            self.held_bytes += added;
            self.unsent_bytes += added;
        }
        Lsn(last)
    }

    /// Copies unsent entries and counts them as sent, until `limit` bytes are there and their segment is at its end. Always whole
    /// entries: between two calls other threads send frames of their own.
    pub fn take_unsent(&mut self, limit: usize, out: &mut Vec<u8>) {
        while out.len() < limit {
            let (index, offset) = self.cursor;
            let Some(segment) = self.segments.get(index) else {
                break;
            };
            let rest = &segment.bytes[offset..];
            out.extend_from_slice(rest);
            self.unsent_bytes -= rest.len();
            if index + 1 == self.segments.len() {
                self.cursor.1 = segment.bytes.len();
                break;
            }
            self.cursor = (index + 1, 0);
        }
    }

    /// Frees what the peer applied. Never frees what was not sent.
    pub fn release(&mut self, applied: Lsn) {
        while let Some(front) = self.segments.front() {
            let is_sent = self.cursor.0 > 0 || self.cursor.1 == front.bytes.len();
            if front.last > applied.0 || !is_sent {
                break;
            }
            if let Some(mut segment) = self.segments.pop_front() {
                self.held_bytes -= segment.bytes.len();
                self.released = segment.last;
                segment.bytes.clear();
                self.spare = Some(segment.bytes);
                self.cursor = if self.cursor.0 > 0 {
                    (self.cursor.0 - 1, self.cursor.1)
                } else {
                    (0, 0)
                };
            }
        }
    }

    /// Whether sending can go on behind `applied`.
    #[must_use]
    pub fn holds_behind(&self, applied: Lsn) -> bool {
        (self.released..=self.last).contains(&applied.0)
    }

    /// Sends everything behind `applied` (again).
    ///
    /// # Panics
    /// If [`holds_behind`](Self::holds_behind) is false.
    pub fn rewind(&mut self, applied: Lsn) {
        assert!(
            self.holds_behind(applied),
            "{} is not held behind {}",
            self.last,
            applied.0
        );
        let at = self
            .segments
            .iter()
            .position(|segment| segment.last > applied.0);
        let Some(index) = at else {
            self.cursor = (
                self.segments.len().saturating_sub(1),
                self.segments.back().map_or(0, |tail| tail.bytes.len()),
            );
            self.unsent_bytes = 0;
            return;
        };
        let segment = &self.segments[index];
        let mut offset = 0;
        for _ in segment.first..=applied.0 {
            let length = segment.bytes[offset + 4..offset + 8]
                .try_into()
                .map_or(0, u32::from_le_bytes);
            offset += HEADER_BYTES + length as usize;
        }
        self.cursor = (index, offset);
        self.unsent_bytes = self
            .segments
            .iter()
            .skip(index)
            .map(|segment| segment.bytes.len())
            .sum::<usize>()
            - offset;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{FileId, Record};
    use crate::wire::{Header, encode_record};

    fn append(queue: &mut Queue, length: usize) -> Lsn {
        let file = FileId {
            tree: 0,
            inode: 1,
            generation: 1,
        };
        let content = vec![7; length].into();
        queue.append(|lsn, out| {
            encode_record(
                lsn,
                &Record::Data {
                    file,
                    offset: 0,
                    content,
                },
                out,
            );
        })
    }

    fn positions(mut bytes: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
            let header = Header::parse(head).unwrap();
            found.push(header.lsn.0);
            bytes = &rest[header.length as usize..];
        }
        found
    }

    #[test]
    fn a_rewind_to_the_newest_entry_sends_nothing() {
        let mut queue = Queue::behind(Lsn(5));
        queue.rewind(Lsn(5));
        append(&mut queue, 10);
        queue.rewind(Lsn(6));
        let mut out = Vec::new();
        queue.take_unsent(1 << 20, &mut out);
        assert!(out.is_empty() && queue.unsent_bytes() == 0);
        append(&mut queue, 10);
        queue.take_unsent(1 << 20, &mut out);
        assert_eq!(positions(&out), [7]);
    }

    proptest! {
        /// Against a model: whatever is appended, sent, acknowledged and sent again, the peer sees every entry in order.
        #[test]
        fn behaves_like_a_list(steps in prop::collection::vec((0u8..4, 0usize..200_000), 1..60)) {
            let mut queue = Queue::behind(Lsn(100));
            let (mut applied, mut stream) = (100u64, Vec::new());
            for (step, number) in steps {
                match step {
                    0 | 1 => { append(&mut queue, number); }
                    2 => {
                        queue.take_unsent(number, &mut stream);
                        // Other frames may follow now: nothing may be cut off.
                        for position in positions(&stream) {
                            prop_assert_eq!(position, applied + 1);
                            applied = position;
                        }
                        stream.clear();
                        queue.release(Lsn(applied));
                    }
                    _ => {
                        prop_assert!(queue.holds_behind(Lsn(applied)));
                        queue.rewind(Lsn(applied));
                        stream.clear();
                    }
                }
                prop_assert!(queue.released().0 <= applied);
                prop_assert_eq!(queue.held_bytes() == 0, queue.released() == queue.last());
            }
            queue.rewind(Lsn(applied));
            let mut rest = Vec::new();
            queue.take_unsent(usize::MAX, &mut rest);
            prop_assert_eq!(positions(&rest), (applied + 1..=queue.last().0).collect::<Vec<_>>());
        }
    }
}
