//! How many requests of the secondary are under way: the primary takes no more than [`REQUESTS_MAX`].

use std::sync::{Condvar, Mutex, PoisonError};

use super::REQUESTS_MAX;
use crate::link::locked;

#[derive(Debug, Default)]
struct Counts {
    asked: u64,
    served: u64,
    is_closed: bool,
}

/// Shared by the thread that receives and the one that hashes.
#[derive(Debug, Default)]
pub struct Window {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Window {
    /// Takes a place unless half of them are taken: the other half is the hashing thread's.
    pub fn try_enter(&self) -> bool {
        let mut counts = locked(&self.counts);
        let is_free = counts.asked - counts.served < REQUESTS_MAX as u64 / 2;
        counts.asked += u64::from(is_free);
        is_free
    }

    /// Waits for a place. False when the session is over.
    pub fn enter(&self) -> bool {
        let mut counts = locked(&self.counts);
        while !counts.is_closed && counts.asked - counts.served >= REQUESTS_MAX as u64 {
            counts = self
                .changed
                .wait(counts)
                .unwrap_or_else(PoisonError::into_inner);
        }
        counts.asked += u64::from(!counts.is_closed);
        !counts.is_closed
    }

    /// The primary dealt with `requests` in all. False if that cannot be.
    pub fn serve(&self, requests: u64) -> bool {
        let mut counts = locked(&self.counts);
        let is_sound = (counts.served..=counts.asked).contains(&requests);
        if is_sound {
            counts.served = requests;
            self.changed.notify_all();
        }
        is_sound
    }

    pub fn under_way(&self) -> u64 {
        let counts = locked(&self.counts);
        counts.asked - counts.served
    }

    pub fn close(&self) {
        locked(&self.counts).is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_answers_checked() {
        let window = Window::default();
        let taken = (0..1000).filter(|_| window.try_enter()).count();
        assert_eq!(taken, REQUESTS_MAX / 2);
        assert!((0..REQUESTS_MAX / 2).all(|_| window.enter()));
        assert!(
            !window.serve(REQUESTS_MAX as u64 + 1),
            "more answers than questions"
        );
        assert!(window.serve(200) && !window.serve(199), "answers go back");
        assert_eq!(window.under_way(), REQUESTS_MAX as u64 - 200);
        window.close();
        assert!(!window.enter());
    }
}
