//! Pauses before what fails is tried again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Ever longer pauses, apart by chance, none of them longer than `longest`. They never end.
pub(super) fn pauses(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    // Chance makes up to twice as much of each.
    let longest = longest / 2;
    let pauses = ExponentialBuilder::default().with_min_delay(shortest.min(longest)).with_max_delay(longest);
    pauses.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        for (shortest, longest) in [(500, 5_000), (200, 5_000), (500, 1_000), (500, 600)] {
            let [shortest, longest] = [shortest, longest].map(Duration::from_millis);
            let pauses: Vec<_> = pauses(shortest, longest).take(1000).collect();
            assert_eq!(pauses.len(), 1000);
            assert!(pauses.iter().all(|pause| *pause <= longest), "{pauses:?}");
            assert!(pauses[10..].iter().all(|pause| *pause >= longest / 2), "{pauses:?}");
            assert!(pauses.windows(2).any(|two| two[0] != two[1]), "not apart");
        }
    }
}
