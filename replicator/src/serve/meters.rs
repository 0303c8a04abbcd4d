//! Counters and commit times, written on the data path without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::status::CommitLatency;

const KEPT: usize = 1024;

#[derive(Debug)]
pub struct Meters {
    pub commits: AtomicU64,
    pub bytes_shipped: AtomicU64,
    pub uncovered_syncs: AtomicU64,
    /// The last commits' times in microseconds, as a ring.
    latencies_us: [AtomicU32; KEPT],
    next: AtomicUsize,
}

impl Meters {
    pub fn new() -> Meters {
        Meters {
            commits: AtomicU64::new(0),
            bytes_shipped: AtomicU64::new(0),
            uncovered_syncs: AtomicU64::new(0),
            latencies_us: std::array::from_fn(|_| AtomicU32::new(0)),
            next: AtomicUsize::new(0),
        }
    }

    pub fn committed(&self, took: Duration) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.latencies_us[slot].store(took_us, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn latency(&self) -> CommitLatency {
        let next = self.next.load(Ordering::Relaxed);
        let count = next.min(KEPT);
        if count == 0 {
            return CommitLatency::default();
        }
        let at = |slot: usize| self.latencies_us[slot].load(Ordering::Relaxed);
        let mut sorted: Vec<u32> = (0..count).map(at).collect();
        sorted.sort_unstable();
        let quantile = |percent: usize| duration(sorted[(count - 1) * percent / 100]);
        CommitLatency {
            last: duration(at((next - 1) % KEPT)),
            p50: quantile(50),
            p99: quantile(99),
        }
    }
}

fn duration(microseconds: u32) -> Duration {
    Duration::from_micros(microseconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_last_commits() {
        let meters = Meters::new();
        assert_eq!(meters.latency().p99, Duration::ZERO);
        for microseconds in (1..=100).rev() {
            meters.committed(duration(microseconds));
        }
        let latency = meters.latency();
        assert_eq!(
            (latency.last, latency.p50, latency.p99),
            (duration(1), duration(50), duration(99))
        );
        (0..KEPT).for_each(|_| meters.committed(duration(7)));
        assert_eq!(meters.latency().p99, duration(7));
    }
}
