//! The numbers of writers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The highest number given or heard of: a clock may go back, the numbers may not.
static HIGHEST: AtomicU64 = AtomicU64::new(0);

/// The number of a writer: nanoseconds since 1970, so that no two drivers have the same, and higher than any before. dom0
/// refuses a writer with a lower one than the last it has seen.
#[must_use]
pub fn generation() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
    let before = HIGHEST.fetch_max(now, Ordering::Relaxed);
    if now > before { now } else { HIGHEST.fetch_add(1, Ordering::Relaxed).saturating_add(1) }
}

/// dom0 has seen this number: what is given from now on is higher.
pub(super) fn heard_of(seen: u64) {
    HIGHEST.fetch_max(seen, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_whatever_the_clock_does() {
        let first = generation();
        // As after an hour's step back of the clock.
        heard_of(first + 3_600_000_000_000);
        let second = generation();
        let third = generation();
        assert!(first + 3_600_000_000_000 < second && second < third);
    }
}
