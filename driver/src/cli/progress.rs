//! Progress for people: on a terminal, for what takes longer than a second.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that shows itself after a second, and never where nobody looks.
pub(super) struct Progress {
    bar: ProgressBar,
    show: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    pub(super) fn start(action: &str) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_message(action.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} of {len} hosts, {elapsed}") {
            bar.set_style(style);
        }
        let show = std::io::stderr().is_terminal().then(|| {
            let bar = bar.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(Duration::from_millis(100));
            })
        });
        Self { bar, show }
    }

    pub(super) fn tell(&self, done: usize, total: usize) {
        self.bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
        self.bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(show) = &self.show {
            show.abort();
        }
        self.bar.finish_and_clear();
    }
}
