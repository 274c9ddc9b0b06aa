//! The numbers of writers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drawbridge_wire::generation::{self as wire, TURN, TURNS};

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
    let now = u64::try_from(since_1970().as_nanos()).unwrap_or(wire::HIGHEST);
    let now = now.saturating_add(AHEAD.load(Ordering::SeqCst)).min(wire::HIGHEST);
    let before = HIGHEST.fetch_max(now, Ordering::SeqCst);
    if now > before { now } else { next() }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The next after the highest. There is none after the last that dom0 takes: that one is given again.
fn next() -> u64 {
    let next = |highest: u64| highest.saturating_add(1).min(wire::HIGHEST);
    match HIGHEST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |highest| Some(next(highest))) {
        Ok(before) | Err(before) => next(before),
    }
}

/// From now on numbers are those of this turn: who has had the pool before and does not know that it is over is refused.
pub(crate) fn take_turn(turn: u64) {
    AHEAD.store(turn.min(TURNS) * TURN, Ordering::SeqCst);
}

/// dom0 has seen this number: what is given from now on is higher. Why it has is another question: see [`doubts`].
pub(super) fn heard_of(seen: u64) {
    DOUBTS.fetch_add(1, Ordering::SeqCst);
    // No dom0 takes a higher one: who says it has seen one is not to be believed, and our numbers are one for all hosts.
    HIGHEST.fetch_max(seen.min(wire::latest(since_1970())), Ordering::SeqCst);
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
        assert!(generation() - fourth > TURN / 2);
        take_turn(u64::MAX);
        assert!(generation() > fourth);
        take_turn(0);
        assert_eq!(super::doubts(), doubts);
        // A host that lies about what it has seen shuts no driver out of the others.
        heard_of(u64::MAX);
        let far = generation();
        assert!(far <= wire::latest(since_1970()) && far < wire::HIGHEST);
        assert_eq!(generation(), far + 1);
        // Nor does the end of all numbers.
        HIGHEST.store(u64::MAX, Ordering::SeqCst);
        assert_eq!((generation(), generation()), (wire::HIGHEST, wire::HIGHEST));
    }
}
