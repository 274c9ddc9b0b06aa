//! Another writer may come in between reading and writing. Nothing is wrong then, but it has to be done again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// So often something is done when other writers come in between. Each time somebody has succeeded.
const ROUNDS: usize = 12;

/// The rounds of somebody who is overtaken.
pub(crate) struct Rounds {
    /// Apart by chance, so that the same writers do not meet again and again.
    pauses: ExponentialBackoff,
}

impl Rounds {
    /// Before the first.
    pub(crate) fn new() -> Self {
        let (shortest, longest) = (Duration::from_millis(8), Duration::from_millis(200));
        let pauses = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest);
        Self { pauses: pauses.with_jitter().with_max_times(ROUNDS - 1).build() }
    }

    /// Waits a little for the next one, which begins with reading; false if there were enough.
    pub(crate) async fn again(&mut self) -> bool {
        let Some(pause) = self.pauses.next() else { return false };
        tracing::info!("what stands is not what was read; reading anew");
        tokio::time::sleep(pause).await;
        true
    }
}
