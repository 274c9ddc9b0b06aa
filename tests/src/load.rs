//! Calls of the daemon's API at a steady rate, whether the earlier ones were answered or not: what has to wait for its turn is
//! counted as delayed.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use api::wire::{Direction, Ethertype, Ports, Protocol, Rule, RuleInput};
use api::{ApiClient, ClientError};
use tokio::task::JoinSet;

use crate::crowd::{self, Opening};

/// How many calls, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// A second.
    pub rate: u32,
    /// In all.
    pub calls: u32,
    /// How many there were before, of other loads: what those opened is not opened again.
    pub before: u32,
    /// So many at a time at most; further ones wait.
    pub connections: u32,
}

/// What came of edits.
#[derive(Debug, Default)]
pub struct Edited {
    /// From when an edit was due until its answer; in no order.
    pub delays: Vec<Duration>,
    /// Edits that were refused, by the problem's code.
    pub refused: BTreeMap<&'static str, u32>,
    /// What was opened and is still open, oldest first, as the answers say.
    pub open: Vec<Opening>,
}

impl Load {
    /// Opens ports of so many guests in turn, and closes the oldest again where more than `kept` are open. The answer to an edit
    /// is waited for before the same port is closed.
    ///
    /// # Errors
    /// The daemon did not answer, or not in its own words.
    pub fn edit(self, socket: &Path, guests: u16, kept: usize) -> Result<Edited> {
        let editors =
            Arc::new(Editors { api: ApiClient::unix(socket)?, guests, kept, known: Mutex::default() });
        let calling = Arc::clone(&editors);
        let delays = self.run(move |n| {
            let editors = Arc::clone(&calling);
            async move { editors.edit(n).await }
        })?;
        let Known { open, refused } = std::mem::take(&mut *editors.known());
        Ok(Edited { delays, refused, open: open.into() })
    }

    /// Reads the same rule again and again; how long each answer took.
    ///
    /// # Errors
    /// The daemon did not answer with the rule.
    pub fn read(self, socket: &Path, rule: &str) -> Result<Vec<Duration>> {
        let (api, path) = (ApiClient::unix(socket)?, format!("/v1/rules/{rule}"));
        self.run(move |_| {
            let (api, path) = (api.clone(), path.clone());
            async move { Ok(api.get::<Rule>(&path).await.map(drop)?) }
        })
    }

    /// On a thread of its own; times are good to a millisecond, which is what the timer has.
    fn run<C, F>(self, call: C) -> Result<Vec<Duration>>
    where
        C: Fn(u32) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (started, next) = (Instant::now(), Arc::new(AtomicU32::new(0)));
            let mut connections = JoinSet::new();
            for _ in 0..self.connections {
                let (call, next) = (call.clone(), Arc::clone(&next));
                connections.spawn(async move {
                    let mut delays = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= self.calls {
                            return anyhow::Ok(delays);
                        }
                        let due = started + Duration::from_secs(1) * n / self.rate;
                        tokio::time::sleep_until(due.into()).await;
                        call(self.before + n).await?;
                        delays.push(due.elapsed());
                    }
                });
            }
            let mut delays = Vec::new();
            while let Some(ended) = connections.join_next().await {
                delays.extend(ended??);
            }
            Ok(delays)
        })
    }
}

/// What all connections share.
struct Editors {
    api: ApiClient,
    guests: u16,
    kept: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    open: VecDeque<Opening>,
    refused: BTreeMap<&'static str, u32>,
}

impl Editors {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn edit(&self, n: u32) -> Result<()> {
        let oldest = {
            let mut known = self.known();
            if known.open.len() > self.kept { known.open.pop_front() } else { None }
        };
        let (opening, done) = match oldest {
            Some(opening) => (opening, self.api.delete(&format!("/v1/rules/{}", opening.id()), None).await),
            None => {
                let opening = self.opening(n)?;
                let rule = rule(opening);
                (opening, self.api.create_rule(&crowd::group(opening.guest), &rule).await.map(drop))
            }
        };
        let mut known = self.known();
        match (done, oldest.is_some()) {
            (Ok(()), true) => {}
            (Ok(()), false) => known.open.push_back(opening),
            (Err(ClientError::Problem(problem)), was_open) => {
                *known.refused.entry(problem.code.word()).or_default() += 1;
                if was_open {
                    known.open.push_front(opening);
                }
            }
            (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }

    /// One that was never open before.
    fn opening(&self, n: u32) -> Result<Opening> {
        let guests = u32::from(self.guests);
        Ok(Opening { guest: u16::try_from(n % guests)?, port: u16::try_from(10_000 + n / guests)? })
    }
}

/// The rule as the API takes it.
#[must_use]
pub fn rule(opening: Opening) -> RuleInput {
    RuleInput {
        id: Some(opening.id()),
        direction: Direction::Ingress,
        ethertype: Some(Ethertype::Ipv4),
        protocol: Some(Protocol::Name("udp".to_owned())),
        ports: Some(Ports::One(opening.port.into())),
        icmp_type: None,
        icmp_code: None,
        remote_cidr: None,
        remote_group: None,
        remote_set: None,
        description: String::new(),
    }
}
