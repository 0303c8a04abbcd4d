//! A limit of bytes per second: a pure account, in which the caller passes the time.

use std::time::{Duration, Instant};

/// Seconds of rate that may be saved up while nothing is sent.
const BURST_S: f64 = 0.25;

/// Tells how long to wait before the next bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bytes_per_s: f64,
    balance_bytes: f64,
    last: Instant,
}

impl Pace {
    /// `bytes_per_s` of 0 is no limit.
    #[must_use]
    pub fn new(bytes_per_s: u64, now: Instant) -> Pace {
        #[allow(clippy::cast_precision_loss)] // a rate needs no 53rd bit
        let bytes_per_s = bytes_per_s as f64;
        Pace {
            bytes_per_s,
            balance_bytes: 0.0,
            last: now,
        }
    }

    /// Takes `bytes` from the account and says how long to wait until it is covered again.
    pub fn spend(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_s <= 0.0 {
            return Duration::ZERO;
        }
        let earned = now.saturating_duration_since(self.last).as_secs_f64() * self.bytes_per_s;
        self.last = now;
        #[allow(clippy::cast_precision_loss)]
        let spent = bytes as f64;
        self.balance_bytes = (self.balance_bytes + earned).min(self.bytes_per_s * BURST_S) - spent;
        Duration::from_secs_f64((-self.balance_bytes / self.bytes_per_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time_and_bursts_are_bounded() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_secs(10) {
            now += pace.spend(100, now);
            sent += 100;
        }
        assert!(
            (9_900..=10_400).contains(&sent),
            "{sent} bytes in 10 s at 1000 a second"
        );
        now += Duration::from_secs(3600);
        assert_eq!(pace.spend(250, now), Duration::ZERO);
        assert!(pace.spend(250, now) >= Duration::from_millis(249));
    }

    #[test]
    fn no_limit_never_waits() {
        let now = Instant::now();
        assert_eq!(Pace::new(0, now).spend(u64::MAX, now), Duration::ZERO);
    }
}
