//! Watching a pool: a [`Cache`] that its events keep up to date.
//!
//! The cache equals a full read, whatever XAPI's events leave out. They are trusted only so far:
//! - A token counts in its own session. After a restart of XAPI, a change of the master or a restore of its database
//!   there is no session left, and everything is read anew.
//! - XAPI remembers some hundred deletions only and is silent about older ones. Each answer says how many objects
//!   of each class there are; where the cache has another number, everything is read anew.
//! - A token that goes back, an answer that does not come: the same.
//! - What is still missed ends with the next full read, made from time to time in any case.
//!
//! A full read is one call to `event.from` with the empty token, so it is a picture of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::{Cache, Changed};
use crate::client::{AnswerError, CallError, Client, Position};
use crate::error::Kind;
use crate::event::{EventClass, Events};

/// How a pool is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// Longest time to wait for a change before [`Watch::next`] returns without one.
    pub wait: Duration,
    /// Longest time beyond that for an answer which tells of changes only. XAPI gives it at once: where none comes, the
    /// connection is dead though nobody said so.
    pub grace: Duration,
    /// Time between two reads of everything, needed or not.
    pub full_read: Duration,
}

impl Default for WatchConfig {
    /// 10 s, 5 s, and ten minutes.
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(10),
            grace: Duration::from_secs(5),
            full_read: Duration::from_secs(600),
        }
    }
}

/// Why everything was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullRead {
    /// Nothing was known yet.
    First,
    /// XAPI forgot the session: it was restarted, or another host is master.
    NewSession,
    /// XAPI's database went back to an earlier state.
    WentBack,
    /// XAPI said that it cannot go on from where it was.
    EventsLost,
    /// XAPI said nothing for too long.
    Silence,
    /// XAPI has another number of objects of this class than was known.
    Miscounted(EventClass),
    /// It was time.
    Due,
}

/// A pool that is watched.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    config: WatchConfig,
    cache: Arc<Cache>,
    /// Where to go on; none: everything is to be read, for this reason.
    position: Result<Position, FullRead>,
    read_at: Option<Instant>,
    last_full_read: Option<FullRead>,
    /// What changed since `next` last returned: it may be dropped half way.
    changed: Changed,
}

impl Watch {
    /// Watches the pool `client` is connected to. Nothing is sent before [`next`](Self::next), and the cache is empty.
    #[must_use]
    pub fn start(client: Client) -> Self {
        Self::with_config(client, WatchConfig::default())
    }

    /// As [`start`](Self::start), with other times.
    #[must_use]
    pub fn with_config(client: Client, config: WatchConfig) -> Self {
        Self {
            client,
            config,
            cache: Arc::default(),
            position: Err(FullRead::First),
            read_at: None,
            last_full_read: None,
            changed: Changed::default(),
        }
    }

    /// The pool as far as it is known. Whoever keeps a clone keeps that state; the cache goes on without it.
    #[must_use]
    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Whether the cache has been filled.
    #[must_use]
    pub const fn is_filled(&self) -> bool {
        self.read_at.is_some()
    }

    /// Why everything was read when it was last.
    #[must_use]
    pub const fn last_full_read(&self) -> Option<FullRead> {
        self.last_full_read
    }

    /// Waits until something changes and brings the cache up to date; the first time, fills it. Returns without a
    /// change after [`WatchConfig::wait`]: nothing is wrong then.
    ///
    /// May be dropped at any time: nothing is lost, the next call goes on.
    ///
    /// # Errors
    /// [`CallError`]. The next call goes on, reading everything if it has to; whoever calls again should wait a little
    /// first. What the cache has taken in by then is told then.
    pub async fn next(&mut self) -> Result<Changed, CallError> {
        self.within(self.config.wait).await
    }

    /// As [`next`](Self::next), but waits for nothing: afterwards the cache is no older than this call.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn refresh(&mut self) -> Result<Changed, CallError> {
        self.within(Duration::ZERO).await
    }

    async fn within(&mut self, wait: Duration) -> Result<Changed, CallError> {
        loop {
            if self.position.is_ok() && self.read_at.is_none_or(|at| at.elapsed() >= self.config.full_read) {
                self.position = Err(FullRead::Due);
            }
            let batch = match &self.position {
                Err(_) => self.client.event_from(&EventClass::ALL, None, wait).await?,
                Ok(position) => {
                    let hasty = self.client.with_call_timeout(self.config.grace);
                    match hasty.event_from(&EventClass::ALL, Some(position), wait).await {
                        Err(CallError::Api(error)) if error.kind() == Kind::EventsLost => {
                            self.position = Err(FullRead::EventsLost);
                            continue;
                        }
                        // In a new session all of the pool comes instead, and that may take its time.
                        Err(error @ CallError::Timeout { .. }) => {
                            self.position = Err(FullRead::Silence);
                            return Err(error);
                        }
                        batch => batch?,
                    }
                }
            };
            // From here to the end of the turn nothing waits: a dropped call changes all of this or nothing.
            let Events { events, counts, .. } = batch.events;
            let cache = Arc::make_mut(&mut self.cache);
            if batch.complete {
                let reason = self.position.as_ref().err().copied().unwrap_or(FullRead::NewSession);
                tracing::info!(?reason, events = events.len(), "read the whole pool");
                let all = Cache::of(events);
                // Half a picture must not pass for a whole one: what is missing would be taken for gone.
                if let Some(class) = all.differs_from(&counts) {
                    self.position = Err(reason);
                    return Err(incomplete(class, all.count(class), &counts));
                }
                cache.replace(all, &mut self.changed);
                self.position = Ok(batch.position);
                self.read_at = Some(Instant::now());
                self.last_full_read = Some(reason);
                return Ok(self.told());
            }
            cache.update(events, &mut self.changed);
            let doubt = match cache.differs_from(&counts) {
                _ if batch.went_back => Some(FullRead::WentBack),
                difference => difference.map(FullRead::Miscounted),
            };
            self.position = doubt.map_or(Ok(batch.position), Err);
            if self.position.is_ok() {
                return Ok(self.told());
            }
        }
    }

    /// What is to be told, once.
    fn told(&mut self) -> Changed {
        let changed = std::mem::take(&mut self.changed);
        if !changed.hosts.is_empty() {
            let addresses = self.cache.hosts.values().map(|host| host.address.clone());
            self.client.set_known_hosts(addresses.filter(|address| !address.is_empty()));
        }
        changed
    }
}

fn incomplete(class: EventClass, told: usize, counts: &BTreeMap<EventClass, u64>) -> CallError {
    let counted = counts.get(&class).copied().unwrap_or_default();
    let source = AnswerError::Incomplete { class: class.as_str(), told, counted };
    CallError::Decode { method: "event.from".to_owned(), source }
}
