//! Summaries of repeated measurements.

use std::time::{Duration, Instant};

/// Middle and best of some runs.
pub(crate) struct Stats {
    pub(crate) median: Duration,
    pub(crate) best: Duration,
}

impl Stats {
    pub(crate) fn of(mut runs: Vec<Duration>) -> Self {
        runs.sort_unstable();
        let median = runs.get(runs.len() / 2).copied().unwrap_or_default();
        Self { median, best: runs.first().copied().unwrap_or_default() }
    }
}

/// Milliseconds with two places.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// `a` as a multiple of `b`.
pub(crate) fn ratio(a: Duration, b: Duration) -> String {
    format!("{:.2}", a.as_secs_f64() / b.as_secs_f64())
}
