//! How far a resynchronisation is, for people.

use std::time::{Duration, Instant};

/// Counts of one resynchronisation; totals grow while directories are still being listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Progress {
    pub files_done: u64,
    pub files_total: u64,
    /// Compared or sent.
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub rate_bytes_per_s: u64,
    /// `None` until a rate is known.
    pub remaining_s: Option<f64>,
}

/// Turns counts into a rate and a remaining time; says when it is time to tell.
#[derive(Debug)]
pub struct Meter {
    pub counts: Progress,
    started: Instant,
    told: Instant,
}

impl Meter {
    const INTERVAL: Duration = Duration::from_millis(500);

    #[must_use]
    pub fn start(now: Instant) -> Meter {
        Meter {
            counts: Progress::default(),
            started: now,
            told: now,
        }
    }

    /// The progress, if it was not told for a while.
    pub fn due(&mut self, now: Instant) -> Option<Progress> {
        if now.saturating_duration_since(self.told) < Meter::INTERVAL {
            return None;
        }
        self.told = now;
        Some(self.reading(now))
    }

    /// The progress, whenever it is asked.
    #[must_use]
    pub fn reading(&self, now: Instant) -> Progress {
        let elapsed_s = now.saturating_duration_since(self.started).as_secs_f64();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rate = if elapsed_s > 0.0 {
            (self.counts.bytes_done as f64 / elapsed_s) as u64
        } else {
            0
        };
        let left = self
            .counts
            .bytes_total
            .saturating_sub(self.counts.bytes_done);
        #[allow(clippy::cast_precision_loss)]
        let remaining_s = (rate > 0).then(|| left as f64 / rate as f64);
        Progress {
            rate_bytes_per_s: rate,
            remaining_s,
            ..self.counts
        }
    }
}
