//! Commits that wait for the peer, and up to where they need not.
//!
//! No thread waits with them: whoever learns that the position is reached tells their callers. A peer that is slow, or gone, costs
//! the file system no thread, and an acknowledgement wakes nobody but the callers themselves.
//!
//! Invariant: every commit is told once. None lies parked whose position is reached, once [`Parked::tell`] was called after it was.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::locked;
use crate::journal::{NotCommitted, Then};
use crate::record::Lsn;

#[derive(Default)]
struct Commits {
    /// By position, and in the order in which they came.
    waiting: BTreeMap<(u64, u64), Then>,
    count: u64,
    is_closed: bool,
}

/// See the module.
#[derive(Default)]
pub struct Parked {
    /// Commits below this position need not wait.
    bound: AtomicU64,
    commits: Mutex<Commits>,
}

impl Parked {
    /// Commits below `bound` need not wait, others must. Tells nobody: see [`tell`](Self::tell).
    pub fn reach(&self, bound: u64) {
        self.bound.store(bound, Ordering::SeqCst);
    }

    /// Tells every commit that need not wait any more.
    pub fn tell(&self) {
        let due = {
            let mut commits = locked(&self.commits);
            if commits.waiting.is_empty() {
                return;
            }
            let bound = self.bound.load(Ordering::SeqCst);
            let later = commits.waiting.split_off(&(bound, 0));
            std::mem::replace(&mut commits.waiting, later)
        };
        tell_all(due, Ok(()));
    }

    /// Nothing more will be reached: who waits fails, and so does who comes later with a position that was not.
    pub fn close(&self) {
        let waiting = {
            let mut commits = locked(&self.commits);
            commits.is_closed = true;
            std::mem::take(&mut commits.waiting)
        };
        tell_all(waiting, Err(NotCommitted));
    }

    /// Calls `then` when `lsn` is reached: now, if it is.
    pub fn when(&self, lsn: Lsn, then: Then) {
        let is_reached = || lsn.0 < self.bound.load(Ordering::SeqCst);
        if is_reached() {
            return then(Ok(()));
        }
        let mut commits = locked(&self.commits);
        // Looked at under the lock: what is reached later finds this commit parked.
        let outcome = match (is_reached(), commits.is_closed) {
            (true, _) => Ok(()),
            (false, true) => Err(NotCommitted),
            (false, false) => {
                commits.count += 1;
                let number = commits.count;
                commits.waiting.insert((lsn.0, number), then);
                return;
            }
        };
        drop(commits);
        then(outcome);
    }
}

fn tell_all(commits: BTreeMap<(u64, u64), Then>, outcome: Result<(), NotCommitted>) {
    for then in commits.into_values() {
        then(outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    type Told = (u64, Result<(), NotCommitted>);

    /// Parks a commit at each position; what they are told comes out of the channel.
    fn park(parked: &Parked, positions: &[u64]) -> mpsc::Receiver<Told> {
        let (tell, told) = mpsc::channel();
        for &position in positions {
            let tell = tell.clone();
            parked.when(
                Lsn(position),
                Box::new(move |outcome| tell.send((position, outcome)).unwrap()),
            );
        }
        told
    }

    #[test]
    fn those_whose_position_is_reached_go_in_order_and_the_others_stay() {
        let parked = Parked::default();
        let told = park(&parked, &[3, 1, 2, 2]);
        parked.reach(3);
        assert!(told.try_recv().is_err());
        parked.tell();
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [(1, Ok(())), (2, Ok(())), (2, Ok(()))]
        );
        parked.reach(u64::MAX);
        parked.tell();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(3, Ok(()))]);
    }

    #[test]
    fn what_is_reached_already_is_told_at_once() {
        let parked = Parked::default();
        parked.reach(6);
        let told = park(&parked, &[5, 6]);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(5, Ok(()))]);
    }

    #[test]
    fn the_end_fails_who_waits_and_who_comes_later() {
        let parked = Parked::default();
        parked.reach(2);
        let told = park(&parked, &[2]);
        parked.close();
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [(2, Err(NotCommitted))]
        );
        let told = park(&parked, &[1, 2]);
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [(1, Ok(())), (2, Err(NotCommitted))]
        );
    }

    #[test]
    fn no_commit_is_forgotten_between_looking_and_parking() {
        let parked = Arc::new(Parked::default());
        for position in 1..=20_000 {
            let reaching = parked.clone();
            let told = thread::scope(|scope| {
                scope.spawn(move || {
                    reaching.reach(position + 1);
                    reaching.tell();
                });
                park(&parked, &[position])
            });
            assert_eq!(told.recv_timeout(DEADLINE), Ok((position, Ok(()))));
        }
    }
}
