//! The numbers of writers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How much further ahead a driver's numbers are than those of the one that had the pool before: more than clocks differ.
const LEAP: u64 = 3_600_000_000_000;
/// Clocks have this long, nanoseconds, until numbers end; that is two hundred years.
const FURTHEST: u64 = u64::MAX / 3;

/// The highest number given or heard of: a clock may go back, the numbers may not.
static HIGHEST: AtomicU64 = AtomicU64::new(0);
/// How far numbers are ahead of the clock.
static AHEAD: AtomicU64 = AtomicU64::new(0);
/// How often a higher number was heard of.
static DOUBTS: AtomicU64 = AtomicU64::new(0);

/// The number of a writer: nanoseconds since 1970 and an hour for each turn, so that no two drivers have the same, and higher
/// than any before. dom0 refuses a writer with a lower one than the last it has seen.
#[must_use]
pub fn generation() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
    let now = now.saturating_add(AHEAD.load(Ordering::SeqCst));
    let before = HIGHEST.fetch_max(now, Ordering::SeqCst);
    if now > before { now } else { HIGHEST.fetch_add(1, Ordering::SeqCst).saturating_add(1) }
}

/// From now on numbers are those of this turn: who has had the pool before and does not know that it is over is refused.
pub(crate) fn take_turn(turn: u64) {
    AHEAD.store(turn.saturating_mul(LEAP).min(FURTHEST), Ordering::SeqCst);
}

/// dom0 has seen this number: what is given from now on is higher. Why it has is another question: see [`doubts`].
pub(super) fn heard_of(seen: u64) {
    DOUBTS.fetch_add(1, Ordering::SeqCst);
    HIGHEST.fetch_max(seen, Ordering::SeqCst);
}

/// Rises whenever somebody turns out to have written with a higher number than ours: another driver may have the pool. Asked
/// for after a number was taken, it tells of all that made the number what it is.
pub(crate) fn doubts() -> u64 {
    DOUBTS.load(Ordering::SeqCst)
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
        let doubts = doubts();
        // Whoever had the turn before cannot get there by its clock.
        take_turn(7);
        let fourth = generation();
        take_turn(8);
        assert!(generation() - fourth > LEAP / 2);
        take_turn(u64::MAX);
        assert!(generation() > fourth);
        take_turn(0);
        assert_eq!(super::doubts(), doubts);
    }
}
