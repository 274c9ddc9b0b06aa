//! Summaries of repeated measurements.

use std::time::{Duration, Instant};

/// Middle, best and worst of some runs.
pub(crate) struct Stats {
    pub(crate) median: Duration,
    pub(crate) best: Duration,
    /// No more than one run in a hundred took longer: of a hundred runs or fewer the worst.
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
}

impl Stats {
    pub(crate) fn of(mut runs: Vec<Duration>) -> Self {
        runs.sort_unstable();
        let at = |place: usize| runs.get(place).copied().unwrap_or_default();
        let last = runs.len().saturating_sub(1);
        Self { median: at(runs.len() / 2), best: at(0), p99: at(last - runs.len() / 101), worst: at(last) }
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
