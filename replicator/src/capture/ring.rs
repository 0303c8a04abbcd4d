//! The consumer's end of a BPF ring buffer (kernel: Documentation/bpf/ringbuf.rst).
//!
//! libbpf's reader stops at an element that is reserved and not yet submitted. Here that would hide later elements that were
//! submitted before a commit point, so this one waits: a capture program fills an element in well under a microsecond and is not
//! preempted meanwhile.

use std::io;
use std::sync::atomic::Ordering;

use libbpf_rs::{MapCore, MapHandle};

use super::event::Event;
use super::sys::RingMemory;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;
/// Looks at a busy element before the processor is given away between two looks: its writer may run on a stolen virtual one.
const SPINS: u32 = 1000;

/// The mapped ring. One reader at a time.
pub struct Ring {
    memory: RingMemory,
    /// Position of the next element, in bytes since load.
    position: u64,
}

impl Ring {
    pub fn map(events: &MapHandle) -> io::Result<Ring> {
        let memory = RingMemory::map(events, events.max_entries() as usize)?;
        let position = memory.consumer().load(Ordering::Acquire);
        Ok(Ring { memory, position })
    }

    pub fn drain(&mut self, sink: &mut dyn FnMut(Event)) {
        // Elements that come while we read belong to later calls: a busy writer must not keep a commit here.
        let end = self.memory.producer().load(Ordering::Acquire);
        while self.position < end {
            let length = self.settled_length();
            if length & DISCARDED == 0 {
                let element = self.memory.bytes(self.position + HEADER_BYTES, Event::SIZE);
                if let Some(event) = Event::from_bytes(element) {
                    sink(event);
                } else {
                    tracing::error!("the capture made an event of an unknown kind");
                }
            }
            let taken = u64::from(length & !(BUSY | DISCARDED)) + HEADER_BYTES;
            self.position += taken.next_multiple_of(8);
            self.memory
                .consumer()
                .store(self.position, Ordering::Release);
        }
    }

    /// The length word of the next element, once its writer has submitted it.
    fn settled_length(&self) -> u32 {
        let header = self.memory.header(self.position);
        let mut looks = 0_u32;
        loop {
            let length = header.load(Ordering::Acquire);
            if length & BUSY == 0 {
                return length;
            }
            looks += 1;
            if looks % SPINS == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
