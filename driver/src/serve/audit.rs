//! The audit does not grow for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::Store;

use crate::report::chain;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Forgets, every hour, what was edited longer ago than so many days.
pub(super) async fn forget(store: Store, days: u32) {
    let mut hour = tokio::time::interval(HOUR);
    loop {
        hour.tick().await;
        let before = SystemTime::now().checked_sub(DAY.saturating_mul(days)).unwrap_or(UNIX_EPOCH);
        let before = before.duration_since(UNIX_EPOCH).unwrap_or_default();
        match store.forget_audit(i64::try_from(before.as_millis()).unwrap_or(i64::MAX)).await {
            Ok(0) => {}
            Ok(lines) => tracing::info!(lines, days, "forgot what was edited longer ago"),
            Err(error) => tracing::warn!(error = chain(&error), "old lines of the audit stay"),
        }
    }
}
