//! `drawbridge watch`: the status, told anew whenever it changes.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use api::ApiClient;
use api::wire::WatchAnswer;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::said::write;
use super::status::{Overview, look};
use crate::report::chain;

/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Time until a daemon that is gone is sought again.
const AGAIN: Duration = Duration::from_secs(3);
/// A look that took long is followed by a pause of so many times its length: the watcher shall be no burden.
const RESPITE: u32 = 4;

/// Tells until it is killed, nobody reads any more, or it was told `count` times. A daemon that goes away is waited for; one that
/// was never there is not.
pub(super) async fn watch(client: &ApiClient, count: Option<u64>, json: bool) -> Result<ExitCode, Failure> {
    let screen = Screen { json, terminal: std::io::stdout().is_terminal() };
    let mut answer = client.watch(None).await?;
    let mut told: Option<Overview> = None;
    let mut times = 0;
    while count.is_none_or(|count| times < count) {
        match next(client, &answer, told.is_some()).await {
            Ok((newer, overview, effort)) => {
                answer = newer;
                let timeless = overview.without_times();
                // On a screen the times go on.
                if screen.is_redrawn() || told.as_ref() != Some(&timeless) {
                    if !screen.tell(&overview) {
                        break;
                    }
                    times += 1;
                    told = Some(timeless);
                }
                sleep(PAUSE.max(effort * RESPITE)).await;
            }
            Err(failure) => {
                if !screen.lost(&failure) {
                    break;
                }
                // Whatever is there when it comes back is news.
                told = None;
                sleep(AGAIN).await;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for a change, unless nothing was told yet, and looks; tells how long the look took.
async fn next(
    client: &ApiClient,
    last: &WatchAnswer,
    wait: bool,
) -> Result<(WatchAnswer, Overview, Duration), Failure> {
    let answer = client.watch(wait.then_some(last)).await?;
    let started = Instant::now();
    let overview = look(client).await?;
    Ok((answer, overview, started.elapsed()))
}

struct Screen {
    json: bool,
    terminal: bool,
}

impl Screen {
    fn is_redrawn(&self) -> bool {
        self.terminal && !self.json
    }

    /// False if nobody reads any more.
    fn tell(&self, overview: &Overview) -> bool {
        let now = Timestamp::now();
        if self.json {
            return serde_json::to_string(overview).is_ok_and(|line| write(&(line + "\n")));
        }
        self.page(&overview.to_text(now))
    }

    fn lost(&self, failure: &Failure) -> bool {
        if self.json {
            return write(&format!("{}\n", failure.to_json()));
        }
        self.page(&format!("PROBLEM: {}; it is tried again\n", chain(failure)))
    }

    /// On a terminal in the place of the last one, elsewhere behind it.
    fn page(&self, text: &str) -> bool {
        let time = jiff::Zoned::now().strftime("%F %T %Z").to_string();
        if self.terminal {
            // Home, clear to the end.
            write(&format!("\u{1b}[H\u{1b}[2J{time}\n\n{text}"))
        } else {
            write(&format!("--- {time}\n{text}\n"))
        }
    }
}
