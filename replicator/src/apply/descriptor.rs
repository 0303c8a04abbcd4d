//! The open descriptors of known objects, bounded: the second-chance ("clock") rule decides which one is closed for a new one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::record::FileId;

/// An open object.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    /// Shared with the threads that flush it, so that it outlives its place here.
    pub descriptor: Arc<OwnedFd>,
    /// It has file capabilities, which the kernel would remove when it is written to; the log says what becomes of them.
    pub guards_capability: bool,
}

#[derive(Debug)]
struct Slot {
    file: FileId,
    opened: Option<Opened>,
    was_used: bool,
}

#[derive(Debug)]
pub(super) struct Descriptors {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    hand: usize,
    limit: usize,
}

impl Descriptors {
    /// Keeps at most `limit` descriptors open, one at least.
    pub fn new(limit: usize) -> Descriptors {
        Descriptors {
            slots: Vec::new(),
            vacant: Vec::new(),
            hand: 0,
            limit: limit.clamp(1, u32::MAX as usize),
        }
    }

    pub fn get(&mut self, slot: u32) -> Option<&mut Opened> {
        let slot = self.slots.get_mut(slot as usize)?;
        slot.was_used = true;
        slot.opened.as_mut()
    }

    /// Keeps a descriptor and returns where, and whose it took the place of.
    pub fn keep(&mut self, file: FileId, opened: Opened) -> (u32, Option<FileId>) {
        let kept = Slot {
            file,
            opened: Some(opened),
            was_used: true,
        };
        if let Some(vacant) = self.vacant.pop() {
            self.slots[vacant as usize] = kept;
            return (vacant, None);
        }
        if self.slots.len() < self.limit {
            self.slots.push(kept);
            return (index(self.slots.len() - 1), None);
        }
        // Two rounds at most: the first takes every mark away.
        while std::mem::take(&mut self.slots[self.hand].was_used) {
            self.hand = (self.hand + 1) % self.slots.len();
        }
        let place = self.hand;
        self.hand = (self.hand + 1) % self.slots.len();
        let before = std::mem::replace(&mut self.slots[place], kept);
        (index(place), Some(before.file))
    }

    pub fn close(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(slot as usize)
            && place.opened.take().is_some()
        {
            self.vacant.push(slot);
        }
    }

    pub fn clear(&mut self) {
        *self = Descriptors::new(self.limit);
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId {
            tree: 0,
            inode,
            generation: 0,
        }
    }

    fn opened() -> Opened {
        Opened {
            descriptor: Arc::new(std::fs::File::open("/dev/null").unwrap().into()),
            guards_capability: false,
        }
    }

    #[test]
    fn what_is_used_stays() {
        let mut descriptors = Descriptors::new(3);
        let slots: Vec<u32> = (0..3)
            .map(|inode| descriptors.keep(file(inode), opened()).0)
            .collect();
        // All are equally new: the oldest goes, and the others lose their mark.
        assert_eq!(keep(&mut descriptors, 3), (slots[0], Some(file(0))));
        descriptors.get(slots[1]).unwrap();
        assert_eq!(keep(&mut descriptors, 4), (slots[2], Some(file(2))));
    }

    #[test]
    fn a_closed_place_is_taken_first() {
        let mut descriptors = Descriptors::new(2);
        let first = keep(&mut descriptors, 0).0;
        keep(&mut descriptors, 1);
        descriptors.close(first);
        descriptors.close(first);
        assert!(descriptors.get(first).is_none());
        assert_eq!(keep(&mut descriptors, 2), (first, None));
        assert!(
            keep(&mut descriptors, 3).1.is_some(),
            "never more than its limit"
        );
    }

    fn keep(descriptors: &mut Descriptors, inode: u64) -> (u32, Option<FileId>) {
        descriptors.keep(file(inode), opened())
    }
}
