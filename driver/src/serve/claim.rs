//! Which driver writes to a pool: it says so in the pool's own record, where every other one sees it.
//!
//! `pool.other_config` holds, under [`KEY`], who writes and from which state of which store. A driver that starts takes the pool
//! over; the one before sees that by XAPI's events and stops writing. A store that is behind what the pool was last written
//! from was brought back from somewhere: it does not count until somebody says so.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use store::Store;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};
use xenapi::Pool;

use super::duty::{Duty, Standby};
use super::plan::Plan;
use super::watcher::Seen;
use crate::dom0::take_turn;
use crate::report::chain;

/// The key in `pool.other_config`.
pub(super) const KEY: &str = "drawbridge:writer";

/// So often the claim is brought up to date.
const RENEW: Duration = Duration::from_secs(10);

/// What the pool's record says: `<turn> <instance> <store> <generation>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Higher than that of the driver before: the highest has the pool.
    pub turn: u64,
    /// The driver, told from any other.
    pub instance: String,
    /// Id of its store.
    pub store: String,
    /// Generation of the store that it last wrote from.
    pub generation: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turn, instance, store, generation } = self;
        write!(f, "{turn} {instance} {store} {generation}")
    }
}

/// Text that is no claim.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not \"<turn> <instance> <store> <generation>\"")]
pub(super) struct InvalidClaim(String);

impl FromStr for Claim {
    type Err = InvalidClaim;

    fn from_str(text: &str) -> Result<Self, InvalidClaim> {
        let invalid = || InvalidClaim(text.to_owned());
        let words: Vec<&str> = text.split(' ').collect();
        let ([turn, instance, store, generation], false) = (&words[..], words.contains(&"")) else {
            return Err(invalid());
        };
        Ok(Self {
            turn: turn.parse().map_err(|_| invalid())?,
            instance: (*instance).to_owned(),
            store: (*store).to_owned(),
            generation: generation.parse().map_err(|_| invalid())?,
        })
    }
}

/// Whether a driver that is `own` may write to a pool with this record. `insisted` says that somebody decided that its store counts.
fn duty(found: Option<&Claim>, own: &Claim, is_adopted: bool, insisted: bool, claimed: bool) -> Duty {
    if !is_adopted {
        return Duty::Standby(Standby::NotAdopted);
    }
    let Some(found) = found else { return Duty::Active };
    if found.instance == own.instance {
        return Duty::Active;
    }
    // Two that come at the same moment may have the same turn.
    if (found.turn, &found.instance) > (own.turn, &own.instance) {
        return Duty::Standby(Standby::Superseded { by: found.instance.clone() });
    }
    let is_behind = found.store != own.store || found.generation > own.generation;
    if is_behind && !insisted && !claimed {
        return Duty::Standby(Standby::Stale {
            recorded: format!("store {} at generation {}", found.store, found.generation),
            own: format!("store {} at generation {}", own.store, own.generation),
        });
    }
    Duty::Active
}

/// Whether a pool's record names this driver.
pub(super) fn is_own(pool: &Pool, instance: &str) -> bool {
    read(pool).is_some_and(|found| found.instance == instance)
}

/// What the claim is decided from, and who is told.
pub(super) struct Claiming {
    pub client: xenapi::Client,
    pub store: Store,
    pub pool: watch::Receiver<Arc<Seen>>,
    /// Those that the hosts' workers have their shares of.
    pub plans: watch::Receiver<Option<Arc<Plan>>>,
    pub insisted: watch::Receiver<bool>,
    pub duties: watch::Sender<Duty>,
    pub stopping: watch::Receiver<bool>,
}

/// Decides what this driver's duty is, and keeps the pool's record true, until the driver stops.
pub(super) async fn claim(given: Claiming, mut own: Claim) {
    let Claiming { client, store, mut pool, mut plans, mut insisted, duties, mut stopping } = given;
    tokio::select! {
        seen = pool.wait_for(|seen| seen.number > 0) => if seen.is_err() { return },
        // An error means that the daemon is gone.
        _ = stopping.wait_for(|stop| *stop) => return,
    }
    let mut generations = store.subscribe();
    let mut renew = interval_at(Instant::now() + RENEW, RENEW);
    let (mut claimed, mut is_due) = (false, true);
    // The store's generation when it was first known to count.
    let mut counts = None;
    // What the record said when it last said something.
    let mut known = None;
    loop {
        own.generation = *generations.borrow_and_update();
        let seen = Arc::clone(&pool.borrow_and_update());
        let Some((reference, record)) = seen.pools.iter().next() else { return };
        let stands = read(record);
        // A record can only be replaced by taking the old one away first: one that is missing now says nothing.
        let found = stands.clone().or(known);
        if let Some(found) = found.as_ref().filter(|found| !claimed && found.instance != own.instance) {
            // Whoever comes takes over. Not by the clock: it may have gone back.
            own.turn = found.turn.saturating_add(1);
        }
        let state = store.state();
        let mut new = duty(found.as_ref(), &own, state.adopted(), *insisted.borrow_and_update(), claimed);
        if new.is_active() {
            counts.get_or_insert_with(|| state.generation());
        }
        if new.is_active() && is_due {
            // XAPI may have done what it was told, and its answer may be lost.
            let written = match stands.as_ref() == Some(&own) {
                true => Ok(()),
                false => client.set_pool_other_config(reference, KEY, &own.to_string()).await,
            };
            match written {
                Ok(()) => {
                    claimed = true;
                    take_turn(own.turn);
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "the pool's record does not say yet that this driver writes"
                ),
            }
        }
        let planned = plans.borrow_and_update().as_ref().map(|plan| plan.generation);
        if new.is_active() && (!claimed || planned < counts) {
            // Before it is known to the others nothing is written; nor is the last plan of a store that did not count, which may
            // be an empty one's.
            new = Duty::Standby(Standby::Starting);
        }
        let is_active = new.is_active();
        let is_over = *stopping.borrow();
        tell(&duties, new);
        if is_over {
            return;
        }
        is_due = !claimed;
        known = found;
        tokio::select! {
            // The last word: whoever comes next with an older store is to know.
            _ = stopping.wait_for(|stop| *stop) => is_due = true,
            changed = pool.changed() => if changed.is_err() { return },
            changed = plans.changed(), if !is_active => if changed.is_err() { return },
            changed = insisted.changed() => if changed.is_err() { return },
            changed = generations.changed(), if !claimed => if changed.is_err() { return },
            _ = renew.tick() => is_due = true,
        }
    }
}

fn read(pool: &Pool) -> Option<Claim> {
    match pool.other_config.get(KEY)?.parse() {
        Ok(claim) => Some(claim),
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, key = KEY, "the pool's record was changed by hand; taking it over");
            None
        }
    }
}

fn tell(duties: &watch::Sender<Duty>, new: Duty) {
    duties.send_if_modified(|duty| {
        let changed = *duty != new;
        if changed {
            match &new {
                Duty::Active => tracing::info!("this driver writes to the pool"),
                Duty::Standby(why) => tracing::warn!(%why, "this driver does not write"),
            }
            *duty = new;
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(turn: u64, instance: &str, store: &str, generation: u64) -> Claim {
        Claim { turn, instance: instance.to_owned(), store: store.to_owned(), generation }
    }

    fn is_active(found: Option<&Claim>, insisted: bool, claimed: bool) -> bool {
        duty(found, &claim(100, "me", "s", 7), true, insisted, claimed).is_active()
    }

    #[test]
    fn printed_claims_read_back() {
        let own = claim(u64::MAX, "me", "s", 7);
        assert_eq!(own.to_string().parse::<Claim>().ok(), Some(own));
        for text in ["", "1 me s", "x me s 7", "1 me s 7 8", "1 me s -7", "1  s 7"] {
            assert!(text.parse::<Claim>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pool_that_nobody_claimed_is_taken() {
        assert!(is_active(None, false, false));
        let not_adopted = duty(None, &claim(100, "me", "s", 7), false, true, false);
        assert_eq!(not_adopted, Duty::Standby(Standby::NotAdopted));
    }

    #[test]
    fn the_driver_that_came_later_has_the_pool() {
        assert!(is_active(Some(&claim(99, "other", "s", 7)), false, false));
        assert!(is_active(Some(&claim(99, "other", "s", 7)), false, true), "it wrote once more");
        for insisted in [false, true] {
            assert!(!is_active(Some(&claim(101, "other", "s", 7)), insisted, true));
        }
        let at_once = is_active(Some(&claim(100, "other", "s", 7)), false, true);
        let the_other =
            duty(Some(&claim(100, "me", "s", 7)), &claim(100, "other", "s", 7), true, false, true);
        assert_ne!(at_once, the_other.is_active(), "one of the two");
    }

    #[test]
    fn a_store_that_is_behind_waits_for_a_word() {
        for found in [claim(99, "other", "s", 8), claim(99, "other", "another", 1)] {
            assert!(!is_active(Some(&found), false, false));
            assert!(is_active(Some(&found), true, false));
        }
    }
}
