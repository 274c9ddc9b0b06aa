//! The numbers of writers, of which dom0 lets none fall below the newest that it has seen.
//!
//! A number is the nanoseconds since 1970 by its driver's clock, and an hour for each turn a driver has had the pool after
//! another. One call, even one that only reads in order to write, with the highest number there is would therefore shut out every
//! driver until dom0 boots. So dom0 takes no number that is far ahead of *its own* clock, and that clock goes on: whoever is shut
//! out learns the number seen, takes the next one, and that is no longer too far ahead a moment later.
//!
//! What is far? More than honest drivers can come to: [`TURNS`] turns, which at one turn a minute are two years, and 30 days for
//! whatever is wrong with clocks (a call is refused anyway whose time is more than the window away from dom0's clock).

use std::time::Duration;

/// The highest number: half of what 64 bits hold, so that nobody's arithmetic overflows. `latest` comes there in 2142.
pub const HIGHEST: u64 = 1 << 63;

/// How far each turn is ahead of the one before, in nanoseconds: an hour, more than clocks differ.
pub const TURN: u64 = 3_600_000_000_000;

/// Most turns that count. A later one is not further ahead.
pub const TURNS: u64 = 1 << 20;

/// How wrong clocks may be, in nanoseconds: 30 days.
const SLACK: u64 = 30 * 24 * TURN;

/// The highest number that an honest driver can have at this time since 1970.
#[must_use]
pub fn latest(now: Duration) -> u64 {
    let now = u64::try_from(now.as_nanos()).unwrap_or(HIGHEST);
    now.saturating_add(TURNS * TURN).saturating_add(SLACK).min(HIGHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_ahead_moves_with_the_clock_and_ends() {
        let in_2030 = Duration::from_secs(1_900_000_000);
        let (first, next) = (latest(in_2030), latest(in_2030 + Duration::from_nanos(1)));
        assert_eq!(next, first + 1);
        assert!(first < HIGHEST);
        assert_eq!(latest(Duration::from_secs(10_000_000_000)), HIGHEST);
        assert_eq!(latest(Duration::MAX), HIGHEST);
    }
}
