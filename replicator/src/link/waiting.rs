//! Commits that wait for the peer, in the order of their positions.
//!
//! Invariant: a commit enters before it looks whether it may return, and whoever moves the acknowledged position wakes after
//! moving it: so none sleeps on a position that is reached.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::{self, Thread, ThreadId};

use super::locked;
use crate::record::Lsn;

/// See the module.
#[derive(Default)]
pub struct WaitingRoom {
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    waiting: BTreeMap<Seat, Thread>,
    next: u64,
}

/// Position, then order of arrival.
type Seat = (u64, u64);

/// One waiting commit. Leaves when dropped.
pub struct Waiting<'a> {
    room: &'a WaitingRoom,
    seat: Seat,
    thread: ThreadId,
}

impl WaitingRoom {
    /// The calling thread waits for `lsn` from now on.
    pub fn enter(&self, lsn: Lsn) -> Waiting<'_> {
        let mut seats = locked(&self.seats);
        let seat = (lsn.0, seats.next);
        seats.next += 1;
        let thread = thread::current();
        let id = thread.id();
        seats.waiting.insert(seat, thread);
        Waiting {
            room: self,
            seat,
            thread: id,
        }
    }

    /// Wakes all whose position is at most `committed`.
    pub fn wake_through(&self, committed: u64) {
        let seats = locked(&self.seats);
        for thread in seats
            .waiting
            .range(..=(committed, u64::MAX))
            .map(|seat| seat.1)
        {
            thread.unpark();
        }
    }

    /// Wakes the first of all, if there is one.
    pub fn wake_one(&self) {
        if let Some(seat) = locked(&self.seats).waiting.first_entry() {
            seat.get().unpark();
        }
    }

    /// Wakes the first of all but `own`, if there is one.
    pub fn wake_other(&self, own: &Waiting<'_>) {
        let seats = locked(&self.seats);
        if let Some((_, thread)) = seats.waiting.iter().find(|seat| *seat.0 != own.seat) {
            thread.unpark();
        }
    }
}

impl Waiting<'_> {
    /// Sleeps until woken. May return early.
    pub fn sleep(&self) {
        assert_eq!(
            self.thread,
            thread::current().id(),
            "who sleeps is who is woken"
        );
        thread::park();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        locked(&self.room.seats).waiting.remove(&self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Waits for each of `positions` in a thread of its own; what is received are positions that were reached.
    fn sleepers(
        scope: &'static (WaitingRoom, AtomicU64),
        positions: &[u64],
    ) -> mpsc::Receiver<u64> {
        let (woken, receiver) = mpsc::channel();
        for &position in positions {
            let woken = woken.clone();
            thread::spawn(move || {
                let waiting = scope.0.enter(Lsn(position));
                while scope.1.load(Ordering::SeqCst) < position {
                    waiting.sleep();
                }
                drop(waiting);
                woken.send(position).unwrap();
            });
        }
        receiver
    }

    #[test]
    fn those_whose_position_is_reached_go_and_the_others_stay() {
        let scope: &'static _ = Box::leak(Box::default());
        let woken = sleepers(scope, &[3, 1, 2, 2]);
        let mut gone = Vec::new();
        for (committed, count) in [(1, 1), (2, 2), (3, 1)] {
            scope.1.store(committed, Ordering::SeqCst);
            scope.0.wake_through(committed);
            for _ in 0..count {
                gone.push(woken.recv_timeout(DEADLINE).unwrap());
            }
            assert!(woken.try_recv().is_err());
        }
        assert_eq!(gone, [1, 2, 2, 3]);
        assert!(locked(&scope.0.seats).waiting.is_empty());
    }

    #[test]
    fn another_one_is_woken_not_the_caller() {
        let room = WaitingRoom::default();
        let own = room.enter(Lsn(1));
        room.wake_other(&own);
        thread::scope(|scope| {
            let (entered, ready) = mpsc::channel();
            let room = &room;
            let sleeper = scope.spawn(move || {
                let waiting = room.enter(Lsn(2));
                entered.send(()).unwrap();
                waiting.sleep();
            });
            ready.recv_timeout(DEADLINE).unwrap();
            room.wake_other(&own);
            sleeper.join().unwrap();
        });
    }
}
