//! The file system's side: entries in, and towards the socket.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::{BATCH_BYTES, FLUSH_BYTES, Mode, Shipper, State};
use crate::journal::{Entry, Journal, Then};
use crate::link::{locked, split};
use crate::record::{Lsn, Record};
use crate::wire::{self, Logged};

impl Shipper {
    /// What the peer must know of the objects that `record` moves, while it may not know them yet.
    fn descriptions(&self, record: &Record<'_>) -> Vec<Entry> {
        if !self.is_describing.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let Some(trees) = locked(&self.described).clone() else {
            return Vec::new();
        };
        let moved = match record {
            Record::Link { file, .. } => [Some(*file), None],
            Record::Rename {
                file, exchanged, ..
            } => [Some(*file), *exchanged],
            _ => [None, None],
        };
        // What cannot be described is gone again; its removal follows in the log.
        moved
            .into_iter()
            .flatten()
            .filter_map(|file| trees.describe(file).ok())
            .collect()
    }

    /// The state, once the queue has room (or entries are not kept).
    pub(super) fn with_space(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.state);
        loop {
            if !state.keeps() || state.queue.held_bytes() < self.limits.queue_bytes {
                return state;
            }
            if state.queue.unsent_bytes() > 0 && state.channel.is_some() {
                drop(state);
                self.flush();
                state = locked(&self.state);
                continue;
            }
            state = self.await_change(state);
        }
    }

    fn append_one(&self, record: &Record<'_>) -> Lsn {
        let descriptions = self.descriptions(record);
        let mut state = self.with_space();
        if !state.keeps() {
            return state.queue.last();
        }
        if matches!(state.mode, Mode::Resync { .. }) {
            for entry in descriptions {
                let described = Logged::Describe(entry);
                state
                    .queue
                    .append(|lsn, out| wire::encode_logged(lsn, &described, out));
            }
        }
        let lsn = state
            .queue
            .append(|lsn, out| wire::encode_record(lsn, record, out));
        let is_due = state.queue.unsent_bytes() >= FLUSH_BYTES && state.channel.is_some();
        drop(state);
        if is_due {
            self.flush();
        }
        lsn
    }
}

impl Journal for Shipper {
    fn append(&self, record: &Record<'_>) -> Lsn {
        match split::oversized(record) {
            None => self.append_one(record),
            Some(parts) => parts
                .iter()
                .map(|part| self.append_one(part))
                .last()
                .unwrap_or_default(),
        }
    }

    fn ships(&self) -> bool {
        self.ships.load(Ordering::SeqCst)
    }

    fn flush(&self) {
        let mut outgoing = locked(&self.outgoing);
        loop {
            outgoing.clear();
            let channel = {
                let mut state = locked(&self.state);
                let Some(channel) = state.channel.clone() else {
                    return;
                };
                state.queue.take_unsent(BATCH_BYTES, &mut outgoing);
                state.sent_bytes += outgoing.len() as u64;
                channel
            };
            if outgoing.is_empty() {
                return;
            }
            if channel.send(&outgoing).is_err() {
                // The receiving thread meets the closed connection and ends the session with its reason.
                channel.close();
                return;
            }
        }
    }

    fn when(&self, lsn: Lsn, then: Then) {
        self.parked.when(lsn, then);
    }
}
