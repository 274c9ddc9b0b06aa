//! What systemd wants to hear (`Type=notify`, `WatchdogSec=`). Without systemd all of this does nothing.

use sd_notify::NotifyState;

/// Callers are answered from now on.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon is on its way out.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Says again and again that the daemon runs: a task among the others, it falls silent when they do.
pub(super) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(limit / 3);
    loop {
        tick.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
